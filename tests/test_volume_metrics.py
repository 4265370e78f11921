"""Scores of volumes, against values computed by hand and against all distances between surfaces."""

import numpy as np
import pytest
from scipy.ndimage import binary_erosion
from scipy.spatial.distance import cdist

from tevia_hf import volume_metrics
from tevia_hf.metrics import image_metrics

SHAPE, SPACING = (12, 20, 16), (2.5, 0.5, 0.8)


def box(*sides, label=1):
    volume = np.zeros(SHAPE, np.uint8)
    volume[tuple(slice(*side) for side in sides)] = label
    return volume


def test_two_boxes_shifted_by_two_slices_have_the_scores_computed_by_hand():
    predicted, true = box((2, 6), (4, 10), (5, 9)), box((4, 8), (4, 10), (5, 9))  # 2 of 4 slices overlap
    scores = volume_metrics(predicted, true, SPACING)
    assert scores["dice"] == pytest.approx(0.5) and scores["iou"] == pytest.approx(1 / 3)
    # The bottom face is two slices below the other box, of which it is a quarter of the surface or so.
    assert scores["hd95"] == pytest.approx(5.0)
    assert volume_metrics(predicted, true, SPACING, surface_tolerance=5.0)["surface_dice"] == 1.0


def test_one_slice_more_of_a_thin_lesion_has_the_scores_computed_by_hand():
    predicted, true = box((3, 5), (4, 6), (5, 7)), box((3, 4), (4, 6), (5, 7))  # 8 voxels and 4 of them
    scores = volume_metrics(predicted, true, SPACING)
    assert scores["dice"] == pytest.approx(2 * 4 / 12) and scores["hd95"] == pytest.approx(2.5)
    # All voxels are surface: 4 of 8 and 4 of 4 within 2 mm of the other.
    assert scores["surface_dice"] == pytest.approx((4 + 4) / (8 + 4))


@pytest.mark.parametrize("is_at_border", [False, True])
def test_distances_are_those_between_all_surface_voxels(is_at_border):
    rng = np.random.default_rng(0)
    masks = [rng.random(SHAPE) > 0.7 for _ in range(2)]
    for mask in masks:
        mask[:, 8:] = False
        if not is_at_border:
            mask[0] = mask[-1] = mask[:, 0] = mask[:, :, 0] = mask[:, :, -1] = False
    points = [np.argwhere(mask & ~binary_erosion(mask)) * SPACING for mask in masks]
    between = cdist(*points)
    directions = between.min(1), between.min(0)
    scores = volume_metrics(*(mask.astype(np.uint8) for mask in masks), SPACING, surface_tolerance=0.6)
    assert scores["hd95"] == pytest.approx(max(np.percentile(one, 95) for one in directions), rel=1e-5)
    close = sum((one <= 0.6).sum() for one in directions) / sum(map(len, directions))
    assert scores["surface_dice"] == pytest.approx(close)


def test_the_spacing_may_mix_integers_and_fractions():
    pair = box((2, 6), (4, 10), (5, 9)), box((4, 8), (4, 10), (5, 9))
    assert volume_metrics(*pair, (4, 1.5, 1)) == volume_metrics(*pair, (4.0, 1.5, 1.0))


def test_empty_volumes_are_perfect_and_a_missed_lesion_is_as_far_as_the_volume_is_large():
    lesion, lesion_free = box((3, 5), (4, 6), (5, 7)), np.zeros(SHAPE, np.uint8)
    assert volume_metrics(lesion_free, lesion_free) == {"dice": 1, "iou": 1, "hd95": 0, "surface_dice": 1}
    for pair in ((lesion, lesion_free), (lesion_free, lesion)):
        scores = volume_metrics(*pair, SPACING)
        assert scores["hd95"] == pytest.approx(np.hypot(np.hypot(30, 10), 12.8))
        assert (scores["dice"], scores["surface_dice"]) == (0, 0)


def test_labels_are_averaged_and_ignored_voxels_left_out():
    true = box((2, 6), (4, 10), (5, 9)) + box((2, 6), (12, 16), (5, 9), label=2)
    predicted = np.where(true == 2, 0, true)
    assert volume_metrics(predicted, true)["dice"] == pytest.approx(0.5)
    ignored = np.where(true == 2, 255, true)
    assert volume_metrics(predicted, ignored, white_is_lesion=False)["dice"] == 1


def test_a_volume_of_one_slice_has_the_overlap_of_that_image():
    rng = np.random.default_rng(0)
    predicted, true = (rng.random((1, 20, 16)) > 0.6 for _ in range(2))
    image = image_metrics(predicted[0].astype(np.uint8), true[0].astype(np.uint8))
    volume = volume_metrics(predicted.astype(np.uint8), true.astype(np.uint8))
    assert volume["dice"] == image["dice"]


@pytest.mark.parametrize("spacing", [(1.0, 1.0), (0.0, 1.0, 1.0), None])
def test_what_is_no_volume_is_refused(spacing):
    volume = np.zeros((4, 4) if spacing is None else SHAPE, np.uint8)
    with pytest.raises(ValueError, match=r"single images by `image_metrics`|spacing_mm"):
        volume_metrics(volume, volume, spacing)
