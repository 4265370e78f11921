"""Train on made-up pictures in a few minutes, and see that the model reads its sentence."""

import argparse

from .options import number


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--output-dir", default="outputs/demo", help="folder to write to (default: %(default)s)")
    parser.add_argument(
        "--epochs", type=number("epochs", "check_positive"), default=None, help="train for so many epochs instead"
    )
    parser.add_argument("--seed", type=number("seed", "check_seed"), default=0)
    parser.add_argument("--overwrite", action="store_true", help="delete what the folder holds")


def run(args: argparse.Namespace) -> int:
    from tevia_hf.demo.run import NUM_TRAIN_EPOCHS, run_demo

    result = run_demo(args.output_dir, args.epochs or NUM_TRAIN_EPOCHS, args.seed, args.overwrite)
    print(f"\n{result.table()}\n\nBoth twins trained in {result.train_seconds:.0f} s.")
    print(f"The model is in {result.model_dir}; look at {result.sheet_path}.")
    return 0
