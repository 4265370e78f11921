"""Auxiliary heads: their part of the loss, and their absence from saved models."""

import math

import pytest
import torch
from safetensors.torch import load_file
from stock import labelled, new_model
from tiny import tiny_config, tiny_processor
from transformers import TrainerCallback

from tevia_hf import TeViAConfig, TeViAForSegmentation, build_trainer
from tevia_hf.inference.identity import weights_digest
from tevia_hf.loss_tevia import deep_supervision_loss
from tevia_hf.training.arguments import TeViATrainingArguments

SIZE = (40, 70)


def model_of(**kwargs) -> TeViAForSegmentation:
    torch.manual_seed(0)
    model = TeViAForSegmentation(tiny_config(**{"text_dropout": 0.0, "auxiliary_loss_weight": 0.4, **kwargs}))
    model.add_auxiliary_heads()
    return model.train()


def inputs_of(model) -> dict[str, torch.Tensor]:
    torch.manual_seed(1)
    labels = torch.zeros(2, *SIZE, dtype=torch.long)
    labels[:, 5:20, 30:60] = 1
    inputs = {"pixel_values": torch.randn(2, 3, *SIZE), "labels": labels}
    return inputs | {"input_ids": torch.randint(5, 20, (2, 7))} if model.config.use_text else inputs


@pytest.mark.parametrize("use_text", [True, False])
def test_the_loss_is_the_weighted_sum_of_its_parts(use_text):
    model = model_of(use_text=use_text, auxiliary_loss_weight=0.3, alignment_loss_weight=0.2)
    outputs = model(**inputs_of(model))
    expected = outputs.segmentation_loss + 0.3 * outputs.auxiliary_loss
    if use_text:
        expected = expected + 0.2 * outputs.alignment_loss
    torch.testing.assert_close(outputs.loss, expected)


def test_a_coarse_mask_is_compared_with_the_lesion_share_of_each_cell():
    labels = torch.zeros(1, 32, 64, dtype=torch.long)
    labels[:, :16, :24] = 1  # all of the first place at stride 16, half of the second
    labels[:, 16:, 32:] = 255
    right = torch.full((1, 1, 2, 4), -30.0)
    right[0, 0, 0, :2] = torch.tensor([30.0, 0.0])
    config, ignored = tiny_config(), right.clone()
    ignored[0, 0, 1, 2:] = 30.0  # both places are ignored
    best = deep_supervision_loss([right], labels, config)
    torch.testing.assert_close(deep_supervision_loss([ignored], labels, config), best)
    # Six cells are not ignored, one of them is half a lesion; the Dice of soft targets is below 1.
    expected = 1 - 2 * 1.25 / (1.5 + 1.5) + math.log(2) / 6
    assert best.item() == pytest.approx(expected, abs=1e-5)
    for row, column, value in ((0, 0, -30.0), (0, 1, 3.0), (0, 2, 0.0), (1, 0, 0.0)):
        worse = right.clone()
        worse[0, 0, row, column] = value
        assert deep_supervision_loss([worse], labels, config) > best


def test_coarse_masks_of_several_labels_are_compared_label_by_label():
    labels = torch.zeros(1, 32, 32, dtype=torch.long)
    labels[:, :16, :16], labels[:, :16, 16:] = 1, 2
    logits = torch.zeros(1, 3, 2, 2)
    for label, row, column in ((1, 0, 0), (2, 0, 1), (0, 1, 0), (0, 1, 1)):
        logits[0, label, row, column] = 30.0
    config = tiny_config(num_labels=3)
    assert deep_supervision_loss([logits], labels, config) == pytest.approx(0.0, abs=1e-5)
    assert deep_supervision_loss([logits[:, [0, 2, 1]]], labels, config) > 1


def test_each_mask_covers_its_part_of_the_padded_image():
    model = model_of()
    inputs = inputs_of(model)  # 40 x 70, padded to 64 x 96
    masks = model.auxiliary_heads(model.model(torch.zeros(2, 3, 64, 96), output_hidden_states=True).hidden_states[1:])
    assert [tuple(mask.shape[-2:]) for mask in masks] == [(4, 6), (8, 12), (16, 24)]
    padded = torch.nn.functional.pad(inputs["labels"], (0, 26, 0, 24), value=255)
    outputs = model.eval()(**inputs, output_hidden_states=True)
    expected = deep_supervision_loss(model.auxiliary_heads(outputs.hidden_states[1:]), padded, model.config)
    for norm in (part for part in model.modules() if isinstance(part, torch.nn.BatchNorm2d)):
        norm.eval()
    model.training = True
    torch.testing.assert_close(model(**inputs).auxiliary_loss, expected)


def test_every_scale_of_the_decoder_learns_from_its_head():
    model = model_of(alignment_loss_weight=0.0)
    model(**inputs_of(model)).auxiliary_loss.backward()
    for block, head in zip(model.model.decoder, model.auxiliary_heads, strict=True):
        assert head.weight.grad.abs().sum() > 0
        assert block.cross_attention.attention.in_proj_weight.grad.abs().sum() > 0


def test_evaluation_computes_no_auxiliary_loss():
    model = model_of().eval()
    outputs = model(**inputs_of(model))
    assert outputs.auxiliary_loss is None
    torch.testing.assert_close(outputs.loss, outputs.segmentation_loss + 0.1 * outputs.alignment_loss)


def test_a_saved_model_holds_no_auxiliary_heads(tmp_path):
    model = model_of()
    model.save_pretrained(tmp_path)
    assert not [name for name in load_file(tmp_path / "model.safetensors") if "auxiliary" in name]
    loaded, report = TeViAForSegmentation.from_pretrained(tmp_path, output_loading_info=True)
    assert loaded.auxiliary_heads is None and not report["missing_keys"]
    assert weights_digest(loaded) == weights_digest(model)


def test_without_a_weight_there_are_no_heads():
    assert model_of(auxiliary_loss_weight=0.0).auxiliary_heads is None
    assert TeViAConfig.published().auxiliary_loss_weight == 0


def test_heads_are_added_once_and_beside_the_model():
    model = model_of().to(torch.float64)
    heads = model.auxiliary_heads
    model.add_auxiliary_heads()
    assert model.auxiliary_heads is heads and heads[0].weight.dtype == torch.float64


def test_heads_give_as_many_labels_as_the_model():
    model = model_of(num_labels=3)
    assert [head.out_channels for head in model.auxiliary_heads] == [3, 3, 3]
    assert model(**inputs_of(model)).auxiliary_loss.isfinite()


def test_a_trainer_supervises_every_training_and_leaves_a_model_without_heads(tmp_path):
    class Heads(TrainerCallback):
        def __init__(self):
            self.weights = []

        def on_step_end(self, args, state, control, model=None, **kwargs):
            self.weights.append(model.auxiliary_heads[0].weight.detach().clone())

    heads, model = Heads(), new_model(auxiliary_loss_weight=0.4)
    settings = {"output_dir": str(tmp_path), "num_train_epochs": 1, "per_device_train_batch_size": 2}
    args = TeViATrainingArguments(
        **settings, use_cpu=True, eval_strategy="no", save_strategy="no", load_best_model_at_end=False, report_to=[]
    )
    trainer = build_trainer(model, tiny_processor(), args, labelled(4), callbacks=[heads])
    for length in (2, 4):
        trainer.train()
        assert model.auxiliary_heads is None
        assert len(heads.weights) == length and not torch.equal(*heads.weights[-2:])
    assert all("auxiliary_loss" in record for record in trainer.state.log_history if "loss" in record)
