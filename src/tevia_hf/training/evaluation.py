"""How good the masks are, and whether the model reads its text."""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import torch
from datasets import Dataset
from PIL import Image
from transformers import EvalPrediction

from ..data.features import decode_part, reference_labels, spacing_of, undecoded
from ..intervals import Interval, PairedDifference, paired_difference
from ..metrics import (
    IGNORE_LABEL,
    ImageScores,
    common_spacing,
    score_images,
    score_intervals,
    segmentation_metrics,
    summarize,
)
from ..prompts import contradict_sentence, flip_sentence
from ..visualization import contact_sheet, interval_chart, overlay, stack
from .prediction import predict_masks
from .sentence_features import SentenceFeatureCache

OVERLAP_NAMES = ("dice", "iou", "dice_pooled", "iou_pooled")
SCORE_NAMES = (*OVERLAP_NAMES, "hd95", "surface_dice", "accuracy", "lesion_precision", "lesion_recall")
READING_MODES = ("correct", "shuffled")  # always measured: their difference says how much is read
SHOWN_EXAMPLES = 4


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


class Measured(NamedTuple):
    """What one kind of sentence gave: a text, scores and marked pixels an image; the masks of those that are shown."""

    texts: list[str]
    scores: list[ImageScores]
    pixels: list[int]
    shown: dict[int, np.ndarray]


def score_table(scores: dict[str, dict[str, Any]], names: Sequence[str] = OVERLAP_NAMES) -> str:
    """A Markdown table of score rows; `dice` and `iou` are means over images, `_pooled` over all pixels together."""
    lines = ["| text | " + " | ".join(names) + " |", "|---" * (len(names) + 1) + "|"]
    for mode, row in scores.items():
        cells = [value if isinstance(value := row[name], str) else f"{value:.3f}" for name in names]
        lines.append(f"| {mode} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def correct_sentences(texts: list[str], seed: int) -> list[str]:
    """Each image's own sentence."""
    return texts


def shuffled_sentences(texts: list[str], seed: int) -> list[str]:
    """The sentence of another image each (which may by chance read the same): a seeded cycle through all rows."""
    order = np.random.default_rng(seed).permutation(len(texts))
    shifted = dict(zip(order.tolist(), np.roll(order, 1).tolist(), strict=True))
    return [texts[shifted[index]] for index in range(len(texts))]


def no_sentences(texts: list[str], seed: int) -> list[str]:
    """No sentence: the learned null text stands in."""
    return [""] * len(texts)


def flipped_sentences(texts: list[str], seed: int) -> list[str]:
    """Each image's own sentence with its sides changed: what is true of the mirrored picture."""
    return [flip_sentence(text or "") for text in texts]


def contradictory_sentences(texts: list[str], seed: int) -> list[str]:
    """The opposite of each image's own sentence about whether there is a lesion at all; "" where it has none."""
    return [contradict_sentence(text) if text else "" for text in texts]


TEXT_MODES: dict[str, Callable[[list[str], int], list[str]]] = {
    "correct": correct_sentences,
    "shuffled": shuffled_sentences,
    "none": no_sentences,
    "flipped": flipped_sentences,
    "contradictory": contradictory_sentences,
}


def evaluate_model(
    model,
    processor,
    dataset: Dataset,
    text_modes: tuple[str, ...] = ("correct", "shuffled", "none"),
    threshold: float = 0.5,
    batch_size: int = 16,
    seed: int = 0,
) -> EvaluationReport:
    """Masks at the images' own sizes against the true ones, with each kind of sentence.

    Args:
        model, processor: a `TeViAForSegmentation` and its `TeViAProcessor`; a model without text gets one row,
            "no text branch".
        dataset: as `load_segmentation_dataset` gives it.
        text_modes: of "none", "flipped" (sides changed), "contradictory" (presence denied, or claimed); "correct" and
            "shuffled" (another image's sentence) are always measured.
        threshold: on the lesion's probability, for models with one label.
        seed: of the shuffling, the bootstrap and the examples shown.
    """
    check_text_modes(text_modes)
    check_texts(dataset, model.config.use_text)
    modes = {mode: TEXT_MODES[mode] for mode in dict.fromkeys((*READING_MODES, *text_modes))}
    if not model.config.use_text:
        modes = {"no text branch": no_sentences}
    sentences = SentenceFeatureCache(model, processor) if model.config.use_text else None
    references = [reference_labels(example, processor) for example in undecoded(dataset)]
    spacings = common_spacing([spacing_of(example) for example in undecoded(dataset)], len(references))
    chosen = examples_to_show(references, seed)
    measured = {}
    for mode, choose in modes.items():
        texts = choose(list(dataset["text"]), seed)
        examples = [{**example, "text": text} for example, text in zip(undecoded(dataset), texts, strict=True)]
        masks = predict_masks(model, processor, examples, threshold, batch_size, f"text: {mode}", sentences)
        pixels, shown = [int((mask > 0).sum()) for mask in masks], {index: masks[index] for index in chosen}
        measured[mode] = Measured(texts, score_images(masks, references, spacings), pixels, shown)
    unit = "px" if spacings[0] is None else "mm"
    settings = {"images": len(dataset), "threshold": threshold, "seed": seed, "hd95_unit": unit}
    return report_of(measured, dataset, references, settings)


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


def check_text_modes(text_modes: tuple[str, ...]) -> None:
    """Raises `ValueError` for kinds of text that do not exist."""
    if unknown := [mode for mode in text_modes if mode not in TEXT_MODES]:
        raise ValueError(f"Unknown text modes {unknown}: choose of {list(TEXT_MODES)}.")


def check_texts(dataset: Dataset, uses_text: bool) -> None:
    """Raises `ValueError` where a model that reads would be measured without a single sentence."""
    if uses_text and not any(dataset["text"]):
        raise ValueError(
            "No example has a sentence, so that nothing tells whether the model reads: name a table of sentences "
            "(`sentences`, `--sentences`), the one it was trained with or one that `tevia prompts` makes."
        )


def text_sensitivity(images: pd.DataFrame, seed: int = 0) -> PairedDifference | None:
    """Dice with the correct sentences minus Dice with shuffled ones, from the rows of a report; `None` without them."""
    correct, shuffled = (images[images["text_mode"] == mode] for mode in READING_MODES)
    if correct.empty or shuffled.empty:
        return None
    return paired_difference(list(correct["dice"]), list(shuffled["dice"]), list(correct["group"]), seed)


def groups_seen_in_training(model_dir: str | Path, dataset: Dataset) -> list[str] | None:
    """The groups of a data set that a model was trained on; `None` where its folder does not say (`_splits.csv`)."""
    path = Path(model_dir) / "_splits.csv"
    if not path.is_file():
        return None
    table = pd.read_csv(path, dtype=str, keep_default_na=False)
    return sorted(set(table.loc[table["part"] == "train", "group"]) & set(dataset["group"]))


def image_rows(dataset: Dataset, mode: str, found: Measured, references: list[np.ndarray]) -> list[dict]:
    columns = zip(dataset["id"], dataset["group"], found.texts, found.pixels, references, found.scores, strict=True)
    return [
        {"id": name, "group": group, "text_mode": mode, "text": text, **of_image.values}
        | {"predicted_pixels": pixels, "true_pixels": int(is_lesion(reference).sum())}
        for name, group, text, pixels, reference, of_image in columns
    ]


def examples_to_show(references: list[np.ndarray], seed: int) -> list[int]:
    """Some images, those with a lesion first."""
    order = np.random.default_rng(seed).permutation(len(references)).tolist()
    return sorted(order, key=lambda index: not is_lesion(references[index]).any())[:SHOWN_EXAMPLES]


def masks_sheet(measured: dict[str, Measured], dataset: Dataset, references: list[np.ndarray]) -> Image.Image:
    """What the masks of some images become with each kind of sentence, a row an image."""
    chosen = list(next(iter(measured.values())).shown)
    films = [decode_part(example, "image") for example in undecoded(dataset.select(chosen))]
    pictures = [
        [overlay(film, found.shown[index], references[index]) for found in measured.values()]
        for film, index in zip(films, chosen, strict=True)
    ]
    captions = [
        [f"{mode}: {found.texts[index] or 'no sentence'}" for mode, found in measured.items()] for index in chosen
    ]
    return contact_sheet(pictures, captions, title="Orange: the mask. Green outline: the truth.")


def is_lesion(labels: np.ndarray) -> np.ndarray:
    return (labels > 0) & (labels != IGNORE_LABEL)


def _interval_text(interval: Interval | None) -> str:
    return f"[{interval[0]:.3f}, {interval[1]:.3f}]" if interval else "-"


def labels_from_logits(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """Label maps `(batch, height, width)` uint8; keeps the Trainer from collecting logits."""
    predicted = logits[:, 0] > 0 if logits.shape[1] == 1 else logits.argmax(1)
    return predicted.to(torch.uint8)


def compute_metrics(prediction: EvalPrediction) -> dict[str, float]:
    """The Trainer's validation scores, at the size the network sees; both Dice definitions, no outlines."""
    return segmentation_metrics(list(prediction.predictions), list(prediction.label_ids), outlines=False)
