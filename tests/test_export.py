"""A program of `torch.export` computes the same logits at every size, with operations that onnxruntime supports."""

import pytest
import torch
from tiny import tiny_config

from tevia_hf import TeViAForSegmentation

MIXING = {"text_projection": "token_mixing", "text_token_lengths": [24, 12, 9]}
SIZES = [(3, 64, 96, 6), (1, 50, 70, 9), (2, 32, 33, 1), (4, 128, 64, 24)]


class LogitsOnly(torch.nn.Module):
    def __init__(self, model):
        super().__init__()
        self.model = model

    def forward(self, pixel_values, input_ids, attention_mask):
        return self.model(pixel_values, input_ids, attention_mask).logits


class TextOnly(torch.nn.Module):
    def __init__(self, model):
        super().__init__()
        self.model = model.model

    def forward(self, input_ids, attention_mask):
        features = self.model.encode_text(input_ids, attention_mask)
        return self.model.prepare_text(features, attention_mask, input_ids.shape[0])


def built(**settings):
    torch.manual_seed(0)
    model = TeViAForSegmentation(tiny_config(**settings)).eval()
    model.prototype_memory.collect([torch.rand(width) for width in model.model.widths[:3]])
    model.prototype_memory.activate()
    return model


def example(batch=2, height=64, width=96, tokens=6):
    """Pixels and tokens; the last of several samples has no text."""
    torch.manual_seed(1)
    ids = torch.randint(5, 20, (batch, tokens))
    mask = torch.ones_like(ids)
    mask[1:, tokens // 2 + 1 :], mask[1:][-1:] = 0, 0
    return torch.randn(batch, 3, height, width), ids, mask


@pytest.fixture(scope="module")
def model():
    return built()


@pytest.fixture(scope="module")
def program(model):
    dynamic = torch.export.Dim.DYNAMIC
    tokens = {0: dynamic, 1: dynamic}
    shapes = {"pixel_values": {0: dynamic, 2: dynamic, 3: dynamic}, "input_ids": tokens, "attention_mask": tokens}
    return torch.export.export(LogitsOnly(model), example(), dynamic_shapes=shapes)


def selected(program):
    """The inputs of `where` in the program, by operation and type."""
    nodes = [node for node in program.graph.nodes if node.op == "call_function" and "where" in str(node.target)]
    return {(str(node.target), node.meta["val"].dtype) for node in nodes}


@pytest.mark.parametrize("size", SIZES)
def test_an_exported_model_takes_other_batches_sizes_and_lengths(model, program, size):
    inputs = example(*size)
    # torch's guards record that both sides were multiples of 32 in tracing; no operation depends on it.
    logits = program.module(check_guards=False)(*inputs)
    torch.testing.assert_close(logits, model(*inputs).logits, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("settings", [{}, MIXING], ids=["per_token", "token_mixing"])
def test_the_text_is_prepared_without_selecting_among_booleans_or_integers(settings):
    _, ids, mask = example()
    tokens = {0: torch.export.Dim.DYNAMIC, 1: torch.export.Dim.DYNAMIC}
    shapes = {"input_ids": tokens, "attention_mask": tokens}
    text = torch.export.export(TextOnly(built(**settings)), (ids, mask), dynamic_shapes=shapes)
    assert {dtype for _, dtype in selected(text)} == {torch.float32}


def test_an_exported_model_selects_among_floats_alone(program):
    assert {dtype for _, dtype in selected(program)} == {torch.float32}
