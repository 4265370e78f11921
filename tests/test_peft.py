"""`peft.get_peft_model` on the whole model: its adapters learn wherever they are, and what training moves beside them
is saved with them.
"""

import copy

import pytest
import torch
from safetensors.torch import load_file
from stock import BATCH, labelled, new_model, stock_trainer
from tiny import tiny_config, tiny_processor
from torch import nn
from transformers import ResNetConfig, SiglipVisionConfig

from tevia_hf import MomentumPrototypeCallback, TeViAForSegmentation, build_trainer
from tevia_hf.inference.loading import load_trained
from tevia_hf.training.adapters import with_lora
from tevia_hf.training.arguments import TeViATrainingArguments

peft = pytest.importorskip("peft")


@pytest.fixture(scope="module")
def inputs():
    rows = labelled(2)
    return tiny_processor()(rows["image"][:], rows["text"][:], rows["mask"][:])


def linear_layers_of(model, part) -> list[str]:
    return [name for name, module in model.named_modules() if isinstance(module, nn.Linear) and part in name]


def adapted(model=None, target_modules=("query", "value"), **settings):
    config = peft.LoraConfig(r=2, target_modules=list(target_modules), **settings)
    return peft.get_peft_model(new_model() if model is None else model, config)


def with_batch_norms():
    """A model whose vision model has batch norms too."""
    torch.manual_seed(0)
    vision = ResNetConfig(embedding_size=8, hidden_sizes=[8, 8, 16, 32], depths=[1, 1, 1, 1])
    return TeViAForSegmentation(tiny_config(backbone_config=vision, prototype_momentum=0.5))


def logits(model, inputs):
    with torch.no_grad():
        return model.eval()(**inputs).logits


def trained(model, folder, **settings):
    trainer = stock_trainer(model, labelled(), folder, learning_rate=0.05, **settings)
    trainer.train()
    return trainer


# Gradients


@pytest.mark.parametrize("part", ["text_encoder", "backbone", "decoder"])
def test_every_adapter_gets_a_gradient_wherever_it_is(part, inputs):
    base = new_model(text_dropout=0)
    model = adapted(base, linear_layers_of(base, part)).train()
    model(**inputs).loss.backward()
    learning = {name: p for name, p in model.named_parameters() if p.requires_grad}
    assert learning and all(".lora_" in name and part in name for name in learning)
    unused = {"pooler"}
    assert not [name for name, p in learning.items() if p.grad is None and not unused & set(name.split("."))]


def test_a_text_encoder_without_adapters_keeps_no_graph_and_no_dropout(inputs):
    model = adapted(target_modules=["pwconv1"]).train()
    assert not model.base_model.model.model.text_encoder.model.training
    assert not model.encode_text(inputs["input_ids"]).requires_grad


def test_an_adapted_text_encoder_trains_and_rests_with_the_model(inputs):
    model = adapted()
    assert model.train().base_model.model.model.text_encoder.model.training
    assert model.encode_text(inputs["input_ids"]).requires_grad
    assert not model.eval().base_model.model.model.text_encoder.model.training
    model.merge_and_unload()
    assert not model.train().base_model.model.model.text_encoder.learns


def test_training_moves_adapters_of_the_text_encoder(tmp_path):
    model = adapted()
    before = copy.deepcopy(model.state_dict())
    trained(model, tmp_path)
    moved = {
        name for name, value in model.state_dict().items() if name in before and not torch.equal(value, before[name])
    }
    assert any(".lora_B" in name and "text_encoder" in name for name in moved)


# Saving


@pytest.mark.parametrize("build", [new_model, with_batch_norms])
@pytest.mark.parametrize("saved", [None, ["decode_head"], ["decode_head", "prototype_memory"], ["decoder.0"]])
def test_an_adapter_brings_its_prototypes_and_statistics_to_another_copy_of_the_model(build, saved, inputs, tmp_path):
    model = adapted(build(), modules_to_save=saved)
    trained(model, tmp_path)
    assert model.prototype_memory.is_active and model.prototype_memory.count > 0
    model.save_pretrained(tmp_path / "adapter")
    loaded = peft.PeftModel.from_pretrained(build(), tmp_path / "adapter")
    assert loaded.prototype_memory.is_active and "prototype_memory" in loaded.peft_config["default"].modules_to_save
    with loaded.disable_adapter():
        assert not loaded.prototype_memory.is_active  # the base model's own
    torch.testing.assert_close(logits(loaded, inputs), logits(model, inputs), atol=1e-6, rtol=0)
    assert not torch.allclose(logits(model, inputs), logits(build(), inputs), atol=1e-3)


def test_a_merged_model_is_a_plain_one_with_the_prototypes(inputs, tmp_path):
    model = adapted()
    trained(model, tmp_path)
    before = logits(model, inputs)
    merged = model.merge_and_unload()
    torch.testing.assert_close(logits(merged, inputs), before, atol=1e-5, rtol=1e-5)
    assert merged.state_dict().keys() == new_model().state_dict().keys()
    merged.save_pretrained(tmp_path / "merged")
    loaded = TeViAForSegmentation.from_pretrained(tmp_path / "merged")
    torch.testing.assert_close(logits(loaded, inputs), before, atol=1e-5, rtol=1e-5)
    assert loaded.prototype_memory.is_active


def test_a_loop_of_ones_own_leaves_the_frozen_statistics(inputs, tmp_path):
    model = adapted(with_batch_norms()).train()
    before = copy.deepcopy(dict(model.named_buffers()))
    optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=0.1)
    for _ in range(2):
        model(**inputs).loss.backward()
        optimizer.step()
    assert all(torch.equal(value, before[name]) for name, value in model.named_buffers())
    model.save_pretrained(tmp_path)
    loaded = peft.PeftModel.from_pretrained(with_batch_norms(), tmp_path)
    torch.testing.assert_close(logits(loaded, inputs), logits(model, inputs), atol=1e-6, rtol=0)


def test_statistics_move_where_the_norms_learn(inputs):
    model = new_model().train()
    before = copy.deepcopy(dict(model.named_buffers()))
    model(**inputs)
    assert any(not torch.equal(value, before[name]) for name, value in model.named_buffers())


@pytest.mark.parametrize("stopped_at", [4, 7], ids=["collecting", "active"])
def test_a_resumed_run_of_a_peft_model_ends_like_the_unbroken_one(stopped_at, tmp_path):
    settings = {"save_strategy": "steps", "save_steps": stopped_at}
    ours = trained(adapted(), tmp_path, **settings)
    resumed = stock_trainer(adapted(), labelled(), tmp_path / "resumed", learning_rate=0.05)
    resumed.train(resume_from_checkpoint=str(tmp_path / f"checkpoint-{stopped_at}"))
    one, other = ours.model.state_dict(), resumed.model.state_dict()
    carried = [name for name in one if "original_module" not in name]
    assert [name for name in carried if not torch.equal(one[name], other[name])] == []
    assert any("prototype_memory.modules_to_save" in name for name in carried)


def test_the_best_adapter_comes_back_with_its_prototypes(tmp_path):
    per_epoch = {"eval_strategy": "epoch", "save_strategy": "epoch", "load_best_model_at_end": True}
    scores = iter([0.1, 0.2, 0.9, 0.3])
    trainer = stock_trainer(
        adapted(), labelled(), tmp_path, num_train_epochs=4, metric_for_best_model="dice", **per_epoch,
        extra={"eval_dataset": labelled(2), "compute_metrics": lambda prediction: {"dice": next(scores)}},
    )  # fmt: skip
    trainer.train()
    saved = load_file(tmp_path / "checkpoint-9" / "adapter_model.safetensors")
    (name,) = [name for name in saved if name.endswith("prototype_memory.prototype_0")]
    assert torch.equal(trainer.model.prototype_memory.prototypes[0], saved[name])


# `with_lora`

CONVOLUTIONS = ResNetConfig(embedding_size=8, hidden_sizes=[8, 8, 16, 32], depths=[1, 1, 1, 1])
WITHOUT_EFFECT = SiglipVisionConfig(
    hidden_size=32, intermediate_size=32, num_hidden_layers=1, num_attention_heads=2, image_size=64
)
BACKBONES = pytest.mark.parametrize(
    "settings",
    [{}, {"backbone_config": CONVOLUTIONS}, {"backbone_config": WITHOUT_EFFECT, "decoder_channels": [8] * 4}],
)


@BACKBONES
def test_of_the_encoders_exactly_the_adapters_learn_and_all_else_as_before(settings, inputs):
    plain = new_model(**settings, text_dropout=0.5)
    outside = {name for name, p in plain.named_parameters() if p.requires_grad and ".model." not in name}
    before = logits(plain, inputs)
    model = with_lora(plain, {"r": 2})
    assert torch.equal(logits(model, inputs), before)
    learning = {name.removeprefix("base_model.model.") for name, p in model.named_parameters() if p.requires_grad}
    adapters = {name for name in learning if ".lora_" in name}
    assert {name.split(".")[1] for name in adapters} == {"backbone", "text_encoder"}
    assert {name.replace(".modules_to_save.default", "") for name in learning - adapters} == outside
    model.train()(**inputs).loss.backward()
    assert [name for name, p in model.named_parameters() if p.requires_grad and p.grad is None] == []


def test_the_vector_for_no_text_learns_and_comes_back(inputs, tmp_path):
    def run(folder, checkpoint=None):
        torch.manual_seed(0)
        model = with_lora(new_model(text_dropout=0.5), {"r": 2})
        trainer = stock_trainer(model, labelled(), folder, learning_rate=0.05, save_strategy="epoch")
        trainer.train(resume_from_checkpoint=checkpoint)
        return model

    model, before = run(tmp_path / "whole"), new_model().model.null_text
    resumed = run(tmp_path / "resumed", str(tmp_path / "whole" / "checkpoint-3"))
    loaded = peft.PeftModel.from_pretrained(new_model(), tmp_path / "whole" / "checkpoint-9")
    expected = logits(model, {"pixel_values": inputs["pixel_values"]})
    torch.testing.assert_close(logits(loaded, {"pixel_values": inputs["pixel_values"]}), expected)
    merged = model.merge_and_unload()
    assert not torch.allclose(merged.model.null_text, before)
    for other in (resumed, loaded):
        assert torch.equal(other.get_base_model().model.null_text, merged.model.null_text)
    assert merged.state_dict().keys() == new_model().state_dict().keys()


def test_layers_may_be_chosen_as_peft_chooses_them():
    base = new_model()
    for layer in [part for part in base.model.text_encoder.model.modules() if type(part) is nn.Linear]:
        layer.__class__ = type("Own", (nn.Linear,), {})  # of which none can be adapted
    settings = {"r": 2, "exclude_modules": ".*text_encoder.*", "modules_to_save": ["model.backbone.model.embeddings"]}
    model = with_lora(base, settings)
    learning = {name for name, parameter in model.named_parameters() if parameter.requires_grad}
    adapters = {name for name in learning if ".lora_" in name}
    assert adapters and not any("text_encoder" in name for name in adapters)
    assert {name.split(".")[3] for name in learning - adapters if "modules_to_save" in name} >= {"decoder", "backbone"}
    assert any("embeddings" in name for name in learning - adapters)


def test_a_model_without_text_gets_adapters_in_its_vision_model():
    model = with_lora(new_model(use_text=False), {"r": 2})
    assert any(".lora_A" in name for name, _ in model.named_parameters())


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"rank": 2}, r"no \['rank'\]: usual are r, lora_alpha"),
        ({"target_modules": ["nowhere"]}, "No modules were targeted|nowhere"),
    ],
)
def test_settings_that_do_not_fit_are_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        with_lora(new_model(), settings)


# build_trainer


def arguments(folder) -> TeViATrainingArguments:
    return TeViATrainingArguments(
        output_dir=str(folder), num_train_epochs=3, per_device_train_batch_size=BATCH, learning_rate=0.05, use_cpu=True,
        eval_strategy="no", save_strategy="no", load_best_model_at_end=False, disable_tqdm=True,
    )  # fmt: skip


@pytest.mark.parametrize(("target", "is_cached"), [("query", False), ("pwconv1", True)])
def test_build_trainer_trains_a_peft_model_and_caches_texts_only_while_they_stay_the_same(target, is_cached, tmp_path):
    model = adapted(target_modules=[target])
    trainer = build_trainer(model, tiny_processor(), arguments(tmp_path), labelled())
    assert (trainer.data_collator.text_features is not None) == is_cached
    before = copy.deepcopy(model.state_dict())
    trainer.train()
    moved = [name for name, p in model.named_parameters() if p.requires_grad and not torch.equal(p, before[name])]
    assert any(".lora_B" in name for name in moved) and model.prototype_memory.is_active


# Other routes


def test_adding_an_adapter_to_the_whole_model_is_refused_with_the_calls_to_use():
    model = new_model()
    with pytest.raises(ValueError, match=r"call `peft.get_peft_model\(model, .*`lora: "):
        model.add_adapter(peft.LoraConfig(r=2, target_modules=["query"]))
    assert not any(".lora_" in name for name, _ in model.named_parameters())


def test_loading_an_adapter_as_a_model_is_refused_with_the_call_to_use(tmp_path):
    new_model().save_pretrained(tmp_path / "base")
    model = adapted(TeViAForSegmentation.from_pretrained(tmp_path / "base"))
    model.save_pretrained(tmp_path / "adapter")
    with pytest.raises(ValueError, match=r"call `peft.PeftModel.from_pretrained\(model, folder\)`"):
        TeViAForSegmentation.from_pretrained(tmp_path / "adapter")
    with pytest.raises(ValueError, match=r"adapter holds adapters and no whole model.*`--resume`, or .*PeftModel"):
        load_trained(str(tmp_path / "adapter"))


def test_a_model_without_text_takes_adapters_too(tmp_path):
    model = adapted(new_model(use_text=False), ["pwconv1"])
    trained(model, tmp_path)
    assert model.prototype_memory is None and model.peft_config["default"].modules_to_save is None


def test_a_callback_added_later_makes_the_prototypes_part_of_what_is_saved(inputs, tmp_path):
    model = adapted()
    trainer = stock_trainer(model, labelled(), tmp_path, [])
    trainer.add_callback(MomentumPrototypeCallback())
    trainer.train()
    model.save_pretrained(tmp_path / "adapter")
    loaded = peft.PeftModel.from_pretrained(new_model(), tmp_path / "adapter")
    torch.testing.assert_close(logits(loaded, inputs), logits(model, inputs), atol=1e-6, rtol=0)
