"""The frozen text encoder, run once a distinct sentence."""

from collections.abc import Callable, Iterable, Sequence

import torch
import torch.nn.functional as F
from transformers import AutoTokenizer


class TextFeatureCache:
    """Text features of sentences by their words: each distinct one is encoded the first time it is asked for.

    The encoder is frozen, so that what it says of a sentence never changes during training or evaluation. Made for
    `SegmentationCollator(text_features=...)`; `fill` beforehand where data loader workers read it.

    Args:
        model: a `TeViAForSegmentation` with text.
        processor: its `TeViAProcessor`.
    """

    def __init__(self, model, processor, batch_size: int = 64):
        self.model, self.processor, self.batch_size = model, processor, batch_size
        self.features: dict[str, torch.Tensor] = {}
        # The authors' token mixing attends to padding, so that there the padded positions belong to the sentence.
        self.keeps_padding = model.config.text_projection == "token_mixing"

    def __call__(self, sentences: Sequence[str]) -> tuple[torch.Tensor, torch.Tensor]:
        """Features `(batch, tokens, dim)` and attention mask `(batch, tokens)`, as long as the longest; on the CPU.

        A sentence "" is a sample without text: a row of zeros.
        """
        self.fill(sentences)
        rows = [self.features.get(sentence) for sentence in sentences]
        shortest = self.model.config.max_text_length if self.keeps_padding else 1
        length = max([shortest] + [len(row) for row in rows if row is not None])
        features = torch.zeros(len(rows), length, self.model.config.text_config.hidden_size)
        attention_mask = torch.zeros(len(rows), length, dtype=torch.long)
        for index, row in enumerate(rows):
            if row is not None:
                features[index, : len(row)] = row
                attention_mask[index, : len(row)] = 1
        return features, attention_mask

    def fill(self, sentences: Iterable[str]) -> None:
        """Encodes the sentences that are new."""
        new = sorted({sentence for sentence in sentences if sentence.strip()} - self.features.keys())
        for start in range(0, len(new), self.batch_size):
            self.encode(new[start : start + self.batch_size])

    def encode(self, sentences: Sequence[str]) -> None:
        tokens = self.processor(text=list(sentences)).to(self.model.device)
        encoded = self.model.encode_text(**tokens).float().cpu()  # (batch, tokens, dim)
        for sentence, row, mask in zip(sentences, encoded, tokens["attention_mask"].cpu(), strict=True):
            self.features[sentence] = row if self.keeps_padding else row[F.pad(mask, (0, len(row) - len(mask))).bool()]


def token_counter(tokenizer: str) -> Callable[[str], int]:
    """Counts the tokens that a tokenizer, by name or folder, makes of a sentence, its special ones included."""
    loaded = AutoTokenizer.from_pretrained(tokenizer)
    return lambda sentence: len(loaded(sentence)["input_ids"])
