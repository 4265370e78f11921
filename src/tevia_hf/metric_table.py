"""The table of all scores: what each is called, its unit and direction, and how it is computed.

Validation during training, reports, intervals, model cards and comparisons read `METRICS`; `register_metric` adds
custom metrics.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from tevia_hf import mask_scores
from tevia_hf.mask_scores import MaskPair, Sums

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
        "Precision (lesion-wise)", mask_scores.share(mask_scores.correct_lesions), mask_scores.correct_lesions
    ),
    "lesion_recall": Metric(
        "Recall (lesion-wise)", mask_scores.share(mask_scores.detected_lesions), mask_scores.detected_lesions
    ),
}
POOLED = "dice_pooled"  # 0 if no predicted pixel lies on a lesion, however many masks are empty
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
