"""The effect of a text on a mask, pixel by pixel."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F

from ..logits_tevia import labels_from_probabilities, lesion_probability
from ..modeling_tevia import TeViAForSegmentation
from ..processing_tevia import TeViAProcessor
from ..vision_layout_tevia import STRIDES
from .predictor import Predictor

MAX_WORDS = 5  # in a warning


class TextInfluence(NamedTuple):
    """The effect of one text on the mask of an image; all maps are float32 `(height, width)` at the image's size.

    Args:
        probability: of a lesion, with the text.
        effect: that probability minus the one without text, -1 to 1.
        attention: how selectively each position attends to tokens, from 0 (all alike) to 1 (a single one), mean over
            the heads of the finest scale. `None` without a text or a text branch.
        labels: label map (uint8) of a model with several labels; `None` with one: call `mask(threshold)`.
    """

    probability: np.ndarray
    effect: np.ndarray
    attention: np.ndarray | None
    labels: np.ndarray | None = None

    def mask(self, threshold: float = 0.5) -> np.ndarray:
        """The label map (height, width), uint8; the threshold is for models with one label."""
        return (self.probability > threshold).astype(np.uint8) if self.labels is None else self.labels


def explain_texts(
    model: TeViAForSegmentation, processor: TeViAProcessor, image: Any, texts: Sequence[str | None]
) -> list[TextInfluence]:
    """The effect of each of several texts on the mask of one image, which is encoded once.

    Rely on `effect`, which compares predictions with and without the text. `attention` shows where the model
    distinguishes tokens, not whether that changes the mask.

    Args:
        model: a `TeViAForSegmentation`.
        processor: its `TeViAProcessor`.
        image: see `Predictor.prepare`.
        texts: None or "" for no text, whose effect is 0.
    """
    predictor = Predictor(model, processor)
    encoded = predictor.encode([prepared := predictor.prepare(image)])
    network_size = prepared.pixel_values.shape[-2:]

    def predict(text: str) -> tuple[np.ndarray, np.ndarray | None, Any]:
        outputs = predictor.ask(encoded, [text], output_attentions=True)
        (maps,) = processor.post_process_segmentation(outputs, encoded.sizes, return_probabilities=True)
        labels = labels_from_probabilities(maps).cpu().numpy() if len(maps) > 1 else None
        return lesion_probability(maps).cpu().numpy(), labels, outputs.attentions

    without_text, labels_without_text, _ = predict("")
    influences = []
    for text in texts:
        without = without_text, labels_without_text, None
        probability, labels, attentions = predict(text) if text and text.strip() else without
        finest = None if attentions is None else attentions[-1][0]
        attention = None if finest is None else attention_map(finest, network_size, processor, encoded.sizes[0])
        influences.append(TextInfluence(probability, probability - without_text, attention, labels))
    return influences


def attention_map(
    attention: torch.Tensor, network_size: Sequence[int], processor: TeViAProcessor, size: tuple[int, int]
) -> np.ndarray:
    """`focus` of the attention at stride 8, `(heads, positions, tokens)`, resized to `size`, (height, width)."""
    height, width = network_size
    grid = [-(-side // STRIDES[-1]) * STRIDES[-1] // STRIDES[1] for side in (height, width)]  # of the padded input
    focus_map = focus(attention).unflatten(0, grid)
    focus_map = F.interpolate(focus_map[None, None], scale_factor=STRIDES[1], mode="bilinear")[..., :height, :width]
    if processor.image_processor.swap_axes:
        focus_map = focus_map.transpose(-1, -2)
    return F.interpolate(focus_map, size, mode="bilinear")[0, 0].cpu().numpy()


def focus(attention: torch.Tensor) -> torch.Tensor:
    """1 - entropy / log(tokens) of the mean over heads of `(heads, positions, tokens)`: `(positions,)`."""
    shares = attention.float().mean(0)
    if shares.shape[-1] == 1:
        return torch.zeros_like(shares[..., 0])
    return 1 - torch.special.entr(shares).sum(-1) / np.log(shares.shape[-1])


def text_warnings(model, processor, text: str | None) -> list[str]:
    """Warnings about truncated, unknown or missing text, for users of a model; empty if there are none."""
    if not model.config.use_text:
        return ["this model reads no text."] if text else []
    if not (text or "").strip():
        missing = "in training this model always had a text; what it marks without one means little."
        return [missing] if model.config.text_dropout == 0 else []
    tokenizer, limit = processor.tokenizer, model.config.max_text_length
    tokens = tokenizer(text, truncation=False, verbose=False)["input_ids"]
    warnings = []
    if len(tokens) > limit:
        warnings.append(f"it has {len(tokens)} tokens, of which the model reads the first {limit}.")
    if tokenizer.unk_token_id is not None and (unknown := tokens.count(tokenizer.unk_token_id)):
        warnings.append(f"{unknown} of its tokens are unknown to the tokenizer, so that the model cannot use them.")
    if words := processor.unfamiliar_words(text):
        listed = ", ".join(words[:MAX_WORDS]) + (" …" if len(words) > MAX_WORDS else "")
        warnings.append(f"most of its words were in no text of the training ({listed}), so the mask may mean little.")
    return warnings
