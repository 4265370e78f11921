"""What TeViA's models share: how they are saved and loaded, what of them learns, adapters, initial weights."""

from typing import Any, NoReturn

import torch
from torch import nn
from transformers import PreTrainedModel
from transformers import initialization as init
from transformers.utils import logging

from .alignment_tevia import TeViAPrototypeMemory
from .backbone_tevia import TeViABackbone, rest_frozen_norms
from .configuration_tevia import TeViAConfig
from .decoder_tevia import TeViATextCrossAttention
from .pipeline_tevia import CUSTOM_PIPELINES
from .text_encoder_tevia import TeViATextEncoder
from .text_projection_tevia import TeViATextProjection

logger = logging.get_logger(__name__)

AUTO_MAP = {
    "AutoConfig": "configuration_tevia.TeViAConfig",
    "AutoModel": "modeling_tevia.TeViAModel",
    "AutoModelForSemanticSegmentation": "modeling_tevia.TeViAForSegmentation",
}


FLOATS = (torch.float16, torch.bfloat16, torch.float32, torch.float64)


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
        """As in transformers; the config names the code saved beside it, for use without this package.

        Beside a subclass lies the code of its own module, which needs this package.
        """
        own_code = reference(type(self)) in AUTO_MAP.values()
        self.config.auto_map = dict(AUTO_MAP) if own_code else {}
        if own_code:
            self.config.custom_pipelines = CUSTOM_PIPELINES
        try:
            super().save_pretrained(*args, **kwargs)
        finally:
            # In memory `pipeline(config=...)` would take it for code to be trusted.
            vars(self.config).pop("custom_pipelines", None)

    @classmethod
    def from_pretrained(cls, *args, **kwargs):
        """As in transformers; `ValueError` for weights that are not finite."""
        loaded = super().from_pretrained(*args, **kwargs)
        model = loaded[0] if isinstance(loaded, tuple) else loaded
        check_weights(model)
        model.freeze()  # loading replaces the parameters, and with them their `requires_grad`
        return loaded

    def resolve_outputs(self, *asked):
        """Which attentions, hidden states and form of output are given: what the call says, else the config."""
        names = ("output_attentions", "output_hidden_states", "return_dict")
        return (
            getattr(self.config, name) if value is None else value for name, value in zip(names, asked, strict=True)
        )

    def activation_checkpointing_enable(self, *args, **kwargs) -> None:
        """Saves memory in training: the decoder's attentions and the layers of the vision model are computed twice."""
        super().activation_checkpointing_enable(*args, **kwargs)
        encoder = self.encoders[0].model
        if not encoder.supports_gradient_checkpointing:
            logger.warning(
                f"`{encoder.config.model_type}` has no activation checkpointing in transformers, so that only the "
                "decoder's attentions save memory; swin, pvt_v2, segformer and vit have it."
            )

    def get_input_embeddings(self) -> nn.Module:
        """Those of the text encoder; `NotImplementedError` without one."""
        encoder = self.encoders[1]
        return super().get_input_embeddings() if encoder is None else encoder.model.get_input_embeddings()

    def set_input_embeddings(self, value: nn.Module) -> None:
        encoder = self.encoders[1]
        return super().set_input_embeddings(value) if encoder is None else encoder.model.set_input_embeddings(value)

    @property
    def encoders(self) -> tuple[TeViABackbone, TeViATextEncoder | None]:
        """The vision model's module and the text encoder's, `None` in a vision-only model."""
        base: Any = self.base_model
        return base.backbone, base.text_encoder

    def freeze(self) -> None:
        """No gradients for the text encoder and for the parts of the backbone that no feature map depends on."""
        backbone, text_encoder = self.encoders
        backbone.set_trainable()
        if text_encoder is not None:
            text_encoder.model.requires_grad_(False)

    def train(self, mode: bool = True) -> "TeViAPreTrainedModel":
        """As in torch; batch norms whose weight is frozen keep their running statistics."""
        super().train(mode)
        rest_frozen_norms(self)
        return self

    def add_adapter(self, *args: Any, **kwargs: Any) -> NoReturn:
        """Refused: the whole model takes adapters by `peft.get_peft_model`."""
        raise ValueError(
            "Saved with this adapter there would be no prototypes: call `peft.get_peft_model(model, "
            "peft.LoraConfig(...))`, or train by a recipe with `lora: {r: 8}`."
        )

    def load_adapter(self, *args: Any, **kwargs: Any) -> NoReturn:
        """Refused: `peft.PeftModel.from_pretrained` loads what a `PeftModel` saved, prototypes included."""
        raise ValueError("This would load no prototypes: call `peft.PeftModel.from_pretrained(model, folder)`.")

    def freeze_backbone(self) -> None:
        """Fixes the vision model: no gradients, batch statistics and dropout as in evaluation."""
        self.encoders[0].freeze()

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
        else:
            super()._init_weights(module)


def non_finite(model: nn.Module, trainable_only: bool = False) -> list[str]:
    """Names of the parameters and buffers that hold NaN or infinity; of parameters only those that learn, if asked.

    Whole numbers, also those of quantised weights, and tensors without memory (`meta`) are passed over.
    """
    parameters = ((name, p) for name, p in model.named_parameters() if p.requires_grad or not trainable_only)
    named = [(n, x) for n, x in (*parameters, *model.named_buffers()) if x.dtype in FLOATS and not x.is_meta]
    if not named:
        return []
    device = named[0][1].device  # one answer for all, as each waits for a GPU
    are_finite = torch.stack([tensor.isfinite().all().to(device) for _, tensor in named])
    return [name for (name, _), is_finite in zip(named, are_finite.tolist(), strict=True) if not is_finite]


def check_weights(model: nn.Module) -> None:
    """Raises `ValueError` with the names of weights that are not finite."""
    if not (names := non_finite(model)):
        return
    cause = (
        "In float16 values over 65504 overflow: load in float32 or bfloat16."
        if model.dtype == torch.float16
        else "A training that diverged leaves such weights: take an earlier checkpoint, or train again with a lower "
        "learning rate."
    )
    raise ValueError(
        f"{len(names)} of the weights are not finite (NaN or infinity): {', '.join(names[:3])}"
        f"{' and others' if len(names) > 3 else ''}. {cause}"
    )


def reference(model_class: type) -> str:
    """How `auto_map` names a class: "modeling_tevia.TeViAModel"."""
    return f"{model_class.__module__.rpartition('.')[2]}.{model_class.__name__}"


__all__ = ["AUTO_MAP", "TeViAPreTrainedModel", "check_weights", "non_finite"]
