"""Adapters start as nothing, learn alone, stay with the model, and can be saved alone or worked into the weights."""

import copy
import sys

import pytest
import torch
from tiny import tiny_config, tiny_processor
from transformers import ResNetConfig, SiglipVisionConfig

from tevia_hf import TeViAForSegmentation, build_trainer, load_segmentation_dataset
from tevia_hf.training.arguments import TeViATrainingArguments

pytest.importorskip("peft")

IDS = torch.tensor([[2, 7, 13, 3], [2, 9, 10, 3]])
PICTURES = torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))
BACKBONES = {
    "linear layers": None,
    "convolutions alone": ResNetConfig(embedding_size=8, hidden_sizes=[8, 8, 16, 32], depths=[1, 1, 1, 1]),
    "layers without effect": SiglipVisionConfig(
        hidden_size=32, intermediate_size=32, num_hidden_layers=1, num_attention_heads=2, image_size=64
    ),
}


BACKBONES["wider layers"] = SiglipVisionConfig(**{**BACKBONES["layers without effect"].to_dict(), "hidden_size": 64})


def build(kind="linear layers"):
    torch.manual_seed(0)
    settings = {"backbone_config": BACKBONES[kind]} if BACKBONES[kind] else {}
    return TeViAForSegmentation(tiny_config(**settings, decoder_channels=[16, 8, 8, 8])).eval()


def logits(model):
    with torch.no_grad():
        return model.eval()(PICTURES, IDS).logits


def labels():
    labels = torch.zeros(2, 64, 64, dtype=torch.long)
    labels[:, 10:30, 10:30] = 1
    return labels


def trained(model):
    """With adapters that do something, as after training."""
    torch.manual_seed(1)
    for name, parameter in model.named_parameters():
        if ".lora_B" in name:
            torch.nn.init.normal_(parameter, std=0.5)
    return model


def learning(model):
    return [name for name, parameter in model.named_parameters() if parameter.requires_grad]


def in_encoders(names):
    return [name for name in names if "backbone.model." in name or "text_encoder." in name]


@pytest.fixture(params=["linear layers", "convolutions alone", "layers without effect"])
def adapted(request):
    model = build(request.param)
    model.add_lora(vision={"r": 2}, text={"r": 2, "lora_alpha": 4})
    return model


def test_adapters_change_nothing_at_first(adapted, request):
    plain = build(request.node.callspec.params["adapted"])
    assert torch.equal(logits(adapted), logits(plain))
    assert not torch.equal(logits(trained(adapted)), logits(plain))


def test_of_the_encoders_exactly_the_adapters_learn_and_each_gets_a_gradient(adapted):
    names = in_encoders(learning(adapted))
    assert names and all(".lora_" in name for name in names)
    assert any("text_encoder." in name for name in names) and any("backbone." in name for name in names)
    trained(adapted).train()(PICTURES, IDS, labels=labels()).loss.backward()
    without = [name for name, p in adapted.named_parameters() if p.requires_grad and p.grad is None]
    assert without == []
    text = [p.grad for name, p in adapted.named_parameters() if "text_encoder" in name and ".lora_A" in name]
    assert all(gradient.abs().max() > 0 for gradient in text)


def test_save_and_load_keep_the_adapters_and_what_learns(adapted, tmp_path):
    trained(adapted).save_pretrained(tmp_path)
    loaded = TeViAForSegmentation.from_pretrained(tmp_path)
    assert torch.equal(logits(loaded), logits(adapted))
    assert learning(loaded) == learning(adapted)
    assert loaded.config.text_lora["r"] == 2 and loaded.config.text_lora["lora_alpha"] == 4
    # As the rule for the layers may change, those that were adapted are written down.
    assert loaded.config.backbone_lora.keys() == {"r", "target_modules"}


def test_merged_adapters_leave_a_plain_model_of_the_same_masks(adapted, request, tmp_path):
    before = logits(trained(adapted))
    adapted.merge_lora()
    torch.testing.assert_close(logits(adapted), before, atol=1e-5, rtol=1e-5)
    plain = build(request.node.callspec.params["adapted"])
    assert adapted.state_dict().keys() == plain.state_dict().keys()
    assert learning(adapted) == learning(plain)
    adapted.save_pretrained(tmp_path)
    torch.testing.assert_close(logits(TeViAForSegmentation.from_pretrained(tmp_path)), before, atol=1e-5, rtol=1e-5)
    assert "lora" not in (tmp_path / "config.json").read_text().replace('_lora": null', "")


@pytest.mark.parametrize("half", ["vision", "text"])
def test_an_adapter_alone_is_saved_and_added_to_another_model(half, tmp_path):
    model = build("convolutions alone")
    model.add_lora(**{half: {"r": 2, "lora_alpha": 5}})
    encoder = model.model.backbone if half == "vision" else model.model.text_encoder
    trained(model)
    encoder.model.save_pretrained(tmp_path / "adapter")
    other = build("convolutions alone")
    other.add_lora(**{half: str(tmp_path / "adapter")})
    assert torch.equal(logits(other), logits(model))
    assert learning(other) == learning(model)
    other.save_pretrained(tmp_path / "whole")
    assert torch.equal(logits(TeViAForSegmentation.from_pretrained(tmp_path / "whole")), logits(model))


def test_a_model_built_from_a_config_with_adapters_starts_them_at_nothing():
    model = TeViAForSegmentation(tiny_config(backbone_lora={"r": 2}, text_lora={"r": 2}))
    adapters = {name: p for name, p in model.named_parameters() if ".lora_" in name}
    assert adapters and all(p.any() == (".lora_A" in name) for name, p in adapters.items())


def test_an_adapted_text_encoder_trains_and_rests_with_the_model(adapted):
    assert adapted.train().model.text_encoder.model.training
    assert not adapted.eval().model.text_encoder.model.training


def test_a_merged_text_encoder_reads_without_dropout(adapted):
    adapted.train().merge_lora()
    assert not adapted.model.text_encoder.model.training
    assert torch.equal(adapted.encode_text(IDS), adapted.encode_text(IDS))


def test_beside_adapters_no_batch_statistic_moves_until_they_are_merged():
    model = build("convolutions alone").train()
    model.add_lora(vision={"r": 2})
    before = copy.deepcopy(dict(model.model.backbone.named_buffers()))
    model(PICTURES, IDS)
    model.eval().train()(PICTURES, IDS)
    assert before and all(torch.equal(value, before[name]) for name, value in model.model.backbone.named_buffers())
    model.merge_lora()
    model(PICTURES, IDS)
    moved = dict(model.model.backbone.named_buffers())
    assert any(not torch.equal(moved[name], before[name]) for name in moved)


def test_an_adapter_alone_gives_the_trained_maps_back(tmp_path):
    model = build("convolutions alone")
    model.add_lora(vision={"r": 2})
    optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=0.05)
    for _ in range(3):
        model.train()(PICTURES, IDS, labels=labels()).loss.backward()
        optimizer.step()
    model.model.backbone.model.save_pretrained(tmp_path)
    other = build("convolutions alone")
    other.add_lora(vision=str(tmp_path))
    with torch.no_grad():
        maps = [m.eval().model.backbone(PICTURES) for m in (model, other, build("convolutions alone"))]
    assert all(torch.equal(trained, again) for trained, again in zip(maps[0], maps[1], strict=True))
    assert not torch.equal(maps[0][3], maps[2][3])


def test_what_is_frozen_stays_so_with_adapters_in_it():
    model = build()
    model.add_lora(vision={"r": 2, "lora_dropout": 0.5})
    model.freeze_backbone()
    assert not any("backbone.model." in name for name in learning(model.train()))
    assert not model.model.backbone.model.training


def test_adapters_named_with_the_encoders_are_added_to_their_weights(tmp_path):
    plain = build()
    plain.model.backbone.model.save_pretrained(tmp_path / "vision")
    plain.model.text_encoder.model.save_pretrained(tmp_path / "text")
    model = TeViAForSegmentation.from_vision_text_pretrained(
        str(tmp_path / "vision"), str(tmp_path / "text"), decoder_channels=[16, 8, 8, 8], max_text_length=24,
        backbone_lora={"r": 2}, text_lora={"r": 2},
    )  # fmt: skip
    names = in_encoders(learning(model))
    assert {name.split(".")[1] for name in names} == {"backbone", "text_encoder"}
    assert all(".lora_" in name for name in names)
    with torch.no_grad():
        assert torch.equal(model.eval().model.backbone(PICTURES)[3], plain.model.backbone(PICTURES)[3])
    trained(model).save_pretrained(tmp_path / "whole")
    loaded, report = TeViAForSegmentation.from_pretrained(tmp_path / "whole", output_loading_info=True)
    assert not any(report.values()) and torch.equal(logits(loaded), logits(model))


def test_adapters_are_added_once(adapted):
    with pytest.raises(ValueError, match="has adapters already, `backbone_lora`: call `merge_lora"):
        adapted.add_lora(vision={"r": 4})


def test_a_model_without_text_has_no_text_adapter_and_is_left_as_it_was():
    model = TeViAForSegmentation(tiny_config(use_text=False))
    with pytest.raises(ValueError, match="`use_text=False` has no text encoder to adapt"):
        model.add_lora(vision={"r": 2}, text={"r": 2})
    assert model.config.backbone_lora is None and not any(".lora_" in name for name in learning(model))


@pytest.mark.parametrize("half", ["vision", "text"])
@pytest.mark.parametrize(
    ("adapter", "message"),
    [
        ({"rank": 2}, r"no \['rank'\]: usual are r, lora_alpha"),
        ({"r": 2, "target_modules": ["nowhere"]}, "does not fit the .*nowhere"),
        ({"r": 2, "target_modules": "all-linear-layers"}, "does not fit the"),
        ({"r": 2, "target_modules": r".*"}, "does not fit the"),
        ({"r": 2, "bias": "all"}, "learn alone here: leave bias out"),
        ({"r": 2, "modules_to_save": ["norm"], "trainable_token_indices": [1]}, "modules_to_save, trainable_token"),
    ],
)
def test_an_adapter_that_does_not_fit_leaves_the_model_as_it_was(half, adapter, message):
    model, plain = build("layers without effect"), build("layers without effect")
    with pytest.raises(ValueError, match=message):
        model.add_lora(**{half: adapter})
    assert model.state_dict().keys() == plain.state_dict().keys() and learning(model) == learning(plain)
    model.add_lora(**{half: {"r": 2}})
    assert any(".lora_" in name for name in learning(model))


def test_an_adapter_of_another_kind_is_refused(tmp_path):
    from peft import LoHaConfig

    LoHaConfig(r=2, target_modules=["fc1"]).save_pretrained(tmp_path)
    with pytest.raises(ValueError, match="of the kind .*LOHA, not LORA"):
        build("layers without effect").add_lora(vision=str(tmp_path))


@pytest.mark.parametrize("other", ["convolutions alone", "wider layers"])
def test_an_adapter_of_another_model_is_refused_and_leaves_no_trace(other, tmp_path):
    donor = build(other)
    donor.add_lora(vision={"r": 2})
    donor.model.backbone.model.save_pretrained(tmp_path)
    model, plain = build("layers without effect"), build("layers without effect")
    with pytest.raises(ValueError, match="does not fit the"):
        model.add_lora(vision=str(tmp_path))
    assert torch.equal(logits(model), logits(plain)) and learning(model) == learning(plain)


def test_a_missing_peft_is_named_with_what_to_type(monkeypatch):
    monkeypatch.setitem(sys.modules, "peft", None)
    with pytest.raises(ImportError, match=r"pip install peft"):
        build().add_lora(vision={"r": 2})


def test_training_moves_the_adapters_of_both_encoders_and_none_of_their_weights(tmp_path):
    model = build()
    model.add_lora(vision={"r": 2}, text={"r": 2})
    before = copy.deepcopy(model.state_dict())
    pictures = load_segmentation_dataset("synthetic", split="train", size=32, count=8)
    args = TeViATrainingArguments(
        output_dir=str(tmp_path), max_steps=2, per_device_train_batch_size=4, learning_rate=0.1, use_cpu=True,
        eval_strategy="no", save_strategy="no", load_best_model_at_end=False,
    )  # fmt: skip
    build_trainer(model, tiny_processor(), args, pictures).train()
    moved = {name for name, p in model.named_parameters() if not torch.equal(p, before[name])}
    assert {name for name in in_encoders(moved) if ".lora_" not in name} == set()
    assert {name for name in in_encoders(learning(model)) if ".lora_B" in name} <= moved
