"""Low-rank adapters (LoRA, Hu et al. 2021) by `peft`, and helpers for models that `peft` wrapped."""

import re
from typing import Any

import torch
from accelerate.utils import is_compiled_module
from torch import nn

from ..auto import TeViAForSegmentation
from ..extras import needed_for

MEMORY = "prototype_memory"


def unwrapped(model: Any) -> Any:
    """The TeViA model inside a `peft.PeftModel`, or the model itself."""
    return model.get_base_model() if hasattr(model, "get_base_model") else model


def check_not_wrapped(model: Any) -> None:
    """Raises `ValueError` for a model that `torch.compile` returned.

    The Trainer saves its weights under other names (`_orig_mod...`), so that a loaded checkpoint has random weights and
    no prototypes, and validates without labels.
    """
    if is_compiled_module(model):
        raise ValueError(
            "The Trainer cannot save what `torch.compile(model)` returns: its prototypes and weights would be lost. "
            "Give it the model itself, and compile by `torch_compile=True` in the training arguments (with "
            "`torch_compile_backend` and `torch_compile_mode`), or in place by `model.compile(fullgraph=True)`."
        )


def save_prototypes_with_adapter(model: Any) -> None:
    """Makes a `peft.PeftModel` save the prototypes with its adapter, like modules named in `modules_to_save`.

    Otherwise `save_pretrained` writes the adapter alone. A trainable null text vector is saved too. Other models are
    unchanged.
    """
    base = unwrapped(model)
    if base is model or base.prototype_memory is None:
        return
    from peft.utils import ModulesToSaveWrapper

    wrappers = [module for module in base.modules() if isinstance(module, ModulesToSaveWrapper)]
    if any(part is base.prototype_memory for wrapper in wrappers for part in wrapper.modules()):
        return

    class MemoryWrapper(ModulesToSaveWrapper):
        def adapter_state_dict(self, adapter_name, state_dict):  # type: ignore[override]  # as its parent does
            own = {name: state_dict[name] for name, _ in self.named_parameters(recurse=False)}
            return super().adapter_state_dict(adapter_name, state_dict) | own

    adapter = model.active_adapters[0]
    base.model.prototype_memory = wrapper = MemoryWrapper(base.prototype_memory, adapter)
    if base.model.null_text.requires_grad:
        wrapper.null_text = base.model.null_text  # `TeViAModel` maps it back when it is loaded
    wrapper.set_adapter(adapter)
    config = model.peft_config[adapter]
    config.modules_to_save = [*(config.modules_to_save or ()), MEMORY]


def with_lora(model: TeViAForSegmentation, settings: dict) -> Any:
    """The model as a `peft.PeftModel`: only adapters are trained in its encoders; other parts are trained as usual.

    All trained parts are saved with the adapters. `merge_and_unload()` merges them into the weights and returns an
    equivalent model that does not need peft.

    Args:
        settings: fields of `peft.LoraConfig`, e.g. `{"r": 8, "exclude_modules": ".*text_encoder.*"}`. Without
            `target_modules`, every linear layer that the features of an encoder depend on gets an adapter, or every
            ungrouped convolution if it has no linear layer. `modules_to_save` are trained in addition.

    Raises `ImportError` with the install command if peft is missing, and `ValueError` for fields and layers that do not
    exist.
    """
    with needed_for("LoRA"):
        from peft import LoraConfig, get_peft_model
    if unknown := sorted(set(settings) - set(LoraConfig.__dataclass_fields__)):
        raise ValueError(f"`peft.LoraConfig` has no {unknown}: usual are r, lora_alpha, lora_dropout, target_modules.")
    saved = [name for name in settings.get("modules_to_save") or () if not name.endswith(MEMORY)]
    fields = {**settings, "modules_to_save": [*dict.fromkeys([*trainable_parts(model), *saved])]}
    if not settings.get("target_modules"):
        fields["target_modules"] = adaptable_layers(model, settings.get("exclude_modules"))
    adapted: Any = get_peft_model(model, LoraConfig(**fields))
    if model.model.null_text is not None:
        model.model.null_text.requires_grad_(True)
    save_prototypes_with_adapter(adapted)
    for layer in filter(lambda part: hasattr(part, "get_base_layer"), adapted.modules()):
        base = vars(layer.get_base_layer())  # MobileNets read these attributes of a convolution to pad their images
        vars(layer).update({name: base[name] for name in ("kernel_size", "stride", "dilation") if name in base})
    return adapted


def adaptable_layers(model: TeViAForSegmentation, excluded: str | list[str] | None = None) -> list[str]:
    """Names of the layers of both encoders to adapt. Raises `ValueError` if an encoder has none and is not excluded.

    Only layers of torch's own classes: other classes pad or transform their weights, which an adapter would not follow.
    """
    if not isinstance(excluded, str):  # as peft interprets a list
        excluded = rf"(.*\.)?({'|'.join(map(re.escape, excluded or ()))})"
    names = []
    for prefix, encoder in zip(("model.backbone.model.", "model.text_encoder.model."), model.encoders, strict=True):
        if encoder is None:
            continue
        unused = encoder.layout.unused if encoder is model.model.backbone else unused_weights(encoder.model)
        layers = {
            name: part
            for name, part in encoder.model.named_modules()
            if f"{name}.weight" not in unused and not re.fullmatch(excluded, prefix + name)
        }
        linear = [name for name, part in layers.items() if type(part) is nn.Linear]
        convolutions = [name for name, part in layers.items() if type(part) is nn.Conv2d and part.groups == 1]
        if layers and not linear and not convolutions:
            raise ValueError(
                f"`{encoder.model.config.model_type}` has no plain linear layer or convolution for LoRA: name modules "
                "in the recipe (`lora: {target_modules: [...]}`), or leave `lora` out and train the whole model with a "
                "small `backbone_learning_rate`."
            )
        names += [prefix + name for name in linear or convolutions]
    return names


def unused_weights(text_model: Any) -> set[str]:
    """Names of weights that do not affect a text model's features, such as those of SigLIP's pooling head."""
    names, parameters = zip(*text_model.named_parameters(), strict=True)
    text_model.requires_grad_(True)
    with torch.enable_grad():
        features = text_model(input_ids=torch.ones(1, 2, dtype=torch.long, device=text_model.device)).last_hidden_state
        gradients = torch.autograd.grad(features.sum(), parameters, allow_unused=True)
    text_model.requires_grad_(False)
    return {name for name, gradient in zip(names, gradients, strict=True) if gradient is None}


def trainable_parts(model: TeViAForSegmentation) -> list[str]:
    """Names of the trainable modules outside the encoders, in parts that peft can wrap."""
    inner = model.model
    lists = {"decoder": inner.decoder, "laterals": inner.laterals, "backbone.pyramid": inner.backbone.pyramid or ()}
    parts = [(f"model.{name}.{index}", part) for name, blocks in lists.items() for index, part in enumerate(blocks)]
    return [*(name for name, part in parts if [*part.parameters()]), "decode_head"]
