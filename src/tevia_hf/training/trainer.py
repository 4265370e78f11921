"""A stock `transformers.Trainer` with TeViA's collator, callbacks, optimizer and metrics."""

from collections.abc import Sequence

import torch
from datasets import Dataset
from transformers import EvalPrediction, Trainer, TrainerCallback

from ..auto import TeViAForSegmentation, TeViAProcessor
from ..data.augment import TextAwareAugmentation, augmented
from ..data.collate import SegmentationCollator
from ..data.features import undecoded
from ..inference.text_features import TextFeatureCache
from ..metrics import segmentation_metrics
from ..prompts import flip_sentence
from .arguments import TeViATrainingArguments
from .callbacks import AugmentationEpochCallback, MomentumPrototypeCallback, PrototypeAwareEarlyStopping
from .optimization import build_optimizer


def build_trainer(
    model: TeViAForSegmentation,
    processor: TeViAProcessor,
    args: TeViATrainingArguments,
    train_dataset: Dataset,
    eval_dataset: Dataset | None = None,
    augmentation: TextAwareAugmentation | None = None,
    callbacks: Sequence[TrainerCallback] = (),
) -> Trainer:
    """A stock `Trainer` for TeViA: text features cached per sentence, prototypes kept, both Dice definitions measured.

    See `text_feature_cache` for when nothing is cached.

    Args:
        train_dataset, eval_dataset: as `load_segmentation_dataset` gives them.
        augmentation: of the training pictures only.
        callbacks: in addition to those that `training_callbacks` lists.
    """
    # The same numbers in another order in memory: depthwise convolutions run about 1.6 times as fast on CPUs.
    model.to(memory_format=torch.channels_last)  # type: ignore[call-arg]  # transformers hides torch's signature
    if args.freeze_backbone:
        model.freeze_backbone()
    sentences = text_feature_cache(model, processor, args, augmentation)
    if sentences is not None:
        sentences.fill(all_sentences(train_dataset, eval_dataset))
    return Trainer(
        model=model,
        args=args,
        train_dataset=(
            augmented(train_dataset, augmentation, processor.image_processor.num_labels)
            if augmentation
            else undecoded(train_dataset)
        ),
        eval_dataset=undecoded(eval_dataset) if eval_dataset is not None else None,
        data_collator=SegmentationCollator(processor, text_features=sentences),
        processing_class=processor,
        compute_metrics=compute_metrics,
        preprocess_logits_for_metrics=labels_from_logits,
        callbacks=[*training_callbacks(args, augmentation), *callbacks],
        optimizers=(build_optimizer(model, args), None),
    )


def text_feature_cache(
    model: TeViAForSegmentation,
    processor: TeViAProcessor,
    args: TeViATrainingArguments,
    augmentation: TextAwareAugmentation | None,
) -> TextFeatureCache | None:
    """A cache where sentences are encoded alike at any time, and by the process that holds the model."""
    is_learning = model.config.text_lora is not None
    # An augmented sentence is first met in a data worker, and a forked one cannot use the GPU.
    is_met_in_workers = augmentation is not None and args.dataloader_num_workers > 0 and args.device.type != "cpu"
    if not model.config.use_text or is_learning or is_met_in_workers:
        return None
    return TextFeatureCache(model, processor)


def training_callbacks(
    args: TeViATrainingArguments, augmentation: TextAwareAugmentation | None
) -> list[TrainerCallback]:
    """The prototype callback; early stopping and the augmentation's epochs where there are any."""
    callbacks: list[TrainerCallback] = [MomentumPrototypeCallback(args.prototype_warmup_epochs)]
    if augmentation is not None:
        callbacks.append(AugmentationEpochCallback(augmentation))
    if args.early_stopping_patience is not None:
        patience, warmup_epochs = args.early_stopping_patience, args.prototype_warmup_epochs
        callbacks.append(PrototypeAwareEarlyStopping(patience, warmup_epochs=warmup_epochs))
    return callbacks


def all_sentences(*datasets: Dataset | None) -> set[str]:
    """Every sentence that can be shown: those of the data sets and their left-right flips."""
    own = {text for dataset in datasets if dataset is not None for text in dataset["text"] if text}
    return own | {flip_sentence(text) for text in own}


def labels_from_logits(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """Label maps `(batch, height, width)` uint8; keeps the Trainer from collecting logits."""
    predicted = logits[:, 0] > 0 if logits.shape[1] == 1 else logits.argmax(1)
    return predicted.to(torch.uint8)


def compute_metrics(prediction: EvalPrediction) -> dict[str, float]:
    """The Trainer's validation scores, at the size the network sees; both Dice definitions, no outlines."""
    return segmentation_metrics(list(prediction.predictions), list(prediction.label_ids), outlines=False)
