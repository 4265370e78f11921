"""Masks to image files."""

from pathlib import Path

import numpy as np
from PIL import Image


def write_mask(path: str | Path, mask: np.ndarray, num_labels: int = 1) -> Path:
    """Writes a mask as an 8-bit grey PNG and gives its path; missing folders are made.

    Args:
        path: Ends in ".png".
        mask: (height, width), boolean or integer.
        num_labels: 1: the mask is 0/1 or 0/255 and is written as 0 and 255, to be seen in any viewer. More: labels
            0 to num_labels - 1, and 255, are written as they are.

    Raises:
        ValueError: Another suffix, another shape, or values that are no labels.
    """
    path, mask = Path(path), np.asarray(mask)
    if path.suffix.lower() != ".png":
        raise ValueError(
            f"{path}: masks are written as PNG, which loses nothing. Use '{path.with_suffix('.png').name}'."
        )
    if mask.ndim != 2:
        raise ValueError(
            f"{path}: the mask has shape {mask.shape}, (height, width) is expected. Write one mask at a time."
        )
    values = set(np.unique(mask).tolist())
    allowed = ({0, 1}, {0, 255}) if num_labels == 1 else (set(range(num_labels)) | {255},)
    if not any(values <= choice for choice in allowed):
        expected = "0/1 or 0/255" if num_labels == 1 else f"0 to {num_labels - 1} and 255"
        raise ValueError(
            f"{path}: the mask holds {sorted(values)[:10]}, but num_labels={num_labels} allows {expected}. "
            "Threshold the mask, or pass the number of labels."
        )
    pixels = (mask > 0).astype(np.uint8) * 255 if num_labels == 1 else mask.astype(np.uint8)
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)
    return path
