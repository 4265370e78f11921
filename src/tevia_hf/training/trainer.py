"""A stock `transformers.Trainer` with TeViA's collator, callbacks, optimizer and metrics."""

import warnings
from collections.abc import Sequence
from copy import copy
from itertools import chain
from typing import Any

import torch
from datasets import Dataset, IterableDataset
from transformers import EvalPrediction, Trainer, TrainerCallback

from ..auto import TeViAForSegmentation, TeViAProcessor
from ..data.augment import TextAwareAugmentation, augmented
from ..data.collate import SegmentationCollator
from ..data.features import undecoded
from ..data.origin import language_in
from ..data.ready import ALL_TEXTS, AnyDataset, ready_dataset, texts_of
from ..data.survey import white_is_lesion_in
from ..inference.text_differences import check_texts_differ
from ..inference.text_features import TextFeatureCache
from ..logits_tevia import labels_from_logits
from ..metrics import segmentation_metrics
from ..prompts import flip_text, language_of
from .adapters import unwrapped
from .arguments import TeViATrainingArguments
from .averaging import AverageCallback
from .callbacks import (
    AugmentationEpochCallback,
    DeepSupervisionCallback,
    MomentumPrototypeCallback,
    PrototypeAwareEarlyStopping,
    PrototypeAwareSelection,
)
from .divergence import DivergenceCallback
from .observing import LossLoggingCallback
from .optimization import build_optimizer


def build_trainer(
    model: TeViAForSegmentation,
    processor: TeViAProcessor,
    args: TeViATrainingArguments,
    train_dataset: AnyDataset,
    eval_dataset: AnyDataset | None = None,
    augmentation: TextAwareAugmentation | None = None,
    callbacks: Sequence[TrainerCallback] = (),
    white_is_lesion: bool | None = None,
    cache: bool = True,
) -> Trainer:
    """A stock `Trainer` for TeViA: features cached per text, prototypes kept, both losses and Dice definitions logged.

    See `text_feature_cache` for when nothing is cached. The processor takes down the words of the training texts. A run
    that is no longer finite ends with `TrainingDivergedError`.
    Raises `ValueError` where no two training texts differ once they are tokenized.

    Args:
        model: with adapters, by `peft.get_peft_model`, or without.
        train_dataset, eval_dataset: as `load_segmentation_dataset` gives them, or your own: see `ready_dataset`. One
            without length, such as a `datasets.IterableDataset`, needs `max_steps` in `args`.
        augmentation: of the training images only.
        callbacks: in addition to those that `training_callbacks` lists.
        white_is_lesion: what 255 means in the masks; by default all of them tell, but those of a stream each alone.
        cache: keep what masks hold, and read those that were read before only where they have changed.
    """
    # The same numbers in another order in memory: depthwise convolutions run about 1.6 times as fast on CPUs.
    model.to(memory_format=torch.channels_last)  # type: ignore[call-arg]  # transformers hides torch's signature
    unwrapped(model).add_auxiliary_heads()
    if args.freeze_backbone:
        model.freeze_backbone()
    train_dataset = ready_dataset(train_dataset, model.config.use_text)
    eval_dataset = None if eval_dataset is None else undecoded(ready_dataset(eval_dataset, model.config.use_text))
    if white_is_lesion is None:
        white_is_lesion = reading_of_white(processor, cache, train_dataset, eval_dataset)
    if augmentation is None and ALL_TEXTS in (train_dataset.column_names or []):
        warnings.warn(
            f"Without an augmentation none of `{ALL_TEXTS}` is drawn, the first text is used: give `augmentation`, "
            "e.g. TextAwareAugmentation(flip_probability=0, zoom_probability=0).",
            stacklevel=2,
        )
    accelerator_config: Any = args.accelerator_config
    if accelerator_config.dispatch_batches is None:
        # Every rank reads its own batches of a stream: put together for all, texts of several lengths do not fit.
        accelerator_config.dispatch_batches = False
    # A dispatched batch is put together of tensors, and a compiled model takes new text for a new program.
    can_carry_ids = not (accelerator_config.dispatch_batches or args.torch_compile)
    is_varied = augmentation is not None or isinstance(train_dataset, IterableDataset)
    texts = text_feature_cache(model, processor, args, is_varied)
    if model.config.use_text:
        examine_texts(processor, train_dataset, augmentation)
        record_known_words(processor, train_dataset, augmentation)
    if texts is not None:
        known = {text for part in (train_dataset, eval_dataset) if isinstance(part, Dataset) for text in texts_of(part)}
        texts.fill(known | set(map(flip_text, known)))
    if augmentation is None:
        shown = undecoded(train_dataset)
    else:
        shown = augmented(train_dataset, augmentation, processor.image_processor.num_labels, white_is_lesion)
    optimizer = build_optimizer(model, args)
    trainer = Trainer(
        model=model,
        args=args,
        train_dataset=shown,
        eval_dataset=eval_dataset,
        data_collator=SegmentationCollator(processor, texts, white_is_lesion, with_ids=can_carry_ids),
        processing_class=processor,
        compute_metrics=compute_metrics,
        preprocess_logits_for_metrics=lambda logits, labels: labels_from_logits(logits),  # no logits are collected
        callbacks=[
            AverageCallback(optimizer),  # the others see the average
            DeepSupervisionCallback(),
            *training_callbacks(args, augmentation),
            *callbacks,
            DivergenceCallback(),
        ],
        optimizers=(optimizer, None),
    )
    LossLoggingCallback.add_to(trainer)
    return trainer


def reading_of_white(processor: TeViAProcessor, cache: bool, *datasets: AnyDataset | None) -> bool | None:
    """What 255 means in the masks of all data sets together; `None` where one of them is a stream."""
    if any(isinstance(dataset, IterableDataset) for dataset in datasets):
        return None
    examples = chain(*(undecoded(dataset) for dataset in datasets if dataset is not None))
    return white_is_lesion_in(examples, processor.image_processor.num_labels, cache=cache)


def text_feature_cache(
    model: TeViAForSegmentation, processor: TeViAProcessor, args: TeViATrainingArguments, is_varied: bool
) -> TextFeatureCache | None:
    """A cache where texts are encoded alike at any time, and by the process that holds the model.

    Args:
        is_varied: whether texts come up that were not known before training.
    """
    # Such a text is first met in a data worker, and a forked one cannot use the GPU.
    is_met_in_workers = is_varied and args.dataloader_num_workers > 0 and args.device.type != "cpu"
    if not model.config.use_text or is_met_in_workers or unwrapped(model).model.text_encoder.learns:
        return None
    silent = copy(processor)
    silent.known_words = None  # the training's own texts are not warned of
    return TextFeatureCache(model, silent)


def examine_texts(processor: TeViAProcessor, dataset: AnyDataset, augmentation: TextAwareAugmentation | None) -> None:
    """Warns of texts that the model cannot tell apart or a flip cannot rewrite; of a stream's nothing is known.

    Raises `ValueError` where no two texts differ.
    """
    if not isinstance(dataset, Dataset):
        return
    texts = list(texts_of(dataset))
    found = check_texts_differ(texts, processor.tokenizer)
    if augmentation is not None and (unknown := augmentation.unknown_sides_warning(texts)):
        found.append(unknown)
    for text in found:
        warnings.warn(f"Training split: {text}.", UserWarning, stacklevel=3)


def record_known_words(
    processor: TeViAProcessor, dataset: AnyDataset, augmentation: TextAwareAugmentation | None
) -> None:
    """Lets the processor warn of texts unlike those of the training; of a stream's texts nothing is known."""
    if not isinstance(dataset, Dataset):
        processor.known_words = None
        return
    texts = list(texts_of(dataset))
    paraphrased = set(texts) if augmentation is not None and augmentation.paraphrase_probability else ()
    language = language_in(dataset)
    words = set[str]().union(*(language_of(text, language).paraphrase_words() for text in paraphrased))
    if paraphrased and not words:
        warnings.warn(
            "`paraphrase_probability` changes nothing: no training text is in a language that has other words for it. "
            "Set it to 0, or write the texts with `tevia prompts`.",
            UserWarning,
            stacklevel=3,
        )
    processor.record_words([*texts, *map(flip_text, texts)], words)


def training_callbacks(
    args: TeViATrainingArguments, augmentation: TextAwareAugmentation | None
) -> list[TrainerCallback]:
    """The prototypes' callbacks; early stopping and the augmentation's epochs where there are any."""
    warmup, patience = args.prototype_warmup_epochs, args.early_stopping_patience
    return [
        MomentumPrototypeCallback(warmup),
        PrototypeAwareSelection(),
        *([] if augmentation is None else [AugmentationEpochCallback(augmentation)]),
        *([] if patience is None else [PrototypeAwareEarlyStopping(patience, warmup_epochs=warmup)]),
    ]


def compute_metrics(prediction: EvalPrediction) -> dict[str, float]:
    """The Trainer's validation scores, at the size the network sees; both Dice definitions, no outlines."""
    return segmentation_metrics(
        list(prediction.predictions), list(prediction.label_ids), outlines=False, white_is_lesion=False
    )
