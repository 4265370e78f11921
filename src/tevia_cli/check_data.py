"""Examine a data set before training; exit code 1 where training or its scores would be wrong."""

import argparse

from .data_options import add_data_options, data_options
from .options import number


def add_arguments(parser: argparse.ArgumentParser) -> None:
    from tevia_hf.data.registry import names_on_disk

    parser.add_argument("dataset", help=f"one of {', '.join(names_on_disk())}")
    parser.add_argument("data_dir", help="folder of the data set")
    add_data_options(parser)
    parser.add_argument(
        "--num-labels",
        type=number("num_labels", "check_count", example="2", most=255),
        default=1,
        help="labels of the masks (default: %(default)s)",
    )
    parser.add_argument("--tokenizer", help="name or folder of a text encoder, to count tokens (default: count words)")
    parser.add_argument(
        "--max-text-length",
        type=number("max_text_length", "check_count", example="64"),
        default=64,
        help="tokens the model takes (default: %(default)s)",
    )
    add_data_options(parser, "white_is_lesion", "cache")
    parser.add_argument("--output-dir", help="folder for check.json and overlays.jpg (default: print only)")
    parser.add_argument("--overwrite", action="store_true", help="delete what the folder holds")


def run(args: argparse.Namespace) -> int:
    from tevia_hf.inference.check_data import check_data

    names = ("num_labels", "tokenizer", "max_text_length", "white_is_lesion", "cache", "output_dir", "overwrite")
    settings = {name: getattr(args, name) for name in names}
    report = check_data(args.dataset, args.data_dir, **settings, **data_options(args))
    print(f"\n{report.text()}")
    if args.output_dir:
        print(f"\nLook at {args.output_dir}/overlays.jpg.")
    return 0 if report.is_sound else 1
