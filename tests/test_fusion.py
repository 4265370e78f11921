"""The copy of a model for inference: the same logits, whatever is done to the model."""

import threading

import pytest
import torch
from contract import build, images, texts
from tiny import tiny_config, tiny_processor, tiny_text_config
from torch import nn
from transformers import MobileNetV2Config

from tevia_hf import Predictor, TeViAForSegmentation
from tevia_hf.fusion_tevia import foldable_pairs, fused_if_possible
from tevia_hf.inference.predict import predict_masks
from tevia_hf.training.adapters import with_lora


@pytest.fixture
def model():
    return build(MobileNetV2Config(depth_multiplier=0.1), tiny_text_config())


def logits(model, **inputs):
    with torch.no_grad():
        return model(images(64, 96), texts(6), **inputs).logits


def close(one, other):
    return torch.allclose(one, other, atol=1e-4)


def test_a_fused_model_is_neither_trained_nor_saved(model, tmp_path):
    fused = model.fuse_for_inference()
    assert fused.is_fused and not model.is_fused and not fused.training
    with pytest.raises(ValueError, match="train the model that it was made of"):
        fused.train()
    with pytest.raises(ValueError, match="save the model that it was made of"):
        fused.save_pretrained(tmp_path)
    model.train().save_pretrained(tmp_path)


def test_the_copy_can_be_moved_and_leaves_the_model_alone(model):
    before = logits(model)
    fused = model.fuse_for_inference()
    fused.to(torch.float64).requires_grad_(False)
    assert model.dtype == torch.float32 and torch.equal(logits(model), before)
    assert any(parameter.requires_grad for parameter in model.parameters())
    assert fused.fuse_for_inference() is fused


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_batch_norms_are_folded_in_other_types(model, dtype):
    model, x = model.to(dtype), images(64, 96).to(dtype)
    with torch.no_grad():
        fused, plain = (each(x, texts(6)).logits for each in (model.fuse_for_inference(), model))
    assert fused.dtype == dtype
    assert (fused - plain).abs().max() / plain.abs().max() < (1e-6 if dtype == torch.float64 else 0.1)


def test_several_labels_and_models_without_text_are_fused():
    for config in (tiny_config(num_labels=3), tiny_config(use_text=False)):
        model = TeViAForSegmentation(config).eval()
        inputs = {} if config.use_text is False else {"input_ids": texts(6)}
        with torch.no_grad():
            expected, fused = model(images(64, 64), **inputs), model.fuse_for_inference()(images(64, 64), **inputs)
        torch.testing.assert_close(fused.logits, expected.logits, atol=1e-5, rtol=1e-4)


def test_attentions_and_hidden_states_are_those_of_the_model(model):
    options = {"output_attentions": True, "output_hidden_states": True}
    with torch.no_grad():
        ours, theirs = (each(images(64, 64), texts(6), **options) for each in (model.fuse_for_inference(), model))
    torch.testing.assert_close(ours.attentions, theirs.attentions, atol=1e-4, rtol=1e-3)
    torch.testing.assert_close(ours.hidden_states, theirs.hidden_states, atol=1e-4, rtol=1e-3)


class Shared(nn.Module):
    """A convolution whose output a batch norm takes, and something else."""

    def __init__(self, reader):
        super().__init__()
        self.conv, self.norm, self.reader = nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4), reader

    def forward(self, x):
        x = self.conv(x)
        self.logits = self.norm(x) + self.reader(x)
        return self


@pytest.mark.parametrize(("reader", "count"), [(nn.ReLU(), 0), (lambda x: 0, 1)])
def test_a_convolution_that_others_read_keeps_its_norm(reader, count):
    pairs, _ = foldable_pairs(Shared(reader).eval(), images(8, 8))
    assert len(pairs) == count


class Unseen(nn.Module):
    """A convolution and its norm; code that is no module reads the output between them."""

    def __init__(self, conv, norm):
        super().__init__()
        self.conv, self.norm = conv, norm

    def forward(self, x):
        x = self.conv(x)
        return self.norm(x) + x.sin()


def test_a_copy_with_other_logits_is_refused_and_not_used(model):
    model.model.laterals[0] = Unseen(*model.model.laterals[0])
    with pytest.raises(ValueError, match="logits differ by"):
        model.fuse_for_inference()
    with pytest.raises(ValueError, match="logits differ by"):
        model.double().fuse_for_inference()
    assert fused_if_possible(model) is model


HOOKED = {
    "head": lambda model: model.decode_head,
    "norm": lambda model: model.model.laterals[0][1],
    "block": lambda model: model.model.decoder[0],
}


@pytest.mark.parametrize("place", HOOKED)
def test_a_model_with_hooks_of_ones_own_is_not_fused(model, place):
    hook = HOOKED[place](model).register_forward_hook(lambda module, inputs, output: None)
    with pytest.raises(ValueError, match="it has hooks"):
        model.fuse_for_inference()
    hook.remove()
    assert model.fuse_for_inference().is_fused


def test_a_model_with_adapters_is_not_fused(model):
    adapted = with_lora(model, {"r": 2})
    assert fused_if_possible(adapted.base_model.model) is adapted.base_model.model


def test_a_model_that_cannot_be_copied_is_predicted_with_as_it_is(model):
    model.model.laterals[0].lock = threading.Lock()
    predictor = Predictor(model, tiny_processor(), fuse=True)
    assert predictor.network.model is model


def test_a_model_on_the_meta_device_is_refused(model):
    with pytest.raises(ValueError, match="not loaded"):
        model.to("meta").fuse_for_inference()


def test_a_predictor_follows_the_weights_of_its_model_unless_it_is_told_that_they_stay(model):
    following, fixed = (Predictor(model.train(), tiny_processor(), fuse=fuse) for fuse in (False, True))
    image = torch.rand(40, 40).numpy()

    def asked(predictor):
        return predictor.ask(predictor.encode([predictor.prepare(image)]), [""]).logits

    before = asked(following)
    assert fixed.network.model.is_fused and close(asked(fixed), before) and model.training
    with torch.no_grad():
        model.decode_head.classifier.bias.data.add_(1)
    assert close(asked(following), before + 1) and close(asked(fixed), before)


def test_the_commands_compute_with_the_copy(model, monkeypatch):
    seen, usual = [], TeViAForSegmentation.encode_image
    monkeypatch.setattr(TeViAForSegmentation, "encode_image", lambda own, x: seen.append(own.is_fused) or usual(own, x))
    predict_masks(model, tiny_processor(), [{"image": torch.rand(40, 40).numpy(), "text": ""}])
    assert seen == [True]
