"""Compare several runs in one table for a paper: scores, 95 % intervals and corrected p-values."""

import argparse
from pathlib import Path
from typing import Any

from .options import add_number


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("runs", nargs="+", metavar="run", help="output folder of `tevia evaluate`")
    parser.add_argument("--against", metavar="RUN", help="one of the runs, to test the others against")
    parser.add_argument("--names", type=split, metavar="NAME,NAME", help="names of the runs (default: of the folders)")
    parser.add_argument(
        "--metrics", type=split, default="dice,iou,hd95", metavar="KEY,KEY", help="scores (default: %(default)s)"
    )
    parser.add_argument("--text-mode", default="correct", help="text condition (default: %(default)s)")
    parser.add_argument("--by-class", action="store_true", help="one row per class and run")
    parser.add_argument("--format", choices=("markdown", "csv", "latex"), default="markdown")
    add_number(parser, "seed", "check_seed", "seed of the permutations", default=0)
    parser.add_argument("--output", help="also write the table to this file")
    parser.add_argument("--figure", help="also write a figure of the primary score to this PDF, PNG or SVG")


def split(text: str) -> list[str]:
    return text.split(",")


def run(format: Any, output: str | None, figure: str | None, **options: Any) -> int:
    from tevia_hf.evaluation.paper_table import check_figure, results_table

    if figure:
        check_figure(figure)
    table = results_table(**options)
    text = table.text(format)
    print(text)
    if output:
        Path(output).write_text(text + "\n", encoding="utf-8")
    if figure:
        table.save_figure(figure)
    return 0
