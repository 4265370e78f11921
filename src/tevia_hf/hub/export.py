"""Export of models to ONNX and OpenVINO, checked against torch."""

import json
import logging
import shutil
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, get_args

import numpy as np
import torch
import transformers
from huggingface_hub import metadata_load
from transformers.utils import cached_file

from ..auto import TeViAConfig, TeViAForSegmentation, TeViAProcessor
from ..extras import needed_for
from ..fusion_tevia import fused_if_possible
from ..inference.exported import ABOUT, FILE_SUFFIXES, SEGMENTER, TEXT_ENCODER, ExportedModel, Format, load_exported
from ..inference.exported_processing import ExportedProcessor
from ..inference.identity import pixel_settings, weights_digest
from ..inference.loading import load_trained
from ..io.output_dir import check_output_dir, claim_output_dir, write_whole
from ..io.yaml_file import read_yaml
from ..text_projection_tevia import TEXT_PROJECTIONS

if TYPE_CHECKING:
    from .calibration import Calibration

TOLERANCE = 1e-4  # of logits, as a share of their largest value
TRACED = (2, 64, 96, 7)  # batch, height, width, tokens
TEXTS = (
    "One infected area, lower right lung (3 mm).",
    "Läsion links; nódulo à esquerda",
    " ".join(f"lung {number}" for number in range(600)),
)  # to tokenize
CHECKED = ((1, 50, 70, 9), (3, 128, 64, 2), (2, 33, 32, 1), (1, 224, 224, None))  # None: as many as it takes


class TextEncoderGraph(torch.nn.Module):
    """`encode_text`, as a module with tensors alone."""

    def __init__(self, model: TeViAForSegmentation):
        super().__init__()
        self.model = model

    def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor:
        return self.model.encode_text(input_ids, attention_mask)


class SegmenterGraph(torch.nn.Module):
    """The logits of images, and of text features unless the model has none."""

    def __init__(self, model: TeViAForSegmentation):
        super().__init__()
        self.model = model

    def forward(
        self,
        pixel_values: torch.Tensor,
        text_features: torch.Tensor | None = None,
        attention_mask: torch.Tensor | None = None,
    ) -> torch.Tensor:
        return self.model(pixel_values, text_features=text_features, attention_mask=attention_mask).logits


def export_model(
    model: str,
    output_dir: str | Path,
    to: Format = "onnx",
    overwrite: bool = False,
    int8: "Calibration | None" = None,
) -> tuple[ExportedModel, ExportedProcessor]:
    """Writes a model as graphs that run without torch, and returns it as `load_exported` does.

    The folder holds the text encoder and the segmenter, which take any batch, height, width and number of tokens, the
    config, the processor, and `export.json` with what the graphs need beside them, the digest of the weights and the
    checks.

    Args:
        model: name or folder of a TeViA model.
        output_dir: folder to write to.
        to: "onnx" (onnxruntime) or "openvino".
        overwrite: delete an earlier output in the folder.
        int8: examples to quantize the segmenter by, which is then faster and a quarter of the size; `export.json` tells
            the Dice before and after.

    Raises `ValueError` if the graphs give other logits than the model, for other shapes than those of the export, if
    its images and texts cannot be prepared without torch, and if int8 loses more Dice than accepted.
    """
    if to not in get_args(Format):
        raise ValueError(f"`to` is '{to}': give one of {', '.join(get_args(Format))}.")
    check_libraries(to)
    folder = Path(output_dir)
    check_output_dir(folder, overwrite=overwrite, inputs=[model])
    network, processor = load_trained(model, "cpu")
    network = network.float()  # whose weights have the same digest
    about: dict[str, Any] = {"format": to, "model": str(model), "license": license_of(model)}
    folder.parent.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(dir=folder.parent, prefix=f".{folder.name}-") as root:  # until it is known to be right
        write_graphs(network, Path(root), to)
        network.config.save_pretrained(root)
        processor.save_pretrained(root)
        about |= {"weights": weights_digest(network), "network": settings_of(network.config)}
        about["known_words"] = processor.known_words
        about["truncation_side"] = processor.tokenizer.truncation_side
        about["image_processor"] = pixel_settings(processor.image_processor)
        about["versions"] = {"torch": torch.__version__, "transformers": transformers.__version__}
        (Path(root) / ABOUT).write_text(json.dumps(about), encoding="utf-8")
        exported, exported_processor = load_exported(root)
        check_processor(processor, exported_processor, network.config.use_text)
        about["largest_difference_of_logits"] = checked(network, exported)
        if int8 is not None:
            from .calibration import quantize_exported  # needs the extra `train`

            file = Path(root, f"{SEGMENTER}.onnx")
            about["int8"] = quantize_exported(exported, exported_processor, int8, file, Path(root))
        claim_output_dir(folder, overwrite=overwrite, inputs=[model])
        for path in Path(root).iterdir():
            if to == "onnx" or path.suffix != ".onnx":
                shutil.move(path, folder / path.name)
    write_whole(folder / ABOUT, json.dumps(about, indent=2) + "\n")
    return load_exported(folder)


def license_of(model: str) -> str | None:
    """The licence in the `card.yaml` or on the card of a model, as abbreviated on the Hub.

    `None` if neither names one, or if they are on the Hub and cannot be reached. Raises `ValueError` if one of them
    cannot be read.
    """
    may_be_absent = {f"_raise_exceptions_for_{what}": False for what in ("missing_entries", "connection_errors")}
    for name, read in (("card.yaml", read_yaml), ("README.md", metadata_load)):
        if file := cached_file(model, name, **may_be_absent):
            try:
                values = read(Path(file)) or {}
            except Exception as error:  # of YAML, of the encoding, and for other values than a mapping
                raise ValueError(f"The licence of {model} cannot be read from {file}: {error}. Correct it.") from error
            if "license" in values:
                return str(values["license"])
    return None


def settings_of(config: TeViAConfig) -> dict[str, Any]:
    """What an exported model reads of the config of its network."""
    return {
        "use_text": config.use_text,
        "id2label": config.id2label,
        "max_text_length": config.max_text_length,
        "text_width": config.encoder_config("text_config").hidden_size if config.use_text else 0,
        "keeps_padding": TEXT_PROJECTIONS[config.text_projection].attends_to_padding,
    }


def check_processor(processor: TeViAProcessor, exported: ExportedProcessor, uses_text: bool) -> None:
    """Raises `ValueError` if the processor of the exported model gives other pixels or tokens than the model's."""
    image = np.random.default_rng(0).integers(0, 256, (130, 170, 3), np.uint8)
    pixels = processor(image, input_data_format="channels_last")["pixel_values"][0].numpy()
    if not np.allclose(exported.image_processor(image), pixels, atol=1e-4):
        raise ValueError("The images of this model cannot be prepared without torch, so that it is not exported.")
    for text in TEXTS if uses_text else ():
        with warnings.catch_warnings(action="ignore"):  # of unfamiliar words, and of the one that is too long
            tokens, ids = processor(text=text)["input_ids"].numpy(), exported.tokens(text)[0]
        if not np.array_equal(tokens, ids):
            raise ValueError(
                f"The tokenizer of this model gives {ids.tolist()} for '{text}' without transformers, but "
                f"{tokens.tolist()} with it: it cannot be exported."
            )


def checked(network: TeViAForSegmentation, exported: ExportedModel) -> dict[str, float]:
    """Shape -> largest difference of the logits, as a share of the largest. Raises `ValueError` if one is too large."""
    differences = {"x".join(map(str, shape)): difference(network, exported, shape) for shape in shapes_of(network)}
    if not (worst := max(differences.values())) <= TOLERANCE:
        raise ValueError(
            f"The logits of the exported model differ from the model's by {worst:.1e} of their largest value "
            f"({differences}), which must be at most {TOLERANCE}: this vision model cannot be exported, and nothing is "
            "written."
        )
    return differences


def check_libraries(to: Format) -> None:
    """Raises `MissingExtraError` if a library is missing, before anything is done."""
    with needed_for(f"Exporting to {to}"):
        import onnx as onnx
        import onnxruntime as onnxruntime
        import onnxscript as onnxscript

        if to == "openvino":
            import openvino as openvino


def write_graphs(network: TeViAForSegmentation, folder: Path, to: Format) -> None:
    """Writes the graphs of a model, from a copy with folded batch norms."""
    fused = fused_if_possible(network).to(memory_format=torch.contiguous_format)
    pixels, ids, mask = example_inputs(network, TRACED)
    if not network.config.use_text:
        write_graph(SegmenterGraph(fused), {"pixel_values": pixels}, folder / SEGMENTER, to)
        return
    write_graph(TextEncoderGraph(fused), {"input_ids": ids, "attention_mask": mask}, folder / TEXT_ENCODER, to)
    features = network.encode_text(ids, mask)
    inputs = {"pixel_values": pixels, "text_features": features, "attention_mask": mask}
    write_graph(SegmenterGraph(fused), inputs, folder / SEGMENTER, to)


def write_graph(graph: torch.nn.Module, inputs: dict[str, torch.Tensor], path: Path, to: Format) -> None:
    """Writes a module as ONNX and, if that is another one, as a file of the format; `path` has no suffix."""
    write_onnx(graph, inputs, file := path.with_suffix(FILE_SUFFIXES["onnx"]))
    if to == "openvino":
        import openvino

        openvino.save_model(openvino.convert_model(file), path.with_suffix(FILE_SUFFIXES[to]), compress_to_fp16=False)


def write_onnx(graph: torch.nn.Module, inputs: dict[str, torch.Tensor], path: Path) -> None:
    free = torch.export.Dim.AUTO
    # Channels are fixed, and so is the width of text features.
    axes = {"pixel_values": (0, 2, 3), "text_features": (0, 1), "input_ids": (0, 1), "attention_mask": (0, 1)}
    shapes = {name: dict.fromkeys(axes[name], free) for name in inputs}
    with without_warnings(), torch.no_grad():
        program = torch.export.export(graph.eval(), tuple(inputs.values()), dynamic_shapes=shapes)
        result: Any = torch.onnx.export(program, input_names=list(inputs), output_names=["output"], verbose=False)
    result.save(path)


@contextmanager
def without_warnings() -> Iterator[None]:
    """Context without the remarks of the exporters about their own workings."""
    loggers = [logging.getLogger(name) for name in ("onnxscript", "onnx_ir", "torch.onnx")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)


def shapes_of(network: TeViAForSegmentation) -> list[tuple[int, int, int, int]]:
    """The shapes to check, as far as the model takes them."""
    side = network.model.backbone.layout.max_size or CHECKED[-1][1]
    longest = network.config.max_text_length
    return [
        (batch, min(height, side), min(width, side), min(tokens or longest, longest))
        for batch, height, width, tokens in CHECKED
    ]


def example_inputs(
    network: TeViAForSegmentation, shape: tuple[int, int, int, int]
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Random pixels, tokens and attention mask; of several texts the second is shorter, and the third empty."""
    batch, height, width, tokens = shape
    generator = torch.Generator().manual_seed(0)
    pixels = torch.randn(batch, 3, height, width, generator=generator)
    words = network.config.encoder_config("text_config").vocab_size if network.config.use_text else 1
    ids = torch.randint(0, words, (batch, tokens), generator=generator)
    mask = torch.ones_like(ids)
    mask[1:2, (tokens + 1) // 2 :] = 0
    mask[2:] = 0
    return pixels, ids, mask


@torch.no_grad()
def difference(network: TeViAForSegmentation, exported: ExportedModel, shape: tuple[int, int, int, int]) -> float:
    """The largest difference of the logits, as a share of the largest logit."""
    pixels, ids, mask = example_inputs(network, shape)
    if network.config.use_text:
        expected = network.eval()(pixels, ids, mask).logits.numpy()
        features = exported.encode_text(ids.numpy(), mask.numpy())
        logits = exported(pixels.numpy(), features, mask.numpy())
    else:
        expected, logits = network.eval()(pixels).logits.numpy(), exported(pixels.numpy())
    if logits.shape != expected.shape:
        return float("inf")
    return float(np.abs(logits - expected).max() / np.abs(expected).max())
