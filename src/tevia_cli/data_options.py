"""Options that every subcommand which reads a data set shares."""

import argparse
from typing import Any

from .options import checked, group_split, number, window


def add_data_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--sentences", help="table to read in place of the set's own sentences")
    parser.add_argument(
        "--group-split",
        type=checked(group_split),
        help="divide anew by patient: shares of train, val, test, as 0.7,0.1,0.2",
    )
    parser.add_argument(
        "--split-seed", type=number("split_seed", "check_seed"), default=0, help="draws the groups of each split"
    )
    parser.add_argument(
        "--window",
        type=checked(window),
        help="centre,width that DICOM and NIfTI are seen through (write --window=-600,1500)",
    )


def true_or_false(text: str) -> bool:
    """Raises `ArgumentTypeError` for other text than "true" and "false"."""
    if text.lower() not in ("true", "false"):
        raise argparse.ArgumentTypeError(f"'{text}' is given: write true or false")
    return text.lower() == "true"


def add_white_option(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--white-is-lesion",
        type=true_or_false,
        metavar="{true,false}",
        help="255 in masks marks the lesion, or is ignored (default: all masks tell)",
    )


def data_options(args: argparse.Namespace) -> dict[str, Any]:
    """What `load_segmentation_dataset` and `list_examples` take beside name, folder and split."""
    from tevia_hf.training.arguments import DataArguments

    names = ("dataset", "sentences", "group_split", "split_seed", "window")
    return DataArguments(**{name: getattr(args, name) for name in names}).source_options()
