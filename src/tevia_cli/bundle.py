"""Write the folder of a model as the Hub shows it, with its card, code, recipe and measured figures."""

import argparse
from typing import Any


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_card_options(parser)
    parser.add_argument("--name", metavar="org/name", help="its name on the Hub, for the card (default: the folder's)")
    parser.add_argument("--output-dir", required=True, help="folder to write to")
    parser.add_argument("--overwrite", action="store_true", help="delete what the folder holds")


def add_card_options(parser: argparse.ArgumentParser) -> None:
    figures = "output folder of `tevia evaluate`, whose figures the card shows (default: the model's own)"
    parser.add_argument("model_dir", metavar="model", help="folder of a trained TeViA model")
    parser.add_argument("--card", help="YAML with licences, limits and use (default: card.yaml in the model's folder)")
    parser.add_argument("--evaluation", help=figures)


def run(output_dir: str, **options: Any) -> int:
    from tevia_hf.hub.bundle import write_bundle

    write_bundle(output_dir=output_dir, **options)
    print(f"The bundle is in {output_dir}: read its README.md before you upload it.")
    return 0
