"""Writes docs/encoders.md: properties of every encoder family, determined by building it on the meta device.

    python tools/encoders.py --pairs outputs/pairs

`--pairs` is the folder that `benchmarks/encoder_pairs.py` wrote.
"""

import argparse
import contextlib
import copy
import json
import sys
from pathlib import Path

import torch
from transformers import CONFIG_MAPPING, MODEL_FOR_BACKBONE_MAPPING, MODEL_MAPPING, AutoConfig, PreTrainedConfig
from transformers.utils import logging

from tevia_hf.configuration_tevia import longest_text
from tevia_hf.encoder_loading_tevia import build_encoder
from tevia_hf.encoder_quirks_tevia import TEXT_FAMILIES, VISION_FAMILIES
from tevia_hf.evaluation.report_tables import score_table
from tevia_hf.io.markdown import markdown_table
from tevia_hf.text_encoder_tevia import TeViATextEncoder, text_model_class
from tevia_hf.vision_layout_tevia import STRIDES, Layout, build_on_meta, probe_layout

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "tests"))

import test_text_families  # noqa: E402  # needs the path above
from contract import SIZES, EncoderContract  # noqa: E402  # likewise

TEMPLATE = (Path(__file__).parent / "encoders_template.md").read_text(encoding="utf-8")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", type=Path, required=True, help="folder that benchmarks/encoder_pairs.py wrote")
    parser.add_argument("--output", type=Path, default=ROOT / "docs/encoders.md")
    args = parser.parse_args()
    logging.set_verbosity_error()
    vision = [vision_row(family, AutoConfig.for_model(family)) for family in VISION_FAMILIES]
    text = [text_row(family) for family in TEXT_FAMILIES]
    page = TEMPLATE.format(
        sizes=", ".join(f"{height}x{width}" for height, width in SIZES),
        vision=markdown_table(
            ["family", "maps", "channels", "parameters", "sizes", "checkpointing", "remarks"], vision
        ),
        text=markdown_table(["family", "class", "width", "maximum text length", "parameters", "remarks"], text),
        others=", ".join(f"`{family}`" for family in untested_families()),
        pairs=pairs_section(args.pairs),
    )
    args.output.write_text(page, encoding="utf-8")


def vision_row(family: str, config: PreTrainedConfig) -> list[str]:
    layout, model = probe_layout(config), build_on_meta(config)
    maps = "its own four" if layout.patch is None else f"pyramid from stride {layout.stride}"
    sizes = "any" if layout.max_size is None else f"up to {layout.max_size}, padded to it"
    checkpointing = "yes" if type(model).supports_gradient_checkpointing else "no"
    channels = ", ".join(map(str, layout.channels))
    return [f"`{family}`", maps, channels, millions(model), sizes, checkpointing, vision_remarks(config, model, layout)]


def vision_remarks(config: PreTrainedConfig, model, layout: Layout) -> str:
    remarks = backbone_class_remarks(config) if layout.patch is None else []
    if layout.patch != layout.stride:
        remarks.append(f"patches of {layout.patch}: images resized by {layout.patch}/{layout.stride}")
    if layout.unused:
        count = sum(dict(model.named_parameters())[name].numel() for name in layout.unused)
        remarks.append(f"{count:,} parameters reach no map and stay frozen")
    return "; ".join(remarks)


def backbone_class_remarks(config: PreTrainedConfig) -> list[str]:
    """Remarks if transformers' backbone class of the family returns other channels than declared, or other strides."""
    if type(config) not in MODEL_FOR_BACKBONE_MAPPING or not hasattr(config, "stage_names"):
        return []
    # Via JSON, as some of these classes cannot be built from the default values of their config, which are tuples.
    config = type(config).from_dict(json.loads(json.dumps(config.to_dict())))
    config.out_features = config.stage_names[-4:]
    with torch.device("meta"):
        backbone = MODEL_FOR_BACKBONE_MAPPING[type(config)](config).eval()
        maps = backbone(torch.zeros(1, 3, 224, 224)).feature_maps
    strides, channels = [224 // m.shape[-1] for m in maps], [m.shape[1] for m in maps]
    remarks = []
    if strides != list(STRIDES):
        remarks.append(f"transformers' backbone class gives strides {listed(strides)}")
    if channels != list(backbone.channels):
        remarks.append(f"transformers' backbone class says {listed(backbone.channels)} of {listed(channels)} channels")
    return remarks


def listed(values) -> str:
    return ", ".join(map(str, values))


def text_row(family: str) -> list[str]:
    settings = test_text_families.QWEN3_EMBEDDING if family == "qwen3" else {}
    config = AutoConfig.for_model("bert" if family == "cxr-bert" else family, **settings)
    model_class = text_model_class(config)
    with torch.device("meta"):
        model = build_encoder(model_class, copy.deepcopy(config))
    tokens = longest_text(config)
    longest = f"{tokens:,} tokens" if tokens else "no limit"
    names = [f"`{family}`", f"`{model_class.__name__}`"]
    return [*names, str(config.hidden_size), longest, millions(model), text_remarks(family, config, model_class)]


def text_remarks(family: str, config: PreTrainedConfig, model_class) -> str:
    remarks = ["read as the BERT it is, without its remote code"] if family == "cxr-bert" else []
    if family == "qwen3":
        remarks.append("of the size of Qwen3-Embedding-0.6B")
    if config.is_encoder_decoder:
        remarks.append("the encoder part")
    if family != "cxr-bert" and not is_bidirectional(tiny_text_configs()[family]):
        remarks.append("causal attention")
    if not model_class._supports_sdpa:
        remarks.append("eager attention only")
    return "; ".join(remarks)


def tiny_text_configs() -> dict[str, PreTrainedConfig]:
    rows = [row for row in vars(test_text_families).values() if isinstance(row, type)]
    configs = [row.text_config for row in rows if issubclass(row, EncoderContract)]
    return {config.model_type: config for config in configs}


def is_bidirectional(config: PreTrainedConfig) -> bool:
    encoder = TeViATextEncoder(copy.deepcopy(config)).eval()
    first, other = encoder(torch.tensor([[2, 7, 8, 3], [2, 7, 9, 3]]))
    return not torch.equal(first[1], other[1])


def millions(model) -> str:
    return f"{sum(p.numel() for p in model.parameters()) / 1e6:.1f} M"


def untested_families() -> list[str]:
    """Families outside the contract test whose maps the dry run can determine."""
    families = []
    for family, config_class in CONFIG_MAPPING.items():
        if family in VISION_FAMILIES or config_class not in MODEL_MAPPING:
            continue
        with contextlib.suppress(Exception):  # no vision model, or one that the dry run rejects
            probe_layout(config_class())
            families.append(family)
    return families


def pairs_section(folder: Path) -> str:
    results = [json.loads(path.read_text(encoding="utf-8")) for path in sorted(folder.glob("*/scores.json"))]
    parts = []
    for result in results:
        scores = result["scores"]
        sensitivity = scores["correct"]["dice"] - scores["shuffled"]["dice"]
        run = f"{result['epochs']} epochs, seed {result['seed']}, {result['seconds']} s on one core"
        parts.append(f"**{result['pair']}** ({run}): correct minus shuffled {sensitivity:.3f}\n\n{score_table(scores)}")
    return "\n\n".join(parts)


if __name__ == "__main__":
    main()
