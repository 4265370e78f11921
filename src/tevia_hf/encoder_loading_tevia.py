"""What the vision model and the text encoder have in common: finding their class, their config and their weights."""

import difflib
import inspect
from collections.abc import Collection, Iterable, Sequence

import torch
import transformers
from transformers import AutoConfig, PreTrainedConfig, PreTrainedModel


def model_class(config: PreTrainedConfig, mappings: Iterable) -> type[PreTrainedModel] | None:
    """The transformers class for a config: from the first mapping that knows it, else by name (SigLIP's halves)."""
    for mapping in mappings:
        if type(config) in mapping:
            found = mapping[type(config)]
            return found[0] if isinstance(found, Sequence) else found
    return getattr(transformers, type(config).__name__.removesuffix("Config") + "Model", None)


def build_encoder(encoder_class: type[PreTrainedModel], config: PreTrainedConfig, **kwargs) -> PreTrainedModel:
    """A model with random weights, without its pooler."""
    return encoder_class._from_config(config, **without_pooler(encoder_class), **kwargs)


def load_encoder(
    encoder: PreTrainedModel, name_or_path: str, optional: Collection[str] = (), **kwargs
) -> PreTrainedModel:
    """The encoder with the weights of a checkpoint of its architecture, in float32.

    Raises `ValueError` where the checkpoint lacks weights; those named in `optional` may be missing.
    """
    kwargs = {"dtype": torch.float32, **without_pooler(type(encoder)), **kwargs}
    loaded, report = type(encoder).from_pretrained(
        name_or_path, config=encoder.config, output_loading_info=True, **kwargs
    )
    if missing := sorted(set(report["missing_keys"]) - set(optional)):
        raise ValueError(
            f"{name_or_path} lacks {len(missing)} weights of a `{encoder.config.model_type}`, e.g. {missing[0]}: they "
            "would stay random. Name a checkpoint of that very model."
        )
    return loaded


def without_pooler(encoder_class: type[PreTrainedModel]) -> dict[str, bool]:
    accepts = inspect.signature(encoder_class.__init__).parameters
    return {"add_pooling_layer": False} if "add_pooling_layer" in accepts else {}


def load_half_config(name_or_path: str, half: str, **kwargs) -> PreTrainedConfig:
    """The config of an encoder; of a checkpoint that holds a pair, such as CLIP, that of its `half`.

    Args:
        half: "vision_config" or "text_config".
    """
    config = AutoConfig.from_pretrained(name_or_path, **kwargs)
    is_pair = {"vision_config", "text_config"} <= set(config.sub_configs)
    return getattr(config, half) if is_pair else config


def nearest_family(family: str, families: Sequence[str]) -> str:
    """The family whose name holds the other's, else the one of the closest name, else the first."""
    related = [name for name in families if name in family or family in name]
    return next(iter(related + difflib.get_close_matches(family, families, n=1)), families[0])


__all__ = ["build_encoder", "load_encoder", "load_half_config", "model_class", "nearest_family"]
