"""The copy of a model for inference: the same logits, whatever is done to the model."""

import pytest
import torch
from contract import build, images, texts
from tiny import tiny_config, tiny_processor, tiny_text_config
from torch import nn
from transformers import MobileNetV2Config

from tevia_hf import Predictor, TeViAForSegmentation
from tevia_hf.fusion_tevia import InferenceCopy, foldable_pairs


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


@pytest.mark.parametrize("changed", ["classifier", "norm", "text", "prototypes"])
def test_the_copy_follows_changes_of_the_weights(model, changed):
    copy = InferenceCopy(model)
    before, first = logits(copy.current()), copy.current()
    assert copy.current() is first
    with torch.no_grad():
        if changed == "classifier":
            model.decode_head.classifier.bias.add_(1)
        elif changed == "norm":
            model.model.laterals[0][1].running_mean.add_(1)
        elif changed == "text":
            model.model.text_encoder.model.embeddings.word_embeddings.weight.mul_(-2)
        else:
            model.prototype_memory.assign([torch.rand(8) for _ in range(3)])
    assert close(logits(copy.current()), logits(model)) and not close(logits(model), before)


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
    assert InferenceCopy(model).current() is model


def test_hooks_of_ones_own_take_effect(model):
    plain = logits(model)
    hooks = [
        model.decode_head.register_forward_hook(lambda module, inputs, output: (output[0] + 1, None)),
        model.model.laterals[0][1].register_forward_hook(lambda module, inputs, output: output.sin()),
    ]
    for hook in hooks:
        assert close(logits(InferenceCopy(model).current()), logits(model)) and not close(logits(model), plain)
        hook.remove()


def test_a_model_on_the_meta_device_is_refused(model):
    with pytest.raises(ValueError, match="Offloaded"):
        model.to("meta").fuse_for_inference()


def test_a_predictor_computes_with_the_copy_and_keeps_the_training_mode(model, monkeypatch):
    seen, usual = [], TeViAForSegmentation.encode_image
    monkeypatch.setattr(TeViAForSegmentation, "encode_image", lambda own, x: seen.append(own.is_fused) or usual(own, x))
    predictor = Predictor(model.train(), tiny_processor())
    predictor.masks(predictor.encode([predictor.prepare(torch.rand(40, 40).numpy())]), [""])
    assert seen == [True] and model.training
