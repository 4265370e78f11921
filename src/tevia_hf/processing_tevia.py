"""Processor of TeViA: pictures, sentences and masks in, model inputs out."""

import os
import warnings
from collections.abc import Sequence
from typing import Any

import torch
from transformers import AutoTokenizer, BertTokenizer, PreTrainedConfig
from transformers.image_processing_utils import BatchFeature
from transformers.models.auto.tokenization_auto import get_tokenizer_config
from transformers.processing_utils import ProcessorMixin

from .image_processing_tevia import TeViAImageProcessor


class TeViAProcessor(ProcessorMixin):
    """Everything `TeViAForSegmentation` takes, from pictures, sentences and masks; and masks from what it returns.

    Args:
        image_processor: a `TeViAImageProcessor`.
        tokenizer: the tokenizer of the text encoder; its `model_max_length` is the longest text, in tokens.
    """

    def __init__(self, image_processor: Any = None, tokenizer: Any = None, **kwargs: Any):
        super().__init__(image_processor, tokenizer, **kwargs)

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

    @property
    def unused_input_names(self) -> list[str]:
        return ["token_type_ids"]

    def __call__(
        self,
        images: Any = None,
        text: str | Sequence[str | None] | None = None,
        segmentation_maps: Any = None,
        return_tensors: str | None = "pt",
        **kwargs: Any,
    ) -> BatchFeature:
        """Model inputs: `pixel_values` (batch, 3, height, width), `labels` (batch, height, width) when maps are given,
        and `input_ids` and `attention_mask` (batch, tokens) when texts are given.

        Args:
            images: see `TeViAImageProcessor.preprocess`; None tokenises only.
            text: one sentence per image. None or "" in the list is an image without text: its mask is all zero.
                A text longer than `tokenizer.model_max_length` is truncated with a warning.
            segmentation_maps: see `TeViAImageProcessor.preprocess`.
            kwargs: settings of the image processor, for this call only.

        Raises `ValueError` when counts differ or nothing is given; the image processor's errors besides.
        """
        if images is None and (text is None or segmentation_maps is not None):
            raise ValueError("Give `images`, `text` or both; `segmentation_maps` need their `images`.")
        data: dict[str, Any] = {}
        if images is not None:
            data.update(self.image_processor(images, segmentation_maps, return_tensors="pt", **kwargs))
        if text is not None:
            sentences = [text] if isinstance(text, str) else list(text)
            if images is not None and len(sentences) != len(data["pixel_values"]):
                raise ValueError(
                    f"{len(data['pixel_values'])} images but {len(sentences)} texts: give one text per image "
                    '(None or "" for an image without).'
                )
            data.update(self._tokenize(sentences))
        return BatchFeature(data, tensor_type=return_tensors)

    def post_process_segmentation(self, outputs: Any, *args: Any, **kwargs: Any) -> list[torch.Tensor]:
        """Masks at the original sizes; see `TeViAImageProcessor.post_process_segmentation`."""
        return self.image_processor.post_process_segmentation(outputs, *args, **kwargs)

    def _tokenize(self, texts: Sequence[str | None]) -> dict[str, torch.Tensor]:
        for index, text in enumerate(texts):
            if not isinstance(text, (str, type(None))):
                raise TypeError(f"text {index} is a {type(text).__name__}: give a string, or None for no text.")
        sentences = [text or "" for text in texts]
        options = {"padding": "longest", "return_tensors": "pt", "return_token_type_ids": False}
        encoded = self.tokenizer(sentences, truncation=False, return_attention_mask=True, verbose=False, **options)
        if encoded["input_ids"].shape[1] > self.tokenizer.model_max_length:
            self._warn_of_truncation(sentences, encoded["attention_mask"].sum(dim=1).tolist())
            encoded = self.tokenizer(sentences, truncation=True, return_attention_mask=True, **options)
        is_empty = torch.tensor([not sentence.strip() for sentence in sentences])
        encoded["attention_mask"][is_empty] = 0
        return dict(encoded)

    def _warn_of_truncation(self, sentences: list[str], counts: list[int]) -> None:
        limit = self.tokenizer.model_max_length
        for sentence, count in dict(zip(sentences, counts, strict=True)).items():
            if count > limit:
                warnings.warn(
                    f"Text of {count} tokens truncated to the limit of {limit}: {sentence!r}. Shorten it, or raise "
                    "tokenizer.model_max_length as far as the text encoder allows.",
                    UserWarning,
                    stacklevel=4,
                )


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
    is_cxr_bert = config.get("model_type") == "cxr-bert" or "CXRBert" in tokenizer_class
    loader = BertTokenizer if is_cxr_bert else AutoTokenizer
    # On the right, as the decoder counts a sentence's tokens from its start.
    tokenizer = loader.from_pretrained(text, model_max_length=max_text_length, padding_side="right")
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token
    return tokenizer


__all__ = ["TeViAProcessor"]
