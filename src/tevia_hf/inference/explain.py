"""What a text did to a mask, and where."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F

from ..logits_tevia import lesion_probability
from ..modeling_tevia import TeViAForSegmentation
from ..processing_tevia import TeViAProcessor
from ..vision_layout_tevia import STRIDES
from .predictor import Predictor

MOST_WORDS = 5  # that a note names


class TextInfluence(NamedTuple):
    """What one text did to the mask of an image; all maps are float32 `(height, width)` of the image's size.

    Args:
        probability: of a lesion, with the text.
        effect: how much the text raised (up to 1) or lowered (down to -1) it against no text at all.
        attention: how much each place singled out some of the tokens, 0 where it looked at all alike, 1 where at one
            only; the mean over the heads of the finest scale. `None` without a text or a text branch.
    """

    probability: np.ndarray
    effect: np.ndarray
    attention: np.ndarray | None


def explain_texts(
    model: TeViAForSegmentation, processor: TeViAProcessor, image: Any, texts: Sequence[str | None]
) -> list[TextInfluence]:
    """What each of several texts did to the mask of one image, which is encoded once.

    The effect is what counts: it compares the model with itself. Attention tells where tokens were told apart, not
    whether that changed the mask.

    Args:
        image: as `Predictor.prepare` takes it.
        texts: None or "" for none: the effect is 0 then.
    """
    predictor = Predictor(model, processor)
    encoded = predictor.encode([prepared := predictor.prepare(image)])
    network_size = prepared.pixel_values.shape[-2:]

    def answer(text: str) -> tuple[np.ndarray, Any]:
        outputs = predictor.ask(encoded, [text], output_attentions=True)
        (maps,) = processor.post_process_segmentation(outputs, encoded.sizes, return_probabilities=True)
        return lesion_probability(maps).cpu().numpy(), outputs.attentions

    without, _ = answer("")
    influences = []
    for text in texts:
        probability, attentions = answer(text) if text and text.strip() else (without, None)
        finest = None if attentions is None else attentions[-1][0]
        attention = None if finest is None else attention_map(finest, network_size, processor, encoded.sizes[0])
        influences.append(TextInfluence(probability, probability - without, attention))
    return influences


def attention_map(
    attention: torch.Tensor, network_size: Sequence[int], processor: TeViAProcessor, size: tuple[int, int]
) -> np.ndarray:
    """`focus` of the attention at stride 8, `(heads, places, tokens)`, over the image of this (height, width)."""
    height, width = network_size
    grid = [-(-side // STRIDES[-1]) * STRIDES[-1] // STRIDES[1] for side in (height, width)]  # of the padded input
    seen = focus(attention).unflatten(0, grid)
    seen = F.interpolate(seen[None, None], scale_factor=STRIDES[1], mode="bilinear")[..., :height, :width]
    upright = seen.transpose(-1, -2) if processor.image_processor.swap_axes else seen
    return F.interpolate(upright, size, mode="bilinear")[0, 0].cpu().numpy()


def focus(attention: torch.Tensor) -> torch.Tensor:
    """1 - entropy / log(tokens) of the mean over heads of `(heads, places, tokens)`: `(places,)`."""
    shares = attention.float().mean(0)
    if shares.shape[-1] == 1:
        return torch.zeros_like(shares[..., 0])
    return 1 - torch.special.entr(shares).sum(-1) / np.log(shares.shape[-1])


def text_warnings(model, processor, text: str | None) -> list[str]:
    """Sentences for people on what the model cannot make of a text, or of there being none; empty where all is well."""
    if not model.config.use_text:
        return ["this model reads no text."] if text else []
    if not (text or "").strip():
        always_told = "in training this model always had a sentence; what it marks without one means little."
        return [always_told] if model.config.text_dropout == 0 else []
    tokenizer, limit = processor.tokenizer, model.config.max_text_length
    tokens = tokenizer(text, truncation=False, verbose=False)["input_ids"]
    notes = [f"it has {len(tokens)} tokens, of which the model reads the first {limit}."] if len(tokens) > limit else []
    if tokenizer.unk_token_id is not None and (unknown := tokens.count(tokenizer.unk_token_id)):
        notes.append(f"{unknown} of its words or signs are unknown to the model, which guesses without them.")
    if words := processor.unfamiliar_words(text):
        named = ", ".join(words[:MOST_WORDS]) + (" …" if len(words) > MOST_WORDS else "")
        notes.append(f"most of its words were in no text of the training ({named}), so that the mask may mean little.")
    return notes
