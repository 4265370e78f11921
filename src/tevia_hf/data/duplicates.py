"""Images that are the same, or nearly."""

import hashlib
from collections.abc import Iterator

import numpy as np
from PIL import Image

THUMBNAIL = 32
NEARLY_EQUAL = 0.997  # correlation of thumbnails; re-encoded or slightly cropped copies lie above
_BLOCK = 1024


def fingerprint(pixels: np.ndarray) -> str:
    """Equal for images with equal pixels."""
    return hashlib.sha1(f"{pixels.shape}{pixels.dtype}".encode() + np.ascontiguousarray(pixels).tobytes()).hexdigest()


def thumbnail(pixels: np.ndarray) -> np.ndarray:
    """The image (height, width[, channels]) as 32 x 32 grey values of mean 0 and length 1, (1024,) float32."""
    grey = pixels[..., :3].mean(-1) if pixels.ndim == 3 else pixels
    small = Image.fromarray(grey.astype(np.float32)).resize((THUMBNAIL, THUMBNAIL), Image.Resampling.BOX)
    values = np.asarray(small, np.float64).ravel()
    values = values - values.mean()
    return (values / (np.linalg.norm(values) or 1.0)).astype(np.float32)


def near_duplicates(thumbnails: np.ndarray, threshold: float = NEARLY_EQUAL) -> Iterator[tuple[int, int]]:
    """Pairs of rows (first < second) of (images, 1024) thumbnails that correlate by `threshold` or more."""
    for start in range(0, len(thumbnails), _BLOCK):
        similar = thumbnails[start : start + _BLOCK] @ thumbnails[start:].T >= threshold
        for row, column in np.argwhere(np.triu(similar, 1)):
            yield start + int(row), start + int(column)
