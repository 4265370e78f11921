"""Overlap, boundaries and lesions, against pixels counted by hand, MONAI and scikit-learn on random masks."""

import numpy as np
import pytest
import torch
from monai.metrics import compute_dice, compute_hausdorff_distance, compute_iou, compute_surface_dice
from monai.metrics.utils import get_edge_surface_distance
from scipy import ndimage
from sklearn.metrics import accuracy_score, f1_score, jaccard_score

from tevia_hf.mask_scores import MaskPair
from tevia_hf.metric_table import METRICS
from tevia_hf.metrics import image_metrics, score_images, score_predictions, segmentation_metrics
from tevia_hf.score_summaries import score_intervals, summarize

PERFECT = {key: float(metric.higher_is_better) for key, metric in METRICS.items() if metric.of_image}


def row(*labels):
    return np.array([labels], dtype=np.uint8)


def grid(image):
    """A mask of 3x3 pixels from text, with # for the lesion."""
    return np.array([[character == "#" for character in line] for line in image.split()], np.uint8)


def random_masks(count, size=(40, 56)):
    """Pairs of blob masks that overlap partly, none of them empty."""
    rng = np.random.default_rng(0)
    coarse = [np.kron(rng.random((2, size[0] // 8, size[1] // 8)) > 0.6, np.ones((1, 8, 8))) for _ in range(count)]
    return [
        (pair[0].astype(np.uint8), np.roll(pair[0] + pair[1] > 0, rng.integers(-3, 4), 1).astype(np.uint8))
        for pair in coarse
    ]


def test_dice_and_iou_count_the_overlap():
    scores = image_metrics(row(1, 1, 1, 0, 0), row(0, 1, 1, 1, 1))
    assert scores["dice"] == pytest.approx(4 / 7)
    assert scores["iou"] == pytest.approx(2 / 5)
    assert scores["accuracy"] == pytest.approx(2 / 5)


@pytest.mark.parametrize("spacing", [None, (0.5, 2.0)])
def test_scores_equal_monais(spacing):
    for prediction, reference in random_masks(30):
        scores = image_metrics(prediction, reference, spacing, surface_tolerance=1.5)
        tensors = [torch.from_numpy(mask)[None, None] for mask in (prediction, reference)]
        unit = list(spacing or (1.0, 1.0))
        assert scores["dice"] == pytest.approx(float(compute_dice(*tensors)), abs=1e-6)
        assert scores["iou"] == pytest.approx(float(compute_iou(*tensors)), abs=1e-6)
        hd95 = compute_hausdorff_distance(*tensors, include_background=True, percentile=95, spacing=unit)
        assert scores["hd95"] == pytest.approx(float(hd95), abs=1e-6)
        surface = compute_surface_dice(*tensors, [1.5], include_background=True, spacing=unit)
        assert scores["surface_dice"] == pytest.approx(float(surface), abs=1e-6)


@pytest.mark.parametrize("spacing", [None, (0.7, 0.3), (1 + 2**-24 + 2**-52, 1.0)])  # the last between two float32
def test_distances_of_boundaries_are_monais_to_the_last_digit(spacing):
    for pair in random_masks(30):
        prediction, reference = (np.pad(mask, ((13, 0), (0, 0))) for mask in pair)
        found = MaskPair(prediction, reference, spacing).boundary_distances[1]
        tensors = [torch.from_numpy(mask) for mask in (prediction, reference)]
        _, expected, _ = get_edge_surface_distance(*tensors, spacing=list(spacing or (1.0, 1.0)), symmetric=True)
        assert all(torch.equal(of_way, monais) for of_way, monais in zip(found, expected, strict=True))


def test_predictions_of_one_image_are_scored_as_each_alone_the_reference_and_equal_ones_measured_once(monkeypatch):
    labelled, usual = [], ndimage.label
    (first, reference), (second, _) = random_masks(2)
    ignored = np.where(np.arange(reference.size).reshape(reference.shape) % 11 == 0, 255, reference).astype(np.uint8)
    predictions = [first, second, first.copy(), 2 * second, np.zeros_like(first)]
    expected = score_images(predictions, [ignored] * 5, [(0.5, 0.3)] * 5, white_is_lesion=False)
    monkeypatch.setattr(ndimage, "label", lambda mask, *args: labelled.append(mask.tobytes()) or usual(mask, *args))
    found = score_predictions(predictions, ignored, (0.5, 0.3), white_is_lesion=False)
    assert found == expected and found[0] is found[2]
    of_predictions = [((mask > 0) & (ignored != 255)).tobytes() for mask in (first, second)]
    assert labelled.count((ignored == 1).tobytes()) == 1
    assert [labelled.count(mask) for mask in of_predictions] == [1, 2]  # the second as label 1 and as label 2


def test_scores_equal_scikit_learns():
    pairs = random_masks(20)
    scores = segmentation_metrics(*zip(*pairs, strict=True))
    flat = [(reference.ravel(), prediction.ravel()) for prediction, reference in pairs]
    everything = [np.concatenate(part) for part in zip(*flat, strict=True)]
    assert scores["dice"] == pytest.approx(np.mean([f1_score(*pair) for pair in flat]), abs=1e-6)
    assert scores["iou"] == pytest.approx(np.mean([jaccard_score(*pair) for pair in flat]), abs=1e-6)
    assert scores["accuracy"] == pytest.approx(np.mean([accuracy_score(*pair) for pair in flat]), abs=1e-6)
    assert scores["dice_pooled"] == pytest.approx(f1_score(*everything), abs=1e-6)
    assert scores["iou_pooled"] == pytest.approx(jaccard_score(*everything), abs=1e-6)


@pytest.mark.parametrize(
    ("prediction", "reference", "spacing", "scores"),
    [
        ("... .#. ...", "... .#. ...", None, PERFECT),
        # one pixel next to the true one: distance 1, or the width of a pixel
        ("... ..# ...", "... .#. ...", None, {"dice": 0, "accuracy": 7 / 9, "hd95": 1.0, "surface_dice": 1.0}),
        ("... ..# ...", "... .#. ...", (1.0, 4.0), {"hd95": 4.0, "surface_dice": 0.0}),
        (".#. ... ...", "... .#. ...", (3.0, 4.0), {"hd95": 3.0, "surface_dice": 0.0}),
        ("#.. ... ...", "... ... ..#", (3.0, 4.0), {"hd95": 10.0, "surface_dice": 0.0}),
        # a whole row, of which one end is predicted: 0, 1 and 2 away; 95th percentile of (0, 1, 2) is 1.9
        ("#.. ... ...", "### ... ...", None, {"dice": 1 / 2, "iou": 1 / 3, "accuracy": 7 / 9, "hd95": 1.9}),
        # one of two lesions detected, one of two predicted lesions correct
        ("#.# ... ...", "#.. ... #..", None, {"dice": 1 / 2, "lesion_precision": 1 / 2, "lesion_recall": 1 / 2}),
    ],
)  # fmt: skip
def test_hand_worked_three_by_three_masks(prediction, reference, spacing, scores):
    found = image_metrics(grid(prediction), grid(reference), spacing)
    assert {name: found[name] for name in scores} == pytest.approx(scores, abs=1e-6)


@pytest.mark.parametrize(("covered", "found"), [(9, 0), (10, 1)])
def test_a_lesion_counts_where_a_tenth_of_it_is_covered(covered, found):
    reference, prediction = np.ones((1, 100), np.uint8), np.zeros((1, 100), np.uint8)
    prediction[0, :covered] = 1
    assert image_metrics(prediction, reference)["lesion_recall"] == found
    assert image_metrics(reference, prediction)["lesion_precision"] == found


def test_lesions_of_the_set_are_counted_together():
    predictions, references = [grid("#.# ... ..."), grid("... ... ...")], [grid("#.# ... #.#"), grid("#.. ... ...")]
    scores = segmentation_metrics(predictions, references)
    assert scores["lesion_recall"] == pytest.approx(2 / 5)
    assert scores["lesion_precision"] == 1.0


def test_spacing_counts_where_every_image_has_one():
    pair = [grid("... ..# ...")] * 2, [grid("... .#. ...")] * 2
    assert segmentation_metrics(*pair, spacing_mm=[(1.0, 4.0), (1.0, 2.0)])["hd95"] == 3.0
    assert segmentation_metrics(*pair, spacing_mm=[(1.0, 4.0), None])["hd95"] == 1.0
    with pytest.raises(ValueError, match="2 references and 1 spacings"):
        segmentation_metrics(*pair, spacing_mm=[(1.0, 4.0)])


def test_boundary_metrics_may_be_left_out():
    scores = segmentation_metrics([grid("#.. ... ...")], [grid("#.. ... ...")], outlines=False)
    assert scores.keys() & {"hd95", "surface_dice"} == set()
    assert scores["dice"] == 1.0


def test_an_exact_prediction_is_perfect():
    assert image_metrics(row(0, 1, 1), row(0, 1, 1)) == PERFECT


def test_two_empty_masks_are_perfect():
    assert image_metrics(row(0, 0), row(0, 0)) == PERFECT


@pytest.mark.parametrize(("prediction", "reference"), [((0, 0), (0, 1)), ((1, 0), (0, 0))])
def test_one_empty_mask_scores_0_at_the_distance_of_the_diagonal(prediction, reference):
    scores = image_metrics(row(*prediction), row(*reference), spacing_mm=(3.0, 2.0))
    assert {scores[name] for name in ("dice", "iou", "surface_dice")} == {0.0}
    assert scores["hd95"] == 5.0
    assert scores["lesion_recall"] == float(not any(reference))
    assert scores["lesion_precision"] == float(not any(prediction))


def test_intervals_hold_the_score_and_shrink_with_more_images():
    pairs = random_masks(60)
    few, many = (score_images(*zip(*pairs[:count], strict=True)) for count in (6, 60))
    for name, value in summarize(many).items():
        low, high = score_intervals(many)[name]
        assert low <= value <= high
        if name in ("dice", "dice_pooled"):
            assert high - low < np.ptp(score_intervals(few)[name])


def test_pooled_intervals_resample_images_and_sum_pixels():
    scores = score_images([row(1, 1, 1, 1), row(1, 0, 0, 0)], [row(1, 1, 1, 1), row(0, 1, 0, 0)], outlines=False)
    assert score_intervals(scores)["dice_pooled"] == (0.0, 1.0)  # one image twice, or the other


def test_images_of_one_patient_are_resampled_together():
    scores = score_images([row(1, 0), row(1, 1)] * 20, [row(1, 0), row(0, 0)] * 20)
    alone, together = score_intervals(scores)["dice"], score_intervals(scores, groups=["a", "b"] * 20)["dice"]
    assert together == (0.0, 1.0)
    assert np.ptp(alone) < 0.4
    assert score_intervals(scores, groups=["a"] * 40)["dice"] is None


def test_label_255_of_the_reference_is_ignored():
    scores = image_metrics(row(1, 1, 0, 1), row(1, 255, 255, 0))
    expected = image_metrics(row(1, 1), row(1, 0))
    assert {name: scores[name] for name in ("dice", "iou", "accuracy")} == {
        name: expected[name] for name in ("dice", "iou", "accuracy")
    }
    ignored = 255 * grid("### ... ...")
    assert image_metrics(grid("### ... ..."), ignored, white_is_lesion=False) == PERFECT


def test_several_labels_are_averaged_over_those_present_in_either_mask():
    scores = image_metrics(row(1, 1, 2, 0, 0), row(1, 1, 0, 3, 0))
    assert scores["dice"] == scores["iou"] == scores["surface_dice"] == pytest.approx(1 / 3)
    assert scores["hd95"] == pytest.approx(2 / 3 * np.hypot(1, 5))
    scores = image_metrics(row(1, 1, 2, 2), row(1, 1, 1, 2))
    assert scores["dice"] == pytest.approx((4 / 5 + 2 / 3) / 2)


def test_booleans_are_masks():
    assert image_metrics(row(1, 1, 0) > 0, row(1, 0, 0) > 0)["dice"] == pytest.approx(2 / 3)


def test_the_mean_over_images_weighs_images_and_the_pooled_score_pixels():
    predictions = [row(1, 0), row(1, 1, 1, 1, 1, 1, 0, 0)]
    references = [row(0, 1), row(1, 1, 1, 1, 1, 1, 0, 0)]
    scores = segmentation_metrics(predictions, references)
    assert {name: scores[name] for name in ("dice", "iou", "dice_pooled", "iou_pooled")} == {
        "dice": pytest.approx(1 / 2),
        "iou": pytest.approx(1 / 2),
        "dice_pooled": pytest.approx(12 / 14),
        "iou_pooled": pytest.approx(6 / 8),
    }


def test_images_may_have_any_sizes():
    ones = [np.ones((2, 3), int), np.ones((4, 1), int)]
    assert segmentation_metrics(ones, ones) == {**PERFECT, "dice_pooled": 1.0, "iou_pooled": 1.0}


def test_empty_images_count_as_1_in_the_mean_and_not_at_all_when_pooled():
    scores = segmentation_metrics([row(0, 0), row(1, 1)], [row(0, 0), row(1, 0)])
    assert scores["dice"] == pytest.approx((1 + 2 / 3) / 2)
    assert scores["dice_pooled"] == pytest.approx(2 / 3)


def test_a_data_set_without_foreground_scores_1():
    perfect = {**PERFECT, "dice_pooled": 1.0, "iou_pooled": 1.0}
    assert segmentation_metrics([row(0, 0)], [row(0, 0)]) == perfect


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
