"""The TeViA network: two encoders, three guided decoder blocks, a head, and the losses between them."""

from dataclasses import dataclass
from typing import Any, NoReturn

import torch
import torch.nn.functional as F
from torch import nn
from transformers import PreTrainedModel
from transformers import initialization as init
from transformers.utils import ModelOutput, can_return_tuple, logging

from .alignment_tevia import (
    HEAD_GRIDS,
    TeViAPrototypeMemory,
    alignment_loss,
    channel_representation,
    foreground_mask,
    head_grid_representation,
)
from .backbone_tevia import TeViABackbone, rest_frozen_norms
from .configuration_tevia import TeViAConfig
from .decoder_tevia import (
    TeViADecoderBlock,
    TeViALateral,
    TeViASegmentationHead,
    TeViATextCrossAttention,
    TeViATextProjection,
    mean_token,
)
from .loss_tevia import check_labels, segmentation_loss
from .pipeline_tevia import CUSTOM_PIPELINES
from .text_encoder_tevia import TeViATextEncoder, load_text_config, text_model_class
from .vision_layout_tevia import STRIDES, load_vision_config

logger = logging.get_logger(__name__)

AUTO_MAP = {
    "AutoConfig": "configuration_tevia.TeViAConfig",
    "AutoModel": "modeling_tevia.TeViAModel",
    "AutoModelForSemanticSegmentation": "modeling_tevia.TeViAForSegmentation",
}


@dataclass
class TeViAModelOutput(ModelOutput):
    """What the decoder hands to a head.

    Args:
        last_hidden_state: `(batch, channels, height / 4, width / 4)`.
        guided_features: a map `(batch, channels, height, width)` a scale, coarse first, after text guidance.
        text_embeddings: a vector `(batch, channels)` a scale, the mean of its tokens; `None` without a text branch.
        has_text: `(batch,)` bool, False where the null text stood in.
        cross_attentions: with `output_attentions`, `(batch, heads, height, width, tokens)` a scale, coarse first: how
            much each place of the image looked at each token.
    """

    last_hidden_state: torch.Tensor | None = None
    guided_features: tuple[torch.Tensor, ...] | None = None
    text_embeddings: tuple[torch.Tensor, ...] | None = None
    has_text: torch.Tensor | None = None
    cross_attentions: tuple[torch.Tensor, ...] | None = None


@dataclass
class TeViASegmentationOutput(ModelOutput):
    """Mask logits and, where `labels` were given, the losses and the vectors they compare.

    Args:
        loss: segmentation loss plus weighted alignment loss.
        segmentation_loss: soft Dice plus weighted cross-entropy.
        alignment_loss: mean of `1 - cosine` over scales and samples with text and foreground, before its weight.
        logits: `(batch, num_labels, height, width)` at the size of `pixel_values`.
        text_embeddings: a vector `(batch, channels)` a scale, coarse first.
        visual_embeddings: likewise, of the true foreground; a zero vector where a sample has none.
        cross_attentions: with `output_attentions`, `(batch, heads, height, width, tokens)` a scale, coarse first.
    """

    loss: torch.Tensor | None = None
    segmentation_loss: torch.Tensor | None = None
    alignment_loss: torch.Tensor | None = None
    logits: torch.Tensor | None = None
    text_embeddings: tuple[torch.Tensor, ...] | None = None
    visual_embeddings: tuple[torch.Tensor, ...] | None = None
    cross_attentions: tuple[torch.Tensor, ...] | None = None


class TeViAPreTrainedModel(PreTrainedModel):
    config: TeViAConfig
    base_model_prefix = "model"
    main_input_name = "pixel_values"
    input_modalities = ["image", "text"]
    supports_gradient_checkpointing = True
    accepts_loss_kwargs = False
    _supports_sdpa = True
    _no_split_modules = ["TeViADecoderBlock"]
    _keep_in_fp32_modules_strict = [f"prototype_memory.prototype_{scale}" for scale in range(3)]

    def save_pretrained(self, *args, **kwargs) -> None:
        """As in transformers; the config names the code saved beside it, for use without this package."""
        self.config.auto_map = dict(AUTO_MAP)
        self.config.custom_pipelines = CUSTOM_PIPELINES
        super().save_pretrained(*args, **kwargs)
        del self.config.custom_pipelines  # `pipeline(config=...)` would take it for code to be trusted

    @classmethod
    def from_pretrained(cls, *args, **kwargs):
        loaded = super().from_pretrained(*args, **kwargs)
        model = loaded[0] if isinstance(loaded, tuple) else loaded
        model.freeze()  # loading replaces the parameters, and with them their `requires_grad`
        return loaded

    def activation_checkpointing_enable(self, *args, **kwargs) -> None:
        """Saves memory in training: the decoder's attentions and the layers of the vision model are computed twice."""
        super().activation_checkpointing_enable(*args, **kwargs)
        encoder = self.base_model.backbone.model
        if not encoder.supports_gradient_checkpointing:
            logger.warning(
                f"`{encoder.config.model_type}` has no activation checkpointing in transformers, so that only the "
                "decoder's attentions save memory; swin, pvt_v2, segformer and vit have it."
            )

    def get_input_embeddings(self) -> nn.Module:
        """Those of the text encoder; `NotImplementedError` without one."""
        encoder = self.base_model.text_encoder
        return super().get_input_embeddings() if encoder is None else encoder.model.get_input_embeddings()

    def set_input_embeddings(self, value: nn.Module) -> None:
        self.base_model.text_encoder.model.set_input_embeddings(value)

    def freeze(self) -> None:
        """No gradients for the text encoder and for the parts of the backbone that no feature map depends on."""
        base = self.base_model
        base.backbone.set_trainable()
        if base.text_encoder is not None:
            base.text_encoder.set_trainable()

    def train(self, mode: bool = True) -> "TeViAPreTrainedModel":
        """As in torch; batch norms whose weight is frozen keep their running statistics."""
        super().train(mode)
        rest_frozen_norms(self)
        return self

    def add_adapter(self, *args: Any, **kwargs: Any) -> NoReturn:
        """Refused: the whole model takes adapters by `add_lora` or `peft.get_peft_model`."""
        raise ValueError(
            "Saved with this adapter there would be no prototypes: call `model.add_lora(vision={...}, text={...})`, or "
            "`peft.get_peft_model(model, peft.LoraConfig(...))`."
        )

    def load_adapter(self, *args: Any, **kwargs: Any) -> NoReturn:
        """Refused: `peft.PeftModel.from_pretrained` loads what a `PeftModel` saved, prototypes included."""
        raise ValueError(
            "This would load no prototypes: call `peft.PeftModel.from_pretrained(model, folder)` for what a PeftModel "
            "saved, or `model.add_lora(vision=folder, text=folder)` for the adapter of an encoder."
        )

    def freeze_backbone(self) -> None:
        """Fixes the vision model: no gradients, batch statistics and dropout as in evaluation."""
        self.base_model.backbone.freeze()

    def add_lora(self, vision: dict | str | None = None, text: dict | str | None = None) -> None:
        """Adds low-rank adapters to an encoder; of its weights they alone learn, also in the text encoder.

        They are part of the model from then on: its config names them, `save_pretrained` and `from_pretrained` keep
        them. `model.model.backbone.model.save_pretrained(folder)` saves an adapter alone, of the text encoder
        `model.model.text_encoder.model`.

        Args:
            vision, text: fields of `peft.LoraConfig`, e.g. `{"r": 8, "lora_alpha": 16}`; all linear layers are adapted
                unless `target_modules` says otherwise. Or the folder or hub name of a saved adapter.
        """
        halves = (
            ("backbone_lora", self.base_model.backbone, vision),
            ("text_lora", self.base_model.text_encoder, text),
        )
        wanted = [(half, encoder, adapter) for half, encoder, adapter in halves if adapter is not None]
        for half, encoder, _ in wanted:
            if encoder is None:
                raise ValueError("A model with `use_text=False` has no text encoder to adapt: leave `text` out.")
            if encoder.has_lora:
                raise ValueError(f"The model has adapters already, `{half}`: call `merge_lora()` before adding others.")
        for half, encoder, adapter in wanted:
            setattr(self.config, half, encoder.add_lora(adapter))

    def merge_lora(self) -> None:
        """Works the adapters into the weights: the same masks without peft."""
        for encoder in (self.base_model.backbone, self.base_model.text_encoder):
            if encoder is not None and encoder.has_lora:
                encoder.merge_lora()
        self.config.backbone_lora = self.config.text_lora = None

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        if isinstance(module, (nn.Linear, nn.Conv1d, nn.Conv2d, nn.ConvTranspose2d, nn.LayerNorm)):
            module.reset_parameters()
        elif isinstance(module, TeViATextProjection):
            init.zeros_(module.prompt)
        elif isinstance(module, TeViATextCrossAttention):
            init.constant_(module.scale, module.scale_init)
        elif isinstance(module, TeViAPrototypeMemory):
            module.reset()
        elif isinstance(module, TeViAModel) and module.null_text is not None:
            init.normal_(module.null_text, std=0.02)
        else:
            super()._init_weights(module)


class TeViAModel(TeViAPreTrainedModel):
    """Encoders, decoder and prototype memory, without a head."""

    def __init__(self, config: TeViAConfig):
        super().__init__(config)
        if config.use_text:
            text_model_class(config.text_config)  # refuses what is no text model before its fields are read
        self.backbone = TeViABackbone(config.backbone_config)
        channels = self.backbone.channels[::-1]
        widths = list(config.decoder_channels or channels)
        self.widths = widths
        self.check_channels()
        self.laterals = nn.ModuleList(
            TeViALateral(channel, width) if config.decoder_channels else nn.Identity()
            for channel, width in zip(channels, widths, strict=True)
        )
        self.decoder = nn.ModuleList(
            TeViADecoderBlock(config, scale, widths[scale], widths[scale + 1]) for scale in range(3)
        )
        self.text_encoder, self.null_text, self.prototype_memory = None, None, None
        if config.use_text:
            self.text_encoder = TeViATextEncoder(config.text_config)
            self.null_text = nn.Parameter(torch.zeros(config.text_config.hidden_size))
            self.prototype_memory = TeViAPrototypeMemory(widths[:3], config.prototype_momentum)
        if config.backbone_lora is not None:
            config.backbone_lora = self.backbone.add_lora(config.backbone_lora)
        if config.text_lora is not None and config.use_text:
            config.text_lora = self.text_encoder.add_lora(config.text_lora)
        self.post_init()

    def check_channels(self) -> None:
        heads, guided = self.config.cross_attention_heads, self.widths[:3]
        if self.config.use_text and any(width % heads for width in guided):
            raise ValueError(
                f"The decoder's widths {guided} must be multiples of {heads} attention heads: set `decoder_channels`, "
                f"e.g. {[max(width // heads, 1) * heads for width in self.widths]}."
            )
        expected = [side * side * channels for side, channels in HEAD_GRIDS]
        if self.config.foreground_representation == "head_grid" and guided != expected:
            raise ValueError(
                f"`foreground_representation='head_grid'` is defined for decoder widths {expected}, not {guided}: "
                "use 'channel'."
            )

    def encode_text(self, input_ids: torch.Tensor, attention_mask: torch.Tensor | None = None) -> torch.Tensor:
        """Features of the frozen text encoder, `(batch, tokens, dim)`; computed once a sentence, handed to `forward`.

        With `text_projection="token_mixing"` the tokens are padded to `max_text_length` first.
        """
        if input_ids.shape[1] > self.config.max_text_length:
            raise ValueError(
                f"The text has {input_ids.shape[1]} tokens, `max_text_length` is {self.config.max_text_length}: "
                "truncate it (the processor does), or build the model with a larger `max_text_length`."
            )
        if attention_mask is None:
            attention_mask = torch.ones_like(input_ids)
        if self.config.text_projection == "token_mixing":
            missing = self.config.max_text_length - input_ids.shape[1]
            input_ids = F.pad(input_ids, (0, missing), value=self.config.text_config.pad_token_id or 0)
            attention_mask = F.pad(attention_mask, (0, missing))
        return self.text_encoder(input_ids, attention_mask)

    def prepare_text(self, text_features, attention_mask, batch: int):
        """Puts the null text where a sample has no text or text dropout takes it.

        Returns `text_features (batch, tokens, dim)`, `padding (batch, tokens)` True where masked, `has_text (batch,)`.
        """
        mixing = self.config.text_projection == "token_mixing"
        if text_features is not None and text_features.shape[0] != batch:
            raise ValueError(f"{batch} images but {text_features.shape[0]} texts: give one text an image.")
        if text_features is None:
            tokens = self.config.max_text_length if mixing else 1
            text_features = self.null_text.expand(batch, tokens, -1)
            attention_mask = text_features.new_zeros(batch, tokens)
        elif attention_mask is None:
            attention_mask = text_features.new_ones(text_features.shape[:2])
        has_text = attention_mask.bool().any(1)  # (batch,)
        if self.training and self.config.text_dropout > 0:
            has_text = has_text & (torch.rand(batch, device=has_text.device) >= self.config.text_dropout)
        text_features = torch.where(
            has_text[:, None, None], text_features.to(self.dtype), self.null_text.to(self.dtype)
        )
        if mixing:
            return text_features, None, has_text
        first = torch.arange(attention_mask.shape[1], device=has_text.device) == 0
        padding = ~torch.where(has_text[:, None], attention_mask.bool(), first)
        return text_features, padding, has_text

    @can_return_tuple
    def forward(
        self,
        pixel_values: torch.Tensor,
        input_ids: torch.Tensor | None = None,
        attention_mask: torch.Tensor | None = None,
        text_features: torch.Tensor | None = None,
        output_attentions: bool | None = None,
    ) -> TeViAModelOutput | tuple:
        """`pixel_values (batch, 3, height, width)`, its sides multiples of 32; text as in `TeViAForSegmentation`."""
        # 1. Four maps of the image, coarse to fine.
        maps = self.backbone(pixel_values.to(self.dtype))[::-1]
        maps = [lateral(m) for lateral, m in zip(self.laterals, maps, strict=True)]

        # 2. The sentence, or the null text in its place.
        padding = has_text = None
        if self.config.use_text:
            if text_features is None and input_ids is not None:
                text_features = self.encode_text(input_ids, attention_mask)
            text_features, padding, has_text = self.prepare_text(text_features, attention_mask, pixel_values.shape[0])
        else:
            text_features = None

        # 3. Three guided blocks, coarse to fine.
        x, guided_features, texts, attentions = maps[0], [], [], []
        for scale, block in enumerate(self.decoder):
            gate = self.prototype_memory.gate(scale) if self.config.use_text else None
            x, guided, text, weights = block(x, maps[scale + 1], text_features, padding, gate, bool(output_attentions))
            guided_features.append(guided)
            texts.append(text)
            attentions.append(weights)

        # 4. One text vector a scale: the mean of its tokens.
        text_embeddings = None
        if self.config.use_text:
            text_embeddings = tuple(mean_token(text, padding) for text in texts)
        shown = tuple(attentions) if output_attentions and self.config.use_text else None
        return TeViAModelOutput(x, tuple(guided_features), text_embeddings, has_text, shown)


class TeViAForSegmentation(TeViAPreTrainedModel):
    """A lesion mask from a medical image and one clinical sentence (Zeng et al., IEEE TMI 2025)."""

    def __init__(self, config: TeViAConfig):
        super().__init__(config)
        self.model = TeViAModel(config)
        self.decode_head = TeViASegmentationHead(config, self.model.widths[-1])
        self.post_init()

    @classmethod
    def from_vision_text_pretrained(
        cls, vision: str, text: str | None = None, **config_kwargs
    ) -> "TeViAForSegmentation":
        """A model of two pre-trained encoders and a fresh decoder; the encoders need not know each other.

        Args:
            vision: name or folder of any vision model with maps at strides 4 to 32 or a single one; of a pair such as
                CLIP its vision half is taken.
            text: name or folder of any text encoder (CXR-BERT included, without remote code), or of a pair; `None`
                builds the vision-only network.
            config_kwargs: fields of `TeViAConfig`.
        """
        config_kwargs.setdefault("use_text", text is not None)
        # Added last: adapters go on the encoders' own weights.
        adapters = {half: config_kwargs.pop(f"{half}_lora", None) for half in ("backbone", "text")}
        text_config = load_text_config(text) if text is not None else None
        vision_config = load_vision_config(vision)
        for half_config in filter(None, (vision_config, text_config)):
            half_config.dtype = None  # not the type the encoder was saved in: one type for the whole model
        model = cls(TeViAConfig(backbone_config=vision_config, text_config=text_config, **config_kwargs))
        model.model.backbone.load_pretrained(vision)
        if model.config.use_text:
            model.model.text_encoder.load_pretrained(text)
        model.add_lora(vision=adapters["backbone"], text=adapters["text"])
        return model

    @property
    def prototype_memory(self) -> TeViAPrototypeMemory | None:
        return self.model.prototype_memory

    def encode_text(self, input_ids: torch.Tensor, attention_mask: torch.Tensor | None = None) -> torch.Tensor:
        return self.model.encode_text(input_ids, attention_mask)

    encode_text.__doc__ = TeViAModel.encode_text.__doc__

    @can_return_tuple
    def forward(
        self,
        pixel_values: torch.Tensor,
        input_ids: torch.Tensor | None = None,
        attention_mask: torch.Tensor | None = None,
        text_features: torch.Tensor | None = None,
        labels: torch.Tensor | None = None,
        output_attentions: bool | None = None,
    ) -> TeViASegmentationOutput | tuple:
        """Mask logits, and the losses where `labels` are given.

        Args:
            pixel_values: `(batch, 3, height, width)`; any size and aspect of at least 32 pixels a side.
            input_ids: `(batch, tokens)`; left out, the learned null text stands in.
            attention_mask: `(batch, tokens)`; a row without a single 1 is a sample without text.
            text_features: `(batch, tokens, dim)`, what `encode_text` gave, instead of `input_ids`; hand over the
                `attention_mask` with it, or padding counts as text.
            labels: `(batch, height, width)` integers; 255 is ignored.
            output_attentions: also return `cross_attentions`.
        """
        # 1. Encoders and decoder, on sides padded to multiples of 32.
        height, width = self.check_image(pixel_values)
        pixel_values = pad_to_stride(pixel_values)
        outputs = self.model(
            pixel_values, input_ids, attention_mask, text_features, output_attentions, return_dict=True
        )

        # 2. Logits, cut back to the image.
        logits, head_features = self.decode_head(outputs.last_hidden_state)
        logits = logits[..., :height, :width]

        # 3. Losses: the mask's, and the distance between the text and the true foreground.
        loss = mask_loss = text_loss = visual_embeddings = None
        if labels is not None:
            check_labels(labels, logits)
            loss = mask_loss = segmentation_loss(logits, labels, self.config.cross_entropy_loss_weight)
        if labels is not None and self.config.use_text:
            visual_embeddings = self.embed_foreground(outputs.guided_features, head_features, labels)
            text_loss = alignment_loss(outputs.text_embeddings, visual_embeddings, outputs.has_text)
            loss = loss + self.config.alignment_loss_weight * text_loss
        return TeViASegmentationOutput(
            loss, mask_loss, text_loss, logits, outputs.text_embeddings, visual_embeddings, outputs.cross_attentions
        )

    def embed_foreground(self, guided_features, head_features, labels) -> tuple[torch.Tensor, ...]:
        """Vectors of the true foreground, `(batch, channels)` a scale; zero where a sample has none."""
        foreground = pad_to_stride(foreground_mask(labels))  # (batch, 1, height, width)
        if self.config.foreground_representation == "head_grid":
            return tuple(head_grid_representation(head_features, foreground, *grid) for grid in HEAD_GRIDS)
        return tuple(channel_representation(features, foreground) for features in guided_features)

    def check_image(self, pixel_values: torch.Tensor) -> tuple[int, int]:
        """The image's height and width; `ValueError` where it is too small."""
        height, width = pixel_values.shape[-2:]
        if min(height, width) < STRIDES[-1]:
            raise ValueError(
                f"The image is {height}x{width}, smaller than the network's stride of {STRIDES[-1]}: "
                f"resize or pad it to at least {STRIDES[-1]} pixels a side."
            )
        return height, width


def pad_to_stride(x: torch.Tensor) -> torch.Tensor:
    """Zeros on the right and below, up to the next multiple of 32 (after normalisation zero is the mean grey)."""
    height, width = x.shape[-2:]
    return F.pad(x, (0, -width % STRIDES[-1], 0, -height % STRIDES[-1]))


__all__ = ["TeViAForSegmentation", "TeViAModel", "TeViAPreTrainedModel", "TeViASegmentationOutput"]
