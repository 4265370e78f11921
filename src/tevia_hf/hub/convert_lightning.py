"""Conversion of the authors' Lightning checkpoints to `TeViAForSegmentation`."""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from transformers import PreTrainedConfig

from ..auto import TeViAConfig, TeViAForSegmentation, TeViAProcessor
from ..io.output_dir import claim_output_dir
from ..text_encoder_tevia import load_text_config
from ..vision_layout_tevia import load_vision_config

# Authors' prefix -> ours; the first match is used. None: the tensor does not affect the mask.
KEY_MAP: tuple[tuple[str, str | None], ...] = (
    (r"encoder\.project_head\.", None),  # contrastive pre-training
    (r"text_encoder\.project_head\.", None),
    (r"conv[123]\.", None),  # for an auxiliary loss that is never computed
    (r"text_encoder\.model\.(bert\.)?pooler\.", None),
    (r"text_encoder\.model\.(bert\.)?embeddings\.position_ids$", None),
    (r"text_encoder\.model\.cls(_projection_head)?\.", None),  # CXR-BERT's masked-language and projection heads
    (r"text_encoder\.model\.bert\.", "model.text_encoder.model."),
    (r"text_encoder\.model\.", "model.text_encoder.model."),
    (r"encoder\.model\.", "model.backbone.model."),
    (r"decoder1\.conv_block\.", "decode_head.expand."),
    (r"out\.conv\.conv\.", "decode_head.classifier."),
    (r"decoder16\.", "model.decoder.0."),
    (r"decoder8\.", "model.decoder.1."),
    (r"decoder4\.", "model.decoder.2."),
)
# Within a decoder block.
BLOCK_KEY_MAP: tuple[tuple[str, str], ...] = (
    ("guide_layer.norm1.", "self_attention.norm."),
    ("guide_layer.self_attn.", "self_attention.attention."),
    ("guide_layer.self_attn_norm.", "self_attention.output_norm."),
    ("guide_layer.text_project.0.", "text_projection.mix."),
    ("guide_layer.text_project.2.", "text_projection.linear."),
    ("guide_layer.prompt", "text_projection.prompt"),
    ("guide_layer.norm2.", "cross_attention.norm."),
    ("guide_layer.cross_attn.", "cross_attention.attention."),
    ("guide_layer.cross_attn_norm.", "cross_attention.output_norm."),
    ("guide_layer.scale", "cross_attention.scale"),
    ("decoder.transp_conv.conv.", "upsampling.upsample."),
    ("decoder.conv_block.conv1.conv.", "upsampling.conv1."),
    ("decoder.conv_block.conv2.conv.", "upsampling.conv2."),
    ("decoder.conv_block.norm1.", "upsampling.norm1."),
    ("decoder.conv_block.norm2.", "upsampling.norm2."),
)
# In our model only: the published code has no null text and does not save its prototypes.
FRESH_KEYS = re.compile(r"model\.(null_text$|prototype_memory\.)")


@dataclass
class ConversionReport:
    """Result for each tensor: our names of `converted` ones, the authors' names of `dropped` ones, and `fresh` names
    that only our model has.
    """

    converted: list[str]
    dropped: list[str]
    fresh: list[str]

    def __str__(self) -> str:
        dropped, fresh = ("".join(f"\n  - {name}" for name in names) for names in (self.dropped, self.fresh))
        summary = f"{len(self.converted)} tensors converted, {len(self.dropped)} without counterpart dropped:"
        return f"{summary}{dropped}\n{len(self.fresh)} only in the new model, at their initial value:{fresh}"


def convert_lightning_checkpoint(
    checkpoint: str | Path | dict[str, Any],
    backbone_config: PreTrainedConfig | dict,
    text_config: PreTrainedConfig | dict,
    **config_kwargs,
) -> TeViAForSegmentation:
    """The authors' network with a checkpoint's weights; `model.conversion_report` lists tensors without counterpart.

    Args:
        checkpoint: a `.ckpt` file (read with `weights_only=True`) or its content.
        backbone_config: config of the vision encoder.
        text_config: config of the text encoder; for CXR-BERT a plain BERT config.
        config_kwargs: changes to `TeViAConfig.published`.

    Raises `ValueError` if the file is not such a checkpoint, or its tensors do not fit the configs.
    """
    state_dict = read_lightning_state_dict(checkpoint)
    config = TeViAConfig.published(backbone_config=backbone_config, text_config=text_config, **config_kwargs)
    model = TeViAForSegmentation(config)
    converted, dropped = rename_keys(state_dict)
    fresh = check_against(model, converted)
    model.load_state_dict(converted, strict=False)
    report = ConversionReport(sorted(converted), sorted(dropped), fresh)
    model.conversion_report = report  # type: ignore[assignment]  # torch types every attribute as tensor or module
    return model.eval()


def convert_checkpoint_file(
    checkpoint: str | Path, vision: str | Path, text: str | Path, output_dir: str | Path, overwrite: bool = False
) -> TeViAForSegmentation:
    """Converts a checkpoint and writes model and processor to `output_dir` for `from_pretrained`.

    Args:
        checkpoint: a Lightning `.ckpt` file; no code in it is executed.
        vision: name or folder with the config of the ConvNeXt.
        text: name or folder with config and tokenizer of the text encoder.
        output_dir: folder to write to.
        overwrite: delete an earlier output in the folder.

    Raises `ValueError` for another checkpoint, for encoders that do not fit, and for a folder that holds files.
    """
    vision_config, text_config = load_vision_config(str(vision)), load_text_config(str(text))
    model = convert_lightning_checkpoint(checkpoint, vision_config, text_config)
    # The authors' preprocessing: bicubic without antialias, z-score, x and y swapped.
    processor = TeViAProcessor.from_encoders(
        vision, text, max_text_length=24, size={"height": 224, "width": 224}, do_antialias=False,
        normalization="zscore", swap_axes=True,
    )  # fmt: skip
    claim_output_dir(output_dir, overwrite=overwrite, inputs=[checkpoint, vision, text])
    model.save_pretrained(output_dir)
    processor.save_pretrained(output_dir)
    return model


def read_lightning_state_dict(checkpoint: str | Path | dict[str, Any]) -> dict[str, torch.Tensor]:
    """The tensors of a Lightning checkpoint without the prefix `model.`."""
    if not isinstance(checkpoint, dict):
        checkpoint = load_checkpoint_file(Path(checkpoint))
    tensors = checkpoint.get("state_dict", checkpoint) if isinstance(checkpoint, dict) else {}
    state_dict = {
        name.removeprefix("model."): tensor for name, tensor in tensors.items() if isinstance(tensor, torch.Tensor)
    }
    if not any(name.startswith("decoder16.guide_layer.") for name in state_dict):
        raise ValueError(
            f"This is no checkpoint of the authors' TeViA network: no tensor `model.decoder16.guide_layer.*` among its "
            f"{len(state_dict)} tensors {sorted(state_dict)[:3]}. Give the `.ckpt` that their training wrote."
        )
    return state_dict


def load_checkpoint_file(path: Path) -> dict[str, Any]:
    """The content of a checkpoint file, read without executing code in it."""
    if not path.is_file():
        raise FileNotFoundError(f"No checkpoint at {path}: give the path of the `.ckpt` file.")
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        raise ValueError(
            f"{path} cannot be read as plain tensors ({type(error).__name__}): it is damaged, no PyTorch checkpoint, "
            "or pickles other objects, which are never executed. If you trust it, load it yourself and save "
            "`{'state_dict': checkpoint['state_dict']}`."
        ) from error


def rename_keys(state_dict: dict[str, Any]) -> tuple[dict[str, Any], list[str]]:
    """The tensors by our names, and the names of dropped ones. Raises `ValueError` for an unknown name."""
    converted, dropped, unknown = {}, [], []
    for name, tensor in state_dict.items():
        pattern, prefix = next(((p, new) for p, new in KEY_MAP if re.match(p, name)), (None, ""))
        if pattern is None:
            unknown.append(name)
        elif prefix is None:
            dropped.append(name)
        else:
            rest = re.sub(f"^{pattern}", "", name)
            old, new = next(((old, new) for old, new in BLOCK_KEY_MAP if rest.startswith(old)), ("", ""))
            converted[prefix + new + rest.removeprefix(old)] = tensor
    if unknown:
        raise ValueError(f"{len(unknown)} tensors are not of the authors' network, e.g. {unknown[:5]}.")
    return converted, dropped


def check_against(model: TeViAForSegmentation, converted: dict[str, torch.Tensor]) -> list[str]:
    """Names that only our model has. Raises `ValueError` unless all other tensors exist with the right shape."""
    own = model.state_dict()
    fresh = sorted(filter(FRESH_KEYS.match, own))
    missing = sorted(own.keys() - converted.keys() - set(fresh))
    unexpected = sorted(converted.keys() - own.keys())
    shapes = [
        f"{name}: {tuple(converted[name].shape)} in the checkpoint, {tuple(own[name].shape)} in the network"
        for name in sorted(own.keys() & converted.keys())
        if own[name].shape != converted[name].shape
    ]
    if missing or unexpected or shapes:
        raise ValueError(
            "The checkpoint does not fit the given encoder configs: use those of the encoders it was trained with. "
            f"Missing: {missing[:3]} ({len(missing)}); unexpected: {unexpected[:3]} ({len(unexpected)}); "
            f"of another shape: {shapes[:3]} ({len(shapes)})."
        )
    return fresh
