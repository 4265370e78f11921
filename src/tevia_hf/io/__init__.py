"""Reading images and writing masks, by file suffix."""

from tevia_hf.io.address import ImageRef as ImageRef
from tevia_hf.io.address import has_slices as has_slices
from tevia_hf.io.address import is_image_file as is_image_file
from tevia_hf.io.address import is_medical as is_medical
from tevia_hf.io.address import parse_address as parse_address
from tevia_hf.io.address import parse_window as parse_window
from tevia_hf.io.address import stem as stem
from tevia_hf.io.address import supported_suffixes as supported_suffixes
from tevia_hf.io.address import with_window as with_window
from tevia_hf.io.medical_image import Geometry as Geometry
from tevia_hf.io.medical_image import MedicalImage as MedicalImage
from tevia_hf.io.readers import load_image as load_image
from tevia_hf.io.readers import read_image as read_image
from tevia_hf.io.readers import register_reader as register_reader
from tevia_hf.io.writers import MASK_SUFFIXES as MASK_SUFFIXES
from tevia_hf.io.writers import write_mask as write_mask
