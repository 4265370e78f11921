"""Auxiliary heads: what they add to the loss, and that nothing of them is left in a model for use."""

import pytest
import torch
from safetensors.torch import load_file
from tiny import tiny_config

from tevia_hf import TeViAConfig, TeViAForSegmentation
from tevia_hf.inference.loading import weights_digest
from tevia_hf.loss_tevia import deep_supervision_loss, segmentation_loss

SIZE = (40, 70)


def model_of(**kwargs) -> TeViAForSegmentation:
    torch.manual_seed(0)
    model = TeViAForSegmentation(tiny_config(text_dropout=0.0, **kwargs))
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


def test_each_scale_is_supervised_on_the_image_it_belongs_to():
    model = model_of()
    inputs = inputs_of(model)
    maps = [
        torch.full((2, width, 64 // s, 96 // s), -1.0)
        for width, s in zip(model.model.widths, (32, 16, 8), strict=False)
    ]
    for head in model.auxiliary_heads:
        torch.nn.init.constant_(head.weight, 20 / head.weight[0].numel())
        torch.nn.init.zeros_(head.bias)
    maps[2][:, :, 1:2, 4:7] = 1.0  # rows 8 to 15, columns 32 to 55 of the image, at stride 8
    coarse, middle, fine = model.auxiliary_heads(tuple(maps), *SIZE)
    assert fine.shape == (2, 1, *SIZE)
    assert (coarse < 0).all() and (middle < 0).all()
    rows, columns = (fine[0, 0] > 0).nonzero(as_tuple=True)
    assert (rows.min(), rows.max(), columns.min(), columns.max()) == (8, 15, 32, 55)
    mean = torch.stack([segmentation_loss(x, inputs["labels"], model.config) for x in (coarse, middle, fine)]).mean()
    torch.testing.assert_close(deep_supervision_loss([coarse, middle, fine], inputs["labels"], model.config), mean)


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
