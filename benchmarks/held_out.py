"""Scores a run on validation films that neither its epochs nor its settings were chosen on.

    python benchmarks/held_out.py outputs/qata --data-dir $QATA

These are the films outside the recipe's `max_eval_samples`, without those of subjects inside it. Writes
`outputs/qata/held_out/evaluation.json` and `.csv`.
"""

import argparse
from pathlib import Path

from datasets import Dataset

from tevia_hf import evaluate_model, load_segmentation_dataset
from tevia_hf.data.splits import sample
from tevia_hf.inference.loading import load_trained
from tevia_hf.training.arguments import parse_recipe


def held_out(dataset: Dataset, used: Dataset) -> Dataset:
    """The examples that share neither id nor group with those used."""
    ids, groups = set(used["id"]), set(used["group"])
    pairs = enumerate(zip(dataset["id"], dataset["group"], strict=True))
    return dataset.select([index for index, (name, group) in pairs if name not in ids and group not in groups])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path)
    parser.add_argument("--data-dir", type=Path, required=True)
    args = parser.parse_args()
    recipe = parse_recipe(args.run / "recipe.yaml")
    dataset = load_segmentation_dataset(recipe.data.dataset, args.data_dir, recipe.data.eval_split)
    used = sample(dataset, recipe.data.max_eval_samples, recipe.training.seed)
    model, processor = load_trained(str(args.run))
    report = evaluate_model(model, processor, held_out(dataset, used), batch_size=32)
    report.save(args.run / "held_out")
    print(report.settings, report.table(), sep="\n")


if __name__ == "__main__":
    main()
