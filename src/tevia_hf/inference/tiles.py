"""Prediction of large images in tiles, whose overlapping probabilities are blended."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..decoding_tevia import scaled_to_unit, value_range
from ..extras import needed_for
from ..option_checks_tevia import check_count, check_share_below_one

Box = tuple[slice, slice]  # rows and columns


@dataclass(frozen=True)
class Tiling:
    """How images are divided into square tiles, which the network sees one by one, at the same scale.

    Args:
        size: side of a tile in pixels of the image; each is resized to the size of the model's input.
        overlap: share of its side that a tile has in common with the next one.

    Raises `ValueError` for a value out of range.
    """

    size: int
    overlap: float = 0.25

    def __post_init__(self) -> None:
        check_count("tile", self.size, example="512", least=32)
        check_share_below_one("overlap", self.overlap, example="0.25")
        with needed_for("Predicting in tiles"):  # before any image is read
            import monai as monai
        object.__setattr__(self, "size", int(self.size))  # JSON knows no integers of NumPy
        object.__setattr__(self, "overlap", float(self.overlap))

    @classmethod
    def of(cls, tile: int | None, overlap: float | None) -> "Tiling | None":
        """The tiling of these options; `None` without `tile`. Raises `ValueError` for an overlap without tiles."""
        if tile is not None:
            return cls(tile) if overlap is None else cls(tile, overlap)
        if overlap is not None:
            raise ValueError("`overlap` is of tiles: give their side too, e.g. `--tile 512` (`tile=512`).")
        return None

    def boxes(self, height: int, width: int) -> list[Box]:
        """The tiles of an image, row by row, at the places of MONAI's sliding window.

        A tile reaches beyond an image that is smaller.
        """
        with needed_for("Predicting in tiles"):
            from monai.data.utils import dense_patch_slices

        step = max(1, int(self.size * (1 - self.overlap)))
        sides = max(height, self.size), max(width, self.size)
        return [(rows, columns) for rows, columns in dense_patch_slices(sides, (self.size,) * 2, (step, step))]

    def weights(self) -> np.ndarray:
        """The weight (size, size) of each pixel of a tile: MONAI's Gaussian, highest in the middle."""
        with needed_for("Predicting in tiles"):
            from monai.data.utils import compute_importance_map

        return compute_importance_map((self.size, self.size), mode="gaussian").numpy()


class Tiles:
    """The pixels of an image, tile by tile, with values scaled as in the whole image.

    Args:
        pixels: (height, width[, channels]), or `StoredPixels`.

    Raises `ValueError` for other shapes.
    """

    def __init__(self, pixels: Any):
        if pixels.ndim not in (2, 3) or 0 in pixels.shape:
            raise ValueError(f"the image has shape {pixels.shape}: give (height, width) or (height, width, channels).")
        self.pixels = pixels
        self.size = (pixels.shape[0], pixels.shape[1])
        self.limits = None if pixels.dtype == np.uint8 else value_range(without_alpha(pixels))

    def tile(self, box: Box) -> np.ndarray:
        """The pixels of a tile; those beyond the image are its mirror image."""
        rows, columns = box
        part = without_alpha(self.pixels[rows, columns])
        if self.limits is not None:
            part = scaled_to_unit(part, self.limits)
        beyond = [(0, rows.stop - rows.start - part.shape[0]), (0, columns.stop - columns.start - part.shape[1])]
        return np.pad(part, beyond + [(0, 0)] * (part.ndim - 2), mode="symmetric")


def without_alpha(pixels: np.ndarray) -> np.ndarray:
    return pixels[..., :3] if pixels.ndim == 3 else pixels


def blended_rows(
    results: Iterable[tuple[Box, np.ndarray]], tiling: Tiling, height: int, width: int
) -> Iterator[np.ndarray]:
    """The probabilities (..., rows, width) of an image, part by part from the top: means over its tiles.

    A pixel of a tile has the weight of its place there. As many rows as a tile has are in memory.

    Args:
        results: the tiles, row by row, and their probabilities (..., size, size).
        tiling: of these.
        height: of the image.
        width: of the image.
    """
    own, top = tiling.weights(), 0
    sums, weights = np.zeros(0), np.zeros((tiling.size, max(width, tiling.size)), np.float32)
    for (rows, columns), probabilities in results:
        if rows.start == 0 and columns.start == 0:
            sums = np.zeros((*probabilities.shape[:-2], *weights.shape), np.float32)
        if finished := rows.start - top:
            yield (sums[..., :finished, :] / weights[:finished])[..., :width]
            sums, weights = (
                np.concatenate([each[..., finished:, :], np.zeros_like(each[..., :finished, :])], axis=-2)
                for each in (sums, weights)
            )
            top = rows.start
        sums[..., columns] += probabilities * own
        weights[..., columns] += own
    yield (sums / weights)[..., : height - top, :width]
