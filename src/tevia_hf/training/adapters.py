"""Low-rank adapters (LoRA, Hu et al. 2021) by `peft`, and what training has to know of models that it wrapped."""

import re
from typing import Any

import torch
from torch import nn

from ..auto import TeViAForSegmentation
from ..extras import needed_for

MEMORY = "prototype_memory"


def unwrapped(model: Any) -> Any:
    """The TeViA model inside a `peft.PeftModel`, or the model itself."""
    return model.get_base_model() if hasattr(model, "get_base_model") else model


def save_prototypes_with_adapter(model: Any) -> None:
    """Makes a `peft.PeftModel` save the prototypes with its adapter, as if its `modules_to_save` had named them.

    Without it `save_pretrained` would write the adapter alone. A vector for no text that learns is saved beside them.
    Other models are left as they are.
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
        wrapper.null_text = base.model.null_text  # of which `TeViAModel` knows, when loaded, where it belongs
    wrapper.set_adapter(adapter)
    config = model.peft_config[adapter]
    config.modules_to_save = [*(config.modules_to_save or ()), MEMORY]


def with_lora(model: TeViAForSegmentation, settings: dict) -> Any:
    """The model as a `peft.PeftModel`: adapters alone learn of its encoders, and all else learns as before.

    What learns is saved with the adapters. By `merge_and_unload()` they become part of the weights: a model as without
    peft, which computes the same.

    Args:
        settings: fields of `peft.LoraConfig`, e.g. `{"r": 8, "exclude_modules": ".*text_encoder.*"}`. Without
            `target_modules` every linear layer of an encoder that its features depend on gets an adapter, or every
            ungrouped convolution where there is no linear layer. `modules_to_save` learn beside what learns anyway.

    Raises `ImportError` with the command to type where peft is missing, `ValueError` for fields and layers that do not
    exist.
    """
    with needed_for("LoRA"):
        from peft import LoraConfig, get_peft_model
    if unknown := sorted(set(settings) - set(LoraConfig.__dataclass_fields__)):
        raise ValueError(f"`peft.LoraConfig` has no {unknown}: usual are r, lora_alpha, lora_dropout, target_modules.")
    saved = [name for name in settings.get("modules_to_save") or () if not name.endswith(MEMORY)]
    fields = {**settings, "modules_to_save": [*dict.fromkeys([*learning_parts(model), *saved])]}
    if not settings.get("target_modules"):
        fields["target_modules"] = adaptable_layers(model, settings.get("exclude_modules"))
    adapted: Any = get_peft_model(model, LoraConfig(**fields))
    if model.model.null_text is not None:
        model.model.null_text.requires_grad_(True)
    save_prototypes_with_adapter(adapted)
    for layer in filter(lambda part: hasattr(part, "get_base_layer"), adapted.modules()):
        base = vars(layer.get_base_layer())  # MobileNets read these off a convolution to pad their images
        vars(layer).update({name: base[name] for name in ("kernel_size", "stride", "dilation") if name in base})
    return adapted


def adaptable_layers(model: TeViAForSegmentation, excluded: str | list[str] | None = None) -> list[str]:
    """Names of the layers of both encoders to adapt; `ValueError` where one has none, unless it is excluded as a whole.

    Only of torch's own classes: others pad or change their weights on the way, which an adapter beside them would not.
    """
    if not isinstance(excluded, str):  # as peft reads a list
        excluded = rf"(.*\.)?({'|'.join(map(re.escape, excluded or ()))})"
    names = []
    for prefix, face in zip(("model.backbone.model.", "model.text_encoder.model."), model.encoders, strict=True):
        if face is None:
            continue
        unused = face.layout.unused if face is model.model.backbone else unused_weights(face.model)
        layers = {
            name: part
            for name, part in face.model.named_modules()
            if f"{name}.weight" not in unused and not re.fullmatch(excluded, prefix + name)
        }
        linear = [name for name, part in layers.items() if type(part) is nn.Linear]
        convolutions = [name for name, part in layers.items() if type(part) is nn.Conv2d and part.groups == 1]
        if layers and not linear and not convolutions:
            raise ValueError(
                f"`{face.model.config.model_type}` has no plain linear layer or convolution to adapt: name "
                "`target_modules`, or train the whole model with a small `backbone_learning_rate`."
            )
        names += [prefix + name for name in linear or convolutions]
    return names


def unused_weights(text_model: Any) -> set[str]:
    """Names of weights that a text model's features do not depend on, such as those of SigLIP's pooling head."""
    names, parameters = zip(*text_model.named_parameters(), strict=True)
    text_model.requires_grad_(True)
    with torch.enable_grad():
        features = text_model(input_ids=torch.ones(1, 2, dtype=torch.long, device=text_model.device)).last_hidden_state
        gradients = torch.autograd.grad(features.sum(), parameters, allow_unused=True)
    text_model.requires_grad_(False)
    return {name for name, gradient in zip(names, gradients, strict=True) if gradient is None}


def learning_parts(model: TeViAForSegmentation) -> list[str]:
    """Names of the modules outside the encoders that learn, in parts that peft can wrap."""
    inner = model.model
    lists = {"decoder": inner.decoder, "laterals": inner.laterals, "backbone.pyramid": inner.backbone.pyramid or ()}
    parts = [(f"model.{name}.{index}", part) for name, blocks in lists.items() for index, part in enumerate(blocks)]
    return [*(name for name, part in parts if [*part.parameters()]), "decode_head"]
