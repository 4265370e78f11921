"""Trains by recipe on your own `datasets.Dataset`; needs the extra `train`.

    python examples/own_dataset.py scans recipe.yaml --output-dir outputs/scans

Each patient has a folder with any number of NAME.png, NAME_mask.png (0 and 255) and NAME.txt (the report). The patients
listed in scans/validation.txt, one per line, are for validation. The recipe (docs/own_data.md shows one) must not
contain `dataset` or `data_dir`. Further options override it.
"""

import argparse
from pathlib import Path

import datasets

from tevia_hf import train_from_recipe


def load(patients: list[Path]) -> datasets.Dataset:
    """Columns `image`, `mask` and `text`; `group` is the patient, `id` must be unique."""
    images = [path for patient in patients for path in sorted(patient.glob("*.png")) if not path.stem.endswith("_mask")]
    return datasets.Dataset.from_dict(
        {
            "image": [str(path) for path in images],
            "mask": [str(path.with_name(f"{path.stem}_mask.png")) for path in images],
            "text": [path.with_suffix(".txt").read_text(encoding="utf-8").strip() for path in images],
            "id": [f"{path.parent.name}/{path.stem}" for path in images],
            "group": [path.parent.name for path in images],
        }
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("scans", type=Path)
    parser.add_argument("recipe")
    args, overrides = parser.parse_known_args()

    validation = set((args.scans / "validation.txt").read_text(encoding="utf-8").split())
    patients = sorted(path for path in args.scans.iterdir() if path.is_dir())
    trainer = train_from_recipe(
        args.recipe,
        overrides,
        train_dataset=load([path for path in patients if path.name not in validation]),
        eval_dataset=load([path for path in patients if path.name in validation]),
    )
    scores = trainer.evaluate()
    print(f"validation Dice: {scores['eval_dice']:.3f} per image, {scores['eval_dice_pooled']:.3f} pooled")


if __name__ == "__main__":
    main()
