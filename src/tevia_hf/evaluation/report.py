"""An evaluation's scores, per-image rows and figure, and the files they are saved to."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from datasets import Dataset
from PIL import Image

from ..data.decoding import decode_image
from ..data.features import undecoded
from ..intervals import Interval, PairedDifference, paired_difference
from ..labels import is_lesion
from ..metrics import ImageScores, score_intervals, summarize
from ..visualization import contact_sheet, interval_chart, overlay, stack

OVERLAP_NAMES = ("dice", "iou", "dice_pooled", "iou_pooled")
SCORE_NAMES = (*OVERLAP_NAMES, "hd95", "surface_dice", "accuracy", "lesion_precision", "lesion_recall")


@dataclass
class EvaluationReport:
    """Scores of one data set, a row a kind of sentence.

    Args:
        settings: what was evaluated, how; `hd95_unit` is "mm" or "px".
        scores: kind of sentence -> metric -> value.
        intervals: kind of sentence -> metric -> bootstrap 95 % interval, patients drawn as a whole.
        text_sensitivity: Dice with the correct sentence minus Dice with another image's; `None` without a text branch.
        images: one row an image and kind of sentence: `id, group, text_mode, text`, its scores and its pixels.
        figure: the Dice of each kind of sentence, and the masks of some images.
    """

    settings: dict[str, Any]
    scores: dict[str, dict[str, float]]
    intervals: dict[str, dict[str, Interval | None]]
    text_sensitivity: PairedDifference | None
    images: pd.DataFrame
    figure: Image.Image

    def table(self) -> str:
        """The scores as Markdown, one line a kind of sentence; the interval of the Dice; the text-sensitivity below."""
        rows = {
            mode: {**row, "95 %": _interval_text(self.intervals[mode]["dice"])} for mode, row in self.scores.items()
        }
        lines = [score_table(rows, ("dice", "95 %", *SCORE_NAMES[1:])), ""]
        lines.append(f"`hd95` in {self.settings['hd95_unit']}; 95 %: bootstrap interval of `dice`.")
        if (found := self.text_sensitivity) is not None:
            lines.append(
                f"Text-sensitivity (dice with the correct sentence minus with another's): {found.difference:.3f}, "
                f"{_interval_text(found.interval)}, p = {found.p_value:.2g}."
            )
        return "\n".join(lines)

    def save(self, folder: str | Path) -> None:
        """Writes `evaluation.json`, `evaluation.md`, `evaluation.png` and the per-image `evaluation.csv`."""
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        sensitivity = self.text_sensitivity and self.text_sensitivity._asdict()
        scores = {"scores": self.scores, "intervals": self.intervals, "text_sensitivity": sensitivity}
        content = {"settings": self.settings, **scores}
        (folder / "evaluation.json").write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
        (folder / "evaluation.md").write_text(self.table() + "\n", encoding="utf-8")
        self.images.to_csv(folder / "evaluation.csv", index=False)
        self.figure.save(folder / "evaluation.png")


def score_table(scores: dict[str, dict[str, Any]], names: Sequence[str] = OVERLAP_NAMES) -> str:
    """A Markdown table of score rows; `dice` and `iou` are means over images, `_pooled` over all pixels together."""
    lines = ["| text | " + " | ".join(names) + " |", "|---" * (len(names) + 1) + "|"]
    for mode, row in scores.items():
        cells = [value if isinstance(value := row[name], str) else f"{value:.3f}" for name in names]
        lines.append(f"| {mode} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def _interval_text(interval: Interval | None) -> str:
    return f"[{interval[0]:.3f}, {interval[1]:.3f}]" if interval else "-"


READING_MODES = ("correct", "shuffled")  # always measured: their difference says how much is read


class Measured(NamedTuple):
    """What one kind of sentence gave: a text, scores and marked pixels an image; the masks of those that are shown."""

    texts: list[str]
    scores: list[ImageScores]
    pixels: list[int]
    shown: dict[int, np.ndarray]


def report_of(
    measured: dict[str, Measured], dataset: Dataset, references: list[np.ndarray], settings: dict[str, Any]
) -> EvaluationReport:
    """Scores, intervals, rows and figure of what was measured with each kind of sentence."""
    seed = settings["seed"]
    scores = {mode: summarize(found.scores) for mode, found in measured.items()}
    intervals = {mode: score_intervals(found.scores, dataset["group"], seed) for mode, found in measured.items()}
    images = pd.DataFrame(
        [row for mode, found in measured.items() for row in image_rows(dataset, mode, found, references)]
    )
    chart = interval_chart(
        {mode: (row["dice"], intervals[mode]["dice"]) for mode, row in scores.items()},
        title="Does the model read? Masks with each kind of sentence",
        label="Dice, mean over images (95 % interval)",
    )
    figure = stack([chart, masks_sheet(measured, dataset, references)])
    return EvaluationReport(settings, scores, intervals, text_sensitivity(images, seed), images, figure)


def text_sensitivity(images: pd.DataFrame, seed: int = 0) -> PairedDifference | None:
    """Dice with the correct sentences minus Dice with shuffled ones, from the rows of a report; `None` without them."""
    correct, shuffled = (images[images["text_mode"] == mode] for mode in READING_MODES)
    if correct.empty or shuffled.empty:
        return None
    return paired_difference(list(correct["dice"]), list(shuffled["dice"]), list(correct["group"]), seed)


def image_rows(dataset: Dataset, mode: str, found: Measured, references: list[np.ndarray]) -> list[dict]:
    columns = zip(dataset["id"], dataset["group"], found.texts, found.pixels, references, found.scores, strict=True)
    return [
        {"id": name, "group": group, "text_mode": mode, "text": text, **of_image.values}
        | {"predicted_pixels": pixels, "true_pixels": int(is_lesion(reference).sum())}
        for name, group, text, pixels, reference, of_image in columns
    ]


def masks_sheet(measured: dict[str, Measured], dataset: Dataset, references: list[np.ndarray]) -> Image.Image:
    """What the masks of some images become with each kind of sentence, a row an image."""
    chosen = list(next(iter(measured.values())).shown)
    films = [decode_image(example) for example in undecoded(dataset.select(chosen))]
    pictures = [
        [overlay(film, found.shown[index], references[index]) for found in measured.values()]
        for film, index in zip(films, chosen, strict=True)
    ]
    captions = [
        [f"{mode}: {found.texts[index] or 'no sentence'}" for mode, found in measured.items()] for index in chosen
    ]
    return contact_sheet(pictures, captions, title="Orange: the mask. Green outline: the truth.")
