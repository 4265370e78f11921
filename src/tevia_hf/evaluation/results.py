"""Measured masks of an evaluation, by text condition, and the report of them."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from datasets import Dataset
from PIL import Image

from ..charts import interval_chart
from ..data.decoding import decode_image
from ..data.features import undecoded
from ..intervals import PairedDifference, paired_difference
from ..mask_scores import Spacing
from ..metric_table import METRICS, PRIMARY, primary_name
from ..metrics import score_predictions
from ..prompts import ReportLanguage
from ..prompts.lesions import Lesions
from ..score_summaries import (
    ClassScores,
    ImageScores,
    class_key,
    class_scores,
    score_intervals,
    scores_by_class,
    summarize,
)
from ..visualization import contact_sheet, overlay, stack
from .report import EvaluationReport
from .text_agreement import MaskAndText, TextScores, compare_with_text, text_scores
from .text_conditions import OWN, SHUFFLED, TextCondition
from .volumes import VolumeScores, volume_table
from .worst_cases import WorstMasks, worst_cases


class Measurement(NamedTuple):
    """The scores of a mask against the true one, and its comparison with the text."""

    scores: ImageScores
    against_text: MaskAndText


def measure_masks(
    texts: Sequence[str],
    masks: Sequence[np.ndarray],
    reference: np.ndarray,
    spacing_mm: Spacing | None,
    language: ReportLanguage | None,
    classes: Collection[int] = (),
) -> list[Measurement]:
    """The measurements of one image's masks, one for each text; of several `classes` (labels), of each.

    Those of the true mask, the `reference`, are computed once for all of them, and equal masks are scored once.
    """
    true_lesions = Lesions(reference)
    scores = score_predictions(masks, reference, spacing_mm, white_is_lesion=False, classes=classes)
    return [
        Measurement(score, compare_with_text(text, mask, reference, language, true_lesions))
        for text, mask, score in zip(texts, masks, scores, strict=True)
    ]


@dataclass
class ConditionResults:
    """The results of one text condition: the text and scores of each image; masks of those in the figure.

    `scores` are against the true masks, `against_text` against the texts; `shown` are masks by position.
    """

    condition: TextCondition
    texts: Sequence[str]
    scores: list[ImageScores] = field(default_factory=list)
    rows: list[MaskAndText] = field(default_factory=list)
    shown: dict[int, np.ndarray] = field(default_factory=dict)

    @cached_property
    def against_text(self) -> TextScores:
        return text_scores(self.rows)

    @property
    def denies(self) -> bool:
        return self.condition.denies or self.against_text.denies_all_lesions


def report_of(
    results: Mapping[str, ConditionResults],
    dataset: Dataset,
    shown: Mapping[int, np.ndarray],
    settings: dict[str, Any],
    worst: WorstMasks | None = None,
    of_volumes: Mapping[int, VolumeScores] | None = None,
) -> EvaluationReport:
    """The report on the results of all text conditions.

    Args:
        shown: the true masks of the images in the figure, by index.
        settings: of the evaluation; `classes` are the names and labels of the model's classes.
        worst: the masks with the images' own texts that have the worst scores; None for none.
        of_volumes: scores in three dimensions, see `volume_table`.
    """
    seed, unit = settings["seed"], settings["hd95_unit"]
    classes = {label: name for name, label in settings["classes"].items()}
    scores = {name: summarize(result.scores) for name, result in results.items()}
    intervals = {name: score_intervals(result.scores, dataset["group"], seed) for name, result in results.items()}
    images = image_table(results, dataset, classes)
    own, groups = next(iter(results)), dataset["group"]
    options = {name: {"groups": groups, "seed": seed, "with_intervals": name == own} for name in results}
    by_class = {name: scores_by_class(result.scores, classes, **options[name]) for name, result in results.items()}
    chart = interval_chart(
        {name: (row[PRIMARY], intervals[name][PRIMARY]) for name, row in scores.items() if not results[name].denies},
        title=f"Text sensitivity: {primary_name()} with each text condition",
        label=f"{METRICS[PRIMARY].label} (95 % interval)",
    )
    return EvaluationReport(
        settings,
        scores,
        intervals,
        text_sensitivity(images, seed),
        images,
        figure=stack([chart, *class_charts(by_class[own]), masks_sheet(results, dataset, shown, classes)]),
        metrics={key: metric.about(unit) for key, metric in METRICS.items() if key in next(iter(scores.values()))},
        text_conditions={name: result.condition.label for name, result in results.items()},
        against_text={name: result.against_text for name, result in results.items()},
        denying_conditions=[name for name, result in results.items() if result.denies],
        foreground={name: class_scores(result.scores, **options[name]) for name, result in results.items()},
        classes=by_class,
        worst_cases=worst_cases(worst or WorstMasks(), dataset, results[own].texts),
        volumes=volume_table({name: result.scores for name, result in results.items()}, dataset, of_volumes or {}),
    )


def class_charts(classes: Mapping[str, ClassScores]) -> list[Image.Image]:
    """A chart of the primary score of each class that the images show; none for a model with one class."""
    bars = {f"{name} ({own.images} images)": own for name, own in classes.items() if own.images}
    values = {name: (own.scores[PRIMARY] or 0.0, own.intervals[PRIMARY]) for name, own in bars.items()}
    title = f"{primary_name()} by class"
    return (
        [interval_chart(values, title, f"{METRICS[PRIMARY].label} that show the class (95 % interval)")] if bars else []
    )


def image_table(results: Mapping[str, ConditionResults], dataset: Dataset, classes: Mapping[int, str]) -> pd.DataFrame:
    """The rows of `evaluation.csv`: one per image and text condition, with columns for each of several classes."""
    ids, groups = list(dataset["id"]), list(dataset["group"])
    tables = []
    for name, result in results.items():
        columns = {"id": ids, "group": groups, "text_mode": [name] * len(ids), "text": list(result.texts)}
        columns |= score_columns(result.scores)
        for label in result.scores[0].classes:
            own = score_columns([scores.classes[label] for scores in result.scores])
            columns |= {class_key(column, classes[label]): values for column, values in own.items()}
        tables.append(pd.DataFrame(columns))
    return pd.concat(tables, ignore_index=True)


def score_columns(scores: Sequence[ImageScores]) -> dict[str, list]:
    """Column of a per-image table -> its values."""
    columns: dict[str, list] = {key: [image.values[key] for image in scores] for key in scores[0].values}
    columns["predicted_pixels"] = [image.predicted_pixels for image in scores]
    columns["true_pixels"] = [image.true_pixels for image in scores]
    return columns


def text_sensitivity(images: pd.DataFrame, seed: int = 0) -> PairedDifference | None:
    """Dice with the images' own texts minus Dice with shuffled ones, from the rows of a report; `None` without them."""
    own, shuffled = (images[images["text_mode"] == name] for name in (OWN, SHUFFLED))
    if own.empty or shuffled.empty:
        return None
    return paired_difference(list(own[PRIMARY]), list(shuffled[PRIMARY]), list(own["group"]), seed)


def masks_sheet(
    results: Mapping[str, ConditionResults],
    dataset: Dataset,
    references: Mapping[int, np.ndarray],
    classes: Mapping[int, str],
) -> Image.Image:
    """The masks of some images with each text condition, one row per image; `classes` are the names of labels."""
    images = [decode_image(example) for example in undecoded(dataset.select(list(references)))]
    overlays = [
        [overlay(image, result.shown[index], reference) for result in results.values()]
        for image, (index, reference) in zip(images, references.items(), strict=True)
    ]
    captions = [
        [f"{name}: {result.texts[index] or 'no text'}" for name, result in results.items()] for index in references
    ]
    return contact_sheet(overlays, captions, "Predicted and reference masks", classes, with_reference=True)
