"""Train, evaluate and compare a grid of configurations and seeds; options `--field value` override the recipe."""

import argparse
from typing import Any


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("recipe", help="YAML recipe shared by all runs, such as hub_configs/tevia-qata/recipe.yaml")
    parser.add_argument("--grid", required=True, help="YAML file of runs, seeds and evaluation")
    parser.add_argument("--output-dir", "--output_dir", help="folder to write to (default: the recipe's)")
    parser.add_argument("--table-only", action="store_true", help="do not train; write the table of finished runs")
    parser.usage = "%(prog)s [-h] recipe --grid GRID [--output-dir DIR] [--table-only] [--FIELD VALUE ...]"
    parser.epilog = "docs/recipe.md lists the fields of recipes."
    parser.set_defaults(overrides=[])


def run(**options: Any) -> int:
    from tevia_hf.experiments.ablation import run_ablation
    from tevia_hf.experiments.table import ablation_text

    ablation = run_ablation(**options)
    if ablation.table is not None:
        print(f"\n{ablation_text(ablation.table)}\n\nThe table and its figure are in {ablation.output_dir}.")
    for name, log in ablation.failures.items():
        print(f"Failed: {name}; see {log}")
    if ablation.unfinished:
        print(f"Not finished: {'; '.join(ablation.unfinished)}. Run the command again; --table-only shows the others.")
    return 1 if ablation.failures else 0
