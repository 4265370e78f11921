"""The provenance of a report: weights, preprocessing and examples."""

from pathlib import Path
from typing import Any

from datasets import Dataset

from ..data.origin import origin_of
from ..data.splits import groups_seen_in_training
from ..inference.identity import pixel_settings, weights_digest


def provenance(model, processor, dataset: Dataset) -> dict[str, Any]:
    """The settings of a report that identify its weights, preprocessing and examples.

    `groups_seen_in_training` counts the groups (patients) of the data set that the model was trained on; `None` if this
    is unknown, because the folder that the model was loaded from has no list of them or has other weights by now.
    """
    weights = weights_digest(model)
    name = getattr(model, "name_or_path", "")
    seen = groups_seen_in_training(name, dataset) if name and Path(name).is_dir() else None
    if seen is not None and weights_digest(name) != weights:
        seen = None
    return {
        "model": name or None,
        "weights": weights,
        "image_processor": pixel_settings(processor.image_processor),
        **origin_of(dataset),
        "groups_seen_in_training": None if seen is None else len(seen),
    }
