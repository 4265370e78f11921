"""The report of an evaluation: scores, per-image table, figure, and the files they are saved to."""

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd
from PIL import Image

from ..intervals import Interval, PairedDifference
from ..io.markdown import Section, markdown_blocks
from ..metric_table import PRIMARY, primary_name
from ..score_summaries import ClassScores, failure_text
from .html_report import html_report
from .report_sections import report_sections
from .text_agreement import TextScores
from .volumes import volume_summary
from .worst_cases import WorstCase, worst_cases_sheet


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
        foreground: text condition -> scores of images with a lesion, and false positives in the others.
        classes: text condition -> class -> scores; empty mappings for a model with one class. Intervals, here and in
            `foreground`, are those of the images' own texts only.
        worst_cases: the images with the worst primary score, with their own texts.
        volumes: scores of whole volumes, one row per volume and text condition; empty for images that are no slices.
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
    foreground: dict[str, ClassScores]
    classes: dict[str, dict[str, ClassScores]]
    worst_cases: list[WorstCase] = field(default_factory=list)
    volumes: pd.DataFrame = field(default_factory=pd.DataFrame)

    def headline(self) -> str:
        """The summary, after what to do if the model finds no lesion."""
        return f"{failure} {self.summary()}" if (failure := self.failure()) else self.summary()

    def summary(self) -> str:
        """The primary score with the images' own texts, and the difference with each other text condition, in points.

        It states how classes and images without a lesion are averaged, if there are any. Conditions that deny the
        lesions are left out, since their Dice is meaningless. For a condition that does not change all texts, the
        number of changed ones is given.
        """
        own, *others = self.scores
        averaged = f" ({note})" if (note := self.averaging()) else ""
        line = f"{primary_name()} {self.scores[own][PRIMARY]:.3f} with {self.text_conditions[own]}{averaged}."
        changes = []
        for name in (name for name in others if name not in self.denying_conditions):
            points = 100 * (self.scores[name][PRIMARY] - self.scores[own][PRIMARY])
            changed, images = self.settings["texts_changed"].get(name), self.settings["images"]
            note = f" ({changed} of {images} texts changed)" if changed is not None and changed < images else ""
            changes.append(f"{self.text_conditions[name]} {points:+.1f}{note}")
        return line + (f" Against it, in points: {', '.join(changes)}." if changes else "")

    def averaging(self) -> str:
        """How the primary score is averaged; "" for one class without empty masks."""
        own = next(iter(self.scores))
        over_classes = " of the mean over the classes in either mask" if self.classes[own] else ""
        absent = f", {count} of them without a lesion" if (count := self.foreground[own].absent) else ""
        return f"mean over {self.settings['images']} images{over_classes}{absent}" if over_classes or absent else ""

    def failure(self) -> str:
        """What to do if no predicted pixel lies on a lesion, with the images' own texts; "" otherwise."""
        own = next(iter(self.scores))
        return failure_text(self.foreground[own])

    def volume_summary(self) -> dict[str, dict[str, Any]]:
        """Text condition -> scores of whole volumes, see `volumes.volume_summary`; empty without volumes."""
        return volume_summary(self.volumes, self.settings["seed"]) if len(self.volumes) else {}

    def sections(self) -> list[Section]:
        """The tables and remarks of the report, for any format; see `report_sections`."""
        return report_sections(self)

    def table(self) -> str:
        """The report as Markdown: headline, scores and interval of the Dice, text sensitivity, agreement with texts.

        Conditions that deny the lesions are marked, since their Dice is meaningless.
        """
        blocks = [block for section in self.sections() for block in section.blocks]
        return f"{self.headline()}\n\n{markdown_blocks(blocks)}"

    def save(self, folder: str | Path) -> None:
        """Writes `evaluation.json`, `.md`, `.html`, `.png`, the per-image `evaluation.csv` and `worst_cases.jpg`.

        For slices of volumes, also `volumes.csv`.
        """
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
            "foreground": {name: scores.as_dict() for name, scores in self.foreground.items()},
            "classes": {
                name: {label: scores.as_dict() for label, scores in of_mode.items()}
                for name, of_mode in self.classes.items()
            },
        }
        if len(self.volumes):
            content["volumes"] = self.volume_summary()
            self.volumes.to_csv(folder / "volumes.csv", index=False)
        (folder / "evaluation.json").write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
        (folder / "evaluation.md").write_text(self.table() + "\n", encoding="utf-8")
        (folder / "evaluation.html").write_text(html_report(self), encoding="utf-8")
        self.images.to_csv(folder / "evaluation.csv", index=False)
        self.figure.save(folder / "evaluation.png")
        if self.worst_cases:
            classes = {label: name for name, label in self.settings["classes"].items()}
            worst_cases_sheet(self.worst_cases, classes).save(folder / "worst_cases.jpg", quality=90)
