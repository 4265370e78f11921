"""The vision encoder: four feature maps of any vision model, hierarchical or single-scale."""

import math
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import nn
from transformers import PreTrainedConfig
from transformers.utils.output_capturing import maybe_install_capturing_hooks

from .encoder_loading_tevia import EncoderWrapper, load_encoder
from .encoder_quirks_tevia import fix_batch_norm_momentum
from .vision_layout_tevia import STRIDES, build_vision_model, layout_of, nearest, spatial_maps

BATCH_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, nn.SyncBatchNorm)


class TeViABackbone(EncoderWrapper):
    """Four feature maps of a vision model, fine to coarse, at strides 4, 8, 16 and 32.

    A hierarchical model returns the raw outputs of its stages, without the norms that transformers' backbone classes
    add (as published). A single-scale model returns its last hidden state, from which a [`TeViAFeaturePyramid`] is
    computed; its images are resized slightly unless its patches are 8, 16 or 32 pixels wide. The maps and their
    channels are determined by a dry run on the meta device, because configs are not reliable about them. Parameters
    that none of the four maps depends on (final norms, poolers) are frozen.

    Raises `ValueError` if the model takes no images or has no spatial maps, and for images that are larger than a model
    of fixed size supports.
    """

    def __init__(self, config: PreTrainedConfig):
        super().__init__()
        self.layout = layout_of(config)
        self.channels = self.layout.channels
        self.model = build_vision_model(config)
        self.pyramid = None
        if self.layout.stride is not None:
            self.pyramid = TeViAFeaturePyramid(self.channels, self.layout.stride)
        self.is_frozen = False
        fix_batch_norm_momentum(self.model)
        self.set_trainable()

    def set_trainable(self) -> None:
        """Disables the gradients of parameters without effect, and of all parameters of a frozen model."""
        for name, parameter in self.model.named_parameters():
            if self.is_frozen or name in self.layout.unused:
                parameter.requires_grad_(False)

    def freeze(self) -> None:
        """Freezes the vision model: no gradients, batch norm and dropout in evaluation mode.

        A feature pyramid stays trainable.
        """
        self.is_frozen = True
        self.set_trainable()
        self.train(self.training)

    def train(self, mode: bool = True) -> "TeViABackbone":
        super().train(mode)
        self.model.train(mode and not self.is_frozen)
        freeze_norm_statistics(self.model)
        return self

    def load_pretrained(self, name_or_path: str, **kwargs) -> None:
        """Replaces the random weights by those of a checkpoint of the same architecture."""
        self.model = load_encoder(self.model, name_or_path, optional=self.layout.unused, **kwargs)
        fix_batch_norm_momentum(self.model)
        self.set_trainable()

    def forward(self, pixel_values: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """Maps `(batch, channels, height / stride, width / stride)`; height and width must be multiples of 32."""
        height, width = pixel_values.shape[-2:]
        self.install_hooks()
        maps = spatial_maps(self.model, self.fit(pixel_values), self.layout.channels_last)
        maps = [maps[stage] for stage in self.layout.stages]
        if self.pyramid is not None:
            maps = self.pyramid(maps[0])
        return tuple(
            feature_map[..., : height // stride, : width // stride]
            for feature_map, stride in zip(maps, STRIDES, strict=True)
        )

    @torch.compiler.assume_constant_result  # so that `torch.compile` runs it while it traces: it cannot trace it
    def install_hooks(self) -> None:
        """Adds transformers' hooks that record hidden states, as the vision model does at its first forward pass."""
        maybe_install_capturing_hooks(self.model)

    def fit(self, pixel_values: torch.Tensor) -> torch.Tensor:
        """Pads to the minimum size of the model; resizes so that patches coincide with the grid of the stride."""
        height, width = pixel_values.shape[-2:]
        self.check_size(height, width)
        least, patch, stride = self.layout.min_size, self.layout.patch, self.layout.stride
        if min(height, width) < least:
            pixel_values = F.pad(pixel_values, (0, max(least - width, 0), 0, max(least - height, 0)))
        if patch is None or stride is None or patch == stride:
            return pixel_values
        size = (pixel_values.shape[-2] // stride * patch, pixel_values.shape[-1] // stride * patch)
        return F.interpolate(pixel_values, size=size, mode="bicubic", align_corners=False)

    def check_size(self, height: int, width: int) -> None:
        side, family = self.layout.max_size, self.model.config.model_type
        if side is not None and max(height, width) > side:
            raise ValueError(
                f"The image, padded to multiples of 32, is {height}x{width}; this `{family}` has windows and positions "
                f"for at most {side}x{side}. Resize it (the processor does with `size={{'height': {side}, "
                f"'width': {side}}}`), or choose a family of any size, e.g. `{nearest(family)}`."
            )


class TeViAChannelNorm(nn.LayerNorm):
    """Layer norm over the channels of a map `(batch, channels, height, width)`, at each position."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return super().forward(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


class TeViAFeaturePyramid(nn.ModuleList):
    """Four maps at strides 4 to 32 from the single map of a plain transformer.

    Each is computed from that map alone, by transposed convolutions, unchanged or by max pooling (the simple feature
    pyramid of ViTDet, Li et al. 2022, section 3), then projected and normalised.

    Args:
        channels: of the four maps, fine to coarse; the last is the model's own width.
        stride: of the model's map.
    """

    def __init__(self, channels: list[int], stride: int):
        super().__init__(
            pyramid_branch(channels[-1], width, steps=int(math.log2(stride / target)))
            for width, target in zip(channels, STRIDES, strict=True)
        )

    def forward(self, x: torch.Tensor) -> list[torch.Tensor]:
        return [branch(x) for branch in self]


def pyramid_branch(channels: int, width: int, steps: int) -> nn.Sequential:
    """Doubles a map's sides `steps` times (halves them if negative) and projects it to `width` channels."""
    layers: list[nn.Module] = [nn.MaxPool2d(2) for _ in range(-steps)]
    widths = [max(channels // 2**step, width) for step in range(steps + 1)] or [channels]
    for before, after in pairwise(widths):
        layers += [nn.ConvTranspose2d(before, after, kernel_size=2, stride=2), TeViAChannelNorm(after), nn.GELU()]
    return nn.Sequential(*layers, nn.Conv2d(widths[-1], width, kernel_size=1, bias=False), TeViAChannelNorm(width))


def freeze_norm_statistics(model: nn.Module) -> None:
    """Keeps the running statistics of batch norms whose weight is frozen.

    Adapters are saved alone, so they must be trained with the statistics that the base model is saved with.
    """
    for module in model.modules():
        if isinstance(module, BATCH_NORMS) and module.weight is not None and not module.weight.requires_grad:
            module.eval()


__all__ = ["TeViABackbone", "TeViAFeaturePyramid", "freeze_norm_statistics"]
