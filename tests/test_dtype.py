"""Predictions in bfloat16: nearly the masks of float32, of a model with the same digest."""

import warnings

import numpy as np
import pytest
import torch
from tiny import tiny_processor, tiny_reader

from tevia_hf.data.registry import load_segmentation_dataset
from tevia_hf.evaluation.evaluate import evaluate_dataset
from tevia_hf.inference import loading
from tevia_hf.inference.backends import load_predicting
from tevia_hf.inference.identity import weights_digest
from tevia_hf.inference.predict import predict_masks


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    folder, model = tmp_path_factory.mktemp("model"), tiny_reader()
    with torch.no_grad():
        model.decode_head.classifier.weight.mul_(30)  # so that masks are not decided by rounding
    model.save_pretrained(folder)
    tiny_processor().save_pretrained(folder)
    return str(folder)


@pytest.fixture(autouse=True)
def no_warning(monkeypatch):
    monkeypatch.setattr(loading, "has_bfloat16", lambda: True)


def test_masks_in_bfloat16_are_nearly_those_in_float32(model):
    examples = load_segmentation_dataset("synthetic", split="test", count=2)
    exact, rounded = (load_predicting(model, "cpu", dtype) for dtype in ("float32", "bfloat16"))
    assert rounded[0].dtype == torch.bfloat16
    assert rounded[0].model.prototype_memory.prototype_0.dtype == torch.float32
    pairs = zip(predict_masks(*exact, examples), predict_masks(*rounded, examples), strict=True)
    assert min(np.mean(ours == theirs) for ours, theirs in pairs) > 0.97


def test_the_digest_is_that_of_the_saved_weights(model):
    assert weights_digest(load_predicting(model, "cpu", "bfloat16")[0]) == weights_digest(model)


def test_an_evaluation_records_the_type(model, tmp_path):
    options = {"max_samples": 2, "text_modes": []}
    report = evaluate_dataset(model, dtype="bfloat16", output_dir=tmp_path, **options)
    assert report.settings["dtype"] == "bfloat16"
    assert "Computed in bfloat16." in (tmp_path / "evaluation.html").read_text(encoding="utf-8")
    with pytest.raises(ValueError, match="dtype"):  # masks of two types are not mixed
        evaluate_dataset(model, output_dir=tmp_path, resume=True, **options)


@pytest.mark.parametrize(("capable", "count"), [(True, 0), (False, 1)])
def test_a_processor_that_emulates_bfloat16_causes_a_warning(model, capable, count, monkeypatch):
    monkeypatch.setattr(loading, "has_bfloat16", lambda: capable)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        load_predicting(model, "cpu", "bfloat16")
        load_predicting(model, "cpu")
    assert sum("AMX or AVX512-BF16" in str(each.message) for each in caught) == count


def test_other_types_are_refused(model):
    with pytest.raises(ValueError, match="float32, bfloat16"):
        load_predicting(model, "cpu", "float16")
