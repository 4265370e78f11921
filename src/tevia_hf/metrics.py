"""Scores of predicted against true masks: overlap in both common definitions, boundaries, and lesions.

`metric_table.METRICS` declares them.

Empty masks: if neither mask holds a label, every score is perfect (1, and a distance of 0). If only one does, `dice`,
`iou` and `surface_dice` are 0 and `hd95` is the image's diagonal, the largest possible distance.
"""

from collections.abc import Collection, Mapping, Sequence

import numpy as np

from tevia_hf.mask_pairs import label_pairs
from tevia_hf.mask_scores import SURFACE_TOLERANCE, MaskPair, Spacing, check_spacing, regions_of
from tevia_hf.metric_table import METRICS
from tevia_hf.option_checks_tevia import check_not_negative
from tevia_hf.score_summaries import ImageScores, class_key, scores_by_class, summarize


def image_metrics(
    prediction: np.ndarray,
    reference: np.ndarray,
    spacing_mm: Spacing | None = None,
    surface_tolerance: float = SURFACE_TOLERANCE,
    white_is_lesion: bool | None = None,
) -> dict[str, float]:
    """The scores of one image: the name of each of the `METRICS` -> its value, without pooled ones.

    All are from 0 to 1, except `hd95`, which is in mm, or in pixels if no spacing is given.

    Args:
        prediction: (height, width) integer labels, 0 the background. With several labels, each score is a mean over
            those present in either mask.
        reference: the true labels; pixels of 255 are ignored in both masks, and so is the Trainer's padding, -100.
        spacing_mm: (row, column) size of a pixel.
        surface_tolerance: maximum distance at which boundaries count as equal in `surface_dice`, in the unit of `hd95`.
        white_is_lesion: True reads 255 as the lesion in both, False as ignored; required if 255 is the only value of
            the reference besides 0.

    `hd95` is the 95th percentile of the distances from each boundary to the other, the larger of both directions.
    A true lesion counts as detected, and a predicted one as correct, if the other mask covers at least a tenth of it;
    without true (predicted) lesions, recall (precision) is 1.

    Raises `ValueError` if shapes differ, the prediction holds 255, or values are not labels, such as probabilities.
    """
    (scores,) = score_images([prediction], [reference], [spacing_mm], surface_tolerance, True, white_is_lesion)
    return scores.values


def segmentation_metrics(
    predictions: Sequence[np.ndarray],
    references: Sequence[np.ndarray],
    spacing_mm: Sequence[Spacing | None] | None = None,
    surface_tolerance: float = SURFACE_TOLERANCE,
    outlines: bool = True,
    white_is_lesion: bool | None = None,
    classes: Mapping[int, str] | None = None,
) -> dict[str, float]:
    """The scores of a set of images, by the keys of `METRICS`.

    All are fractions of 1, except `hd95`, which is in mm or pixels.

    Args:
        predictions: (height, width) integer labels of each image, 0 the background; sizes may differ between images.
        references: those of the true masks. Pixels of 255, or -100, are ignored in both masks.
        spacing_mm: one (row, column) per image; distances are in mm if every image has one, else in pixels.
        surface_tolerance: maximum distance at which boundaries count as equal in `surface_dice`, in the unit of `hd95`.
        outlines: `False` leaves out the boundary metrics `hd95` and `surface_dice`, which take most of the time.
        white_is_lesion: True reads 255 as the lesion in both, False as ignored; needed if references hold 255 but none
            of them a label, which is ambiguous.
        classes: label -> name, such as {1: "benign", 2: "malignant"}; adds the scores of each class over the images
            that hold it, such as `dice/benign`, unless they are undefined. See `ClassScores`.

    Raises the errors of `image_metrics`, with the image's index, and `ValueError` if counts differ or there are no
    images.
    """
    classes = classes or {}
    scores = score_images(predictions, references, spacing_mm, surface_tolerance, outlines, white_is_lesion, classes)
    by_class = scores_by_class(scores, classes, with_intervals=False)
    values = {class_key(key, name): own.scores[key] for name, own in by_class.items() for key in own.scores}
    return summarize(scores) | {key: value for key, value in values.items() if value is not None}


def score_images(
    predictions: Sequence[np.ndarray],
    references: Sequence[np.ndarray],
    spacing_mm: Sequence[Spacing | None] | None = None,
    surface_tolerance: float = SURFACE_TOLERANCE,
    outlines: bool = True,
    white_is_lesion: bool | None = None,
    classes: Collection[int] = (),
) -> list[ImageScores]:
    """The scores of each image; for arguments and errors see `segmentation_metrics`."""
    check_not_negative("surface_tolerance", surface_tolerance, example="2.0")
    spacings = common_spacing(spacing_mm, len(references))
    for spacing in filter(None, spacings):
        check_spacing(spacing)
    if not len(predictions) == len(references) == len(spacings):
        raise ValueError(
            f"{len(predictions)} predictions but {len(references)} references and {len(spacings)} spacings: give one "
            "for each."
        )
    if len(predictions) == 0:
        raise ValueError("No predictions were given: give at least one prediction and its reference.")
    pairs = label_pairs(predictions, references, white_is_lesion)
    return [
        score_pair(MaskPair(prediction, reference, spacing, surface_tolerance), outlines, classes)
        for (prediction, reference), spacing in zip(pairs, spacings, strict=True)
    ]


def score_predictions(
    predictions: Sequence[np.ndarray],
    reference: np.ndarray,
    spacing_mm: Spacing | None = None,
    white_is_lesion: bool | None = None,
    classes: Collection[int] = (),
) -> list[ImageScores]:
    """The scores of several predictions of one image; for arguments and errors see `image_metrics`.

    Each of several `classes` (labels) is scored alone, too. Measurements of the reference are shared, and equal
    predictions are scored once.
    """
    if spacing_mm is not None:
        check_spacing(spacing_mm)
    by_content: dict[bytes, ImageScores] = {}
    scores, true_regions = [], None
    for prediction, labels in label_pairs(predictions, [reference] * len(predictions), white_is_lesion):
        true_regions = regions_of(labels) if true_regions is None else true_regions
        if (key := prediction.tobytes()) not in by_content:
            pair = MaskPair(prediction, labels, spacing_mm, true_regions=true_regions)
            by_content[key] = score_pair(pair, classes=classes)
        scores.append(by_content[key])
    return scores


def common_spacing(spacing_mm: Sequence[Spacing | None] | None, count: int) -> Sequence[Spacing | None]:
    """The spacings if every image has one; otherwise none, so that a mean does not mix millimetres and pixels."""
    if spacing_mm is None or any(spacing is None for spacing in spacing_mm):
        return [None] * count
    return spacing_mm


def score_pair(pair: MaskPair, outlines: bool = True, classes: Collection[int] = ()) -> ImageScores:
    """The scores of one image, and of each of several `classes` (labels); without `outlines`, no boundary metrics."""
    # The order of the keys in every report: means, then boundary metrics, then ratios.
    ordered = sorted(METRICS.items(), key=lambda item: (item[1].is_pooled, item[1].of_boundaries))
    chosen = {key: metric for key, metric in ordered if outlines or not metric.of_boundaries}
    return ImageScores(
        {key: float(metric.of_image(pair)) for key, metric in chosen.items() if metric.of_image},
        {key: metric.sums(pair) for key, metric in chosen.items() if metric.sums},
        sum(predicted.area for predicted, _ in pair.regions.values()),
        sum(true.area for _, true in pair.regions.values()),
        {label: score_pair(pair.of_label(label), outlines) for label in (classes if len(classes) > 1 else ())},
    )
