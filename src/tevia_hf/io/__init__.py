"""Reading images and writing masks, by file suffix."""

from tevia_hf.io.address import (
    ImageRef,
    has_slices,
    is_image_file,
    is_medical,
    parse_address,
    parse_window,
    stem,
    supported_suffixes,
    with_window,
)
from tevia_hf.io.medical_image import Geometry, MedicalImage
from tevia_hf.io.readers import load_image, read_image, register_reader
from tevia_hf.io.writers import MASK_SUFFIXES, write_mask

__all__ = [
    "MASK_SUFFIXES",
    "Geometry",
    "ImageRef",
    "MedicalImage",
    "has_slices",
    "is_image_file",
    "is_medical",
    "load_image",
    "parse_address",
    "parse_window",
    "read_image",
    "register_reader",
    "stem",
    "supported_suffixes",
    "with_window",
    "write_mask",
]
