"""Image files to numpy arrays."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

# "LA", "P", "CMYK", ... have no plain meaning as channels; these have.
_KEPT_MODES = {"1", "L", "I", "F", "RGB", "RGBA", "I;16", "I;16B", "I;16L"}


def read_image(path: str | Path, keep_palette: bool = False) -> np.ndarray:
    """The pixels of an image file, (height, width) or (height, width, channels), with the file's own 8- or 16-bit type.

    A 1-bit file gives booleans. CMYK files give RGB. So do palette files, or with `keep_palette` their indices, which
    are the labels of a mask. A rotation noted in the file is carried out.

    Raises:
        FileNotFoundError: No such file.
        ValueError: A suffix that is not supported, or a file that is corrupt, cut short or of several pages.
    """
    path = Path(path)
    reader = _READERS.get(path.suffix.lower())
    if reader is None:
        raise ValueError(
            f"{path}: files ending in '{path.suffix}' cannot be read. "
            f"Supported: {', '.join(SUFFIXES)}. Convert it to PNG."
        )
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such file. Check the path.")
    return reader(path, keep_palette)


def to_array(image: Image.Image, keep_palette: bool = False) -> np.ndarray:
    """The pixels of a PIL image by the rules of `read_image`."""
    image = ImageOps.exif_transpose(image)
    if image.mode == "LA":
        image = image.convert("L")
    elif image.mode not in _KEPT_MODES and not (keep_palette and image.mode == "P"):
        image = image.convert("RGB")
    array = np.array(image)  # a copy: PyTorch warns of the read-only view
    return array.astype(array.dtype.newbyteorder("="), copy=False)


def _read_with_pillow(path: Path, keep_palette: bool) -> np.ndarray:
    try:
        with Image.open(path) as image:
            pages = getattr(image, "n_frames", 1)
            array = to_array(image, keep_palette)
    except Exception as error:  # Pillow's decoders raise nearly anything on damaged bytes
        raise ValueError(
            f"{path}: not readable as an image, corrupt or cut short ({error}). Fetch or export the file again, "
            "or leave it and its row out."
        ) from error
    if pages > 1:
        raise ValueError(f"{path}: holds {pages} pages, one is expected. Save each page as a file of its own.")
    return array


_READERS: dict[str, Callable[[Path, bool], np.ndarray]] = dict.fromkeys(
    (".png", ".jpg", ".jpeg", ".tif", ".tiff"), _read_with_pillow
)
SUFFIXES = tuple(_READERS)
