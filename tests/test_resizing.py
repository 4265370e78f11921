"""NumPy's resizing is torch's."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from tevia_hf.inference.resizing import resized

RULES = [("nearest", False), ("bilinear", False), ("bilinear", True), ("bicubic", False), ("bicubic", True)]
SIZES = [
    ((40, 57), (32, 32)),
    ((7, 9), (40, 50)),
    ((333, 12), (100, 2)),
    ((304, 40), (224, 9)),
    ((1, 3), (5, 2)),
    ((20, 20), (20, 9)),
]


@pytest.mark.parametrize(("old", "new"), SIZES, ids=str)
@pytest.mark.parametrize(("mode", "antialias"), RULES, ids=str)
def test_resized_maps_are_those_of_torch(mode, antialias, old, new):
    maps = np.random.default_rng(0).random((2, *old), np.float32)
    expected = F.interpolate(torch.from_numpy(maps)[None], size=new, mode=mode, antialias=antialias)[0].numpy()
    np.testing.assert_allclose(resized(maps, new, mode, antialias), expected, atol=3e-6)


def test_maps_of_the_same_size_are_unchanged():
    maps = np.random.default_rng(0).random((1, 5, 6), np.float32)
    assert resized(maps, (5, 6), "bicubic", True) is maps
