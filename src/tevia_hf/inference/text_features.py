"""The frozen text encoder, run once a distinct text."""

from collections.abc import Iterable, Sequence

import torch
import torch.nn.functional as F

from ..text_projection_tevia import TEXT_PROJECTIONS


class TextFeatureCache:
    """Text features by the words of the text: each distinct one is encoded the first time it is asked for.

    The encoder is frozen, so that what it makes of a text never changes during training or evaluation. Made for
    `SegmentationCollator(text_features=...)`; `fill` beforehand where data loader workers read it.

    Args:
        model: a `TeViAForSegmentation` with text.
        processor: its `TeViAProcessor`.
        batch_size: texts that are encoded at once.
        most_recent: so many of the texts that were not filled in beforehand are kept, those asked for last.
    """

    def __init__(self, model, processor, batch_size: int = 64, most_recent: int = 4096):
        self.model, self.processor, self.batch_size, self.most_recent = model, processor, batch_size, most_recent
        self.filled: dict[str, torch.Tensor] = {}
        self.recent: dict[str, torch.Tensor] = {}  # in the order of their last use
        # The authors' token mixing attends to padding, so that there the padded positions belong to the text.
        self.keeps_padding = TEXT_PROJECTIONS[model.config.text_projection].attends_to_padding

    def __call__(self, texts: Sequence[str]) -> tuple[torch.Tensor, torch.Tensor]:
        """Features `(batch, tokens, dim)` and attention mask `(batch, tokens)`, as long as the longest; on the CPU.

        A text "" is a sample without text: a row of zeros.
        """
        known = self._known(texts)
        rows = [known.get(text) for text in texts]
        shortest = self.model.config.max_text_length if self.keeps_padding else 1
        length = max([shortest] + [len(row) for row in rows if row is not None])
        features = torch.zeros(len(rows), length, self.model.config.text_config.hidden_size)
        attention_mask = torch.zeros(len(rows), length, dtype=torch.long)
        for index, row in enumerate(rows):
            if row is not None:
                features[index, : len(row)] = row
                attention_mask[index, : len(row)] = 1
        return features, attention_mask

    def fill(self, texts: Iterable[str]) -> None:
        """Encodes the texts that are new, to be kept for good."""
        self.filled |= self._encoded({text for text in texts if text.strip()} - self.filled.keys())

    def _known(self, texts: Sequence[str]) -> dict[str, torch.Tensor]:
        """The features of these texts, those that are new encoded now."""
        wanted = {text: None for text in texts if text.strip() and text not in self.filled}
        again = {text: self.recent.pop(text) for text in wanted if text in self.recent}
        known = again | self._encoded(wanted.keys() - again.keys())
        self.recent |= known
        for oldest in list(self.recent)[: max(0, len(self.recent) - self.most_recent)]:
            del self.recent[oldest]
        return known | {text: self.filled[text] for text in texts if text in self.filled}

    def _encoded(self, texts: Iterable[str]) -> dict[str, torch.Tensor]:
        new = sorted(texts)
        found: dict[str, torch.Tensor] = {}
        for start in range(0, len(new), self.batch_size):
            batch = new[start : start + self.batch_size]
            tokens = self.processor(text=batch).to(self.model.device)
            encoded = self.model.encode_text(**tokens).float().cpu()  # (batch, tokens, dim)
            for text, row, mask in zip(batch, encoded, tokens["attention_mask"].cpu(), strict=True):
                found[text] = row if self.keeps_padding else row[F.pad(mask, (0, len(row) - len(mask))).bool()]
        return found
