"""Writes docs/result.jpg, masks of `tevia-tiny` with the text of an image, another and none, and docs/example.png.

python tools/result_figure.py
"""

import textwrap
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np

from tevia_hf import Predictor, TeViAForSegmentation, TeViAProcessor, load_segmentation_dataset, overlay

ROOT = Path(__file__).parents[1]
MODEL = ROOT / "hub_configs" / "tevia-tiny"
IMAGES = (1, 6)  # of the test split; chosen so that the two texts name lesions on different sides
COLUMNS = ("image", "reference mask", "mask with its text", "mask with another text", "mask without text")


def main() -> None:
    model = TeViAForSegmentation.from_pretrained(MODEL).eval()
    predictor = Predictor(model, TeViAProcessor.from_pretrained(MODEL))
    options = {"split": "test", "size": 256, "count": max(IMAGES) + 1}
    own, other = (load_segmentation_dataset("synthetic", counterpart=flag, **options) for flag in (False, True))
    figure, axes = plt.subplots(len(IMAGES), len(COLUMNS), figsize=(14, 6.6), layout="constrained")
    for row, index in zip(axes, IMAGES, strict=True):
        draw_row(row, predictor, own[index], other[index]["text"])
    for axis, title in zip(axes[0], COLUMNS, strict=True):
        axis.set_title(title, fontsize=13)
    figure.savefig(ROOT / "docs" / "result.jpg", dpi=90, pil_kwargs={"quality": 88})
    own[IMAGES[-1]]["image"].save(ROOT / "docs" / "example.png")  # the input image of the pages


def draw_row(axes: np.ndarray, predictor: Predictor, example: dict, other_text: str) -> None:
    image, reference = np.asarray(example["image"]), (np.asarray(example["mask"]) > 0).astype(np.uint8)
    texts = [example["text"], other_text, ""]
    encoded = predictor.encode([predictor.prepare(example["image"])] * len(texts))
    masks = predictor.masks(encoded, texts)
    shown = [image, *(overlay(image, mask) for mask in (reference, *masks))]
    captions = ["", "", *(textwrap.fill(f"“{text}”" if text else "(no text)", 30) for text in texts)]
    for axis, pixels, caption in zip(axes, shown, captions, strict=True):
        axis.imshow(pixels, cmap="gray")
        axis.set(xticks=[], yticks=[])
        axis.set_xlabel(caption, fontsize=10)


if __name__ == "__main__":
    main()
