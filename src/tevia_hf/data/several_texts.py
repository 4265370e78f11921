"""Texts of examples that have several: one of them in each epoch of training, the first elsewhere."""

from collections.abc import Iterator, Mapping
from typing import Any
from zlib import crc32

import datasets
import numpy as np

ALL_TEXTS = "all_texts"  # the column beside `text`, which holds the first


def with_drawn_text(example: Mapping[str, Any], seed: int, epoch: int) -> dict[str, Any]:
    """The example with one of its `all_texts`, drawn by seed, epoch and id; without these as it is."""
    if not (texts := example.get(ALL_TEXTS)):
        return dict(example)
    draws = np.random.default_rng([seed, epoch, crc32(str(example.get("id")).encode())])
    return {**example, "text": texts[draws.integers(len(texts))]}


def texts_of(dataset: datasets.Dataset) -> Iterator[str]:
    """Every text that the examples of a data set may have."""
    for text in dataset["text"]:
        yield from [text] if text else []
    for texts in dataset[ALL_TEXTS] if ALL_TEXTS in dataset.column_names else []:
        yield from texts[1:]
