"""Images as PIL holds them, and files of the plain formats, to arrays; `tevia_hf.io` reads medical files too.

One of the two modules that everything in the package may import; a model's code takes it along to the Hub.
"""

import os

import numpy as np
from PIL import Image, ImageOps

from .labels_tevia import WHITE

# "LA", "P", "CMYK", ... have no plain meaning as channels; these have.
PLAIN_MODES = {"1", "L", "I", "F", "RGB", "RGBA", "I;16", "I;16B", "I;16L"}
CHANNELS = (1, 3, 4)
DAMAGE = (OSError, SyntaxError, ValueError, Image.DecompressionBombError)  # what PIL raises on damaged bytes


def image_to_array(image: Image.Image, is_mask: bool = False) -> np.ndarray:
    """The pixels of a PIL image, `(height, width[, channels])`; of a mask with a palette the indices, its labels.

    Grey keeps its depth and loses its alpha, colours become RGB or RGBA, and a rotation noted in the file is carried
    out.
    """
    image = ImageOps.exif_transpose(image)
    if image.mode in ("LA", "La") or (is_mask and image.mode == "PA"):
        image = image.getchannel(0)
    elif image.mode == "RGBa":
        image = image.convert("RGBA")
    elif image.mode not in PLAIN_MODES and not (is_mask and image.mode == "P"):
        image = image.convert("RGB")
    array = np.array(image)  # a copy: PyTorch warns of the read-only view
    return array.astype(array.dtype.newbyteorder("="), copy=False)


def read_plain_file(path: str | os.PathLike, is_mask: bool = False) -> np.ndarray:
    """The pixels of a file that PIL reads. Raises `ValueError` for any other, and for one of several pages."""
    try:
        with Image.open(path) as image:
            if (pages := getattr(image, "n_frames", 1)) == 1:
                return image_to_array(image, is_mask)
    except (FileNotFoundError, IsADirectoryError, PermissionError):
        raise
    except DAMAGE as error:
        raise ValueError(
            f"{path}: not readable as PNG, JPEG or TIFF ({error}). Fetch it again. DICOM and NIfTI are read "
            "after pip install 'tevia_hf[medical]' and `import tevia_hf`; else give the pixels as an array."
        ) from error
    raise ValueError(f"{path}: holds {pages} pages, one is expected. Save each page as a file of its own.")


def one_page(image: Image.Image, name: str, is_mask: bool = False) -> np.ndarray:
    """As `image_to_array`; `ValueError` that names the image where it is damaged or one of several pages."""
    try:
        pages = getattr(image, "n_frames", 1)
        array = image_to_array(image, is_mask)
    except DAMAGE as error:
        raise ValueError(
            f"{name} cannot be read ({error}): the file is corrupt; restore it or leave it out."
        ) from error
    if pages > 1:
        raise ValueError(
            f"{name} holds {pages} pages, one is expected: choose one (`image.seek(number)`, then give `image.copy()`)."
        )
    return array


def channels_first(array: np.ndarray, name: str, layout: str | None = None) -> np.ndarray:
    """The pixels as (1 or 3, height, width), alpha dropped.

    Args:
        layout: "channels_first" or "channels_last"; None where the shape tells.

    Raises `ValueError` for other shapes, and those that may be either.
    """
    if array.ndim == 2:
        array = array[None]
    elif array.ndim == 3 and (layout or layout_of(array.shape, name)) == "channels_last":
        array = np.moveaxis(array, -1, 0)
    if array.ndim != 3 or array.shape[0] not in CHANNELS or array.size == 0:
        raise ValueError(
            f"{name} has {f'{len(array)} channels' if layout and array.ndim == 3 else f'shape {array.shape}'}: give "
            "(height, width), (height, width, channels) or (channels, height, width) with 1, 3 or 4 channels."
        )
    return array[:3]


def layout_of(shape: tuple[int, ...], name: str) -> str:
    if shape[0] in CHANNELS and shape[-1] in CHANNELS:
        raise ValueError(
            f"{name} has shape {shape}, whose channels may come first or last: name it by "
            'input_data_format="channels_first" or "channels_last", or give a PIL image.'
        )
    return "channels_last" if shape[-1] in CHANNELS else "channels_first"


def scaled_to_unit(pixels: np.ndarray) -> np.ndarray:
    """Pixels as float32 in [0, 1]: 8 bit by its depth, floats in [0, 1] as they are, others by their own range."""
    if pixels.dtype == np.uint8:
        return pixels.astype(np.float32) / WHITE
    low, high = pixels.min(), pixels.max()
    if pixels.dtype == bool or (np.issubdtype(pixels.dtype, np.floating) and low >= 0 and high <= 1):
        return pixels.astype(np.float32)
    low, high = float(low), float(high)
    return ((pixels.astype(np.float64) - low) / ((high - low) or 1.0)).astype(np.float32)


__all__ = ["CHANNELS", "channels_first", "image_to_array", "one_page", "read_plain_file", "scaled_to_unit"]
