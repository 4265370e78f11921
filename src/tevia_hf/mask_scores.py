"""Scores of one image: overlap, boundaries and lesions, each computed from a `MaskPair`."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from tevia_hf.extras import needed_for
from tevia_hf.labels_tevia import IGNORE_INDEX, is_lesion, values_of
from tevia_hf.option_checks_tevia import check_positive

with needed_for("Scoring masks"):
    from scipy import ndimage

SURFACE_TOLERANCE = 2.0
LESION_OVERLAP = 0.1
EIGHT_NEIGHBOURS = np.ones((3, 3), bool)  # pixels that touch at a corner belong to one lesion
Spacing = tuple[float, float]
Sums = dict[int, tuple[float, float]]  # label -> numerator and denominator of a ratio over the whole set


def check_spacing(spacing: Spacing) -> None:
    """Raises `ValueError` if this is not a (row, column) size of a pixel."""
    if len(spacing) != 2:
        raise ValueError(f"`spacing_mm` is {spacing}: give (row, column), the size of a pixel in mm.")
    for step in spacing:
        check_positive("spacing_mm", float(step), example="0.7")


@dataclass(frozen=True)
class Region:
    """The pixels of one label in a mask, boolean (height, width), with cached measurements."""

    pixels: np.ndarray

    @cached_property
    def area(self) -> int:
        return int(self.pixels.sum())

    @cached_property
    def boundary(self) -> np.ndarray:
        """The pixels that share a side with another label or the image border; padded by one pixel."""
        padded = np.pad(self.pixels, 2)
        sides = padded[:-2, 1:-1] & padded[2:, 1:-1] & padded[1:-1, :-2] & padded[1:-1, 2:]
        return padded[1:-1, 1:-1] & ~sides

    @cached_property
    def lesions(self) -> tuple[np.ndarray, np.ndarray]:
        """The lesion number of each pixel, 0 for none, and the area of each lesion."""
        numbers, count = ndimage.label(self.pixels, EIGHT_NEIGHBOURS)
        return numbers, np.bincount(numbers[self.pixels], minlength=count + 1)[1:]

    def lesions_covered_by(self, other: "Region") -> tuple[int, int]:
        """The number of lesions that the other region covers by at least a tenth, and of all lesions."""
        numbers, areas = self.lesions
        covered = np.bincount(numbers[other.pixels], minlength=len(areas) + 1)[1:]
        return int((covered / areas >= LESION_OVERLAP).sum()), len(areas)


def regions_of(labels: np.ndarray) -> dict[int, Region]:
    """Label -> region, for the foreground labels in a mask."""
    return {int(label): Region(labels == label) for label in values_of(labels) if is_lesion(label)}


@dataclass(frozen=True)
class MaskPair:
    """The prediction and reference of one image, the argument of a metric.

    Args:
        prediction: (height, width) labels, 0 for the background and where the reference is ignored.
        reference: (height, width) labels, 255 where ignored.
        spacing_mm: (row, column) size of a pixel, `None` if unknown.
        surface_tolerance: maximum distance at which boundaries count as equal.
        true_regions: `regions_of` the reference, for pairs that share it; computed by default.
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
        empty = Region(np.zeros(self.reference.shape, bool))
        labels = sorted({*predicted, *true})
        return {label: (predicted.get(label, empty), true.get(label, empty)) for label in labels}

    @cached_property
    def masks(self) -> dict[int, tuple[np.ndarray, np.ndarray]]:
        """Label -> (predicted, true) boolean masks, of the foreground labels present in either."""
        return {label: (predicted.pixels, true.pixels) for label, (predicted, true) in self.regions.items()}

    @cached_property
    def overlap(self) -> dict[int, tuple[int, int]]:
        """Label -> area of the intersection, and the sum of both areas."""
        return {
            label: (int((predicted.pixels & true.pixels).sum()), predicted.area + true.area)
            for label, (predicted, true) in self.regions.items()
        }

    @cached_property
    def boundary_distances(self) -> dict[int, tuple[Any, ...] | None]:
        """Label -> the distances from each boundary to the other, two tensors; `None` if one mask is empty.

        In mm, or in pixels if `spacing_mm` is unknown.
        """
        if not self.regions:
            return {}
        with needed_for("Scoring boundaries"):  # takes seconds to load; overlap does not need it
            import torch
            from monai.metrics.utils import get_surface_distance

        spacing = list(self.spacing_mm or (1.0, 1.0))
        distances: dict[int, tuple[Any, ...] | None] = {}
        for label, regions in self.regions.items():
            distances[label] = None
            if all(region.area for region in regions):
                predicted, true = _cropped(*(region.boundary for region in regions))
                directions = (predicted, true), (true, predicted)
                arrays = (get_surface_distance(*boundaries, spacing=spacing) for boundaries in directions)
                distances[label] = tuple(map(torch.from_numpy, arrays))
        return distances

    def of_label(self, label: int) -> "MaskPair":
        """The pair with this label alone; the measurements of its regions are shared."""
        return SingleLabelPair(self, label)

    @cached_property
    def correct_lesions(self) -> tuple[int, int]:
        """The number of predicted lesions that the true mask covers by at least a tenth, and of all of them."""
        return _total(predicted.lesions_covered_by(true) for predicted, true in self.regions.values())

    @cached_property
    def detected_lesions(self) -> tuple[int, int]:
        """The number of true lesions that the prediction covers by at least a tenth, and of all of them."""
        return _total(true.lesions_covered_by(predicted) for predicted, true in self.regions.values())


class SingleLabelPair(MaskPair):
    """One label of a pair: other labels are background."""

    pair: MaskPair
    label: int

    def __init__(self, pair: MaskPair, label: int):
        prediction = np.where(pair.prediction == label, pair.prediction, 0)
        reference = np.where(np.isin(pair.reference, (label, IGNORE_INDEX)), pair.reference, 0)
        super().__init__(prediction, reference, pair.spacing_mm, pair.surface_tolerance)
        self.__dict__.update(pair=pair, label=label)  # frozen

    @cached_property
    def regions(self) -> dict[int, tuple[Region, Region]]:
        return self._own(self.pair.regions)

    @cached_property
    def boundary_distances(self) -> dict[int, tuple[Any, ...] | None]:
        return self._own(self.pair.boundary_distances)

    def _own(self, by_label: Mapping[int, Any]) -> dict[int, Any]:
        return {self.label: by_label[self.label]} if self.label in by_label else {}


def _cropped(boundary: np.ndarray, other: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Two padded boundaries, cropped to their common bounding box with a margin of one pixel.

    This is MONAI's crop: with a spacing, the origin affects the last digit of a distance.
    """
    either = boundary | other
    rows, columns = (np.flatnonzero(either.any(axis)) for axis in (1, 0))
    box = slice(rows[0] - 1, rows[-1] + 2), slice(columns[0] - 1, columns[-1] + 2)
    return boundary[box], other[box]


def _total(counts: Iterable[tuple[int, int]]) -> tuple[int, int]:
    matched, total = 0, 0
    for label_matched, label_total in counts:
        matched, total = matched + label_matched, total + label_total
    return matched, total


def _mean(values: Iterable[float], default: float) -> float:
    """The mean over labels; `default` if neither mask holds any."""
    values = list(values)
    return float(np.mean(values)) if values else default


def dice(pair: MaskPair) -> float:
    return _mean((2 * both / total for both, total in pair.overlap.values()), default=1.0)


def iou(pair: MaskPair) -> float:
    return _mean((both / (total - both) for both, total in pair.overlap.values()), default=1.0)


def dice_sums(pair: MaskPair) -> Sums:
    return {label: (2 * both, total) for label, (both, total) in pair.overlap.items()}


def iou_sums(pair: MaskPair) -> Sums:
    return {label: (both, total - both) for label, (both, total) in pair.overlap.items()}


def accuracy(pair: MaskPair) -> float:
    counted = pair.reference != IGNORE_INDEX
    return float((pair.prediction == pair.reference)[counted].mean()) if counted.any() else 1.0


def hd95(pair: MaskPair) -> float:
    diagonal = float(np.hypot(*np.multiply(pair.reference.shape, pair.spacing_mm or (1.0, 1.0))))
    percentiles = (
        diagonal if directions is None else max(float(distances.quantile(0.95)) for distances in directions)
        for directions in pair.boundary_distances.values()
    )
    return _mean(percentiles, default=0.0)


def surface_dice(pair: MaskPair) -> float:
    shares = []
    for directions in pair.boundary_distances.values():
        if directions is None:
            shares.append(0.0)
        else:
            near = sum((distances <= pair.surface_tolerance).sum() for distances in directions)
            shares.append(float(near / sum(map(len, directions))))
    return _mean(shares, default=1.0)


def correct_lesions(pair: MaskPair) -> Sums:
    return {0: pair.correct_lesions}


def detected_lesions(pair: MaskPair) -> Sums:
    return {0: pair.detected_lesions}


def share(sums: Callable[[MaskPair], Sums]) -> Callable[[MaskPair], float]:
    """A metric of one image: the ratio of the sums; 1 if the denominator is 0."""

    def ratio(pair: MaskPair) -> float:
        ((matched, total),) = sums(pair).values()
        return matched / total if total else 1.0

    return ratio
