"""How well predicted masks fit the true ones: overlap in both definitions in use, boundaries, and lesions.

`METRICS` declares every score once: name, unit, direction, and how it is computed. Validation during training, reports,
intervals, model cards and comparisons read it; `register_metric` adds one's own.

Empty masks: where neither mask holds a label, every score is perfect (1, and a distance of 0). Where only one does,
`dice`, `iou` and `surface_dice` are 0 and `hd95` is the image's diagonal, the largest distance there can be.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from tevia_hf import mask_scores as of
from tevia_hf.intervals import Interval, ratio_interval
from tevia_hf.mask_pairs import label_pairs
from tevia_hf.mask_scores import SURFACE_TOLERANCE, MaskPair, Spacing, Sums, regions_of
from tevia_hf.option_checks_tevia import check_not_negative, check_positive

DISTANCE = "mm or px"  # the unit that the spacing of a data set decides
COLUMNS_BESIDE = ("id", "group", "text_mode", "text", "predicted_pixels", "true_pixels")  # in tables of images


@dataclass(frozen=True)
class Metric:
    """A score: what it is called, which way is better, and how it is computed.

    Args:
        label: its name on a model card.
        of_image: the score of one image; the set's is the mean over images.
        sums: label -> (numerator, denominator) of one image. The set's score is then the ratio of both sums over all
            images, a mean over labels, and `of_image`, if given, only stands in the table of images.
        unit: "" for a fraction of 1; `DISTANCE` for what is measured in pixels, or in mm where their size is known.
        of_boundaries: left out of validation during training, since boundaries take most of the time.
        in_short_table: shown where only the scores that papers quote are.
        on_card: shown on the model card.
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
        """Whether it counts the whole set at once, so that two runs cannot be paired by image."""
        return self.sums is not None

    def about(self, distance_unit: str) -> dict[str, Any]:
        """What a reader must know of it, with its unit in a data set whose distances are in `distance_unit`."""
        unit = distance_unit if self.unit == DISTANCE else self.unit
        return {"label": self.label, "unit": unit, "higher_is_better": self.higher_is_better, "on_card": self.on_card}


class ImageScores(NamedTuple):
    """One image's `values` by metric, and the `sums` of those that are ratios over the whole set."""

    values: dict[str, float]
    sums: dict[str, Sums]


METRICS: dict[str, Metric] = {
    "dice": Metric("Dice, mean over images", of.dice, in_short_table=True),
    "iou": Metric("IoU, mean over images", of.iou, in_short_table=True),
    "dice_pooled": Metric("Dice, all pixels pooled", sums=of.dice_sums, in_short_table=True),
    "iou_pooled": Metric("IoU, all pixels pooled", sums=of.iou_sums, in_short_table=True),
    "hd95": Metric(
        "Hausdorff distance, 95th percentile", of.hd95, unit=DISTANCE, higher_is_better=False, of_boundaries=True
    ),
    "surface_dice": Metric("Surface Dice", of.surface_dice, of_boundaries=True),
    "accuracy": Metric("Pixel accuracy", of.accuracy),
    "lesion_precision": Metric("Precision, whole lesions", of.share(of.right_lesions), of.right_lesions),
    "lesion_recall": Metric("Recall, whole lesions", of.share(of.found_lesions), of.found_lesions),
}
PRIMARY = "dice"  # by which models are chosen, compared and summed up: a key of the table


def primary_name() -> str:
    """The primary metric in a sentence, such as "Dice"."""
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
    """Adds a metric to `METRICS`, and so to every score, report, card and comparison made from then on.

    Args:
        key: its name in reports and tables, and for `metric_for_best_model`.
        of_image, label, sums, fields: as of `Metric`.
        exist_ok: replace a metric of this name.

    Raises `ValueError` for a key that is taken or no name, and where neither `of_image` nor `sums` is given.
    """
    if not key.isidentifier() or key in (*COLUMNS_BESIDE, "loss"):
        raise ValueError(f"'{key}' cannot be a metric's key: give a name like `{'_'.join(key.split()) or 'x'}_score`.")
    if key in METRICS and not exist_ok:
        raise ValueError(f"There is a metric '{key}': choose another key, or pass exist_ok=True to replace it.")
    if of_image is None and sums is None:
        raise ValueError(f"Nothing computes '{key}': give `of_image`, or `sums` for a ratio over the whole set.")
    METRICS[key] = Metric(label, of_image, sums, **fields)


def units_text(about: Mapping[str, Mapping[str, Any]]) -> str:
    """Such as "`hd95` in px", of metrics described by `Metric.about`; "" where all are fractions."""
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
    """The scores of one image, by the keys of `METRICS`: of those that have a value for a single image.

    All are fractions of 1, but `hd95` is in mm, or in pixels where no spacing is given.

    Args:
        prediction, reference: (height, width) integer labels, 0 the background; 255 in the reference is ignored, as if
            neither mask held anything there, and so is the Trainer's padding, -100. With several labels each score is a
            mean over those present in either.
        spacing_mm: (row, column) size of a pixel.
        surface_tolerance: how far boundaries may lie apart to count as equal in `surface_dice`, in the unit of `hd95`.
        white_is_lesion: True reads 255 as the lesion in both, False as ignored; needed where the reference holds 255
            but no label, which may mean either.

    `hd95` is the 95th percentile of the distances from each boundary to the other, the larger of both directions.
    A true lesion is found, and a predicted one is right, where the other mask covers a tenth of it or more; without
    true (predicted) lesions, recall (precision) is 1.

    Raises `ValueError` where shapes differ, the prediction holds 255, or values are no labels, such as probabilities.
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
    """The scores of a set of images, as `summarize` gives them.

    Args:
        predictions, references: lists of label arrays of any sizes, read as `image_metrics` reads them.
        spacing_mm: one (row, column) an image; mm are used where every image has one, else pixels.
        outlines: `False` leaves out `hd95` and `surface_dice` (of boundaries), most of the time it takes.
        white_is_lesion: as of `image_metrics`; needed where references hold 255 but none of them a label.

    Raises `ValueError` as `image_metrics`, naming the index, when counts differ, or nothing is given.
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
    """The scores of each image; arguments and errors as of `segmentation_metrics`."""
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
        raise ValueError("No predictions were given: hand over at least one prediction and its reference.")
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
    """The scores of several predictions of one image; arguments and errors as of `image_metrics`.

    What a score takes of the reference alone is measured once, and equal predictions are scored once.
    """
    if spacing_mm is not None:
        check_spacing(spacing_mm)
    scores: dict[bytes, ImageScores] = {}
    found, true_regions = [], None
    for prediction, labels in label_pairs(predictions, [reference] * len(predictions), white_is_lesion):
        true_regions = regions_of(labels) if true_regions is None else true_regions
        if (key := prediction.tobytes()) not in scores:
            scores[key] = score_pair(MaskPair(prediction, labels, spacing_mm, true_regions=true_regions))
        found.append(scores[key])
    return found


def common_spacing(spacing_mm: Sequence[Spacing | None] | None, count: int) -> Sequence[Spacing | None]:
    """The spacings where every image has one; else none at all, so that a mean does not mix millimetres and pixels."""
    if spacing_mm is None or any(spacing is None for spacing in spacing_mm):
        return [None] * count
    return spacing_mm


def check_spacing(spacing: Spacing) -> None:
    """Raises `ValueError` for what is no (row, column) size of a pixel."""
    if len(spacing) != 2:
        raise ValueError(f"`spacing_mm` is {spacing}: give (row, column), the size of a pixel in mm.")
    for step in spacing:
        check_positive("spacing_mm", float(step), example="0.7")


def summarize(scores: Sequence[ImageScores]) -> dict[str, float]:
    """One value a score of the set.

    `dice, iou, accuracy, hd95, surface_dice` are means over images; `dice_pooled, iou_pooled` count all pixels as those
    of one image, a mean over the labels present anywhere; `lesion_precision, lesion_recall` count all lesions.
    """
    return {key: float(np.mean(_ratios(*parts))) for key, parts in _parts(scores).items()}


def score_intervals(
    scores: Sequence[ImageScores], groups: Sequence[str] | None = None, seed: int = 0
) -> dict[str, Interval | None]:
    """Bootstrap 95 % interval of each value of `summarize`; `None` where there is but one group to draw.

    Args:
        groups: the patient of each image. Whole groups are drawn, since images of one patient are no independent
            evidence; by default each image is its own.
    """
    return {key: ratio_interval(*parts, groups=groups, seed=seed) for key, parts in _parts(scores).items()}


def score_pair(pair: MaskPair, outlines: bool = True) -> ImageScores:
    """The scores of one image's masks; without `outlines` none of boundaries."""
    # Means before ratios, boundaries last of the means: the order of the keys in every report.
    ordered = sorted(METRICS.items(), key=lambda item: (item[1].is_pooled, item[1].of_boundaries))
    chosen = {key: metric for key, metric in ordered if outlines or not metric.of_boundaries}
    return ImageScores(
        {key: float(metric.of_image(pair)) for key, metric in chosen.items() if metric.of_image},
        {key: metric.sums(pair) for key, metric in chosen.items() if metric.sums},
    )


def _parts(scores: Sequence[ImageScores]) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Every score of the set as a ratio of sums: numerators and denominators (images, labels), labels 1 for most."""
    means = {
        key: np.array([[score.values[key]] for score in scores])
        for key in scores[0].values
        if key not in scores[0].sums
    }
    ratios = {key: _sums_by_label([score.sums[key] for score in scores]) for key in scores[0].sums}
    return {key: (values, np.ones_like(values)) for key, values in means.items()} | ratios


def _sums_by_label(sums: Sequence[Sums]) -> tuple[np.ndarray, np.ndarray]:
    """(images, labels) numerators and denominators, 0 where an image lacks a label."""
    labels = sorted({label for of_image in sums for label in of_image})
    top, bottom = (
        np.array([[of_image.get(label, (0, 0))[k] for label in labels] for of_image in sums]) for k in (0, 1)
    )
    return top, bottom


def _ratios(numerators: np.ndarray, denominators: np.ndarray) -> np.ndarray:
    """Sum over images by sum over images, one value a label; 1 where there was nothing to count."""
    top, bottom = numerators.sum(0), denominators.sum(0)
    ratios = np.divide(top, bottom, out=np.ones(len(top)), where=bottom > 0)
    return ratios if len(ratios) else np.ones(1)
