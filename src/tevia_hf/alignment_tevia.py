"""Text-to-vision alignment: embeddings of the foreground, the loss between text and foreground, the prototypes."""

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn
from transformers import initialization as init

from .labels_tevia import is_lesion
from .option_checks_tevia import check_share

# Grid side and head channels of the published embedding, coarse scale first: side * side * channels = 768, 384, 192.
HEAD_GRIDS = ((16, 3), (8, 6), (8, 3))
GATE_EPSILON = 1e-6


def foreground_mask(labels: torch.Tensor) -> torch.Tensor:
    """1 where a pixel belongs to any foreground class, `(batch, 1, height, width)` float."""
    return is_lesion(labels).unsqueeze(1).float()


def channel_representation(features: torch.Tensor, foreground: torch.Tensor) -> torch.Tensor:
    """The average of a scale's features over the true foreground, `(batch, channels)`; zero if there is none.

    Entry `c` belongs to channel `c`, so that a prototype of these averages can gate channels. The mask is resized to
    the feature grid by area, so that a lesion smaller than a cell keeps its weight.
    """
    weights = F.interpolate(foreground, size=features.shape[-2:], mode="area")  # (batch, 1, height, width)
    total = (features.detach().float() * weights).sum((2, 3))  # (batch, channels)
    return total / weights.sum((2, 3)).clamp(min=torch.finfo(torch.float32).tiny)


def head_grid_representation(
    head_features: torch.Tensor, foreground: torch.Tensor, side: int, channels: int
) -> torch.Tensor:
    """The published embedding: masked head features on a `side x side` grid, `(batch, channels * side * side)`.

    As in the authors' code, the second resize runs over the (width, channel) plane, so that 6 or 12 of 24 channels are
    used.
    """
    masked = head_features.detach().float() * foreground  # (batch, head_channels, height, width)
    grid = F.interpolate(masked, size=(side, side), mode="bilinear")  # (batch, head_channels, side, side)
    rows = grid.permute(0, 2, 3, 1)  # (batch, side, side, head_channels)
    mixed = F.interpolate(rows, size=(side, channels), mode="bilinear")  # (batch, side, side, channels)
    return mixed.permute(0, 3, 1, 2).flatten(1)


class ChannelForeground:
    """`foreground_representation="channel"`: see `channel_representation`."""

    needs_head_features = False

    @staticmethod
    def check_widths(widths: Sequence[int]) -> None:
        """Accepts any widths of the three guided scales."""

    @staticmethod
    def embed(guided_features, head_features, foreground: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """Embeddings of the true foreground, `(batch, channels)` per scale; zero for samples without foreground."""
        return tuple(channel_representation(features, foreground) for features in guided_features)


class HeadGridForeground(ChannelForeground):
    """`foreground_representation="head_grid"`, as published: see `head_grid_representation`."""

    needs_head_features = True

    @staticmethod
    def check_widths(widths: Sequence[int]) -> None:
        expected = [side * side * channels for side, channels in HEAD_GRIDS]
        if list(widths) != expected:
            raise ValueError(
                f"`foreground_representation='head_grid'` requires decoder widths {expected}, got {widths}: "
                "use 'channel'."
            )

    @staticmethod
    def embed(guided_features, head_features, foreground: torch.Tensor) -> tuple[torch.Tensor, ...]:
        return tuple(head_grid_representation(head_features, foreground, *grid) for grid in HEAD_GRIDS)


FOREGROUNDS: dict[str, type[ChannelForeground]] = {"channel": ChannelForeground, "head_grid": HeadGridForeground}


def alignment_loss(
    text_embeddings: Sequence[torch.Tensor], visual_embeddings: Sequence[torch.Tensor], has_text: torch.Tensor
) -> torch.Tensor:
    """`1 - cosine` between text and foreground, averaged over scales and over samples that have both.

    Args:
        text_embeddings: one vector `(batch, channels)` per scale.
        visual_embeddings: likewise; a vector of zeros means that the sample has no foreground.
        has_text: `(batch,)` bool.
    """
    pairs = zip(text_embeddings, visual_embeddings, strict=True)
    distances = torch.stack([1 - F.cosine_similarity(text, visual, dim=-1) for text, visual in pairs])
    counted = torch.stack([v.any(-1) for v in visual_embeddings]) & has_text  # (scales, batch)
    return (distances * counted).sum() / counted.sum().clamp(min=1)


class TeViAPrototypeMemory(nn.Module):
    """One visual prototype per scale, averaged over the training data (paper: historic visual prototype).

    All values are persistent buffers: the prototypes, in float32 whatever the model's dtype, `count`, the number of
    foreground samples in them, and `active`, which enables `gate`. Updated by `MomentumPrototypeCallback`.

    Args:
        channels: length of each prototype, coarse scale first.
        momentum: share of the old prototype in `momentum_step`.
    """

    count: torch.Tensor
    active: torch.Tensor
    keeper: Any = None  # the callback that updates the prototypes, during training

    def __init__(self, channels: Sequence[int], momentum: float = 0.99):
        super().__init__()
        self.momentum = check_share("momentum", momentum, example="0.99")
        self.scales = len(channels)
        for scale, width in enumerate(channels):
            self.register_buffer(f"prototype_{scale}", torch.zeros(width, dtype=torch.float32))
        self.register_buffer("count", torch.zeros((), dtype=torch.long))
        self.register_buffer("active", torch.zeros((), dtype=torch.bool))

    def _apply(self, fn, recurse=True):
        """Moves the buffers without changing their dtype: half precision would round a momentum step of 1 % to none."""
        before = dict(self.named_buffers())
        super()._apply(fn, recurse)
        for name, buffer in before.items():
            if getattr(self, name).dtype != buffer.dtype:
                setattr(self, name, buffer.to(getattr(self, name).device))
        return self

    def reset(self) -> None:
        """Sets all buffers to zero, except those that were loaded from a checkpoint while it is loading."""
        for buffer in self.buffers():
            init.zeros_(buffer)

    @property
    def prototypes(self) -> tuple[torch.Tensor, ...]:
        return tuple(getattr(self, f"prototype_{scale}") for scale in range(self.scales))

    @property
    def is_active(self) -> bool:
        return bool(self.active)

    def activate(self) -> None:
        """Makes the prototypes gate the self-attention, in training and inference.

        Raises `ValueError` if nothing was collected or assigned.
        """
        if self.count == 0:
            raise ValueError("There is no prototype to activate: `collect(means)` or `assign(prototypes)` first.")
        self.active.fill_(True)

    def gate(self, scale: int) -> torch.Tensor:
        """The factors of a scale's query and key channels, `(channels,)` in [1, 2]; all ones while inactive."""
        prototype = getattr(self, f"prototype_{scale}")
        low, high = prototype.min(), prototype.max()
        return 1 + self.active * (prototype - low) / (high - low + GATE_EPSILON)

    @torch.no_grad()
    def assign(self, prototypes: Sequence[torch.Tensor]) -> None:
        """Sets the prototypes, counted as at least one sample, and activates them."""
        for own, new in zip(self.prototypes, prototypes, strict=True):
            own.copy_(new)
        self.count.clamp_(min=1)
        self.activate()

    @torch.no_grad()
    def collect(self, means: Sequence[torch.Tensor], samples: int = 1) -> None:
        """Adds the mean of `samples` foreground embeddings to the running mean."""
        self.count += samples
        for own, mean in zip(self.prototypes, means, strict=True):
            own.lerp_(mean.to(own), samples / int(self.count))

    @torch.no_grad()
    def momentum_step(self, means: Sequence[torch.Tensor]) -> None:
        """`P <- momentum * P + (1 - momentum) * mean` at each scale (the paper's momentum update)."""
        for own, mean in zip(self.prototypes, means, strict=True):
            own.lerp_(mean.to(own), 1 - self.momentum)


__all__ = ["FOREGROUNDS", "TeViAPrototypeMemory", "alignment_loss", "foreground_mask"]
