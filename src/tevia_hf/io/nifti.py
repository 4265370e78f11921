"""NIfTI files to pictures, turned as a radiologist looks at them."""

import math
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

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
# Axes of a RAS+ volume (0: to the right, 1: to the front, 2: up) that run down and across the picture, both backwards:
# front and top are up, the patient's right is on the left; seen from the side, the front is on the left.
_AXES: dict[Plane, tuple[int, int]] = {"axial": (1, 0), "coronal": (2, 0), "sagittal": (2, 1)}


def read_nifti(address: ImageRef, is_mask: bool = False, most_pixels: int | None = None) -> MedicalImage:
    """One slice: float32 from 0 to 1, the ends of the address's window or of the slice's own values; a mask as stored.

    Of complex numbers it shows the magnitude.

    The volume is brought to RAS+ and shown as an axial DICOM is: patient's right on the left, front on top; slices are
    counted from the patient's left, back and bottom. A file of one slice is shown as that slice lies. Colour gives RGB
    uint8.

    Raises `ValueError` for a file that is damaged, holds several volumes, or several slices of which none is named, and
    for values that are no numbers.
    """
    path = address.path
    volume = _open(path)
    turned = _canonical(volume, path)
    address = replace(address, plane=_plane(address, turned.shape))
    down, across = _AXES[address.plane]
    through = 3 - down - across
    check_size(turned.shape[down], turned.shape[across], path, most_pixels)
    if math.prod(turned.shape) > MOST_FULL_SLICES * (most_pixels or MOST_PIXELS):
        raise ValueError(f"{path}: claims {math.prod(turned.shape):,} values, too many to unpack. Cut it up first.")
    index = choose_number(address, turned.shape[through], f"{address.plane} slices")
    picture = _picture(_slab(volume, turned, through, index, path), through)
    affine = turned.affine @ _picture_to_voxels(turned.shape, down, across, through, index)
    is_placed = any(int(volume.header[code]) > 0 for code in ("sform_code", "qform_code") if code in volume.header)
    geometry = Geometry(path, affine, index, turned.shape[through], is_placed=is_placed)
    column, row = (float(step) for step in np.linalg.norm(affine[:3, :2], axis=0))
    return MedicalImage(_pixels(picture, address, is_mask), (row, column), geometry)


class _Canonical(NamedTuple):
    """What turning a volume to RAS+ takes: nibabel's orientation, then the shape and affine (mm) it leads to."""

    orientation: np.ndarray
    shape: tuple[int, ...]
    affine: np.ndarray


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


def _canonical(volume: Any, path: Path) -> _Canonical:
    from nibabel.orientations import inv_ornt_aff, io_orientation

    shape = (*volume.shape, 1, 1)[:3]
    affine = volume.affine.copy()
    if shape[2] == 1 and not affine[:3, 2].any():  # a flat file may give no third step
        affine[:3, 2] = np.cross(affine[:3, 0], affine[:3, 1]) / np.linalg.norm(affine[:3, 0])
    if not np.isfinite(affine).all() or np.linalg.matrix_rank(affine[:3, :3]) < 3:
        raise ValueError(
            f"{path}: its affine spans no space, so that left and right are not known. Correct it with nibabel's "
            "set_sform, or export the file again."
        )
    affine[:3] *= _UNITS.get(_unit(volume), 1.0)
    orientation = io_orientation(affine)
    axes = [int(np.flatnonzero(orientation[:, 0] == axis)[0]) for axis in range(3)]
    return _Canonical(orientation, tuple(shape[axis] for axis in axes), affine @ inv_ornt_aff(orientation, shape))


def _unit(volume: Any) -> str:
    try:
        return volume.header.get_xyzt_units()[0]
    except KeyError:  # a number that stands for none
        return "unknown"


def _plane(address: ImageRef, shape: tuple[int, ...]) -> Plane:
    """The address's plane, or where it names no slice of one, that of a single slice."""
    if address.plane == "axial" and address.number in (None, "middle") and shape[2] > 1 and shape.count(1) == 1:
        return "coronal" if shape[1] == 1 else "sagittal"
    return address.plane


def _slab(volume: Any, turned: _Canonical, through: int, index: int, path: Path) -> np.ndarray:
    """One slice as a RAS+ volume, the only part of the file that is read."""
    from nibabel.orientations import apply_orientation

    axis = int(np.flatnonzero(turned.orientation[:, 0] == through)[0])
    start = index if turned.orientation[axis, 1] > 0 else turned.shape[through] - 1 - index
    where: list[Any] = [slice(None)] * 3
    where[axis] = slice(start, start + 1)
    try:
        values = np.asarray(volume.dataobj[tuple(where[: volume.ndim]) + (0,) * (volume.ndim - 3)])
    except Exception as error:  # cut short, or a damaged archive
        raise ValueError(f"{path}: corrupt or cut short ({error}). Fetch or export the file again.") from error
    return apply_orientation(values[..., None] if values.ndim == 2 else values, turned.orientation)


def _picture(slab: np.ndarray, through: int) -> np.ndarray:
    """(height, width[, 3]) of a slab of RAS+."""
    picture = slab.squeeze(through).T[::-1, ::-1]
    if picture.dtype.names:
        picture = np.stack([picture[name] for name in picture.dtype.names[:3]], axis=-1)
    return np.ascontiguousarray(picture)


def _pixels(picture: np.ndarray, address: ImageRef, is_mask: bool) -> np.ndarray:
    if is_mask:
        return to_whole_numbers(picture, address.path)
    if picture.ndim == 3:
        return picture
    picture = np.abs(picture) if np.iscomplexobj(picture) else picture
    check_finite(picture, address.path)
    return to_unit(picture, address.window)


def _picture_to_voxels(shape: tuple[int, ...], down: int, across: int, through: int, index: int) -> np.ndarray:
    """From (column, row, 0) of the picture to the RAS+ voxel: both of its axes run backwards through the volume."""
    turn = np.zeros((4, 4))
    turn[across, 0], turn[down, 1], turn[through, 2] = -1, -1, 1
    turn[across, 3], turn[down, 3], turn[through, 3] = shape[across] - 1, shape[down] - 1, index
    turn[3, 3] = 1
    return turn
