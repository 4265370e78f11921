"""Makes transformers' Auto classes know TeViA; importing this module is all it takes."""

from transformers import (
    AutoConfig,
    AutoImageProcessor,
    AutoModel,
    AutoModelForSemanticSegmentation,
    AutoProcessor,
)

from .configuration_tevia import TeViAConfig
from .image_processing_tevia import TeViAImageProcessor
from .modeling_tevia import TeViAForSegmentation, TeViAModel
from .processing_tevia import TeViAProcessor

AutoConfig.register(TeViAConfig.model_type, TeViAConfig, exist_ok=True)
AutoModel.register(TeViAConfig, TeViAModel, exist_ok=True)
AutoModelForSemanticSegmentation.register(TeViAConfig, TeViAForSegmentation, exist_ok=True)
AutoImageProcessor.register(TeViAConfig, image_processor_classes={"pil": TeViAImageProcessor}, exist_ok=True)
AutoProcessor.register(TeViAConfig, TeViAProcessor, exist_ok=True)

__all__ = ["TeViAConfig", "TeViAForSegmentation", "TeViAImageProcessor", "TeViAModel", "TeViAProcessor"]
