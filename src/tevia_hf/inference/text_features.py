"""The text features of a model in torch, each distinct text encoded once."""

from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F

from ..text_projection_tevia import TEXT_PROJECTIONS
from .feature_cache import FeatureCache


class TextFeatureCache(FeatureCache):
    """Text features by text, which never change during training or evaluation.

    For use as `SegmentationCollator(text_features=...)`; call `fill` first if data loader workers use it.

    Args:
        model: a `TeViAForSegmentation` with text.
        processor: its `TeViAProcessor`.
        batch_size: see `FeatureCache`, as the next.
        most_recent: maximum number of cached texts beside those from `fill`.
    """

    def __init__(self, model, processor, batch_size: int = 64, most_recent: int = 4096):
        self.model, self.processor = model, processor
        # The authors' token mixing attends to padding, so that padded positions are part of the text.
        self.keeps_padding = TEXT_PROJECTIONS[model.config.text_projection].attends_to_padding
        least_tokens = model.config.max_text_length if self.keeps_padding else 1
        super().__init__(model.config.text_config.hidden_size, least_tokens, batch_size, most_recent)

    def __call__(self, texts: Sequence[str]) -> tuple[torch.Tensor, torch.Tensor]:
        """Features `(batch, tokens, dim)` and attention mask `(batch, tokens)`, on the CPU; see `arrays`."""
        features, attention_mask = map(torch.from_numpy, self.arrays(texts))
        return features, attention_mask

    def encode(self, texts: Sequence[str]) -> list[np.ndarray]:
        tokens = self.processor(text=list(texts)).to(self.model.device)
        with torch.no_grad():
            encoded = self.model.encode_text(**tokens).float().cpu()  # (batch, tokens, dim)
        masks = tokens["attention_mask"].cpu()
        if self.keeps_padding:
            return [row.numpy() for row in encoded]
        pairs = zip(encoded, masks, strict=True)
        return [row[F.pad(mask, (0, len(row) - len(mask))).bool()].numpy() for row, mask in pairs]
