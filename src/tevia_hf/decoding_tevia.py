"""PIL images and files of common formats to arrays; `tevia_hf.io` reads medical files as well.

Any module of the package may import this one. It is uploaded to the Hub with a model's code.
"""

import os
from typing import Any

import numpy as np
from PIL import Image, ImageOps

from .labels_tevia import WHITE

# Modes whose channels are grey or RGB values; those of "P", "CMYK" and others are not.
PLAIN_MODES = {"1", "L", "LA", "I", "F", "RGB", "RGBA", "I;16", "I;16B", "I;16L"}
CHANNELS = (1, 3, 4)
DAMAGE = (OSError, SyntaxError, ValueError, Image.DecompressionBombError)  # what PIL raises on damaged bytes
PIL_FORMATS = ("PNG", "JPEG", "TIFF", "BMP", "GIF", "JPEG2000", "WEBP", "PPM")  # others need more than pixels
PLAIN_FORMATS = "PNG, JPEG, TIFF, BMP, GIF, JPEG 2000, WebP or PGM"
NEARLY_BLACK, NEARLY_WHITE = 32, 250
ORIENTATION = 0x0112  # EXIF and TIFF: how an image is rotated for display
_BITS, _PHOTOMETRIC, _PLANAR, _SAMPLE_FORMAT = 258, 262, 284, 339  # tags of TIFF
_SIGNED = 2
_WHITE_IS_ZERO = 0
_SEPARATE = 2
_RLE4 = 2  # a compression of BMP
MASK_OF_WHITE_ZEROS = (
    "its tags show 0 as white, so that the lesion may be what is stored as 1 or what is shown as white: save the mask "
    "as PNG with the lesion as 1"
)


def image_to_array(image: Image.Image, is_mask: bool = False) -> np.ndarray:
    """The pixels of a PIL image, `(height, width[, channels])`.

    Grey images keep their bit depth, colours become RGB or RGBA, and the orientation in the file is applied. The alpha
    channel of a grey image is dropped; that of a mask is kept, as the labels may be in it. A mask with a palette gives
    the indices, which are its labels, or the displayed values if the palette has two colours.

    Raises `ValueError` for a TIFF file that PIL decodes wrongly, and for a mask that stores white as 0.
    """
    if reason := misread(image, is_mask) or (is_mask and white_is_zero(image) and MASK_OF_WHITE_ZEROS):
        raise ValueError(reason)
    tags = getattr(image, "tag_v2", {})
    image = ImageOps.exif_transpose(image)
    if is_mask and image.mode == "P":
        return _palette_mask(image)
    if is_mask and image.mode == "PA":
        return np.dstack([np.array(image.getchannel(0)), np.array(image.getchannel(1))])
    if is_mask and "transparency" in image.info and image.mode in ("L", "RGB"):
        image = image.convert("RGBA")
    elif image.mode in ("RGBa", "La"):
        image = image.convert(image.mode.upper())
    if image.mode == "LA" and not is_mask:
        image = image.getchannel(0)
    elif image.mode not in PLAIN_MODES:
        image = image.convert("RGB")
    array = np.array(image)  # a copy, since PyTorch warns about read-only arrays
    return _by_tags(array.astype(array.dtype.newbyteorder("="), copy=False), tags)


def _by_tags(array: np.ndarray, tags: Any) -> np.ndarray:
    """The pixels of a TIFF file with the sign and grey direction in its tags, which PIL does not apply."""
    is_signed, bits = _number_format(tags)
    if is_signed and bits == 8:
        return array.view(np.int8)
    if array.dtype == np.int32 and bits == 32 and not is_signed:
        return array.view(np.uint32)
    if bits > 8 and tags.get(_PHOTOMETRIC) == _WHITE_IS_ZERO:
        return np.iinfo(array.dtype).max - array if array.dtype == np.uint16 else array.max() + array.min() - array
    return array


def _number_format(tags: Any) -> tuple[bool, int]:
    """Whether the pixels of a TIFF file are signed integers, and their bits; (False, 8) for any other file."""
    return max(tags.get(_SAMPLE_FORMAT) or (1,)) == _SIGNED, max(tags.get(_BITS) or (8,))


def _palette_mask(image: Image.Image) -> np.ndarray:
    """The palette indices of a mask; for two colours the displayed values, of which the dark one is the background."""
    indices = np.array(image)
    entries = np.array(image.getpalette() or [], np.uint8).reshape(-1, 3)
    colours = np.zeros((256, 3), np.uint8)
    colours[: len(entries)] = entries
    used = np.unique(indices)
    if len(entries) and len(used) > 1 and (colours[used] == colours[used[0]]).all():
        if "transparency" in image.info:
            return np.array(image.convert("RGBA"))  # the mask is in the alpha channel
        raise ValueError("its palette shows all of it in one colour: save label numbers as one channel of grey")
    black, white = colours.max(1) == 0, colours.min(1) >= NEARLY_WHITE
    is_black_and_white = (black | white)[: len(entries)].all() and white.any() and black[: len(entries)].any()
    if is_black_and_white or (len(used) == 2 and white[used].any() and black[used].any()):
        return np.where(white[indices], WHITE, 0).astype(np.uint8)
    if len(used) == 2 and used[0] == 0 and colours[used[1]].max() <= NEARLY_BLACK < colours[0].max():
        return np.where(indices == 0, used[1], 0).astype(np.uint8)
    return indices


def misread(image: Image.Image, is_mask: bool = False) -> str | None:
    """Why PIL would decode this file wrongly; `None` if it decodes it correctly. Call before the pixels are loaded.

    PIL returns the upper 8 of 16-bit colours, which do not hold the labels of a mask.
    """
    if image.format == "BMP" and image.info.get("compression") == _RLE4:
        return "it is a BMP of 16 colours packed as RLE4, which Pillow shifts; save it as PNG"
    tags = getattr(image, "tag_v2", {})
    is_signed, bits = _number_format(tags)
    is_colour = len(image.getbands()) > 1
    if bits == 16 and is_colour and (is_mask or tags.get(_PLANAR) == _SEPARATE):
        return "it is a 16-bit TIFF in colour"
    if is_mask and is_colour and any(";16" in str(tile[-1]) for tile in getattr(image, "tile", [])):
        return "it is a 16-bit image in colour: save the mask as one channel of label numbers"
    if is_signed and white_is_zero(image):
        return f"it is a TIFF of signed {bits}-bit numbers that shows 0 as white"
    return None


def white_is_zero(image: Image.Image) -> bool:
    return getattr(image, "tag_v2", {}).get(_PHOTOMETRIC) == _WHITE_IS_ZERO


def unreadable(error: Exception) -> str:
    """Why a library could not read a file, and what to do."""
    if isinstance(error, MemoryError):
        return "damaged, or larger than the memory. Fetch or export the file again, or split it first."
    cause = error if isinstance(error, OSError) else f"{type(error).__name__}: {error}"
    if any(word in str(error).lower() for word in ("unsupported", "not support", "too large", "palette size")):
        return f"not readable, damaged or of an unsupported format ({cause}). Save it as PNG, or fetch it again."
    return f"not readable, corrupt or cut short ({cause}). Fetch or export the file again, or leave it out."


def page_count(image: Image.Image) -> int:
    """The number of images in a file, not counting the preview in a phone's JPEG."""
    return 1 if image.format == "MPO" else getattr(image, "n_frames", 1)


def read_plain_file(path: str | os.PathLike, is_mask: bool = False) -> np.ndarray:
    """The pixels of a file in a format that PIL reads. Raises `ValueError` for other formats and several pages."""
    try:
        image = Image.open(path, formats=PIL_FORMATS)
    except (FileNotFoundError, IsADirectoryError, PermissionError):
        raise
    except DAMAGE as error:
        raise ValueError(
            f"{path}: not readable as {PLAIN_FORMATS} ({error}). For DICOM, NIfTI and further kinds of TIFF, pip "
            "install 'tevia_hf[medical]' and `import tevia_hf`; fetch a damaged file again."
        ) from error
    with image:
        return one_page(image, str(path), is_mask, "Save each page as a file of its own")


def one_page(
    image: Image.Image,
    name: str,
    is_mask: bool = False,
    advice: str = "Choose one (`image.seek(number)`, then give `image.copy()`)",
) -> np.ndarray:
    """The pixels of a PIL image with one page, as `image_to_array` returns them.

    Args:
        name: of the image, for errors.
        advice: the fix in the error for several pages.

    Raises `ValueError` if the image cannot be read or has several pages.
    """
    try:
        pages, reason = page_count(image), misread(image, is_mask)
        if pages == 1 and reason is None:
            image.load()
    except DAMAGE as error:
        raise ValueError(f"{name}: {unreadable(error)}") from error
    if pages > 1:
        raise ValueError(f"{name}: holds {pages} pages, one is expected. {advice}.")
    if reason:
        raise ValueError(f"{name}: {reason}.")
    try:
        return image_to_array(image, is_mask)
    except ValueError as error:
        raise ValueError(f"{name}: {error}.") from error


def channels_first(array: np.ndarray, name: str, layout: str | None = None, is_mask: bool = False) -> np.ndarray:
    """The pixels as (1 or 3, height, width), alpha dropped; a mask keeps its alpha.

    Args:
        layout: "channels_first" or "channels_last"; `None` infers it from the shape.

    Raises `ValueError` for other shapes and for ambiguous ones.
    """
    channels = (*CHANNELS, 2) if is_mask else CHANNELS
    if array.ndim == 2:
        array = array[None]
    elif array.ndim == 3 and (layout or layout_of(array.shape, name, channels)) == "channels_last":
        array = np.moveaxis(array, -1, 0)
    if array.ndim != 3 or array.shape[0] not in channels or array.size == 0:
        raise ValueError(
            f"{name} has {f'{len(array)} channels' if layout and array.ndim == 3 else f'shape {array.shape}'}: give "
            "(height, width), (height, width, channels) or (channels, height, width) with 1, 3 or 4 channels."
        )
    return array if is_mask else array[:3]


def layout_of(shape: tuple[int, ...], name: str, channels: tuple[int, ...] = CHANNELS) -> str:
    if shape[0] in channels and shape[-1] in channels:
        raise ValueError(
            f"{name} has shape {shape}, whose channels may come first or last: set input_data_format="
            '"channels_first" or "channels_last", or give a PIL image.'
        )
    return "channels_last" if shape[-1] in channels else "channels_first"


def value_range(pixels: np.ndarray) -> tuple[float, float] | None:
    """The minimum and maximum of pixels that `scaled_to_unit` scales by them; `None` for other ones."""
    if pixels.dtype in (np.uint8, bool):
        return None
    low, high = float(pixels.min()), float(pixels.max())
    return None if np.issubdtype(pixels.dtype, np.floating) and low >= 0 and high <= 1 else (low, high)


def scaled_to_unit(pixels: np.ndarray, limits: tuple[float, float] | None = None) -> np.ndarray:
    """Pixels as float32 in [0, 1]: 8 bit divided by 255; booleans and floats in [0, 1] unchanged; other types scaled
    from their minimum and maximum, a constant array to 0.

    Args:
        limits: the `value_range` of the image of which these are a part.
    """
    limits = limits or value_range(pixels)
    if limits is None:
        return pixels.astype(np.float32) / (WHITE if pixels.dtype == np.uint8 else 1)
    low, high = limits
    return ((pixels.astype(np.float64) - low) / ((high - low) or 1.0)).astype(np.float32)


def unit_pixels(pixels: np.ndarray, name: str) -> np.ndarray:
    """`scaled_to_unit` of an image. Raises `ValueError` for NaN and infinite pixels."""
    if np.issubdtype(pixels.dtype, np.floating) and not np.isfinite(pixels).all():
        raise ValueError(f"{name} holds NaN or infinite pixels: replace them (numpy.nan_to_num) or leave it out.")
    return scaled_to_unit(pixels)


__all__ = [
    "CHANNELS",
    "PIL_FORMATS",
    "channels_first",
    "image_to_array",
    "misread",
    "one_page",
    "page_count",
    "read_plain_file",
    "scaled_to_unit",
    "unit_pixels",
    "unreadable",
    "value_range",
    "white_is_zero",
]
