"""The dry run determines the four maps of a vision model, and refuses maps that are not the outputs of stages."""

import math
import re

import pytest
from transformers import (
    CLIPVisionConfig,
    ConvNextConfig,
    DINOv3ConvNextConfig,
    DonutSwinConfig,
    FocalNetConfig,
    PvtV2Config,
    SegformerConfig,
    SwinConfig,
    Swinv2Config,
    ViTConfig,
)

from tevia_hf import TeViAConfig, TeViAForSegmentation, encoder_quirks_tevia, vision_layout_tevia
from tevia_hf.vision_layout_tevia import layout_of, probe_layout

ONE_EACH = [1, 1, 1, 1]
WINDOWS = {"embed_dim": 8, "depths": ONE_EACH, "num_heads": ONE_EACH, "window_size": 4, "image_size": 64}
PYRAMID = {"num_encoder_blocks": 4, "depths": ONE_EACH, "hidden_sizes": [8, 8, 16, 16], "num_attention_heads": ONE_EACH}
WIDTHS = {"hidden_sizes": [8, 16, 32, 64], "depths": ONE_EACH}
ENDING_IN_DOWNSAMPLING = {
    "swin": SwinConfig(**WINDOWS),
    "swin of two blocks": SwinConfig(**{**WINDOWS, "depths": [2, 2, 2, 2]}),
    "swinv2": Swinv2Config(**WINDOWS),
    "focalnet": FocalNetConfig(embed_dim=8, depths=ONE_EACH, image_size=64),
}
BEGINNING_WITH_IT = (
    ConvNextConfig(**WIDTHS),
    DINOv3ConvNextConfig(**WIDTHS),
    SegformerConfig(**PYRAMID),
    PvtV2Config(**PYRAMID, mlp_ratios=[2, 2, 2, 2]),
)
REFUSED = "does not return what its stages of .* cells end with, but an earlier map.* Choose e.g. `"


@pytest.mark.parametrize("config", ENDING_IN_DOWNSAMPLING.values(), ids=ENDING_IN_DOWNSAMPLING)
def test_maps_from_after_the_downsampling_are_refused(config, monkeypatch):
    """Simulates later versions of transformers without the option, or whose models lack these parts."""
    right = probe_layout(config)
    monkeypatch.delitem(encoder_quirks_tevia.FORWARD_OPTIONS, "output_hidden_states_before_downsampling")
    monkeypatch.setattr(vision_layout_tevia, "SHOWN_AFTER_DOWNSAMPLING", ())
    with pytest.raises(ValueError, match=REFUSED):
        probe_layout(config)
    monkeypatch.setattr(vision_layout_tevia, "check_stage_ends", lambda *_: None)
    assert probe_layout(config).channels == right.channels  # nothing else tells


def test_the_layout_of_equal_configs_is_computed_once(monkeypatch):
    tried = []
    monkeypatch.setattr(vision_layout_tevia, "probe_layout", lambda config: tried.append(config) or len(tried))
    monkeypatch.setattr(vision_layout_tevia, "_LAYOUTS", {})
    narrow, wide = ([ConvNextConfig(hidden_sizes=[side] * 4) for _ in range(2)] for side in (8, 16))
    assert [layout_of(config) for config in (*narrow, *wide)] == [1, 1, 2, 2]


def test_the_layout_is_the_same_in_every_dtype(monkeypatch):
    monkeypatch.setattr(vision_layout_tevia, "_LAYOUTS", {})
    layouts = [layout_of(ConvNextConfig(hidden_sizes=[8] * 4, dtype=dtype)) for dtype in (None, "float32", "bfloat16")]
    assert all(layout is layouts[0] for layout in layouts)


def test_a_family_that_ignores_the_option_is_refused():
    config = DonutSwinConfig(**{**WINDOWS, "image_size": 128})
    with pytest.raises(ValueError, match="`donut-swin` does not return .* 32x32, 16x16, 8x8 cells .* e.g. `swin`"):
        TeViAForSegmentation(TeViAConfig(backbone_config=config, text_config={"model_type": "bert"}))


FIRST_BLOCK = re.compile(r"(stages|layers)\.\d\.(layers|blocks)\.0")


def what_enters_the_stages(model, pixel_values, channels_last=False):
    """Replaces a model's maps by those of each stage before its blocks, of the same size and channels."""
    entered, hooks = [], []
    for name, module in model.named_modules():
        if FIRST_BLOCK.search(name) and FIRST_BLOCK.search(name).end() == len(name):
            hooks.append(module.register_forward_pre_hook(lambda _, args: entered.append(args[0])))
    model(pixel_values)
    for hook in hooks:
        hook.remove()
    return [x if x.ndim == 4 else x.transpose(1, 2).unflatten(2, (math.isqrt(x.shape[1]), -1)) for x in entered]


@pytest.mark.parametrize("config", BEGINNING_WITH_IT, ids=lambda config: config.model_type)
def test_maps_from_before_a_stage_are_refused(config, monkeypatch):
    right = probe_layout(config)
    monkeypatch.setattr(vision_layout_tevia, "spatial_maps", what_enters_the_stages)
    with pytest.raises(ValueError, match=REFUSED):
        probe_layout(config)
    monkeypatch.setattr(vision_layout_tevia, "check_stage_ends", lambda *_: None)
    assert probe_layout(config).channels == right.channels


PLAIN = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}


@pytest.mark.parametrize(
    ("config", "option"),
    [
        (SwinConfig(**{**WINDOWS, "image_size": 128}), "always_partition"),
        (ViTConfig(**PLAIN, image_size=64), "interpolate_pos_encoding"),
        (CLIPVisionConfig(**PLAIN, image_size=64, patch_size=16), "interpolate_pos_encoding"),
    ],
    ids=["swin", "vit", "clip"],
)
def test_a_family_that_ignores_an_option_of_sizes_is_known_to_take_one_size(config, option, monkeypatch):
    assert probe_layout(config).max_size is None
    monkeypatch.delitem(encoder_quirks_tevia.FORWARD_OPTIONS, option)
    layout = probe_layout(config)
    assert layout.min_size == layout.max_size == config.image_size
