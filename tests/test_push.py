"""Uploads to a loopback server in place of the Hub: a complete model, its card, and nothing private."""

import json
from pathlib import Path

import pytest
import torch
import yaml
from fake_hub import TOKEN, FakeHub
from huggingface_hub import ModelCard
from interpreter import Interpreter
from tiny import tiny_processor, tiny_reader, tiny_text_config, tiny_vision_config
from transformers import BertModel, ConvNextModel

from tevia_hf import TeViAForSegmentation
from tevia_hf.inference.identity import pixel_settings, weights_digest
from tevia_hf.inference.loading import load_trained

ROOT = Path(__file__).parents[1]
CARD = {
    "title": "A reader",
    "summary": "Reads.",
    "license": "apache-2.0",
    "dataset": {"name": "Made-up films", "license": "Apache-2.0"},
    "encoders": [{"name": "org/vision", "role": "vision backbone", "license": "MIT"}],
    "intended_use": "Tests.",
    "limits": ["None of its masks mean anything."],
    "example": "upper left lung",
}
PUSH = "import sys; from tevia_cli.main import main; sys.exit(main(sys.argv[1:]))"
TRAINER_PUSH = """
import sys
from tevia_hf import TeViAForSegmentation, TeViAProcessor, build_trainer, load_segmentation_dataset
from tevia_hf.training.arguments import TeViATrainingArguments
folder, output = sys.argv[1:]
model, processor = TeViAForSegmentation.from_pretrained(folder), TeViAProcessor.from_pretrained(folder)
films = load_segmentation_dataset("synthetic", split="train", size=32, count=4)
args = TeViATrainingArguments(output_dir=output, max_steps=1, use_cpu=True, hub_model_id="org/trained", report_to=[])
trainer = build_trainer(model, processor, args, films, films)
trainer.train()
trainer.push_to_hub()
"""


READY = ("tevia_cli.push", "tevia_hf.hub.bundle", "tevia_hf.training.trainer", "tevia_hf.data.registry")


@pytest.fixture(scope="module")
def server():
    with FakeHub() as server:
        yield server


@pytest.fixture(scope="module")
def interpreter(server):
    """Sets the server's address in place of the Hub's, which is read at import."""
    environment = {"HF_ENDPOINT": server.url, "HF_HUB_OFFLINE": "0", "HF_HUB_DISABLE_XET": "1"}
    with Interpreter(READY, environment) as interpreter:
        yield interpreter


@pytest.fixture
def hub(server):
    server.clear()
    return server


@pytest.fixture
def saved(tmp_path):
    folder = tmp_path / "model"
    tiny_reader().save_pretrained(folder)
    tiny_processor().save_pretrained(folder)
    (folder / "card.yaml").write_text(yaml.safe_dump(CARD))
    (folder / "_splits.csv").write_text("id,group,part\nfilm,Jane Doe,train\n")
    torch.save({}, folder / "training_args.bin")
    recipe = {"vision_model": "org/vision", "data_dir": str(tmp_path / "secret" / "films"), "hub_token": "hf_secret"}
    (folder / "recipe.yaml").write_text(yaml.safe_dump(recipe))
    return folder


@pytest.fixture
def python(interpreter):
    """Runs code that reaches the server with a token, or without."""

    def python(code, *words, token=TOKEN):
        return interpreter.run(code, *words, environment={"HF_TOKEN": token} if token else {}, cwd=ROOT)

    return python


def test_push_uploads_a_model_that_loads_and_its_card(hub, python, saved, tmp_path):
    result = python(PUSH, "push", saved, "org/reader", "--private", "--message", "First")
    assert result.returncode == 0, result.stderr
    assert hub.url in result.stdout and hub.repos == {"org/reader": "private"} and hub.messages == ["First"]
    assert hub.files["model.safetensors"] == (saved / "model.safetensors").read_bytes()
    for path, content in hub.files.items():
        (tmp_path / "fetched" / path).parent.mkdir(exist_ok=True, parents=True)
        (tmp_path / "fetched" / path).write_bytes(content)
    loaded = TeViAForSegmentation.from_pretrained(tmp_path / "fetched")
    inputs = tiny_processor()([torch.rand(40, 50).numpy()], ["upper left lung"])
    as_saved = TeViAForSegmentation.from_pretrained(saved)
    torch.testing.assert_close(loaded(**inputs).logits, as_saved(**inputs).logits)
    card = ModelCard(hub.files["README.md"].decode())
    assert "org/reader" in card.text and "Not for clinical decisions" in card.text


def test_push_keeps_patients_tokens_and_folders_to_itself(hub, python, saved, tmp_path):
    TeViAForSegmentation.from_vision_text_pretrained(*encoder_folders(tmp_path), max_text_length=24).save_pretrained(
        saved
    )
    result = python(PUSH, "push", saved, "org/reader")
    assert result.returncode == 0, result.stderr
    everything = b"".join(hub.files.values())
    for private in ("Jane Doe", "hf_secret", str(tmp_path)):
        assert private.encode() not in everything
    assert yaml.safe_load(hub.files["recipe.yaml"]) == {"vision_model": "org/vision", "data_dir": "films"}
    assert not [path for path in hub.files if path.endswith((".bin", ".csv", ".png")) or path.startswith(".tevia")]


def encoder_folders(folder):
    ConvNextModel(tiny_vision_config()).save_pretrained(folder / "encoders" / "vision")
    BertModel(tiny_text_config(), add_pooling_layer=False).save_pretrained(folder / "encoders" / "text")
    return str(folder / "encoders" / "vision"), str(folder / "encoders" / "text")


def test_files_of_an_earlier_push_do_not_stay_with_other_weights(hub, python, saved, tmp_path):
    tiny = ROOT / "hub_configs" / "tevia-tiny"
    assert python(PUSH, "push", tiny, "org/reader").returncode == 0
    assert {"evaluation.json", "recipe.yaml"} <= set(hub.files)
    own = {"own.png": b"", "models/a.safetensors": b"", "model_int8.safetensors": b"", "backup/x_tevia.py": b""}
    hub.files |= {"model-00001-of-00002.safetensors": b"", "old_tevia.py": b"", **own}
    (saved / "recipe.yaml").unlink()
    assert python(PUSH, "push", saved, "org/reader").returncode == 0
    assert not set(hub.files) & {"evaluation.json", "recipe.yaml", "model-00001-of-00002.safetensors", "old_tevia.py"}
    assert {*own, "model.safetensors", "modeling_tevia.py"} <= set(hub.files)


def test_push_shows_the_report_and_the_card_that_are_named(hub, python, saved, tmp_path):
    (saved / "card.yaml").rename(tmp_path / "other.yaml")
    report = json.loads((ROOT / "hub_configs" / "tevia-tiny" / "evaluation.json").read_text())
    model, processor = load_trained(str(saved))
    pixels = pixel_settings(processor.image_processor)
    report["settings"] |= {"weights": weights_digest(model), "image_processor": pixels}
    (tmp_path / "evaluation.json").write_text(json.dumps(report))
    words = ["--card", tmp_path / "other.yaml", "--evaluation", tmp_path / "evaluation.json"]
    result = python(PUSH, "push", saved, "reader", *words)
    assert result.returncode == 0, result.stderr
    assert list(hub.repos) == ["me/reader"] and json.loads(hub.files["evaluation.json"])["scores"] == report["scores"]
    card = hub.files["README.md"].decode()
    assert 'model="me/reader"' in card and "# A reader" in card and "| its own text |" in card


def test_a_private_push_to_a_public_repository_is_refused(hub, python, saved):
    assert python(PUSH, "push", saved, "org/reader").returncode == 0
    sent = len(hub.messages)
    result = python(PUSH, "push", saved, "org/reader", "--private")
    assert result.returncode == 2 and "org/reader exists and is public" in result.stderr
    assert len(hub.messages) == sent


@pytest.mark.parametrize(
    ("token", "message"), [("hf_wrong", "hf auth login"), (None, "No token for the Hub: run `hf auth login`")]
)
def test_a_push_without_the_right_token_says_how_to_get_one_and_sends_nothing(token, message, hub, python, saved):
    result = python(PUSH, "push", saved, "org/reader", token=token)
    assert result.returncode == 2 and message in result.stderr and "Traceback" not in result.stderr
    assert not hub.repos and not hub.files


def test_a_hub_that_cannot_be_reached_is_named(saved, fresh_interpreter):
    nowhere = {"HF_ENDPOINT": "http://127.0.0.1:9", "HF_HUB_OFFLINE": "0", "HF_TOKEN": TOKEN}
    result = fresh_interpreter.run(PUSH, "push", saved, "org/reader", environment=nowhere)
    assert result.returncode == 2 and "http://127.0.0.1:9" in result.stderr and "Traceback" not in result.stderr


def test_a_name_that_is_none_is_refused_before_anything_is_sent(hub, python, saved):
    result = python(PUSH, "push", saved, "not a name")
    assert result.returncode == 2 and "not a name" in result.stderr and "Traceback" not in result.stderr
    assert not hub.repos


def test_the_trainer_pushes_a_model_whose_code_and_processor_come_along(hub, python, saved, tmp_path):
    output = tmp_path / "run"
    output.mkdir()
    (output / "_splits.csv").write_text("Jane Doe")
    result = python(TRAINER_PUSH, saved, output)
    assert result.returncode == 0, result.stderr
    assert {"model.safetensors", "processor_config.json", "tokenizer.json", "modeling_tevia.py"} <= set(hub.files)
    assert list(hub.repos) == ["org/trained"]
    assert b"Jane Doe" not in b"".join(hub.files.values())
    assert json.loads(hub.files["config.json"])["auto_map"]["AutoModel"] == "modeling_tevia.TeViAModel"
    assert (tmp_path / "run" / "model.safetensors").read_bytes() == hub.files["model.safetensors"]
    assert weights_digest(output)
