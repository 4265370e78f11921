"""Processor of TeViA: images, texts and masks to model inputs, model outputs to masks."""

import os
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, TypedDict

import torch
from huggingface_hub.dataclasses import validate_typed_dict
from transformers import AutoTokenizer, BertTokenizer, PreTrainedConfig
from transformers.image_processing_utils import BatchFeature
from transformers.models.auto.tokenization_auto import get_tokenizer_config
from transformers.processing_utils import ProcessingKwargs, ProcessorMixin
from transformers.tokenization_utils_base import PaddingStrategy, TruncationStrategy

from .encoder_quirks_tevia import has_bert_tokenizer
from .image_processing_tevia import TeViAImageProcessor, TeViAImageProcessorKwargs, check_names
from .labels_tevia import class_names
from .text_checks_tevia import unfamiliar_words, warn_of_truncation, warn_of_unfamiliar, words_of

TEXT_INPUTS = ["input_ids", "attention_mask"]
MAX_KNOWN_WORDS = 2000


class TeViATextKwargs(TypedDict, total=False):
    """The options of a tokenizer that keep one row of tokens per text."""

    padding: bool | str | PaddingStrategy
    truncation: bool | str | TruncationStrategy
    max_length: int | None
    pad_to_multiple_of: int | None
    return_tensors: str | None


class TeViAProcessorKwargs(ProcessingKwargs, total=False):
    """Options of `TeViAProcessor`; see there."""

    text_kwargs: TeViATextKwargs  # type: ignore[misc]  # fewer than its parent's
    images_kwargs: TeViAImageProcessorKwargs  # type: ignore[misc]  # other than its parent's


class TeViAProcessor(ProcessorMixin):
    """Prepares images, texts and masks for `TeViAForSegmentation`, and turns its outputs into masks.

    Args:
        image_processor: a `TeViAImageProcessor`.
        tokenizer: the tokenizer of the text encoder; its `model_max_length` is the maximum text length in tokens. It is
            changed to return `input_ids` and `attention_mask` only, also when it is saved and loaded alone.
        known_words: words of the training texts, in lower case, as recorded by training (`record_words`). A text of
            which more than half of the words are not among them, function words such as "of" aside, causes a warning;
            without a list no text does.
    """

    valid_processor_kwargs = TeViAProcessorKwargs  # type: ignore[assignment]  # no options of videos and audio
    text_kwargs = {"padding": True, "truncation": True, "return_tensors": "pt"}

    def __init__(
        self,
        image_processor: Any = None,
        tokenizer: Any = None,
        known_words: Sequence[str] | None = None,
        **kwargs: Any,
    ):
        self.known_words = None if known_words is None else list(known_words)
        super().__init__(image_processor, tokenizer, **kwargs)
        tokenizer.model_input_names = tokenizer.init_kwargs["model_input_names"] = list(TEXT_INPUTS)

    @classmethod
    def from_encoders(
        cls,
        vision: str | os.PathLike,
        text: str | os.PathLike,
        max_text_length: int = 64,
        num_labels: int | None = None,
        id2label: Mapping[int, str] | None = None,
        **image_kwargs: Any,
    ) -> "TeViAProcessor":
        """The processor for two pre-trained encoders.

        Args:
            vision: folder or Hub name; its `image_mean` and `image_std` are used, if it has any.
            text: folder or Hub name of the text encoder; CXR-BERT loads without remote code. Texts are padded on the
                right, with the end-of-text token if the tokenizer has no padding token.
            max_text_length: in tokens; longer texts are truncated.
            num_labels: of the masks; by default as many as `id2label` names, or 1.
            id2label: label -> name, as for `TeViAForSegmentation.from_vision_text_pretrained`; sets `num_labels` only,
                as the model keeps the names.
            image_kwargs: settings of `TeViAImageProcessor`.

        Raises `ValueError` for an invalid `id2label`, or if `num_labels` is not the number of its names.
        """
        if id2label is not None:
            class_names(id2label)
            if num_labels not in (None, len(id2label)):
                raise ValueError(
                    f"`num_labels` is {num_labels}, but `id2label` names {len(id2label)} labels: leave `num_labels` "
                    "out, or name all labels, with `0: background` first if there are several."
                )
            num_labels = len(id2label)
        settings = _pixel_statistics(vision) | image_kwargs
        image_processor = TeViAImageProcessor(num_labels=1 if num_labels is None else num_labels, **settings)
        return cls(image_processor, _load_tokenizer(text, max_text_length))

    def __call__(
        self,
        images: Any = None,
        text: str | Sequence[str | None] | None = None,
        segmentation_maps: Any = None,
        **kwargs: Any,
    ) -> BatchFeature:
        """Model inputs: `pixel_values` (batch, 3, height, width), `labels` (batch, height, width) if maps are given,
        and `input_ids` and `attention_mask` (batch, tokens) if texts are given.

        Args:
            images: see `TeViAImageProcessor.preprocess`; `None` tokenises only.
            text: one text per image. `None` or "" is an image without text: its attention mask is all zero. Texts
                longer than `max_length` are truncated with a warning; unfamiliar ones cause a warning (`known_words`).
            segmentation_maps: see `TeViAImageProcessor.preprocess`.
            kwargs: for this call only: settings of the image processor; the tokenizer's `padding` (default: to the
                longest text), `truncation`, `max_length` (default: `tokenizer.model_max_length`) and
                `pad_to_multiple_of`; `return_tensors` (default: "pt") of both. Can also be given separately as
                `images_kwargs={...}` and `text_kwargs={...}`.

        Raises `TypeError` for an unknown option; `ValueError` if counts differ, nothing is given or there are more
        tokens than the model accepts; and the errors of the image processor.
        """
        if images is None and (text is None or segmentation_maps is not None):
            raise ValueError("Give `images`, `text` or both; `segmentation_maps` need their `images`.")
        options = self._options(kwargs)
        data: dict[str, Any] = {}
        if images is not None:
            data.update(self.image_processor(images, segmentation_maps, **options["images_kwargs"]))
        if text is not None:
            texts = [text] if isinstance(text, str) else list(text)
            if images is not None and len(texts) != len(data["pixel_values"]):
                raise ValueError(
                    f"{len(data['pixel_values'])} images but {len(texts)} texts: give one text per image "
                    '(None or "" for an image without).'
                )
            data.update(self._tokenize(texts, **options["text_kwargs"]))
        return BatchFeature(data)

    def save_pretrained(self, *args: Any, **kwargs: Any) -> list[str]:
        """As in transformers, but without changing the processor."""
        files = super().save_pretrained(*args, **kwargs)
        vars(self).pop("auto_map", None)
        return files

    def post_process_segmentation(self, outputs: Any, *args: Any, **kwargs: Any) -> list[torch.Tensor]:
        """Masks at the original sizes; see `TeViAImageProcessor.post_process_segmentation`."""
        return self.image_processor.post_process_segmentation(outputs, *args, **kwargs)

    def record_words(self, texts: Iterable[str | None], words: Iterable[str] = ()) -> None:
        """Adds to `known_words` the 2,000 most frequent words of the training `texts`, and the given `words`."""
        counts = Counter(word for text in texts if text for word in words_of(text))
        frequent = sorted(counts, key=lambda word: (-counts[word], word))[:MAX_KNOWN_WORDS]
        self.known_words = sorted({*(self.known_words or ()), *words, *frequent})

    def unfamiliar_words(self, text: str) -> list[str]:
        """The words of a text that are not in `known_words`, if they are more than half of its words; else none."""
        return unfamiliar_words(text, self.known_words)

    def _options(self, kwargs: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
        """The options of a call, separated into those of the tokenizer and of the image processor."""
        parts = {"text_kwargs": TeViATextKwargs, "images_kwargs": TeViAImageProcessorKwargs}
        known = {name: list(options.__annotations__) for name, options in parts.items()}
        flat = dict.fromkeys([*known["text_kwargs"], *known["images_kwargs"], *known])
        check_names(kwargs.keys() - {"common_kwargs"}, flat, "The processor")
        for name, names in known.items():
            check_names(kwargs.get(name, ()), names, f"`{name}` of the processor")
        defaults = dict(self.tokenizer.init_kwargs)
        if (defaults.get("max_length") or 0) > self.tokenizer.model_max_length:
            del defaults["max_length"]  # the encoder's own limit, beyond that of this model
        options = self._merge_kwargs(tokenizer_init_kwargs=defaults, **kwargs)
        validate_typed_dict(TeViATextKwargs, options["text_kwargs"])  # type: ignore[type-var]  # any typed dictionary
        return options

    def _tokenize(
        self,
        texts: Sequence[str | None],
        max_length: int | None = None,
        truncation: bool | str | TruncationStrategy = True,
        return_tensors: str | None = None,
        **padding: Any,
    ) -> BatchFeature:
        for index, text in enumerate(texts):
            if not isinstance(text, (str, type(None))):
                raise TypeError(f"text {index} is a {type(text).__name__}: give a string, or None for no text.")
        if max_length is not None:
            self._check_max_length(max_length)
        rows = [text or "" for text in texts]
        warn_of_unfamiliar(rows, self.known_words)
        encoded = self.tokenizer(rows, truncation=False, max_length=max_length, verbose=False, **padding)
        limit = max_length or self.tokenizer.model_max_length
        if truncation not in (False, "do_not_truncate"):
            counts = [sum(mask) for mask in encoded["attention_mask"]]
            if max(counts, default=0) > limit:
                warn_of_truncation(dict(zip(rows, counts, strict=True)), limit, self.tokenizer.model_max_length)
                encoded = self.tokenizer(rows, truncation=truncation, max_length=max_length, verbose=False, **padding)
        self._check_tokens(max(map(len, encoded["input_ids"]), default=0), "The longest text")
        for row, mask in zip(rows, encoded["attention_mask"], strict=True):
            if not row.strip():
                mask[:] = [0] * len(mask)
        return BatchFeature(dict(encoded), tensor_type=return_tensors)

    def _check_max_length(self, max_length: int) -> None:
        self._check_tokens(max_length, "`max_length`")
        minimum = self.tokenizer.num_special_tokens_to_add() + 1
        if max_length < minimum:
            raise ValueError(
                f"`max_length` is {max_length}, which leaves no token of the text: give {minimum} or more."
            )

    def _check_tokens(self, count: int, name: str) -> None:
        limit = self.tokenizer.model_max_length
        if count > limit:
            raise ValueError(
                f"{name} is {count} tokens, of which the model reads {limit} (`tokenizer.model_max_length`): give at "
                f"most {limit}, leaving `truncation` at True."
            )


def _pixel_statistics(vision: str | os.PathLike) -> dict[str, Any]:
    """`image_mean` and `image_std` of a vision model; empty if its files have none."""
    try:
        settings, _ = TeViAImageProcessor.get_image_processor_dict(vision)
    except OSError:  # no image processor: timm saves its statistics in the model's config
        config, _ = PreTrainedConfig.get_config_dict(vision)
        timm = config.get("pretrained_cfg") or {}
        settings = {"image_mean": timm.get("mean"), "image_std": timm.get("std")}
    if settings.get("do_normalize") is False:
        return {"image_mean": [0.0] * 3, "image_std": [1.0] * 3}
    return {name: list(settings[name]) for name in ("image_mean", "image_std") if settings.get(name)}


def _load_tokenizer(text: str | os.PathLike, max_text_length: int) -> Any:
    config, _ = PreTrainedConfig.get_config_dict(text)
    tokenizer_class = get_tokenizer_config(text).get("tokenizer_class") or ""
    loader = BertTokenizer if has_bert_tokenizer(config, tokenizer_class) else AutoTokenizer
    # On the right, since the decoder numbers the tokens of a text from its start.
    tokenizer = loader.from_pretrained(text, model_max_length=max_text_length, padding_side="right")
    tokenizer.init_kwargs.pop("max_length", None)  # set by sentence encoders; replaced by `max_text_length`
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token
    return tokenizer


__all__ = ["TeViAProcessor"]
