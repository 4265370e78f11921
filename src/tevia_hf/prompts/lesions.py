"""Measurements of the lesions of a mask."""

from functools import cached_property

import numpy as np

from tevia_hf.extras import needed_for

with needed_for("Describing a mask"):
    from scipy import ndimage
    from scipy.spatial import ConvexHull

from tevia_hf.labels_tevia import is_lesion

SMALLEST_LESION = 1e-4  # of the image; smaller ones are annotation artefacts, as in BUSI's "malignant (19)"
TOUCHING = np.ones((3, 3), bool)  # 8-connectivity


class Lesions:
    """The connected lesions of a mask (height, width): pixels with labels above 0 other than 255."""

    def __init__(self, mask: np.ndarray) -> None:
        labels = np.asarray(mask)
        if labels.ndim != 2:
            raise ValueError(f"The mask has shape {labels.shape}: give labels (height, width).")
        self.mask = is_lesion(labels)

    @cached_property
    def components(self) -> np.ndarray:
        """Number of the lesion of each pixel; 0 for background and for artefacts, unless there are only artefacts."""
        numbers, count = ndimage.label(self.mask, TOUCHING)
        areas = np.bincount(numbers.ravel(), minlength=count + 1)[1:]
        kept = areas >= min(SMALLEST_LESION * self.mask.size, areas.max(initial=0))
        return np.append(0, np.where(kept, kept.cumsum(), 0))[numbers]

    @cached_property
    def areas(self) -> np.ndarray:
        """Pixels of each lesion."""
        return np.bincount(self.components.ravel())[1:]

    @property
    def count(self) -> int:
        return len(self.areas)

    def centres(self) -> list[tuple[float, float]]:
        """(row, column) of each lesion's centre, as shares of height and width."""
        centres = ndimage.center_of_mass(self.mask, self.components, range(1, self.count + 1))
        height, width = self.mask.shape
        return [((row + 0.5) / height, (column + 0.5) / width) for row, column in centres]

    def largest_shape(self) -> tuple[float, float, float]:
        """Elongation, extent and solidity of the largest lesion.

        Elongation is length over width along its principal axes, extent its share of the box along these axes (triangle
        1/2, ellipse 0.79, rectangle 1), and solidity its share of the convex hull.
        """
        pixels = np.argwhere(self.components == int(self.areas.argmax()) + 1)
        starts = np.flatnonzero(np.diff(pixels[:, 0], prepend=-1))
        last = np.append(starts[1:], len(pixels)) - 1
        ends = pixels[np.append(starts, last)]  # of each row; pixels between them do not change hull and extent
        corners = np.concatenate([ends + (down, across) for down in (0, 1) for across in (0, 1)])
        spread = np.cov(pixels.T) if len(pixels) > 1 else np.eye(2)
        width, length = np.sort(np.ptp(corners @ np.linalg.eigh(spread)[1], axis=0))
        area = len(pixels)
        return length / width, area / (length * width), area / ConvexHull(corners).volume
