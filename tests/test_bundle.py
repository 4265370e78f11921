"""`tevia bundle` writes the files for the Hub, and nothing if something is wrong."""

import json
import shutil
from pathlib import Path

import pytest
from huggingface_hub import ModelCard

from tevia_cli.main import main
from tevia_hf import TeViAConfig, TeViAForSegmentation
from tevia_hf.hub.bundle import public_recipe, read_bundle
from tevia_hf.inference.identity import weights_digest

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
    assert json.loads((tmp_path / "out" / "evaluation.json").read_text()) == json.loads(
        (tiny / "evaluation.json").read_text()
    )
    assert (tmp_path / "out" / "recipe.yaml").read_text() in card.text


def test_a_bundle_can_be_bundled_again_under_its_name_on_the_hub(tiny, tmp_path):
    first, second = tmp_path / "first", tmp_path / "second"
    assert main(["bundle", str(tiny), "--name", "org/tiny", "--output-dir", str(first)]) == 0
    assert main(["bundle", str(first), "--name", "org/tiny", "--output-dir", str(second)]) == 0
    for name in ("README.md", "card.yaml", "evaluation.json", "recipe.yaml", "model.safetensors"):
        assert (first / name).read_bytes() == (second / name).read_bytes()
    assert 'model="org/tiny"' in (second / "README.md").read_text()


def test_a_bundle_is_not_written_over_what_it_is_made_of(tiny, tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / ".tevia-output").touch()
    card = (tiny / "card.yaml").rename(tmp_path / "out" / "card.yaml")
    arguments = ["bundle", str(tiny), "--card", str(card), "--output-dir", str(tmp_path / "out"), "--overwrite"]
    assert main(arguments) == 2 and card.is_file()


def test_the_same_weights_in_several_files_have_the_same_digest(tiny, tmp_path):
    TeViAForSegmentation.from_pretrained(tiny).save_pretrained(tmp_path / "shards", max_shard_size="1MB")
    assert len(list((tmp_path / "shards").glob("*.safetensors"))) > 1
    assert weights_digest(tmp_path / "shards") == weights_digest(tiny)
    model = TeViAForSegmentation.from_pretrained(tiny)
    model.decode_head.classifier.bias.data += 1e-6
    model.save_pretrained(tmp_path / "other")
    assert weights_digest(tmp_path / "other") != weights_digest(tiny)


def test_the_card_of_a_vision_only_model_mentions_no_text_input(tiny):
    config = TeViAConfig.from_pretrained(tiny, use_text=False, text_config=None)
    TeViAForSegmentation(config).save_pretrained(tiny)
    (tiny / "evaluation.json").unlink()
    text = read_bundle(tiny).card.text
    assert "vision-only baseline" in text and 'segment("image.png")  #' in text and "an image and a text" not in text


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
    assert "| its own text |" in read_bundle(tiny, evaluation=tmp_path).card.text


@pytest.mark.parametrize(
    ("missing", "message"),
    [("card.yaml", "card.yaml"), ("model.safetensors", "no weights"), ("config.json", "no TeViA model")],
)
def test_a_bundle_that_cannot_be_made_leaves_the_old_one(missing, message, tiny, tmp_path, capsys):
    arguments = ["bundle", str(tiny), "--output-dir", str(tmp_path / "out")]
    assert main(arguments) == 0
    (tiny / missing).unlink()
    assert main([*arguments, "--overwrite"]) == 2
    assert message in capsys.readouterr().err
    assert (tmp_path / "out" / "README.md").is_file()


def test_paths_in_the_report_end_in_their_last_part(tiny):
    report = json.loads((tiny / "evaluation.json").read_text())
    report["settings"]["model"] = str(tiny)
    (tiny / "evaluation.json").write_text(json.dumps(report))
    assert read_bundle(tiny).report["settings"]["model"] == "tevia-tiny"


@pytest.mark.parametrize(
    ("recipe_text", "shown"),
    [
        ("# in /home/jane, by hf_abc\nseed: 0\n", "seed: 0\n"),
        (
            "push_to_hub_token: hf_a\nlr_scheduler_kwargs: {token: hf_b, min_lr: 0}\n",
            "lr_scheduler_kwargs:\n  min_lr: 0\n",
        ),
        ("config: {text_token_lengths: [24]}\n", "config:\n  text_token_lengths:\n  - 24\n"),
        ("data_dir: /home/jane\n", "data_dir: data\n"),
        ("data_dir: 'C:\\Users\\jane\\'\n", "data_dir: data\n"),
        ("data_dir: ~jane\n", "data_dir: data\n"),
        ("data_dir: ./../../home/jane/films\n", "data_dir: films\n"),
        ("data_dir: $HOME/films\n", "data_dir: films\n"),
        ("data_dir: http://jane:word@host/films\n", "data_dir: films\n"),
        ("seed: 0\ndata_dir: /home/jane/films\n", "seed: 0\ndata_dir: films\n"),
        ("data_dir: ~jane/films\n", "data_dir: films\n"),
        ("data_dir: 'C:\\jane\\films'\n", "data_dir: films\n"),
        ("data_dir: file:///home/jane/films\n", "data_dir: films\n"),
        ("text_table: ../jane/a.csv\n", "text_table: a.csv\n"),
        ("lora: {base: /home/jane/a, r: [8, /srv/jane/b]}\n", "lora:\n  base: a\n  r:\n  - 8\n  - b\n"),
        ("data_dir: data/qata\n", "data_dir: data/qata\n"),
        ("seed: 0\nhub_token: hf_secret\n", "seed: 0\n"),
    ],
)
def test_a_recipe_is_shown_without_folders_and_tokens(recipe_text, shown, tmp_path):
    (tmp_path / "recipe.yaml").write_text(recipe_text)
    assert public_recipe(tmp_path / "recipe.yaml") == shown


@pytest.mark.parametrize("content", [b"- a", b"", b"a: [", b"a: \xff"])
def test_a_recipe_that_cannot_be_read_is_named(content, tmp_path):
    (tmp_path / "recipe.yaml").write_bytes(content)
    with pytest.raises(ValueError, match="recipe.yaml"):
        public_recipe(tmp_path / "recipe.yaml")
