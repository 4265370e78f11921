"""Evaluates a model on a data set, and by a metric, that the package does not know; needs the extra `train`.

    python examples/register.py hub_configs/tevia-tiny outputs/registered

Both registrations hold for this process: recipes, reports, cards and comparisons made in it include them.
"""

import argparse

import datasets
import numpy as np

from tevia_hf import evaluate_dataset, load_segmentation_dataset, register_dataset, register_metric


def dark_images(split: str, count: int = 16) -> datasets.Dataset:
    """Underexposed synthetic images; any `datasets.Dataset` with these columns will do."""
    rows = load_segmentation_dataset("synthetic", split=split, count=count)
    images = [np.asarray(image) // 2 for image in rows["image"]]
    columns = ("mask", "text", "id", "group", "spacing_mm")
    return datasets.Dataset.from_dict(
        {"image": images, **{name: rows[name] for name in columns}},
        features=datasets.Features(
            {**rows.features, "image": datasets.Image(), "mask": datasets.Image()}  # arrays and PIL images
        ),
    )


def relative_area_error(pair) -> float:
    """Difference of the areas of predicted and reference mask, as a share of the reference; mean over labels."""
    areas = [(float(predicted.sum()), float(true.sum())) for predicted, true in pair.masks.values()]
    errors = [abs(predicted - true) / max(true, 1.0) for predicted, true in areas]
    return float(np.mean(errors)) if errors else 0.0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("output_dir")
    args = parser.parse_args()

    register_dataset("dark", make=dark_images)
    register_metric("area_error", relative_area_error, label="Relative area error", higher_is_better=False)
    report = evaluate_dataset(args.model, "dark", output_dir=args.output_dir)
    print(report.table())


if __name__ == "__main__":
    main()
