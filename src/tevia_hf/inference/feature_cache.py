"""A cache of text features in NumPy, since the text encoder is frozen."""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence

import numpy as np


class FeatureCache(ABC):
    """Features by text: each distinct text is encoded when it is first used.

    Args:
        width: `dim` of the features.
        least_tokens: in a batch; shorter texts are followed by zeros.
        batch_size: number of texts that are encoded together.
        most_recent: maximum number of cached texts beside those from `fill`; the least recently used are dropped.
    """

    def __init__(self, width: int, least_tokens: int = 1, batch_size: int = 64, most_recent: int = 4096):
        self.width, self.least_tokens = width, least_tokens
        self.batch_size, self.most_recent = batch_size, most_recent
        self.filled: dict[str, np.ndarray] = {}
        self.recent: dict[str, np.ndarray] = {}  # in the order of their last use

    @abstractmethod
    def encode(self, texts: Sequence[str]) -> list[np.ndarray]:
        """The features float32 `(tokens, dim)` of each text."""

    def arrays(self, texts: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
        """Features `(batch, tokens, dim)` float32 and attention mask `(batch, tokens)` int64, padded to the longest.

        The text "" is a sample without text, a row of zeros.
        """
        known = self._known(texts)
        rows = [known.get(text) for text in texts]
        length = max([self.least_tokens] + [len(row) for row in rows if row is not None])
        features = np.zeros((len(rows), length, self.width), np.float32)
        attention_mask = np.zeros((len(rows), length), np.int64)
        for index, row in enumerate(rows):
            if row is not None:
                features[index, : len(row)] = row
                attention_mask[index, : len(row)] = 1
        return features, attention_mask

    def fill(self, texts: Iterable[str]) -> None:
        """Encodes texts and keeps their features permanently."""
        self.filled |= self._encoded({text for text in texts if text.strip()} - self.filled.keys())

    def _known(self, texts: Sequence[str]) -> dict[str, np.ndarray]:
        """The features of these texts; encodes new ones."""
        unfilled = {text: None for text in texts if text.strip() and text not in self.filled}
        cached = {text: self.recent.pop(text) for text in unfilled if text in self.recent}
        known = cached | self._encoded(unfilled.keys() - cached.keys())
        self.recent |= known
        for oldest in list(self.recent)[: max(0, len(self.recent) - self.most_recent)]:
            del self.recent[oldest]
        return known | {text: self.filled[text] for text in texts if text in self.filled}

    def _encoded(self, texts: Iterable[str]) -> dict[str, np.ndarray]:
        new = sorted(texts)
        batches = [new[start : start + self.batch_size] for start in range(0, len(new), self.batch_size)]
        return {text: row for batch in batches for text, row in zip(batch, self.encode(batch), strict=True)}
