"""Loading of trained models by name or folder, the digest of their weights, and their preprocessing settings."""

import hashlib
import json
import os
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from transformers import PreTrainedConfig

from ..auto import TeViAConfig, TeViAForSegmentation, TeViAImageProcessor, TeViAProcessor
from .exported import AnyModel, ExportedModel, is_exported, load_exported

DTYPES = ("float32", "bfloat16")
# Fields of an image processor that do not affect the pixels.
NON_PIXEL_FIELDS = (
    *("auto_map", "image_processor_type", "processor_class", "_name_or_path", "return_tensors"),
    "white_is_lesion",  # concerns masks
)


def load_predicting(name: str, device: str | None = None, dtype: str = "float32") -> tuple[AnyModel, TeViAProcessor]:
    """A model for prediction and its processor: of a folder that `export_model` wrote, or as `load_trained`.

    `dtype` is "float32" or "bfloat16", in which prototypes and probabilities remain float32. A processor without
    instructions for bfloat16 causes a warning.
    """
    check_dtype(dtype)
    if is_exported(name):
        if device not in (None, "cpu"):
            raise ValueError(f"{name} is an exported model, which runs on the CPU: leave `device` out.")
        loaded = load_exported(name, dtype)
        warn_of_slow(dtype, loaded[0].device)
        return loaded
    model: Any
    model, processor = load_trained(name, device)
    warn_of_slow(dtype, model.device)
    if dtype != "float32":
        model.digest_in_float32 = weights_digest(model)  # of what is saved, as rounding changes it
        model = model.to(getattr(torch, dtype))
    return model, processor


def check_dtype(dtype: str) -> None:
    """Raises `ValueError` for another type than those of `DTYPES`."""
    if dtype not in DTYPES:
        raise ValueError(f"`dtype` is '{dtype}': give one of {', '.join(DTYPES)}.")


def warn_of_slow(dtype: str, device: torch.device) -> None:
    """Warns about bfloat16 on a CPU which only emulates it."""
    if dtype == "bfloat16" and device.type == "cpu" and not has_bfloat16():
        warnings.warn(
            "This processor has no instructions for bfloat16 (AMX or AVX512-BF16): it gives the same masks as one that "
            "has them, but more slowly than float32.",
            UserWarning,
            stacklevel=3,
        )


def has_bfloat16() -> bool:
    """Whether the CPU computes in bfloat16, as far as the system tells."""
    capabilities = torch.cpu.get_capabilities()
    return any(capabilities.get(name) for name in ("amx_bf16", "avx512_bf16", "bf16"))


def precision_of(model: AnyModel) -> str:
    """What a model computes in, for reports: "float32", "bfloat16", or of an exported model "int8, float32"."""
    return model.precision if isinstance(model, ExportedModel) else str(model.dtype).removeprefix("torch.")


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


def weights_digest(model: torch.nn.Module | ExportedModel | str | Path) -> str:
    """SHA-256 of a model's weights, in memory or in a folder, which identifies the model in a report.

    Saving, sharding and export do not change it. Half precision is converted to float32, in which prototypes are kept.
    """
    if isinstance(model, ExportedModel):
        return model.digest
    if known := getattr(model, "digest_in_float32", None):
        return known
    network = TeViAForSegmentation.from_pretrained(model) if isinstance(model, (str, Path)) else model
    digest = hashlib.sha256()
    unsaved: Any = getattr(network, "_keys_to_ignore_on_save", ())  # heads that are used in training only
    for name, tensor in sorted((name, x) for name, x in network.state_dict().items() if name not in unsaved):
        values = tensor.detach().cpu()
        values = values.float() if values.dtype in (torch.float16, torch.bfloat16) else values
        digest.update(f"{name} {values.dtype} {tuple(values.shape)}".encode())
        digest.update(values.contiguous().flatten().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def pixel_settings(image_processor: TeViAImageProcessor) -> dict[str, Any]:
    """The settings of an image processor that affect the pixels, as JSON values."""
    settings = json.loads(json.dumps(image_processor.to_dict(), default=dict))
    for name, size in settings.items():
        if isinstance(size, dict):  # unset sides may be None or missing
            settings[name] = {side: length for side, length in size.items() if length is not None}
    return {name: value for name, value in settings.items() if name not in NON_PIXEL_FIELDS}


def differing_pixels(measured: Any, image_processor: TeViAImageProcessor) -> list[str]:
    """The settings in which an image processor differs from those in a report; all if the report has none.

    Settings that are missing in the report, as they are newer, must have their defaults.
    """
    current = pixel_settings(image_processor)
    if not isinstance(measured, Mapping):
        return sorted(current)
    measured_pixels = {name: value for name, value in measured.items() if name not in NON_PIXEL_FIELDS}
    expected = {**pixel_settings(type(image_processor)()), **measured_pixels}
    return sorted(name for name in {*current, *expected} if current.get(name) != expected.get(name))
