"""Write a model's bundle for the Hub, with card, code, recipe and measured scores."""

import argparse
from typing import Any


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_card_options(parser)
    parser.add_argument(
        "--name", metavar="org/name", help="name on the Hub, for the card (default: that of the folder)"
    )
    parser.add_argument("--output-dir", required=True, help="folder to write to")
    parser.add_argument("--overwrite", action="store_true", help="delete an earlier output in the folder")


def add_card_options(parser: argparse.ArgumentParser) -> None:
    evaluation = "output folder of `tevia evaluate` with the scores for the card (default: the model folder)"
    parser.add_argument("model_dir", metavar="model", help="folder of a trained TeViA model")
    parser.add_argument("--card", help="YAML with licences, limits and use (default: card.yaml in the model's folder)")
    parser.add_argument("--evaluation", help=evaluation)


def run(output_dir: str, **options: Any) -> int:
    from tevia_hf.hub.bundle import write_bundle

    write_bundle(output_dir=output_dir, **options)
    print(f"The bundle is in {output_dir}: read its README.md before you upload it.")
    return 0
