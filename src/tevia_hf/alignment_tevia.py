"""Text-to-vision alignment: the foreground's visual vectors, the loss that pulls text to them, and their memory."""

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn
from transformers import initialization as init

from .labels_tevia import is_lesion
from .option_checks_tevia import check_share

# Grid side and head channels of the authors' vectors, coarse scale first: side * side * channels = 768, 384, 192.
HEAD_GRIDS = ((16, 3), (8, 6), (8, 3))
GATE_EPSILON = 1e-6


def foreground_mask(labels: torch.Tensor) -> torch.Tensor:
    """1 where a pixel belongs to any foreground class, `(batch, 1, height, width)` float."""
    return is_lesion(labels).unsqueeze(1).float()


def channel_representation(features: torch.Tensor, foreground: torch.Tensor) -> torch.Tensor:
    """The average of a scale's features over the true foreground, `(batch, channels)`; zero where there is none.

    Entry `c` speaks of channel `c`, so that a prototype made of it can gate channels. The mask is brought to the
    features' grid by area, so that a lesion smaller than a cell keeps its weight.
    """
    weights = F.interpolate(foreground, size=features.shape[-2:], mode="area")  # (batch, 1, height, width)
    total = (features.detach().float() * weights).sum((2, 3))  # (batch, channels)
    return total / weights.sum((2, 3)).clamp(min=torch.finfo(torch.float32).tiny)


def head_grid_representation(
    head_features: torch.Tensor, foreground: torch.Tensor, side: int, channels: int
) -> torch.Tensor:
    """The authors' vector: masked head features on a `side x side` grid, flattened, `(batch, channels * side * side)`.

    As in their code the second resize runs over the (width, channel) plane, so that 6 or 12 of 24 channels count.
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
        """Any widths of the three guided scales will do."""

    @staticmethod
    def embed(guided_features, head_features, foreground: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """Vectors of the true foreground, `(batch, channels)` a scale; zero where a sample has none."""
        return tuple(channel_representation(features, foreground) for features in guided_features)


class HeadGridForeground(ChannelForeground):
    """`foreground_representation="head_grid"`, as published: see `head_grid_representation`."""

    needs_head_features = True

    @staticmethod
    def check_widths(widths: Sequence[int]) -> None:
        expected = [side * side * channels for side, channels in HEAD_GRIDS]
        if list(widths) != expected:
            raise ValueError(
                f"`foreground_representation='head_grid'` is defined for decoder widths {expected}, not {widths}: "
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
        text_embeddings, visual_embeddings: a vector `(batch, channels)` a scale; a visual zero vector means that the
            sample has no foreground.
        has_text: `(batch,)` bool.
    """
    pairs = zip(text_embeddings, visual_embeddings, strict=True)
    distances = torch.stack([1 - F.cosine_similarity(text, visual, dim=-1) for text, visual in pairs])
    counted = torch.stack([v.any(-1) for v in visual_embeddings]) & has_text  # (scales, batch)
    return (distances * counted).sum() / counted.sum().clamp(min=1)


class TeViAPrototypeMemory(nn.Module):
    """One visual prototype a scale, kept over all training data (paper: historic visual prototype).

    Everything is a persistent buffer: prototypes in float32 whatever the model's dtype, `count` foreground samples they
    were averaged over, and `active`, without which `gate` changes nothing. Who updates it, and when, is the training's
    affair (`MomentumPrototypeCallback`).

    Args:
        channels: length of each prototype, coarse scale first.
        momentum: share of the old prototype in `momentum_step`.
    """

    count: torch.Tensor
    active: torch.Tensor
    keeper: Any = None  # the callback that moves the prototypes, while a training lasts

    def __init__(self, channels: Sequence[int], momentum: float = 0.99):
        super().__init__()
        self.momentum = check_share("momentum", momentum, example="0.99")
        self.scales = len(channels)
        for scale, width in enumerate(channels):
            self.register_buffer(f"prototype_{scale}", torch.zeros(width, dtype=torch.float32))
        self.register_buffer("count", torch.zeros((), dtype=torch.long))
        self.register_buffer("active", torch.zeros((), dtype=torch.bool))

    def _apply(self, fn, recurse=True):
        """Moves the buffers, but in their own types: in half precision a momentum step of 1 % would round away."""
        before = dict(self.named_buffers())
        super()._apply(fn, recurse)
        for name, buffer in before.items():
            if getattr(self, name).dtype != buffer.dtype:
                setattr(self, name, buffer.to(getattr(self, name).device))
        return self

    def reset(self) -> None:
        """Empties the memory; values that a checkpoint brought are left alone while it loads."""
        for buffer in self.buffers():
            init.zeros_(buffer)

    @property
    def prototypes(self) -> tuple[torch.Tensor, ...]:
        return tuple(getattr(self, f"prototype_{scale}") for scale in range(self.scales))

    @property
    def is_active(self) -> bool:
        return bool(self.active)

    def activate(self) -> None:
        """From now on prototypes gate the self-attention, in training and inference alike.

        Raises `ValueError` while nothing was collected or assigned.
        """
        if self.count == 0:
            raise ValueError("There is no prototype to activate: `collect(means)` or `assign(prototypes)` first.")
        self.active.fill_(True)

    def gate(self, scale: int) -> torch.Tensor:
        """The factor of a scale's query and key channels, `(channels,)` in [1, 2]; all ones while inactive."""
        prototype = getattr(self, f"prototype_{scale}")
        low, high = prototype.min(), prototype.max()
        return 1 + self.active * (prototype - low) / (high - low + GATE_EPSILON)

    @torch.no_grad()
    def assign(self, prototypes: Sequence[torch.Tensor]) -> None:
        """Sets prototypes by hand, as if from one sample, and activates them."""
        for own, new in zip(self.prototypes, prototypes, strict=True):
            own.copy_(new)
        self.count.clamp_(min=1)
        self.activate()

    @torch.no_grad()
    def collect(self, means: Sequence[torch.Tensor], samples: int = 1) -> None:
        """Takes the mean of `samples` foreground vectors into the plain mean over all collected so far."""
        self.count += samples
        for own, mean in zip(self.prototypes, means, strict=True):
            own.lerp_(mean.to(own), samples / int(self.count))

    @torch.no_grad()
    def momentum_step(self, means: Sequence[torch.Tensor]) -> None:
        """`P <- momentum * P + (1 - momentum) * mean` at each scale (paper's momentum update)."""
        for own, mean in zip(self.prototypes, means, strict=True):
            own.lerp_(mean.to(own), 1 - self.momentum)


__all__ = ["FOREGROUNDS", "TeViAPrototypeMemory", "alignment_loss", "foreground_mask"]
