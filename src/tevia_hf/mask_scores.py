"""The score of one image's masks: overlap, boundaries and lesions, each by a function of a `MaskPair`."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from tevia_hf.extras import needed_for
from tevia_hf.labels_tevia import IGNORE_INDEX, is_lesion

with needed_for("Scoring masks"):
    from scipy import ndimage

SURFACE_TOLERANCE = 2.0
LESION_OVERLAP = 0.1
TOUCHING = np.ones((3, 3), bool)  # pixels that meet at a corner belong to one lesion
Spacing = tuple[float, float]
Sums = dict[int, tuple[float, float]]  # label -> numerator and denominator of a ratio over the whole set


@dataclass(frozen=True)
class MaskPair:
    """One image's masks, as a metric sees them.

    Args:
        prediction: (height, width) labels, 0 the background and wherever the reference is ignored.
        reference: (height, width) labels, 255 where ignored.
        spacing_mm: (row, column) size of a pixel, `None` where it is not known.
        surface_tolerance: how far boundaries may lie apart to count as equal.
    """

    prediction: np.ndarray
    reference: np.ndarray
    spacing_mm: Spacing | None = None
    surface_tolerance: float = SURFACE_TOLERANCE

    @cached_property
    def masks(self) -> dict[int, tuple[np.ndarray, np.ndarray]]:
        """Label -> (predicted, true) boolean masks, of the foreground labels present in either."""
        labels = np.union1d(self.prediction, self.reference)
        found = (int(label) for label in labels if is_lesion(label))
        return {label: (self.prediction == label, self.reference == label) for label in found}

    @cached_property
    def overlap(self) -> dict[int, tuple[int, int]]:
        """Label -> pixels in both masks, and those of the one plus those of the other."""
        return {label: (int((a & b).sum()), int(a.sum() + b.sum())) for label, (a, b) in self.masks.items()}

    @cached_property
    def boundary_distances(self) -> dict[int, tuple[Any, ...] | None]:
        """Label -> two tensors, the distances of each boundary's pixels to the other; `None` where one mask is empty.

        In the unit of `spacing_mm`, or in pixels.
        """
        if not self.masks:
            return {}
        with needed_for("Scoring boundaries"):  # takes seconds to load, which overlap need not wait for
            import torch
            from monai.metrics.utils import get_edge_surface_distance

        spacing = list(self.spacing_mm or (1.0, 1.0))
        distances: dict[int, tuple[Any, ...] | None] = {}
        for label, masks in self.masks.items():
            distances[label] = None
            if all(mask.any() for mask in masks):
                predicted, true = (torch.from_numpy(np.ascontiguousarray(mask)).float() for mask in masks)
                _, ways, _ = get_edge_surface_distance(predicted, true, spacing=spacing, symmetric=True)
                distances[label] = ways
        return distances


def _mean(values: Iterable[float], of_none: float) -> float:
    """The mean over labels; `of_none` where neither mask holds any."""
    values = list(values)
    return float(np.mean(values)) if values else of_none


def dice(pair: MaskPair) -> float:
    return _mean((2 * both / total for both, total in pair.overlap.values()), of_none=1.0)


def iou(pair: MaskPair) -> float:
    return _mean((both / (total - both) for both, total in pair.overlap.values()), of_none=1.0)


def dice_sums(pair: MaskPair) -> Sums:
    return {label: (2 * both, total) for label, (both, total) in pair.overlap.items()}


def iou_sums(pair: MaskPair) -> Sums:
    return {label: (both, total - both) for label, (both, total) in pair.overlap.items()}


def accuracy(pair: MaskPair) -> float:
    counted = pair.reference != IGNORE_INDEX
    return float((pair.prediction == pair.reference)[counted].mean()) if counted.any() else 1.0


def hd95(pair: MaskPair) -> float:
    diagonal = float(np.hypot(*np.multiply(pair.reference.shape, pair.spacing_mm or (1.0, 1.0))))
    of_labels = pair.boundary_distances.values()
    worst = (diagonal if ways is None else max(float(way.quantile(0.95)) for way in ways) for ways in of_labels)
    return _mean(worst, of_none=0.0)


def surface_dice(pair: MaskPair) -> float:
    of_labels = pair.boundary_distances.values()
    near = (0.0 if ways is None else sum((way <= pair.surface_tolerance).sum() for way in ways) for ways in of_labels)
    whole = (1 if ways is None else sum(map(len, ways)) for ways in of_labels)
    return _mean((float(part / count) for part, count in zip(near, whole, strict=True)), of_none=1.0)


def right_lesions(pair: MaskPair) -> Sums:
    return _covered_lesions((predicted, true) for predicted, true in pair.masks.values())


def found_lesions(pair: MaskPair) -> Sums:
    return _covered_lesions((true, predicted) for predicted, true in pair.masks.values())


def _covered_lesions(masks: Iterable[tuple[np.ndarray, np.ndarray]]) -> Sums:
    """How many lesions of the first of each two masks the second covers by a tenth, and how many there are."""
    good = every = 0
    for lesions, cover in masks:
        components, count = ndimage.label(lesions, TOUCHING)
        covered = ndimage.mean(cover, components, range(1, count + 1)) if count else np.zeros(0)
        good, every = good + int((np.asarray(covered) >= LESION_OVERLAP).sum()), every + count
    return {0: (good, every)}  # all labels together


def share(sums: Callable[[MaskPair], Sums]) -> Callable[[MaskPair], float]:
    """The ratio in one image; 1 where there is nothing to count."""

    def of_image(pair: MaskPair) -> float:
        ((good, every),) = sums(pair).values()
        return good / every if every else 1.0

    return of_image
