"""Collator: a list of examples to a batch of model inputs."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch

from tevia_hf.data.decoding import AS_DECODED, decode_image, decode_labels

IDS = "ids"  # not a model input: `training.divergence` removes it
TextFeatures = Callable[[list[str]], tuple[torch.Tensor, torch.Tensor]]


class SegmentationCollator:
    """Model inputs for a batch of examples, for `Trainer(data_collator=...)`.

    Returns `pixel_values (batch, 3, height, width)`, `input_ids` and `attention_mask (batch, tokens)` and `labels
    (batch, height, width)`, uint8 as the Trainer keeps all of a validation in memory. The text inputs are left out if
    examples lack the key "text", and `labels` if they lack both "mask" (as stored) and "labels" (a label map).
    `Trainer` needs `remove_unused_columns=False`. With `undecoded(dataset)`, errors name the id and path of a damaged
    file.

    Args:
        processor: Called as `processor(images=..., text=..., segmentation_maps=..., **AS_DECODED, return_tensors=...)`;
            the segmentation maps hold labels below `processor.image_processor.num_labels`, or 255 for ignored pixels.
        text_features: Maps texts ("" for a missing one) to `(features (batch, tokens, dim), attention_mask (batch,
            tokens))`, which are returned as `text_features` and `attention_mask` in place of `input_ids`.
        white_is_lesion: What 255 means in the masks of the set; by default inferred from each mask alone.
        with_ids: Adds `ids`, a list of strings, which a `DivergenceCallback` removes from the model inputs.

    Raises `ValueError` for an image or mask that cannot be decoded (with its id and file) or that the processor
    rejects (with the ids of the batch).
    """

    def __init__(
        self,
        processor: Any,
        text_features: TextFeatures | None = None,
        white_is_lesion: bool | None = None,
        with_ids: bool = False,
    ) -> None:
        self.processor = processor
        self.white_is_lesion = white_is_lesion
        self.with_ids = with_ids
        self.text_features = text_features

    def __call__(self, examples: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
        prepared = [self._decoded(example) for example in examples]
        arguments: dict[str, Any] = {"images": _column(prepared, "image"), **AS_DECODED}
        if (labels := _column(prepared, "labels")) is not None:
            arguments["segmentation_maps"] = labels
        texts = _column(prepared, "text")
        if texts is not None and self.text_features is None:
            arguments["text"] = texts
        try:
            inputs = dict(self.processor(**arguments, return_tensors="pt"))
        except ValueError as error:
            names = [example.get("id") for example in examples]
            raise ValueError(f"{error} (in the batch of the examples {names}, counted from 0)") from error
        if "labels" in inputs:
            inputs["labels"] = inputs["labels"].to(torch.uint8)
        if texts is not None and self.text_features is not None:
            features, attention_mask = self.text_features([text or "" for text in texts])
            inputs.update(text_features=features, attention_mask=attention_mask)
        if self.with_ids and (ids := _column(prepared, "id")) is not None:
            inputs[IDS] = [str(name) for name in ids]
        return inputs

    def _decoded(self, example: Mapping[str, Any]) -> dict[str, Any]:
        decoded = {key: example[key] for key in ("text", "id") if key in example}
        if example.get("image") is not None:
            decoded["image"] = decode_image(example)
        if example.get("mask") is not None or example.get("labels") is not None:
            num_labels = self.processor.image_processor.num_labels
            decoded["labels"] = decode_labels(example, num_labels, self.white_is_lesion)
        return decoded


def _column(prepared: Sequence[Mapping[str, Any]], name: str) -> list[Any] | None:
    """The entries of one key; None unless every example has it."""
    return [example[name] for example in prepared] if all(name in example for example in prepared) else None
