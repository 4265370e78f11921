"""Masks made for tests."""

import numpy as np


def blobs(seed: int, size: tuple[int, int] = (60, 81)) -> np.ndarray:
    """A mask of one to five ellipses, their radii up to a third of the picture."""
    rng = np.random.default_rng(seed)
    rows, columns = np.mgrid[: size[0], : size[1]]
    mask = np.zeros(size, bool)
    for _ in range(rng.integers(1, 6)):
        centre, radii = rng.uniform(0, 1, 2) * size, rng.uniform(1, min(size) / 3, 2)
        mask |= ((rows - centre[0]) / radii[0]) ** 2 + ((columns - centre[1]) / radii[1]) ** 2 <= 1
    return mask
