"""Reading images and writing masks, by file suffix."""

from tevia_hf.io.address import (
    MASK_SUFFIXES,
    SUFFIXES,
    Address,
    is_image_file,
    is_medical,
    parse_address,
    parse_window,
    stem,
    with_window,
)
from tevia_hf.io.matlab import read_brain_tumor_record
from tevia_hf.io.medical_image import Geometry, MedicalImage
from tevia_hf.io.readers import read_image, to_array
from tevia_hf.io.writers import write_mask

__all__ = [
    "MASK_SUFFIXES",
    "SUFFIXES",
    "Address",
    "Geometry",
    "MedicalImage",
    "is_image_file",
    "is_medical",
    "parse_address",
    "parse_window",
    "read_brain_tumor_record",
    "read_image",
    "stem",
    "to_array",
    "with_window",
    "write_mask",
]
