"""Images as PIL holds them, and files of the plain formats, to arrays; `tevia_hf.io` reads medical files too.

One of the two modules that everything in the package may import; a model's code takes it along to the Hub.
"""

import os

import numpy as np
from PIL import Image, ImageOps

# "LA", "P", "CMYK", ... have no plain meaning as channels; these have.
PLAIN_MODES = {"1", "L", "I", "F", "RGB", "RGBA", "I;16", "I;16B", "I;16L"}
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


__all__ = ["DAMAGE", "image_to_array", "read_plain_file"]
