"""Reading of image files to arrays, by suffix, and DICOM also by content."""

from collections.abc import Callable, Iterable, Mapping
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from tevia_hf.decoding_tevia import CHANNELS, ORIENTATION, one_page, unreadable
from tevia_hf.io.address import (
    DICOM_SUFFIXES,
    NIFTI_SUFFIXES,
    PLAIN_SUFFIXES,
    ImageRef,
    add_suffixes,
    parse_address,
    suffix_of,
    supported_suffixes,
)
from tevia_hf.io.dicom import read_dicom
from tevia_hf.io.medical_image import Geometry, MedicalImage
from tevia_hf.io.nifti import read_nifti
from tevia_hf.io.plain import read_plain
from tevia_hf.io.volume import VolumeSlice

Reader = Callable[[ImageRef, bool, int | None], MedicalImage]


def read_image(path: str | Path | ImageRef, is_mask: bool = False, most_pixels: int | None = None) -> MedicalImage:
    """The pixels of an image file, (height, width) or (height, width, channels), with their size in mm if known.

    Common formats (PNG, JPEG, TIFF, BMP, GIF, JPEG 2000, WebP, PGM) keep the file's 8- or 16-bit type; a 1-bit file
    gives booleans, CMYK and palette files RGB. The EXIF orientation is applied. DICOM and NIfTI give float32 from 0 to
    1, the ends of the window (see `read_dicom`, `read_nifti`). `register_reader` adds further formats.

    Args:
        path: The file, optionally with a slice and a window: "scan.nii.gz#40", "ct.dcm#@40,400" (see `parse_address`).
        is_mask: Return the values as stored, without a window: label numbers, palette indices (two colours as 0 and
            255), with an alpha channel if the file has one.
        most_pixels: Reject an image or slice that is larger according to its file header, before it is read. Defaults
            to Pillow's limit.

    Raises `FileNotFoundError`, and `ValueError` for an unsupported suffix and for a file that is corrupt, truncated,
    too large, or has several pages or slices of which none is selected.
    """
    address = parse_address(path)
    if address.path.is_dir():
        raise ValueError(f"{path}: is a folder. Give its files, or a series as the only input.")
    reader = _READERS.get(suffix_of(address))
    if not address.path.exists() and (reader or not address.path.suffix):
        raise FileNotFoundError(f"{address.path}: no such file. Check the path.")
    if reader is None:
        raise ValueError(
            f"{path}: files ending in '{address.path.suffix}' cannot be read. "
            f"Supported: {', '.join(supported_suffixes())}. Convert it to PNG."
        )
    try:
        return reader(address, is_mask, most_pixels)
    except Exception as error:  # decoders raise almost any exception on damaged files
        if isinstance(error, ValueError) and str(error).startswith(str(address.path)):
            raise
        raise ValueError(f"{address.path}: {unreadable(error)}") from error


def load_image(value: Any, is_mask: bool = False) -> MedicalImage:
    """An image with its geometry, from a file or from memory.

    Accepts a path, an `ImageRef`, a `VolumeSlice`, a PIL image, an array, a tensor and an entry of an undecoded column,
    `{"path", "bytes"}`. Raises `ValueError` or `OSError` for an image that is missing or cannot be read.
    """
    if isinstance(value, Mapping):
        content, value = value["bytes"], value["path"]
        if content is not None:
            try:
                image = Image.open(BytesIO(content))
            except Exception as error:  # Pillow's decoders raise almost any exception on damaged files
                reason = f"embedded image is corrupt or cut short ({error}). Build the data set again."
                raise ValueError(reason) from error
            return _from_pil(image, "the embedded image", is_mask)
    if value is None:
        raise ValueError("it is missing. Add it, or leave the row out.")
    if isinstance(value, (str, Path, ImageRef)):
        return read_image(value, is_mask)
    if isinstance(value, VolumeSlice):
        return value.load()
    if isinstance(value, Image.Image):
        return _from_pil(value, "the mask" if is_mask else "the image", is_mask)
    pixels = np.asarray(value)
    is_channels_first = pixels.ndim == 3 and pixels.shape[0] in CHANNELS and pixels.shape[-1] not in CHANNELS
    return MedicalImage(np.moveaxis(pixels, 0, -1) if is_channels_first else pixels)


def _from_pil(image: Image.Image, name: str, is_mask: bool) -> MedicalImage:
    source = Geometry(Path(getattr(image, "filename", "") or name), orientation=image.getexif().get(ORIENTATION, 1))
    return MedicalImage(one_page(image, name, is_mask), source=source)


def register_reader(suffixes: Iterable[str], reader: Reader) -> None:
    """Makes `read_image` read files of another format, identified by suffixes such as `[".mat"]`.

    The reader is called with an `ImageRef`, `is_mask` and `most_pixels` (see `read_image`), from several threads. Its
    `ValueError` should begin with the path and name the fix.

    Raises `ValueError` for a suffix that this package reads itself, or that is not in lower case with a dot.
    """
    suffixes = list(suffixes)
    for suffix in suffixes:
        if not suffix.startswith(".") or suffix != suffix.lower() or suffix in _OWN_SUFFIXES:
            raise ValueError(f"'{suffix}' cannot be registered: give one such as '.mat', which nothing here reads.")
    _READERS.update(dict.fromkeys(suffixes, reader))
    add_suffixes(suffixes)


def is_read_here(file: ImageRef) -> bool:
    """Whether a file is read by a reader of this package, which changes only with the package version."""
    return _READERS.get(suffix_of(file), read_plain).__module__.startswith("tevia_hf.")


_READERS: dict[str, Reader] = {
    **dict.fromkeys(PLAIN_SUFFIXES, read_plain),
    **dict.fromkeys(DICOM_SUFFIXES, read_dicom),
    **dict.fromkeys(NIFTI_SUFFIXES, read_nifti),
}
_OWN_SUFFIXES = frozenset(_READERS)
