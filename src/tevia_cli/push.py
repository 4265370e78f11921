"""Upload a model to the Hub with card, code, recipe and measured scores; run `hf auth login` first."""

import argparse
from typing import Any

from .bundle import add_card_options


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_card_options(parser)
    parser.add_argument("repo_id", metavar="org/name", help="the repository, created if it is missing")
    parser.add_argument(
        "--private",
        action="store_true",
        default=None,
        help="create a private repository; stops if org/name exists and is public",
    )
    parser.add_argument("--message", default="Upload a TeViA model", help="commit message (default: %(default)s)")


def run(message: str, **options: Any) -> int:
    from tevia_hf.hub.bundle import push_model

    print(push_model(commit_message=message, **options))
    return 0
