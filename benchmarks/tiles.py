"""Time and peak memory of large images in tiles, and Dice of tiles against resized images.

    python benchmarks/tiles.py size MODEL [SIDE]                            # 10,000 px by default
    python benchmarks/tiles.py train RECIPE MONUSEG STEPS OUTPUT [TILE]     # with TILE, on tiles of this side
    python benchmarks/tiles.py scores MONUSEG TILE MODEL ...

`size` predicts a tiled TIFF and a PNG by the command, each in a process of its own, whose peak resident memory is that
of all its threads. `scores` predicts the validation images of MoNuSeg resized, in tiles, and in tiles within the mask
of the resized image, dilated ("context").
"""

import os
import subprocess
import sys
import tempfile
import time

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


def train(recipe: str, folder: str, steps: str, output: str, tile: str | None = None) -> None:
    """Trains on MoNuSeg, on whole images or on tiles; the last weights are kept, none are selected."""
    own, other = (load_segmentation_dataset("monuseg", folder, split=split) for split in ("train", "val"))
    if tile is not None:
        own, other = (tiles_of(dataset, Tiling(int(tile))) for dataset in (own, other))
    options = ["--output-dir", output, "--max-steps", steps, "--eval-strategy", "no", "--save-strategy", "no"]
    train_from_recipe(recipe, options, train_dataset=own, eval_dataset=other)


def scores(folder: str, tile: str, *models: str) -> None:
    """Prints the mean Dice of each way to predict, and its difference to that of resized images."""
    dataset = load_segmentation_dataset("monuseg", folder, split="val")
    references = [np.asarray(example["mask"]) for example in dataset]
    for model in models:
        network, processor = load_trained(model)
        masks = {}
        for name, tiling in {"resized": None, "tiles": Tiling(int(tile))}.items():
            predictor = Predictor(network, processor, tiling=tiling)
            requests = [(example, [example["text"]]) for example in dataset]
            masks[name] = [own for _, (own,) in masks_of_each(predictor, requests, len(dataset))]
        distances = [ndimage.distance_transform_edt(mask == 0) for mask in masks["resized"]]
        pairs = zip(masks["tiles"], distances, strict=True)
        masks["context"] = [mask * (distance <= MARGIN) for mask, distance in pairs]
        dice = {
            name: [
                segmentation_metrics([mask], [reference], outlines=False)["dice"]
                for mask, reference in zip(own, references, strict=True)
            ]
            for name, own in masks.items()
        }
        for name, own in dice.items():
            against = paired_difference(own, dice["resized"], list(dataset["group"]))
            difference = f"{against.difference:+.4f} {against.interval}"
            print(f"{model}, {name}: Dice {np.mean(own):.4f}, against resized {difference}")


if __name__ == "__main__":
    {"size": size, "train": train, "scores": scores}[sys.argv[1]](*sys.argv[2:])
