"""A complete example in minutes, without downloads: train on `synthetic`, save, reload, evaluate, visualize."""

import json
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from datasets import Dataset
from PIL import Image
from transformers import BertConfig, BertTokenizer, ConvNextConfig, set_seed

from ..auto import TeViAConfig, TeViAForSegmentation, TeViAImageProcessor, TeViAProcessor
from ..data.augment import TextAwareAugmentation
from ..data.decoding import decode_image
from ..data.features import undecoded
from ..data.registry import load_segmentation_dataset
from ..data.survey import reference_labels
from ..evaluation.report_tables import score_table
from ..inference.predict import masks_of_each, predict_masks
from ..inference.predictor import Predictor
from ..io.output_dir import claim_output_dir
from ..labels_tevia import class_names
from ..metrics import segmentation_metrics
from ..training.arguments import TeViATrainingArguments
from ..training.trainer import build_trainer
from ..visualization import contact_sheet, overlay

IMAGE_SIZE = 64
SHEET_SIZE = 256
SHEET_ROWS = 4
NUM_TRAIN_EPOCHS = 12
WORDS = (
    "[PAD] [UNK] [CLS] [SEP] [MASK] bilateral unilateral pulmonary infection infected area areas one two three four "
    "upper middle lower all left right lung and , ."
).split()


@dataclass
class DemoResult:
    """Scores by row of the table, folder of the saved model, path of the overlays, seconds of training."""

    scores: dict[str, dict[str, float]]
    model_dir: Path
    sheet_path: Path
    train_seconds: float

    def table(self) -> str:
        return score_table(self.scores)


def run_demo(
    output_dir: str | Path, num_train_epochs: float = NUM_TRAIN_EPOCHS, seed: int = 0, overwrite: bool = False
) -> DemoResult:
    """Trains a vision-only baseline and a text-guided model on images in which only the text identifies the targets.

    Writes the text-guided model to `output_dir/model`, reloads it for the evaluation, and writes
    `output_dir/overlays.png` and `output_dir/scores.json`; `overwrite` deletes an earlier output there.
    """
    output_dir = Path(output_dir)
    claim_output_dir(output_dir, overwrite=overwrite)
    start = time.perf_counter()
    for use_text in (False, True):
        train_model(output_dir, use_text, num_train_epochs, seed)
    train_seconds = time.perf_counter() - start
    model_dir = output_dir / "model"
    processor = TeViAProcessor.from_pretrained(model_dir)
    models = {
        "vision": TeViAForSegmentation.from_pretrained(output_dir / "vision-only"),
        "text": TeViAForSegmentation.from_pretrained(model_dir),
    }
    scores, sheet_path = measure(models, processor, seed), output_dir / "overlays.png"
    draw_sheet(models, processor, seed).save(sheet_path)
    content = {"scores": scores, "train_seconds": round(train_seconds, 1)}
    (output_dir / "scores.json").write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
    return DemoResult(scores, model_dir, sheet_path, train_seconds)


def train_model(output_dir: Path, use_text: bool, num_train_epochs: float, seed: int) -> None:
    """Trains a model and saves it with its processor; the two models differ only in `use_text`."""
    set_seed(seed)
    folder = output_dir / ("model" if use_text else "vision-only")
    args = TeViATrainingArguments(
        output_dir=str(folder),
        num_train_epochs=num_train_epochs,
        per_device_train_batch_size=16,
        learning_rate=1e-3,
        weight_decay=0.01,
        prototype_warmup_epochs=2,
        warmup_steps=50,
        eval_strategy="no",
        save_strategy="no",
        load_best_model_at_end=False,
        logging_strategy="no",
        seed=seed,
    )
    trainer = build_trainer(
        TeViAForSegmentation(demo_config(use_text)),
        demo_processor(),
        args,
        load_segmentation_dataset("synthetic", split="train", size=IMAGE_SIZE, seed=seed),
        augmentation=TextAwareAugmentation(zoom_probability=0.0, seed=seed),
    )
    trainer.train()
    trainer.save_model()


def demo_config(use_text: bool) -> TeViAConfig:
    """A small ConvNeXt and a frozen two-layer BERT, both with random weights."""
    sizes: Any = {"hidden_size": 64, "intermediate_size": 64, "max_position_embeddings": 64}
    return TeViAConfig(
        backbone_config=ConvNextConfig(depths=[1, 1, 1, 1], hidden_sizes=[24, 48, 80, 80], drop_path_rate=0.0),
        text_config=BertConfig(vocab_size=len(WORDS), num_hidden_layers=2, num_attention_heads=4, **sizes),
        use_text=use_text,
        decoder_channels=[96, 64, 48, 24],
        max_text_length=32,
    )


def demo_processor() -> TeViAProcessor:
    """A processor whose vocabulary is that of QaTa's language."""
    vocabulary = {word: index for index, word in enumerate(WORDS)}
    tokenizer = BertTokenizer(vocab=vocabulary, do_lower_case=True, model_max_length=32)
    return TeViAProcessor(TeViAImageProcessor(size={"height": IMAGE_SIZE, "width": IMAGE_SIZE}), tokenizer)


def measure(
    models: dict[str, TeViAForSegmentation], processor: TeViAProcessor, seed: int
) -> dict[str, dict[str, float]]:
    """Scores of the vision-only baseline, and of the model with its text, another text and no text."""
    options: Any = {"split": "test", "size": IMAGE_SIZE, "seed": seed}
    targets, others = (load_segmentation_dataset("synthetic", counterpart=other, **options) for other in (False, True))
    target_masks = references(processor, targets)
    texts = (targets["text"], others["text"], [""] * len(targets))
    correct, wrong, none = masks_of_texts(models["text"], processor, targets, *texts)
    rows = {
        "vision-only baseline": (predict_masks(models["vision"], processor, undecoded(targets)), target_masks),
        "with its text": (correct, target_masks),
        "with the text of other lesions": (wrong, target_masks),
        "the same masks against those other lesions": (wrong, references(processor, others)),
        "without a text": (none, target_masks),
    }
    return {name: segmentation_metrics(masks, reference) for name, (masks, reference) in rows.items()}


def masks_of_texts(
    model: TeViAForSegmentation, processor: TeViAProcessor, dataset: Dataset, *texts: Sequence[str]
) -> list[tuple[np.ndarray, ...]]:
    """For each list of `texts`, one text per image, the masks (height, width) of all images."""
    requests = zip(undecoded(dataset), zip(*texts, strict=True), strict=True)
    answers = masks_of_each(Predictor(model, processor, fuse=True), requests, len(dataset))
    return list(zip(*(masks for _, masks in answers), strict=True))


def references(processor: TeViAProcessor, dataset: Dataset) -> list[np.ndarray]:
    return [reference_labels(example, processor.image_processor) for example in undecoded(dataset)]


def draw_sheet(models: dict[str, TeViAForSegmentation], processor: TeViAProcessor, seed: int) -> Image.Image:
    """One row per test image: the image and the masks without text, with its text and with another text."""
    options: Any = {"split": "test", "size": SHEET_SIZE, "count": SHEET_ROWS, "seed": seed}
    targets, others = (load_segmentation_dataset("synthetic", counterpart=other, **options) for other in (False, True))
    images = [decode_image(example) for example in undecoded(targets)]
    masks_of_own, masks_of_other = masks_of_texts(models["text"], processor, targets, targets["text"], others["text"])
    baseline = predict_masks(models["vision"], processor, undecoded(targets))
    columns = [
        (baseline, targets, ["vision-only baseline"] * len(targets)),
        (masks_of_own, targets, targets["text"]),
        (masks_of_other, others, others["text"]),
    ]
    rows, captions = [[Image.fromarray(image)] for image in images], [["the image"] for _ in images]
    for masks, dataset, headings in columns:
        truths = references(processor, dataset)
        for index, (image, mask, truth) in enumerate(zip(images, masks, truths, strict=True)):
            rows[index].append(overlay(image, mask, truth))
            captions[index].append(headings[index])
    classes = class_names(models["text"].config.id2label)
    return contact_sheet(rows, captions, "The text identifies the target lesions", classes, with_reference=True)
