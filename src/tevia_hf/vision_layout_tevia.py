"""Which outputs of a vision model are its four feature maps: determined by a dry run, as configs are unreliable."""

import copy
import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.overrides import TorchFunctionMode
from transformers import MODEL_FOR_BACKBONE_MAPPING, MODEL_MAPPING, PreTrainedConfig, PreTrainedModel

from .encoder_loading_tevia import build_encoder, load_encoder_config, model_class, nearest_family
from .encoder_quirks_tevia import SHOWN_AFTER_DOWNSAMPLING, VISION_FAMILIES, declared_size, forward_options

STRIDES = (4, 8, 16, 32)
PROBE_SIZE = 224  # if a config has no image size, or one that 32 does not divide
MAX_PREFIX_TOKENS = 16  # class and register tokens; more are no prefix (YOLOS has 100 at the end)


@dataclass(frozen=True)
class Layout:
    """The result of a dry run.

    Args:
        stages: indices of the model's maps that are used, fine to coarse; of a single-scale model its only one.
        channels: of the four maps that the backbone returns, fine to coarse.
        unused: names of parameters that none of the used maps depends on.
        min_size: minimum side of an image for the model; `None` is no limit.
        max_size: maximum side; likewise.
        patch: of a single-scale model, its patch size in pixels.
        stride: of a single-scale model, the stride that its map is assigned.
        channels_last: whether the model's maps are `(batch, height, width, channels)`.
    """

    stages: list[int]
    channels: list[int]
    unused: frozenset[str]
    min_size: int = STRIDES[-1]
    max_size: int | None = None
    patch: int | None = None
    stride: int | None = None
    channels_last: bool = False


def build_vision_model(config: PreTrainedConfig) -> PreTrainedModel:
    """A vision model with random weights. Raises `ValueError` if the config is not that of a vision model."""
    family, vision_class = config.model_type, model_class(config, (MODEL_MAPPING, MODEL_FOR_BACKBONE_MAPPING))
    if vision_class is None:
        raise ValueError(f"`{family}` has no model class in transformers: choose e.g. `{nearest(family)}`.")
    if vision_class.main_input_name != "pixel_values":
        raise ValueError(
            f"`{family}` takes `{vision_class.main_input_name}`, not images, and cannot be the vision model: choose a "
            "convnext, swin or vit, or the `vision_config` of a dual encoder such as CLIP."
        )
    return build_encoder(vision_class, config)


def nearest(family: str) -> str:
    return nearest_family(family, [name for name in VISION_FAMILIES if name != family])


def layout_of(config: PreTrainedConfig) -> Layout:
    """The result of `probe_layout`, cached for equal configs as it takes a second."""
    in_any_dtype = copy.copy(config)  # loading sets the dtype, which the dry run does not use
    in_any_dtype.dtype = None
    key = in_any_dtype.to_json_string(use_diff=False)
    if key not in _LAYOUTS:
        _LAYOUTS[key] = probe_layout(config)
    return _LAYOUTS[key]


_LAYOUTS: dict[str, Layout] = {}


@torch.inference_mode(False)
@torch.enable_grad()  # gradients, which may be off while a model loads, show which weights are used
def probe_layout(config: PreTrainedConfig) -> Layout:
    """Determines the four maps by a dry run on the meta device, which computes shapes only.

    Raises `ValueError` if one of the four strides has no map and there is no single map to derive them from, and if a
    map is not the final output of its stage.
    """
    size, model = probe_size(config), build_on_meta(config)
    with SumRecorder() as recorder:
        maps = dry_run(model, size)
    channels_last = any(m.shape[1] == m.shape[2] != m.shape[3] for m in maps)  # the image is square
    if channels_last:
        maps = [m.permute(0, 3, 1, 2) for m in maps]
    min_size, max_size = size_range(model, size)
    stages, channels, patch, stride = find_stages(config, maps, size)
    used = [maps[stage] for stage in stages]
    check_stage_ends(config.model_type, used, recorder.sums)
    unused = unused_parameters(model, used)
    if max_size is not None and patch is not None and stride is not None:  # images are resized to whole patches
        min_size, max_size = min_size * stride // patch, max_size * stride // patch
    return Layout(stages, channels, unused, min_size, max_size, patch, stride, channels_last)


def find_stages(
    config: PreTrainedConfig, maps: list[torch.Tensor], size: int
) -> tuple[list[int], list[int], int | None, int | None]:
    """Indices of the maps to use, the four channels, and of a single-scale model its patch and stride."""
    family, last = config.model_type, {size // m.shape[-1]: index for index, m in enumerate(maps)}
    if len(last) == 1:
        (patch, stage), width = *last.items(), maps[-1].shape[1]
        declared = patch_size(config)
        if declared and size // declared == maps[-1].shape[-1]:
            patch = declared  # if it does not divide the image size, the map's size suggests a larger patch
        stride = min(STRIDES, key=lambda stride: abs(math.log2(stride / patch)))
        return [stage], [width // 8, width // 4, width // 2, width], patch, stride
    if missing := [stride for stride in STRIDES if stride not in last]:
        raise ValueError(
            f"`{family}` has no feature map at stride {missing}, only at {sorted(last)}; TeViA needs {list(STRIDES)}, "
            f"or a model of one scale: choose e.g. `{nearest(family)}`."
        )
    stages = [last[stride] for stride in STRIDES]
    return stages, [maps[stage].shape[1] for stage in stages], None, None


class SumRecorder(TorchFunctionMode):
    """Records every sum that a model computes; each residual block ends in one."""

    names = {"add", "add_", "__add__", "__radd__", "__iadd__"}

    def __init__(self):
        super().__init__()
        self.sums: list[torch.Tensor] = []

    def __torch_function__(self, func, types, args=(), kwargs=None):
        output = func(*args, **(kwargs or {}))
        if func.__name__ in self.names and torch.is_tensor(output) and output.requires_grad:
            self.sums.append(output)
        return output


def check_stage_ends(family: str, maps: list[torch.Tensor], sums: list[torch.Tensor]) -> None:
    """Raises `ValueError` if a map is not the last output of its stage: residual blocks of its size still follow.

    Args:
        family: of the vision model, for the message.
        maps: its feature maps, from fine to coarse.
        sums: the outputs of its residual additions.

    The output of a stage before its blocks, or after the downsampling in front of it, has the right size and channels.
    """
    early = []
    for m, coarser in zip(maps, [*maps[1:], None], strict=True):
        candidates = [total for total in sums if has_size_of(total, m)]
        later = [total for total, is_input in zip(candidates, depends_on(m, candidates), strict=True) if not is_input]
        if any(depends_on(coarser, later)) if coarser is not None else later:
            early.append(f"{m.shape[-2]}x{m.shape[-1]}")
    if early:
        raise ValueError(
            f"`{family}` does not return what its stages of {', '.join(early)} cells end with, but an earlier map: "
            f"more blocks of that size follow it. Choose e.g. `{nearest(family)}`."
        )


def has_size_of(total: torch.Tensor, m: torch.Tensor) -> bool:
    """Whether a sum has the channels and positions of a map, in any order or windows."""
    return total.ndim > 1 and total.numel() == m.numel() and m.shape[1] in (total.shape[1], total.shape[-1])


def depends_on(output: torch.Tensor, sums: list[torch.Tensor]) -> list[bool]:
    if not sums:
        return []
    gradients = torch.autograd.grad(output.sum(), sums, allow_unused=True, retain_graph=True)
    return [gradient is not None for gradient in gradients]


def build_on_meta(config: PreTrainedConfig) -> PreTrainedModel:
    """The vision model in training mode, without memory for its weights."""
    with torch.device("meta"):
        # A copy, as building changes the config; float32, even if a model is being loaded in another dtype.
        return build_vision_model(copy.deepcopy(config)).float().train()


def probe_size(config: PreTrainedConfig) -> int:
    """Side of the dry run's image: the size in the config (fixed for some models), else 224."""
    size = declared_size(config)
    size = size[0] if isinstance(size, (list, tuple)) else size
    return size if isinstance(size, int) and size % STRIDES[-1] == 0 else PROBE_SIZE


def dry_run(model: PreTrainedModel, size: int) -> list[torch.Tensor]:
    family = model.config.model_type
    try:
        return maps_on_meta(model, size, size)
    except Exception as error:
        raise ValueError(
            f"`{family}` returns no spatial maps for an image alone: {error} Choose e.g. `{nearest(family)}`."
        ) from error


def size_range(model: PreTrainedModel, size: int) -> tuple[int, int | None]:
    """Minimum and maximum side of an image for the model, the latter `None` if there is no limit."""
    sides = [STRIDES[-1] * 2**step for step in range(8)]
    minimum = next((side for side in sides if side < size and accepts_size(model, side, side)), size)
    return minimum, None if accepts_size(model, 2 * size, size) else size


@torch.no_grad()
def accepts_size(model: PreTrainedModel, height: int, width: int) -> bool:
    try:
        maps_on_meta(model.eval(), height, width)  # batch norms in training are slow on the meta device
    except Exception:  # each family fails in its own way
        return False
    return True


def maps_on_meta(model: PreTrainedModel, height: int, width: int) -> list[torch.Tensor]:
    # Under "meta", which `from_pretrained` sets, BEiT would cache a table of positions without values.
    with torch.device("cpu"):
        return spatial_maps(model, blank_images(model, height, width))


def blank_images(model: PreTrainedModel, height: int, width: int) -> torch.Tensor:
    """Images `(2, channels, height, width)` on the meta device."""
    channels = getattr(model.config, "num_channels", 3)
    return torch.zeros(2, channels, height, width, dtype=torch.float32, device="meta")


def unused_parameters(model: nn.Module, maps: list[torch.Tensor]) -> frozenset[str]:
    names, parameters = zip(*model.named_parameters(), strict=True)
    gradients = torch.autograd.grad(torch.stack([m.sum() for m in maps]).sum(), parameters, allow_unused=True)
    return frozenset(name for name, gradient in zip(names, gradients, strict=True) if gradient is None)


def spatial_maps(model: PreTrainedModel, pixel_values: torch.Tensor, channels_last: bool = False) -> list[torch.Tensor]:
    """The maps `(batch, channels, height, width)` of a vision model: its hidden states, or the tokens of the last."""
    if model.config.model_type in SHOWN_AFTER_DOWNSAMPLING:
        return maps_before_downsampling(model, pixel_values)
    outputs = with_hidden_states(model, pixel_values)
    states = getattr(outputs, "reshaped_hidden_states", None) or outputs.hidden_states or ()
    maps = [state for state in states if torch.is_tensor(state) and state.ndim == 4]
    if channels_last:
        maps = [m.permute(0, 3, 1, 2) for m in maps]
    return maps or [token_map(model, outputs.last_hidden_state, *pixel_values.shape[-2:])]


def with_hidden_states(model: PreTrainedModel, pixel_values: torch.Tensor):
    return model(pixel_values, output_hidden_states=True, **forward_options(model.config))


def maps_before_downsampling(model: PreTrainedModel, pixel_values: torch.Tensor) -> list[torch.Tensor]:
    """The final outputs of the stages, before the downsampling to the next stage."""
    tokens, size = model.get_submodule("embeddings")(pixel_values)
    encoder: Any = model.get_submodule("encoder")
    maps = []
    for stage in getattr(encoder, "stages", None) or encoder.layers:
        tokens, before, sizes = stage(tokens, size)[:3]
        maps.append(before.transpose(1, 2).unflatten(2, size))
        size = sizes[-2:]
    return maps


def token_map(model: PreTrainedModel, tokens: torch.Tensor, height: int, width: int) -> torch.Tensor:
    """The patches among the tokens `(batch, prefix + patches, channels)`, arranged as a map."""
    patch = patch_size(model.config)
    if patch is None:
        raise ValueError("It returns tokens, but its config has no `patch_size` to arrange them by.")
    rows, columns = height // patch, width // patch
    prefix = tokens.shape[1] - rows * columns
    if not 0 <= prefix <= MAX_PREFIX_TOKENS:
        raise ValueError(f"It returns {tokens.shape[1]} tokens for {rows}x{columns} patches.")
    return tokens[:, prefix:].transpose(1, 2).unflatten(2, (rows, columns))


def patch_size(config: PreTrainedConfig) -> int | None:
    patch = getattr(config, "patch_size", None)
    return patch[0] if isinstance(patch, (list, tuple)) else patch


def load_vision_config(name_or_path: str) -> PreTrainedConfig:
    """The config of a vision model; for a dual encoder such as CLIP that of its vision encoder."""
    return load_encoder_config(name_or_path, "vision_config", VISION_FAMILIES)


__all__ = ["STRIDES", "Layout", "layout_of", "load_vision_config", "spatial_maps"]
