"""NIfTI files to pictures, turned as a radiologist looks at them."""

import math
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from tevia_hf.extras import needed_for
from tevia_hf.io.address import ImageRef, Plane
from tevia_hf.io.medical_image import Geometry, MedicalImage
from tevia_hf.io.pixels import (
    MOST_FULL_SLICES,
    MOST_PIXELS,
    check_finite,
    check_size,
    choose_number,
    to_unit,
    to_whole_numbers,
)

_UNITS = {"meter": 1000.0, "micron": 0.001}  # in mm; "mm" and "unknown" are 1
# Where columns, rows and slices run to (left, posterior, inferior, ...): front and top are up, the patient is
# seen from below or from the front, so that their right is on the left; from the side, the front is on the left.
_DIRECTIONS: dict[Plane, str] = {"axial": "LPS", "coronal": "LIA", "sagittal": "PIR"}


def read_nifti(address: ImageRef, is_mask: bool = False, most_pixels: int | None = None) -> MedicalImage:
    """One slice: float32 from 0 to 1, the ends of the address's window or of the slice's own values; a mask as stored.

    The volume is brought to RAS+ and shown as an axial DICOM is: patient's right on the left, front on top; slices are
    counted from the patient's left, back and bottom. A file of one slice is shown as that slice lies. Colour gives RGB
    uint8, complex numbers their magnitude.

    Raises `ValueError` for a file that is damaged, holds several volumes, or several slices of which none is named, and
    for values that are no numbers.
    """
    path = address.path
    volume = _open(path)
    from nibabel.orientations import apply_orientation, axcodes2ornt, inv_ornt_aff, io_orientation, ornt_transform

    stored, affine = (*volume.shape, 1, 1)[:3], _affine_in_mm(volume, path)
    to_ras = io_orientation(affine)
    address = replace(address, plane=_plane(address, [stored[axis] for axis in np.argsort(to_ras[:, 0])]))
    turn = ornt_transform(to_ras, axcodes2ornt(_DIRECTIONS[address.plane]))
    axes = np.argsort(turn[:, 0])  # those of the file which columns, rows and slices become
    width, height, count = (stored[axis] for axis in axes)
    check_size(height, width, path, most_pixels)
    if math.prod(stored) > MOST_FULL_SLICES * (most_pixels or MOST_PIXELS):
        raise ValueError(f"{path}: claims {math.prod(stored):,} values, too many to unpack. Cut it up first.")
    index = choose_number(address, count, f"{address.plane} slices")
    slab = _slab(volume, axes[2], index if turn[axes[2], 1] > 0 else count - 1 - index, path)
    picture = apply_orientation(slab, turn)[:, :, 0].T
    affine = affine @ inv_ornt_aff(turn, stored)
    affine[:3, 3] += index * affine[:3, 2]
    is_placed = any(int(volume.header[code]) > 0 for code in ("sform_code", "qform_code") if code in volume.header)
    geometry = Geometry(path, affine, index, count, is_placed=is_placed)
    column, row = (float(step) for step in np.linalg.norm(affine[:3, :2], axis=0))
    return MedicalImage(_pixels(picture, address, is_mask), (row, column), geometry)


def _open(path: Path) -> Any:
    with needed_for(f"{path}: reading it"):
        import nibabel
    try:
        volume: Any = nibabel.load(path)
        shape = volume.shape
    except Exception as error:  # nibabel raises nearly anything on damaged bytes
        raise ValueError(f"{path}: not readable as NIfTI ({error}). Fetch or export the file again.") from error
    if any(size > 1 for size in shape[3:]):
        raise ValueError(
            f"{path}: holds {math.prod(shape[3:])} volumes, not one. Save the one you mean as a file of its own."
        )
    return volume


def _affine_in_mm(volume: Any, path: Path) -> np.ndarray:
    """From stored indices to RAS+ mm. Raises `ValueError` where it leads nowhere."""
    affine = volume.affine.copy()
    if (*volume.shape, 1, 1)[2] == 1 and not affine[:3, 2].any():  # a flat file may give no third step
        affine[:3, 2] = np.cross(affine[:3, 0], affine[:3, 1]) / np.linalg.norm(affine[:3, 0])
    if not np.isfinite(affine).all() or np.linalg.matrix_rank(affine[:3, :3]) < 3:
        raise ValueError(
            f"{path}: its affine spans no space, so that left and right are not known. Correct it with nibabel's "
            "set_sform, or export the file again."
        )
    with suppress(KeyError):  # a number that stands for no unit
        affine[:3] *= _UNITS.get(volume.header.get_xyzt_units()[0], 1.0)
    return affine


def _plane(address: ImageRef, shape: list[int]) -> Plane:
    """The address's plane, or where it names no slice of one, that of a single slice; `shape` is that in RAS+."""
    if address.plane == "axial" and address.number in (None, "middle") and shape[2] > 1 and shape.count(1) == 1:
        return "coronal" if shape[1] == 1 else "sagittal"
    return address.plane


def _slab(volume: Any, axis: int, start: int, path: Path) -> np.ndarray:
    """One slice as a volume, the only part of the file that is read."""
    where: list[Any] = [slice(None)] * 3
    where[axis] = slice(start, start + 1)
    try:
        values = np.asarray(volume.dataobj[tuple(where[: volume.ndim]) + (0,) * (volume.ndim - 3)])
    except Exception as error:  # cut short, or a damaged archive
        raise ValueError(f"{path}: corrupt or cut short ({error}). Fetch or export the file again.") from error
    return values.reshape((*values.shape, 1, 1)[:3])


def _pixels(picture: np.ndarray, address: ImageRef, is_mask: bool) -> np.ndarray:
    if picture.dtype.names:
        picture = np.stack([picture[name] for name in picture.dtype.names[:3]], axis=-1)
    picture = np.ascontiguousarray(picture)
    if is_mask:
        return to_whole_numbers(picture, address.path)
    if picture.ndim == 3:
        return picture
    picture = np.abs(picture) if np.iscomplexobj(picture) else picture
    check_finite(picture, address.path)
    return to_unit(picture, address.window)
