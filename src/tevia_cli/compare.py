"""Compare two runs on the same images: difference, 95 % interval and p-value of each score."""

import argparse

from .options import number


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("a", help="per-image table of a run (evaluation.csv)")
    parser.add_argument("b", help="that of the other run; may be the same file with another --other-text")
    parser.add_argument("--text", default="correct", help="text condition in A (default: %(default)s)")
    parser.add_argument("--other-text", help="text condition in B (default: that of A)")
    parser.add_argument("--seed", type=number("seed", "check_seed"), default=0)
    parser.add_argument("--output", help="CSV to write, too")


def run(args: argparse.Namespace) -> int:
    from tevia_hf.evaluation.comparison import compare_runs, comparison_text

    table = compare_runs(args.a, args.b, args.text, args.other_text or args.text, args.seed)
    print(comparison_text(table))
    if args.output:
        table.to_csv(args.output, index=False)
    return 0
