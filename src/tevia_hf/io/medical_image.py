"""What a reader gives: pixels, their size, and where they lie."""

from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np


@dataclass(frozen=True, eq=False)
class Geometry:
    """Where a picture lies in the patient, so that a mask of it can be put there too.

    Args:
        path: the file.
        affine: (4, 4), from (column, row, 0) of the picture to mm in RAS+ (right, anterior, superior); None where the
            file does not tell.
        frame: number of the slice or frame in the file, counted from 0.
        count: slices or frames of the file.
        orientation: EXIF's number of how the stored pixels were turned to those of the image; 1 for not at all.
        is_placed: whether the affine tells where the image lies in the patient, or in its file alone.
    """

    path: Path
    affine: np.ndarray | None = None
    frame: int = 0
    count: int = 1
    orientation: int = 1
    is_placed: bool = True


class MedicalImage(NamedTuple):
    """Pixels `array` (height, width[, channels]), their (row, column) size `spacing_mm`, and where they come from.

    Spacing is None where the file does not tell, as PNG, JPEG and TIFF do not; they have no affine either.
    """

    array: np.ndarray
    spacing_mm: tuple[float, float] | None = None
    source: Geometry | None = None
