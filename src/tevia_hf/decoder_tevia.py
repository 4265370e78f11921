"""The parts of the decoder: self-attention, cross-attention, upsampling, the block of all three, the head."""

from typing import Any

import torch
import torch.nn.functional as F
from torch import nn
from transformers import initialization as init
from transformers.modeling_layers import GradientCheckpointingLayer

from .configuration_tevia import TeViAConfig
from .text_projection_tevia import LEAKY_SLOPE, TEXT_PROJECTIONS

HOOKS = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks", "_hf_hook")
SUBPIXELS = 16  # pixels per position at stride 4


def sinusoidal_positions(length: int, channels: int, like: torch.Tensor) -> torch.Tensor:
    """Sines on even and cosines on odd channels (base 10000), `(length, channels)`, dtype and device of `like`."""
    position = torch.arange(length, device=like.device, dtype=torch.float32).unsqueeze(1)
    even = torch.arange(0, channels, 2, device=like.device, dtype=torch.float32)
    angles = position * 10000.0 ** (-even / channels)  # (length, ceil(channels / 2))
    return torch.stack([angles.sin(), angles.cos()], dim=-1).flatten(1)[:, :channels].to(like.dtype)


class TeViALateral(nn.Sequential):
    """Projects a feature map of the backbone to the decoder's width and unit variance.

    Raw stage outputs differ up to tenfold between scales (MobileNetV2: standard deviation 1.4 at stride 32, 8 at stride
    8). Next to large ones the text's contribution, of unit size times a small learned factor, is negligible.
    """

    def __init__(self, channels: int, width: int):
        super().__init__(nn.Conv2d(channels, width, kernel_size=1, bias=False), nn.BatchNorm2d(width))


class TeViAAttention(nn.MultiheadAttention):
    """`nn.MultiheadAttention` that calls its output projection as a module.

    Offloaded weights (`device_map` with "cpu" or "disk") are loaded by hooks on module calls, which torch's own forward
    bypasses.
    """

    def forward(  # type: ignore[override]  # only the arguments that are used here
        self, query, key, value, key_padding_mask=None, need_weights=False
    ):
        """Returns the output and the weights `(batch, heads, queries, keys)`, `None` unless `need_weights`."""
        projections, biases = self.in_proj_weight.chunk(3), self.in_proj_bias.chunk(3)
        query, key, value = (
            F.linear(x, weight, bias).unflatten(-1, (self.num_heads, -1)).transpose(1, 2)
            for x, weight, bias in zip((query, key, value), projections, biases, strict=True)
        )  # (batch, heads, tokens, dim)
        visible = None if key_padding_mask is None else ~key_padding_mask[:, None, None]
        weights = attention_weights(query, key, visible) if need_weights else None
        if weights is None:
            attended = F.scaled_dot_product_attention(query, key, value, attn_mask=visible)
        else:
            attended = weights @ value
        return self.out_proj(attended.transpose(1, 2).flatten(2)), weights


def attention_weights(query: torch.Tensor, key: torch.Tensor, visible: torch.Tensor | None) -> torch.Tensor:
    """The softmax `(batch, heads, queries, keys)`, which torch's fused attention does not return."""
    logits = query @ key.transpose(-1, -2) / query.shape[-1] ** 0.5
    return (logits if visible is None else logits.masked_fill(~visible, float("-inf"))).softmax(-1)


# Activation checkpointing recomputes the attentions only: batch norms would update their statistics twice a batch.


class TeViAImageSelfAttention(GradientCheckpointingLayer):
    """Self-attention over image positions; the prototype gate scales the channels of queries and keys."""

    def __init__(self, channels: int):
        super().__init__()
        self.norm = nn.LayerNorm(channels)
        self.attention = TeViAAttention(channels, num_heads=1, batch_first=True)
        self.output_norm = nn.LayerNorm(channels)

    def forward(self, x: torch.Tensor, positions: torch.Tensor, gate: torch.Tensor | None) -> torch.Tensor:
        value = self.norm(x)  # (batch, height * width, channels)
        query = value + positions
        if gate is not None:
            query = query * gate.to(query.dtype)
        attended, _ = self.attention(query, query, value)
        return x + self.output_norm(attended)


class TeViATextCrossAttention(GradientCheckpointingLayer):
    """Image features cross-attend to text tokens; the result is added with a learned factor."""

    def __init__(self, config: TeViAConfig, channels: int):
        super().__init__()
        self.scale_init = config.text_scale_init
        self.norm = nn.LayerNorm(channels)
        self.attention = TeViAAttention(channels, config.cross_attention_heads, batch_first=True)
        self.output_norm = nn.LayerNorm(channels)
        self.scale = nn.Parameter(torch.tensor(float(self.scale_init)))

    def forward(
        self,
        x: torch.Tensor,
        positions: torch.Tensor,
        text: torch.Tensor,
        padding: torch.Tensor | None,
        output_attentions: bool = False,
    ) -> tuple[torch.Tensor, torch.Tensor | None]:
        query = self.norm(x) + positions  # (batch, height * width, channels)
        key = text + sinusoidal_positions(text.shape[1], text.shape[2], like=text)  # (batch, tokens, channels)
        attended, weights = self.attention(query, key, text, padding, output_attentions)
        return x + self.scale * self.output_norm(attended), weights


class TeViAUpsampling(nn.Module):
    """Doubles the sides of a feature map and merges it with the backbone's map of that size."""

    def __init__(self, channels: int, skip_channels: int):
        super().__init__()
        self.upsample = nn.ConvTranspose2d(channels, skip_channels, kernel_size=2, stride=2, bias=False)
        self.conv1 = nn.Conv2d(2 * skip_channels, skip_channels, kernel_size=3, padding=1, bias=False)
        self.norm1 = nn.BatchNorm2d(skip_channels)
        self.conv2 = nn.Conv2d(skip_channels, skip_channels, kernel_size=3, padding=1, bias=False)
        self.norm2 = nn.BatchNorm2d(skip_channels)

    def forward(self, x: torch.Tensor, skip: torch.Tensor) -> torch.Tensor:
        x = torch.cat([self.upsample(x), skip], dim=1)  # (batch, 2 * skip_channels, 2 * height, 2 * width)
        x = F.leaky_relu(self.norm1(self.conv1(x)), LEAKY_SLOPE)
        return F.leaky_relu(self.norm2(self.conv2(x)), LEAKY_SLOPE)


class TeViADecoderBlock(nn.Module):
    """One scale of the decoder: image self-attention, cross-attention to the text, upsampling."""

    def __init__(self, config: TeViAConfig, scale: int, channels: int, skip_channels: int):
        super().__init__()
        self.self_attention = TeViAImageSelfAttention(channels)
        if config.use_text:
            self.text_projection = TEXT_PROJECTIONS[config.text_projection](config, scale, channels)
            self.cross_attention = TeViATextCrossAttention(config, channels)
        self.upsampling = TeViAUpsampling(channels, skip_channels)

    def forward(self, features, skip, text_features=None, padding=None, gate=None, output_attentions=False):
        """Returns the next scale's map, this scale's guided map, the projected text and the attention weights.

        The last two are `None` without text. The weights, `(batch, heads, height * width, tokens)`, are `None` unless
        `output_attentions`.
        """
        x = features.flatten(2).transpose(1, 2)  # (batch, height * width, channels), row-major
        positions = sinusoidal_positions(x.shape[1], x.shape[2], like=x)
        x = self.self_attention(x, positions, gate)
        text = weights = None
        if text_features is not None:
            text = self.text_projection(text_features)  # (batch, tokens, channels)
            x, weights = self.cross_attention(x, positions, text, padding, output_attentions)
        guided = x.transpose(1, 2).unflatten(2, features.shape[2:])  # (batch, channels, height, width)
        return self.upsampling(guided, skip), guided, text, weights


class TeViASubpixelConv(nn.Conv2d):
    """A convolution before pixel shuffle with ICNR initialisation: the 16 sub-pixels of a channel start out equal.

    A class of its own, since transformers (5.23) initialises only modules that hold parameters themselves.
    """

    @torch.no_grad()
    def reset_parameters(self) -> None:
        super().reset_parameters()
        init.copy_(self.weight, self.weight[::SUBPIXELS].repeat_interleave(SUBPIXELS, dim=0))


class TeViASegmentationHead(nn.Module):
    """Sub-pixel upsampling from stride 4 to full resolution, then one logit map per label."""

    expand: Any
    classifier: Any

    def __init__(self, config: TeViAConfig, channels: int):
        super().__init__()
        self.expand = TeViASubpixelConv(channels, config.head_channels * SUBPIXELS, kernel_size=3, padding=1)
        self.classifier = nn.Conv2d(config.head_channels, config.num_labels or 1, kernel_size=1)

    def forward(self, x: torch.Tensor, with_features: bool = False) -> tuple[torch.Tensor, torch.Tensor | None]:
        """Logits `(batch, num_labels, height, width)` and, with `with_features`, the features before the classifier."""
        if not with_features and self.can_fuse:
            return self.fused_logits(x), None
        features = smooth(F.pixel_shuffle(self.expand(x), 4))  # (batch, head_channels, height, width)
        return self.classifier(features), features

    @property
    def can_fuse(self) -> bool:
        """Whether the two convolutions can be computed as one: neither is wrapped by an adapter or has hooks."""
        parts = (self.expand, self.classifier)
        unhooked = not any(getattr(part, name, None) for part in parts for name in HOOKS)
        return unhooked and [type(part) for part in parts] == [TeViASubpixelConv, nn.Conv2d]

    def fused_logits(self, x: torch.Tensor) -> torch.Tensor:
        """The same logits from a single convolution, as there is no nonlinearity between the two.

        This is 1/24 of the work at full resolution; a training step of MobileNetV2 takes 0.7 of the time.
        """
        return subpixel_logits(x, *self.fused_weights())

    def fused_weights(self) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Kernels `(num_labels * 16, channels, 3, 3)` and biases of the single convolution, and the label's bias."""
        weight = self.classifier.weight.flatten(1)  # (num_labels, head_channels)
        kernels = torch.einsum("lc,csikj->lsikj", weight, self.expand.weight.unflatten(0, (-1, SUBPIXELS)))
        biases = weight @ self.expand.bias.unflatten(0, (-1, SUBPIXELS))  # (num_labels, 16)
        return kernels.flatten(0, 1), biases.flatten(), self.classifier.bias[:, None, None]


class TeViAFusedHead(nn.Module):
    """The head for inference, with the weights of its single convolution."""

    kernels: torch.Tensor
    biases: torch.Tensor
    label_bias: torch.Tensor

    def __init__(self, head: TeViASegmentationHead):
        super().__init__()
        for name, tensor in zip(("kernels", "biases", "label_bias"), head.fused_weights(), strict=True):
            self.register_buffer(name, tensor.clone())

    def forward(self, x: torch.Tensor, with_features: bool = False) -> tuple[torch.Tensor, None]:
        """Logits `(batch, num_labels, height, width)`; there are no features."""
        return subpixel_logits(x, self.kernels, self.biases, self.label_bias), None


def subpixel_logits(
    x: torch.Tensor, kernels: torch.Tensor, biases: torch.Tensor, label_bias: torch.Tensor
) -> torch.Tensor:
    """The logits `(batch, num_labels, height, width)` of the weights that `fused_weights` returns."""
    return smooth(F.pixel_shuffle(F.conv2d(x, kernels, biases, padding=1), 4)) + label_bias


def smooth(x: torch.Tensor) -> torch.Tensor:
    """The mean over the 4x4 window that ends at each pixel; zeros beyond the border."""
    return F.avg_pool2d(F.pad(x, (3, 0, 3, 0)), kernel_size=4, stride=1)


class TeViAAuxiliaryHeads(nn.ModuleList):
    """Deep supervision: a 1x1 convolution per decoder block that predicts a coarse mask from its output."""

    def __init__(self, channels: list[int], num_labels: int):
        super().__init__(nn.Conv2d(width, num_labels, kernel_size=1) for width in channels)

    def forward(self, states: tuple[torch.Tensor, ...]) -> list[torch.Tensor]:
        """Logits `(batch, num_labels, height, width)` of maps `(batch, channels, height, width)`."""
        return [head(state) for head, state in zip(self, states, strict=True)]


def mean_token(text: torch.Tensor, padding: torch.Tensor | None) -> torch.Tensor:
    """Mean over the tokens that are not padding, `(batch, channels)` float32."""
    if padding is None:
        return text.float().mean(1)
    weights = (~padding).unsqueeze(-1).float()  # (batch, tokens, 1)
    return (text.float() * weights).sum(1) / weights.sum(1)


__all__ = [
    "TeViAAuxiliaryHeads",
    "TeViADecoderBlock",
    "TeViAFusedHead",
    "TeViALateral",
    "TeViASegmentationHead",
    "mean_token",
]
