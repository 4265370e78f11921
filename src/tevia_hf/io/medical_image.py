"""The result of a reader: pixels, their size and their position."""

from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np


@dataclass(frozen=True, eq=False)
class Geometry:
    """The position of an image in the patient, so that its mask can be written to the same position."""

    path: Path
    affine: np.ndarray | None = None  # (4, 4), (column, row, 0) to mm in RAS+; None if the file has none
    frame: int = 0  # number of the slice or frame in the file
    count: int = 1  # number of slices or frames in the file
    orientation: int = 1  # EXIF orientation applied to the stored pixels; 1 for none
    is_placed: bool = True  # whether the affine gives the position in the patient, not only in the file
    slice_spacing_mm: float | None = None  # across the image, to the next slice; None if the file does not give it


class MedicalImage(NamedTuple):
    """Pixels `array` (height, width[, channels]), their (row, column) size `spacing_mm`, and the source geometry.

    Spacing is None if the file has none, such as PNG, JPEG and TIFF, which have no affine either.
    """

    array: np.ndarray
    spacing_mm: tuple[float, float] | None = None
    source: Geometry | None = None
