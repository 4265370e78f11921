"""The two kinds of models that predict: in torch, which is imported for them alone, and exported."""

from typing import TYPE_CHECKING, Any, Union

from ..extras import needed_for
from .exported import ExportedModel, ExportedNetwork, check_dtype, is_exported, load_exported
from .exported_processing import ExportedProcessor
from .networks import Network

if TYPE_CHECKING:
    from ..modeling_tevia import TeViAForSegmentation
    from ..processing_tevia import TeViAProcessor

AnyModel = Union["TeViAForSegmentation", ExportedModel]
AnyProcessor = Union["TeViAProcessor", ExportedProcessor]


def load_predicting(name: str, device: str | None = None, dtype: str = "float32") -> tuple[AnyModel, AnyProcessor]:
    """A model for prediction and its processor: of a folder that `export_model` wrote, or as `load_trained`.

    `dtype` is "float32" or "bfloat16", in which prototypes and probabilities remain float32. A processor without
    instructions for bfloat16 causes a warning.
    """
    check_dtype(dtype)
    if is_exported(name):
        if device not in (None, "cpu"):
            raise ValueError(f"{name} is an exported model, which runs on the CPU: leave `device` out.")
        return load_exported(name, dtype)
    with needed_for(f"{name} is no exported model, and loading it"):
        from .loading import in_bfloat16, load_trained
    model, processor = load_trained(name, device)
    return in_bfloat16(model) if dtype == "bfloat16" else model.float(), processor


def precision_of(model: AnyModel) -> str:
    """What a model computes in, for reports: "float32", "bfloat16", or of an exported model "int8, float32"."""
    return model.precision if isinstance(model, ExportedModel) else str(model.dtype).removeprefix("torch.")


def network_of(model: Any, processor: Any, fuse: bool = False, text_features: Any = None) -> Network:
    """The network of a `TeViAForSegmentation` or an `ExportedModel`; for the arguments see `Predictor`.

    Raises `TypeError` for the processor of the other, and `ValueError` for the text features of another model.
    """
    if isinstance(model, ExportedModel) != isinstance(processor, ExportedProcessor):
        raise TypeError(
            f"A {type(model).__name__} with a {type(processor).__name__}: give the two that `load_exported` returned, "
            "or a TeViAForSegmentation with its TeViAProcessor."
        )
    if text_features is not None and getattr(text_features, "model", None) is not model:
        raise ValueError(
            "`text_features` are those of another model: give a cache that was made with this one, or none."
        )
    if isinstance(model, ExportedModel):
        return ExportedNetwork(model, processor, text_features)
    from .torch_network import TorchNetwork  # torch is needed from here on

    return TorchNetwork(model, processor, fuse, text_features)
