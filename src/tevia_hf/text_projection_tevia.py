"""Projections of text features to the channels of one scale: the variants of `TeViAConfig.text_projection`."""

import torch
import torch.nn.functional as F
from torch import nn

from .configuration_tevia import TeViAConfig

LEAKY_SLOPE = 0.01


class TeViATextProjection(nn.Module):
    """Projects text features `(batch, tokens, dim)` to one scale's channels, times a learned prompt; any length.

    Padding is masked in the cross-attention.
    """

    attends_to_padding = False

    def __init__(self, config: TeViAConfig, scale: int, channels: int):
        super().__init__()
        self.linear = nn.Linear(config.encoder_config("text_config").hidden_size, channels)
        self.prompt = nn.Parameter(torch.zeros(config.max_text_length, channels))

    def forward(self, text_features: torch.Tensor) -> torch.Tensor:
        text = F.leaky_relu(self.linear(text_features), LEAKY_SLOPE)  # (batch, tokens, channels)
        return text * (1 + self.prompt[: text.shape[1]])

    @staticmethod
    def tokens_of_null_text(config: TeViAConfig) -> int:
        return 1

    @staticmethod
    def pad(input_ids: torch.Tensor, attention_mask: torch.Tensor, config: TeViAConfig):
        """Token ids and mask, padded as the text encoder needs them."""
        return input_ids, attention_mask

    @staticmethod
    def attended(text_features: torch.Tensor, attention_mask: torch.Tensor, has_text: torch.Tensor):
        """The features to project, and True where a token is ignored, `(batch, tokens)`; a null text has one token."""
        first = torch.arange(attention_mask.shape[1], device=has_text.device) == 0
        # Logical operators, since `where` in onnxruntime supports floats and integers, but not booleans.
        return text_features, ~((attention_mask.bool() & has_text[:, None]) | (first & ~has_text[:, None]))


class TeViATokenMixing(TeViATextProjection):
    """The published projection, after a convolution over `max_text_length` positions; padding is attended to."""

    attends_to_padding = True

    def __init__(self, config: TeViAConfig, scale: int, channels: int):
        nn.Module.__init__(self)
        tokens = (config.text_token_lengths or ())[scale]  # three, as the config checks for this projection
        self.mix = nn.Conv1d(config.max_text_length, tokens, kernel_size=1)
        self.linear = nn.Linear(config.encoder_config("text_config").hidden_size, channels)
        self.prompt = nn.Parameter(torch.zeros(tokens, channels))

    def forward(self, text_features: torch.Tensor) -> torch.Tensor:
        return super().forward(F.gelu(self.mix(text_features)))  # mixed: (batch, tokens, dim)

    @staticmethod
    def tokens_of_null_text(config: TeViAConfig) -> int:
        return config.max_text_length

    @staticmethod
    def pad(input_ids: torch.Tensor, attention_mask: torch.Tensor, config: TeViAConfig):
        missing = config.max_text_length - input_ids.shape[1]
        padding_id = config.encoder_config("text_config").pad_token_id or 0
        return F.pad(input_ids, (0, missing), value=padding_id), F.pad(attention_mask, (0, missing))

    @staticmethod
    def attended(text_features: torch.Tensor, attention_mask: torch.Tensor, has_text: torch.Tensor):
        return text_features, None


TEXT_PROJECTIONS: dict[str, type[TeViATextProjection]] = {
    "per_token": TeViATextProjection,
    "token_mixing": TeViATokenMixing,
}

__all__ = ["LEAKY_SLOPE", "TEXT_PROJECTIONS", "TeViATextProjection"]
