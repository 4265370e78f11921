"""The examples run offline on the smallest model and synthetic images, and import public names only."""

import ast
import csv
import json
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from tiny import tiny_text_config, tiny_tokenizer, tiny_vision_config
from transformers import BertModel, ConvNextModel

import tevia_hf
from tevia_hf import TeViAForSegmentation, TeViAProcessor, load_segmentation_dataset
from tevia_hf.extras import EXTRA_OF
from tevia_hf.training.adapters import with_lora

ROOT = Path(__file__).parents[1]
EXAMPLES = sorted((ROOT / "examples").glob("*.py"))
TINY = ROOT / "hub_configs" / "tevia-tiny"

MISSING = tuple(library for library, extra in EXTRA_OF.items() if extra not in ("torch", "onnx"))


@pytest.fixture(scope="module")
def run_example(fresh_interpreter):
    """Runs an example in a process to which some libraries are missing."""

    def run_example(name: str, *arguments: object, missing: tuple[str, ...] = ()):
        script = ROOT / "examples" / name
        code = (
            f"import runpy, sys\nsys.modules.update(dict.fromkeys({missing}))\n"
            f"runpy.run_path({str(script)!r}, run_name='__main__')"
        )
        return fresh_interpreter.run(code, *arguments, environment={"HF_ENDPOINT": "http://127.0.0.1:9"})

    return run_example


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.name)
def test_an_example_is_short_and_imports_public_names_only(path):
    code = path.read_text(encoding="utf-8")
    assert len(code.splitlines()) <= 60
    own = [
        n for n in ast.walk(ast.parse(code)) if isinstance(n, ast.ImportFrom) and str(n.module).startswith("tevia_hf")
    ]
    assert {node.module for node in own} == {"tevia_hf"}
    assert {alias.name for node in own for alias in node.names} <= set(tevia_hf.__all__)


def test_the_fine_tuning_example_is_the_script_of_the_page_on_training():
    """`test_readme` runs that script."""
    page = (ROOT / "docs" / "train.md").read_text(encoding="utf-8")
    blocks = re.findall(r"^```python\n(.*?)^```", page, re.DOTALL | re.M)
    docstring, script = (ROOT / "examples" / "fine_tune.py").read_text(encoding="utf-8").split("\n\n", 1)
    assert script in blocks and docstring.startswith('"""')


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    """Three synthetic images, and a table with the texts of two: its own, and none; one of them has a comma."""
    folder = tmp_path_factory.mktemp("batch")
    (folder / "images").mkdir()
    examples = list(load_segmentation_dataset("synthetic", split="test", size=256, count=3))
    for example in examples:
        example["image"].save(folder / "images" / f"{example['id']}.png")
    with open(folder / "texts.csv", "w", newline="", encoding="utf-8") as file:
        rows = csv.writer(file)
        rows.writerow(["Image", "Description"])
        rows.writerows([f"{e['id']}.png", text] for e, text in zip(examples, [examples[0]["text"], ""], strict=False))
    return folder, examples


def test_batch_inference_writes_a_mask_for_each_row_of_the_table_on_the_base_install(images, run_example):
    folder, examples = images
    arguments = (TINY, folder / "images", folder / "texts.csv", folder / "masks")
    result = run_example("batch_inference.py", *arguments, missing=MISSING)
    assert result.returncode == 0, result.stderr
    names = {f"{example['id']}.png" for example in examples[:2]} | {"overlays"}
    assert {path.name for path in (folder / "masks").iterdir()} == names
    found = np.asarray(Image.open(folder / "masks" / f"{examples[0]['id']}.png"))
    true = np.asarray(examples[0]["mask"]) > 0
    assert set(np.unique(found)) == {0, 255} and 2 * (true & (found > 0)).sum() / (true.sum() + (found > 0).sum()) > 0.8
    shown = np.asarray(Image.open(folder / "masks" / "overlays" / f"{examples[0]['id']}.png"))
    assert (shown[np.kron(found, np.ones((2, 2))) > 0, 0] > shown[np.kron(found, np.ones((2, 2))) > 0, 2]).mean() > 0.9
    assert result.stdout.count("% of the image") == 2


def test_batch_inference_names_an_image_that_the_folder_lacks_before_it_writes(images, run_example):
    folder, _ = images
    (folder / "more.csv").write_text("Image,Description\nnowhere.png,left lung\n", encoding="utf-8")
    result = run_example("batch_inference.py", TINY, folder / "images", folder / "more.csv", folder / "none")
    assert result.returncode == 2 and "lacks 1 images of the table, e.g. nowhere.png" in result.stderr
    assert not (folder / "none").exists()


def test_training_on_ones_own_dataset_keeps_patients_apart_and_saves_a_model(tmp_path, run_example):
    scans = tmp_path / "scans"
    for number, example in enumerate(load_segmentation_dataset("synthetic", split="train", size=64, count=6)):
        patient = scans / f"patient-{number % 3}"
        patient.mkdir(parents=True, exist_ok=True)
        example["image"].save(patient / f"{number}.png")
        example["mask"].save(patient / f"{number}_mask.png")
        (patient / f"{number}.txt").write_text(example["text"], encoding="utf-8")
    (scans / "validation.txt").write_text("patient-2\n", encoding="utf-8")
    lines = (TINY / "recipe.yaml").read_text(encoding="utf-8").splitlines()
    (tmp_path / "recipe.yaml").write_text("\n".join(line for line in lines if not line.startswith("dataset:")))
    options = ("--config_name", TINY, "--output_dir", tmp_path / "out", "--num_train_epochs", 1, "--use_cpu", True)
    result = run_example("own_dataset.py", scans, tmp_path / "recipe.yaml", *options)
    assert result.returncode == 0, result.stderr
    assert re.search(r"validation Dice: 0\.\d{3} per image", result.stdout)
    with open(tmp_path / "out" / "_splits.csv", encoding="utf-8") as file:
        groups = {part: {row["group"] for row in rows} for part, rows in by_part(csv.DictReader(file)).items()}
    assert groups == {"train": {"patient-0", "patient-1"}, "eval": {"patient-2"}}
    TeViAForSegmentation.from_pretrained(tmp_path / "out")


def test_a_plain_trainer_takes_named_classes_of_ones_own_dataset_and_reports_them(tmp_path, run_example):
    result = run_example("own_trainer.py", TINY, tmp_path, "--epochs", 1)
    assert result.returncode == 0, result.stderr
    model = TeViAForSegmentation.from_pretrained(tmp_path)
    assert model.config.id2label == {0: "background", 1: "left lesion", 2: "right lesion"}
    assert TeViAProcessor.from_pretrained(tmp_path).image_processor.num_labels == 3
    assert model.prototype_memory.is_active and "eval_dice/left lesion" in result.stdout
    table = result.stdout[result.stdout.index("By class") :]
    for name in ("left lesion", "right lesion"):
        assert re.search(rf"\| {name} \| \d+ \| [01]\.\d+ ", table)  # images and Dice


def by_part(rows):
    rows = list(rows)
    return {part: [row for row in rows if row["part"] == part] for part in {row["part"] for row in rows}}


def test_two_encoders_make_a_model_that_is_saved_with_its_processor(tmp_path, run_example):
    ConvNextModel(tiny_vision_config()).save_pretrained(tmp_path / "vision")
    text_config = tiny_text_config()
    text_config.max_position_embeddings = 64  # the default length of a text
    BertModel(text_config, add_pooling_layer=False).save_pretrained(tmp_path / "text")
    tiny_tokenizer(64).save_pretrained(tmp_path / "text")
    folders = [tmp_path / name for name in ("vision", "text", "model")]
    result = run_example("two_encoders.py", *folders, "--size", 64, missing=MISSING)
    assert result.returncode == 0, result.stderr
    assert "mask of (100, 150)" in result.stdout
    model = TeViAForSegmentation.from_pretrained(tmp_path / "model")
    assert not any(p.requires_grad for p in model.model.text_encoder.parameters())
    assert TeViAProcessor.from_pretrained(tmp_path / "model").image_processor.size == {"height": 64, "width": 64}


def test_a_registered_metric_and_data_set_are_in_the_report(tmp_path, run_example):
    result = run_example("register.py", TINY, tmp_path / "report")
    assert result.returncode == 0, result.stderr
    report = json.loads((tmp_path / "report" / "evaluation.json").read_text(encoding="utf-8"))
    assert report["settings"]["dataset"] == "dark"
    assert 0 <= report["scores"]["correct"]["area_error"] < 1 and "area_error" in result.stdout


def test_lora_trains_what_a_recipe_trains_and_reloads_it_as_a_plain_model(tmp_path, run_example):
    pytest.importorskip("peft")
    result = run_example("lora.py", TINY, tmp_path, "--images", 16)
    assert result.returncode == 0, result.stderr
    base = TeViAForSegmentation.from_pretrained(TINY)
    trained = sum(p.numel() for p in with_lora(base, {"r": 8}).parameters() if p.requires_grad)
    assert f"trainable params: {trained:,} " in result.stdout
    for path in (tmp_path / "adapter" / "adapter_model.safetensors", tmp_path / "merged" / "model.safetensors"):
        assert f"{path}: {path.stat().st_size / 1e6:.1f} MB" in result.stdout
    merged, before = (TeViAForSegmentation.from_pretrained(folder) for folder in (tmp_path / "merged", TINY))
    assert merged.prototype_memory.is_active and not [name for name, _ in merged.named_parameters() if "lora" in name]
    others = before.state_dict()
    moved = {name for name, value in merged.state_dict().items() if not torch.equal(value, others[name])}
    assert {"decode_head.classifier.weight", "model.null_text", "model.prototype_memory.prototype_0"} <= moved
    assert {name.split(".")[1] for name in moved} >= {"backbone", "text_encoder", "decoder", "laterals"}
