"""Evaluate a model with correct, shuffled, no and other text; writes a table, a figure and per-image scores."""

import argparse
from typing import Any

from .options import DATA_OPTIONS, add_data_options, add_dtype, add_number, add_tiling

OPTIONS = (
    f"--help --dataset --data-dir --split {DATA_OPTIONS} --max-samples --held-out --text-modes --threshold "
    "--batch-size --tile --overlap --seed --white-is-lesion --on-error --cache --no-cache --device --dtype "
    "--output-dir --resume --overwrite"
).split()
HELD_OUT = "leave out images and patients that the model was trained or validated on"
TEXT_MODES = (
    "comma-separated text conditions, of {} ({} are always included; default: none, and paraphrased for texts in a "
    "report language, that is, of a known wording)"
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    from tevia_hf.data.registry import SOURCES
    from tevia_hf.evaluation.text_conditions import TEXT_CONDITIONS

    always = [name for name, condition in TEXT_CONDITIONS.items() if condition.always]
    parser.add_argument("model", help="name or folder of a TeViA model")
    parser.add_argument("--dataset", default="synthetic", help=f"one of {', '.join(SOURCES)} (default: %(default)s)")
    parser.add_argument("--data-dir", help="folder of the data set")
    parser.add_argument("--split", default="test", help="train, val or test (default: %(default)s)")
    add_data_options(parser)
    add_number(parser, "max_samples", "check_count", "maximum number of images, sampled by the seed")
    parser.add_argument("--held-out", action="store_true", help=HELD_OUT)
    parser.add_argument("--text-modes", help=TEXT_MODES.format(", ".join(TEXT_CONDITIONS), ", ".join(always)))
    add_number(parser, "threshold", "check_share", "on the probability, from 0 to 1", default=0.5)
    add_number(parser, "batch_size", "check_count", "images per batch", default=16)
    add_tiling(parser)
    add_number(parser, "seed", "check_seed", "seed of shuffled texts and intervals", default=0)
    add_data_options(parser, "white_is_lesion", "on_error", "cache")
    parser.add_argument("--device", help="device to compute on, e.g. cuda:1 (default: the GPU, if there is one)")
    add_dtype(parser)
    parser.add_argument("--output-dir", required=True, help="folder to write to")
    parser.add_argument("--resume", action="store_true", help="continue an interrupted evaluation in the folder")
    parser.add_argument("--overwrite", action="store_true", help="delete an earlier output in the folder")


def run(text_modes: str | None, output_dir: str, **options: Any) -> int:
    from tevia_hf.evaluation.evaluate import evaluate_dataset

    report = evaluate_dataset(
        output_dir=output_dir, text_modes=text_modes.split(",") if text_modes else None, **options
    )
    print(f"\n{report.table()}\n\n{report.settings['images']} images; the results are in {output_dir}.")
    return 0
