"""The text model behind one face: token features of any encoder, frozen."""

import torch
from transformers import (
    MODEL_FOR_TEXT_ENCODING_MAPPING,
    MODEL_MAPPING,
    PreTrainedConfig,
    PreTrainedModel,
)

from .encoder_loading_tevia import EncoderFace, build_encoder, load_encoder, load_half_config, model_class
from .encoder_quirks_tevia import TEXT_FAMILIES, plain_text_config


class TeViATextEncoder(EncoderFace):
    """Token features of a frozen text model: no dropout, whatever `.train()` says, until adapters in it learn.

    Adapters come by `peft.get_peft_model`: what requires a gradient gets one.

    Of an encoder-decoder such as T5 it is the encoder half; a decoder-only model reads each token with those before it.

    Raises `ValueError` where the config is of no text model; for one without hidden states, when it is first used.
    """

    def __init__(self, config: PreTrainedConfig):
        super().__init__()
        config.use_cache = False  # decoders would keep keys and values for tokens that never come
        encoder_class = text_model_class(config)
        self.model = build_encoder(encoder_class, config)
        self.model.requires_grad_(False)
        self.eval()  # a new module is in training mode, and would read with dropout

    def load_pretrained(self, name_or_path: str, **kwargs) -> None:
        """Replaces the random weights by those of a checkpoint of the same architecture, and tries them."""
        self.model = load_encoder(self.model, name_or_path, **kwargs)
        self.model.requires_grad_(False)
        self(torch.ones(1, 2, dtype=torch.long, device=self.model.device))

    @property
    def learns(self) -> bool:
        """Whether a weight of the text model requires a gradient, so that features of a text change in training."""
        return any(parameter.requires_grad for parameter in self.model.parameters())

    def train(self, mode: bool = True) -> "TeViATextEncoder":
        return super().train(mode and self.learns)

    def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor | None = None) -> torch.Tensor:
        """Features `(batch, tokens, dim)` of `input_ids (batch, tokens)`."""
        outputs = self.model(input_ids=input_ids, attention_mask=attention_mask, return_dict=True)
        features = getattr(outputs, "last_hidden_state", None)
        if features is None or features.shape[:2] != input_ids.shape:
            raise ValueError(
                f"`{self.model.config.model_type}` gives no hidden state a token, which TeViA attends to: choose an "
                "encoder such as bert, roberta or t5."
            )
        return features


def text_model_class(config: PreTrainedConfig) -> type[PreTrainedModel]:
    """The transformers class that encodes text for a config (for T5 the encoder half).

    Raises `ValueError` where there is none.
    """
    family, found = config.model_type, model_class(config, (MODEL_FOR_TEXT_ENCODING_MAPPING, MODEL_MAPPING))
    is_pair = {"vision_config", "audio_config"} & set(config.sub_configs)
    choice = "choose e.g. a bert, roberta or t5, or the `text_config` of a pair such as CLIP."
    if found is None or found.main_input_name != "input_ids" or is_pair:
        raise ValueError(f"`{family}` is no text model that transformers knows: {choice}")
    if config.is_encoder_decoder and type(config) not in MODEL_FOR_TEXT_ENCODING_MAPPING:
        raise ValueError(f"`{family}` is an encoder-decoder whose encoder transformers has no class for: {choice}")
    return found


def load_text_config(name_or_path: str) -> PreTrainedConfig:
    """The config of a text encoder; of a pair such as CLIP that of its text half.

    CXR-BERT's becomes that of the plain BERT it is, without its remote code.
    """
    values, _ = PreTrainedConfig.get_config_dict(name_or_path)
    return plain_text_config(values) or load_half_config(name_or_path, "text_config", TEXT_FAMILIES)


__all__ = ["TeViATextEncoder", "load_text_config", "text_model_class"]
