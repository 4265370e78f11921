"""Size and place of each lesion of a mask, for tables and reports."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Literal, NamedTuple

import numpy as np

from tevia_hf.extras import needed_for
from tevia_hf.labels_tevia import is_lesion, to_labels
from tevia_hf.mask_scores import Region, Spacing, check_spacing
from tevia_hf.option_checks_tevia import check_positive

with needed_for("Measuring lesions"):
    from scipy import ndimage
    from scipy.spatial import ConvexHull
    from scipy.spatial.distance import pdist


class Lesion(NamedTuple):
    """The measurements of one lesion; those in mm are `None` if the size of a pixel is unknown.

    Args:
        label: the name of its class.
        pixels: their number.
        area_mm2: in the plane of the image.
        volume_mm3: the area times the slice thickness; `None` if the thickness is unknown.
        diameter_px: the longest distance between the centres of two of its pixels, in any direction; 0 for one pixel.
        diameter_mm: the same in mm, which may have another direction if pixels are not square.
        centre_row: the mean row of its pixels, 0 the first.
        centre_column: the mean column of its pixels, 0 the first.
        side: the half of the image, not of the patient, that holds it; "both" if it crosses the middle of the image, or
            lies in the middle column alone.
    """

    label: str
    pixels: int
    area_mm2: float | None
    volume_mm3: float | None
    diameter_px: float
    diameter_mm: float | None
    centre_row: float
    centre_column: float
    side: Literal["left", "right", "both"]


def lesion_statistics(
    mask: np.ndarray,
    classes: Mapping[int, str],
    spacing_mm: Spacing | None = None,
    slice_thickness_mm: float | None = None,
) -> list[Lesion]:
    """The lesions of a mask, class by class in the given order, within a class from the largest.

    A lesion is a connected region of one label. Pixels that touch at a corner belong to one lesion (8-connectivity),
    and none is too small to count, as in `lesion_precision` and `lesion_recall`.

    Args:
        mask: labels (height, width), 0 the background; pixels of 255 are ignored and belong to no lesion.
        classes: label -> name, such as {1: "benign", 2: "malignant"}; lesions with other labels are left out.
        spacing_mm: (row, column) size of a pixel.
        slice_thickness_mm: the extent of a pixel across the image, or the distance between slices.

    Raises `ValueError` for a mask that does not hold labels, a class 0 or 255, and sizes that are not positive.
    """
    mask = np.asarray(mask)
    if mask.ndim != 2:
        raise ValueError(f"The mask has shape {mask.shape}: give labels (height, width).")
    for label in classes:
        if not is_lesion(label):
            raise ValueError(f"`classes` names label {label}: give labels from 1 to 254; 255 is ignored.")
    if spacing_mm is not None:
        check_spacing(spacing_mm)
    if slice_thickness_mm is not None:
        check_positive("slice_thickness_mm", slice_thickness_mm, example="1.5")
    labels = to_labels(mask, white_is_lesion=False)
    found = []
    for label, name in classes.items():
        parts = sorted(_pixels_of_lesions(labels == label), key=len, reverse=True)
        found += [_measured(pixels, name, mask.shape[1], spacing_mm, slice_thickness_mm) for pixels in parts]
    return found


def class_statistics(lesions: Sequence[Lesion], names: Iterable[str]) -> dict[str, dict[str, float | None]]:
    """The number and sizes of the lesions of an image, by class.

    `lesions` is their number, `volume_mm3` their sum, and `diameter_px` and `diameter_mm` are those of the longest; 0
    without lesions, `None` if a size in mm is unknown.
    """
    return {name: _summary([lesion for lesion in lesions if lesion.label == name]) for name in names}


def _pixels_of_lesions(area: np.ndarray) -> Iterable[np.ndarray]:
    """The (row, column) of the pixels of each lesion, row by row."""
    numbers, _ = Region(area).lesions
    for number, (rows, columns) in enumerate(ndimage.find_objects(numbers), start=1):
        yield np.argwhere(numbers[rows, columns] == number) + (rows.start, columns.start)


def _measured(pixels: np.ndarray, name: str, width: int, spacing: Spacing | None, thickness: float | None) -> Lesion:
    area = None if spacing is None else len(pixels) * float(spacing[0]) * float(spacing[1])
    volume = None if area is None or thickness is None else area * float(thickness)
    corners = _corners(pixels)
    diameter_mm = None if spacing is None else _longest_distance(corners * np.asarray(spacing, float))
    row, column = pixels.mean(axis=0).tolist()
    side = _side(pixels[:, 1], width)
    return Lesion(name, len(pixels), area, volume, _longest_distance(corners), diameter_mm, row, column, side)


def _corners(pixels: np.ndarray) -> np.ndarray:
    """The pixels at the corners of the convex hull, among which are the two farthest apart, whatever the spacing."""
    starts = np.flatnonzero(np.diff(pixels[:, 0], prepend=-1))
    ends = pixels[np.union1d(starts, np.append(starts[1:], len(pixels)) - 1)]  # of each row
    (down, across), (rows, columns) = ends[-1] - ends[0], (ends - ends[0]).T
    if (down * columns == across * rows).all():  # a single line, which has no hull
        return ends[[0, -1]]
    return ends[ConvexHull(ends).vertices]


def _longest_distance(points: np.ndarray) -> float:
    return float(pdist(points).max())


def _side(columns: np.ndarray, width: int) -> Literal["left", "right", "both"]:
    """The middle column of an odd width is in neither half, as in the texts of `prompts`."""
    in_left, in_right = columns.min() < width // 2, columns.max() >= width - width // 2
    if in_left == in_right:
        return "both"
    return "left" if in_left else "right"


def _summary(lesions: Sequence[Lesion]) -> dict[str, float | None]:
    return {
        "lesions": len(lesions),
        "volume_mm3": _sum(lesion.volume_mm3 for lesion in lesions),
        "diameter_px": max((lesion.diameter_px for lesion in lesions), default=0.0),
        "diameter_mm": _largest(lesion.diameter_mm for lesion in lesions),
    }


def _known(values: Iterable[float | None]) -> list[float] | None:
    """The values if each is known."""
    values = list(values)
    known = [value for value in values if value is not None]
    return known if len(known) == len(values) else None


def _sum(values: Iterable[float | None]) -> float | None:
    return None if (known := _known(values)) is None else sum(known, 0.0)


def _largest(values: Iterable[float | None]) -> float | None:
    return None if (known := _known(values)) is None else max(known, default=0.0)
