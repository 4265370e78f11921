"""An exported model gives the masks of the model that it was made of, in either format."""

import dataclasses
import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image
from tiny import tiny_processor, tiny_reader

from tevia_hf import Calibration, export_model, load_exported, predict_files
from tevia_hf.evaluation.evaluate import evaluate_dataset
from tevia_hf.extras import EXTRA_OF
from tevia_hf.hub import calibration as calibrating
from tevia_hf.hub import export as exporting
from tevia_hf.hub.quantization import quantized_nodes
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
    Path(model, "README.md").write_text("---\nlicense: cc-by-4.0\n---\n# A model\n", encoding="utf-8")
    export_model(model, folder)
    return str(folder)


@pytest.fixture(scope="module", params=FORMATS)
def exported(model, as_onnx, request, tmp_path_factory):
    if request.param == "onnx":
        return as_onnx
    folder = tmp_path_factory.mktemp("exported") / request.param
    with pytest.MonkeyPatch.context() as patch:
        copy_onnx(patch, as_onnx)
        export_model(model, folder, request.param)
    return str(folder)


def copy_onnx(patch, folder):
    """Takes the graphs from a folder, which takes half a minute to write otherwise, for the same files."""
    patch.setattr(exporting, "write_onnx", lambda graph, inputs, path: shutil.copy(Path(folder, path.name), path))


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
    with pytest.raises(ValueError, match="2 images but 3 texts"):
        predictor.ask(predictor.encode([predictor.prepare(pixels)] * 2), TEXTS)
    features = predictor.network.text_features
    assert Predictor(predictor.model, predictor.processor, text_features=features).network.text_features is features
    with pytest.raises(ValueError, match="those of another model"):
        Predictor(*load_trained(model), text_features=features)
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
    assert about["license"] == "cc-by-4.0"
    assert processor.image_processor.size == {"height": 32, "width": 32}


@pytest.mark.parametrize("variant", VARIANTS)
def test_variants_of_the_network_are_exported(saved, variant, tmp_path):
    export_model(saved(**VARIANTS[variant]), tmp_path / "out")  # which checks the logits


CARDS = {"card.yaml": "license: mit\n", "README.md": "---\nlicense: Lung: mine\n---\n"}


@pytest.mark.parametrize(("names", "licence"), [(["card.yaml", "README.md"], "mit"), ([], None)])
def test_the_licence_is_that_of_the_card(names, licence, tmp_path):
    for name in names:
        (tmp_path / name).write_text(CARDS[name], encoding="utf-8")
    assert exporting.license_of(str(tmp_path)) == licence
    assert exporting.license_of("org/not-in-the-cache") is None  # there is no network


def test_a_damaged_card_is_named(tmp_path):
    (tmp_path / "README.md").write_text(CARDS["README.md"], encoding="utf-8")
    with pytest.raises(ValueError, match=r"licence of .* cannot be read from .*README\.md: mapping values"):
        exporting.license_of(str(tmp_path))


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


@pytest.fixture
def calibration():
    return Calibration.from_dataset("synthetic", calibration_images=3, validation_images=2, most_dice_lost=1.0)


@pytest.mark.parametrize("to", FORMATS)
def test_an_int8_export_has_quantized_nodes_and_tells_its_dice(
    model, as_onnx, calibration, images, tmp_path, monkeypatch, to
):
    copy_onnx(monkeypatch, as_onnx)
    monkeypatch.setattr(calibrating, "LEAST_DICE", 0)  # the weights are random
    exported, _ = export_model(model, tmp_path / "int8", to, int8=calibration)
    cost = json.loads((tmp_path / "int8" / "export.json").read_text(encoding="utf-8"))["int8"]
    segmenter = next((tmp_path / "int8").glob("segmenter.[ox][nm]*"))
    assert cost["quantized_nodes"] == quantized_nodes(segmenter) and min(cost["quantized_nodes"].values()) > 10
    assert cost["dice_lost"] == cost["dice"]["float32"] - cost["dice"]["int8"]
    assert (cost["calibrated_on"]["images"], cost["validated_on"]["split"]) == (3, "val")
    for name, source in {"torch": model, "int8": tmp_path / "int8"}.items():
        predict_files(str(source), [images], tmp_path / name / "masks", text=TEXTS[0])
    ours, theirs = (masks_in(tmp_path / name / "masks") for name in ("int8", "torch"))
    agreement = [np.mean(mask == theirs[name]) for name, mask in ours.items()]
    assert 0.9 < np.mean(agreement) < 1
    assert to == "onnx" or not list((tmp_path / "int8").glob("*.onnx"))


def test_an_int8_export_that_loses_dice_is_not_written(model, as_onnx, calibration, tmp_path, monkeypatch):
    copy_onnx(monkeypatch, as_onnx)
    scores = iter([0.8, 0.7])
    monkeypatch.setattr(calibrating, "dice_of", lambda *args: next(scores))
    with pytest.raises(ValueError, match="loses 0.1000 Dice"):
        export_model(model, tmp_path / "out", int8=dataclasses.replace(calibration, most_dice_lost=0.05))
    assert not list(tmp_path.iterdir())


def test_exported_models_compute_in_bfloat16_where_their_library_does(exported, images, tmp_path):
    options = {"text": TEXTS[0], "dtype": "bfloat16"}
    if list(Path(exported).glob("*.onnx")):
        with pytest.raises(ValueError, match=r"in float32 alone, not in bfloat16.*--to openvino"):
            predict_files(exported, [images], tmp_path / "out", **options)
        return
    predict_files(exported, [images], tmp_path / "bfloat16", **options)
    predict_files(exported, [images], tmp_path / "float32", text=TEXTS[0])
    rounded, exact = (masks_in(tmp_path / name) for name in ("bfloat16", "float32"))
    assert np.mean([np.mean(mask == exact[name]) for name, mask in rounded.items()]) > 0.9


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


@pytest.mark.parametrize("fault", ["cut", "older", "no graph", "bad graph", "bad tokenizer"])
def test_a_damaged_folder_is_refused_with_the_fix(as_onnx, tmp_path, fault):
    shutil.copytree(as_onnx, tmp_path / "out")
    about = tmp_path / "out" / "export.json"
    contents = {"cut": '{"format": ', "older": about.read_text().replace("swap_axes", "swap")}
    files = {"bad graph": "segmenter.onnx", "bad tokenizer": "tokenizer.json"}
    if fault == "no graph":
        (tmp_path / "out" / "segmenter.onnx").unlink()
    else:
        (tmp_path / "out" / files.get(fault, "export.json")).write_text(contents.get(fault, "{"))
    with pytest.raises(ValueError, match=r"(damaged|lacks segmenter.onnx).*tevia export"):
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


WITHOUT = """
import sys

sys.modules.update(dict.fromkeys(sys.argv.pop(1).split(",")))
from tevia_cli.main import main

sys.exit(main(sys.argv[1:]))
"""


def run_without(libraries, *words):
    """The command in a process where these libraries are not installed."""
    command = [sys.executable, "-c", WITHOUT, ",".join(libraries), *map(str, words)]
    return subprocess.run(command, capture_output=True, text=True)


def test_the_command_needs_no_torch_for_an_exported_model(model, exported, images, tmp_path):
    lost = set(EXTRA_OF) - {"onnxruntime", "openvino", "tokenizers"}
    out = tmp_path / "without"
    result = run_without(lost, "predict", exported, images, "--text", TEXTS[0], "--output-dir", out)
    assert result.returncode == 0, result.stderr
    predict_files(model, [images], tmp_path / "with", text=TEXTS[0])
    ours, theirs = (masks_in(tmp_path / name) for name in ("without", "with"))
    assert list(ours) == ["a.png", "b.png", "c.png"]
    for name, mask in ours.items():
        np.testing.assert_array_equal(mask, theirs[name], err_msg=name)
    tables = [pd.read_csv(tmp_path / name / "predictions.csv") for name in ("without", "with")]
    columns = ["name", "text", "foreground", "pixels", "status"]
    pd.testing.assert_frame_equal(*(table[columns] for table in tables))


def test_what_is_missing_without_torch_is_said_before_anything_is_predicted(model, as_onnx, images, tmp_path):
    lost, table = set(EXTRA_OF) - {"onnxruntime", "tokenizers", "pandas", "openpyxl"}, tmp_path / "texts.csv"
    table.write_text("".join(f"{line}\n" for line in ("Image,Description", "a.png,left lung", "b.png,", "c.png,x")))
    texts = ("--text-table", table)
    for name, source, options, missing in (
        ("table", as_onnx, texts, None),
        ("statistics", as_onnx, ("--statistics",), "scipy: pip install 'tevia_hf[metrics]'"),
        ("tiles", as_onnx, ("--tile", 32), "monai: pip install 'tevia_hf[metrics]'"),
        ("torch", model, (), "torch: pip install 'tevia_hf[torch]'"),
    ):
        result = run_without(lost, "predict", source, images, *options, "--output-dir", out := tmp_path / name)
        assert result.returncode == (2 if missing else 0), result.stderr
        assert not missing or (f"needs {missing}" in result.stderr and not out.exists())
