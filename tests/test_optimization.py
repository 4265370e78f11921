"""Each parameter is optimized once, at the rate of its part and, in the vision model, of its depth."""

import pytest
import torch
from tiny import tiny_config
from transformers import MobileNetV2Config, SwinConfig, ViTConfig

from tevia_hf import TeViAForSegmentation
from tevia_hf.training.adapters import with_lora
from tevia_hf.training.arguments import TeViATrainingArguments
from tevia_hf.training.optimization import build_optimizer, layer_depths


def training_arguments(tmp_path, **settings):
    settings = {"learning_rate": 1e-3, "weight_decay": 0.05, **settings}
    return TeViATrainingArguments(output_dir=str(tmp_path), use_cpu=True, **settings)


@pytest.fixture(params=[True, False], ids=["text", "vision-only"])
def model(request):
    return TeViAForSegmentation(tiny_config(use_text=request.param))


@pytest.fixture
def settings_of(model, tmp_path):
    """Name of each parameter -> rate and decay."""

    def settings_of(**settings):
        names = {id(parameter): name for name, parameter in model.named_parameters()}
        groups = build_optimizer(model, training_arguments(tmp_path, **settings)).param_groups
        return [(names[id(p)], (group["lr"], group["weight_decay"])) for group in groups for p in group["params"]]

    return settings_of


def test_every_trainable_parameter_is_optimised_once_and_no_frozen_one(model, settings_of):
    optimised = [name for name, _ in settings_of()]
    assert sorted(optimised) == sorted(name for name, p in model.named_parameters() if p.requires_grad)
    assert not any("text_encoder" in name for name in optimised)


def test_the_backbone_has_a_rate_of_its_own(settings_of):
    for name, (rate, _) in settings_of(backbone_learning_rate=1e-5):
        assert rate == (1e-5 if "backbone.model." in name else 1e-3), name


def test_without_a_rate_of_its_own_the_backbone_has_everybodys(settings_of):
    assert {rate for _, (rate, _) in settings_of()} == {1e-3}


def test_a_backbone_rate_of_zero_is_zero(settings_of):
    assert all(rate == 0 for name, (rate, _) in settings_of(backbone_learning_rate=0.0) if "backbone.model." in name)


def test_norms_and_biases_do_not_decay_and_matrices_do(settings_of):
    decays = {name: decay for name, (_, decay) in settings_of()}
    assert not any(decay for name, decay in decays.items() if name.endswith(".bias") or "norm" in name)
    weights = ["model.decoder.0.upsampling.conv1.weight", "decode_head.classifier.weight"]
    assert all(decays[name] == 0.05 for name in weights)
    assert {name for name, decay in decays.items() if decay} < {n for n in decays if "norm" not in n}


def test_the_optimiser_has_the_recipes_betas_and_epsilon(model, tmp_path):
    args = training_arguments(tmp_path, adam_beta1=0.8, adam_beta2=0.95, adam_epsilon=1e-7)
    optimizer = build_optimizer(model, args)
    assert isinstance(optimizer, torch.optim.AdamW)
    assert optimizer.defaults["betas"] == (0.8, 0.95) and optimizer.defaults["eps"] == 1e-7


# Rates by depth

VIT = {"hidden_size": 16, "num_hidden_layers": 3, "num_attention_heads": 2, "intermediate_size": 16}


def rates_of(tmp_path, model=None, backbone_config=None, **settings):
    """Name of each optimized parameter -> rate."""
    model = model or TeViAForSegmentation(tiny_config(backbone_config=backbone_config, decoder_channels=[8, 8, 8, 8]))
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    groups = build_optimizer(model, training_arguments(tmp_path, **settings)).param_groups
    return {names[id(p)]: group["lr"] for group in groups for p in group["params"]}


def test_the_rate_falls_by_the_factor_from_block_to_block_of_a_vit(tmp_path):
    config = ViTConfig(**VIT, image_size=32, patch_size=16)
    rates = rates_of(tmp_path, backbone_config=config, backbone_learning_rate=1e-4, layerwise_learning_rate_decay=0.5)
    encoder = {
        name.removeprefix("model.backbone.model."): rate for name, rate in rates.items() if ".backbone.m" in name
    }
    expected = {"embeddings.": 0.5**4, "layers.0.": 0.5**3, "layers.1.": 0.5**2, "layers.2.": 0.5, "layernorm.": 1}
    for name, rate in encoder.items():
        part = next(part for part in expected if part in name)
        # The final norm lies above the last hidden state.
        assert rate == pytest.approx(1e-4 * expected[part]), name
    assert all(rate == 1e-3 for name, rate in rates.items() if "pyramid" in name or "decoder" in name)


def test_the_stem_of_a_pyramid_learns_slowest_and_its_last_stage_fastest(tmp_path):
    rates = rates_of(tmp_path, TeViAForSegmentation(tiny_config()), layerwise_learning_rate_decay=0.5)
    stage = "model.backbone.model.encoder.stages.{}.layers.0.dwconv.weight"
    assert [rates[stage.format(index)] / 1e-3 for index in range(4)] == pytest.approx([0.0625, 0.125, 0.25, 0.5])
    assert rates["model.backbone.model.embeddings.patch_embeddings.weight"] == pytest.approx(1e-3 / 32)


@pytest.mark.parametrize(
    "config",
    [
        SwinConfig(embed_dim=8, depths=[1, 1, 1, 1], num_heads=[1, 1, 1, 1], window_size=2, image_size=64),
        MobileNetV2Config(depth_multiplier=0.1),
        ViTConfig(**VIT, image_size=32, patch_size=16),
    ],
    ids=lambda config: config.model_type,
)
def test_no_weight_lies_deeper_than_what_feeds_it(config):
    encoder = TeViAForSegmentation(tiny_config(backbone_config=config, decoder_channels=[8] * 4)).model.backbone.model
    depths = layer_depths(encoder)
    order = [depths[name] for name, _ in encoder.named_parameters() if name in depths]
    assert order == sorted(order, reverse=True) and order[0] > order[-1] == 1


def test_without_a_factor_no_dry_run_is_made(tmp_path, monkeypatch):
    monkeypatch.setattr("tevia_hf.training.optimization.layer_depths", lambda encoder: pytest.fail("dry run"))
    rates_of(tmp_path, TeViAForSegmentation(tiny_config()))


@pytest.mark.parametrize("factor", [0, 1.5, -0.5])
def test_a_factor_that_is_none_is_refused(tmp_path, factor):
    with pytest.raises(ValueError, match="layerwise_learning_rate_decay.*above 0, up to 1"):
        training_arguments(tmp_path, layerwise_learning_rate_decay=factor)


def test_a_frozen_vision_model_is_not_optimised_but_its_pyramid_is(tmp_path):
    config = ViTConfig(**VIT, image_size=32, patch_size=16)
    model = TeViAForSegmentation(tiny_config(backbone_config=config, decoder_channels=[8] * 4))
    model.freeze_backbone()
    rates = rates_of(tmp_path, model)
    assert not any("backbone.model." in name for name in rates)
    assert any("backbone.pyramid." in name for name in rates)


@pytest.mark.parametrize(
    ("settings", "fused"),
    [({}, True), ({"optim": "adamw_torch_fused"}, True), ({"optim": "adamw_torch"}, False)],
    ids=["by default", "on request", "not fused"],
)
def test_the_update_is_fused_unless_the_recipe_names_the_other(settings, fused, model, tmp_path):
    assert build_optimizer(model, training_arguments(tmp_path, **settings)).defaults["fused"] is fused


def test_the_update_is_not_fused_with_a_gradient_scaler(model, tmp_path):
    args = training_arguments(tmp_path)
    args.fp16 = True  # which only a GPU accepts when the arguments are built
    assert build_optimizer(model, args).defaults["fused"] is False


def test_a_fused_update_equals_one_that_is_not(tmp_path):
    """Also where weights are channels-last and the model holds an average: the kernel takes memory as it lies."""

    def trained(optim):
        torch.manual_seed(0)
        model = TeViAForSegmentation(tiny_config(text_dropout=0)).to(memory_format=torch.channels_last)
        args = training_arguments(tmp_path, optim=optim, weight_average_decay=0.9, learning_rate=1e-2)
        optimizer = build_optimizer(model, args)
        image, labels = torch.randn(2, 3, 32, 32), torch.randint(2, (2, 32, 32))
        for _ in range(3):
            optimizer.train()
            model(image, labels=labels).loss.backward()
            optimizer.step()
            optimizer.zero_grad()
        return model.state_dict()

    fused, plain = trained("adamw_torch_fused"), trained("adamw_torch")
    assert any(not weight.is_contiguous() for weight in plain.values())
    for name, weight in fused.items():
        torch.testing.assert_close(weight, plain[name], rtol=1e-3, atol=1e-4)


def test_adapters_learn_at_the_decoders_rate(tmp_path):
    model = with_lora(TeViAForSegmentation(tiny_config()), {"r": 2})
    rates = rates_of(tmp_path, model, backbone_learning_rate=1e-6, layerwise_learning_rate_decay=0.5)
    assert {rate for name, rate in rates.items() if ".lora_" in name} == {1e-3}
