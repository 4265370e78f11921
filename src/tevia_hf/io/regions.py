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

MAX_CHUNK = 2**24  # pixels that are decoded together


class StoredPixels:
    """The pixels (height, width[, channels]) uint8 of a TIFF file; indexing reads the parts that are asked for.

    Args:
        path: of the file, for errors.
        file: it, opened by tifffile; closed with this object.
    """

    dtype = np.dtype(np.uint8)
    ndim = property(lambda self: len(self.shape))

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

    These are images of 8 bits, grey or RGB, that are stored in tiles, also as a pyramid; beyond Pillow's limit, in
    strips too. Raises `ValueError` for a pyramid whose parts cannot be read, with the reason.
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
    except Exception:  # a missing library, or damage of any kind: `load_image` reads the whole, or gives the reason
        return None
    try:
        reason, has_pyramid = why_not_in_parts(file), len(file.pages) > 1 or len(file.series[0].levels) > 1
    except Exception:  # damage, as above
        file.close()
        return None
    if reason is None:
        with needed_for(f"{path}: reading parts of it"):
            pixels = StoredPixels(path, file)
        try:
            pixels[:1, :1]
            return pixels
        except ValueError as error:  # perhaps Pillow has the decoder, which reads the only page as a whole
            if has_pyramid or math.prod(pixels.shape[:2]) > MAX_PIXELS:
                raise
            reason = str(error)
    file.close()
    if has_pyramid:
        raise ValueError(f"{path}: several pages, which cannot be read as one image in parts: {reason}.")
    return None


def why_not_in_parts(file: Any) -> str | None:
    """Why parts of an open TIFF file cannot be read, or not as they are shown; `None` if they can."""
    from tifffile import COMPRESSION, PHOTOMETRIC

    page, levels = file.pages.first, file.series[0].levels
    is_jpeg = page.compression in (COMPRESSION.JPEG, COMPRESSION.OJPEG)
    shown_as_stored = (PHOTOMETRIC.RGB, PHOTOMETRIC.MINISBLACK, *([PHOTOMETRIC.YCBCR] if is_jpeg else []))
    ends = [start + length for start, length in zip(page.dataoffsets, page.databytecounts, strict=False)]
    # Missing parts would be read as zeros, and a predictor without compression is applied by tifffile alone.
    is_complete = len(ends) == math.prod(page.chunked) and min(*page.dataoffsets, *page.databytecounts) > 0
    reasons = {
        "its pages are no pyramid": len(file.series) > 1 or not all(one.keyframe.is_reduced for one in levels[1:]),
        "its axes are no rows and columns": file.series[0].axes not in ("YX", "YXS"),
        "it has not 8 bits": page.dtype != np.uint8 or page.bitspersample != 8,
        "it is neither grey nor RGB": page.samplesperpixel not in CHANNELS or page.photometric not in shown_as_stored,
        "it has an alpha channel": bool(page.extrasamples),
        "it is turned": page.tags.valueof("Orientation", default=1) != 1,
        "its predictor is ignored by others": page.compression == COMPRESSION.NONE and page.predictor != 1,
        "parts of it are missing": not is_complete or max(ends) > file.filehandle.size,
        "it has no tiles": not page.is_tiled and math.prod(page.shape[:2]) <= MAX_PIXELS,
        "its tiles are too large": math.prod(page.chunks[:2]) > MAX_CHUNK,
    }
    return next((reason for reason, holds in reasons.items() if holds), None)
