"""TeViA: text-guided segmentation of medical images, for the Hugging Face libraries.

After `import tevia_hf` the Auto classes and `pipeline` of transformers know TeViA. What needs more than the model does,
such as data sets and training, is imported on first use.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .alignment_tevia import TeViAPrototypeMemory as TeViAPrototypeMemory
    from .configuration_tevia import TeViAConfig as TeViAConfig
    from .data.registry import load_segmentation_dataset as load_segmentation_dataset
    from .demo.run import run_demo as run_demo
    from .evaluation.evaluate import evaluate_model as evaluate_model
    from .hub.convert_lightning import convert_lightning_checkpoint as convert_lightning_checkpoint
    from .image_processing_tevia import TeViAImageProcessor as TeViAImageProcessor
    from .inference.explain import explain_text as explain_text
    from .inference.explain import reading_notes as reading_notes
    from .inference.predict import predict as predict
    from .io.readers import read_image as read_image
    from .metrics import segmentation_metrics as segmentation_metrics
    from .modeling_tevia import TeViAForSegmentation as TeViAForSegmentation
    from .modeling_tevia import TeViAModel as TeViAModel
    from .modeling_tevia import TeViAPreTrainedModel as TeViAPreTrainedModel
    from .modeling_tevia import TeViASegmentationOutput as TeViASegmentationOutput
    from .pipeline_tevia import TeViASegmentationPipeline as TeViASegmentationPipeline
    from .processing_tevia import TeViAProcessor as TeViAProcessor
    from .training.callbacks import MomentumPrototypeCallback as MomentumPrototypeCallback
    from .training.recipe import train_from_recipe as train_from_recipe
    from .training.trainer import build_trainer as build_trainer
    from .visualization import heat_map as heat_map
    from .visualization import overlay as overlay

__version__ = "0.1.0"

_MODULE_OF = {
    "TeViAConfig": "configuration_tevia",
    "TeViAForSegmentation": "modeling_tevia",
    "TeViAImageProcessor": "image_processing_tevia",
    "TeViAModel": "modeling_tevia",
    "TeViAPreTrainedModel": "modeling_tevia",
    "TeViAProcessor": "processing_tevia",
    "TeViAPrototypeMemory": "alignment_tevia",
    "TeViASegmentationOutput": "modeling_tevia",
    "TeViASegmentationPipeline": "pipeline_tevia",
    "MomentumPrototypeCallback": "training.callbacks",
    "build_trainer": "training.trainer",
    "convert_lightning_checkpoint": "hub.convert_lightning",
    "evaluate_model": "evaluation.evaluate",
    "explain_text": "inference.explain",
    "heat_map": "visualization",
    "load_segmentation_dataset": "data.registry",
    "overlay": "visualization",
    "predict": "inference.predict",
    "read_image": "io.readers",
    "reading_notes": "inference.explain",
    "run_demo": "demo.run",
    "segmentation_metrics": "metrics",
    "train_from_recipe": "training.recipe",
}

__all__ = ["__version__", *_MODULE_OF]


def __getattr__(name: str) -> Any:
    if name not in _MODULE_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    globals()[name] = value = getattr(import_module(f"{__name__}.{_MODULE_OF[name]}"), name)
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})


# First, and whole: while another thread imports it, `from transformers import ...` would find it half made.
import_module("transformers")
import_module(f"{__name__}.auto")
