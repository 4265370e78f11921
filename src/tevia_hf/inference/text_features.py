"""A cache of text features, since the text encoder is frozen."""

from collections.abc import Iterable, Sequence

import torch
import torch.nn.functional as F

from ..text_projection_tevia import TEXT_PROJECTIONS


class TextFeatureCache:
    """Text features by text: each distinct text is encoded when it is first used.

    The text encoder is frozen, so that its features never change during training or evaluation. For use as
    `SegmentationCollator(text_features=...)`; call `fill` first if data loader workers use it.

    Args:
        model: a `TeViAForSegmentation` with text.
        processor: its `TeViAProcessor`.
        batch_size: number of texts per forward pass of the text encoder.
        most_recent: maximum number of cached texts beside those from `fill`; the least recently used are dropped.
    """

    def __init__(self, model, processor, batch_size: int = 64, most_recent: int = 4096):
        self.model, self.processor, self.batch_size, self.most_recent = model, processor, batch_size, most_recent
        self.filled: dict[str, torch.Tensor] = {}
        self.recent: dict[str, torch.Tensor] = {}  # in the order of their last use
        # The authors' token mixing attends to padding, so that padded positions are part of the text.
        self.keeps_padding = TEXT_PROJECTIONS[model.config.text_projection].attends_to_padding

    def __call__(self, texts: Sequence[str]) -> tuple[torch.Tensor, torch.Tensor]:
        """Features `(batch, tokens, dim)` and attention mask `(batch, tokens)`, padded to the longest text; on the CPU.

        The text "" is a sample without text, a row of zeros.
        """
        known = self._known(texts)
        rows = [known.get(text) for text in texts]
        minimum = self.model.config.max_text_length if self.keeps_padding else 1
        length = max([minimum] + [len(row) for row in rows if row is not None])
        features = torch.zeros(len(rows), length, self.model.config.text_config.hidden_size)
        attention_mask = torch.zeros(len(rows), length, dtype=torch.long)
        for index, row in enumerate(rows):
            if row is not None:
                features[index, : len(row)] = row
                attention_mask[index, : len(row)] = 1
        return features, attention_mask

    def fill(self, texts: Iterable[str]) -> None:
        """Encodes texts and keeps their features permanently."""
        self.filled |= self._encoded({text for text in texts if text.strip()} - self.filled.keys())

    def _known(self, texts: Sequence[str]) -> dict[str, torch.Tensor]:
        """The features of these texts; encodes new ones."""
        unfilled = {text: None for text in texts if text.strip() and text not in self.filled}
        cached = {text: self.recent.pop(text) for text in unfilled if text in self.recent}
        known = cached | self._encoded(unfilled.keys() - cached.keys())
        self.recent |= known
        for oldest in list(self.recent)[: max(0, len(self.recent) - self.most_recent)]:
            del self.recent[oldest]
        return known | {text: self.filled[text] for text in texts if text in self.filled}

    def _encoded(self, texts: Iterable[str]) -> dict[str, torch.Tensor]:
        new = sorted(texts)
        features: dict[str, torch.Tensor] = {}
        for start in range(0, len(new), self.batch_size):
            batch = new[start : start + self.batch_size]
            tokens = self.processor(text=batch).to(self.model.device)
            encoded = self.model.encode_text(**tokens).float().cpu()  # (batch, tokens, dim)
            for text, row, mask in zip(batch, encoded, tokens["attention_mask"].cpu(), strict=True):
                features[text] = row if self.keeps_padding else row[F.pad(mask, (0, len(row) - len(mask))).bool()]
        return features
