"""Writes a mask for each image in a folder, with the text that a table gives it; needs the extra `torch` only.

    python examples/batch_inference.py hub_configs/tevia-tiny images texts.csv masks

The table is a CSV file with the columns Image (a file name in the folder) and Description (empty for no text).
"""

import argparse
import csv
from pathlib import Path

import numpy as np
from transformers import pipeline

from tevia_hf import overlay, read_image

BATCH_SIZE = 8


def read_texts(table: Path) -> dict[str, str]:
    """Text by file name."""
    with open(table, newline="", encoding="utf-8-sig") as file:
        return {row["Image"]: row["Description"] for row in csv.DictReader(file)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", help="name or folder of a TeViA model with one label")
    for name in ("images", "texts", "masks"):
        parser.add_argument(name, type=Path)
    args = parser.parse_args()

    texts = read_texts(args.texts)
    paths = [args.images / name for name in texts]
    if len({path.stem for path in paths}) < len(paths):
        parser.error("two images of the table would share a mask's name: rename one")
    if missing := [path.name for path in paths if not path.is_file()]:
        parser.error(f"{args.images} lacks {len(missing)} images of the table, e.g. {missing[0]}")
    args.masks.mkdir(parents=True)  # an existing folder is left alone
    (args.masks / "overlays").mkdir()

    segment = pipeline("text-guided-image-segmentation", model=args.model)
    rows = zip(paths, texts.values(), strict=True)
    inputs = ({"image": str(path), "text": text} for path, text in rows)  # read batch by batch
    for path, results in zip(paths, segment(inputs, batch_size=BATCH_SIZE), strict=True):
        mask = results[0]["mask"]
        mask.save(args.masks / f"{path.stem}.png")
        overlay(read_image(path).array, np.asarray(mask) > 0).save(args.masks / "overlays" / f"{path.stem}.png")
        print(f"{path.name}: {np.asarray(mask).astype(bool).mean():.1%} of the image")


if __name__ == "__main__":
    main()
