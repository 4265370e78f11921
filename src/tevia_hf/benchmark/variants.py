"""The ways to compute a model's logits that a benchmark compares, and two models beside it."""

import shutil
from collections.abc import Callable
from functools import cached_property, partial
from pathlib import Path
from typing import NamedTuple

import torch
from transformers import CLIPSegConfig, CLIPSegForImageSegmentation

from ..auto import TeViAConfig, TeViAForSegmentation, TeViAProcessor
from ..extras import needed_for
from ..fusion_tevia import fused_if_possible
from ..hub.export import settings_of, write_graphs
from ..hub.quantization import quantize_graph
from ..inference.exported import SEGMENTER, ExportedModel, Format
from ..inference.loading import load_trained

LARGE = 1024  # pixels of a side
CLIPSEG_WORDS = 49408  # of its tokenizer; the last one ends a text
Act = Callable[[], object]


class Case(NamedTuple):
    """The size of the inputs: number of images, side of these in pixels, and tokens of each text."""

    batch: int = 1
    side: int = 224
    tokens: int = 24


class Inputs(NamedTuple):
    """Random pixels (batch, 3, side, side), token ids and attention mask (batch, tokens)."""

    pixels: torch.Tensor
    ids: torch.Tensor
    mask: torch.Tensor

    @classmethod
    def of(cls, case: Case) -> "Inputs":
        generator = torch.Generator().manual_seed(0)
        pixels = torch.randn(case.batch, 3, case.side, case.side, generator=generator)
        ids = torch.randint(1, 5, (case.batch, case.tokens), generator=generator)
        return cls(pixels, ids, torch.ones_like(ids))


class Subject:
    """The model to measure, and what is made of it when it is first needed.

    Args:
        model: name or folder; by default random weights in the published size, ConvNeXt-Tiny with BERT-base.
        folder: for random weights and exported graphs; those that it holds are used.
    """

    def __init__(self, model: str | None, folder: Path):
        self.given, self.folder = model, folder

    def loaded(self) -> TeViAForSegmentation:
        """The model as `from_pretrained` gives it: its weights are read from their file when they are first used."""
        if self.given is not None:
            return load_trained(self.given, "cpu")[0].eval()
        if not (random := self.folder / "random").is_dir():
            torch.manual_seed(0)
            config = TeViAConfig(backbone_config={"model_type": "convnext"}, text_config={"model_type": "bert"})
            TeViAForSegmentation(config).save_pretrained(random)
        return TeViAForSegmentation.from_pretrained(random).eval()

    @cached_property
    def model(self) -> TeViAForSegmentation:
        return self.loaded()

    @cached_property
    def fused(self) -> TeViAForSegmentation:
        return fused_if_possible(self.model)

    @property
    def usual_side(self) -> int:
        """The side that the model's processor resizes images to, in pixels; for random weights the published one."""
        if self.given is None:
            return Case().side
        size = TeViAProcessor.from_pretrained(self.given).image_processor.size
        return max(size["height"], size["width"])

    @property
    def largest_side(self) -> int:
        """The largest side of an image that the model takes, in pixels."""
        return self.model.model.backbone.layout.max_size or LARGE

    def graphs(self, to: Format, int8: bool = False) -> Path:
        """The folder of the graphs in a format."""
        return self.folder / f"{to}{'-int8' * int8}"

    def exported(self, to: Format, int8: bool = False, dtype: str = "float32") -> ExportedModel:
        """The graphs in a format, written if they are not there; `dtype` is that of OpenVINO's computations."""
        if not self.graphs(to, int8).is_dir():
            self.write(to, int8)
        about = {"format": to, "weights": "", "network": settings_of(self.model.config)}
        return ExportedModel(self.graphs(to, int8), about, dtype)

    def write(self, to: Format, int8: bool) -> None:
        """Writes graphs. Those in int8 are calibrated on noise, which suffices to measure their time."""
        source, folder = self.graphs("onnx"), self.graphs(to, int8)
        if not source.is_dir():
            source.mkdir(parents=True)
            write_graphs(self.model, source, "onnx")
        if folder != source:
            shutil.copytree(source, folder)
        if int8:
            inputs = Inputs.of(Case())
            arrays = {name: tensor.numpy() for name, tensor in features(self.model, inputs).items()}
            arrays["pixel_values"] = inputs.pixels.numpy()
            quantize_graph(source / f"{SEGMENTER}.onnx", folder / f"{SEGMENTER}.onnx", [arrays])
        for file in folder.glob("*.onnx") if to == "openvino" else ():
            import openvino

            openvino.save_model(openvino.convert_model(file), file.with_suffix(".xml"), compress_to_fp16=False)


def features(model: TeViAForSegmentation, inputs: Inputs) -> dict[str, torch.Tensor]:
    """The features of the texts; none for a vision-only model."""
    if not model.config.use_text:
        return {}
    return {"text_features": model.encode_text(inputs.ids, inputs.mask), "attention_mask": inputs.mask}


def plain(subject: Subject, inputs: Inputs) -> Act:
    model = subject.model
    text = {"input_ids": inputs.ids, "attention_mask": inputs.mask} if model.config.use_text else {}
    return lambda: model(inputs.pixels, **text)


def text_once(subject: Subject, inputs: Inputs) -> Act:
    text = features(subject.model, inputs)
    return lambda: subject.model(inputs.pixels, **text)


def fused(subject: Subject, inputs: Inputs) -> Act:
    text = features(subject.fused, inputs)
    return lambda: subject.fused(inputs.pixels, **text)


def compiled(subject: Subject, inputs: Inputs) -> Act:
    model, text = torch.compile(subject.fused, fullgraph=True, dynamic=True), features(subject.fused, inputs)
    return lambda: model(inputs.pixels, **text)


def bfloat16(subject: Subject, inputs: Inputs) -> Act:
    model = fused_if_possible(subject.loaded().bfloat16())
    pixels, text = inputs.pixels.to(torch.bfloat16), features(model, inputs)
    return lambda: model(pixels, **text)


def exported(subject: Subject, inputs: Inputs, kind: "Exported") -> Act:
    model = subject.exported(*kind)
    arrays = [array.numpy() for array in (inputs.pixels, *features(subject.model, inputs).values())]
    return lambda: model(*arrays)


def clipseg_model() -> torch.nn.Module:
    return CLIPSegForImageSegmentation(CLIPSegConfig(vision_config={"patch_size": 16})).eval()


def unet_model() -> torch.nn.Module:
    with needed_for("MONAI's U-Net"):
        from monai.networks.nets import UNet
    return UNet(2, 3, 1, channels=(16, 32, 64, 128, 256), strides=(2, 2, 2, 2), num_res_units=2).eval()


def clipseg(subject: Subject, inputs: Inputs) -> Act:
    model = clipseg_model()
    ids = torch.cat([inputs.ids[:, 1:], torch.full((len(inputs.ids), 1), CLIPSEG_WORDS - 1)], dim=1)
    return lambda: model(ids, inputs.pixels, inputs.mask, interpolate_pos_encoding=True)


def unet(subject: Subject, inputs: Inputs) -> Act:
    model = unet_model()
    return lambda: model(inputs.pixels)


class Exported(NamedTuple):
    """Graphs in a format, and the type that they are computed in."""

    to: Format
    int8: bool = False
    dtype: str = "float32"


GRAPHS = {
    "onnx": Exported("onnx"),
    "onnx int8": Exported("onnx", int8=True),
    "openvino": Exported("openvino"),
    "openvino bfloat16": Exported("openvino", dtype="bfloat16"),
    "openvino int8": Exported("openvino", int8=True),
}
VARIANTS: dict[str, Callable[[Subject, Inputs], Act]] = {
    "plain": plain,
    "text once": text_once,
    "fused": fused,
    "compiled": compiled,
    "bfloat16": bfloat16,
    **{name: partial(exported, kind=kind) for name, kind in GRAPHS.items()},
    "CLIPSeg": clipseg,
    "U-Net": unet,
}


def weights_mb(subject: Subject, name: str) -> float:
    """The size of a variant's weights, in 1e6 bytes; of graphs, that of their files."""
    if name in GRAPHS:
        kind = GRAPHS[name]
        suffixes = (".onnx", ".data") if kind.to == "onnx" else (".xml", ".bin")
        files = [file for file in subject.graphs(kind.to, kind.int8).iterdir() if file.suffix in suffixes]
        return sum(file.stat().st_size for file in files) / 1e6
    model = {"CLIPSeg": clipseg_model, "U-Net": unet_model}.get(name, lambda: subject.model)()
    return megabytes(model) / (2 if name == "bfloat16" else 1)


def megabytes(model: torch.nn.Module) -> float:
    """The size of a model's weights in float32, in 1e6 bytes."""
    return 4 * sum(tensor.numel() for tensor in model.state_dict().values()) / 1e6
