"""Registers TeViA with transformers' Auto classes and pipelines, on import.

`save_pretrained` also saves the code of each class, which loads without this package by `trust_remote_code=True`. With
this package the image processor reads files by `tevia_hf.io.read_image`, and the pipeline volumes.
"""

import os
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from transformers import (
    AutoConfig,
    AutoImageProcessor,
    AutoModel,
    AutoModelForSemanticSegmentation,
    AutoProcessor,
)
from transformers.pipelines import PIPELINE_REGISTRY

from .configuration_tevia import TeViAConfig
from .image_processing_tevia import TeViAImageProcessor
from .io import read_image
from .io.volume import Volume
from .io.volumes import as_volume, open_volume
from .modeling_tevia import TeViAForSegmentation, TeViAModel
from .pipeline_tevia import TASK, TeViASegmentationPipeline
from .processing_tevia import TeViAProcessor


def read_file(path: Any, is_mask: bool = False) -> np.ndarray:
    """The pixels of a file of any supported format; slice and window may follow the path (`io.parse_address`)."""
    return read_image(path, is_mask).array


def read_volume(image: Any) -> Volume | None:
    """The volume at the path of a file or folder that holds one; `None` for other images."""
    address = as_volume(os.fspath(image)) if isinstance(image, (str, os.PathLike)) else None
    if address is None or not address.is_volume:
        return None
    return open_volume(address, Path(tempfile.gettempdir()))


TeViAImageProcessor.file_reader = staticmethod(read_file)
TeViASegmentationPipeline.volume_reader = staticmethod(read_volume)

AutoConfig.register(TeViAConfig.model_type, TeViAConfig, exist_ok=True)
AutoModel.register(TeViAConfig, TeViAModel, exist_ok=True)
AutoModelForSemanticSegmentation.register(TeViAConfig, TeViAForSegmentation, exist_ok=True)
AutoImageProcessor.register(TeViAConfig, image_processor_classes={"pil": TeViAImageProcessor}, exist_ok=True)
AutoProcessor.register(TeViAConfig, TeViAProcessor, exist_ok=True)
PIPELINE_REGISTRY.register_pipeline(
    TASK, TeViASegmentationPipeline, AutoModelForSemanticSegmentation, type="multimodal"
)

TeViAConfig.register_for_auto_class()
TeViAModel.register_for_auto_class("AutoModel")
TeViAForSegmentation.register_for_auto_class("AutoModelForSemanticSegmentation")
TeViAImageProcessor.register_for_auto_class()
TeViAProcessor.register_for_auto_class()

__all__ = [
    "TeViAConfig",
    "TeViAForSegmentation",
    "TeViAImageProcessor",
    "TeViAModel",
    "TeViAProcessor",
    "TeViASegmentationPipeline",
]
