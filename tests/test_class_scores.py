"""Scores per class, and of images with and without a lesion."""

import math

import numpy as np
import pytest
import torch
from monai.metrics import compute_dice, compute_hausdorff_distance, compute_iou, compute_surface_dice
from scipy import ndimage

from tevia_hf.metrics import score_images, segmentation_metrics
from tevia_hf.score_summaries import class_scores, failure_text, scores_by_class
from tevia_hf.training.trainer import check_selected_class

CLASSES = {1: "benign", 2: "malignant"}


def row(*labels):
    return np.array([labels], dtype=np.uint8)


@pytest.fixture(scope="module")
def masks():
    """Predictions and references of 12 images with two classes, each absent in some."""
    rng = np.random.default_rng(3)
    blobs = np.kron(rng.integers(0, 3, (12, 2, 5, 6)), np.ones((8, 8), int)).astype(np.uint8)
    blobs[:4, :, :, :][blobs[:4] == 2] = 0
    blobs[4:6, 0] = 0
    blobs[6:8, 1] = 0
    return list(np.roll(blobs[:, 0], 2, axis=2)), list(blobs[:, 1])


def by_monai(metric, prediction, reference, label, **options):
    tensors = [torch.from_numpy(mask == label)[None, None].float() for mask in (prediction, reference)]
    return float(metric(*tensors, include_background=True, **options))


def test_class_scores_are_monais_over_the_images_that_show_the_class(masks):
    scores = scores_by_class(score_images(*masks, classes=CLASSES), CLASSES)
    for label, name in CLASSES.items():
        pairs = list(zip(*masks, strict=True))
        shown = [pair for pair in pairs if (pair[1] == label).any()]
        both = [pair for pair in shown if (pair[0] == label).any()]
        own, expected = scores[name], {}
        assert (own.images, own.both, own.absent) == (len(shown), len(both), len(pairs) - len(shown))
        assert 0 < own.both < len(pairs) and own.absent
        expected["dice"] = np.mean([by_monai(compute_dice, *pair, label) for pair in shown])
        expected["iou"] = np.mean([by_monai(compute_iou, *pair, label) for pair in shown])
        expected["hd95_both"] = np.mean([by_monai(compute_hausdorff_distance, *p, label, percentile=95) for p in both])
        surface = [by_monai(compute_surface_dice, *pair, label, class_thresholds=[2.0]) for pair in both]
        expected["surface_dice"] = sum(surface) / len(shown)
        predicted, true = (np.concatenate([(mask == label).ravel() for mask in part]) for part in masks)
        expected["dice_pooled"] = 2 * (predicted & true).sum() / (predicted.sum() + true.sum())
        expected["false_positives"] = np.mean([(p == label).any() for p, t in pairs if not (t == label).any()])
        assert {key: own.scores[key] for key in expected} == pytest.approx(expected, abs=1e-6)
        lesions = [ndimage.label(reference == label, np.ones((3, 3)))[1] for _, reference in pairs]
        assert own.counts["lesion_recall"][1] == sum(lesions)


def test_a_distance_over_all_images_with_the_class_counts_missed_ones_as_the_diagonal():
    reference = np.zeros((3, 4), np.uint8)
    reference[1, 1] = 1
    (own,) = [class_scores(score_images([reference, 0 * reference], [reference, reference]))]
    assert own.scores["hd95"] == pytest.approx(5 / 2) and own.scores["hd95_both"] == 0


def test_images_without_a_lesion_are_scored_apart():
    scores = score_images([row(1, 0), row(0, 0), row(0, 1), row(0, 0)], [row(1, 1), row(0, 0), row(0, 0), row(0, 0)])
    own = class_scores(scores, groups=["a", "b", "c", "d"])
    assert (own.images, own.absent, own.predicted) == (1, 3, 2)
    assert own.scores["dice"] == pytest.approx(2 / 3) and own.scores["false_positives"] == pytest.approx(1 / 3)
    assert own.intervals["dice"] is None  # of one image
    low, high = own.intervals["false_positives"]
    assert low == 0 and high == 1


def test_ignored_pixels_at_the_border_of_two_classes_count_for_neither():
    scores = score_images([row(1, 1, 2, 2)], [row(1, 255, 255, 2)], classes=CLASSES, white_is_lesion=False)
    for own in scores_by_class(scores, CLASSES).values():
        assert own.scores["dice"] == 1 and own.scores["accuracy"] == 1
    only_there = score_images([row(1, 2, 0, 0)], [row(1, 255, 0, 0)], classes=CLASSES, white_is_lesion=False)
    assert scores_by_class(only_there, CLASSES)["malignant"].predicted == 0


def test_a_class_that_no_image_shows_has_no_score():
    own = scores_by_class(score_images([row(1, 0)], [row(1, 0)], classes=CLASSES), CLASSES)["malignant"]
    assert own.images == 0 and own.absent == 1 and own.scores["false_positives"] == 0
    assert own.scores["dice"] is own.scores["hd95"] is own.scores["dice_pooled"] is own.scores["lesion_recall"] is None
    assert "dice/malignant" not in segmentation_metrics([row(1, 0)], [row(1, 0)], classes=CLASSES)


def test_the_precision_of_a_class_that_is_never_predicted_is_undefined():
    own = scores_by_class(score_images([row(1, 0)], [row(1, 2)], classes=CLASSES), CLASSES)["malignant"]
    assert own.scores["lesion_precision"] is None and own.scores["lesion_recall"] == 0 and own.scores["dice"] == 0


def test_validation_scores_name_metric_and_class(masks):
    scores = segmentation_metrics(*masks, classes=CLASSES)
    own = scores_by_class(score_images(*masks, classes=CLASSES), CLASSES, with_intervals=False)
    assert scores["dice/malignant"] == own["malignant"].scores["dice"] and not own["malignant"].intervals
    assert {key for key in scores if "/" not in key} == set(segmentation_metrics(*masks))


def test_one_class_adds_nothing():
    pair = [row(1, 0)], [row(1, 1)]
    assert segmentation_metrics(*pair, classes={1: "lesion"}) == segmentation_metrics(*pair)


@pytest.mark.parametrize(
    ("prediction", "start"),
    [(row(0, 0), "Recall 0: the model marks nothing; images with a lesion: 2."), (row(0, 1), "Recall 0: no predicted")],
)
def test_a_model_that_finds_no_lesion_is_called_that_despite_its_mean_dice(prediction, start):
    scores = score_images([prediction, prediction, row(0, 0)], [row(1, 0), row(1, 0), row(0, 0)])
    assert failure_text(class_scores(scores)).startswith(start)
    assert math.isclose(np.mean([score.values["dice"] for score in scores]), 1 / 3)


@pytest.mark.parametrize(("metric", "classes"), [("dice/malign", CLASSES), ("dice/lesion", {1: "lesion"})])
def test_the_best_model_is_selected_by_a_class_of_the_model_only(metric, classes):
    check_selected_class("eval_dice/malignant", CLASSES)
    check_selected_class("dice", {1: "lesion"})
    with pytest.raises(ValueError, match=f"`metric_for_best_model` is {metric}, but the classes of the model are"):
        check_selected_class(metric, classes)


@pytest.mark.parametrize("prediction", [row(0, 0), row(0, 1)])
def test_images_without_any_lesion_are_no_failure(prediction):
    assert failure_text(class_scores(score_images([prediction], [row(0, 0)]))) == ""
