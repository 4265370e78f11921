"""Processor of TeViA: images, texts and masks in, model inputs out."""

import os
import re
import warnings
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

TEXT_INPUTS = ["input_ids", "attention_mask"]
MOST_KNOWN_WORDS = 2000
FUNCTION_WORDS = frozenset(  # in any text, so that they make none familiar
    "a an and are as at be been by for from has have here i in into is it its my no not of on or our that the their "
    "there these this those to was we were which with without you your".split()
)
MOST_QUOTED = 3


class TeViATextKwargs(TypedDict, total=False):
    """Options of the tokenizer under which there is still one row of tokens per image, as the model reads it."""

    padding: bool | str | PaddingStrategy
    truncation: bool | str | TruncationStrategy
    max_length: int | None
    pad_to_multiple_of: int | None
    return_tensors: str | None


class TeViAProcessorKwargs(ProcessingKwargs, total=False):
    """Options of `TeViAProcessor`; see there."""

    text_kwargs: TeViATextKwargs  # type: ignore[misc]  # fewer than any tokenizer takes
    images_kwargs: TeViAImageProcessorKwargs  # type: ignore[misc]  # ours alone


class TeViAProcessor(ProcessorMixin):
    """Everything `TeViAForSegmentation` takes, from images, texts and masks; and masks from what it returns.

    Args:
        image_processor: a `TeViAImageProcessor`.
        tokenizer: the tokenizer of the text encoder; its `model_max_length` is the longest text, in tokens. From now on
            it gives `input_ids` and `attention_mask` only, also when it is saved and loaded alone.
        known_words: words of the texts that the model was trained on, in lower case. A text of which fewer than half
            of the words are among them, function words such as "of" left out, is warned of; without a list none is.
            Training writes it (`record_words`).
    """

    valid_processor_kwargs = TeViAProcessorKwargs  # type: ignore[assignment]  # options of two parts of three
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
        num_labels: int = 1,
        **image_kwargs: Any,
    ) -> "TeViAProcessor":
        """The processor that fits two pretrained encoders.

        Args:
            vision: folder or hub name; its `image_mean` and `image_std`, where it has them, are taken over.
            text: folder or hub name of the text encoder; CXR-BERT is read without remote code. Sentences are padded
                on the right, with the end-of-text token where the tokenizer has none for padding.
            max_text_length: longer texts are truncated, in tokens.
            image_kwargs: settings of `TeViAImageProcessor`.
        """
        settings = _pixel_statistics(vision) | image_kwargs
        image_processor = TeViAImageProcessor(num_labels=num_labels, **settings)
        return cls(image_processor, _load_tokenizer(text, max_text_length))

    def __call__(
        self,
        images: Any = None,
        text: str | Sequence[str | None] | None = None,
        segmentation_maps: Any = None,
        **kwargs: Any,
    ) -> BatchFeature:
        """Model inputs: `pixel_values` (batch, 3, height, width), `labels` (batch, height, width) when maps are given,
        and `input_ids` and `attention_mask` (batch, tokens) when texts are given.

        Args:
            images: see `TeViAImageProcessor.preprocess`; None tokenises only.
            text: one text per image. None or "" in the list is an image without text: its mask is all zero.
                A text longer than `max_length` is truncated with a warning; one unlike those of the training is
                warned of (`known_words`).
            segmentation_maps: see `TeViAImageProcessor.preprocess`.
            kwargs: for this call only, settings of the image processor, and of the tokenizer `padding` (to the longest
                text; or `"max_length"`), `truncation`, `max_length` (`tokenizer.model_max_length`) and
                `pad_to_multiple_of`; `return_tensors` ("pt") of both. Also apart, as `images_kwargs={...}` and
                `text_kwargs={...}`.

        Raises `TypeError` for an option that does not exist; `ValueError` when counts differ, nothing is given or there
        are more tokens than the model reads; the image processor's errors besides.
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
        """As in transformers; the processor itself does not change by it."""
        files = super().save_pretrained(*args, **kwargs)
        vars(self).pop("auto_map", None)
        return files

    def post_process_segmentation(self, outputs: Any, *args: Any, **kwargs: Any) -> list[torch.Tensor]:
        """Masks at the original sizes; see `TeViAImageProcessor.post_process_segmentation`."""
        return self.image_processor.post_process_segmentation(outputs, *args, **kwargs)

    def record_words(self, texts: Iterable[str | None], words: Iterable[str] = ()) -> None:
        """Adds to `known_words` the most frequent words of training texts, 2,000 at most, and these `words`."""
        counts = Counter(word for text in texts if text for word in words_of(text))
        frequent = sorted(counts, key=lambda word: (-counts[word], word))[:MOST_KNOWN_WORDS]
        self.known_words = sorted({*(self.known_words or ()), *words, *frequent})

    def unfamiliar_words(self, text: str) -> list[str]:
        """The words of a text that no training text had, where they are more than half of its words; otherwise none."""
        if self.known_words is None:
            return []
        words, known = [word for word in words_of(text) if word not in FUNCTION_WORDS], set(self.known_words)
        unknown = [word for word in words if word not in known]
        return list(dict.fromkeys(unknown)) if 2 * len(unknown) > len(words) else []

    def _options(self, kwargs: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
        """The options of a call, those of the tokenizer and of the image processor apart."""
        parts = {"text_kwargs": TeViATextKwargs, "images_kwargs": TeViAImageProcessorKwargs}
        known = {name: list(options.__annotations__) for name, options in parts.items()}
        flat = dict.fromkeys([*known["text_kwargs"], *known["images_kwargs"], *known])
        check_names(kwargs.keys() - {"common_kwargs"}, flat, "The processor")
        for name, names in known.items():
            check_names(kwargs.get(name, ()), names, f"`{name}` of the processor")
        defaults = dict(self.tokenizer.init_kwargs)
        if (defaults.get("max_length") or 0) > self.tokenizer.model_max_length:
            del defaults["max_length"]  # the encoder's own, longer than the texts of this model
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
        self._warn_of_unfamiliar(rows)
        encoded = self.tokenizer(rows, truncation=False, max_length=max_length, verbose=False, **padding)
        limit = max_length or self.tokenizer.model_max_length
        if truncation not in (False, "do_not_truncate"):
            counts = [sum(mask) for mask in encoded["attention_mask"]]
            if max(counts, default=0) > limit:
                self._warn_of_truncation(dict(zip(rows, counts, strict=True)), limit)
                encoded = self.tokenizer(rows, truncation=truncation, max_length=max_length, verbose=False, **padding)
        self._check_tokens(max(map(len, encoded["input_ids"]), default=0), "The longest text")
        for row, mask in zip(rows, encoded["attention_mask"], strict=True):
            if not row.strip():
                mask[:] = [0] * len(mask)
        return BatchFeature(dict(encoded), tensor_type=return_tensors)

    def _check_max_length(self, max_length: int) -> None:
        self._check_tokens(max_length, "`max_length`")
        least = self.tokenizer.num_special_tokens_to_add() + 1
        if max_length < least:
            raise ValueError(f"`max_length` is {max_length}, which leaves no token of the text: give {least} or more.")

    def _check_tokens(self, count: int, what: str) -> None:
        limit = self.tokenizer.model_max_length
        if count > limit:
            raise ValueError(
                f"{what} is {count} tokens, of which the model reads {limit} (`tokenizer.model_max_length`): give at "
                f"most {limit}, leaving `truncation` at True."
            )

    def _warn_of_unfamiliar(self, texts: list[str]) -> None:
        """One warning a call, as a set of texts may be another one altogether."""
        unfamiliar = {text: words for text in dict.fromkeys(texts) if (words := self.unfamiliar_words(text))}
        if unfamiliar:
            quoted = [f"{text!r} ({', '.join(words)})" for text, words in [*unfamiliar.items()][:MOST_QUOTED]]
            more = f" and {len(unfamiliar) - MOST_QUOTED} more" if len(unfamiliar) > MOST_QUOTED else ""
            warnings.warn(
                f"Most words of a text were in no text that the model was trained on, so that its mask may mean "
                f"little: {'; '.join(quoted)}{more}. Write as the training texts do.",
                UserWarning,
                stacklevel=4,
            )

    def _warn_of_truncation(self, counts: Mapping[str, int], limit: int) -> None:
        advice = "tokenizer.model_max_length as far as the text encoder allows"
        if limit < self.tokenizer.model_max_length:
            advice = f"`max_length`, to {self.tokenizer.model_max_length} at most"
        for text, count in counts.items():
            if count > limit:
                warnings.warn(
                    f"Text of {count} tokens truncated to the limit of {limit}: {text!r}. Shorten it, or raise "
                    f"{advice}.",
                    UserWarning,
                    stacklevel=4,
                )


def words_of(text: str) -> list[str]:
    """The words of a text, of letters alone, in lower case."""
    return re.findall(r"[^\W\d_]+", text.lower())


def _pixel_statistics(vision: str | os.PathLike) -> dict[str, Any]:
    """Mean and standard deviation of the pixels the vision model was trained on; empty where its files name none."""
    try:
        settings, _ = TeViAImageProcessor.get_image_processor_dict(vision)
    except OSError:  # no image processor: timm keeps its statistics in the model's config
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
    # On the right, as the decoder counts a sentence's tokens from its start.
    tokenizer = loader.from_pretrained(text, model_max_length=max_text_length, padding_side="right")
    tokenizer.init_kwargs.pop("max_length", None)  # of sentence encoders' files; `max_text_length` takes its place
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token
    return tokenizer


__all__ = ["TeViAProcessor"]
