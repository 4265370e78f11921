"""The text encoder: token features of any text model, frozen."""

import torch
from transformers import (
    MODEL_FOR_TEXT_ENCODING_MAPPING,
    MODEL_MAPPING,
    PreTrainedConfig,
    PreTrainedModel,
)

from .encoder_loading_tevia import EncoderWrapper, build_encoder, load_encoder, load_encoder_config, model_class
from .encoder_quirks_tevia import TEXT_FAMILIES, plain_text_config


class TeViATextEncoder(EncoderWrapper):
    """Token features of a frozen text model, which stays in evaluation mode unless adapters in it are trained.

    `peft.get_peft_model` adds adapters; parameters that require a gradient get one.

    Of an encoder-decoder such as T5 the encoder is used; in a decoder-only model each token attends to earlier ones.

    Raises `ValueError` if the config is not that of a text model, and at first use if it returns no hidden states.
    """

    def __init__(self, config: PreTrainedConfig):
        super().__init__()
        config.use_cache = False  # decoders would cache keys and values that are never used
        encoder_class = text_model_class(config)
        self.model = build_encoder(encoder_class, config)
        self.model.requires_grad_(False)
        self.eval()  # a new module is in training mode, with dropout

    def load_pretrained(self, name_or_path: str, **kwargs) -> None:
        """Replaces the random weights by those of a checkpoint of the same architecture, and tests a forward pass."""
        self.model = load_encoder(self.model, name_or_path, **kwargs)
        self.model.requires_grad_(False)
        self(torch.ones(1, 2, dtype=torch.long, device=self.model.device))

    @property
    def learns(self) -> bool:
        """Whether any weight of the text model is trainable, so that text features change in training."""
        return any(parameter.requires_grad for parameter in self.model.parameters())

    def train(self, mode: bool = True) -> "TeViATextEncoder":
        return super().train(mode and self.learns)

    def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor | None = None) -> torch.Tensor:
        """Features `(batch, tokens, dim)` of `input_ids (batch, tokens)`."""
        outputs = self.model(input_ids=input_ids, attention_mask=attention_mask, return_dict=True)
        features = getattr(outputs, "last_hidden_state", None)
        if features is None or features.shape[:2] != input_ids.shape:
            raise ValueError(
                f"`{self.model.config.model_type}` returns no hidden state per token, which TeViA attends to: choose "
                "an encoder such as bert, roberta or t5."
            )
        return features


def text_model_class(config: PreTrainedConfig) -> type[PreTrainedModel]:
    """The transformers class that encodes text for a config (for T5 its encoder).

    Raises `ValueError` if there is none.
    """
    family, text_class = config.model_type, model_class(config, (MODEL_FOR_TEXT_ENCODING_MAPPING, MODEL_MAPPING))
    is_dual = {"vision_config", "audio_config"} & set(config.sub_configs)
    choice = "choose e.g. a bert, roberta or t5, or the `text_config` of a dual encoder such as CLIP."
    if text_class is None or text_class.main_input_name != "input_ids" or is_dual:
        raise ValueError(f"`{family}` is not a text model that transformers knows: {choice}")
    if config.is_encoder_decoder and type(config) not in MODEL_FOR_TEXT_ENCODING_MAPPING:
        raise ValueError(f"transformers cannot load the encoder of `{family}`, an encoder-decoder, alone: {choice}")
    return text_class


def load_text_config(name_or_path: str) -> PreTrainedConfig:
    """The config of a text encoder; for a dual encoder such as CLIP that of its text encoder.

    CXR-BERT's config is converted to that of a plain BERT, without its remote code.
    """
    values, _ = PreTrainedConfig.get_config_dict(name_or_path)
    return plain_text_config(values) or load_encoder_config(name_or_path, "text_config", TEXT_FAMILIES)


__all__ = ["TeViATextEncoder", "load_text_config", "text_model_class"]
