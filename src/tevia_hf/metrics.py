"""Scores of predicted against true masks: overlap in both common definitions, boundaries, and lesions.

`METRICS` declares every score: name, unit, direction, and how it is computed. Validation during training, reports,
intervals, model cards and comparisons read this table; `register_metric` adds custom metrics.

Empty masks: if neither mask holds a label, every score is perfect (1, and a distance of 0). If only one does, `dice`,
`iou` and `surface_dice` are 0 and `hd95` is the image's diagonal, the largest possible distance.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from tevia_hf import mask_scores
from tevia_hf.intervals import Interval, ratio_interval
from tevia_hf.mask_pairs import label_pairs
from tevia_hf.mask_scores import SURFACE_TOLERANCE, MaskPair, Spacing, Sums, regions_of
from tevia_hf.option_checks_tevia import check_not_negative, check_positive

DISTANCE = "mm or px"  # depends on whether the data set has a spacing
OTHER_COLUMNS = ("id", "group", "text_mode", "text", "predicted_pixels", "true_pixels")  # of per-image tables


@dataclass(frozen=True)
class Metric:
    """A score: its name, direction and computation.

    Args:
        label: its name on a model card.
        of_image: the score of one image; that of a set is the mean over images.
        sums: label -> (numerator, denominator) of one image. The score of a set is then the ratio of both sums over all
            images, a mean over labels, and `of_image`, if given, is used for per-image tables only.
        unit: "" for a fraction of 1; `DISTANCE` for pixels, or mm if their size is known.
        higher_is_better: whether higher scores are better.
        of_boundaries: whether it needs boundaries, which take most of the time; left out of validation in training.
        in_short_table: whether short tables show it, with the scores that papers report.
        on_card: whether model cards show it.
    """

    label: str
    of_image: Callable[[MaskPair], float] | None = None
    sums: Callable[[MaskPair], Sums] | None = None
    unit: str = ""
    higher_is_better: bool = True
    of_boundaries: bool = False
    in_short_table: bool = False
    on_card: bool = True

    @property
    def is_pooled(self) -> bool:
        """Whether it is computed over the whole set, so that two runs cannot be paired by image."""
        return self.sums is not None

    def about(self, distance_unit: str) -> dict[str, Any]:
        """Its description in reports, with its unit for a data set whose distances are in `distance_unit`."""
        unit = distance_unit if self.unit == DISTANCE else self.unit
        return {"label": self.label, "unit": unit, "higher_is_better": self.higher_is_better, "on_card": self.on_card}


class ImageScores(NamedTuple):
    """The `values` of one image by metric, and the `sums` of metrics that are ratios over the whole set."""

    values: dict[str, float]
    sums: dict[str, Sums]


METRICS: dict[str, Metric] = {
    "dice": Metric("Dice, mean over images", mask_scores.dice, in_short_table=True),
    "iou": Metric("IoU, mean over images", mask_scores.iou, in_short_table=True),
    "dice_pooled": Metric("Dice, all pixels pooled", sums=mask_scores.dice_sums, in_short_table=True),
    "iou_pooled": Metric("IoU, all pixels pooled", sums=mask_scores.iou_sums, in_short_table=True),
    "hd95": Metric(
        "Hausdorff distance, 95th percentile",
        mask_scores.hd95,
        unit=DISTANCE,
        higher_is_better=False,
        of_boundaries=True,
    ),
    "surface_dice": Metric("Surface Dice", mask_scores.surface_dice, of_boundaries=True),
    "accuracy": Metric("Pixel accuracy", mask_scores.accuracy),
    "lesion_precision": Metric(
        "Precision, whole lesions", mask_scores.share(mask_scores.correct_lesions), mask_scores.correct_lesions
    ),
    "lesion_recall": Metric(
        "Recall, whole lesions", mask_scores.share(mask_scores.detected_lesions), mask_scores.detected_lesions
    ),
}
PRIMARY = "dice"  # the key of the metric by which models are selected, compared and summarised


def primary_name() -> str:
    """The short name of the primary metric, such as "Dice"."""
    return METRICS[PRIMARY].label.partition(",")[0]


def register_metric(
    key: str,
    of_image: Callable[[MaskPair], float] | None = None,
    *,
    label: str,
    sums: Callable[[MaskPair], Sums] | None = None,
    exist_ok: bool = False,
    **fields: Any,
) -> None:
    """Adds a metric to `METRICS`, and thereby to all later scores, reports, model cards and comparisons.

    Args:
        key: its name in reports and tables, and for `metric_for_best_model`.
        of_image: the score of one image; that of a set is the mean over images.
        label: its name on a model card.
        sums: label -> (numerator, denominator) of one image. The score of a set is then the ratio of both sums over all
            images, a mean over labels, and `of_image`, if given, is used for per-image tables only.
        fields: `unit`, `higher_is_better`, `of_boundaries`, `in_short_table` and `on_card` of `Metric`.
        exist_ok: replace a metric of this name.

    Raises `ValueError` if the key is taken or no identifier, or if neither `of_image` nor `sums` is given.
    """
    if not key.isidentifier() or key in (*OTHER_COLUMNS, "loss"):
        raise ValueError(f"'{key}' cannot be a metric's key: give a name like `{'_'.join(key.split()) or 'x'}_score`.")
    if key in METRICS and not exist_ok:
        raise ValueError(f"There is a metric '{key}': choose another key, or pass exist_ok=True to replace it.")
    if of_image is None and sums is None:
        raise ValueError(f"Nothing computes '{key}': give `of_image`, or `sums` for a ratio over the whole set.")
    METRICS[key] = Metric(label, of_image, sums, **fields)


def units_text(about: Mapping[str, Mapping[str, Any]]) -> str:
    """The units of metrics described by `Metric.about`, such as "`hd95` in px"; "" if all are fractions."""
    units = dict.fromkeys(metric["unit"] for metric in about.values() if metric["unit"])
    keys = {unit: [f"`{key}`" for key, metric in about.items() if metric["unit"] == unit] for unit in units}
    return ", ".join(f"{', '.join(names)} in {unit}" for unit, names in keys.items())


def image_metrics(
    prediction: np.ndarray,
    reference: np.ndarray,
    spacing_mm: Spacing | None = None,
    surface_tolerance: float = SURFACE_TOLERANCE,
    white_is_lesion: bool | None = None,
) -> dict[str, float]:
    """The scores of one image, by the keys of those `METRICS` that have a value for a single image.

    All are fractions of 1, except `hd95`, which is in mm, or in pixels if no spacing is given.

    Args:
        prediction: (height, width) integer labels, 0 the background. With several labels, each score is a mean over
            those present in either mask.
        reference: the true labels; pixels of 255 are ignored in both masks, and so is the Trainer's padding, -100.
        spacing_mm: (row, column) size of a pixel.
        surface_tolerance: maximum distance at which boundaries count as equal in `surface_dice`, in the unit of `hd95`.
        white_is_lesion: True reads 255 as the lesion in both, False as ignored; needed if the reference holds 255 but
            no label, which is ambiguous.

    `hd95` is the 95th percentile of the distances from each boundary to the other, the larger of both directions.
    A true lesion counts as detected, and a predicted one as correct, if the other mask covers at least a tenth of it;
    without true (predicted) lesions, recall (precision) is 1.

    Raises `ValueError` if shapes differ, the prediction holds 255, or values are no labels, such as probabilities.
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

    Raises the errors of `image_metrics`, with the image's index, and `ValueError` if counts differ or there are no
    images.
    """
    scores = score_images(predictions, references, spacing_mm, surface_tolerance, outlines, white_is_lesion)
    return summarize(scores)


def score_images(
    predictions: Sequence[np.ndarray],
    references: Sequence[np.ndarray],
    spacing_mm: Sequence[Spacing | None] | None = None,
    surface_tolerance: float = SURFACE_TOLERANCE,
    outlines: bool = True,
    white_is_lesion: bool | None = None,
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
        score_pair(MaskPair(prediction, reference, spacing, surface_tolerance), outlines)
        for (prediction, reference), spacing in zip(pairs, spacings, strict=True)
    ]


def score_predictions(
    predictions: Sequence[np.ndarray],
    reference: np.ndarray,
    spacing_mm: Spacing | None = None,
    white_is_lesion: bool | None = None,
) -> list[ImageScores]:
    """The scores of several predictions of one image; for arguments and errors see `image_metrics`.

    Measurements of the reference are shared, and equal predictions are scored once.
    """
    if spacing_mm is not None:
        check_spacing(spacing_mm)
    by_content: dict[bytes, ImageScores] = {}
    scores, true_regions = [], None
    for prediction, labels in label_pairs(predictions, [reference] * len(predictions), white_is_lesion):
        true_regions = regions_of(labels) if true_regions is None else true_regions
        if (key := prediction.tobytes()) not in by_content:
            by_content[key] = score_pair(MaskPair(prediction, labels, spacing_mm, true_regions=true_regions))
        scores.append(by_content[key])
    return scores


def common_spacing(spacing_mm: Sequence[Spacing | None] | None, count: int) -> Sequence[Spacing | None]:
    """The spacings if every image has one; otherwise none, so that a mean does not mix millimetres and pixels."""
    if spacing_mm is None or any(spacing is None for spacing in spacing_mm):
        return [None] * count
    return spacing_mm


def check_spacing(spacing: Spacing) -> None:
    """Raises `ValueError` if this is not a (row, column) size of a pixel."""
    if len(spacing) != 2:
        raise ValueError(f"`spacing_mm` is {spacing}: give (row, column), the size of a pixel in mm.")
    for step in spacing:
        check_positive("spacing_mm", float(step), example="0.7")


def summarize(scores: Sequence[ImageScores]) -> dict[str, float]:
    """The scores of a set of images.

    `dice, iou, accuracy, hd95, surface_dice` are means over images; `dice_pooled, iou_pooled` treat all pixels as those
    of one image, with a mean over the labels present in any; `lesion_precision, lesion_recall` are over all lesions.
    """
    return {key: float(np.mean(_ratios(*sums))) for key, sums in _ratio_sums(scores).items()}


def score_intervals(
    scores: Sequence[ImageScores], groups: Sequence[str] | None = None, seed: int = 0
) -> dict[str, Interval | None]:
    """Bootstrap 95 % interval of each value of `summarize`; `None` if there is only one group.

    Args:
        groups: the patient of each image. Patients are resampled, since images of one patient are not independent; by
            default each image is a group of its own.
    """
    return {key: ratio_interval(*sums, groups=groups, seed=seed) for key, sums in _ratio_sums(scores).items()}


def score_pair(pair: MaskPair, outlines: bool = True) -> ImageScores:
    """The scores of one image; without `outlines`, no boundary metrics."""
    # The order of the keys in every report: means, then boundary metrics, then ratios.
    ordered = sorted(METRICS.items(), key=lambda item: (item[1].is_pooled, item[1].of_boundaries))
    chosen = {key: metric for key, metric in ordered if outlines or not metric.of_boundaries}
    return ImageScores(
        {key: float(metric.of_image(pair)) for key, metric in chosen.items() if metric.of_image},
        {key: metric.sums(pair) for key, metric in chosen.items() if metric.sums},
    )


def _ratio_sums(scores: Sequence[ImageScores]) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Every score as a ratio of sums: numerators and denominators (images, labels); for means there is one label."""
    means = {
        key: np.array([[score.values[key]] for score in scores])
        for key in scores[0].values
        if key not in scores[0].sums
    }
    ratios = {key: _sums_by_label([score.sums[key] for score in scores]) for key in scores[0].sums}
    return {key: (values, np.ones_like(values)) for key, values in means.items()} | ratios


def _sums_by_label(sums: Sequence[Sums]) -> tuple[np.ndarray, np.ndarray]:
    """(images, labels) numerators and denominators, 0 if an image lacks a label."""
    labels = sorted({label for image_sums in sums for label in image_sums})
    top, bottom = (
        np.array([[image_sums.get(label, (0, 0))[index] for label in labels] for image_sums in sums])
        for index in (0, 1)
    )
    return top, bottom


def _ratios(numerators: np.ndarray, denominators: np.ndarray) -> np.ndarray:
    """Ratio of the sums over images, one value per label; 1 if the denominator is 0."""
    top, bottom = numerators.sum(0), denominators.sum(0)
    ratios = np.divide(top, bottom, out=np.ones(len(top)), where=bottom > 0)
    return ratios if len(ratios) else np.ones(1)
