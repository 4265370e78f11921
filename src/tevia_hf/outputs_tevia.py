"""The outputs of the models."""

from dataclasses import dataclass
from typing import NamedTuple

import torch
from transformers.utils import ModelOutput


class TeViAImageFeatures(NamedTuple):
    """Features of images from the vision encoder, independent of the text.

    Args:
        maps: four maps `(batch, channels, height, width)` at strides 32, 16, 8 and 4 of the image, padded to multiples
            of 32.
        size: height and width of the image before padding, to which logits are cropped.
    """

    maps: tuple[torch.Tensor, ...]
    size: tuple[int, int]


@dataclass
class TeViAModelOutput(ModelOutput):
    """Output of the decoder, the input of a segmentation head.

    Args:
        last_hidden_state: `(batch, channels, height / 4, width / 4)`.
        guided_features: one map `(batch, channels, height, width)` per scale, coarse first, after text guidance.
        text_embeddings: one vector `(batch, channels)` per scale, the mean of its tokens; `None` without a text branch.
        has_text: `(batch,)` bool, False where the null text was used.
        hidden_states: with `output_hidden_states`, four maps `(batch, channels, height, width)`: the input of the
            decoder at stride 32 and the outputs of its three blocks at strides 16, 8 and 4 (`last_hidden_state`).
        attentions: with `output_attentions`, the attention of each decoder block from image positions to tokens,
            `(batch, heads, height * width, tokens)`, positions in row-major order, at strides 32, 16 and 8; `None`
            without a text branch.
    """

    last_hidden_state: torch.Tensor | None = None
    guided_features: tuple[torch.Tensor, ...] | None = None
    text_embeddings: tuple[torch.Tensor, ...] | None = None
    has_text: torch.Tensor | None = None
    hidden_states: tuple[torch.Tensor | None, ...] | None = None
    attentions: tuple[torch.Tensor, ...] | None = None


@dataclass
class TeViASegmentationOutput(ModelOutput):
    """Mask logits and, if `labels` were given, the losses and the embeddings that they compare.

    Args:
        loss: segmentation loss plus weighted auxiliary and alignment loss.
        segmentation_loss: soft Dice plus weighted cross-entropy.
        auxiliary_loss: the same for the coarse masks of the auxiliary heads, summed over scales, before its weight; in
            training only.
        alignment_loss: mean of `1 - cosine` over scales and samples with text and foreground, before its weight.
        logits: `(batch, num_labels, height, width)` at the size of `pixel_values`.
        text_embeddings: one vector `(batch, channels)` per scale, coarse first.
        visual_embeddings: the same for the true foreground; zero for a sample without foreground.
        hidden_states: on request, see `TeViAModelOutput`; of the image padded to multiples of 32.
        attentions: likewise.
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
