"""Reading images and writing masks, by file suffix."""

from tevia_hf.io.readers import SUFFIXES, read_image, to_array
from tevia_hf.io.writers import write_mask

__all__ = ["SUFFIXES", "read_image", "to_array", "write_mask"]
