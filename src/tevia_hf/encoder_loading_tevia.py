"""Classes, configs and weights of encoders, for the vision model and the text encoder alike."""

import difflib
import inspect
from collections.abc import Collection, Iterable, Sequence
from operator import attrgetter
from typing import Any

import torch
import transformers
from torch import nn
from transformers import AutoConfig, PreTrainedConfig, PreTrainedModel

# Attributes of a model's direct children that transformers (5.23) reads to build, load, save or distribute the model.
CHILD_ATTRIBUTES = (
    "_keep_in_fp32_modules",
    "_keep_in_fp32_modules_strict",
    "_no_split_modules",
    "_skip_keys_device_placement",
    "_keys_to_ignore_on_load_unexpected",
    "_keys_to_ignore_on_load_missing",
)


class EncoderWrapper(nn.Module):
    """A wrapper of a transformers model, `model`, that forwards the attributes which transformers reads of children.

    Otherwise, for example, the tied embeddings of a T5 inside would be saved once and load as random weights.
    """

    model: PreTrainedModel

    @property
    def all_tied_weights_keys(self) -> dict[str, str]:
        return {f"model.{key}": f"model.{source}" for key, source in self.model.all_tied_weights_keys.items()}

    @property
    def _keys_to_ignore_on_save(self) -> set[str]:
        return {f"model.{key}" for key in self.model._keys_to_ignore_on_save or ()}


for _name in CHILD_ATTRIBUTES:
    setattr(EncoderWrapper, _name, property(attrgetter(f"model.{_name}")))


def model_class(config: PreTrainedConfig, mappings: Iterable) -> type[PreTrainedModel] | None:
    """The transformers class for a config: from the first mapping that has it, else by name (SigLIP's encoders)."""
    for mapping in mappings:
        if type(config) in mapping:
            classes = mapping[type(config)]
            return classes[0] if isinstance(classes, Sequence) else classes
    return getattr(transformers, type(config).__name__.removesuffix("Config") + "Model", None)


def build_encoder(encoder_class: type[PreTrainedModel], config: PreTrainedConfig) -> PreTrainedModel:
    """A model with random weights, without its pooler."""
    return encoder_class(config, **without_pooler(encoder_class))


def load_encoder(
    encoder: PreTrainedModel, name_or_path: str, optional: Collection[str] = (), **kwargs
) -> PreTrainedModel:
    """The encoder with the weights of a checkpoint of its architecture, in float32.

    Raises `ValueError` if the checkpoint lacks weights other than those in `optional`.
    """
    kwargs = {"dtype": torch.float32, **without_pooler(type(encoder)), **kwargs}
    model_and_report: Any = type(encoder).from_pretrained(
        name_or_path, config=encoder.config, output_loading_info=True, **kwargs
    )
    loaded, report = model_and_report
    if missing := sorted(set(report["missing_keys"]) - set(optional)):
        raise ValueError(
            f"{name_or_path} lacks {len(missing)} weights of a `{encoder.config.model_type}`, e.g. {missing[0]}: they "
            "would stay random. Give a checkpoint of that model."
        )
    return loaded


def without_pooler(encoder_class: type[PreTrainedModel]) -> dict[str, bool]:
    accepts = inspect.signature(encoder_class.__init__).parameters
    return {"add_pooling_layer": False} if "add_pooling_layer" in accepts else {}


def load_encoder_config(name_or_path: str, part: str, families: Sequence[str]) -> PreTrainedConfig:
    """The config of an encoder; for a dual encoder such as CLIP, that of the given part.

    Args:
        part: "vision_config" or "text_config".
        families: suggestions for the error if transformers does not support the model.
    """
    try:
        config = AutoConfig.from_pretrained(name_or_path, trust_remote_code=False)
    except ValueError as error:
        family = PreTrainedConfig.get_config_dict(name_or_path)[0].get("model_type")
        raise ValueError(
            f"{name_or_path} is no model of transformers' own (its `model_type` is {family}), and remote code is not "
            f"run: choose e.g. a `{nearest_family(str(family), families)}`."
        ) from error
    is_dual = {"vision_config", "text_config"} <= set(config.sub_configs)
    return getattr(config, part) if is_dual else config


def nearest_family(family: str, families: Sequence[str]) -> str:
    """The family with the most similar name, preferably one that contains the other; else the first."""
    related = [name for name in families if name in family or family in name]
    close = difflib.get_close_matches(family, related or families, n=1, cutoff=0.0 if related else 0.6)
    return close[0] if close else families[0]


__all__ = ["EncoderWrapper", "build_encoder", "load_encoder", "load_encoder_config", "model_class", "nearest_family"]
