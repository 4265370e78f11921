"""What the models return."""

from dataclasses import dataclass
from typing import NamedTuple

import torch
from transformers.utils import ModelOutput


class TeViAImageFeatures(NamedTuple):
    """What the vision encoder makes of images, whatever text is asked about them.

    Args:
        maps: four maps `(batch, channels, height, width)` of the image padded to multiples of 32 a side, of strides 32,
            16, 8 and 4.
        size: the image's own height and width, to which logits are cut back.
    """

    maps: tuple[torch.Tensor, ...]
    size: tuple[int, int]


@dataclass
class TeViAModelOutput(ModelOutput):
    """What the decoder hands to a head.

    Args:
        last_hidden_state: `(batch, channels, height / 4, width / 4)`.
        guided_features: a map `(batch, channels, height, width)` a scale, coarse first, after text guidance.
        text_embeddings: a vector `(batch, channels)` a scale, the mean of its tokens; `None` without a text branch.
        has_text: `(batch,)` bool, False where the null text stood in.
        hidden_states: with `output_hidden_states`, four maps `(batch, channels, height, width)`: the one that enters
            the decoder, of stride 32, and what its three blocks give, of strides 16, 8 and 4 (`last_hidden_state`).
        attentions: with `output_attentions`, of each decoder block how much every place of the image attends to every
            token, `(batch, heads, height * width, tokens)`, places row by row, strides 32, 16 and 8; `None` without a
            text branch.
    """

    last_hidden_state: torch.Tensor | None = None
    guided_features: tuple[torch.Tensor, ...] | None = None
    text_embeddings: tuple[torch.Tensor, ...] | None = None
    has_text: torch.Tensor | None = None
    hidden_states: tuple[torch.Tensor | None, ...] | None = None
    attentions: tuple[torch.Tensor, ...] | None = None


@dataclass
class TeViASegmentationOutput(ModelOutput):
    """Mask logits and, where `labels` were given, the losses and the vectors they compare.

    Args:
        loss: segmentation loss plus weighted auxiliary and alignment loss.
        segmentation_loss: soft Dice plus weighted cross-entropy.
        auxiliary_loss: the same of the auxiliary heads' coarse masks, summed over scales, before its weight; given in
            training alone.
        alignment_loss: mean of `1 - cosine` over scales and samples with text and foreground, before its weight.
        logits: `(batch, num_labels, height, width)` at the size of `pixel_values`.
        text_embeddings: a vector `(batch, channels)` a scale, coarse first.
        visual_embeddings: likewise, of the true foreground; a zero vector where a sample has none.
        hidden_states, attentions: on demand, see `TeViAModelOutput`; of the image padded to multiples of 32 a side.
    """

    loss: torch.Tensor | None = None
    segmentation_loss: torch.Tensor | None = None
    auxiliary_loss: torch.Tensor | None = None
    alignment_loss: torch.Tensor | None = None
    logits: torch.Tensor | None = None
    text_embeddings: tuple[torch.Tensor, ...] | None = None
    visual_embeddings: tuple[torch.Tensor, ...] | None = None
    hidden_states: tuple[torch.Tensor | None, ...] | None = None
    attentions: tuple[torch.Tensor, ...] | None = None


__all__ = ["TeViAImageFeatures", "TeViAModelOutput", "TeViASegmentationOutput"]
