"""The README and the task pages state what works: their Python runs, and so do commands whose data are available."""

import json
import re
import shlex
from pathlib import Path

import pytest
import yaml
from tiny import tiny_text_config, tiny_tokenizer, tiny_vision_config
from transformers import BertModel, ConvNextModel

from tevia_cli.main import main, parse
from tevia_hf.experiments.grid import read_plan
from tevia_hf.training.arguments import parse_recipe

ROOT = Path(__file__).parents[1]
README, DOCS = ROOT / "README.md", ROOT / "docs"
GUIDE, TRAIN, DEPLOY = (DOCS / f"{name}.md" for name in ("own_data", "train", "deploy"))
NAMES = ("install", "predict", "train", "recipe", "evaluate", "ablation", "share", "deploy", "datasets", "encoders")
TASKS = [ROOT / "docs" / f"{name}.md" for name in NAMES]
PAGES = [README, GUIDE, *TASKS]
# data, weights or a Hub
UNAVAILABLE = ("/path/to", "folder ultrasound", "outputs/qata", "authors.ckpt", "tevia push", "MODEL")


def blocks(path, language):
    return re.findall(rf"^```{language}\n(.*?)^```", path.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE)


def commands(path):
    """The arguments after `tevia` of every command line in a page, each once."""
    lines = "\n".join(blocks(path, "bash")).splitlines()
    return [shlex.split(line, comments=True)[1:] for line in dict.fromkeys(lines) if line.startswith("tevia ")]


def is_available(arguments):
    return not any(part in " ".join(["tevia", *arguments]) for part in UNAVAILABLE)


@pytest.fixture
def clone(tmp_path, monkeypatch):
    """A folder in which relative paths of the pages hold, and to which they write."""
    for name in ("hub_configs", "spaces", "docs", "benchmarks"):
        (tmp_path / name).symlink_to(ROOT / name)
    monkeypatch.chdir(tmp_path)
    return tmp_path


# Appended to the block that assigns the name.
MUST_HOLD = {
    "result": "assert result['mask'].size == (256, 256) and result['score'] > 0.5",
    "results": "assert results[0]['mask'].size == (256, 256)",
    "masks": "assert tuple(masks[0].shape) == (256, 256) and masks[0].any()",
    "tuned": "assert model.config.id2label == tuned.config.id2label == names; "
    "assert processor.image_processor.num_labels == tuned_processor.image_processor.num_labels == 3",
    "influences": "left, right = masks_by_text.values(); assert left.any() and (left != right).any()",
    "trainer": "assert trainer.state.log_history[-2]['eval_dice'] > 0.8 and model.prototype_memory.is_active",
}


PYTHON_BLOCKS = [
    (page, number)
    for page in (README, *TASKS)
    if page.stem != "encoders"
    for number in range(len(blocks(page, "python")))
]
PYTHON_BLOCKS.append((GUIDE, 1))  # the first begins the guide, see below
OFFLINE = {"HF_ENDPOINT": "http://127.0.0.1:9"}


@pytest.mark.parametrize(
    ("page", "number"), PYTHON_BLOCKS, ids=[f"{page.stem}-{number}" for page, number in PYTHON_BLOCKS]
)
def test_a_python_block_of_the_pages_runs_by_itself(page, number, clone, fresh_interpreter):
    code = prepared(blocks(page, "python")[number], clone)
    (expected,) = (check for name, check in MUST_HOLD.items() if re.search(rf"^{name}\b.* = ", code, re.MULTILINE))
    result = fresh_interpreter.run(f"{code}\n{expected}", environment=OFFLINE)
    assert result.returncode == 0, result.stderr
    if "trainer" in expected:
        assert (clone / "outputs" / "fine-tuned" / "processor_config.json").is_file()


def prepared(code, folder):
    """The code, with the bundle that it reads in the folder, and encoders of the Hub replaced by small ones there."""
    if "outputs/bundle" in code:
        (bundle,) = (arguments for arguments in commands(DEPLOY) if arguments[0] == "bundle")
        assert main(bundle) == 0
    if "facebook/convnext" in code:
        small_recipe(folder)
    return re.sub(r'"facebook/convnext[^"]*", "microsoft/[^"]*"', '"vision", "text"', code)


def test_the_readme_has_at_most_150_lines():
    assert len(README.read_text(encoding="utf-8").splitlines()) <= 150


def test_the_fine_tuning_script_has_at_most_40_lines():
    script = next(block for block in blocks(TRAIN, "python") if "Trainer(" in block)
    assert len([line for line in script.splitlines() if line.strip()]) <= 40


# Appended to a command, for a short test; the last value of an option applies.
SHORT = {
    "train": "--num-train-epochs 1 --max-train-samples 16".split(),
    "evaluate": "--max-samples 20".split(),
}
STARTS = {  # pages whose first command runs in a clone, and a file that it writes
    "predict": "masks/overlays/example.jpg",
    "train": "tiny/recipe.yaml",
    "recipe": "one-epoch/recipe.yaml",
    "evaluate": "tiny-eval/evaluation.md",
    "share": "bundle/README.md",
}


def run_available(page):
    available = [arguments for arguments in commands(page) if is_available(arguments)]
    for arguments in available:
        assert main([*arguments, *SHORT.get(arguments[0], [])]) == 0, arguments
    return available


def test_the_commands_of_the_readme_that_need_nothing_else_run(clone):
    assert {arguments[0] for arguments in run_available(README)} == {"train", "evaluate", "compare", "bundle"}
    assert "| its own text |" in (clone / "outputs" / "bundle" / "README.md").read_text()


@pytest.mark.parametrize("name", STARTS)
def test_a_task_page_starts_with_a_command_that_runs_in_a_clone(name, clone):
    page = ROOT / "docs" / f"{name}.md"
    assert run_available(page)[0] == commands(page)[0]
    assert (clone / "outputs" / STARTS[name]).is_file()


def test_the_page_on_prediction_lists_the_files_that_its_command_writes(clone):
    page = ROOT / "docs" / "predict.md"
    assert main(commands(page)[0]) == 0
    written = [path for path in (clone / "outputs" / "masks").rglob("*") if path.is_file() and path.name[0] != "."]
    first, *_ = page.read_text(encoding="utf-8").split("\n## ")
    listed = re.findall(r"^\| `(\S+)` \|", first, re.MULTILINE)
    assert sorted(listed) == sorted(path.relative_to(clone / "outputs" / "masks").as_posix() for path in written)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_options_on_the_pages_have_hyphens(page):
    assert re.findall(r"(?<![\w-])--\w+_\w+", page.read_text(encoding="utf-8")) == []


@pytest.mark.parametrize(
    "arguments",
    [arguments for page in PAGES for arguments in commands(page)],
    ids=lambda arguments: " ".join(arguments)[:60],
)
def test_every_command_of_the_pages_has_options_that_the_command_knows(arguments, clone):
    args = parse(arguments)
    if arguments[0] == "train" and Path(arguments[1]).exists():
        parse_recipe(arguments[1], args.overrides)
    if arguments[0] == "ablate" and Path(args.grid).exists():
        assert read_plan(args.recipe, args.grid, args.output_dir, args.overrides).runs


def yaml_block(path, field):
    (block,) = (block for block in blocks(path, "yaml") if field in block)
    return block


def small_recipe(folder):
    """The guide's recipe with encoders and a length for a test."""
    ConvNextModel(tiny_vision_config()).save_pretrained(folder / "vision")
    text_config = tiny_text_config()
    text_config.max_position_embeddings = 64  # the default of `max_text_length`
    BertModel(text_config, add_pooling_layer=False).save_pretrained(folder / "text")
    tiny_tokenizer().save_pretrained(folder / "text")
    fields = yaml.safe_load(yaml_block(GUIDE, "vision_model:"))
    small = {"vision_model": "vision", "text_model": "text", "num_train_epochs": 1, "use_cpu": True}
    pixels = {"image_processor": {"size": {"height": 64, "width": 64}}, "config": {"max_text_length": 24}}
    (folder / "scans.yaml").write_text(yaml.safe_dump({**fields, **small, **pixels}))


def test_the_guide_leads_from_a_folder_to_a_bundle(clone):
    script, _ = blocks(GUIDE, "python")
    counts = '{"train": 160, "val": 20, "test": 40}'
    assert counts in script
    exec(script.replace(counts, '{"train": 6, "val": 3, "test": 3}'), {})
    small_recipe(clone)
    (clone / "tiny.yaml").write_text(yaml_block(GUIDE, "model_name_or_path:"))
    for arguments in commands(GUIDE):
        if arguments[0] == "bundle":
            (clone / "outputs" / "scans" / "card.yaml").write_text(yaml_block(GUIDE, "intended_use:"))
        if is_available(arguments):
            assert main(arguments) == 0, arguments
    assert "| no text |" in (clone / "outputs" / "scans-bundle" / "README.md").read_text()
    scores = json.loads((clone / "outputs" / "scans-tiny-test" / "evaluation.json").read_text())["scores"]
    assert scores["correct"]["dice"] > 0.8
