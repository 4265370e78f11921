"""What a sentence did to a mask, and where."""

from typing import Any, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F

from ..vision_layout_tevia import STRIDES

MOST_WORDS = 5  # that a note names


class TextInfluence(NamedTuple):
    """One picture read with one sentence; all maps are float32 `(height, width)` of the picture's size.

    Args:
        probability: of a lesion, with the sentence.
        effect: how much the sentence raised (up to 1) or lowered (down to -1) it against no sentence at all.
        attention: how much each place singled out some of the tokens, 0 where it looked at all alike, 1 where at one
            only; the mean over the heads of the finest scale. `None` without a sentence or a text branch.
    """

    probability: np.ndarray
    effect: np.ndarray
    attention: np.ndarray | None


@torch.no_grad()
def explain_text(model, processor, image: Any, text: str | None = None) -> TextInfluence:
    """What a sentence did to the mask of a picture.

    The effect is what counts: it compares the model with itself. Attention tells where tokens were told apart, not
    whether that changed the mask.

    Args:
        model, processor: a `TeViAForSegmentation` and its `TeViAProcessor`.
        image: as the processor takes it.
        text: None or "" for none: the effect is 0 then.

    The model is left in evaluation mode.
    """
    text = text or ""
    picture = processor.image_processor.read_image(image)  # (1 or 3, height, width)
    size = (int(picture.shape[-2]), int(picture.shape[-1]))
    inputs = processor([picture] * 2, [text, ""], input_data_format="channels_first").to(model.device)
    outputs = model.eval()(**inputs, output_attentions=True)
    maps = processor.post_process_segmentation(outputs, target_sizes=[size] * 2, return_probabilities=True)
    with_text, without = (p[0] if len(p) == 1 else 1 - p[0] for p in maps)
    attention = None
    if text.strip() and outputs.attentions is not None:
        height, width = inputs["pixel_values"].shape[-2:]
        grid = [-(-side // STRIDES[-1]) * STRIDES[-1] // STRIDES[1] for side in (height, width)]
        seen = focus(outputs.attentions[-1][0]).unflatten(0, grid)  # at stride 8, of the network's padded input
        seen = F.interpolate(seen[None, None], scale_factor=STRIDES[1], mode="bilinear")[..., :height, :width]
        upright = seen.transpose(-1, -2) if processor.image_processor.swap_axes else seen
        attention = F.interpolate(upright, size, mode="bilinear")[0, 0].cpu().numpy()
    return TextInfluence(with_text.cpu().numpy(), (with_text - without).cpu().numpy(), attention)


def focus(attention: torch.Tensor) -> torch.Tensor:
    """1 - entropy / log(tokens) of the mean over heads of `(heads, places, tokens)`: `(places,)`."""
    shares = attention.float().mean(0)
    if shares.shape[-1] == 1:
        return torch.zeros_like(shares[..., 0])
    return 1 - torch.special.entr(shares).sum(-1) / np.log(shares.shape[-1])


def reading_notes(model, processor, text: str | None) -> list[str]:
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
