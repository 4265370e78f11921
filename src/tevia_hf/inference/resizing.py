"""Resizing by torch's rules in NumPy: each output row and column is a weighted mean of input ones."""

from collections.abc import Callable

import numpy as np

HALF = np.float32(0.5)


def resized(maps: np.ndarray, size: tuple[int, int], mode: str, antialias: bool = False) -> np.ndarray:
    """Maps `(..., height, width)` float32 at another size, as `torch.nn.functional.interpolate` gives them.

    Args:
        maps: float32.
        size: the new height and width.
        mode: "nearest", "bilinear" or "bicubic"; pixels are areas (`align_corners=False`).
        antialias: widen the kernel where a side becomes shorter.
    """
    sides = list(zip(maps.shape[-2:], size, strict=True))
    if all(old == new for old, new in sides):
        return maps
    if mode == "nearest":
        rows, columns = (nearest(old, new) for old, new in sides)
        return maps[..., rows[:, None], columns]
    weigh = antialiased_weights if antialias else weights
    of_rows, of_columns = (weigh(old, new, mode) for old, new in sides)
    return of_rows @ maps @ of_columns.T


def nearest(old: int, new: int) -> np.ndarray:
    """The pixel of each output row or column; the scale is rounded as in torch."""
    places = np.floor(np.arange(new, dtype=np.float32) * np.float32(old / new)).astype(int)
    return places.clip(max=old - 1)


def weights(old: int, new: int, mode: str) -> np.ndarray:
    """The weights `(new, old)` of the nearest pixels; beyond the border, its pixels are repeated."""
    # Rounded where torch rounds (the scale, and once after it): from there on, weights and masks are equal to torch's.
    centres = (float(np.float32(old / new)) * (np.arange(new) + 0.5) - 0.5).astype(np.float32)
    if mode == "bilinear":
        centres = centres.clip(0, old - 1)
    kernel, reach = KERNELS[mode]
    first = np.floor(centres).astype(int)
    matrix = np.zeros((new, old), np.float32)
    for step in range(1 - reach, reach + 1):
        places = (first + step).clip(0, old - 1)
        np.add.at(matrix, (np.arange(new), places), kernel(centres - first - step, -0.75))
    return matrix


def antialiased_weights(old: int, new: int, mode: str) -> np.ndarray:
    """The weights `(new, old)`, which sum to one, of all pixels under a kernel as wide as the scale; none beyond."""
    scale = np.float32(max(old / new, 1))
    kernel, reach = KERNELS[mode]
    centres = np.float32(old / new) * (np.arange(new, dtype=np.float32)[:, None] + HALF)
    first, last = ((centres + side * reach * scale + HALF).astype(int) for side in (-1, 1))
    places = np.arange(old, dtype=np.float32)
    inside = kernel((places - centres + HALF) / scale, -0.5)
    matrix = np.where((places >= first) & (places < last), inside, 0)
    return (matrix / matrix.sum(1, keepdims=True)).astype(np.float32)


def linear(distance: np.ndarray, sharpness: float) -> np.ndarray:
    return np.maximum(0, 1 - np.abs(distance))


def cubic(distance: np.ndarray, sharpness: float) -> np.ndarray:
    """Keys' kernel (1981), whose derivative at 1 is `sharpness`: torch takes -0.75, and -0.5 with antialiasing."""
    x = np.abs(distance)
    near = ((sharpness + 2) * x - (sharpness + 3)) * x * x + 1
    far = (((x - 5) * x + 8) * x - 4) * sharpness
    return np.where(x < 1, near, np.where(x < 2, far, 0))


Kernel = Callable[[np.ndarray, float], np.ndarray]
KERNELS: dict[str, tuple[Kernel, int]] = {"bilinear": (linear, 1), "bicubic": (cubic, 2)}  # and its reach in pixels
