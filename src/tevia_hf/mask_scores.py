"""The score of one image's masks: overlap, boundaries and lesions, each by a function of a `MaskPair`."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cached_property

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
    return _mean((_hausdorff(a, b, pair.spacing_mm or (1.0, 1.0)) for a, b in pair.masks.values()), of_none=0.0)


def _hausdorff(predicted: np.ndarray, true: np.ndarray, spacing: Spacing) -> float:
    if not (predicted.any() and true.any()):
        return float(np.hypot(*np.multiply(true.shape, spacing)))
    with needed_for("Scoring boundaries"):  # takes seconds to load, which overlap need not wait for
        from monai.metrics import compute_hausdorff_distance

    a, b = _as_tensors(predicted, true)
    return float(compute_hausdorff_distance(a, b, include_background=True, percentile=95, spacing=list(spacing)))


def surface_dice(pair: MaskPair) -> float:
    spacing, tolerance = pair.spacing_mm or (1.0, 1.0), pair.surface_tolerance
    return _mean((_shared_surface(a, b, spacing, tolerance) for a, b in pair.masks.values()), of_none=1.0)


def _shared_surface(predicted: np.ndarray, true: np.ndarray, spacing: Spacing, tolerance: float) -> float:
    if not (predicted.any() and true.any()):
        return 0.0
    with needed_for("Scoring boundaries"):
        from monai.metrics import compute_surface_dice

    a, b = _as_tensors(predicted, true)
    return float(compute_surface_dice(a, b, [tolerance], include_background=True, spacing=list(spacing)))


def _as_tensors(*masks: np.ndarray) -> tuple:
    import torch

    return tuple(torch.from_numpy(np.ascontiguousarray(mask))[None, None] for mask in masks)


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
