"""Low-rank adapters (LoRA, Hu et al. 2021) in an encoder, through `peft`, which is needed here alone."""

from collections.abc import Collection
from typing import Any

from torch import nn
from transformers import PreTrainedModel

PEFT_HINT = "LoRA needs peft: pip install peft."


def add_lora(encoder: PreTrainedModel, adapter: dict | str, unused: Collection[str] = ()) -> dict:
    """Adds adapters to an encoder; they alone learn then. Returns the settings, layers included, to build them from.

    Args:
        adapter: fields of `peft.LoraConfig`, e.g. `{"r": 8, "lora_alpha": 16}`; without `target_modules` every linear
            layer gets an adapter, or every ungrouped convolution where there is no linear layer. Or the folder or hub
            name of a saved adapter.
        unused: names of weights that the features do not depend on; their layers get none.

    Raises `ImportError` with the command to type where peft is missing, `ValueError` for fields and layers that do not
    exist and for an adapter of another model; the encoder is then as before.
    """
    try:
        from peft import LoraConfig
    except ImportError as error:
        raise ImportError(PEFT_HINT) from error
    if isinstance(adapter, str):
        config = LoraConfig.from_pretrained(adapter)
    else:
        if "target_modules" not in adapter:
            adapter = {**adapter, "target_modules": adaptable_layers(encoder, unused)}
        check_fields(adapter, LoraConfig.__dataclass_fields__)
        config = LoraConfig(**adapter)
    check_kind(config)
    if adapted_layers(encoder):
        raise ValueError("`peft` has put adapters in already: call `merge_and_unload()` before adding others.")
    try:
        if isinstance(adapter, dict):
            encoder.add_adapter(config)
        else:
            check_loaded(encoder.load_adapter(adapter, is_trainable=True))
    except (ValueError, RuntimeError) as error:
        take_lora_away(encoder)
        raise ValueError(f"This adapter does not fit the `{encoder.config.model_type}`: {error}") from error
    for _, layer in adapted_layers(encoder):
        show_geometry(layer)
    for name, parameter in encoder.named_parameters():
        if is_lora(name):
            # As peft initialised it, B at zero: transformers would draw it anew with the weights around it.
            parameter._is_hf_initialized = True  # type: ignore[attr-defined]  # a mark of transformers'
    return dict(adapter) if isinstance(adapter, dict) else differing_fields(config, LoraConfig())


def check_loaded(report) -> None:
    """`ValueError` where weights of an adapter were left random, or found no place, which transformers only logs."""
    for found in (report.mismatched_keys, report.missing_keys, report.unexpected_keys):
        if found:
            raise ValueError(f"{len(found)} weights are of another model, e.g. {min(map(str, found))}.")


def check_fields(adapter: dict, known: Collection[str]) -> None:
    if unknown := sorted(set(adapter) - set(known)):
        raise ValueError(f"`peft.LoraConfig` has no {unknown}: usual are r, lora_alpha, lora_dropout, target_modules.")


def check_kind(config) -> None:
    """`ValueError` for what would not learn, or not come back from a file: all but plain low-rank adapters."""
    if config.peft_type != "LORA":
        raise ValueError(f"The adapter is of the kind {config.peft_type}, not LORA: give one of peft's LoRA.")
    beside = {"bias": "none", "modules_to_save": None, "trainable_token_indices": None}
    if asked := [name for name, usual in beside.items() if (getattr(config, name) or usual) != usual]:
        raise ValueError(f"Low-rank adapters learn alone here: leave {', '.join(asked)} out of the adapter.")


def differing_fields(config, default) -> dict:
    """The fields of a `peft.LoraConfig` that say how its adapter is built, where they differ from the default."""
    about_the_file = ("base_model_name_or_path", "auto_mapping", "inference_mode", "peft_version", "revision")
    values, usual = config.to_dict(), default.to_dict()
    named = {n: v for n, v in values.items() if n not in about_the_file and v != usual.get(n)}
    return {name: sorted(value) if isinstance(value, set) else value for name, value in named.items()}


def adaptable_layers(encoder: PreTrainedModel, unused: Collection[str]) -> list[str]:
    """Names of the layers to adapt; `ValueError` where there are none.

    Only of torch's own classes: others pad or change their weights on the way, which an adapter beside them would not.
    """
    layers = {name: module for name, module in encoder.named_modules() if f"{name}.weight" not in unused}
    linear = [name for name, module in layers.items() if type(module) is nn.Linear]
    convolutions = [name for name, module in layers.items() if type(module) is nn.Conv2d and module.groups == 1]
    if not linear and not convolutions:
        raise ValueError(
            f"`{encoder.config.model_type}` has no plain linear layer or convolution to adapt: name `target_modules`, "
            "or train the whole model with a small `backbone_learning_rate`."
        )
    return linear or convolutions


def show_geometry(layer: Any) -> None:
    """Gives an adapted convolution the attributes of the one inside, which MobileNets read to pad their pictures."""
    for name in ("kernel_size", "stride", "dilation"):
        if hasattr(layer.get_base_layer(), name):
            setattr(layer, name, getattr(layer.get_base_layer(), name))


def merge_lora(encoder: PreTrainedModel) -> None:
    """Adds the adapters' products to the weights and takes the adapters away: the same function without peft."""
    for _, layer in adapted_layers(encoder):
        layer.merge()
    take_lora_away(encoder)


def take_lora_away(encoder: PreTrainedModel) -> None:
    """The encoder without adapters, its own weights as they are and free to learn."""
    for name, layer in adapted_layers(encoder):
        parent, _, child = name.rpartition(".")
        setattr(encoder.get_submodule(parent), child, layer.get_base_layer())
    encoder._hf_peft_config_loaded = False
    encoder.__dict__.pop("peft_config", None)
    encoder.requires_grad_(True)


def adapted_layers(encoder: PreTrainedModel) -> list[tuple[str, Any]]:
    """The layers that peft has wrapped, by name."""
    return [(name, module) for name, module in encoder.named_modules() if hasattr(module, "get_base_layer")]


def is_lora(name: str) -> bool:
    """Whether a parameter of this name is an adapter's."""
    return ".lora_" in name


__all__ = ["add_lora", "is_lora", "merge_lora"]
