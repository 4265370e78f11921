"""TeViA: text-guided segmentation of medical images, for the Hugging Face libraries.

Importing this package registers TeViA with transformers' Auto classes and `pipeline`. Parts with further dependencies,
such as data sets and training, are imported on first use. Without torch, exported models predict, and nothing is
registered.
"""

import gc
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from .extras import needed_for

if TYPE_CHECKING:
    from .alignment_tevia import TeViAPrototypeMemory as TeViAPrototypeMemory
    from .benchmark.run import benchmark_model as benchmark_model
    from .configuration_tevia import TeViAConfig as TeViAConfig
    from .data.generated_prompts import write_prompts as write_prompts
    from .data.registry import load_segmentation_dataset as load_segmentation_dataset
    from .data.registry import register_dataset as register_dataset
    from .demo.run import run_demo as run_demo
    from .evaluation.comparison import compare_runs as compare_runs
    from .evaluation.evaluate import evaluate_dataset as evaluate_dataset
    from .evaluation.evaluate import evaluate_model as evaluate_model
    from .evaluation.paper_table import results_table as results_table
    from .evaluation.text_conditions import TEXT_CONDITIONS as TEXT_CONDITIONS
    from .evaluation.text_conditions import register_text_condition as register_text_condition
    from .experiments.ablation import run_ablation as run_ablation
    from .hub.bundle import push_model as push_model
    from .hub.bundle import write_bundle as write_bundle
    from .hub.calibration import Calibration as Calibration
    from .hub.convert_lightning import convert_checkpoint_file as convert_checkpoint_file
    from .hub.convert_lightning import convert_lightning_checkpoint as convert_lightning_checkpoint
    from .hub.export import export_model as export_model
    from .image_processing_tevia import TeViAImageProcessor as TeViAImageProcessor
    from .inference.check_data import check_data as check_data
    from .inference.explain import explain_texts as explain_texts
    from .inference.explain import text_warnings as text_warnings
    from .inference.exported import load_exported as load_exported
    from .inference.predict import predict as predict
    from .inference.predict import predict_files as predict_files
    from .inference.predictor import Predictor as Predictor
    from .inference.tiles import Tiling as Tiling
    from .io.readers import read_image as read_image
    from .io.writers import write_mask as write_mask
    from .lesion_measures import lesion_statistics as lesion_statistics
    from .logits_tevia import labels_from_logits as labels_from_logits
    from .loss_tevia import register_loss as register_loss
    from .metric_table import METRICS as METRICS
    from .metric_table import register_metric as register_metric
    from .metrics import segmentation_metrics as segmentation_metrics
    from .modeling_tevia import TeViAForSegmentation as TeViAForSegmentation
    from .modeling_tevia import TeViAModel as TeViAModel
    from .modeling_tevia import TeViAPreTrainedModel as TeViAPreTrainedModel
    from .outputs_tevia import TeViASegmentationOutput as TeViASegmentationOutput
    from .pipeline_tevia import TeViASegmentationPipeline as TeViASegmentationPipeline
    from .processing_tevia import TeViAProcessor as TeViAProcessor
    from .training.callbacks import MomentumPrototypeCallback as MomentumPrototypeCallback
    from .training.divergence import DivergenceCallback as DivergenceCallback
    from .training.divergence import TrainingDivergedError as TrainingDivergedError
    from .training.observing import LossLoggingCallback as LossLoggingCallback
    from .training.recipe import train_from_recipe as train_from_recipe
    from .training.trainer import build_trainer as build_trainer
    from .visualization import heat_map as heat_map
    from .visualization import overlay as overlay
    from .volume_scores import volume_metrics as volume_metrics

__version__ = "0.1.0"

_MODULE_OF = {
    "TeViAConfig": "configuration_tevia",
    "TeViAForSegmentation": "modeling_tevia",
    "TeViAImageProcessor": "image_processing_tevia",
    "TeViAModel": "modeling_tevia",
    "TeViAPreTrainedModel": "modeling_tevia",
    "TeViAProcessor": "processing_tevia",
    "TeViAPrototypeMemory": "alignment_tevia",
    "TeViASegmentationOutput": "outputs_tevia",
    "TeViASegmentationPipeline": "pipeline_tevia",
    "DivergenceCallback": "training.divergence",
    "LossLoggingCallback": "training.observing",
    "MomentumPrototypeCallback": "training.callbacks",
    "TrainingDivergedError": "training.divergence",
    "Calibration": "hub.calibration",
    "METRICS": "metric_table",
    "Predictor": "inference.predictor",
    "Tiling": "inference.tiles",
    "TEXT_CONDITIONS": "evaluation.text_conditions",
    "benchmark_model": "benchmark.run",
    "build_trainer": "training.trainer",
    "check_data": "inference.check_data",
    "compare_runs": "evaluation.comparison",
    "convert_checkpoint_file": "hub.convert_lightning",
    "convert_lightning_checkpoint": "hub.convert_lightning",
    "evaluate_model": "evaluation.evaluate",
    "export_model": "hub.export",
    "explain_texts": "inference.explain",
    "heat_map": "visualization",
    "labels_from_logits": "logits_tevia",
    "load_exported": "inference.exported",
    "lesion_statistics": "lesion_measures",
    "load_segmentation_dataset": "data.registry",
    "overlay": "visualization",
    "predict": "inference.predict",
    "predict_files": "inference.predict",
    "push_model": "hub.bundle",
    "read_image": "io.readers",
    "text_warnings": "inference.explain",
    "register_dataset": "data.registry",
    "register_loss": "loss_tevia",
    "register_metric": "metric_table",
    "register_text_condition": "evaluation.text_conditions",
    "results_table": "evaluation.paper_table",
    "run_ablation": "experiments.ablation",
    "run_demo": "demo.run",
    "evaluate_dataset": "evaluation.evaluate",
    "segmentation_metrics": "metrics",
    "train_from_recipe": "training.recipe",
    "volume_metrics": "volume_scores",
    "write_bundle": "hub.bundle",
    "write_mask": "io.writers",
    "write_prompts": "data.generated_prompts",
}

__all__ = ["__version__", *_MODULE_OF]


def __getattr__(name: str) -> Any:
    if name not in _MODULE_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    with needed_for(f"`{name}`"):
        globals()[name] = value = getattr(import_module(f"{__name__}.{_MODULE_OF[name]}"), name)
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})


@contextmanager
def _no_garbage_collection() -> Iterator[None]:
    """Context in which no garbage is collected: importing makes none, and looking for it takes a sixth of the time."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


if find_spec("torch") and find_spec("transformers"):
    with _no_garbage_collection():
        # Imported completely and first: if another thread is importing it, `from transformers import ...` can fail.
        import_module("transformers")
        import_module(f"{__name__}.auto")
