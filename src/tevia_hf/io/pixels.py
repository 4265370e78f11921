"""Conversion of stored values to image intensities and labels."""

from pathlib import Path

import numpy as np

from tevia_hf.io.address import ImageRef, Window

MAX_PIXELS = 178_956_970  # of one image or slice; Pillow's limit against decompression bombs
IF_TOO_LARGE = "Shrink it, or save it as 8-bit TIFF with tiles and predict it by `--tile 512` (extra medical)."
ROUNDING = 1e-4  # error of labels that a header scales, such as 1 by 255 * 0.003921569
MAX_FULL_SLICES = 64  # of that size in a volume, as a compressed file must be unpacked


def to_unit(values: np.ndarray, window: Window | None, valid: np.ndarray | None = None) -> np.ndarray:
    """Values scaled to float32 from 0 to 1 and clipped at the ends of the window (centre, width).

    Without a window, the range is that of the `valid` values.
    """
    if window is None:
        selected = values if valid is None or not valid.any() else values[valid]
        low, high = float(selected.min()), float(selected.max())
    else:
        low, high = window[0] - window[1] / 2, window[0] + window[1] / 2
    scaled = (values.astype(np.float64) - low) / ((high - low) or 1.0)
    return scaled.clip(0, 1).astype(np.float32)


def apply_orientation_tag(pixels: np.ndarray, orientation: int) -> np.ndarray:
    """Stored pixels (height, width[, channels]) rotated and mirrored by the EXIF orientation, as viewers do."""
    turned = np.swapaxes(pixels, 0, 1) if orientation in (5, 6, 7, 8) else pixels
    if orientation in (3, 4, 7, 8):
        turned = turned[::-1]
    return np.ascontiguousarray(turned[:, ::-1] if orientation in (2, 3, 6, 7) else turned)


def to_whole_numbers(values: np.ndarray, path: Path) -> np.ndarray:
    """A stored mask as integers (height, width); three equal channels are reduced to one.

    Rounding errors of labels that a header scales are removed.

    Raises `ValueError` if the values are no whole numbers.
    """
    if np.iscomplexobj(values):
        raise ValueError(f"{path}: a mask must hold whole numbers, this one holds complex numbers. Save the labels.")
    if values.ndim == 3 and (values == values[..., :1]).all():
        values = values[..., 0]
    if values.ndim == 3:
        raise ValueError(f"{path}: a mask in colour has no labels. Save it as one channel of label numbers.")
    check_finite(values, path)
    labels = np.round(values).astype(np.int32)
    if np.abs(labels - values).max(initial=0) > ROUNDING:
        raise ValueError(f"{path}: a mask must hold whole numbers, this one does not. Save labels, not probabilities.")
    fits = labels.size and labels.min() >= 0 and labels.max() <= np.iinfo(np.uint8).max
    return labels.astype(np.uint8) if fits else labels


def check_finite(values: np.ndarray, path: Path) -> None:
    """Raises `ValueError` for values that are NaN or infinite, which no window can display."""
    if bad := int((~np.isfinite(values)).sum()):
        raise ValueError(f"{path}: {bad} pixels are NaN or infinite. Replace them, e.g. by the value of air.")


def choose_number(address: ImageRef, count: int, what: str) -> int:
    """The number of the slice or frame. Raises `ValueError` with the valid range if it is missing or invalid."""
    number = address.number
    if number == "middle":
        return count // 2
    if number is None and count == 1:
        return 0
    if not isinstance(number, int) or number >= count:
        plane = "" if address.plane == "axial" else f"{address.plane}:"
        raise ValueError(
            f"{address.path}: holds {count} {what}, 0 to {count - 1}; "
            f"{'none is selected' if number is None else f'not {number}'}. "
            f"Select one, e.g. {address.path.name}#{plane}{count // 2}."
        )
    return number


def check_size(height: int, width: int, path: Path, most_pixels: int | None) -> None:
    """Raises `ValueError` for an image so large that it may fill the memory."""
    most_pixels = most_pixels or MAX_PIXELS
    if height * width > most_pixels:
        raise ValueError(f"{path}: claims {height} x {width} pixels, more than {most_pixels:,}. {IF_TOO_LARGE}")
