"""An exported model gives the masks of the model that it was made of, in either format."""

import json
import shutil
import subprocess
import sys
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image
from tiny import tiny_processor, tiny_reader

from tevia_hf import export_model, load_exported, predict_files
from tevia_hf.evaluation.evaluate import evaluate_dataset
from tevia_hf.extras import EXTRA_OF
from tevia_hf.hub import export as exporting
from tevia_hf.inference.exported import ExportedModel
from tevia_hf.inference.identity import weights_digest
from tevia_hf.inference.loading import load_trained
from tevia_hf.inference.predictor import Predictor

FORMATS = ("onnx", "openvino")
MIXING = {"text_projection": "token_mixing", "text_token_lengths": [24, 12, 9]}
VARIANTS = {"several labels, published": {"num_labels": 3, **MIXING}, "vision-only": {"use_text": False}}
TEXTS = ["upper left lung", "", "two infected areas, lower right lung"]


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    def saved(**settings):
        folder, model = tmp_path_factory.mktemp("model"), tiny_reader(**settings)
        with torch.no_grad():
            model.decode_head.classifier.weight.mul_(30)  # so that masks are not decided by rounding
        model.save_pretrained(folder)
        tiny_processor(num_labels=settings.get("num_labels", 1)).save_pretrained(folder)
        return str(folder)

    return saved


@pytest.fixture(scope="module")
def model(saved):
    return saved()


@pytest.fixture(scope="module")
def as_onnx(model, tmp_path_factory):
    folder = tmp_path_factory.mktemp("exported") / "onnx"
    export_model(model, folder)
    return str(folder)


@pytest.fixture(scope="module", params=FORMATS)
def exported(model, as_onnx, request, tmp_path_factory):
    if request.param == "onnx":
        return as_onnx
    folder = tmp_path_factory.mktemp("exported") / request.param
    with pytest.MonkeyPatch.context() as patch:  # which takes half a minute otherwise, for the same files
        patch.setattr(exporting, "write_onnx", lambda graph, inputs, path: shutil.copy(Path(as_onnx, path.name), path))
        export_model(model, folder, request.param)
    return str(folder)


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    folder, rng = tmp_path_factory.mktemp("images"), np.random.default_rng(0)
    for name, size in {"a": (40, 56), "b": (64, 33), "c": (40, 56)}.items():
        Image.fromarray(rng.integers(0, 255, size, np.uint8)).save(folder / f"{name}.png")
    return folder


def masks_in(folder):
    return {path.name: np.asarray(Image.open(path)) for path in sorted(folder.glob("*.png"))}


@pytest.mark.parametrize("options", [{}, {"tile": 32}], ids=str)
def test_predicted_masks_are_those_of_the_model(model, exported, images, tmp_path, options):
    for name, source in {"torch": model, "exported": exported}.items():
        predict_files(source, [images], tmp_path / name, text=TEXTS[0], batch_size=2, **options)
    ours, theirs = masks_in(tmp_path / "exported"), masks_in(tmp_path / "torch")
    assert list(ours) == ["a.png", "b.png", "c.png"] and 0 < np.mean([mask.mean() for mask in ours.values()]) < 255
    for name, mask in ours.items():
        np.testing.assert_array_equal(mask, theirs[name], err_msg=name)


def test_texts_of_any_number_and_length_have_the_logits_of_the_model(model, exported):
    pixels = np.random.default_rng(1).random((50, 70))
    logits = []
    for predictor in (Predictor(*load_trained(model)), Predictor(*load_exported(exported))):
        logits.append(predictor.ask(predictor.encode([predictor.prepare(pixels)]), TEXTS).logits)
    np.testing.assert_allclose(*logits, atol=1e-3, rtol=1e-4)
    with pytest.raises(TypeError, match="give the two that `load_exported` returned"):
        Predictor(load_exported(exported)[0], load_trained(model)[1])


def test_an_evaluation_of_an_exported_model_is_that_of_the_model(model, exported):
    reports = [
        evaluate_dataset(name, split="test", max_samples=3, text_modes=["none"], output_dir=None)
        for name in (model, exported)
    ]
    assert reports[0].scores == reports[1].scores and reports[0].settings["weights"] == reports[1].settings["weights"]


def test_the_folder_says_what_it_was_made_of_and_how_it_was_checked(model, exported):
    about = json.loads(Path(exported, "export.json").read_text(encoding="utf-8"))
    graphs, processor = load_exported(exported)
    assert isinstance(graphs, ExportedModel) and graphs.digest == weights_digest(model) == about["weights"]
    assert max(about["largest_difference_of_logits"].values()) < 1e-4
    assert len(about["largest_difference_of_logits"]) == len(exporting.CHECKED)
    assert processor.image_processor.size == {"height": 32, "width": 32}


@pytest.mark.parametrize("variant", VARIANTS)
def test_variants_of_the_network_are_exported(saved, variant, tmp_path):
    export_model(saved(**VARIANTS[variant]), tmp_path / "out")  # which checks the logits


def test_other_logits_are_refused_and_leave_no_exported_model(model, exported, tmp_path, monkeypatch):
    def write_graphs(network, folder, to):
        for name in ("text_encoder", "segmenter"):
            for file in Path(exported).glob(f"{name}.*"):
                shutil.copy(file, folder)

    with torch.no_grad():
        changed = load_trained(model)[0]
        changed.decode_head.classifier.bias.add_(1)
    changed.save_pretrained(tmp_path / "changed")
    tiny_processor().save_pretrained(tmp_path / "changed")
    monkeypatch.setattr(exporting, "write_graphs", write_graphs)
    to = json.loads(Path(exported, "export.json").read_text(encoding="utf-8"))["format"]
    with pytest.raises(ValueError, match="logits of the exported model differ"):
        export_model(str(tmp_path / "changed"), tmp_path / "out", to)
    with pytest.raises(ValueError, match="holds no exported model.*tevia export"):
        load_exported(tmp_path / "out")


def test_an_exported_model_is_for_prediction_on_the_cpu(exported, images, tmp_path):
    with pytest.raises(ValueError, match="exported model, for prediction alone"):
        export_model(exported, tmp_path / "again")
    with pytest.raises(ValueError, match="runs on the CPU"):
        predict_files(exported, [images], tmp_path / "out", device="cuda")


def test_a_failed_export_keeps_the_earlier_one(model, as_onnx, tmp_path, monkeypatch):
    shutil.copytree(as_onnx, tmp_path / "out")
    with monkeypatch.context() as patch, pytest.raises(OSError, match="disk"):
        patch.setattr(exporting, "write_graph", lambda *args: (_ for _ in ()).throw(OSError("disk full")))
        export_model(model, tmp_path / "out", overwrite=True)
    load_exported(tmp_path / "out")
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


@pytest.mark.parametrize("fault", ["cut", "no graph"])
def test_a_damaged_folder_is_refused_with_the_fix(as_onnx, tmp_path, fault):
    shutil.copytree(as_onnx, tmp_path / "out")
    if fault == "cut":
        (tmp_path / "out" / "export.json").write_text('{"format": ')
    else:
        (tmp_path / "out" / "segmenter.onnx").unlink()
    with pytest.raises(ValueError, match=r"(export.json is damaged|lacks segmenter.onnx).*tevia export"):
        load_exported(tmp_path / "out")


def test_inputs_that_the_model_refuses_are_refused_before_the_graphs(as_onnx):
    exported, processor = load_exported(as_onnx)
    tokens = np.ones((1, 25), np.int64)
    with pytest.raises(ValueError, match="20x40"):
        exported(np.zeros((1, 3, 20, 40), np.float32))
    with pytest.raises(ValueError, match="25 tokens, at most 24"):
        exported.encode_text(tokens, tokens)
    with pytest.raises(ValueError, match="needs `text_features`"):
        exported(np.zeros((1, 3, 32, 32), np.float32))
    predictor = Predictor(exported, processor)
    with pytest.raises(ValueError, match="no output_attentions"):
        predictor.ask(predictor.encode([predictor.prepare(np.zeros((32, 32)))]), [""], output_attentions=True)


WITHOUT = f"""
import sys

sys.modules.update(dict.fromkeys({sorted(set(EXTRA_OF) - {"onnxruntime", "openvino", "tokenizers"})}))
from tevia_cli.main import main

sys.exit(main(sys.argv[1:]))
"""


def test_the_command_needs_no_torch_for_an_exported_model(model, exported, images, tmp_path):
    words = [str(images), "--text", TEXTS[0], "--output-dir"]
    run = partial(subprocess.run, capture_output=True, text=True)
    result = run([sys.executable, "-c", WITHOUT, "predict", exported, *words, str(tmp_path / "without")])
    assert result.returncode == 0, result.stderr
    predict_files(model, [images], tmp_path / "with", text=TEXTS[0])
    ours, theirs = (masks_in(tmp_path / name) for name in ("without", "with"))
    assert list(ours) == ["a.png", "b.png", "c.png"]
    for name, mask in ours.items():
        np.testing.assert_array_equal(mask, theirs[name], err_msg=name)
    tables = [pd.read_csv(tmp_path / name / "predictions.csv") for name in ("without", "with")]
    columns = ["name", "text", "foreground", "pixels", "status"]
    pd.testing.assert_frame_equal(*(table[columns] for table in tables))
    result = run([sys.executable, "-c", WITHOUT, "predict", model, *words, str(tmp_path / "refused")])
    assert result.returncode == 2 and "needs torch: pip install 'tevia_hf[torch]'" in result.stderr
