"""What a decoder is made of: the two attentions, upsampling, one block of them, the head."""

from typing import Any

import torch
import torch.nn.functional as F
from torch import nn
from transformers import initialization as init
from transformers.modeling_layers import GradientCheckpointingLayer

from .configuration_tevia import TeViAConfig
from .text_projection_tevia import LEAKY_SLOPE, TEXT_PROJECTIONS

HOOKS = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks", "_hf_hook")
SUBPIXELS = 16  # of a place at stride 4


def sinusoidal_positions(length: int, channels: int, like: torch.Tensor) -> torch.Tensor:
    """Sines on even and cosines on odd channels (base 10000), `(length, channels)` in the dtype and place of `like`."""
    position = torch.arange(length, device=like.device, dtype=torch.float32).unsqueeze(1)
    even = torch.arange(0, channels, 2, device=like.device, dtype=torch.float32)
    angles = position * 10000.0 ** (-even / channels)  # (length, ceil(channels / 2))
    return torch.stack([angles.sin(), angles.cos()], dim=-1).flatten(1)[:, :channels].to(like.dtype)


class TeViALateral(nn.Sequential):
    """Brings a backbone's map to the decoder's width and to unit variance.

    Raw stage outputs differ tenfold between scales (MobileNetV2: standard deviation 1.4 at stride 32, 8 at stride 8),
    and beside large ones the text's contribution, of unit size times a small learned factor, does not count.
    """

    def __init__(self, channels: int, width: int):
        super().__init__(nn.Conv2d(channels, width, kernel_size=1, bias=False), nn.BatchNorm2d(width))


class TeViAAttention(nn.MultiheadAttention):
    """torch's attention without the weights of the tokens, its output projection called as the module it is.

    Offloaded weights (`device_map` with "cpu" or "disk") are fetched by hooks on calls, which torch's own passes by.
    """

    def forward(  # type: ignore[override]  # of torch's arguments those that are used here
        self, query, key, value, key_padding_mask=None, need_weights=False
    ):
        """Returns what was attended to and the weights `(batch, heads, queries, keys)`, `None` unless asked for."""
        projections, biases = self.in_proj_weight.chunk(3), self.in_proj_bias.chunk(3)
        query, key, value = (
            F.linear(x, weight, bias).unflatten(-1, (self.num_heads, -1)).transpose(1, 2)
            for x, weight, bias in zip((query, key, value), projections, biases, strict=True)
        )  # (batch, heads, tokens, dim)
        seen = None if key_padding_mask is None else ~key_padding_mask[:, None, None]
        weights = attention_weights(query, key, seen) if need_weights else None
        if weights is None:
            attended = F.scaled_dot_product_attention(query, key, value, attn_mask=seen)
        else:
            attended = weights @ value
        return self.out_proj(attended.transpose(1, 2).flatten(2)), weights


def attention_weights(query: torch.Tensor, key: torch.Tensor, seen: torch.Tensor | None) -> torch.Tensor:
    """The softmax inside torch's fused attention, which does not hand it out: `(batch, heads, queries, keys)`."""
    logits = query @ key.transpose(-1, -2) / query.shape[-1] ** 0.5
    return (logits if seen is None else logits.masked_fill(~seen, float("-inf"))).softmax(-1)


# The attentions alone are recomputed under activation checkpointing, as batch norms would count a batch twice.


class TeViAImageSelfAttention(GradientCheckpointingLayer):
    """Every place of the image looks at every other; the prototype's gate says which channels count in comparing."""

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
    """Every place of the image looks at the sentence; what it finds is added in a learned measure."""

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
    """Doubles a map's sides and joins the backbone's map of that size."""

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
        """Returns the next scale's map, this scale's guided map, its projected text, and where it attended to it.

        The last two are `None` without text; the last is `(batch, heads, height * width, tokens)`, on demand.
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
    """A convolution before pixel shuffle that starts as ICNR: the 16 sub-pixels of a channel begin equal.

    A class of its own, as transformers initialises no module of ours that holds no parameter itself (5.23).
    """

    @torch.no_grad()
    def reset_parameters(self) -> None:
        super().reset_parameters()
        init.copy_(self.weight, self.weight[::SUBPIXELS].repeat_interleave(SUBPIXELS, dim=0))


class TeViASegmentationHead(nn.Module):
    """Sub-pixel upsampling from stride 4 to full resolution, then one logit map a label."""

    expand: Any
    classifier: Any

    def __init__(self, config: TeViAConfig, channels: int):
        super().__init__()
        self.expand = TeViASubpixelConv(channels, config.head_channels * SUBPIXELS, kernel_size=3, padding=1)
        self.classifier = nn.Conv2d(config.head_channels, config.num_labels or 1, kernel_size=1)

    def forward(self, x: torch.Tensor, with_features: bool = False) -> tuple[torch.Tensor, torch.Tensor | None]:
        """Logits `(batch, num_labels, height, width)` and, on demand, the head features they are read from."""
        if not with_features and self.is_plain:
            return self.read_directly(x), None
        features = smooth(F.pixel_shuffle(self.expand(x), 4))  # (batch, head_channels, height, width)
        return self.classifier(features), features

    @property
    def is_plain(self) -> bool:
        """Whether both convolutions do what their weights say: no adapter around them, no hook on their calls."""
        parts = (self.expand, self.classifier)
        unhooked = not any(getattr(part, name, None) for part in parts for name in HOOKS)
        return unhooked and [type(part) for part in parts] == [TeViASubpixelConv, nn.Conv2d]

    def read_directly(self, x: torch.Tensor) -> torch.Tensor:
        """The same logits without the features: with nothing nonlinear between them, two convolutions are one.

        A twenty-fourth of the work at full resolution; a training step of MobileNetV2 takes 0.7 of the time.
        """
        read = self.classifier.weight.flatten(1)  # (num_labels, head_channels)
        kernels = torch.einsum("lc,csikj->lsikj", read, self.expand.weight.unflatten(0, (-1, SUBPIXELS)))
        biases = read @ self.expand.bias.unflatten(0, (-1, SUBPIXELS))  # (num_labels, 16)
        logits = F.conv2d(x, kernels.flatten(0, 1), biases.flatten(), padding=1)
        return smooth(F.pixel_shuffle(logits, 4)) + self.classifier.bias[:, None, None]


def smooth(x: torch.Tensor) -> torch.Tensor:
    """The mean of each pixel and those up to three above and to the left of it; zeros beyond the border."""
    return F.avg_pool2d(F.pad(x, (3, 0, 3, 0)), kernel_size=4, stride=1)


class TeViAAuxiliaryHeads(nn.ModuleList):
    """A 1x1 convolution for what each block of the decoder gives, which reads the mask from it: deep supervision."""

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


__all__ = ["TeViAAuxiliaryHeads", "TeViADecoderBlock", "TeViALateral", "TeViASegmentationHead", "mean_token"]
