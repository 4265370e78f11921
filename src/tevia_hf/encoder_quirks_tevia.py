"""Special cases of single encoder families (transformers 5.23), all in one place."""

from typing import Any

from torch import nn
from transformers import BertConfig, PreTrainedConfig

# Families covered by the tests; suggested if another one cannot be used.
PYRAMID_FAMILIES = tuple(
    "convnext convnextv2 dinov3_convnext resnet bit swin swinv2 pvt_v2 focalnet hgnet_v2 hiera segformer mobilenet_v1 "
    "mobilenet_v2 efficientnet".split()
)
SINGLE_SCALE_FAMILIES = tuple(
    "vit dinov2 dinov2_with_registers dinov3_vit beit siglip_vision_model clip_vision_model".split()
)
VISION_FAMILIES = PYRAMID_FAMILIES + SINGLE_SCALE_FAMILIES
TEXT_FAMILIES = tuple(
    "bert cxr-bert roberta xlm-roberta distilbert mpnet deberta-v2 electra albert modernbert clip_text_model "
    "siglip_text_model t5 qwen3".split()
)

# Options with which vision models accept any size and return the final output of each stage. A family may silently
# ignore them: the dry run then finds that it supports one size only, or `check_stage_ends` rejects its maps.
FORWARD_OPTIONS = {
    "interpolate_pos_encoding": True,
    # Swin: stage outputs before the downsampling that ends them, and windows at maps smaller than one.
    "output_hidden_states_before_downsampling": True,
    "always_partition": True,
}
# Models that do not pass `output_hidden_states_before_downsampling` on to the encoder.
SHOWN_AFTER_DOWNSAMPLING = ("swinv2", "focalnet")
# Models that reserve the first positions, up to the id of the padding token, for padding.
POSITIONS_AFTER_PADDING = tuple(
    "roberta xlm-roberta camembert xlm-roberta-xl mpnet longformer roberta-prelayernorm data2vec-text xmod".split()
)
BATCH_NORM_MOMENTUM = 0.1


def forward_options(config: PreTrainedConfig) -> dict[str, bool]:
    return {} if config.model_type.startswith("timm_") else FORWARD_OPTIONS  # timm rejects unknown arguments


def declared_size(config: PreTrainedConfig) -> Any:
    """The side, or (height, width), of the images in pre-training; `None` if the config has none.

    timm saves it in `pretrained_cfg`.
    """
    timm_size = (getattr(config, "pretrained_cfg", None) or {}).get("input_size") or [None]
    return getattr(config, "image_size", None) or timm_size[-1]


def fix_batch_norm_momentum(model: nn.Module) -> None:
    """Corrects the momentum of batch norms whose running statistics would be those of the last batch.

    MobileNetV1, MobileNetV2 and EfficientNet pass TensorFlow's decay, 0.99 or more, to torch as `momentum`, which is
    the share of the *newest* batch.
    """
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d) and (module.momentum or 0) > 0.5:
            module.momentum = BATCH_NORM_MOMENTUM


def plain_text_config(values: dict[str, Any]) -> PreTrainedConfig | None:
    """CXR-BERT's config as that of a plain BERT, without its remote code; `None` for other models."""
    if values.get("model_type") != "cxr-bert":
        return None
    dropped = ("model_type", "auto_map", "architectures", "projection_size")
    return BertConfig.from_dict({key: value for key, value in values.items() if key not in dropped})


def has_bert_tokenizer(values: dict[str, Any], tokenizer_class: str) -> bool:
    """Whether a text encoder uses BERT's tokenizer under another name, as CXR-BERT does.

    Args:
        values: the content of its `config.json`.
        tokenizer_class: the name in its `tokenizer_config.json`.
    """
    return values.get("model_type") == "cxr-bert" or "CXRBert" in tokenizer_class


__all__ = [
    "FORWARD_OPTIONS",
    "POSITIONS_AFTER_PADDING",
    "SHOWN_AFTER_DOWNSAMPLING",
    "TEXT_FAMILIES",
    "VISION_FAMILIES",
    "declared_size",
    "fix_batch_norm_momentum",
    "forward_options",
    "has_bert_tokenizer",
    "plain_text_config",
]
