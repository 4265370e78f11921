"""How good the masks are, and whether the model reads its text."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from datasets import Dataset
from transformers import EvalPrediction

from ..data.features import reference_labels, undecoded
from ..metrics import image_metrics, segmentation_metrics
from .prediction import predict_masks
from .sentence_features import SentenceFeatureCache

SCORE_NAMES = ("dice", "iou", "dice_pooled", "iou_pooled")


@dataclass
class EvaluationReport:
    """Scores of one data set, a row a kind of sentence.

    Args:
        settings: what was evaluated, how.
        scores: kind of sentence -> metric -> value.
        images: one row an image and kind of sentence: `id, group, text_mode, text, dice, iou`.
    """

    settings: dict[str, Any]
    scores: dict[str, dict[str, float]]
    images: pd.DataFrame

    def table(self) -> str:
        """The scores as text, one line a kind of sentence."""
        return score_table(self.scores)

    def save(self, folder: str | Path) -> None:
        """Writes `evaluation.json` and the per-image `evaluation.csv`."""
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        content = {"settings": self.settings, "scores": self.scores}
        (folder / "evaluation.json").write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
        self.images.to_csv(folder / "evaluation.csv", index=False)


def score_table(scores: dict[str, dict[str, float]]) -> str:
    """A Markdown table of score rows; `dice` and `iou` are means over images, `_pooled` over all pixels together."""
    lines = ["| text | " + " | ".join(SCORE_NAMES) + " |", "|---" * (len(SCORE_NAMES) + 1) + "|"]
    for name, row in scores.items():
        lines.append(f"| {name} | " + " | ".join(f"{row[score]:.3f}" for score in SCORE_NAMES) + " |")
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


TEXT_MODES: dict[str, Callable[[list[str], int], list[str]]] = {
    "correct": correct_sentences,
    "shuffled": shuffled_sentences,
    "none": no_sentences,
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
        text_modes: of "correct", "shuffled" (another image's sentence), "none".
        threshold: on the lesion's probability, for models with one label.
        seed: of the shuffling.
    """
    check_text_modes(text_modes)
    modes = (
        {mode: TEXT_MODES[mode] for mode in text_modes} if model.config.use_text else {"no text branch": no_sentences}
    )
    sentences = SentenceFeatureCache(model, processor) if model.config.use_text else None
    references = [reference_labels(example, processor) for example in undecoded(dataset)]
    scores, rows = {}, []
    for mode, choose in modes.items():
        texts = choose(list(dataset["text"]), seed)
        examples = [{**example, "text": text} for example, text in zip(undecoded(dataset), texts, strict=True)]
        predictions = predict_masks(model, processor, examples, threshold, batch_size, f"text: {mode}", sentences)
        scores[mode] = segmentation_metrics(predictions, references)
        rows += image_rows(dataset, mode, texts, predictions, references)
    settings = {"images": len(dataset), "threshold": threshold, "seed": seed}
    return EvaluationReport(settings, scores, pd.DataFrame(rows))


def check_text_modes(text_modes: tuple[str, ...]) -> None:
    """Raises `ValueError` for kinds of text that do not exist."""
    if unknown := [mode for mode in text_modes if mode not in TEXT_MODES]:
        raise ValueError(f"Unknown text modes {unknown}: choose of {list(TEXT_MODES)}.")


def image_rows(dataset: Dataset, mode: str, texts: list[str], predictions: list, references: list) -> list[dict]:
    columns = zip(dataset["id"], dataset["group"], texts, predictions, references, strict=True)
    return [
        {"id": name, "group": group, "text_mode": mode, "text": text, **image_metrics(prediction, reference)}
        for name, group, text, prediction, reference in columns
    ]


def labels_from_logits(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """Label maps `(batch, height, width)` uint8; keeps the Trainer from collecting logits."""
    predicted = logits[:, 0] > 0 if logits.shape[1] == 1 else logits.argmax(1)
    return predicted.to(torch.uint8)


def compute_metrics(prediction: EvalPrediction) -> dict[str, float]:
    """The Trainer's validation scores, at the size the network sees; both Dice definitions."""
    return segmentation_metrics(list(prediction.predictions), list(prediction.label_ids))
