"""What identifies a model in reports and jobs: the digest of its weights, and its preprocessing settings."""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .exported import ExportedModel

if TYPE_CHECKING:
    import torch

# Fields of an image processor that do not affect the pixels.
NON_PIXEL_FIELDS = (
    *("auto_map", "image_processor_type", "processor_class", "_name_or_path", "return_tensors"),
    "white_is_lesion",  # concerns masks
)


def weights_digest(model: "torch.nn.Module | ExportedModel | str | Path") -> str:
    """SHA-256 of a model's weights, in memory or in a folder, which identifies the model in a report.

    Saving, sharding and export do not change it. Half precision is converted to float32, in which prototypes are kept.
    """
    if isinstance(model, ExportedModel):
        return model.digest
    if known := getattr(model, "digest_in_float32", None):
        return known
    import torch

    from ..auto import TeViAForSegmentation

    network = TeViAForSegmentation.from_pretrained(model) if isinstance(model, (str, Path)) else model
    digest = hashlib.sha256()
    unsaved: Any = getattr(network, "_keys_to_ignore_on_save", ())  # heads that are used in training only
    for name, tensor in sorted((name, x) for name, x in network.state_dict().items() if name not in unsaved):
        values = tensor.detach().cpu()
        values = values.float() if values.dtype in (torch.float16, torch.bfloat16) else values
        digest.update(f"{name} {values.dtype} {tuple(values.shape)}".encode())
        digest.update(values.contiguous().flatten().view(torch.uint8).numpy())
    return digest.hexdigest()


def pixel_settings(image_processor: Any) -> dict[str, Any]:
    """The settings of an image processor that affect the pixels, as JSON values."""
    settings = json.loads(json.dumps(image_processor.to_dict(), default=dict))
    for name, size in settings.items():
        if isinstance(size, dict):  # unset sides may be None or missing
            settings[name] = {side: length for side, length in size.items() if length is not None}
    return {name: value for name, value in settings.items() if name not in NON_PIXEL_FIELDS}


def differing_pixels(measured: Any, image_processor: Any) -> list[str]:
    """The settings in which an image processor differs from those in a report; all if the report has none.

    Settings that are missing in the report, as they are newer, must have their defaults.
    """
    current = pixel_settings(image_processor)
    if not isinstance(measured, Mapping):
        return sorted(current)
    measured_pixels = {name: value for name, value in measured.items() if name not in NON_PIXEL_FIELDS}
    expected = {**pixel_settings(type(image_processor)()), **measured_pixels}
    return sorted(name for name in {*current, *expected} if current.get(name) != expected.get(name))
