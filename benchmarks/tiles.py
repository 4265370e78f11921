"""Time and peak memory of large images in tiles, and Dice of tiles against resized images.

    python benchmarks/tiles.py size MODEL [SIDE]                            # 10,000 px by default
    python benchmarks/tiles.py train benchmarks/tiles.yaml MONUSEG OUTPUT [TILE]   # TILE: on tiles of this side
    python benchmarks/tiles.py scores MONUSEG TILE MODEL ... > benchmarks/results/tiles.md

`size` predicts a tiled TIFF and a PNG by the command, each in a process of its own, whose peak resident memory is that
of all its threads. `scores` predicts the validation images of MoNuSeg resized, in tiles, and in tiles within the mask
of the resized image, dilated ("context").
"""

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import datasets
import numpy as np
import tifffile
from PIL import Image
from scipy import ndimage

from tevia_hf import Predictor, Tiling, load_segmentation_dataset, segmentation_metrics, train_from_recipe
from tevia_hf.inference.loading import load_trained
from tevia_hf.inference.predict import masks_of_each
from tevia_hf.intervals import paired_difference

MARGIN = 32  # pixels by which the mask of the resized image is dilated


def size(model: str, side: str = "10000") -> None:
    """Prints time and peak memory for an image of this side, a tissue-like texture."""
    Image.MAX_IMAGE_PIXELS = None
    small = np.random.default_rng(0).integers(0, 255, (int(side) // 20, int(side) // 20, 3), np.uint8)
    image = np.asarray(Image.fromarray(small).resize((int(side),) * 2, Image.Resampling.BICUBIC))
    with tempfile.TemporaryDirectory() as root:
        tifffile.imwrite(f"{root}/tiled.tif", image, photometric="rgb", tile=(256, 256), compression="zlib")
        Image.fromarray(image).save(f"{root}/whole.png", compress_level=1)
        for name in ("tiled.tif", "whole.png"):
            command = [sys.executable, "-m", "tevia_cli", "predict", model, f"{root}/{name}", "--tile", "512"]
            start, quiet = time.perf_counter(), {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
            process = subprocess.Popen([*command, "--output-dir", f"{root}/{name}.out"], **quiet)
            _, status, usage = os.wait4(process.pid, 0)
            seconds, code = time.perf_counter() - start, os.waitstatus_to_exitcode(status)
            tiles = len(Tiling(512).boxes(int(side), int(side)))
            print(
                f"{name}, {side} px, {tiles} tiles: {seconds:.1f} s, {usage.ru_maxrss / 1e3:.0f} MB, exit code {code}"
            )


def tiles_of(dataset: datasets.Dataset, tiling: Tiling) -> datasets.Dataset:
    """A data set with a row for each tile of an image, and the image's text and group."""

    def rows():
        for example in dataset:
            image, mask = np.asarray(example["image"].convert("RGB")), np.asarray(example["mask"])
            for rows, columns in tiling.boxes(*mask.shape):
                parts = {"image": Image.fromarray(image[rows, columns]), "mask": Image.fromarray(mask[rows, columns])}
                name = f"{example['id']}_{rows.start}_{columns.start}"
                yield parts | {"text": example["text"], "id": name, "group": example["group"]}

    features = {"image": datasets.Image(), "mask": datasets.Image()}
    features |= dict.fromkeys(("text", "id", "group"), datasets.Value("string"))
    return datasets.Dataset.from_list(list(rows()), features=datasets.Features(features))


def train(recipe: str, folder: str, output: str, tile: str | None = None) -> None:
    """Trains on MoNuSeg, on whole images or on tiles; the last weights are kept, none are selected."""
    own, other = (load_segmentation_dataset("monuseg", folder, split=split) for split in ("train", "val"))
    if tile is not None:
        own, other = (tiles_of(dataset, Tiling(int(tile))) for dataset in (own, other))
    train_from_recipe(recipe, ["--output-dir", output], train_dataset=own, eval_dataset=other)


def scores(folder: str, tile: str, *models: str) -> None:
    """Prints a Markdown table of the Dice of each way to predict; differences are to the first model, resized."""
    dataset = load_segmentation_dataset("monuseg", folder, split="val")
    references = [np.asarray(example["mask"]) for example in dataset]
    print(f"Written by `benchmarks/tiles.py scores`: {len(dataset)} validation images of MoNuSeg, by `tiles.yaml`.\n")
    print("| trained on | predicted | Dice | against the first row (95 % interval) |\n|---|---|---|---|")
    first: list[float] = []
    for model in models:
        for name, masks in masks_of(model, dataset, Tiling(int(tile))).items():
            own = dice_of(masks, references)
            difference = ""
            if first:
                against = paired_difference(own, first, list(dataset["group"]))
                low, high = against.interval or (float("nan"),) * 2
                difference = f"{against.difference:+.3f} ({low:+.3f} to {high:+.3f})"
            first = first or own
            print(f"| {Path(model).name} | {name} | {np.mean(own):.3f} | {difference} |")


def masks_of(model: str, dataset: datasets.Dataset, tiling: Tiling) -> dict[str, list[np.ndarray]]:
    """The masks of each way to predict."""
    network, processor = load_trained(model)
    masks = {}
    for name, own in {"resized": None, f"tiles of {tiling.size} px": tiling}.items():
        requests = [(example, [example["text"]]) for example in dataset]
        predicted = masks_of_each(Predictor(network, processor, tiling=own), requests, len(dataset))
        masks[name] = [mask for _, (mask,) in predicted]
    resized, tiled = masks.values()
    distances = [ndimage.distance_transform_edt(mask == 0) for mask in resized]
    pairs = zip(tiled, distances, strict=True)
    return masks | {"tiles within context": [mask * (distance <= MARGIN) for mask, distance in pairs]}


def dice_of(masks: list[np.ndarray], references: list[np.ndarray]) -> list[float]:
    pairs = zip(masks, references, strict=True)
    return [segmentation_metrics([mask], [true], outlines=False, white_is_lesion=True)["dice"] for mask, true in pairs]


if __name__ == "__main__":
    {"size": size, "train": train, "scores": scores}[sys.argv[1]](*sys.argv[2:])
