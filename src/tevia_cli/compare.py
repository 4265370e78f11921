"""Compare two runs on the same images: difference, 95 % interval and p-value of each score."""

import argparse

from .options import add_number


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("a", help="per-image table of a run (evaluation.csv)")
    parser.add_argument("b", help="that of the other run; may be the same file with --other-text-mode")
    parser.add_argument("--text-mode", default="correct", help="text condition in A (default: %(default)s)")
    parser.add_argument("--other-text-mode", help="text condition in B (default: that of A)")
    add_number(parser, "seed", "check_seed", default=0)
    parser.add_argument("--output", help="also write the table to this CSV")


def run(a: str, b: str, text_mode: str, other_text_mode: str | None, seed: int, output: str | None) -> int:
    from tevia_hf.evaluation.comparison import compare_runs, comparison_text

    table = compare_runs(a, b, text_mode, other_text_mode or text_mode, seed)
    print(comparison_text(table))
    if output:
        table.to_csv(output, index=False)
    return 0
