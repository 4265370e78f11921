"""A list of examples to the model's inputs."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch

from tevia_hf.data.decoding import AS_DECODED, decode_image, decode_labels

IDS = "ids"  # no input of the model: `training.divergence` takes it out again
TextFeatures = Callable[[list[str]], tuple[torch.Tensor, torch.Tensor]]


class SegmentationCollator:
    """Model inputs for a batch of examples, for `Trainer(data_collator=...)`.

    Gives `pixel_values (batch, 3, height, width)`, `input_ids` and `attention_mask (batch, tokens)` and `labels (batch,
    height, width)`. Examples without the key "text" give inputs without texts; without "mask" (as stored) and "labels"
    (a label map) they give none.
    Trainer needs `remove_unused_columns=False`. With `undecoded(dataset)` a damaged file is reported by id and path.

    Args:
        processor: Called as `processor(images=..., text=..., segmentation_maps=..., **AS_DECODED, return_tensors=...)`;
            its maps are labels of `processor.image_processor.num_labels`.
        text_features: The sentences' `(features (batch, tokens, dim), attention_mask (batch, tokens))`; its result
            goes out as `text_features` and `attention_mask` in place of `input_ids`. No sentence is "" there.
        white_is_lesion: What 255 means in the masks of the set; by default each mask alone tells.
        with_ids: Adds `ids`, a list of strings, for a model from whose inputs a `DivergenceCallback` takes them out.

    Raises `ValueError` for an image or mask that cannot be decoded (with its id and file), or that the processor
    refuses (with the ids of the batch).
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
    """The batch's entries of one key; None where not every example has it."""
    return [example[name] for example in prepared] if all(name in example for example in prepared) else None
