"""The options of fine-tuning work in a run: frozen, adapted, checkpointed, half precision, by depth."""

import copy
import shutil

import pytest
import torch
import yaml
from tiny import tiny_config, tiny_processor, tiny_text_config, tiny_tokenizer, tiny_vision_config
from transformers import BertModel, ConvNextModel, MobileNetV2Config, SwinConfig

from tevia_hf import TeViAForSegmentation, build_trainer, load_segmentation_dataset
from tevia_hf.training.adapters import with_lora
from tevia_hf.training.arguments import TeViATrainingArguments, parse_recipe
from tevia_hf.training.recipe import load_model_and_processor, train_from_recipe

WINDOWS = {"embed_dim": 8, "depths": [1, 1, 1, 1], "num_heads": [1, 1, 1, 1], "window_size": 4, "image_size": 64}


@pytest.fixture(scope="module")
def images():
    return load_segmentation_dataset("synthetic", split="train", size=32, count=8)


def build(**settings):
    torch.manual_seed(0)
    return TeViAForSegmentation(tiny_config(**settings))


def train(model, images, folder, **settings):
    usual = {"max_steps": 4, "per_device_train_batch_size": 4, "learning_rate": 1e-2, "use_cpu": True}
    quiet = {"eval_strategy": "no", "save_strategy": "no", "load_best_model_at_end": False, "logging_strategy": "no"}
    args = TeViATrainingArguments(output_dir=str(folder), prototype_warmup_epochs=0, **usual | quiet | settings)
    trainer = build_trainer(model, tiny_processor(), args, images)
    trainer.train()
    return trainer


def moved(model, before):
    return {name for name, value in model.state_dict().items() if not torch.equal(value, before[name])}


def test_a_frozen_backbone_is_the_same_after_a_run_statistics_and_all(images, tmp_path):
    model = build(backbone_config=MobileNetV2Config(depth_multiplier=0.1), decoder_channels=[8] * 4)
    before = copy.deepcopy(model.state_dict())
    train(model, images, tmp_path, freeze_backbone=True)
    changed = moved(model, before)
    assert not any(name.startswith("model.backbone.") for name in changed)
    assert any(name.startswith("model.decoder.") for name in changed)


def test_a_run_in_half_precision_learns_and_keeps_prototypes_whole(images, tmp_path):
    model = build()
    before = copy.deepcopy(model.state_dict())
    train(model, images, tmp_path, bf16=True)
    assert all(value.isfinite().all() for value in model.state_dict().values())
    assert {p.dtype for p in model.prototype_memory.prototypes} == {torch.float32}
    assert {"decode_head.classifier.weight", "model.prototype_memory.prototype_0"} <= moved(model, before)


def test_a_checkpointed_run_has_the_losses_of_a_plain_one(images, tmp_path):
    settings = {"backbone_config": SwinConfig(**WINDOWS), "decoder_channels": [8] * 4}
    plain, saving = build(**settings), build(**settings)
    losses = []
    for model in (plain, saving):
        torch.manual_seed(0)  # of text dropout and drop path
        # A small rate, as AdamW makes much of gradients that are nearly zero.
        run = train(model, images, tmp_path, activation_checkpointing=model is saving, learning_rate=1e-4)
        losses.append(run.state.log_history[-1]["train_loss"])
    assert saving.is_activation_checkpointing and not plain.is_activation_checkpointing
    assert losses[1] == pytest.approx(losses[0], rel=1e-6)


def test_a_backbone_without_checkpointing_is_named(caplog, monkeypatch):
    monkeypatch.setattr("tevia_hf.pretrained_tevia.logger.propagate", True, raising=False)
    model = build()
    with caplog.at_level("WARNING"):
        model.activation_checkpointing_enable()
    assert model.is_activation_checkpointing
    assert "`convnext` has no activation checkpointing" in caplog.text


def test_texts_of_a_learning_text_encoder_are_not_cached(images, tmp_path):
    model = with_lora(build(), {"r": 2})
    collator = train(model, images, tmp_path).data_collator
    assert collator.text_features is None
    assert train(build(), images, tmp_path).data_collator.text_features is not None


@pytest.fixture(scope="module")
def encoders(tmp_path_factory):
    folder = tmp_path_factory.mktemp("encoders")
    torch.manual_seed(0)
    ConvNextModel(tiny_vision_config()).save_pretrained(folder / "vision")
    BertModel(tiny_text_config()).save_pretrained(folder / "text")
    tiny_tokenizer().save_pretrained(folder / "text")
    return {"vision_model": str(folder / "vision"), "text_model": str(folder / "text")}


@pytest.fixture
def recipe(encoders, tmp_path):
    """Path of a recipe with adapters in both encoders and rates by depth."""
    values = {
        **encoders,
        "config": {"max_text_length": 24},
        "image_processor": {"size": {"height": 32, "width": 32}},
        "lora": {"r": 2, "lora_alpha": 4},
        "layerwise_learning_rate_decay": 0.8,
        "max_train_samples": 8,
        "max_eval_samples": 2,
        "num_train_epochs": 1,
        "per_device_train_batch_size": 4,
        "use_cpu": True,
        "output_dir": str(tmp_path / "run"),
    }
    (tmp_path / "recipe.yaml").write_text(yaml.safe_dump(values))
    return tmp_path / "recipe.yaml"


def test_a_recipe_trains_adapters_and_ends_with_a_plain_model_of_the_same_masks(recipe, tmp_path):
    trainer = train_from_recipe(recipe)
    evaluated = trainer.state.log_history[-2]["eval_dice"]
    assert trainer.evaluate()["eval_dice"] == pytest.approx(evaluated)
    model = TeViAForSegmentation.from_pretrained(tmp_path / "run")
    assert not any("lora" in name or "modules_to_save" in name for name in model.state_dict())
    held = trainer.model.state_dict()
    assert all(torch.equal(value, held[name]) for name, value in model.state_dict().items())
    adapted, _ = load_model_and_processor(parse_recipe(recipe).model)
    untrained = adapted.merge_and_unload().state_dict()
    moved = {name for name, value in held.items() if not torch.equal(value, untrained[name])}
    assert {name.split(".")[1] for name in moved} >= {"backbone", "text_encoder", "decoder", "classifier"}
    saved = yaml.safe_load((tmp_path / "run" / "recipe.yaml").read_text())
    assert saved["lora"] == {"r": 2, "lora_alpha": 4}


def test_a_training_of_adapters_that_was_cut_ends_like_the_unbroken_one(recipe, tmp_path):
    words = ["--num_train_epochs", "2", "--save_total_limit", "3"]
    unbroken = train_from_recipe(recipe, words).model.state_dict()
    shutil.rmtree(tmp_path / "run" / "checkpoint-4")
    (tmp_path / "run" / "model.safetensors").unlink()
    resumed = train_from_recipe(recipe, [*words, "--resume"]).model.state_dict()
    assert all(torch.equal(value, unbroken[name]) for name, value in resumed.items())


def test_the_command_line_sets_adapters_too(recipe):
    assert parse_recipe(recipe, ["--lora", "{r: 3}"]).model.lora == "{r: 3}"
    model, _ = load_model_and_processor(parse_recipe(recipe, ["--lora", "{}"]).model)
    assert model.peft_config["default"].r == 8  # an empty mapping asks for adapters of default size


def test_a_trained_model_is_trained_further_with_new_adapters(recipe, tmp_path):
    train_from_recipe(recipe)
    whole = yaml.safe_load(recipe.read_text())
    for name in ("vision_model", "text_model", "config", "image_processor"):
        del whole[name]
    whole |= {"model_name_or_path": str(tmp_path / "run"), "output_dir": str(tmp_path / "more")}
    (tmp_path / "more.yaml").write_text(yaml.safe_dump(whole))
    train_from_recipe(tmp_path / "more.yaml")
    assert TeViAForSegmentation.from_pretrained(tmp_path / "more").config.use_text
