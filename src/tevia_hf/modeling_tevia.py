"""The TeViA network: two encoders, three guided decoder blocks, a head, and the losses between them."""

from collections.abc import Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import nn
from transformers import initialization as init

from .alignment_tevia import FOREGROUNDS, TeViAPrototypeMemory, alignment_loss, foreground_mask
from .backbone_tevia import TeViABackbone
from .configuration_tevia import TeViAConfig
from .decoder_tevia import (
    TeViAAuxiliaryHeads,
    TeViADecoderBlock,
    TeViAFusedHead,
    TeViALateral,
    TeViASegmentationHead,
    mean_token,
)
from .fusion_tevia import fused_for_inference
from .labels_tevia import IGNORE_INDEX
from .loss_tevia import check_labels, deep_supervision_loss, segmentation_loss
from .outputs_tevia import TeViAImageFeatures, TeViAModelOutput, TeViASegmentationOutput
from .pretrained_tevia import TeViAPreTrainedModel
from .text_encoder_tevia import TeViATextEncoder, load_text_config, text_model_class
from .text_projection_tevia import TEXT_PROJECTIONS
from .vision_layout_tevia import STRIDES, load_vision_config


def load_null_text_of_adapter(module: nn.Module, state_dict: dict[str, torch.Tensor], prefix: str, *_) -> None:
    """Loads the null text from the key under which an adapter of `tevia train` saves it, next to the prototypes."""
    if (adapter_key := f"{prefix}prototype_memory.null_text") in state_dict:
        state_dict[f"{prefix}null_text"] = state_dict[adapter_key]


class TeViATextParts(NamedTuple):
    """The modules of the text branch, which a vision-only model lacks."""

    encoder: TeViATextEncoder
    null_text: nn.Parameter
    prototype_memory: TeViAPrototypeMemory


class TeViAModel(TeViAPreTrainedModel):
    """Encoders, decoder and prototype memory, without a head."""

    def __init__(self, config: TeViAConfig):
        super().__init__(config)
        if config.use_text:
            text_config = config.encoder_config("text_config")
            text_model_class(text_config)  # raises for other models before their fields are read
        self.backbone = TeViABackbone(config.encoder_config("backbone_config"))
        channels = self.backbone.channels[::-1]
        widths = list(config.decoder_channels or channels)
        self.widths = widths
        self.text_projection = TEXT_PROJECTIONS[config.text_projection]
        self.foreground = FOREGROUNDS[config.foreground_representation]
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
            self.text_encoder = TeViATextEncoder(text_config)
            self.null_text = nn.Parameter(torch.zeros(text_config.hidden_size))
            self.prototype_memory = TeViAPrototypeMemory(widths[:3], config.prototype_momentum)
            self.register_load_state_dict_pre_hook(load_null_text_of_adapter)
        self.post_init()

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        super()._init_weights(module)
        if module is self and self.null_text is not None:
            init.normal_(self.null_text, std=0.02)

    @property
    def text_parts(self) -> TeViATextParts:
        """Text encoder, null text and prototype memory. Raises `ValueError` for a vision-only model."""
        if self.text_encoder is None or self.null_text is None or self.prototype_memory is None:
            raise ValueError("The model has `use_text=False` and takes no text: leave it out, or build one with text.")
        return TeViATextParts(self.text_encoder, self.null_text, self.prototype_memory)

    def check_channels(self) -> None:
        heads, guided = self.config.cross_attention_heads, self.widths[:3]
        if self.config.use_text and any(width % heads for width in guided):
            raise ValueError(
                f"The decoder's widths {guided} must be multiples of {heads} attention heads: set `decoder_channels`, "
                f"e.g. {[max(width // heads, 1) * heads for width in self.widths]}."
            )
        self.foreground.check_widths(guided)

    def encode_image(self, pixel_values: torch.Tensor) -> TeViAImageFeatures:
        """Features of images `(batch, 3, height, width)`, to pass to `forward` with any number of texts.

        Raises `ValueError` if a side is shorter than 32 pixels.
        """
        height, width = pixel_values.shape[-2:]
        if min(height, width) < STRIDES[-1]:
            raise ValueError(
                f"The image is {height}x{width}, smaller than the network's stride of {STRIDES[-1]}: "
                f"resize or pad it to at least {STRIDES[-1]} pixels a side."
            )
        maps = self.backbone(pad_to_stride(pixel_values).to(self.dtype))[::-1]
        maps = tuple(lateral(feature_map) for lateral, feature_map in zip(self.laterals, maps, strict=True))
        return TeViAImageFeatures(maps, (height, width))

    def encode_text(self, input_ids: torch.Tensor, attention_mask: torch.Tensor | None = None) -> torch.Tensor:
        """Features of the frozen text encoder, `(batch, tokens, dim)`, to pass to `forward` with any image.

        With `text_projection="token_mixing"` the tokens are padded to `max_text_length` first.
        """
        if input_ids.shape[1] > self.config.max_text_length:
            raise ValueError(
                f"The text has {input_ids.shape[1]} tokens, `max_text_length` is {self.config.max_text_length}: "
                "truncate it (the processor does), or build the model with a larger `max_text_length`."
            )
        if attention_mask is None:
            attention_mask = torch.ones_like(input_ids)
        return self.text_parts.encoder(*self.text_projection.pad(input_ids, attention_mask, self.config))

    def prepare_text(self, text_features, attention_mask, batch: int):
        """Replaces the features of samples without text, and of those hit by text dropout, by the null text.

        Returns `text_features (batch, tokens, dim)`, `padding (batch, tokens)` True where masked, `has_text (batch,)`.
        """
        if text_features is not None and text_features.shape[0] != batch:
            raise ValueError(f"{batch} images but {text_features.shape[0]} texts: give one text an image.")
        if text_features is None:
            tokens = self.text_projection.tokens_of_null_text(self.config)
            text_features = self.text_parts.null_text.expand(batch, tokens, -1)
            attention_mask = text_features.new_zeros(batch, tokens)
        elif attention_mask is None:
            attention_mask = text_features.new_ones(text_features.shape[:2])
        has_text = attention_mask.bool().any(1)  # (batch,)
        if self.training and self.config.text_dropout > 0:
            has_text = has_text & (torch.rand(batch, device=has_text.device) >= self.config.text_dropout)
        text_features = torch.where(
            has_text[:, None, None], text_features.to(self.dtype), self.text_parts.null_text.to(self.dtype)
        )
        return *self.text_projection.attended(text_features, attention_mask, has_text), has_text

    def forward(
        self,
        pixel_values: torch.Tensor | None = None,
        input_ids: torch.Tensor | None = None,
        attention_mask: torch.Tensor | None = None,
        text_features: torch.Tensor | None = None,
        output_attentions: bool | None = None,
        output_hidden_states: bool | list[int] | None = None,
        return_dict: bool | None = None,
        image_features: TeViAImageFeatures | None = None,
    ) -> TeViAModelOutput | tuple:
        """Guided features; takes the same inputs as `TeViAForSegmentation`."""
        output_attentions, output_hidden_states, return_dict = self.resolve_outputs(
            output_attentions, output_hidden_states, return_dict
        )
        # 1. Four feature maps of the image, coarse to fine, and the features of the text or of the null text.
        use_text = self.config.use_text
        if use_text and text_features is None and input_ids is not None:
            text_features = self.encode_text(input_ids, attention_mask)
        maps = self.image_maps(pixel_values, image_features, text_features)
        padding, has_text = None, None
        if use_text:
            text_features, padding, has_text = self.prepare_text(text_features, attention_mask, batch=maps[0].shape[0])

        # 2. Three guided blocks, coarse to fine.
        x, states, guided_features, texts, attentions = maps[0], [maps[0]], [], [], []
        for scale, block in enumerate(self.decoder):
            gate = self.text_parts.prototype_memory.gate(scale) if use_text else None
            x, guided, text, weights = block(x, maps[scale + 1], text_features, padding, gate, bool(output_attentions))
            states.append(x)
            guided_features.append(guided)
            texts.append(text)
            attentions.append(weights)

        # 3. One text embedding per scale: the mean of its tokens.
        output = TeViAModelOutput(
            x,
            tuple(guided_features),
            tuple(mean_token(text, padding) for text in texts) if use_text else None,
            has_text,
            hidden_states=select_states(states, output_hidden_states),
            attentions=tuple(attentions) if output_attentions and use_text else None,
        )
        return output if return_dict else output.to_tuple()

    def image_maps(self, pixel_values, image_features, text_features) -> tuple[torch.Tensor, ...]:
        """The feature maps of the images; those of a single encoded image are expanded to the number of texts."""
        if (pixel_values is None) == (image_features is None):
            raise ValueError("Give either `pixel_values` or the `image_features` that `encode_image` returned.")
        if image_features is None:
            return self.encode_image(pixel_values).maps
        if text_features is not None and image_features.maps[0].shape[0] == 1:
            return tuple(maps.expand(text_features.shape[0], -1, -1, -1) for maps in image_features.maps)
        return image_features.maps


class TeViAForSegmentation(TeViAPreTrainedModel):
    """A lesion mask from a medical image and one clinical text (Zeng et al., IEEE TMI 2025)."""

    def __init__(self, config: TeViAConfig):
        super().__init__(config)
        self.model = TeViAModel(config)
        self.decode_head = TeViASegmentationHead(config, self.model.widths[-1])
        self.auxiliary_heads: TeViAAuxiliaryHeads | None = None
        self.post_init()

    def add_auxiliary_heads(self) -> None:
        """Adds the heads of deep supervision. `build_trainer` calls this; with another Trainer, call it first.

        The heads are used in training only and not saved. Does nothing if the config's `auxiliary_loss_weight` is 0 or
        the model already has them.
        """
        if self.auxiliary_heads is None and self.config.auxiliary_loss_weight:
            heads = TeViAAuxiliaryHeads(self.model.widths[1:], self.config.num_labels or 1)
            self.auxiliary_heads = heads.to(self.device, self.dtype)
            names = [f"auxiliary_heads.{name}" for name, _ in heads.named_parameters()]
            self._keys_to_ignore_on_save = {*(self._keys_to_ignore_on_save or ()), *names}

    @classmethod
    def from_vision_text_pretrained(
        cls, vision: str, text: str | None = None, **config_kwargs
    ) -> "TeViAForSegmentation":
        """A model of two pre-trained encoders and a randomly initialised decoder.

        The encoders can be independently pre-trained.

        Args:
            vision: name or folder of any vision model with feature maps at strides 4 to 32 or a single one; of a dual
                encoder such as CLIP the vision encoder is loaded.
            text: name or folder of any text encoder (CXR-BERT included, without remote code) or dual encoder; `None`
                builds the vision-only network.
            config_kwargs: fields of `TeViAConfig`.
        """
        config_kwargs.setdefault("use_text", text is not None)
        text_config = load_text_config(text) if text is not None else None
        vision_config = load_vision_config(vision)
        for encoder_config in filter(None, (vision_config, text_config)):
            encoder_config.dtype = None  # one dtype for the whole model, not those the encoders were saved in
        model = cls(TeViAConfig(backbone_config=vision_config, text_config=text_config, **config_kwargs))
        model.model.backbone.load_pretrained(vision)
        if model.config.use_text:
            model.model.text_encoder.load_pretrained(text)
        return model

    def fuse_for_inference(self) -> "TeViAForSegmentation":
        """A copy that gives the same logits in less time; it can be neither trained nor saved.

        Batch norms are folded into the convolutions before them, and the head is one convolution. Other weights are
        those of this model, in the same memory: once it changes, discard the copy, which would be a mixture.
        `tevia predict` and `tevia evaluate` compute with it, and `Predictor(..., fuse=True)`.

        Raises `ValueError` if weights are offloaded, quantized or adapted, if a module has hooks, and if the copy's
        logits differ, as those of an unusual vision model may.
        """
        return fused_for_inference(self)

    @property
    def is_fused(self) -> bool:
        """Whether `fuse_for_inference` returned it."""
        return isinstance(self.decode_head, TeViAFusedHead)

    def train(self, mode: bool = True):
        """As in torch. Raises `ValueError` for a model that is fused."""
        if mode and self.is_fused:
            raise ValueError("This model is fused for inference: train the model that it was made of.")
        return super().train(mode)

    def save_pretrained(self, *args, **kwargs) -> None:
        """As `TeViAPreTrainedModel`. Raises `ValueError` for a model that is fused."""
        if self.is_fused:
            raise ValueError("This model is fused for inference: save the model that it was made of.")
        super().save_pretrained(*args, **kwargs)

    @property
    def prototype_memory(self) -> TeViAPrototypeMemory | None:
        return self.model.prototype_memory

    def encode_image(self, pixel_values: torch.Tensor) -> TeViAImageFeatures:
        return self.model.encode_image(pixel_values)

    def encode_text(self, input_ids: torch.Tensor, attention_mask: torch.Tensor | None = None) -> torch.Tensor:
        return self.model.encode_text(input_ids, attention_mask)

    encode_image.__doc__, encode_text.__doc__ = TeViAModel.encode_image.__doc__, TeViAModel.encode_text.__doc__

    def forward(
        self,
        pixel_values: torch.Tensor | None = None,
        input_ids: torch.Tensor | None = None,
        attention_mask: torch.Tensor | None = None,
        text_features: torch.Tensor | None = None,
        labels: torch.Tensor | None = None,
        output_attentions: bool | None = None,
        output_hidden_states: bool | list[int] | None = None,
        return_dict: bool | None = None,
        image_features: TeViAImageFeatures | None = None,
    ) -> TeViASegmentationOutput | tuple:
        """Mask logits, and the losses if `labels` are given.

        Args:
            pixel_values: `(batch, 3, height, width)`; any size and aspect ratio, at least 32 pixels a side.
            input_ids: `(batch, tokens)`; without it the learned null text is used.
            attention_mask: `(batch, tokens)`; a row of zeros is a sample without text.
            text_features: `(batch, tokens, dim)` as returned by `encode_text`, instead of `input_ids`; pass the
                `attention_mask` as well, otherwise padding is treated as text.
            labels: `(batch, height, width)` integers; 255 is ignored.
            output_attentions: whether to return `attentions`; defaults to the config, as the next two.
            output_hidden_states: whether to return `hidden_states`, or the indices to return, e.g. `[0, -1]`.
            return_dict: whether to return a `TeViASegmentationOutput` instead of a tuple.
            image_features: as returned by `encode_image`, instead of `pixel_values`; those of a single image can be
                combined with several texts.
        """
        output_attentions, output_hidden_states, return_dict = self.resolve_outputs(
            output_attentions, output_hidden_states, return_dict
        )
        # 1. Encoders and decoder, on an image padded to multiples of 32.
        outputs = self.model(
            pixel_values, input_ids, attention_mask, text_features, output_attentions, True, True, image_features
        )
        image_size = image_features.size if image_features is not None else pixel_values.shape[-2:]  # type: ignore[union-attr]  # one of the two is given
        height, width = image_size

        # 2. Logits, cropped to the image.
        with_features = labels is not None and self.model.foreground.needs_head_features
        logits, head_features = self.decode_head(outputs.last_hidden_state, with_features)
        logits = logits[..., :height, :width]

        # 3. Losses: of the mask, and of the distance between the text and the true foreground.
        losses = {} if labels is None else self.compute_losses(outputs, logits, head_features, labels)
        output = TeViASegmentationOutput(
            logits=logits,
            text_embeddings=outputs.text_embeddings,
            hidden_states=select_states(outputs.hidden_states, output_hidden_states),
            attentions=outputs.attentions,
            **losses,
        )
        return output if return_dict else output.to_tuple()

    def compute_losses(self, outputs, logits, head_features, labels) -> dict:
        """The losses and the embeddings of the true foreground, as fields of `TeViASegmentationOutput`."""
        check_labels(labels, logits)
        labels = labels.long()  # the collator's are uint8
        losses = {"segmentation_loss": segmentation_loss(logits, labels, self.config)}
        losses["loss"] = losses["segmentation_loss"]
        if self.training and self.auxiliary_heads is not None:
            masks = self.auxiliary_heads(outputs.hidden_states[1:])
            losses["auxiliary_loss"] = deep_supervision_loss(masks, pad_to_stride(labels, IGNORE_INDEX), self.config)
            losses["loss"] = losses["loss"] + self.config.auxiliary_loss_weight * losses["auxiliary_loss"]
        if not self.config.use_text:
            return losses
        foreground = pad_to_stride(foreground_mask(labels))  # (batch, 1, height, width)
        visual_embeddings = self.model.foreground.embed(outputs.guided_features, head_features, foreground)
        text_loss = alignment_loss(outputs.text_embeddings, visual_embeddings, outputs.has_text)
        losses["loss"] = losses["loss"] + self.config.alignment_loss_weight * text_loss
        return {**losses, "alignment_loss": text_loss, "visual_embeddings": visual_embeddings}


def select_states(
    states: Sequence[torch.Tensor], selection: bool | list[int]
) -> tuple[torch.Tensor | None, ...] | None:
    """All states, none of them, or those at the given indices with `None` elsewhere."""
    if isinstance(selection, bool):
        return tuple(states) if selection else None
    kept = [range(len(states))[index] for index in selection]
    return tuple(state if index in kept else None for index, state in enumerate(states))


def pad_to_stride(x: torch.Tensor, value: int = 0) -> torch.Tensor:
    """Pads right and bottom to the next multiple of 32 (after normalisation, zero is the mean grey)."""
    height, width = x.shape[-2:]
    return F.pad(x, (0, -width % STRIDES[-1], 0, -height % STRIDES[-1]), value=value)


__all__ = ["TeViAForSegmentation", "TeViAModel", "TeViAPreTrainedModel", "TeViASegmentationOutput"]
