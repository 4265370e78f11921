"""The report of an evaluation: scores, per-image table, figure, and the files they are saved to."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from datasets import Dataset
from PIL import Image

from ..charts import interval_chart
from ..data.decoding import decode_image
from ..data.features import undecoded
from ..intervals import Interval, PairedDifference, paired_difference
from ..io.markdown import markdown_table
from ..labels_tevia import is_lesion
from ..mask_scores import Spacing
from ..metrics import (
    METRICS,
    PRIMARY,
    ImageScores,
    primary_name,
    score_intervals,
    score_predictions,
    summarize,
    units_text,
)
from ..prompts import ReportLanguage
from ..prompts.lesions import Lesions
from ..visualization import contact_sheet, overlay, stack
from .text_agreement import MaskAndText, TextScores, compare_with_text, text_scores, text_tables
from .text_conditions import OWN, SHUFFLED, TextCondition


@dataclass
class EvaluationReport:
    """Scores of one data set with each text condition.

    Args:
        settings: of the evaluation: the model, its weights and preprocessing, the examples; `hd95_unit` is "mm" or
            "px".
        scores: text condition -> metric -> value.
        intervals: text condition -> metric -> bootstrap 95 % interval, resampled by patient.
        text_sensitivity: Dice with an image's own text minus Dice with another image's; `None` without a text branch.
        images: one row per image and text condition: `id, group, text_mode, text`, scores and pixel counts.
        figure: the Dice with each text condition, and the masks of some images.
        metrics: metric -> its label, unit, and whether higher is better, in the order of tables.
        text_conditions: text condition -> description of its texts.
        against_text: text condition -> agreement of the masks with its texts, see `TextScores`.
        denying_conditions: those whose texts deny the lesions, for which scores against the true masks are
            meaningless.
    """

    settings: dict[str, Any]
    scores: dict[str, dict[str, float]]
    intervals: dict[str, dict[str, Interval | None]]
    text_sensitivity: PairedDifference | None
    images: pd.DataFrame
    figure: Image.Image
    metrics: dict[str, dict[str, Any]]
    text_conditions: dict[str, str]
    against_text: dict[str, TextScores]
    denying_conditions: list[str]

    def headline(self) -> str:
        """The primary score with the images' own texts, and the difference with each other text condition, in points.

        Conditions that deny the lesions are left out, since their Dice is meaningless. For a condition that does not
        change all texts, the number of changed ones is given.
        """
        own, *others = self.scores
        line, changes = f"{primary_name()} {self.scores[own][PRIMARY]:.3f} with {self.text_conditions[own]}.", []
        for name in (name for name in others if name not in self.denying_conditions):
            points = 100 * (self.scores[name][PRIMARY] - self.scores[own][PRIMARY])
            changed, images = self.settings["texts_changed"].get(name), self.settings["images"]
            note = f" ({changed} of {images} texts changed)" if changed is not None and changed < images else ""
            changes.append(f"{self.text_conditions[name]} {points:+.1f}{note}")
        return f"{line} Against it, in points: {', '.join(changes)}." if changes else line

    def table(self) -> str:
        """The report as Markdown: headline, scores and interval of the Dice, text sensitivity, agreement with texts.

        Conditions that deny the lesions are marked, since their Dice is meaningless.
        """
        marks = {name: " †" if name in self.denying_conditions else "" for name in self.scores}
        rows = {
            name + marks[name]: {**row, "95 %": _interval_text(self.intervals[name][PRIMARY])}
            for name, row in self.scores.items()
        }
        first, *others = self.metrics
        lines = [self.headline(), "", score_table(rows, (first, "95 %", *others)), ""]
        units = units_text(self.metrics)
        lines.append(f"{units}{'; ' if units else ''}95 %: bootstrap interval of `{PRIMARY}`.")
        if (paired := self.text_sensitivity) is not None:
            lines.append(
                f"Text sensitivity ({PRIMARY} with an image's own text minus with another's): {paired.difference:.3f}, "
                f"{_interval_text(paired.interval)}, p = {paired.p_value:.2g}."
            )
        if seen := self.settings.get("groups_seen_in_training"):
            lines.append(f"{seen} groups (patients) were in the model's training: the scores flatter it.")
        if skipped := self.settings.get("skipped"):
            lines.append(f"{len(skipped)} examples could not be read and are left out:")
            lines += [f"- {one['id']}: {one['reason']}" for one in skipped]
        if any(marks.values()):
            lines.append(
                f"† The text denies the lesion, so that its {primary_name()} is no score: see what is marked all the "
                "same."
            )
        for name, changed in self.settings["texts_changed"].items():
            if changed < self.settings["images"]:
                lines.append(
                    f"{name}: {changed} of {self.settings['images']} texts changed, the others are as they were."
                )
        lines += text_tables(self.against_text)
        return "\n".join(lines)

    def save(self, folder: str | Path) -> None:
        """Writes `evaluation.json`, `evaluation.md`, `evaluation.png` and the per-image `evaluation.csv`."""
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        content = {
            "settings": self.settings,
            "scores": self.scores,
            "intervals": self.intervals,
            "text_sensitivity": self.text_sensitivity and self.text_sensitivity._asdict(),
            "metrics": self.metrics,
            "text_conditions": self.text_conditions,
            "denying_conditions": self.denying_conditions,
            "against_text": {name: scores.as_dict() for name, scores in self.against_text.items()},
        }
        (folder / "evaluation.json").write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
        (folder / "evaluation.md").write_text(self.table() + "\n", encoding="utf-8")
        self.images.to_csv(folder / "evaluation.csv", index=False)
        self.figure.save(folder / "evaluation.png")


class MeasuredMask(NamedTuple):
    """A mask, its scores against the true one, its comparison with the text, and its number of lesion pixels."""

    mask: np.ndarray
    scores: ImageScores
    against_text: MaskAndText
    pixels: int


def measure_masks(
    texts: Sequence[str],
    masks: Sequence[np.ndarray],
    reference: np.ndarray,
    spacing_mm: Spacing | None,
    language: ReportLanguage | None,
) -> list[MeasuredMask]:
    """The measurements of one image's masks, one for each text.

    Those of the true mask, the `reference`, are computed once for all of them, and equal masks are scored once.
    """
    true_lesions = Lesions(reference)
    scores = score_predictions(masks, reference, spacing_mm, white_is_lesion=False)
    return [
        MeasuredMask(
            mask, score, compare_with_text(text, mask, reference, language, true_lesions), int(is_lesion(mask).sum())
        )
        for text, mask, score in zip(texts, masks, scores, strict=True)
    ]


@dataclass
class ConditionResults:
    """The results of one text condition: the text, scores and lesion pixels of each image; masks for the figure.

    `scores` are against the true masks, `against_text` against the texts.
    """

    condition: TextCondition
    texts: Sequence[str]
    scores: list[ImageScores] = field(default_factory=list)
    rows: list[MaskAndText] = field(default_factory=list)
    pixels: list[int] = field(default_factory=list)
    shown: dict[int, np.ndarray] = field(default_factory=dict)

    def add(self, measured: MeasuredMask, is_shown: bool) -> None:
        """Adds the next image."""
        if is_shown:
            self.shown[len(self.rows)] = measured.mask
        self.rows.append(measured.against_text)
        self.scores.append(measured.scores)
        self.pixels.append(measured.pixels)

    @cached_property
    def against_text(self) -> TextScores:
        return text_scores(self.rows)

    @property
    def denies(self) -> bool:
        return self.condition.denies or self.against_text.denies_all_lesions


def report_of(
    results: Mapping[str, ConditionResults],
    dataset: Dataset,
    true_pixels: Sequence[int],
    shown: Mapping[int, np.ndarray],
    settings: dict[str, Any],
) -> EvaluationReport:
    """The report on the results of all text conditions.

    Args:
        true_pixels: lesion pixels of each image's true mask.
        shown: the true masks of the images in the figure, by index.
    """
    seed, unit = settings["seed"], settings["hd95_unit"]
    scores = {name: summarize(result.scores) for name, result in results.items()}
    intervals = {name: score_intervals(result.scores, dataset["group"], seed) for name, result in results.items()}
    images = pd.DataFrame(
        [row for name, result in results.items() for row in image_rows(dataset, name, result, true_pixels)]
    )
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
        figure=stack([chart, masks_sheet(results, dataset, shown, settings.get("classes", {1: "lesion"}))]),
        metrics={key: metric.about(unit) for key, metric in METRICS.items() if key in next(iter(scores.values()))},
        text_conditions={name: result.condition.label for name, result in results.items()},
        against_text={name: result.against_text for name, result in results.items()},
        denying_conditions=[name for name, result in results.items() if result.denies],
    )


def image_rows(dataset: Dataset, name: str, result: ConditionResults, true_pixels: Sequence[int]) -> list[dict]:
    """The rows of one text condition in `evaluation.csv`, one per image."""
    columns = zip(dataset["id"], dataset["group"], result.texts, result.pixels, true_pixels, result.scores, strict=True)
    return [
        {"id": example, "group": group, "text_mode": name, "text": text, **scores.values}
        | {"predicted_pixels": predicted, "true_pixels": true}
        for example, group, text, predicted, true, scores in columns
    ]


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


def score_table(scores: Mapping[str, Mapping[str, Any]], names: Sequence[str] | None = None) -> str:
    """A Markdown table of score rows; by default of the scores that papers report, in both Dice definitions."""
    if names is None:
        names = [key for key, metric in METRICS.items() if metric.in_short_table]
    rows = [
        [condition, *(value if isinstance(value := row[name], str) else f"{value:.3f}" for name in names)]
        for condition, row in scores.items()
    ]
    return markdown_table(["text", *names], rows)


def _interval_text(interval: Interval | None) -> str:
    return f"[{interval[0]:.3f}, {interval[1]:.3f}]" if interval else "-"
