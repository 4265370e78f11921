"""Trained models by name or folder, and a digest of what their weights are."""

import hashlib
from pathlib import Path

import torch
from safetensors.torch import load_file
from transformers import PreTrainedConfig

from ..auto import TeViAConfig, TeViAForSegmentation, TeViAProcessor


def load_trained(name: str) -> tuple[TeViAForSegmentation, TeViAProcessor]:
    """A TeViA model and its processor, by name or folder.

    Raises `ValueError` for another kind of model, of which `from_pretrained` would make a TeViA with random weights.
    """
    check_is_tevia(name)
    if Path(name).is_dir() and not any([*Path(name).glob("*.safetensors"), *Path(name).glob("pytorch_model*.bin")]):
        raise ValueError(f"{name} holds no weights: train them, e.g. by `tevia train {name}/recipe.yaml`.")
    return TeViAForSegmentation.from_pretrained(name), TeViAProcessor.from_pretrained(name)


def build_untrained(name: str) -> tuple[TeViAForSegmentation, TeViAProcessor]:
    """The model that a name's or folder's configuration describes, its weights random, and the processor there."""
    check_is_tevia(name)
    return TeViAForSegmentation(TeViAConfig.from_pretrained(name)), TeViAProcessor.from_pretrained(name)


def check_is_tevia(name: str) -> None:
    """Raises `ValueError` for a folder or name that is missing, or of another kind of model."""
    path = Path(name)
    if not path.is_dir() and (path.is_absolute() or len(path.parts) > 2):
        raise ValueError(f"No folder {name} in {Path.cwd()}: check the path.")
    try:
        config, _ = PreTrainedConfig.get_config_dict(name)
    except OSError as error:
        raise ValueError(f"No folder {name} in {Path.cwd()}, nor a model of that name on the Hub: {error}") from error
    if (kind := config.get("model_type")) != TeViAConfig.model_type:
        raise ValueError(f"{name} is no TeViA model but '{kind}': give one that `tevia train` or `convert` wrote.")


def weights_digest(folder: str | Path) -> str | None:
    """SHA-256 of the weights in a folder, so that a report can say what it was measured on; `None` without any.

    However many files hold them, and whatever else these say.
    """
    weights: dict[str, torch.Tensor] = {}
    for file in Path(folder).glob("*.safetensors"):
        weights.update(load_file(file))
    digest = hashlib.sha256()
    for name, tensor in sorted(weights.items()):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(tensor.contiguous().flatten().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest() if weights else None
