"""Check a data set before training; exit code 1 if a fault would spoil the training or its scores."""

import argparse
from typing import Any

from .options import DATA_OPTIONS, add_class_names, add_data_options, add_number

OPTIONS = (
    f"--help {DATA_OPTIONS} --num-labels --class-names --tokenizer --max-text-length --white-is-lesion --cache "
    "--no-cache --output-dir --overwrite"
).split()
NUM_LABELS = "number of labels of the masks, with the background if there are several (default: 1, or by class names)"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    from tevia_hf.data.registry import names_on_disk

    parser.add_argument("dataset", help=f"one of {', '.join(names_on_disk())}")
    parser.add_argument("data_dir", help="folder of the data set")
    add_data_options(parser)
    add_number(parser, "num_labels", "check_count", NUM_LABELS, example="2", most=255)
    add_class_names(parser, "names of labels 1, 2, ..., for statistics and legend")
    parser.add_argument("--tokenizer", help="name or folder of a text encoder, to count tokens (default: count words)")
    add_number(
        parser,
        "max_text_length",
        "check_count",
        "maximum text length of the model, in tokens",
        default=64,
        example="64",
    )
    add_data_options(parser, "white_is_lesion", "cache")
    parser.add_argument("--output-dir", help="folder for check.json and overlays.jpg (default: print only)")
    parser.add_argument("--overwrite", action="store_true", help="delete an earlier output in the folder")


def run(output_dir: str | None, **options: Any) -> int:
    from tevia_hf.inference.check_data import check_data

    report = check_data(output_dir=output_dir, **options)
    print(f"\n{report.text()}")
    if output_dir:
        print(f"\nLook at {output_dir}/overlays.jpg.")
    return 0 if report.is_sound else 1
