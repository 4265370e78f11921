"""The README and the guide say what works: their Python runs, and so do their commands where data are at hand."""

import re
import shlex
from pathlib import Path

import pandas as pd
import pytest
import yaml
from tiny import tiny_text_config, tiny_tokenizer, tiny_vision_config
from transformers import BertModel, ConvNextModel

from tevia_cli.main import main, parse
from tevia_hf import load_segmentation_dataset
from tevia_hf.training.arguments import parse_recipe

ROOT = Path(__file__).parents[1]
README, GUIDE = (ROOT / name for name in ("README.md", "docs/own_data.md"))
ELSEWHERE = ("/path/to", "outputs/qata", "authors.ckpt", "tevia push", "MODEL")  # data, weights or a Hub not at hand


def blocks(path, language):
    return re.findall(rf"^```{language}\n(.*?)^```", path.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE)


def commands(path):
    """The words after `tevia` of every command line in a page."""
    lines = "\n".join(blocks(path, "bash")).splitlines()
    told = [line.removeprefix(".venv/bin/") for line in lines if line.removeprefix(".venv/bin/").startswith("tevia ")]
    return [shlex.split(line, comments=True)[1:] for line in told]


def is_at_hand(words):
    return not any(part in " ".join(["tevia", *words]) for part in ELSEWHERE)


@pytest.fixture
def clone(tmp_path, monkeypatch):
    """A folder in which relative paths of the pages hold, and to which they write."""
    for name in ("hub_configs", "spaces"):
        (tmp_path / name).symlink_to(ROOT / name)
    monkeypatch.chdir(tmp_path)
    return tmp_path


# Said after a block that holds the name: what it must have come to.
MUST_HOLD = {
    "found": "assert found['mask'].size == found['overlay'].size == (256, 256) and found['score'] > 0.5",
    "masks": "assert tuple(masks[0].shape) == (256, 256) and masks[0].any()",
    "trainer": "assert trainer.state.log_history[-2]['eval_dice'] > 0.8 and model.prototype_memory.is_active",
}


@pytest.mark.parametrize("number", range(len(blocks(README, "python"))))
def test_a_python_block_of_the_readme_runs_by_itself(number, clone, fresh_interpreter):
    code = blocks(README, "python")[number]
    (expected,) = (check for name, check in MUST_HOLD.items() if re.search(rf"^{name}\b.* = ", code, re.MULTILINE))
    result = fresh_interpreter.run(f"{code}\n{expected}", environment={"HF_ENDPOINT": "http://127.0.0.1:9"})
    assert result.returncode == 0, result.stderr
    if "trainer" in expected:
        assert (clone / "outputs" / "fine-tuned" / "processor_config.json").is_file()


def test_the_fine_tuning_script_has_at_most_40_lines():
    script = next(block for block in blocks(README, "python") if "Trainer(" in block)
    assert len([line for line in script.splitlines() if line.strip()]) <= 40


def test_the_commands_of_the_readme_that_need_nothing_else_run(clone):
    run = [words for words in commands(README) if is_at_hand(words)]
    assert {words[0] for words in run} >= {"evaluate", "compare", "bundle"}
    for words in run:
        assert main(words) == 0, words
    assert "| its own text |" in (clone / "outputs" / "bundle" / "README.md").read_text()


@pytest.mark.parametrize("words", [*commands(README), *commands(GUIDE)], ids=lambda words: " ".join(words)[:60])
def test_every_command_of_the_pages_has_words_that_the_command_knows(words, clone):
    args = parse(words)
    if words[0] == "train" and Path(words[1]).exists():
        parse_recipe(words[1], args.overrides)


def made_up_folder(folder):
    """`films/` as the guide lays it out."""
    rows = []
    for split, count in (("train", 6), ("val", 3), ("test", 3)):
        for film in load_segmentation_dataset("synthetic", split=split, size=64, count=count):
            name = f"{split}_{film['id']}.png"
            for part, picture in (("images", film["image"]), ("masks", film["mask"])):
                (folder / part).mkdir(parents=True, exist_ok=True)
                picture.save(folder / part / name)
            rows.append({"Image": name, "Description": film["text"], "split": split})
    pd.DataFrame(rows).to_csv(folder / "films.csv", index=False)


def small_recipe(folder):
    """The guide's recipe with encoders and a length for a test."""
    ConvNextModel(tiny_vision_config()).save_pretrained(folder / "vision")
    BertModel(tiny_text_config(), add_pooling_layer=False).save_pretrained(folder / "text")
    tiny_tokenizer().save_pretrained(folder / "text")
    fields = yaml.safe_load(blocks(GUIDE, "yaml")[0])
    small = {"vision_model": "vision", "text_model": "text", "num_train_epochs": 1, "use_cpu": True}
    pixels = {"image_processor": {"size": {"height": 64, "width": 64}}, "config": {"max_text_length": 24}}
    (folder / "films.yaml").write_text(yaml.safe_dump({**fields, **small, **pixels}))


def test_the_guide_leads_from_a_folder_to_a_bundle(clone):
    made_up_folder(clone / "films")
    small_recipe(clone)
    for words in commands(GUIDE):
        if words[0] == "bundle":
            (clone / "outputs" / "films" / "card.yaml").write_text(blocks(GUIDE, "yaml")[1])
        if is_at_hand(words):
            assert main(words) == 0, words
    assert "| no text |" in (clone / "outputs" / "films-bundle" / "README.md").read_text()
