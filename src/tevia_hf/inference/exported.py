"""Exported models: their two graphs, computed by onnxruntime or OpenVINO in place of torch."""

import json
import os
from abc import ABC, abstractmethod
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch

from ..auto import TeViAConfig, TeViAForSegmentation, TeViAProcessor
from ..extras import needed_for
from ..outputs_tevia import TeViAImageFeatures, TeViASegmentationOutput
from ..vision_layout_tevia import STRIDES

Format = Literal["onnx", "openvino"]
TEXT_ENCODER, SEGMENTER = "text_encoder", "segmenter"  # the graphs, and the names of their files
ABOUT = "export.json"
FILE_SUFFIXES: dict[str, str] = {"onnx": ".onnx", "openvino": ".xml"}


class Graph(ABC):
    """A graph with one output, in a file, which runs on the CPU."""

    @abstractmethod
    def __init__(self, path: Path, dtype: str = "float32"): ...

    @abstractmethod
    def __call__(self, inputs: Mapping[str, np.ndarray]) -> np.ndarray: ...


class OnnxGraph(Graph):
    def __init__(self, path: Path, dtype: str = "float32"):
        if dtype != "float32":
            raise ValueError(
                f"onnxruntime computes on the CPU in float32 alone, not in {dtype}: leave `dtype` out, or export the "
                "model by `tevia export --to openvino`."
            )
        with needed_for(f"Running {path}"):
            import onnxruntime
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = torch.get_num_threads()
        self.session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])

    def __call__(self, inputs: Mapping[str, np.ndarray]) -> np.ndarray:
        return self.session.run(None, dict(inputs))[0]


class OpenVinoGraph(Graph):
    """In the type that is asked for, whatever the processor offers."""

    def __init__(self, path: Path, dtype: str = "float32"):
        with needed_for(f"Running {path}"):
            import openvino
        settings = {"INFERENCE_PRECISION_HINT": PRECISIONS[dtype], "INFERENCE_NUM_THREADS": torch.get_num_threads()}
        self.compiled = openvino.Core().compile_model(path, "CPU", settings)

    def __call__(self, inputs: Mapping[str, np.ndarray]) -> np.ndarray:
        return self.compiled(dict(inputs))[0]


PRECISIONS = {"float32": "f32", "bfloat16": "bf16"}  # OpenVINO's names
GRAPHS: dict[str, type[Graph]] = {"onnx": OnnxGraph, "openvino": OpenVinoGraph}


class ExportedModel:
    """A model of two graphs, which `Predictor` takes in place of a `TeViAForSegmentation`.

    An image is encoded again for each text, as its encoder is no graph of its own.

    Args:
        folder: as `export_model` writes it.
        config: the model's.
        about: the content of `export.json`.
        dtype: "float32", or "bfloat16" for OpenVINO.
    """

    training = False
    device = torch.device("cpu")

    def __init__(self, folder: Path, config: TeViAConfig, about: Mapping[str, Any], dtype: str = "float32"):
        self.config, self.about, self.digest = config, about, str(about["weights"])
        self.precision = f"int8, {dtype}" if "int8" in about else dtype
        graph, suffix = GRAPHS[about["format"]], FILE_SUFFIXES[about["format"]]
        self.segmenter = graph(folder / f"{SEGMENTER}{suffix}", dtype)
        self.text_encoder = graph(folder / f"{TEXT_ENCODER}{suffix}", dtype) if config.use_text else None

    def encode_text(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor:
        """Features `(batch, tokens, dim)`. Raises `ValueError` for a vision-only model, and for too many tokens."""
        if self.text_encoder is None:
            raise ValueError("The model has `use_text=False` and takes no text: leave it out.")
        if input_ids.shape[1] > self.config.max_text_length:
            raise ValueError(
                f"The text has {input_ids.shape[1]} tokens, at most {self.config.max_text_length} are possible: "
                "truncate it (the processor does)."
            )
        inputs = {"input_ids": input_ids.numpy(), "attention_mask": attention_mask.numpy()}
        return torch.from_numpy(self.text_encoder(inputs))

    def encode_image(self, pixel_values: torch.Tensor) -> TeViAImageFeatures:
        """The pixels as they are, since the segmenter encodes them. Raises `ValueError` for less than 32 a side."""
        height, width = pixel_values.shape[-2:]
        if min(height, width) < STRIDES[-1]:
            raise ValueError(f"The image is {height}x{width}: resize it to at least {STRIDES[-1]} pixels a side.")
        return TeViAImageFeatures((pixel_values,), (height, width))

    def __call__(
        self,
        image_features: TeViAImageFeatures,
        text_features: torch.Tensor | None = None,
        attention_mask: torch.Tensor | None = None,
        **options: Any,
    ) -> TeViASegmentationOutput:
        """The logits for one text per image; or for several texts of a single image.

        Raises `ValueError` for `options`, which the model that was exported may have.
        """
        if options:
            raise ValueError(f"An exported model returns logits alone, no {', '.join(options)}: use the model itself.")
        (pixels,) = image_features.maps
        inputs = {}
        if self.config.use_text:
            if text_features is None or attention_mask is None:
                raise ValueError("An exported model needs `text_features` and their `attention_mask`, 0 without text.")
            pixels = pixels.expand(len(text_features), -1, -1, -1)
            inputs = {"text_features": text_features.numpy(), "attention_mask": attention_mask.numpy()}
        logits = self.segmenter({"pixel_values": pixels.contiguous().numpy(), **inputs})
        return TeViASegmentationOutput(logits=torch.from_numpy(logits))


AnyModel = TeViAForSegmentation | ExportedModel


def is_exported(name: str | os.PathLike) -> bool:
    """Whether a folder holds an exported model."""
    return (Path(name) / ABOUT).is_file()


def load_exported(folder: str | os.PathLike, dtype: str = "float32") -> tuple[ExportedModel, TeViAProcessor]:
    """The model in a folder that `export_model` wrote, and its processor.

    `dtype` is "float32", or "bfloat16" for OpenVINO.

    Raises `ValueError` for another folder, one that lacks a file, and a type that its library does not compute in.
    """
    if not is_exported(folder):
        raise ValueError(f"{folder} holds no exported model: write one by `tevia export MODEL --output-dir {folder}`.")
    again = "export the model again by `tevia export`"
    try:
        about = json.loads((Path(folder) / ABOUT).read_text(encoding="utf-8"))
        suffix = FILE_SUFFIXES[about["format"]]
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{folder}/{ABOUT} is damaged ({error}): {again}.") from error
    config = TeViAConfig.from_pretrained(folder)
    needed = [f"{name}{suffix}" for name in (SEGMENTER, *([TEXT_ENCODER] if config.use_text else []))]
    if missing := [name for name in needed if not (Path(folder) / name).is_file()]:
        raise ValueError(f"{folder} lacks {', '.join(missing)}: {again}.")
    return ExportedModel(Path(folder), config, about, dtype), TeViAProcessor.from_pretrained(folder)
