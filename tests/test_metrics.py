"""Dice and IoU, per image and pooled, by hand-counted pixels."""

import numpy as np
import pytest

from tevia_hf.metrics import image_metrics, segmentation_metrics


def row(*labels):
    return np.array([labels], dtype=np.uint8)


def test_dice_and_iou_count_the_overlap():
    scores = image_metrics(row(1, 1, 1, 0, 0), row(0, 1, 1, 1, 1))
    assert scores == {"dice": pytest.approx(4 / 7), "iou": pytest.approx(2 / 5)}


def test_an_exact_prediction_scores_1():
    assert image_metrics(row(0, 1, 1), row(0, 1, 1)) == {"dice": 1.0, "iou": 1.0}


def test_two_empty_masks_score_1():
    assert image_metrics(row(0, 0), row(0, 0)) == {"dice": 1.0, "iou": 1.0}


@pytest.mark.parametrize(("prediction", "reference"), [((0, 0), (0, 1)), ((1, 0), (0, 0))])
def test_one_empty_mask_scores_0(prediction, reference):
    assert image_metrics(row(*prediction), row(*reference)) == {"dice": 0.0, "iou": 0.0}


def test_label_255_of_the_reference_is_ignored():
    assert image_metrics(row(1, 1, 0, 1), row(1, 255, 255, 0)) == image_metrics(row(1, 1), row(1, 0))


def test_several_labels_are_averaged_over_those_present_in_either_mask():
    scores = image_metrics(row(1, 1, 2, 0, 0), row(1, 1, 0, 3, 0))
    assert scores == {"dice": pytest.approx(1 / 3), "iou": pytest.approx(1 / 3)}
    scores = image_metrics(row(1, 1, 2, 2), row(1, 1, 1, 2))
    assert scores["dice"] == pytest.approx((4 / 5 + 2 / 3) / 2)


def test_booleans_are_masks():
    assert image_metrics(row(1, 1, 0) > 0, row(1, 0, 0) > 0)["dice"] == pytest.approx(2 / 3)


def test_the_mean_over_images_weighs_images_and_the_pooled_score_pixels():
    predictions = [row(1, 0), row(1, 1, 1, 1, 1, 1, 0, 0)]
    references = [row(0, 1), row(1, 1, 1, 1, 1, 1, 0, 0)]
    scores = segmentation_metrics(predictions, references)
    assert scores == {
        "dice": pytest.approx(1 / 2),
        "iou": pytest.approx(1 / 2),
        "dice_pooled": pytest.approx(12 / 14),
        "iou_pooled": pytest.approx(6 / 8),
    }


def test_images_may_have_any_sizes():
    ones = [np.ones((2, 3), int), np.ones((4, 1), int)]
    assert set(segmentation_metrics(ones, ones).values()) == {1.0}


def test_empty_images_count_as_1_in_the_mean_and_not_at_all_when_pooled():
    scores = segmentation_metrics([row(0, 0), row(1, 1)], [row(0, 0), row(1, 0)])
    assert scores["dice"] == pytest.approx((1 + 2 / 3) / 2)
    assert scores["dice_pooled"] == pytest.approx(2 / 3)


def test_a_data_set_without_foreground_scores_1():
    assert set(segmentation_metrics([row(0, 0)], [row(0, 0)]).values()) == {1.0}


def test_pooled_scores_average_the_labels_present_anywhere():
    scores = segmentation_metrics([row(1, 1), row(2, 0)], [row(1, 0), row(2, 2)])
    assert scores["dice_pooled"] == pytest.approx(2 / 3)
    scores = segmentation_metrics([row(1, 1), row(0, 0)], [row(1, 1), row(2, 2)])
    assert scores["dice_pooled"] == pytest.approx(1 / 2)


def test_a_label_that_is_missed_everywhere_lowers_the_pooled_score():
    assert segmentation_metrics([row(1, 0)], [row(1, 2)])["iou_pooled"] == pytest.approx(1 / 2)


def test_shapes_that_differ_are_refused_with_the_index_and_both_shapes():
    with pytest.raises(ValueError, match=r"image 1 has shape \(1, 2\) but its reference \(1, 3\): resize"):
        segmentation_metrics([row(0), row(0, 0)], [row(0), row(0, 0, 0)])


def test_counts_that_differ_are_refused_with_both_counts():
    with pytest.raises(ValueError, match="1 predictions but 2 references"):
        segmentation_metrics([row(0)], [row(0)] * 2)


def test_an_empty_list_is_refused():
    with pytest.raises(ValueError, match="No predictions"):
        segmentation_metrics([], [])


def test_a_prediction_of_0_and_255_is_refused():
    with pytest.raises(ValueError, match="image 0 holds 255.*write the lesion as 1"):
        segmentation_metrics([row(0, 255)], [row(0, 1)])
