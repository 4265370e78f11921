"""Images of which parts are read, for images that are larger than the memory."""

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from weakref import finalize

import numpy as np

from tevia_hf.decoding_tevia import CHANNELS
from tevia_hf.extras import needed_for
from tevia_hf.io.address import TIFF_SUFFIXES, ImageRef, parse_address, suffix_of
from tevia_hf.io.medical_image import Geometry, MedicalImage
from tevia_hf.io.pixels import MAX_PIXELS
from tevia_hf.io.readers import load_image


class StoredPixels:
    """The pixels (height, width[, channels]) uint8 of a TIFF file; indexing reads the parts that are asked for.

    Args:
        path: of the file, for errors.
        file: it, opened by tifffile; closed with this object.
    """

    dtype = np.dtype(np.uint8)

    def __init__(self, path: Path, file: Any):
        import zarr

        self.path = path
        self._pixels = zarr.open_array(file.series[0].aszarr(level=0), mode="r")  # of a pyramid, the full resolution
        self.shape: tuple[int, ...] = self._pixels.shape
        finalize(self, file.close)

    def __getitem__(self, box: Any) -> np.ndarray:
        """A part of the pixels. Raises `ValueError` if it cannot be decoded."""
        try:
            return np.asarray(self._pixels[box])
        except Exception as error:  # decoders raise almost any exception on damaged files
            raise ValueError(
                f"{self.path}: a part of it cannot be decoded ({error}). pip install imagecodecs if the compression "
                "needs it, or fetch or export the file again."
            ) from error


def load_parts(value: Any) -> MedicalImage:
    """As `load_image`, but with `StoredPixels` as the array of a TIFF file whose parts can be read, of any size.

    These are images of 8 bits, grey or RGB, that are stored in tiles or strips, also as a pyramid.
    """
    if isinstance(value, Mapping) and value["bytes"] is None:
        value = value["path"]
    if isinstance(value, (str, Path, ImageRef)) and suffix_of(address := parse_address(value)) in TIFF_SUFFIXES:
        pixels = _stored_pixels(address.path)
        if pixels is not None:
            return MedicalImage(pixels, source=Geometry(address.path))  # type: ignore[arg-type]  # is indexed as one
    return load_image(value)


def _stored_pixels(path: Path) -> StoredPixels | None:
    """The pixels of a file whose parts can be read as `read_image` would read them; `None` for another one."""
    try:
        from tifffile import TiffFile

        file = TiffFile(path)
    except (ImportError, OSError, ValueError):  # `load_image` reads the whole, or gives the reason
        return None
    if not is_readable_in_parts(file):
        file.close()
        return None
    with needed_for(f"{path}: reading parts of it"):
        pixels = StoredPixels(path, file)
    try:
        pixels[:1, :1]
    except ValueError:  # perhaps Pillow has the decoder, which reads the image as a whole
        if math.prod(pixels.shape[:2]) > MAX_PIXELS:
            raise
        return None
    return pixels


def is_readable_in_parts(file: Any) -> bool:
    """Whether an open TIFF file holds one complete image, whose pixels are stored as they are shown."""
    from tifffile import COMPRESSION, PHOTOMETRIC

    page = file.pages.first
    is_jpeg = page.compression in (COMPRESSION.JPEG, COMPRESSION.OJPEG)
    shown_as_stored = (PHOTOMETRIC.RGB, PHOTOMETRIC.MINISBLACK, *([PHOTOMETRIC.YCBCR] if is_jpeg else []))
    ends = [start + length for start, length in zip(page.dataoffsets, page.databytecounts, strict=True)]
    return (
        len(file.series) == 1
        and file.series[0].axes in ("YX", "YXS")
        and page.dtype == np.uint8
        and page.bitspersample == 8
        and page.samplesperpixel in CHANNELS
        and page.photometric in shown_as_stored
        and not page.extrasamples
        and page.tags.valueof("Orientation", default=1) == 1
        # Missing parts would be read as zeros.
        and len(ends) == math.prod(page.chunked)
        and min(page.databytecounts) > 0
        and max(ends) <= file.filehandle.size
    )
