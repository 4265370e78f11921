"""Prediction with a model in torch."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch

from ..auto import TeViAForSegmentation, TeViAProcessor
from ..fusion_tevia import fused_if_possible
from ..outputs_tevia import TeViAImageFeatures, TeViASegmentationOutput
from .networks import Network
from .text_features import TextFeatureCache


class TorchNetwork(Network):
    """A model on its device.

    Args:
        model: a `TeViAForSegmentation`.
        processor: its `TeViAProcessor`.
        fuse: compute with `model.fuse_for_inference()`, if possible.
        text_features: a cache to share with other predictors.
    """

    def __init__(
        self,
        model: TeViAForSegmentation,
        processor: TeViAProcessor,
        fuse: bool = False,
        text_features: TextFeatureCache | None = None,
    ):
        self.processor = processor
        self.model = fused_if_possible(model) if fuse else model
        self.text_features = text_features
        if text_features is None and model.config.use_text:
            self.text_features = TextFeatureCache(model, processor)

    def pixel_values(self, image: np.ndarray) -> torch.Tensor:
        return self.processor.image_processor(image, input_data_format="channels_last")["pixel_values"][0]

    def encode(self, pixel_values: Sequence[torch.Tensor]) -> TeViAImageFeatures:
        with evaluating(self.model):
            return self.model.encode_image(torch.stack(list(pixel_values)).to(self.model.device))

    def ask(self, features: TeViAImageFeatures, texts: Sequence[str], **options: Any) -> TeViASegmentationOutput:
        inputs: dict[str, torch.Tensor] = {}
        if self.text_features is not None:
            text_features, attention_mask = self.text_features(list(texts))
            inputs = {
                "text_features": text_features.to(self.model.device),
                "attention_mask": attention_mask.to(self.model.device),
            }
        with evaluating(self.model):
            return self.model(image_features=features, **inputs, **options)

    def probabilities(
        self, features: TeViAImageFeatures, texts: Sequence[str], sizes: Sequence[tuple[int, int]]
    ) -> list[np.ndarray]:
        maps = self.processor.post_process_segmentation(
            self.ask(features, texts), target_sizes=sizes, return_probabilities=True
        )
        return [own.cpu().numpy() for own in maps]


@contextmanager
def evaluating(model: Any) -> Iterator[None]:
    """Context without gradients and with the model in evaluation mode, which is restored afterwards."""
    was_training = model.training
    if was_training:
        model.eval()
    try:
        with torch.no_grad():
            yield
    finally:
        if was_training:
            model.train()
