"""The one decoder: image files to arrays, by suffix, and DICOM also by content."""

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

Reader = Callable[[ImageRef, bool, int | None], MedicalImage]


def read_image(path: str | Path | ImageRef, is_mask: bool = False, most_pixels: int | None = None) -> MedicalImage:
    """The pixels of an image file, (height, width) or (height, width, channels), with their size in mm if it is known.

    Everyday formats (PNG, JPEG, TIFF, BMP, GIF, JPEG 2000, WebP, PGM) keep the file's own 8- or 16-bit type; a 1-bit
    file gives booleans, CMYK and palette files RGB. A rotation noted in the file is carried out. DICOM and NIfTI give
    float32 from 0 to 1, the ends of the window (see `read_dicom`, `read_nifti`). Further formats are those of
    `register_reader`.

    Args:
        path: The file. A slice, and a window, may follow it: "scan.nii.gz#40", "ct.dcm#@40,400" (see `parse_address`).
        is_mask: Give the values as stored, unwindowed: label numbers, the indices of a palette (two colours as 0 and
            255), with an alpha channel where there is one.
        most_pixels: Refuse a larger picture or slice by what its file's head says, before it is read. By default
            Pillow's own limit holds.

    Raises `FileNotFoundError`, and `ValueError` for a suffix that is not supported and a file that is corrupt, cut
    short, too large, or of several pages or slices of which none is named.
    """
    address = parse_address(path)
    reader = _READERS.get(suffix_of(address))
    if reader is None:
        raise ValueError(
            f"{path}: files ending in '{address.path.suffix}' cannot be read. "
            f"Supported: {', '.join(supported_suffixes())}. Convert it to PNG."
        )
    if not address.path.is_file():
        raise FileNotFoundError(f"{address.path}: no such file. Check the path.")
    try:
        return reader(address, is_mask, most_pixels)
    except Exception as error:  # decoders raise nearly anything on damaged bytes
        if isinstance(error, ValueError) and str(error).startswith(str(address.path)):
            raise
        raise ValueError(f"{address.path}: {unreadable(error)}") from error


def load_image(value: Any, is_mask: bool = False) -> MedicalImage:
    """An image with what its file tells of its place: read by its path, or held in memory as people hand it over.

    Taken are a path, an `ImageRef`, a PIL image, an array, a tensor and an entry of an undecoded column, `{"path",
    "bytes"}`. Raises `ValueError` or `OSError` for one that is missing or cannot be read.
    """
    if isinstance(value, Mapping):
        content, value = value["bytes"], value["path"]
        if content is not None:
            try:
                image = Image.open(BytesIO(content))
            except Exception as error:  # Pillow's decoders raise nearly anything on damaged bytes
                reason = f"embedded image is corrupt or cut short ({error}). Build the data set again."
                raise ValueError(reason) from error
            return _from_pil(image, "the embedded image", is_mask)
    if value is None:
        raise ValueError("it is missing. Add it, or leave the row out.")
    if isinstance(value, (str, Path, ImageRef)):
        return read_image(value, is_mask)
    if isinstance(value, Image.Image):
        return _from_pil(value, "the mask" if is_mask else "the image", is_mask)
    pixels = np.asarray(value)
    comes_first = pixels.ndim == 3 and pixels.shape[0] in CHANNELS and pixels.shape[-1] not in CHANNELS
    return MedicalImage(np.moveaxis(pixels, 0, -1) if comes_first else pixels)


def _from_pil(image: Image.Image, name: str, is_mask: bool) -> MedicalImage:
    source = Geometry(Path(getattr(image, "filename", "") or name), orientation=image.getexif().get(ORIENTATION, 1))
    return MedicalImage(one_page(image, name, is_mask), source=source)


def register_reader(suffixes: Iterable[str], reader: Reader) -> None:
    """Makes `read_image` read files of another format, known by their suffixes, such as `[".mat"]`.

    The reader is called with an `ImageRef`, `is_mask` and `most_pixels`, as `read_image` has them, by several threads.
    Its `ValueError` should begin with the path and say what to do.

    Raises `ValueError` for a suffix that this package reads itself, or that is not in lower case with a dot.
    """
    suffixes = list(suffixes)
    for suffix in suffixes:
        if not suffix.startswith(".") or suffix != suffix.lower() or suffix in _OWN_SUFFIXES:
            raise ValueError(f"'{suffix}' cannot be registered: give one such as '.mat', which nothing here reads.")
    _READERS.update(dict.fromkeys(suffixes, reader))
    add_suffixes(suffixes)


def is_read_here(file: ImageRef) -> bool:
    """Whether this package itself reads a file, by a reader that changes with its version alone."""
    return _READERS.get(suffix_of(file), read_plain).__module__.startswith("tevia_hf.")


_READERS: dict[str, Reader] = {
    **dict.fromkeys(PLAIN_SUFFIXES, read_plain),
    **dict.fromkeys(DICOM_SUFFIXES, read_dicom),
    **dict.fromkeys(NIFTI_SUFFIXES, read_nifti),
}
_OWN_SUFFIXES = frozenset(_READERS)
