"""`tevia bundle` writes what the Hub is to hold, and nothing where something is wrong."""

import json
import shutil
from pathlib import Path

import pytest
from huggingface_hub import ModelCard

from tevia_hf import TeViAForSegmentation
from tevia_hf.cli.main import main
from tevia_hf.hub.bundle import public_recipe, read_bundle
from tevia_hf.training.prediction import weights_digest

TINY = Path(__file__).parents[1] / "hub_configs" / "tevia-tiny"


@pytest.fixture
def tiny(tmp_path):
    return Path(shutil.copytree(TINY, tmp_path / "tevia-tiny"))


def test_a_bundle_holds_model_processor_code_recipe_report_and_card(tiny, tmp_path):
    assert main(["bundle", str(tiny), "--output-dir", str(tmp_path / "out")]) == 0
    held = {path.name for path in (tmp_path / "out").iterdir()}
    assert {"config.json", "processor_config.json", "tokenizer.json", "modeling_tevia.py", "pipeline_tevia.py"} <= held
    assert {"README.md", "recipe.yaml", "evaluation.json", "model.safetensors"} <= held
    assert weights_digest(tmp_path / "out") == weights_digest(tiny)
    card = ModelCard.load(tmp_path / "out" / "README.md", ignore_metadata_errors=False)
    assert len(card.data.eval_results) > 9 and card.data.model_name == "tevia-tiny"


def test_a_report_on_other_weights_is_refused(tiny, tmp_path):
    model = TeViAForSegmentation.from_pretrained(tiny)
    model.decode_head.classifier.bias.data += 1
    model.save_pretrained(tiny)
    with pytest.raises(ValueError, match="run `tevia evaluate`"):
        read_bundle(tiny)
    (tiny / "evaluation.json").unlink()
    assert "None measured yet" in read_bundle(tiny).card.text


def test_a_report_may_lie_elsewhere(tiny, tmp_path):
    (tiny / "evaluation.json").rename(tmp_path / "evaluation.json")
    assert "None measured yet" in read_bundle(tiny).card.text
    assert "| its own sentence |" in read_bundle(tiny, evaluation=tmp_path).card.text


@pytest.mark.parametrize(
    ("missing", "message"),
    [("card.yaml", "card.yaml"), ("model.safetensors", "no weights"), ("config.json", "no TeViA model")],
)
def test_a_bundle_that_cannot_be_made_leaves_the_old_one(missing, message, tiny, tmp_path, capsys):
    words = ["bundle", str(tiny), "--output-dir", str(tmp_path / "out")]
    assert main(words) == 0
    (tiny / missing).unlink()
    assert main([*words, "--overwrite"]) == 2
    assert message in capsys.readouterr().err
    assert (tmp_path / "out" / "README.md").is_file()


def test_paths_in_the_report_end_in_their_last_part(tiny):
    report = json.loads((tiny / "evaluation.json").read_text())
    report["settings"]["model"] = str(tiny)
    (tiny / "evaluation.json").write_text(json.dumps(report))
    assert read_bundle(tiny).report["settings"]["model"] == "tevia-tiny"


@pytest.mark.parametrize(
    ("said", "shown"),
    [
        ("# why\nseed: 0\n", "# why\nseed: 0\n"),
        ("seed: 0\ndata_dir: /home/jane/films\n", "seed: 0\ndata_dir: films\n"),
        ("data_dir: ~/films\n", "data_dir: films\n"),
        ("seed: 0\nhub_token: hf_secret\n", "seed: 0\n"),
    ],
)
def test_a_recipe_is_shown_without_folders_and_tokens(said, shown, tmp_path):
    (tmp_path / "recipe.yaml").write_text(said)
    assert public_recipe(tmp_path / "recipe.yaml") == shown
