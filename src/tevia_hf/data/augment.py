"""Augmentation that keeps picture, mask and sentence true of each other."""

from collections.abc import Mapping
from functools import partial
from typing import Any
from zlib import crc32

import datasets
import numpy as np
import torch
from monai.transforms import RandZoom

from tevia_hf.data.features import decode_part, undecoded
from tevia_hf.prompts import flip_sentence


class TextAwareAugmentation:
    """Random left/right flips, which rewrite the sentence, and random zooms.

    Takes a mapping with `image` (height, width[, channels]), `mask` of the same size, `text` (or None) and `id`; gives
    one with the same keys, sizes and types. What is drawn for an example depends on nothing but `seed`, its id and the
    epoch: a resumed run, other numbers of processes or of data workers draw the same. Call `set_epoch` before each
    epoch, else every epoch repeats the draws of the first.

    Zoom of 0.95 to 1.2 with probability 0.1 is the published training's only augmentation; it flips nothing.
    """

    def __init__(
        self,
        flip_probability: float = 0.5,
        zoom_probability: float = 0.1,
        minimum_zoom: float = 0.95,
        maximum_zoom: float = 1.2,
        seed: int = 0,
    ) -> None:
        self.flip_probability = flip_probability
        self.seed = seed
        self.epoch = 0
        zoom = partial(RandZoom, zoom_probability, minimum_zoom, maximum_zoom, padding_mode="edge")
        # "nearest" would shift the mask by up to half a pixel against the image
        self._zooms = {"image": zoom(mode="bilinear"), "mask": zoom(mode="nearest-exact")}

    def set_epoch(self, epoch: int) -> None:
        self.epoch = epoch

    def __call__(self, example: Mapping[str, Any]) -> dict[str, Any]:
        state = np.random.RandomState([self.seed, self.epoch, crc32(str(example.get("id")).encode())])
        flipped = state.random_sample() < self.flip_probability
        zoom_seed = int(state.randint(2**31))
        augmented = dict(example)
        for part in self._zooms.keys() & example.keys():
            pixels = self._zoom(example[part], part, zoom_seed)
            augmented[part] = np.ascontiguousarray(pixels[:, ::-1]) if flipped else pixels
        if flipped and example.get("text"):
            augmented["text"] = flip_sentence(example["text"])
        return augmented

    def _zoom(self, pixels: np.ndarray, part: str, seed: int) -> np.ndarray:
        zoom = self._zooms[part]
        zoom.set_random_state(seed=seed)
        channels_first = torch.from_numpy(np.moveaxis(np.atleast_3d(pixels), -1, 0).astype(np.float32))
        zoomed = np.moveaxis(np.asarray(zoom(channels_first)), 0, -1).reshape(pixels.shape)
        return _to_type(zoomed, pixels.dtype)


def augmented(dataset: datasets.Dataset, augmentation: TextAwareAugmentation) -> datasets.Dataset:
    """The same data set, each example varied when it is read."""

    def vary(columns: dict[str, list]) -> dict[str, list]:
        examples = [dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True)]
        decoded = [{**e, "image": decode_part(e, "image"), "mask": decode_part(e, "mask")} for e in examples]
        varied = [augmentation(example) for example in decoded]
        return {name: [example[name] for example in varied] for name in columns}

    return undecoded(dataset).with_transform(vary)


def _to_type(pixels: np.ndarray, dtype: np.dtype) -> np.ndarray:
    return pixels.astype(dtype) if np.issubdtype(dtype, np.floating) else np.round(pixels).astype(dtype)
