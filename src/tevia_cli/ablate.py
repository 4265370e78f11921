"""Train and evaluate a grid of configurations and seeds, and compare them; `--name value` goes over the recipe."""

import argparse
from typing import Any


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("recipe", help="YAML file that all runs share, such as hub_configs/tevia-qata/recipe.yaml")
    parser.add_argument("--grid", required=True, help="YAML file of runs, seeds and evaluation")
    parser.add_argument("--output-dir", "--output_dir", help="folder to write to (default: the recipe's)")
    parser.add_argument("--table-only", action="store_true", help="train nothing; the table of what is finished")
    parser.set_defaults(overrides=[])


def run(**options: Any) -> int:
    from tevia_hf.experiments.ablation import run_ablation
    from tevia_hf.experiments.table import ablation_text

    found = run_ablation(**options)
    if found.table is not None:
        print(f"\n{ablation_text(found.table)}\n\nThe table and its figure are in {found.output_dir}.")
    for name, log in found.failures.items():
        print(f"Failed: {name}; see {log}")
    if found.unfinished:
        print(f"Not finished: {'; '.join(found.unfinished)}. The same command goes on; --table-only shows the others.")
    return 1 if found.failures else 0
