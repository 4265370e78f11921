"""Reading of PNG, JPEG, TIFF and other common formats."""

import math
from pathlib import Path

import numpy as np
from PIL import Image

from tevia_hf.decoding_tevia import CHANNELS, DAMAGE, MASK_OF_WHITE_ZEROS, ORIENTATION, PIL_FORMATS, misread, one_page
from tevia_hf.extras import needed_for
from tevia_hf.io.address import TIFF_SUFFIXES, ImageRef, is_dicom
from tevia_hf.io.dicom import read_dicom
from tevia_hf.io.medical_image import Geometry, MedicalImage
from tevia_hf.io.pixels import IF_TOO_LARGE, MAX_PIXELS, apply_orientation_tag, check_size
from tevia_hf.labels_tevia import WHITE

_CHANNELS_ADVICE = "1, 3 or 4 are expected. Save the intended channel as a file of its own."
_PAGES_ADVICE = "Save each page as a file of its own; `tevia predict --tile 512` takes a pyramid of one image"
_PREMULTIPLIED = 1  # value of ExtraSamples: colours are stored multiplied by their alpha
_NOT_IN_PILLOW = ("webp",)  # TIFF compressions that the wheels of Pillow cannot decode


def read_plain(address: ImageRef, is_mask: bool = False, most_pixels: int | None = None) -> MedicalImage:
    """One image of 8 or 16 bits or floats, rotated by its EXIF orientation; tifffile reads TIFFs that Pillow cannot.

    Raises `ValueError` for a file that is damaged, too large, has several pages, or cannot be read correctly.
    """
    path = address.path
    try:
        image = Image.open(path, formats=PIL_FORMATS)
    except Image.DecompressionBombError as error:
        raise ValueError(f"{path}: claims more than {MAX_PIXELS:,} pixels. {IF_TOO_LARGE}") from error
    except DAMAGE:
        if is_dicom(path):
            return read_dicom(address, is_mask, most_pixels)
        if not path.name.lower().endswith(TIFF_SUFFIXES):
            raise
        return _read_tiff(path, is_mask, most_pixels)
    with image:
        if most_pixels is not None:
            check_size(image.height, image.width, path, most_pixels)
        is_for_tifffile = misread(image, is_mask) or image.info.get("compression") in _NOT_IN_PILLOW
        if image.format == "TIFF" and is_for_tifffile:
            return _read_tiff(path, is_mask, most_pixels)
        orientation = image.getexif().get(ORIENTATION, 1)
        pixels = one_page(image, str(path), is_mask, _PAGES_ADVICE)
    return MedicalImage(pixels, source=Geometry(path, orientation=orientation))


def _read_tiff(path: Path, is_mask: bool, most_pixels: int | None) -> MedicalImage:
    with needed_for(f"{path}: reading this kind of TIFF"):
        from tifffile import COMPRESSION, PHOTOMETRIC, TiffFile
    with TiffFile(path) as file:
        if len(file.pages) != 1:
            raise ValueError(f"{path}: holds {len(file.pages)} pages, one is expected. {_PAGES_ADVICE}.")
        page = file.pages.first
        check_size(page.imagelength, page.imagewidth, path, most_pixels)
        form, packing = PHOTOMETRIC(page.photometric), COMPRESSION(page.compression)
        kind = (
            f"{path}: a TIFF of {page.dtype} numbers in {page.samplesperpixel} channels ({form.name}, {packing.name})"
        )
        if page.samplesperpixel > max(CHANNELS):
            raise ValueError(f"{kind}: {_CHANNELS_ADVICE}")
        if len(page.dataoffsets) < math.prod(page.chunked):  # tifffile would fill the rest with zeros
            raise ValueError(f"{path}: corrupt or cut short, parts of it are missing. Fetch or export the file again.")
        if page.imagedepth != 1:
            raise ValueError(f"{path}: holds a volume of {page.imagedepth} slices. Save each as a file of its own.")
        if form not in (PHOTOMETRIC.MINISWHITE, PHOTOMETRIC.MINISBLACK, PHOTOMETRIC.RGB):
            raise ValueError(f"{kind} cannot be read. Save it as PNG or as plain TIFF.")
        if is_mask and form == PHOTOMETRIC.MINISWHITE:
            raise ValueError(f"{path}: {MASK_OF_WHITE_ZEROS}.")
        try:
            pixels = page.asarray()
        except ValueError as error:  # a compression that needs imagecodecs, or damage
            raise ValueError(
                f"{kind} cannot be decoded ({error}). pip install imagecodecs, or save it without compression; fetch "
                "a damaged file again."
            ) from error
        orientation = page.tags.valueof("Orientation", default=1)
        pixels = apply_orientation_tag(np.moveaxis(pixels, 0, -1) if page.axes.startswith("S") else pixels, orientation)
        if _PREMULTIPLIED in page.extrasamples and pixels.ndim == 3 and pixels.dtype.kind == "u":
            pixels = _unmultiplied(pixels)
    pixels = _supported(pixels, form == PHOTOMETRIC.MINISWHITE, is_mask, kind)
    return MedicalImage(pixels, source=Geometry(path, orientation=orientation))


def _unmultiplied(pixels: np.ndarray) -> np.ndarray:
    """Colours divided by their alpha, the last channel."""
    maximum, alpha = np.iinfo(pixels.dtype).max, pixels[..., -1:].astype(np.float64)
    colours = np.round(pixels[..., :-1] * (maximum / np.maximum(alpha, 1))).clip(0, maximum)
    return np.concatenate([colours.astype(pixels.dtype), pixels[..., -1:]], axis=-1)


def _supported(pixels: np.ndarray, shows_zero_as_white: bool, is_mask: bool, kind: str) -> np.ndarray:
    """Pixels of any number type in a supported one: magnitudes, float32, colours of 8 bits."""
    if pixels.ndim == 3 and pixels.shape[-1] not in CHANNELS:
        raise ValueError(f"{kind}: {_CHANNELS_ADVICE}")
    if np.iscomplexobj(pixels):
        if is_mask:
            raise ValueError(f"{kind} is not a mask. Save the labels as whole numbers.")
        pixels = np.abs(pixels)
    if pixels.dtype.kind == "f":
        pixels = pixels.astype(np.float32) if pixels.dtype.itemsize < 4 else pixels
    elif pixels.ndim == 3 and pixels.dtype == np.uint16 and not is_mask:
        pixels = np.round(pixels * (WHITE / (2.0**16 - 1))).astype(np.uint8)
    if not shows_zero_as_white:
        return pixels
    as_floats = pixels.astype(np.float64)
    return as_floats.max() + as_floats.min() - as_floats
