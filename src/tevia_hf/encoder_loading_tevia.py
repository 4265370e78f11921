"""What the vision model and the text encoder have in common: finding their class, their config and their weights."""

import difflib
import inspect
from collections.abc import Collection, Iterable, Sequence
from operator import attrgetter
from typing import Any

import torch
import transformers
from torch import nn
from transformers import AutoConfig, PreTrainedConfig, PreTrainedModel

# What transformers (5.23) asks a model's direct children for, when it is built, loaded, saved or spread over devices.
ASKED_OF_CHILDREN = (
    "_keep_in_fp32_modules",
    "_keep_in_fp32_modules_strict",
    "_no_split_modules",
    "_skip_keys_device_placement",
    "_keys_to_ignore_on_load_unexpected",
    "_keys_to_ignore_on_load_missing",
)


class EncoderFace(nn.Module):
    """A module around a transformers model, `model`, that answers for it what transformers asks a model's children.

    Without that, e.g. the tied embeddings of a T5 inside would be saved once and come back random.
    """

    model: PreTrainedModel

    @property
    def all_tied_weights_keys(self) -> dict[str, str]:
        return {f"model.{key}": f"model.{source}" for key, source in self.model.all_tied_weights_keys.items()}

    @property
    def _keys_to_ignore_on_save(self) -> set[str]:
        return {f"model.{key}" for key in self.model._keys_to_ignore_on_save or ()}


for _name in ASKED_OF_CHILDREN:
    setattr(EncoderFace, _name, property(attrgetter(f"model.{_name}")))


def model_class(config: PreTrainedConfig, mappings: Iterable) -> type[PreTrainedModel] | None:
    """The transformers class for a config: from the first mapping that knows it, else by name (SigLIP's halves)."""
    for mapping in mappings:
        if type(config) in mapping:
            found = mapping[type(config)]
            return found[0] if isinstance(found, Sequence) else found
    return getattr(transformers, type(config).__name__.removesuffix("Config") + "Model", None)


def build_encoder(encoder_class: type[PreTrainedModel], config: PreTrainedConfig) -> PreTrainedModel:
    """A model with random weights, without its pooler."""
    return encoder_class(config, **without_pooler(encoder_class))


def load_encoder(
    encoder: PreTrainedModel, name_or_path: str, optional: Collection[str] = (), **kwargs
) -> PreTrainedModel:
    """The encoder with the weights of a checkpoint of its architecture, in float32.

    Raises `ValueError` where the checkpoint lacks weights; those named in `optional` may be missing.
    """
    kwargs = {"dtype": torch.float32, **without_pooler(type(encoder)), **kwargs}
    model_and_report: Any = type(encoder).from_pretrained(
        name_or_path, config=encoder.config, output_loading_info=True, **kwargs
    )
    loaded, report = model_and_report
    if missing := sorted(set(report["missing_keys"]) - set(optional)):
        raise ValueError(
            f"{name_or_path} lacks {len(missing)} weights of a `{encoder.config.model_type}`, e.g. {missing[0]}: they "
            "would stay random. Name a checkpoint of that very model."
        )
    return loaded


def without_pooler(encoder_class: type[PreTrainedModel]) -> dict[str, bool]:
    accepts = inspect.signature(encoder_class.__init__).parameters
    return {"add_pooling_layer": False} if "add_pooling_layer" in accepts else {}


def load_half_config(name_or_path: str, half: str, families: Sequence[str]) -> PreTrainedConfig:
    """The config of an encoder; of a checkpoint that holds a pair, such as CLIP, that of its `half`.

    Args:
        half: "vision_config" or "text_config".
        families: of which the nearest is named where the model is none of transformers' own.
    """
    try:
        config = AutoConfig.from_pretrained(name_or_path, trust_remote_code=False)
    except ValueError as error:
        family = PreTrainedConfig.get_config_dict(name_or_path)[0].get("model_type")
        raise ValueError(
            f"{name_or_path} is no model of transformers' own (its `model_type` is {family}), and code from elsewhere "
            f"is not run: choose e.g. a `{nearest_family(str(family), families)}`."
        ) from error
    is_pair = {"vision_config", "text_config"} <= set(config.sub_configs)
    return getattr(config, half) if is_pair else config


def nearest_family(family: str, families: Sequence[str]) -> str:
    """The family of the closest name, first among those whose name holds the other's; else the first of all."""
    related = [name for name in families if name in family or family in name]
    close = difflib.get_close_matches(family, related or families, n=1, cutoff=0.0 if related else 0.6)
    return close[0] if close else families[0]


__all__ = ["EncoderFace", "build_encoder", "load_encoder", "load_half_config", "model_class", "nearest_family"]
