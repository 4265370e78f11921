"""Measure a model with correct, shuffled, no and other text; writes a table, a figure and each image's scores."""

import argparse

from .data_options import add_data_options, data_options
from .options import number


def add_arguments(parser: argparse.ArgumentParser) -> None:
    from tevia_hf.data.registry import SOURCES
    from tevia_hf.evaluation.text_conditions import TEXT_CONDITIONS

    parser.add_argument("model", help="name or folder of a TeViA model")
    parser.add_argument("--dataset", default="synthetic", help=f"one of {', '.join(SOURCES)} (default: %(default)s)")
    parser.add_argument("--data-dir", help="folder of the data set")
    parser.add_argument("--split", default="test", help="train, val or test (default: %(default)s)")
    add_data_options(parser)
    parser.add_argument(
        "--max-samples", type=number("max_samples", "check_count"), help="so many images, drawn by the seed"
    )
    parser.add_argument(
        "--held-out",
        action="store_true",
        help="leave out images and patients that the model was trained or validated on",
    )
    always = [name for name, condition in TEXT_CONDITIONS.items() if condition.always]
    parser.add_argument(
        "--text",
        help=f"text conditions, of {', '.join(TEXT_CONDITIONS)} ({', '.join(always)} always; default: none, and "
        "paraphrased where the texts are of a known language)",
    )
    parser.add_argument(
        "--threshold",
        type=number("threshold", "check_share"),
        default=0.5,
        help="on the probability, from 0 to 1 (default: %(default)s)",
    )
    parser.add_argument(
        "--batch-size",
        type=number("batch_size", "check_count"),
        default=16,
        help="images at once (default: %(default)s)",
    )
    parser.add_argument(
        "--seed",
        type=number("seed", "check_seed"),
        default=0,
        help="draws shuffles and intervals (default: %(default)s)",
    )
    add_data_options(parser, "white_is_lesion", "on_error", "cache")
    parser.add_argument("--output-dir", required=True, help="folder to write to")
    parser.add_argument("--overwrite", action="store_true", help="delete what the folder holds")


def run(args: argparse.Namespace) -> int:
    from tevia_hf.evaluation.evaluate import evaluate_dataset

    names = ["threshold", "batch_size", "seed", "max_samples", "held_out", "overwrite"]
    names += ["white_is_lesion", "on_error", "cache"]
    report = evaluate_dataset(
        args.model,
        args.dataset,
        args.data_dir,
        args.split,
        args.output_dir,
        text_modes=args.text and args.text.split(","),
        **{name: getattr(args, name) for name in names},
        **data_options(args),
    )
    print(f"\n{report.table()}\n\n{report.settings['images']} images; the figures are in {args.output_dir}.")
    return 0
