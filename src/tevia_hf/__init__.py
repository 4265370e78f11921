"""TeViA: text-guided segmentation of medical images, for the Hugging Face libraries.

The public names are imported on first use, so that `import tevia_hf` loads neither torch nor transformers. Where
transformers is imported too, before or after, its Auto classes and `pipeline` know TeViA.
"""

import sys
import warnings
from collections.abc import Callable
from functools import partial
from importlib import import_module
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec
from importlib.util import find_spec
from types import ModuleType
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
    from .training.observing import LossLoggingCallback as LossLoggingCallback
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
    "LossLoggingCallback": "training.observing",
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
    module = _MODULE_OF[name]
    if module.endswith("_tevia"):
        import_module("transformers")  # first, as everywhere: two threads must not wait for each other's half
        import_module(f"{__name__}.auto")
    globals()[name] = value = getattr(import_module(f"{__name__}.{module}"), name)
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})


class _RegistersWithTransformers(MetaPathFinder):
    """Imports `tevia_hf.auto` as soon as transformers is imported, which may be long after this package."""

    def find_spec(self, fullname: str, path: Any = None, target: Any = None) -> ModuleSpec | None:
        if fullname != "transformers":
            return None
        sys.meta_path.remove(self)
        try:
            spec = find_spec(fullname)
        finally:
            sys.meta_path.insert(0, self)
        if spec is not None and spec.loader is not None:
            execute = spec.loader.exec_module
            spec.loader.exec_module = partial(_execute_and_register, execute)  # type: ignore[method-assign]
        return spec


def _execute_and_register(execute: Callable[[ModuleType], None], module: ModuleType) -> None:
    execute(module)
    # A module of the kernel that is the first to ask for transformers cannot be registered half-way through.
    if not any(name.startswith(f"{__name__}.") and name.endswith("_tevia") for name in sys.modules):
        try:
            import_module(f"{__name__}.auto")
        except ImportError as error:
            warnings.warn(f"transformers is imported, but TeViA cannot be registered with it: {error}", stacklevel=2)


if "transformers" in sys.modules:
    import_module(f"{__name__}.auto")
elif not any(type(finder).__name__ == _RegistersWithTransformers.__name__ for finder in sys.meta_path):
    sys.meta_path.insert(0, _RegistersWithTransformers())
