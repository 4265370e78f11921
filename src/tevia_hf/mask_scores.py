"""The score of one image's masks: overlap, boundaries and lesions, each by a function of a `MaskPair`."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from tevia_hf.extras import needed_for
from tevia_hf.labels_tevia import IGNORE_INDEX, is_lesion, values_of

with needed_for("Scoring masks"):
    from scipy import ndimage

SURFACE_TOLERANCE = 2.0
LESION_OVERLAP = 0.1
TOUCHING = np.ones((3, 3), bool)  # pixels that meet at a corner belong to one lesion
Spacing = tuple[float, float]
Sums = dict[int, tuple[float, float]]  # label -> numerator and denominator of a ratio over the whole set


@dataclass(frozen=True)
class Region:
    """Where a mask holds one label, boolean (height, width); what it takes of this alone is measured once."""

    pixels: np.ndarray

    @cached_property
    def area(self) -> int:
        return int(self.pixels.sum())

    @cached_property
    def boundary(self) -> np.ndarray:
        """The pixels with one of another label, or the image's end, at a side; of the region padded by a pixel."""
        padded = np.pad(self.pixels, 2)
        sides = padded[:-2, 1:-1] & padded[2:, 1:-1] & padded[1:-1, :-2] & padded[1:-1, 2:]
        return padded[1:-1, 1:-1] & ~sides

    @cached_property
    def lesions(self) -> tuple[np.ndarray, np.ndarray]:
        """Number of the lesion of each pixel, 0 for none, and the pixels of each lesion."""
        numbers, count = ndimage.label(self.pixels, TOUCHING)
        return numbers, np.bincount(numbers[self.pixels], minlength=count + 1)[1:]

    def lesions_covered_by(self, other: "Region") -> tuple[int, int]:
        """How many lesions the other region covers by a tenth, and how many there are."""
        numbers, areas = self.lesions
        covered = np.bincount(numbers[other.pixels], minlength=len(areas) + 1)[1:]
        return int((covered / areas >= LESION_OVERLAP).sum()), len(areas)


def regions_of(labels: np.ndarray) -> dict[int, Region]:
    """Label -> its region, of the foreground labels that a mask holds."""
    return {int(label): Region(labels == label) for label in values_of(labels) if is_lesion(label)}


@dataclass(frozen=True)
class MaskPair:
    """One image's masks, as a metric sees them.

    Args:
        prediction: (height, width) labels, 0 the background and wherever the reference is ignored.
        reference: (height, width) labels, 255 where ignored.
        spacing_mm: (row, column) size of a pixel, `None` where it is not known.
        surface_tolerance: how far boundaries may lie apart to count as equal.
        true_regions: `regions_of` the reference, for pairs that share it; by default they are found.
    """

    prediction: np.ndarray
    reference: np.ndarray
    spacing_mm: Spacing | None = None
    surface_tolerance: float = SURFACE_TOLERANCE
    true_regions: Mapping[int, Region] | None = None

    @cached_property
    def regions(self) -> dict[int, tuple[Region, Region]]:
        """Label -> (predicted, true) regions, of the foreground labels present in either."""
        predicted = regions_of(self.prediction)
        true = regions_of(self.reference) if self.true_regions is None else self.true_regions
        nowhere = Region(np.zeros(self.reference.shape, bool))
        labels = sorted({*predicted, *true})
        return {label: (predicted.get(label, nowhere), true.get(label, nowhere)) for label in labels}

    @cached_property
    def masks(self) -> dict[int, tuple[np.ndarray, np.ndarray]]:
        """Label -> (predicted, true) boolean masks, of the foreground labels present in either."""
        return {label: (predicted.pixels, true.pixels) for label, (predicted, true) in self.regions.items()}

    @cached_property
    def overlap(self) -> dict[int, tuple[int, int]]:
        """Label -> pixels in both masks, and those of the one plus those of the other."""
        return {
            label: (int((predicted.pixels & true.pixels).sum()), predicted.area + true.area)
            for label, (predicted, true) in self.regions.items()
        }

    @cached_property
    def boundary_distances(self) -> dict[int, tuple[Any, ...] | None]:
        """Label -> two tensors, the distances of each boundary's pixels to the other; `None` where one mask is empty.

        In the unit of `spacing_mm`, or in pixels.
        """
        if not self.regions:
            return {}
        with needed_for("Scoring boundaries"):  # takes seconds to load, which overlap need not wait for
            import torch
            from monai.metrics.utils import get_surface_distance

        spacing = list(self.spacing_mm or (1.0, 1.0))
        distances: dict[int, tuple[Any, ...] | None] = {}
        for label, regions in self.regions.items():
            distances[label] = None
            if all(region.area for region in regions):
                predicted, true = _cropped(*(region.boundary for region in regions))
                ways = (predicted, true), (true, predicted)
                found = (get_surface_distance(*way, spacing=spacing) for way in ways)
                distances[label] = tuple(map(torch.from_numpy, found))
        return distances

    @cached_property
    def right_lesions(self) -> tuple[int, int]:
        """How many predicted lesions the true mask covers by a tenth, and how many there are, of all labels."""
        return _added(predicted.lesions_covered_by(true) for predicted, true in self.regions.values())

    @cached_property
    def found_lesions(self) -> tuple[int, int]:
        """How many true lesions the prediction covers by a tenth, and how many there are, of all labels."""
        return _added(true.lesions_covered_by(predicted) for predicted, true in self.regions.values())


def _cropped(boundary: np.ndarray, other: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Two padded boundaries where either has pixels, and one more on each side.

    So MONAI crops them: where the pixels have a size, the origin decides the last digit of a distance.
    """
    either = boundary | other
    rows, columns = (np.flatnonzero(either.any(axis)) for axis in (1, 0))
    box = slice(rows[0] - 1, rows[-1] + 2), slice(columns[0] - 1, columns[-1] + 2)
    return boundary[box], other[box]


def _added(counts: Iterable[tuple[int, int]]) -> tuple[int, int]:
    good, every = 0, 0
    for part, whole in counts:
        good, every = good + part, every + whole
    return good, every


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
    return {0: pair.right_lesions}


def found_lesions(pair: MaskPair) -> Sums:
    return {0: pair.found_lesions}


def share(sums: Callable[[MaskPair], Sums]) -> Callable[[MaskPair], float]:
    """The ratio in one image; 1 where there is nothing to count."""

    def of_image(pair: MaskPair) -> float:
        ((good, every),) = sums(pair).values()
        return good / every if every else 1.0

    return of_image
