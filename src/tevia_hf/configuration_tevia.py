"""The configuration of a TeViA network: two encoders, a text-guided decoder, text-to-vision alignment."""

from typing import Literal

from huggingface_hub.dataclasses import strict
from transformers import AutoConfig, PreTrainedConfig
from transformers.configuration_utils import SubConfigSpec
from transformers.pipelines import PIPELINE_REGISTRY

from .encoder_quirks_tevia import POSITIONS_AFTER_PADDING
from .labels_tevia import class_names
from .option_checks_tevia import check_count, check_not_negative, check_number, check_share

PUBLISHED = {
    "max_text_length": 24,
    "text_projection": "token_mixing",
    "text_token_lengths": [24, 12, 9],
    "text_scale_init": 0.01,
    "text_dropout": 0.0,
    "foreground_representation": "head_grid",
    "alignment_loss_weight": 0.1,
    "auxiliary_loss_weight": 0.0,
    "cross_entropy_loss_weight": 0.0,
    "prototype_momentum": 0.99,
}


@strict
class TeViAConfig(PreTrainedConfig):
    r"""Configuration of a `TeViAForSegmentation`; `TeViAConfig.published()` has all values of the publication.

    Args:
        backbone_config (`dict` or `PreTrainedConfig`, *optional*):
            Any vision model with feature maps at strides 4, 8, 16 and 32, or with a single map, such as a ViT. Default:
            ConvNeXt-Tiny.
        text_config (`dict` or `PreTrainedConfig`, *optional*):
            Any text encoder; its weights stay frozen. Default: BERT base, the architecture of CXR-BERT. `None` if
            `use_text=False`.
        use_text (`bool`, defaults to `True`):
            `False` builds the vision-only network: no text encoder, no cross-attention, no prototypes.
        decoder_channels (`list[int]`, *optional*):
            Widths of the decoder at strides 32, 16, 8 and 4, to which 1x1 convolutions with batch norm project the
            backbone's maps; the first three must be multiples of `cross_attention_heads`. Default: no projection
            (published). Recommended if the backbone's widths are large or uneven, as MobileNet's are.
        head_channels (`int`, defaults to 24):
            Channels of the full-resolution features from which the mask is read.
        cross_attention_heads (`int`, defaults to 4):
            Heads of the image-to-text attention; the image self-attention has one (published).
        max_text_length (`int`, defaults to 64):
            Maximum text length in tokens. Published: 24.
        text_projection (`str`, defaults to `"per_token"`):
            `"per_token"`: a linear map per token, padding masked. `"token_mixing"`: the authors' convolution over
            exactly `max_text_length` positions, padding attended to.
        text_token_lengths (`list[int]`, *optional*):
            Number of tokens that `"token_mixing"` returns at each of the three scales. Published: 24, 12, 9.
        text_scale_init (`float`, defaults to 1.0):
            Initial value of the learned factor of the text's contribution. Published: 0.01, from which it grows by
            about the learning rate per step, too slowly for short runs (see docs/results.md).
        text_dropout (`float`, defaults to 0.1):
            Share of training texts replaced by the learned null text, so that the model also works without text.
        foreground_representation (`str`, defaults to `"channel"`):
            Embedding of the foreground for alignment and prototypes. `"channel"`: the average of a scale's features
            over the true foreground, one entry per channel. `"head_grid"`: the authors' flattened grid of the head's
            features.
        alignment_loss_weight (`float`, defaults to 0.1):
            Factor of the alignment loss (paper's lambda).
        auxiliary_loss_weight (`float`, defaults to 0.0):
            Factor of deep supervision: the loss of coarse masks that a 1x1 convolution predicts from each decoder
            block; training only, see `add_auxiliary_heads`. Common value: 0.4. Published: 0.
        cross_entropy_loss_weight (`float`, defaults to 1.0):
            Factor of the cross-entropy, which is added to the Dice loss. Published code: 0, as it cancels out there.
        prototype_momentum (`float`, defaults to 0.99):
            Share of the old prototype in a momentum step.
        num_labels (`int`, defaults to 1):
            1: a lesion mask by sigmoid. More: classes by softmax, 0 is background.
    """

    model_type = "tevia"
    sub_configs_defaults = {
        "backbone_config": SubConfigSpec(config_class=AutoConfig, model_type="convnext"),
        "text_config": SubConfigSpec(config_class=AutoConfig, model_type="bert", optional=True),
    }
    # Unannotated on purpose: an instance attribute would be written to config.json.
    keys_to_ignore_at_inference = [
        "segmentation_loss",
        "auxiliary_loss",
        "alignment_loss",
        "text_embeddings",
        "visual_embeddings",
        "hidden_states",
        "attentions",
    ]

    backbone_config: dict | PreTrainedConfig | None = None
    text_config: dict | PreTrainedConfig | None = None
    use_text: bool = True
    decoder_channels: list[int] | tuple[int, ...] | None = None
    head_channels: int = 24
    cross_attention_heads: int = 4
    max_text_length: int = 64
    text_projection: Literal["per_token", "token_mixing"] = "per_token"
    text_token_lengths: list[int] | tuple[int, ...] | None = None
    text_scale_init: float | int = 1.0
    text_dropout: float | int = 0.1
    foreground_representation: Literal["channel", "head_grid"] = "channel"
    alignment_loss_weight: float | int = 0.1
    auxiliary_loss_weight: float | int = 0.0
    cross_entropy_loss_weight: float | int = 1.0
    prototype_momentum: float | int = 0.99

    def __post_init__(self, **kwargs):
        if set(kwargs.get("custom_pipelines") or ()) <= PIPELINE_REGISTRY.supported_tasks.keys():
            # Otherwise `pipeline()` asks to run the folder's code, although this package has registered the task.
            kwargs.pop("custom_pipelines", None)
        if self.id2label is None and kwargs.get("num_labels", 1) == 1:
            self.id2label, self.label2id = {0: "lesion"}, {"lesion": 0}
        if not self.use_text:
            self.text_config = None
        elif self.text_config is None:
            self.text_config = {"model_type": "bert"}
        super().__post_init__(**kwargs)

    @classmethod
    def published(cls, **kwargs) -> "TeViAConfig":
        """The published configuration (ConvNeXt-Tiny, CXR-BERT, 24 tokens); keyword arguments override its values."""
        return cls(**{**PUBLISHED, **kwargs})

    def encoder_config(self, name: Literal["backbone_config", "text_config"]) -> PreTrainedConfig:
        """The config of an encoder. Raises `ValueError` for the text encoder of a vision-only model."""
        config = getattr(self, name)
        if config is None:
            raise ValueError(f"A model with `use_text=False` has no `{name}`: build it with `use_text=True`.")
        return config

    def to_diff_dict(self) -> dict:
        """The fields that differ from their defaults, and always `id2label`; without names of local encoder folders."""
        # PreTrainedConfig omits its default of two labels; the default here is one.
        fields = {**super().to_diff_dict(), "id2label": self.id2label, "label2id": self.label2id}
        for encoder in ("backbone_config", "text_config"):
            if fields.get(encoder):
                fields[encoder].pop("_name_or_path", None)  # may be a local folder
        return fields

    def validate_architecture(self):
        """Checks the constraints between fields; part of the `@strict` validation on construction and on save."""
        if self.text_projection == "token_mixing" and len(self.text_token_lengths or ()) != 3:
            raise ValueError(
                f"`text_projection='token_mixing'` needs three `text_token_lengths`, got {self.text_token_lengths}: "
                "give e.g. [24, 12, 9], or use `text_projection='per_token'`."
            )
        if self.decoder_channels is not None and len(self.decoder_channels) != 4:
            raise ValueError(
                f"`decoder_channels` needs four widths (strides 32, 16, 8, 4), got {self.decoder_channels}."
            )
        if not self.id2label:
            raise ValueError("`num_labels` is 1 (lesion or not) or more, got 0.")
        class_names(self.id2label)
        self.check_ranges()
        limit = longest_text(self.text_config)
        if limit is not None and self.max_text_length > limit:
            raise ValueError(
                f"`max_text_length={self.max_text_length}` exceeds the {limit} positions of the text encoder: "
                f"lower it to at most {limit}."
            )

    def check_ranges(self) -> None:
        """Raises `ValueError` for the first number that is out of range, including weights of registered losses."""
        for name, example in (("text_dropout", "0.1"), ("prototype_momentum", "0.99")):
            check_share(name, getattr(self, name), example)
        check_number("text_scale_init", self.text_scale_init)
        for name, example in (("head_channels", "24"), ("cross_attention_heads", "4"), ("max_text_length", "64")):
            check_count(name, getattr(self, name), example)
        for name, example in (("decoder_channels", "96"), ("text_token_lengths", "24")):
            for value in getattr(self, name) or ():
                check_count(name, value, example)
        for name in [name for name in vars(self) if name.endswith("_loss_weight")]:
            check_not_negative(name, getattr(self, name))


def longest_text(text_config: dict | PreTrainedConfig | None) -> int | None:
    """The number of tokens that a text encoder has positions for; `None` if there is no limit."""
    positions = getattr(text_config, "max_position_embeddings", None)
    if not isinstance(text_config, PreTrainedConfig) or not positions or positions < 0:  # XLNet's is -1: no limit
        return None
    if text_config.model_type in POSITIONS_AFTER_PADDING:
        positions -= (text_config.pad_token_id or 0) + 1
    return positions


__all__ = ["PUBLISHED", "TeViAConfig", "longest_text"]
