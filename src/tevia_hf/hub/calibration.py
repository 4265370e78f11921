"""Examples by which an exported model is quantized to int8, and what that costs in Dice."""

import copy
import shutil
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from ..data.features import undecoded
from ..data.listing import OnError
from ..data.origin import origin_of
from ..data.ready import ready_dataset
from ..data.registry import load_segmentation_dataset, rows_of_all_splits
from ..data.splits import sample
from ..data.survey import Survey, reference_labels
from ..evaluation.text_conditions import check_texts
from ..extras import needed_for
from ..inference.exported import FILE_SUFFIXES, SEGMENTER, ExportedModel, Graph
from ..inference.exported_processing import ExportedProcessor
from ..inference.predict import predict_masks
from ..metrics import segmentation_metrics
from ..option_checks_tevia import check_count, check_seed, check_share
from .quantization import quantize_graph, quantized_nodes

with needed_for("Calibrating"):
    from datasets import Dataset

IMAGES = 64
MOST_DICE_LOST = 0.005
LEAST_DICE = 0.1  # of the float32 model, below which a loss would not be seen


@dataclass(frozen=True)
class Calibration:
    """Examples for an export to int8: some set the ranges of activations, others show how much Dice is lost.

    Args:
        examples: with `image`, `mask` and `text`, such as 64 of the training split.
        validation: likewise, of images that the model was not trained on.
        most_dice_lost: no model is written if it loses more Dice; 0.005 is half a point of 100.
        white_is_lesion: the meaning of 255 in the masks; by default inferred from all of them.
        on_error: "skip" leaves out images and masks that cannot be read; "raise" raises an error that names them.
        other_examples: of the same data set, for the meaning of 255 if the masks of the others do not define it.
        cache: skip files that were checked before and have not changed.
    """

    examples: Dataset
    validation: Dataset
    most_dice_lost: float = MOST_DICE_LOST
    white_is_lesion: bool | None = None
    on_error: OnError = "raise"
    other_examples: Iterable[Mapping[str, Any]] = ()
    cache: bool = True

    def __post_init__(self) -> None:
        check_share("most_dice_lost", self.most_dice_lost, example="0.005")

    @classmethod
    def from_dataset(
        cls,
        dataset: str,
        data_dir: str | Path | None = None,
        calibration_images: int = IMAGES,
        validation_images: int = IMAGES,
        most_dice_lost: float = MOST_DICE_LOST,
        seed: int = 0,
        white_is_lesion: bool | None = None,
        on_error: OnError = "raise",
        cache: bool = True,
        **source_options: Any,
    ) -> "Calibration":
        """That of a data set by name: a sample of its training split, and one of its validation split.

        Args:
            dataset: name of a data set, as for `load_segmentation_dataset`.
            data_dir: its folder; not for "synthetic".
            calibration_images: number of images from the training split, which are held in memory.
            validation_images: number of images from the validation split.
            seed: of both samples.
            source_options: other arguments of `load_segmentation_dataset`.

        Raises the errors of `load_segmentation_dataset`, and `ValueError` for options out of range.
        """
        check_share("most_dice_lost", most_dice_lost, example="0.005")
        check_count("calibration_images", calibration_images)
        check_count("validation_images", validation_images)
        check_seed("seed", seed)
        examples, validation = (
            sample(load_segmentation_dataset(dataset, data_dir, split, on_error, **source_options), count, seed)
            for split, count in (("train", calibration_images), ("val", validation_images))
        )
        others = rows_of_all_splits(dataset, data_dir, **source_options)
        return cls(examples, validation, most_dice_lost, white_is_lesion, on_error, others, cache)

    def readable(self, processor: ExportedProcessor, uses_text: bool) -> tuple[Dataset, Dataset, bool | None]:
        """Both data sets without what cannot be read, and whether 255 is the lesion in their masks."""
        survey, parts = Survey(processor.image_processor, self.white_is_lesion, self.cache), []
        for dataset in (self.examples, self.validation):
            dataset = ready_dataset(dataset, uses_text)
            check_texts(dataset, uses_text)
            parts.append(dataset.select(survey.read_all(undecoded(dataset), self.on_error)))
        survey.consult(self.other_examples)
        return parts[0], parts[1], survey.white_is_lesion()


class Recorder(Graph):
    """A graph that keeps its inputs."""

    def __init__(self, graph: Graph):
        self.graph = graph
        self.inputs: list[dict[str, np.ndarray]] = []

    def __call__(self, inputs: Mapping[str, np.ndarray]) -> np.ndarray:
        self.inputs.append({name: np.array(values) for name, values in inputs.items()})
        return self.graph(inputs)


def quantize_exported(
    exported: ExportedModel, processor: ExportedProcessor, calibration: Calibration, onnx_file: Path, folder: Path
) -> dict[str, Any]:
    """Replaces the segmenter in the folder of an exported model by one in int8, and returns what that costs.

    The text encoder stays in float32: it runs once for each distinct text.

    Args:
        onnx_file: the segmenter in float32 as ONNX, whatever the format of the exported model.

    Raises `ValueError`, and leaves the folder as it is, if no node is quantized, or too much Dice is lost.
    """
    uses_text = bool(exported.config.use_text)
    examples, validation, white = calibration.readable(processor, uses_text)
    references = [reference_labels(row, processor.image_processor, white) for row in undecoded(validation)]
    file = f"{SEGMENTER}{FILE_SUFFIXES[exported.about['format']]}"
    with TemporaryDirectory(dir=folder) as root:
        quantized = copy.copy(exported)
        write_quantized(inputs_for(exported, processor, examples), onnx_file, path := Path(root, file))
        if not all((nodes := quantized_nodes(path)).values()):
            raise ValueError(f"The exported model holds no quantized nodes ({nodes}): export it in float32.")
        quantized.segmenter = type(exported.segmenter)(path)
        models = {"float32": exported, "int8": quantized}
        dice = {name: dice_of(model, processor, validation, references) for name, model in models.items()}
        check_dice(dice, calibration.most_dice_lost)
        for part in Path(root).iterdir():
            shutil.move(part, folder / part.name)
    return {
        "dice": dice,
        "dice_lost": dice["float32"] - dice["int8"],
        "quantized_nodes": nodes,
        "calibrated_on": {"images": len(examples), **origin_of(examples)},
        "validated_on": {"images": len(validation), **origin_of(validation)},
    }


def inputs_for(exported: ExportedModel, processor: ExportedProcessor, examples: Dataset) -> list[dict[str, np.ndarray]]:
    """The inputs of the segmenter for each image with its own text."""
    observed = copy.copy(exported)
    observed.segmenter = recorder = Recorder(exported.segmenter)
    predict_masks(observed, processor, undecoded(examples), batch_size=1, description="Calibrating")
    return recorder.inputs


def write_quantized(batches: Sequence[Mapping[str, np.ndarray]], source: Path, target: Path) -> None:
    """Quantizes an ONNX file into a file of the format that the name of `target` tells."""
    if target.suffix == ".onnx":
        quantize_graph(source, target, batches)
        return
    import openvino

    with TemporaryDirectory() as root:
        quantize_graph(source, file := Path(root, source.name), batches)
        openvino.save_model(openvino.convert_model(file), target, compress_to_fp16=False)


def dice_of(
    exported: ExportedModel, processor: ExportedProcessor, dataset: Dataset, references: Sequence[np.ndarray]
) -> float:
    """The mean Dice of the images with their own texts."""
    masks = predict_masks(exported, processor, undecoded(dataset), description="Measuring Dice")
    return segmentation_metrics(masks, references, outlines=False, white_is_lesion=False)["dice"]  # 255 is ignored


def check_dice(dice: Mapping[str, float], most_lost: float) -> None:
    """Raises `ValueError` if int8 loses too much, or the float32 model is too bad for a loss to be seen."""
    if not dice["float32"] >= LEAST_DICE:
        raise ValueError(
            f"The Dice of the model in float32 is {dice['float32']:.3f} on the validation images, too low to show what "
            "int8 costs: give images and texts of the kind that it was trained on. Nothing is written."
        )
    if not (lost := dice["float32"] - dice["int8"]) <= most_lost:
        raise ValueError(
            f"int8 loses {lost:.4f} Dice ({dice['float32']:.4f} to {dice['int8']:.4f}), and at most {most_lost} are "
            "accepted: calibrate on more images (`calibration_images`, `--calibration-images`), accept the loss "
            f"(`most_dice_lost`, `--most-dice-lost {np.ceil(lost * 1000) / 1000:.3f}`), or export the model in "
            "float32. Nothing is written."
        )
