"""A stock `transformers.Trainer` with TeViA's collator, callbacks, optimizer and metrics."""

import warnings
from collections.abc import Mapping, Sequence
from copy import copy
from functools import partial
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
from ..labels_tevia import class_names
from ..logits_tevia import labels_from_logits
from ..metric_table import POOLED
from ..metrics import segmentation_metrics
from ..prompts import flip_text, language_of
from ..score_summaries import ADVICE_FOR_FAILURE
from .adapters import check_not_wrapped, unwrapped
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
    """A stock `Trainer` for TeViA that caches text features, updates prototypes, and logs loss parts and Dice scores.

    For exceptions from caching see `text_feature_cache`. The processor records the words of the training texts. A run
    with NaN or infinite values stops with `TrainingDivergedError`.
    Raises `ValueError` if all training texts are equal after tokenization, and for what `torch.compile(model)` returns
    (compile by `torch_compile=True` in `args`).

    Args:
        model: a TeViA model, optionally with adapters by `peft.get_peft_model`.
        processor: its processor.
        args: training arguments, with the fields of a recipe.
        train_dataset: from `load_segmentation_dataset`, or your own with the columns image, mask and text. A data set
            without length, such as a `datasets.IterableDataset`, needs `max_steps` in `args`.
        eval_dataset: validation data; likewise.
        augmentation: of the training images only.
        callbacks: in addition to those of `training_callbacks`.
        white_is_lesion: what 255 means in the masks; by default inferred from all of them, in a stream from each alone.
        cache: reuse earlier results for unchanged mask files.
    """
    check_not_wrapped(model)
    # Changes the memory layout only: depthwise convolutions run about 1.6 times as fast on CPUs.
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
            f"Without an augmentation `{ALL_TEXTS}` are not sampled, the first text is used: give `augmentation`, "
            "e.g. TextAwareAugmentation(flip_probability=0, zoom_probability=0).",
            stacklevel=2,
        )
    accelerator_config: Any = args.accelerator_config
    if accelerator_config.dispatch_batches is None:
        # Every rank reads its own batches of a stream: texts of different lengths cannot be dispatched as one batch.
        accelerator_config.dispatch_batches = False
    can_carry_ids = not accelerator_config.dispatch_batches  # dispatched batches hold tensors only
    has_new_texts = augmentation is not None or isinstance(train_dataset, IterableDataset)
    texts = text_feature_cache(model, processor, args, has_new_texts)
    if model.config.use_text:
        check_training_texts(processor, train_dataset, augmentation)
        record_known_words(processor, train_dataset, augmentation)
    if texts is not None:
        known = {text for part in (train_dataset, eval_dataset) if isinstance(part, Dataset) for text in texts_of(part)}
        texts.fill(known | set(map(flip_text, known)))
    if augmentation is None:
        train_examples = undecoded(train_dataset)
    else:
        train_examples = augmented(train_dataset, augmentation, processor.image_processor.num_labels, white_is_lesion)
    classes = class_names(unwrapped(model).config.id2label)
    check_selected_class(args.metric_for_best_model, classes)
    optimizer = build_optimizer(model, args)
    trainer = Trainer(
        model=model,
        args=args,
        train_dataset=train_examples,
        eval_dataset=eval_dataset,
        data_collator=SegmentationCollator(processor, texts, white_is_lesion, with_ids=can_carry_ids),
        processing_class=processor,
        compute_metrics=partial(compute_metrics, classes=classes),
        preprocess_logits_for_metrics=lambda logits, labels: labels_from_logits(
            logits
        ),  # collecting logits would need much memory
        callbacks=[
            AverageCallback(optimizer),  # first, so that the others see the average
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
    """What 255 means in the masks of all data sets together; `None` if one of them is a stream."""
    if any(isinstance(dataset, IterableDataset) for dataset in datasets):
        return None
    examples = chain(*(undecoded(dataset) for dataset in datasets if dataset is not None))
    return white_is_lesion_in(examples, processor.image_processor.num_labels, cache=cache)


def text_feature_cache(
    model: TeViAForSegmentation, processor: TeViAProcessor, args: TeViATrainingArguments, has_new_texts: bool
) -> TextFeatureCache | None:
    """A cache of text features; `None` if the text encoder is trained or would have to run in a data worker on a GPU.

    Args:
        has_new_texts: whether texts can occur that are not known before training.
    """
    # A new text is first encoded in a data worker, and a forked process cannot use the GPU.
    needs_gpu_in_worker = has_new_texts and args.dataloader_num_workers > 0 and args.device.type != "cpu"
    if not model.config.use_text or needs_gpu_in_worker or unwrapped(model).model.text_encoder.learns:
        return None
    silent = copy(processor)
    silent.known_words = None  # do not warn about the training's own texts
    return TextFeatureCache(model, silent)


def check_training_texts(
    processor: TeViAProcessor, dataset: AnyDataset, augmentation: TextAwareAugmentation | None
) -> None:
    """Warns about texts that the model cannot distinguish or a flip cannot rewrite; streams are not checked.

    Raises `ValueError` if all texts are equal.
    """
    if not isinstance(dataset, Dataset):
        return
    texts = list(texts_of(dataset))
    messages = check_texts_differ(texts, processor.tokenizer)
    if augmentation is not None and (unknown := augmentation.unknown_sides_warning(texts)):
        messages.append(unknown)
    for message in messages:
        warnings.warn(f"Training split: {message}.", UserWarning, stacklevel=3)


def record_known_words(
    processor: TeViAProcessor, dataset: AnyDataset, augmentation: TextAwareAugmentation | None
) -> None:
    """Records the training words in the processor, which warns about unknown ones; streams are not recorded."""
    if not isinstance(dataset, Dataset):
        processor.known_words = None
        return
    texts = list(texts_of(dataset))
    paraphrased = set(texts) if augmentation is not None and augmentation.paraphrase_probability else ()
    language = language_in(dataset)
    words = set[str]().union(*(language_of(text, language).paraphrase_words() for text in paraphrased))
    if paraphrased and not words:
        warnings.warn(
            "`paraphrase_probability` has no effect: no training text is in a language with paraphrases. "
            "Set it to 0, or generate the texts with `tevia prompts`.",
            UserWarning,
            stacklevel=3,
        )
    processor.record_words([*texts, *map(flip_text, texts)], words)


def training_callbacks(
    args: TeViATrainingArguments, augmentation: TextAwareAugmentation | None
) -> list[TrainerCallback]:
    """The callbacks of prototypes and, if set, of early stopping and augmentation."""
    warmup, patience = args.prototype_warmup_epochs, args.early_stopping_patience
    return [
        MomentumPrototypeCallback(warmup),
        PrototypeAwareSelection(),
        *([] if augmentation is None else [AugmentationEpochCallback(augmentation)]),
        *([] if patience is None else [PrototypeAwareEarlyStopping(patience, warmup_epochs=warmup)]),
    ]


def check_selected_class(metric: str | None, classes: Mapping[int, str]) -> None:
    """Raises `ValueError` if the best model is selected by the score of a class that validation does not report."""
    name = (metric or "").partition("/")[2]
    known = list(classes.values()) if len(classes) > 1 else []
    if name and name not in known:
        raise ValueError(
            f"`metric_for_best_model` is {metric}, but the classes of the model are {known or ['lesion']}: take one of "
            "several, or leave the class out."
        )


def compute_metrics(prediction: EvalPrediction, classes: Mapping[int, str] | None = None) -> dict[str, float]:
    """The Trainer's validation scores, at the model's input size: both Dice definitions, no boundary metrics.

    With several `classes` (label -> name) also those of each class, such as "dice/benign".
    """
    masks = list(prediction.predictions), list(prediction.label_ids)
    return segmentation_metrics(*masks, outlines=False, white_is_lesion=False, classes=classes)


def validation_failure(trainer: Trainer) -> str:
    """What to do if the saved model found no lesion of the validation data; "" otherwise."""
    records = [record for record in trainer.state.log_history if f"eval_{POOLED}" in record]
    best = trainer.state.best_global_step if trainer.args.load_best_model_at_end else None
    saved = [record for record in records if record["step"] == best] or records[-1:]
    if not saved or saved[0][f"eval_{POOLED}"] != 0:
        return ""
    return f"No predicted pixel lies on a lesion of its class in any validation image (recall 0). {ADVICE_FOR_FAILURE}"
