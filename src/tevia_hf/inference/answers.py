"""The results of prediction: masks, and measures of them."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from ..io import MedicalImage


class ClassStatistics(NamedTuple):
    """The size of one class in a mask.

    Args:
        pixels: its area.
        mm2: its area, if the size of the image's pixels is known.
        probability: mean probability of the class inside its mask; `None` if that is empty.
    """

    pixels: int
    mm2: float | None
    probability: float | None


class Answer(NamedTuple):
    """The result for one image and one text.

    Args:
        mask: label map uint8 (height, width), at the image's size.
        statistics: of each class by name; empty unless the predictor has `with_statistics`.
        probabilities: float16 (num_labels, height, width); `None` unless the predictor has `with_probabilities`.
    """

    mask: np.ndarray
    statistics: dict[str, ClassStatistics]
    probabilities: np.ndarray | None = None


class Prediction(NamedTuple):
    """The result for one example: an answer per text, or the error that occurred."""

    example: Mapping[str, Any]
    name: str
    image: MedicalImage | None
    answers: list[Answer]
    error: Exception | None = None

    @property
    def masks(self) -> list[np.ndarray]:
        """The label map uint8 (height, width) of each text."""
        return [answer.mask for answer in self.answers]

    @property
    def statistics(self) -> list[dict[str, ClassStatistics]]:
        """For each mask, those of each class by name; empty unless the predictor has `with_statistics`."""
        return [answer.statistics for answer in self.answers if answer.statistics]


def joined(parts: Sequence[Answer]) -> Answer:
    """The answer for an image, of the answers for parts of its height, from the top."""
    statistics = {name: pooled([part.statistics[name] for part in parts]) for name in parts[0].statistics}
    maps = [part.probabilities for part in parts if part.probabilities is not None]
    return Answer(
        np.concatenate([part.mask for part in parts]), statistics, np.concatenate(maps, axis=1) if maps else None
    )


def pooled(statistics: Sequence[ClassStatistics]) -> ClassStatistics:
    """The size of one class in several masks together; `mm2` is None if one of theirs is."""
    pixels = sum(one.pixels for one in statistics)
    areas = [one.mm2 for one in statistics if one.mm2 is not None]
    total = sum(one.pixels * one.probability for one in statistics if one.probability is not None)
    mm2 = sum(areas) if len(areas) == len(statistics) else None
    return ClassStatistics(pixels, mm2, total / pixels if pixels else None)
