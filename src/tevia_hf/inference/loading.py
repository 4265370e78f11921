"""Loading of trained models by name or folder."""

import os
from pathlib import Path
from typing import Any

import torch
from transformers import PreTrainedConfig

from ..auto import TeViAConfig, TeViAForSegmentation, TeViAProcessor
from .exported import is_exported, warn_of_emulation
from .identity import weights_digest


def load_trained(name: str, device: str | None = None) -> tuple[TeViAForSegmentation, TeViAProcessor]:
    """A TeViA model, on a device, and its processor, by name or folder.

    The device is by default the GPU, if there is one; under `torchrun`, that of the process.

    Raises `ValueError` for another kind of model, and if weights are missing, which `from_pretrained` would initialise
    randomly.
    """
    if is_exported(name):
        raise ValueError(f"{name} is an exported model, for prediction alone: give the model that it was made of.")
    check_is_tevia(name)
    if Path(name).is_dir() and not any([*Path(name).glob("*.safetensors"), *Path(name).glob("pytorch_model*.bin")]):
        raise ValueError(f"{name} holds no weights: train them, e.g. by `tevia train {name}/recipe.yaml`.")
    model, report = TeViAForSegmentation.from_pretrained(name, output_loading_info=True)
    if missing := sorted(report["missing_keys"]):
        raise ValueError(
            f"{name} lacks {len(missing)} of the model's weights, e.g. {missing[0]}, which would be random: save the "
            "whole model there."
        )
    gpu = f"cuda:{os.environ.get('LOCAL_RANK', 0)}" if torch.cuda.is_available() else "cpu"
    return model.to(device or gpu), TeViAProcessor.from_pretrained(name)


def in_bfloat16(model: Any) -> Any:
    """The model with weights in bfloat16, its prototypes still in float32. Warns about a CPU that only emulates it."""
    if model.device.type == "cpu" and not has_bfloat16():
        warn_of_emulation()
    model.digest_in_float32 = weights_digest(model)  # of what is saved, as rounding changes it
    return model.to(torch.bfloat16)


def has_bfloat16() -> bool:
    """Whether the CPU computes in bfloat16, as far as the system tells."""
    capabilities = torch.cpu.get_capabilities()
    return any(capabilities.get(name) for name in ("amx_bf16", "avx512_bf16", "bf16"))


def build_untrained(name: str) -> tuple[TeViAForSegmentation, TeViAProcessor]:
    """A model with random weights from the configuration in a repository or folder, and the processor there."""
    check_is_tevia(name)
    return TeViAForSegmentation(TeViAConfig.from_pretrained(name)), TeViAProcessor.from_pretrained(name)


def check_is_tevia(name: str) -> None:
    """Raises `ValueError` if the folder or name does not exist, or is that of another kind of model."""
    path = Path(name)
    if not path.is_dir() and (path.is_absolute() or len(path.parts) > 2):
        raise ValueError(f"No folder {name} in {Path.cwd()}: check the path.")
    if (path / "adapter_config.json").is_file():
        raise ValueError(
            f"{name} holds adapters and no whole model, as a checkpoint of a run with `lora` does: finish the run by "
            f"`--resume`, or load them into the model that they were trained on by `peft.PeftModel.from_pretrained`."
        )
    try:
        config, _ = PreTrainedConfig.get_config_dict(name)
    except OSError as error:
        raise ValueError(f"No folder {name} in {Path.cwd()}, nor a model of that name on the Hub: {error}") from error
    if (kind := config.get("model_type")) != TeViAConfig.model_type:
        raise ValueError(f"{name} is no TeViA model but '{kind}': give one that `tevia train` or `convert` wrote.")
