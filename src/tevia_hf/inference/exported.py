"""Exported models: their two graphs, computed by onnxruntime or OpenVINO, and NumPy in place of torch."""

import json
import os
import warnings
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Literal

import numpy as np

from ..extras import needed_for
from ..io.parallel import core_count
from ..option_checks_tevia import check_choice
from .exported_processing import ExportedProcessor
from .feature_cache import FeatureCache
from .networks import Network

Format = Literal["onnx", "openvino"]
TEXT_ENCODER, SEGMENTER = "text_encoder", "segmenter"  # the graphs, and the names of their files
ABOUT, TOKENIZER = "export.json", "tokenizer.json"
FILE_SUFFIXES: dict[str, str] = {"onnx": ".onnx", "openvino": ".xml"}
SMALLEST_SIDE = 32
KEYS: dict[str, tuple[str, ...]] = {  # of `export.json`
    "": ("format", "weights", "network", "image_processor", "known_words", "truncation_side"),
    "network": ("use_text", "id2label", "max_text_length", "text_width", "keeps_padding"),
    "image_processor": (
        *("do_resize", "size", "resample", "do_antialias", "do_normalize", "normalization", "image_mean", "image_std"),
        *("num_labels", "swap_axes"),
    ),
}


class Graph(ABC):
    """A graph with one output, in a file, which runs on the CPU, with as many threads as the process has cores."""

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
        options.intra_op_num_threads = thread_count()
        self.session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])

    def __call__(self, inputs: Mapping[str, np.ndarray]) -> np.ndarray:
        return self.session.run(None, dict(inputs))[0]


class OpenVinoGraph(Graph):
    """In the type that is asked for, whatever the processor offers."""

    def __init__(self, path: Path, dtype: str = "float32"):
        with needed_for(f"Running {path}"):
            import openvino
        core = openvino.Core()
        if dtype == "bfloat16" and "BF16" not in core.get_property("CPU", "OPTIMIZATION_CAPABILITIES"):
            warn_of_emulation()
        settings = {"INFERENCE_PRECISION_HINT": PRECISIONS[dtype], "INFERENCE_NUM_THREADS": thread_count()}
        self.compiled = core.compile_model(path, "CPU", settings)

    def __call__(self, inputs: Mapping[str, np.ndarray]) -> np.ndarray:
        return self.compiled(dict(inputs))[0]


PRECISIONS = {"float32": "f32", "bfloat16": "bf16"}  # OpenVINO's names
GRAPHS: dict[str, type[Graph]] = {"onnx": OnnxGraph, "openvino": OpenVinoGraph}


def check_dtype(dtype: str) -> None:
    """Raises `ValueError` for another type than those of `PRECISIONS`."""
    check_choice("dtype", dtype, PRECISIONS)


def warn_of_emulation() -> None:
    """Warns about bfloat16 on a processor that only emulates it."""
    warnings.warn(
        "This processor has no instructions for bfloat16 (AMX or AVX512-BF16) and emulates them: float32 is faster.",
        UserWarning,
        stacklevel=5,
    )


def thread_count() -> int:
    """As many as torch would take: `OMP_NUM_THREADS`, or the cores of the process."""
    given = os.environ.get("OMP_NUM_THREADS", "")
    return int(given) if given.isdecimal() and int(given) > 0 else core_count()


class ExportedModel:
    """The two graphs of a model, in NumPy; `Predictor` takes it in place of a `TeViAForSegmentation`.

    An image is encoded again for each text, as its encoder is no graph of its own.

    Args:
        folder: as `export_model` writes it.
        about: the content of `export.json`. Its `network` becomes `config`: `use_text`, `id2label` (label -> name),
            `max_text_length`, `text_width` (of features) and `keeps_padding` (of texts).
        dtype: "float32", or "bfloat16" for OpenVINO.
    """

    training = False

    def __init__(self, folder: Path, about: Mapping[str, Any], dtype: str = "float32"):
        self.about, self.digest = about, str(about["weights"])
        self.name_or_path = str(about.get("model", ""))  # what was exported
        self.precision = f"int8, {dtype}" if "int8" in about else dtype
        self.config = SimpleNamespace(**about["network"])
        self.config.id2label = {int(label): name for label, name in self.config.id2label.items()}
        graph, suffix = GRAPHS[about["format"]], FILE_SUFFIXES[about["format"]]
        self.segmenter = graph(folder / f"{SEGMENTER}{suffix}", dtype)
        self.text_encoder = graph(folder / f"{TEXT_ENCODER}{suffix}", dtype) if self.config.use_text else None

    def encode_text(self, input_ids: np.ndarray, attention_mask: np.ndarray) -> np.ndarray:
        """Features `(batch, tokens, dim)`. Raises `ValueError` for a vision-only model, and for too many tokens."""
        if self.text_encoder is None:
            raise ValueError("The model has `use_text=False` and takes no text: leave it out.")
        if input_ids.shape[1] > self.config.max_text_length:
            raise ValueError(
                f"The text has {input_ids.shape[1]} tokens, at most {self.config.max_text_length} are possible: "
                "truncate it (the processor does)."
            )
        return self.text_encoder({"input_ids": input_ids, "attention_mask": attention_mask})

    def __call__(
        self,
        pixel_values: np.ndarray,
        text_features: np.ndarray | None = None,
        attention_mask: np.ndarray | None = None,
    ) -> np.ndarray:
        """The logits `(batch, num_labels, height, width)` for one text per image; or for several of a single image.

        Raises `ValueError` for less than 32 pixels a side, for a model with text without `text_features`, and for
        numbers of images and texts that disagree.
        """
        height, width = pixel_values.shape[-2:]
        if min(height, width) < SMALLEST_SIDE:
            raise ValueError(f"The image is {height}x{width}: resize it to at least {SMALLEST_SIDE} pixels a side.")
        if not self.config.use_text:
            return self.segmenter({"pixel_values": pixel_values})
        if text_features is None or attention_mask is None:
            raise ValueError("An exported model needs `text_features` and their `attention_mask`, 0 without text.")
        if len(pixel_values) == 1:
            pixel_values = np.repeat(pixel_values, len(text_features), axis=0)
        if not len(pixel_values) == len(text_features) == len(attention_mask):
            raise ValueError(f"{len(pixel_values)} images but {len(text_features)} texts: give one text an image.")
        inputs = {"text_features": text_features, "attention_mask": attention_mask}
        return self.segmenter({"pixel_values": pixel_values, **inputs})


class ExportedTextFeatures(FeatureCache):
    """The features of texts for an exported model. One by one, as then none is padded to another's length."""

    def __init__(self, model: ExportedModel, processor: ExportedProcessor):
        self.model, self.processor = model, processor
        super().__init__(model.config.text_width, model.config.max_text_length if model.config.keeps_padding else 1)

    def encode(self, texts: Sequence[str]) -> list[np.ndarray]:
        return [self.model.encode_text(*self.processor.tokens(text))[0] for text in texts]


class ExportedNetwork(Network):
    """Prediction with an exported model.

    Args:
        model: as `load_exported` returns it.
        processor: the same.
        text_features: a cache to share with other predictors.
    """

    def __init__(self, model: ExportedModel, processor: ExportedProcessor, text_features: FeatureCache | None = None):
        self.model, self.processor = model, processor
        self.text_features = text_features
        if text_features is None and model.config.use_text:
            self.text_features = ExportedTextFeatures(model, processor)

    def pixel_values(self, image: np.ndarray) -> np.ndarray:
        return self.processor.image_processor(image)

    def encode(self, pixel_values: Sequence[np.ndarray]) -> np.ndarray:
        return np.stack(pixel_values)  # the segmenter encodes them

    def ask(self, features: np.ndarray, texts: Sequence[str], **options: Any) -> SimpleNamespace:
        """As of a model in torch, but `logits` alone: `options` raise `ValueError`."""
        if options:
            raise ValueError(f"An exported model returns logits alone, no {', '.join(options)}: use the model itself.")
        text = () if self.text_features is None else self.text_features.arrays(list(texts))
        return SimpleNamespace(logits=self.model(features, *text))

    def probabilities(
        self, features: np.ndarray, texts: Sequence[str], sizes: Sequence[tuple[int, int]]
    ) -> list[np.ndarray]:
        return self.processor.image_processor.probabilities(self.ask(features, texts).logits, sizes)


def is_exported(name: str | os.PathLike) -> bool:
    """Whether a folder holds an exported model."""
    return (Path(name) / ABOUT).is_file()


def load_exported(folder: str | os.PathLike, dtype: str = "float32") -> tuple[ExportedModel, ExportedProcessor]:
    """The model in a folder that `export_model` wrote, and its processor. Neither needs torch.

    `dtype` is "float32", or "bfloat16" for OpenVINO.

    Raises `ValueError` for another folder, one that lacks a file, and a type that its library does not compute in.
    """
    check_dtype(dtype)
    if not is_exported(folder):
        raise ValueError(f"{folder} holds no exported model: write one by `tevia export MODEL --output-dir {folder}`.")
    folder, again = Path(folder), "export the model again by `tevia export`"
    try:
        about = json.loads((folder / ABOUT).read_text(encoding="utf-8"))
        if missing := missing_keys(about):
            raise KeyError(f"no {', '.join(missing)}")
        suffix, uses_text = FILE_SUFFIXES[about["format"]], bool(about["network"]["use_text"])
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"{folder}/{ABOUT} is damaged, or of another version ({error}): {again}.") from error
    of_text = [f"{TEXT_ENCODER}{suffix}", TOKENIZER] if uses_text else []
    if missing := [name for name in (f"{SEGMENTER}{suffix}", *of_text) if not (folder / name).is_file()]:
        raise ValueError(f"{folder} lacks {', '.join(missing)}: {again}.")
    settings, words, side = (about[name] for name in ("image_processor", "known_words", "truncation_side"))
    try:
        model, tokenizer = ExportedModel(folder, about, dtype), folder / TOKENIZER if uses_text else None
        return model, ExportedProcessor(settings, tokenizer, model.config.max_text_length, words, side)
    except (ValueError, ImportError):  # with a message of ours
        raise
    except Exception as error:  # the libraries raise errors of any kind
        raise ValueError(f"A file in {folder} is damaged ({error}): {again}.") from error


def missing_keys(about: Mapping[str, Any]) -> list[str]:
    """The keys that `export.json` lacks."""
    parts = {"": about, "network": about.get("network", {}), "image_processor": about.get("image_processor", {})}
    return [f"{part} {key}".strip() for part, keys in KEYS.items() for key in keys if key not in parts[part]]
