"""What can be said of the lesions of a mask, measured on its pixels."""

from functools import cached_property

import numpy as np

from tevia_hf.extras import needed_for

with needed_for("Describing a mask"):
    from scipy import ndimage
    from scipy.spatial import ConvexHull

from tevia_hf.labels_tevia import is_lesion

SMALLEST_LESION = 1e-4  # of the picture; smaller ones are slips of the pen, as in BUSI's "malignant (19)"
TOUCHING = np.ones((3, 3), bool)  # pixels that meet at a corner belong to one lesion


class Lesions:
    """The lesions of a mask (height, width): labels above 0, but not 255, of which touching pixels make one lesion."""

    def __init__(self, mask: np.ndarray) -> None:
        labels = np.asarray(mask)
        if labels.ndim != 2:
            raise ValueError(f"The mask has shape {labels.shape}: give labels (height, width).")
        self.mask = is_lesion(labels)

    @cached_property
    def components(self) -> np.ndarray:
        """Number of the lesion of each pixel, 0 for none and for specks, unless there is nothing but specks."""
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
        """(row, column) of each lesion's centre, shares of height and width."""
        found = ndimage.center_of_mass(self.mask, self.components, range(1, self.count + 1))
        height, width = self.mask.shape
        return [((row + 0.5) / height, (column + 0.5) / width) for row, column in found]

    def largest_shape(self) -> tuple[float, float, float]:
        """Of the largest lesion elongation, length over width along its own axes, and two shares of 1: how much of the
        box along these axes it fills (a triangle 1/2, an ellipse 0.79, a rectangle all), and how much of its hull.
        """
        pixels = np.argwhere(self.components == int(self.areas.argmax()) + 1)
        starts = np.flatnonzero(np.diff(pixels[:, 0], prepend=-1))
        last = np.append(starts[1:], len(pixels)) - 1
        ends = pixels[np.append(starts, last)]  # of each row; the hull and the extent need no pixel between them
        corners = np.concatenate([ends + (down, across) for down in (0, 1) for across in (0, 1)])
        spread = np.cov(pixels.T) if len(pixels) > 1 else np.eye(2)
        width, length = np.sort(np.ptp(corners @ np.linalg.eigh(spread)[1], axis=0))
        area = len(pixels)
        return length / width, area / (length * width), area / ConvexHull(corners).volume
