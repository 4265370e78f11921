"""What a reader gives: pixels, their size, and where they lie."""

from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np


@dataclass(frozen=True, eq=False)
class Geometry:
    """Where a picture lies in the patient, so that a mask of it can be put there too."""

    path: Path
    affine: np.ndarray | None = None  # (4, 4), (column, row, 0) to mm in RAS+; None where the file does not tell
    frame: int = 0  # number of the slice or frame in the file
    count: int = 1  # slices or frames of the file
    orientation: int = 1  # EXIF's number of how the stored pixels were turned to those of the image; 1 for not at all
    is_placed: bool = True  # whether the affine tells where the image lies in the patient, or in its file alone


class MedicalImage(NamedTuple):
    """Pixels `array` (height, width[, channels]), their (row, column) size `spacing_mm`, and where they come from.

    Spacing is None where the file does not tell, as PNG, JPEG and TIFF do not; they have no affine either.
    """

    array: np.ndarray
    spacing_mm: tuple[float, float] | None = None
    source: Geometry | None = None
