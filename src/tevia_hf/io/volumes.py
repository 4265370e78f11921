"""Finding and opening volumes: NIfTI files, folders of a DICOM series, DICOM files with several frames."""

import gzip
import shutil
import zlib
from dataclasses import replace
from pathlib import Path

from tevia_hf.io.address import DICOM_SUFFIXES, NIFTI_SUFFIXES, ImageRef, Plane, parse_address, suffix_of
from tevia_hf.io.dicom import frame_count, open_dicom
from tevia_hf.io.nifti import NiftiVolume, stored_plane
from tevia_hf.io.output_dir import part_of
from tevia_hf.io.series import DicomVolume, is_series
from tevia_hf.io.volume import Volume


def as_volume(address: str | Path | ImageRef, plane: Plane | None = None, series: str | None = None) -> ImageRef:
    """The address of all slices, of a file or folder that holds several and whose address selects none; else itself.

    Args:
        address: a file, or a folder of DICOM files.
        plane: of the slices of a NIfTI file; by default the one in which they are stored.
        series: number, UID or description, for a folder of several series.

    Raises `ValueError` for a plane where the slices of a file have theirs.
    """
    image = parse_address(address)
    if image.number is not None or not image.path.exists():
        return image
    try:
        own = plane_of_slices(image)
    except ValueError:  # of a damaged file; it is reported when its pixels are read
        return image
    if own is None:
        return image
    if plane is not None and not is_nifti(image):
        raise ValueError(f"{image.path}: `plane` is for NIfTI files: leave it out, or convert the series (dcm2niix).")
    chosen = image.plane if image.plane != "axial" else own
    return replace(image, plane=plane or chosen, number="all", series=series or image.series)


def is_nifti(image: ImageRef | None) -> bool:
    return image is not None and suffix_of(image) in NIFTI_SUFFIXES


def plane_of_slices(image: ImageRef) -> Plane | None:
    """The plane in which the slices of a volume are stored ("axial" for DICOM); None for a single image."""
    if image.path.is_dir():
        return "axial" if is_series(image.path) else None
    if is_nifti(image):
        return stored_plane(image.path)
    if suffix_of(image) in DICOM_SUFFIXES:
        return "axial" if frame_count(open_dicom(image.path, only_tags=True)) > 1 else None
    return None


def open_volume(address: ImageRef, folder: Path, is_mask: bool = False) -> Volume:
    """A volume to read slices from.

    A compressed NIfTI file is unpacked, so that its slices can be read in any order; the copy is deleted with the
    object.

    Args:
        address: see `as_volume`.
        folder: where to unpack to.
        is_mask: whether values are returned as stored; for NIfTI.

    Raises `ValueError` for a file or folder that does not hold one volume.
    """
    if not is_nifti(address):
        return DicomVolume(address)
    is_packed = address.path.suffix.lower() == ".gz"
    return NiftiVolume(address, is_mask, unpacked=unpack(address.path, folder) if is_packed else None)


def unpack(path: Path, folder: Path) -> Path:
    """A new file with the content of a gzip file. Raises `ValueError` if that is damaged."""
    target = part_of(folder / path.stem)
    try:
        with gzip.open(path) as packed, target.open("wb") as file:
            shutil.copyfileobj(packed, file, 2**20)
    except BaseException as error:
        target.unlink(missing_ok=True)
        if not isinstance(error, (EOFError, gzip.BadGzipFile, zlib.error)):
            raise
        raise ValueError(f"{path}: corrupt or cut short ({error}). Fetch or export the file again.") from error
    return target
