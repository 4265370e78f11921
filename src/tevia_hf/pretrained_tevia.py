"""What all TeViA models share: saving and loading, trainable parameters, adapters, weight initialisation."""

from typing import Any, NoReturn

import torch
from torch import nn
from transformers import PreTrainedModel
from transformers import initialization as init
from transformers.utils import logging

from .alignment_tevia import TeViAPrototypeMemory
from .backbone_tevia import TeViABackbone, freeze_norm_statistics
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
        """As in transformers, with the model's code, so that the folder loads without this package.

        The saved code of a subclass is that of its own module, which requires this package.
        """
        own_code = reference(type(self)) in AUTO_MAP.values()
        self.config.auto_map = dict(AUTO_MAP) if own_code else {}
        if own_code:
            self.config.custom_pipelines = CUSTOM_PIPELINES
        try:
            super().save_pretrained(*args, **kwargs)
        finally:
            # `pipeline(config=...)` would treat a config in memory with this field as remote code.
            vars(self.config).pop("custom_pipelines", None)

    @classmethod
    def from_pretrained(cls, *args, **kwargs):
        """As in transformers. Raises `ValueError` if weights are not finite."""
        loaded = super().from_pretrained(*args, **kwargs)
        model = loaded[0] if isinstance(loaded, tuple) else loaded
        check_weights(model)
        model.freeze()  # loading replaces the parameters, and with them their `requires_grad`
        return loaded

    def resolve_outputs(self, *values):
        """`output_attentions, output_hidden_states, return_dict` of a call; those that are `None` from the config."""
        names = ("output_attentions", "output_hidden_states", "return_dict")
        return (
            getattr(self.config, name) if value is None else value for name, value in zip(names, values, strict=True)
        )

    def activation_checkpointing_enable(self, *args, **kwargs) -> None:
        """Saves memory in training by recomputing the decoder's attentions and the layers of the vision encoder."""
        super().activation_checkpointing_enable(*args, **kwargs)
        encoder = self.encoders[0].model
        if not encoder.supports_gradient_checkpointing:
            logger.warning(
                f"`{encoder.config.model_type}` has no activation checkpointing in transformers: only the decoder's "
                "attentions save memory. swin, pvt_v2, segformer and vit support it."
            )

    def get_input_embeddings(self) -> nn.Module:
        """The embeddings of the text encoder. Raises `NotImplementedError` if there is none."""
        encoder = self.encoders[1]
        return super().get_input_embeddings() if encoder is None else encoder.model.get_input_embeddings()

    def set_input_embeddings(self, value: nn.Module) -> None:
        encoder = self.encoders[1]
        return super().set_input_embeddings(value) if encoder is None else encoder.model.set_input_embeddings(value)

    @property
    def encoders(self) -> tuple[TeViABackbone, TeViATextEncoder | None]:
        """The vision encoder and the text encoder, `None` in a vision-only model."""
        base: Any = self.base_model
        return base.backbone, base.text_encoder

    def freeze(self) -> None:
        """Freezes the text encoder and the parameters of the backbone that no feature map depends on."""
        backbone, text_encoder = self.encoders
        backbone.set_trainable()
        if text_encoder is not None:
            text_encoder.model.requires_grad_(False)

    def train(self, mode: bool = True) -> "TeViAPreTrainedModel":
        """As in torch, but batch norms with a frozen weight keep their running statistics."""
        super().train(mode)
        freeze_norm_statistics(self)
        return self

    def add_adapter(self, *args: Any, **kwargs: Any) -> NoReturn:
        """Raises `ValueError`; adapters are added by `peft.get_peft_model`."""
        raise ValueError(
            "An adapter added like this is saved without the prototypes: call `peft.get_peft_model(model, "
            "peft.LoraConfig(...))`, or train with a recipe that sets `lora: {r: 8}`."
        )

    def load_adapter(self, *args: Any, **kwargs: Any) -> NoReturn:
        """Raises `ValueError`; `peft.PeftModel.from_pretrained` loads adapters with their prototypes."""
        raise ValueError("This would load no prototypes: call `peft.PeftModel.from_pretrained(model, folder)`.")

    def freeze_backbone(self) -> None:
        """Freezes the vision encoder: no gradients, batch norm and dropout in evaluation mode."""
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
    """Names of the parameters and buffers that hold NaN or infinity.

    Integer tensors, such as quantised weights, and tensors on the meta device are skipped.

    Args:
        trainable_only: leave out frozen parameters.
    """
    parameters = ((name, p) for name, p in model.named_parameters() if p.requires_grad or not trainable_only)
    named = [
        (n, x) for n, x in (*parameters, *model.named_buffers()) if x.dtype in FLOATS and not x.is_meta and x.numel()
    ]
    if not named:
        return []
    device = named[0][1].device  # one transfer for all, as each waits for the GPU
    # `isfinite` of the tensors themselves would take memory of twice their size; both extremes pass NaN on.
    are_finite = torch.stack([torch.stack(x.detach().aminmax()).isfinite().all().to(device) for _, x in named])
    return [name for (name, _), is_finite in zip(named, are_finite.tolist(), strict=True) if not is_finite]


def check_weights(model: nn.Module) -> None:
    """Raises `ValueError` if weights are not finite, with their names."""
    if not (names := non_finite(model)):
        return
    cause = (
        "In float16 values over 65504 overflow: load in float32 or bfloat16."
        if model.dtype == torch.float16
        else "A training that diverged leaves such weights: use an earlier checkpoint, or train again with a lower "
        "learning rate."
    )
    raise ValueError(
        f"{len(names)} of the weights are not finite (NaN or infinity): {', '.join(names[:3])}"
        f"{' and others' if len(names) > 3 else ''}. {cause}"
    )


def reference(model_class: type) -> str:
    """The name of a class in `auto_map`, e.g. "modeling_tevia.TeViAModel"."""
    return f"{model_class.__module__.rpartition('.')[2]}.{model_class.__name__}"


__all__ = ["AUTO_MAP", "TeViAPreTrainedModel", "check_weights", "non_finite"]
