"""Reading of NIfTI slices in radiological orientation."""

import math
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any
from weakref import finalize

import numpy as np

from tevia_hf.extras import needed_for
from tevia_hf.io.address import ImageRef, Plane
from tevia_hf.io.medical_image import Geometry, MedicalImage
from tevia_hf.io.pixels import (
    MAX_FULL_SLICES,
    MAX_PIXELS,
    check_finite,
    check_size,
    choose_number,
    to_unit,
    to_whole_numbers,
)
from tevia_hf.io.volume import Volume, VolumeGrid

_UNITS = {"meter": 1000.0, "micron": 0.001}  # in mm; "mm" and "unknown" are 1
# Directions of columns, rows and slices (left, posterior, inferior, ...) in radiological convention: anterior or
# superior is up and the patient's right is on the left; in sagittal slices anterior is on the left.
_DIRECTIONS: dict[Plane, str] = {"axial": "LPS", "coronal": "LIA", "sagittal": "PIR"}


def read_nifti(address: ImageRef, is_mask: bool = False, most_pixels: int | None = None) -> MedicalImage:
    """One slice: float32 from 0 to 1 (the ends of the address's window or of the slice's values); a mask as stored.

    The volume is reoriented to RAS+ and displayed like axial DICOM: patient's right on the left, anterior up; slices
    are counted from the patient's left, back and bottom. A file with a single slice is displayed in the plane of that
    slice. Colour gives RGB uint8, complex numbers their magnitude.

    Raises `ValueError` for a file that is damaged, has several volumes or several slices of which none is selected, and
    for values that are not finite.
    """
    volume = NiftiVolume(address, is_mask, most_pixels)
    return volume.slice(choose_number(volume.address, volume.count, f"{volume.address.plane} slices"))


class NiftiVolume(Volume):
    """An opened NIfTI file: see `read_nifti`.

    Args:
        address: file, plane and window.
        is_mask: whether values are returned as stored.
        most_pixels: of a slice.
        unpacked: an uncompressed copy to read from, which is deleted by `close`, or with the object: a slice of a
            compressed file needs all that is before it.
    """

    def __init__(
        self,
        address: ImageRef,
        is_mask: bool = False,
        most_pixels: int | None = None,
        unpacked: Path | None = None,
    ):
        path = self.path = address.path
        self.is_mask = is_mask
        self.unpacked = finalize(self, unpacked.unlink, missing_ok=True) if unpacked else None
        self.stored = _open(path, unpacked)
        from nibabel.orientations import axcodes2ornt, io_orientation, ornt_transform

        shape, self.affine = (*self.stored.shape, 1, 1)[:3], _affine_in_mm(self.stored, path)
        to_ras = io_orientation(self.affine)
        self.address = replace(address, plane=_plane(address, [shape[axis] for axis in np.argsort(to_ras[:, 0])]))
        turn = ornt_transform(to_ras, axcodes2ornt(_DIRECTIONS[self.address.plane]))
        self.grid = VolumeGrid(shape, turn, self.stored)
        codes, header = ("sform_code", "qform_code"), self.stored.header
        self.is_placed = any(int(header[code]) > 0 for code in codes if code in header)
        self.voxel_mm3 = abs(float(np.linalg.det(self.affine[:3, :3])))
        width, height, self.count = self.grid.size
        check_size(height, width, path, most_pixels)
        if math.prod(shape) > MAX_FULL_SLICES * (most_pixels or MAX_PIXELS):
            raise ValueError(f"{path}: claims {math.prod(shape):,} values, too many to unpack. Split it first.")
        first = self.outline(0)
        between = first.source.slice_spacing_mm if first.source else None
        self.spacing_mm = (between, *first.spacing_mm) if between and first.spacing_mm else None

    def slice(self, number: int) -> MedicalImage:
        values = _values(self.stored, self.grid.place(number), self.path)
        pixels = _pixels(self.grid.as_displayed(values), self.address, self.is_mask)
        return self.outline(number)._replace(array=pixels)

    def outline(self, number: int) -> MedicalImage:
        """A slice without its pixels, which are 0, from the header alone."""
        from nibabel.orientations import inv_ornt_aff

        affine = self.affine @ inv_ornt_aff(self.grid.to_display, self.grid.shape)
        affine[:3, 3] += number * affine[:3, 2]
        normal = np.cross(affine[:3, 0], affine[:3, 1])
        between = float(abs(normal @ affine[:3, 2]) / np.linalg.norm(normal)) if self.count > 1 else None
        geometry = Geometry(self.path, affine, number, self.count, is_placed=self.is_placed, slice_spacing_mm=between)
        column, row = (float(step) for step in np.linalg.norm(affine[:3, :2], axis=0))
        width, height, _ = self.grid.size
        return MedicalImage(np.broadcast_to(np.uint8(0), (height, width)), (row, column), geometry)

    def close(self) -> None:
        if self.unpacked is not None:
            self.unpacked()


def stored_plane(path: Path) -> Plane | None:
    """The plane in which the slices of a volume are stored, usually that of the acquisition; None for a single slice.

    Raises `ValueError` for a file that is damaged or has several volumes.
    """
    volume = _open(path)
    from nibabel.orientations import io_orientation

    across = int(io_orientation(_affine_in_mm(volume, path))[2, 0])
    planes: tuple[Plane, ...] = ("sagittal", "coronal", "axial")
    return planes[across] if min((*volume.shape, 1, 1)[:3]) > 1 else None


def _open(path: Path, unpacked: Path | None = None) -> Any:
    with needed_for(f"{path}: reading it"):
        import nibabel
    try:
        volume: Any = nibabel.load(unpacked or path)
        shape = volume.shape
    except Exception as error:  # nibabel raises almost any exception on damaged files
        raise ValueError(f"{path}: not readable as NIfTI ({error}). Fetch or export the file again.") from error
    if any(size > 1 for size in shape[3:]):
        raise ValueError(
            f"{path}: holds {math.prod(shape[3:])} volumes, not one. Save the one you mean as a file of its own."
        )
    return volume


def _affine_in_mm(volume: Any, path: Path) -> np.ndarray:
    """The affine from stored indices to RAS+ mm. Raises `ValueError` if it is singular or not finite."""
    affine = volume.affine.copy()
    if (*volume.shape, 1, 1)[2] == 1 and not affine[:3, 2].any():  # a 2-D file may lack the third direction
        affine[:3, 2] = np.cross(affine[:3, 0], affine[:3, 1]) / np.linalg.norm(affine[:3, 0])
    if not np.isfinite(affine).all() or np.linalg.matrix_rank(affine[:3, :3]) < 3:
        raise ValueError(
            f"{path}: its affine is singular or not finite, so left and right are unknown. Correct it with nibabel's "
            "set_sform, or export the file again."
        )
    with suppress(KeyError):  # an invalid unit code
        affine[:3] *= _UNITS.get(volume.header.get_xyzt_units()[0], 1.0)
    return affine


def _plane(address: ImageRef, shape: list[int]) -> Plane:
    """The plane of the address, or of the only slice if the address selects none; `shape` is that in RAS+."""
    if address.plane == "axial" and address.number in (None, "middle") and shape[2] > 1 and shape.count(1) == 1:
        return "coronal" if shape[1] == 1 else "sagittal"
    return address.plane


def _values(volume: Any, place: tuple[slice, ...], path: Path) -> np.ndarray:
    """A part of a volume (axis, axis, axis); no other part of the file is read."""
    try:
        values = np.asarray(volume.dataobj[tuple(place[: volume.ndim]) + (0,) * (volume.ndim - 3)])
    except Exception as error:  # a truncated file or a damaged archive
        raise ValueError(f"{path}: corrupt or cut short ({error}). Fetch or export the file again.") from error
    return values.reshape((*values.shape, 1, 1)[:3])


def _pixels(pixels: np.ndarray, address: ImageRef, is_mask: bool) -> np.ndarray:
    if pixels.dtype.names:
        pixels = np.stack([pixels[name] for name in pixels.dtype.names[:3]], axis=-1)
    pixels = np.ascontiguousarray(pixels)
    if is_mask:
        return to_whole_numbers(pixels, address.path)
    if pixels.ndim == 3:
        return pixels
    pixels = np.abs(pixels) if np.iscomplexobj(pixels) else pixels
    check_finite(pixels, address.path)
    return to_unit(pixels, address.window)
