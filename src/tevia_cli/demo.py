"""Train on synthetic images in a few minutes, and see that the model follows its text."""

import argparse

from .options import add_number


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--output-dir", default="outputs/demo", help="folder to write to (default: %(default)s)")
    add_number(parser, "epochs", "check_positive", "number of training epochs")
    add_number(parser, "seed", "check_seed", default=0)
    parser.add_argument("--overwrite", action="store_true", help="delete an earlier output in the folder")


def run(output_dir: str, epochs: float | None, seed: int, overwrite: bool) -> int:
    from tevia_hf.demo.run import NUM_TRAIN_EPOCHS, run_demo

    result = run_demo(output_dir, epochs or NUM_TRAIN_EPOCHS, seed, overwrite)
    print(f"\n{result.table()}\n\nBoth models trained in {result.train_seconds:.0f} s.")
    print(f"The model is in {result.model_dir}; overlays are in {result.sheet_path}.")
    return 0
