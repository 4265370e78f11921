"""The two kinds of models that predict: in torch, which is imported for them alone, and exported."""

from typing import TYPE_CHECKING, Any, Union

from ..extras import needed_for
from .exported import ExportedModel, ExportedNetwork, is_exported, load_exported
from .exported_processing import ExportedProcessor
from .networks import Network

if TYPE_CHECKING:
    from ..modeling_tevia import TeViAForSegmentation
    from ..processing_tevia import TeViAProcessor

AnyModel = Union["TeViAForSegmentation", ExportedModel]
AnyProcessor = Union["TeViAProcessor", ExportedProcessor]


def load_predicting(name: str, device: str | None = None) -> tuple[AnyModel, AnyProcessor]:
    """A model for prediction and its processor: of a folder that `export_model` wrote, or as `load_trained`."""
    if not is_exported(name):
        with needed_for(f"{name} is no exported model, and loading it"):
            from .loading import load_trained
        return load_trained(name, device)
    if device not in (None, "cpu"):
        raise ValueError(f"{name} is an exported model, which runs on the CPU: leave `device` out.")
    return load_exported(name)


def network_of(model: Any, processor: Any, fuse: bool = False, text_features: Any = None) -> Network:
    """The network of a `TeViAForSegmentation` or an `ExportedModel`; for the arguments see `Predictor`.

    Raises `TypeError` for the processor of the other.
    """
    if isinstance(model, ExportedModel) != isinstance(processor, ExportedProcessor):
        raise TypeError(
            f"A {type(model).__name__} with a {type(processor).__name__}: give the two that `load_exported` returned, "
            "or a TeViAForSegmentation with its TeViAProcessor."
        )
    if isinstance(model, ExportedModel):
        return ExportedNetwork(model, processor)
    from .torch_network import TorchNetwork  # torch is needed from here on

    return TorchNetwork(model, processor, fuse, text_features)
