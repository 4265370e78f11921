"""NIfTI files to pictures, turned as a radiologist looks at them."""

from pathlib import Path
from typing import Any

import numpy as np

from tevia_hf.io.address import Address, Plane
from tevia_hf.io.medical_image import Geometry, MedicalImage
from tevia_hf.io.pixels import check_size, choose_number, require, to_labels, to_unit

# Axes of a RAS+ volume (0: to the right, 1: to the front, 2: up) that run down and across the picture, both backwards:
# front and top are up, the patient's right is on the left; seen from the side, the front is on the left.
_AXES: dict[Plane, tuple[int, int]] = {"axial": (1, 0), "coronal": (2, 0), "sagittal": (2, 1)}


def read_nifti(address: Address, is_mask: bool = False) -> MedicalImage:
    """One slice: float32 from 0 to 1, the ends of the address's window or of the slice's own values; a mask as stored.

    The volume is brought to RAS+ and shown as an axial DICOM is: patient's right on the left, front on top.

    Raises `ValueError` for a file that is damaged, holds several volumes, or several slices of which none is named, and
    for values that are no numbers.
    """
    path = address.path
    volume = _open(path)
    down, across = _AXES[address.plane]
    through = 3 - down - across
    check_size(volume.shape[down], volume.shape[across], path)
    index = choose_number(address.number, volume.shape[through], path, f"{address.plane} slices")
    values = _slice(volume, through, index, path)
    picture = values.T[::-1, ::-1]
    zooms = [float(zoom) for zoom in volume.header.get_zooms()[:3]]
    geometry = Geometry(path, _affine(volume, down, across, through, index), index)
    pixels = to_labels(picture, path) if is_mask else to_unit(picture, address.window)
    return MedicalImage(np.ascontiguousarray(pixels), (zooms[down], zooms[across]), geometry)


def _open(path: Path) -> Any:
    """The volume in RAS+, three axes, its values still on disk."""
    nibabel = require("nibabel", path)
    try:
        volume = nibabel.load(path)
        shape = volume.shape
    except Exception as error:  # nibabel raises nearly anything on damaged bytes
        raise ValueError(f"{path}: not readable as NIfTI ({error}). Fetch or export the file again.") from error
    if len(shape) > 3 and any(size > 1 for size in shape[3:]):
        raise ValueError(f"{path}: holds {shape[3:]} volumes. Save the one you mean as a file of its own.")
    if volume.get_data_dtype().fields:
        raise ValueError(f"{path}: holds colours. Save the slices as PNG.")
    if len(shape) != 3:
        volume = nibabel.Nifti1Image(np.asarray(volume.dataobj).reshape((*shape, 1, 1)[:3]), volume.affine)
    return nibabel.as_closest_canonical(volume)


def _slice(volume: Any, through: int, index: int, path: Path) -> np.ndarray:
    where: list[Any] = [slice(None)] * 3
    where[through] = index
    try:
        values = np.asarray(volume.dataobj[tuple(where)])
    except Exception as error:  # cut short, or a damaged archive
        raise ValueError(f"{path}: corrupt or cut short ({error}). Fetch or export the file again.") from error
    if not np.isfinite(values).all():
        raise ValueError(
            f"{path}: holds values that are no numbers (NaN or infinite). Replace them, e.g. by the air's."
        )
    return values


def _affine(volume: Any, down: int, across: int, through: int, index: int) -> np.ndarray:
    """From (column, row, 0) of the picture to mm: both of its axes run backwards through the volume."""
    turn = np.zeros((4, 4))
    turn[across, 0], turn[down, 1], turn[through, 2] = -1, -1, 1
    turn[across, 3], turn[down, 3], turn[through, 3] = volume.shape[across] - 1, volume.shape[down] - 1, index
    turn[3, 3] = 1
    return volume.affine @ turn
