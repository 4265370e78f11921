"""What is added from outside the package (metric, text condition, data set, loss) is known wherever it is listed."""

import ast
import json
import re
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from huggingface_hub import ModelCard
from tiny import tiny_config
from transformers import EvalPrediction

import tevia_hf
from tevia_cli import main as command
from tevia_hf import (
    METRICS,
    TEXT_CONDITIONS,
    TeViAConfig,
    TeViAForSegmentation,
    compare_runs,
    evaluate_dataset,
    load_segmentation_dataset,
    register_dataset,
    register_loss,
    register_metric,
    register_text_condition,
    write_bundle,
    write_prompts,
)
from tevia_hf.data.folder import list_folder
from tevia_hf.data.registry import SOURCES
from tevia_hf.evaluation.comparison import comparison_text
from tevia_hf.evaluation.text_conditions import default_conditions
from tevia_hf.loss_tevia import LOSSES, cross_entropy_loss, soft_dice_loss
from tevia_hf.prompts import QATA
from tevia_hf.training.arguments import TeViATrainingArguments, parse_recipe
from tevia_hf.training.recipe import load_splits
from tevia_hf.training.trainer import compute_metrics

ROOT = Path(__file__).parents[1]
TINY = ROOT / "hub_configs" / "tevia-tiny"
BLOCKS = re.findall(r"```python\n(.*?)```", (ROOT / "docs" / "extending.md").read_text(encoding="utf-8"), re.DOTALL)


@pytest.fixture(autouse=True)
def restored_tables():
    kept = [(table, dict(table)) for table in (METRICS, TEXT_CONDITIONS, SOURCES, LOSSES)]
    yield
    for table, before in kept:
        table.clear()
        table.update(before)


@pytest.fixture
def scans(tmp_path):
    """`scans/` with two images a split, of one patient each."""
    rows = []
    for split in ("train", "val", "test"):
        for index, example in enumerate(load_segmentation_dataset("synthetic", split=split, size=32, count=2)):
            name = f"{split}{index}_1.png"
            for part in ("image", "mask"):
                (tmp_path / "scans" / f"{part}s").mkdir(parents=True, exist_ok=True)
                example[part].save(tmp_path / "scans" / f"{part}s" / name)
            rows.append({"Image": name, "Description": example["text"], "split": split})
    pd.DataFrame(rows).to_csv(tmp_path / "scans" / "scans.csv", index=False)
    return tmp_path / "scans"


def evaluated(folder, **settings):
    """A report of the shipped model on four images, saved to the folder."""
    return evaluate_dataset(TINY, "synthetic", output_dir=folder, count=4, size=32, **settings)


def card_of(evaluation, folder) -> ModelCard:
    write_bundle(TINY, folder, evaluation=evaluation)
    return ModelCard.load(folder / "README.md", ignore_metadata_errors=False)


def help_of(subcommand, capsys) -> str:
    with pytest.raises(SystemExit, match="0"):
        command.main([subcommand, "--help"])
    return " ".join(capsys.readouterr().out.split())


def area_error(pair):
    """Of the first label: how far the predicted area is from the true one, as a share of it."""
    areas = [(float(predicted.sum()), float(true.sum())) for predicted, true in pair.masks.values()]
    return abs(areas[0][0] - areas[0][1]) / max(areas[0][1], 1.0) if areas else 0.0


def found_pixels(pair):
    return {label: (int((a & b).sum()), int(b.sum())) for label, (a, b) in pair.masks.items()}


# A metric


def test_a_metric_of_ones_own_is_in_every_table(tmp_path):
    register_metric("area_error", area_error, label="Relative area error", unit="share", higher_is_better=False)
    report = evaluated(tmp_path / "run")
    assert "| area_error |" in report.table() and "`area_error` in share" in report.table()
    content = json.loads((tmp_path / "run" / "evaluation.json").read_text())
    values = pd.read_csv(tmp_path / "run" / "evaluation.csv").groupby("text_mode")["area_error"].mean()
    for name, row in content["scores"].items():
        low, high = content["intervals"][name]["area_error"]
        assert row["area_error"] == pytest.approx(values[name]) and low <= row["area_error"] <= high
    card = card_of(tmp_path / "run", tmp_path / "bundle")
    assert "area_error" in card.text and "`area_error` in share" in card.text
    own = {result.metric_type: result for result in card.data.eval_results if result.dataset_config is None}
    assert own["area_error"].metric_name == "Relative area error"
    assert own["area_error"].metric_value == content["scores"]["correct"]["area_error"]
    table = tmp_path / "run" / "evaluation.csv"
    compared = compare_runs(table, table, "correct", "shuffled")
    assert "area_error" in list(compared["score"])
    assert "for hd95, area_error lower is better" in comparison_text(compared)


def test_a_ratio_of_ones_own_counts_the_whole_set_and_is_not_paired(tmp_path):
    register_metric("sensitivity", sums=found_pixels, label="Sensitivity, all pixels pooled")
    pairs = [(np.array([[1, 1, 0]]), np.array([[1, 1, 1]])), (np.array([[0, 0]]), np.array([[1, 0]]))]
    scores = tevia_hf.segmentation_metrics(*zip(*pairs, strict=True))
    assert scores["sensitivity"] == 2 / 4
    report = evaluated(tmp_path / "run")
    assert "sensitivity" in report.table() and report.intervals["correct"]["sensitivity"] is not None
    assert "sensitivity" not in report.images.columns
    table = tmp_path / "run" / "evaluation.csv"
    assert "sensitivity" not in list(compare_runs(table, table)["score"])


@pytest.mark.parametrize(("key", "higher_is_better"), [("area_error", False), ("sensitivity", True)])
def test_the_best_checkpoint_may_be_chosen_by_a_metric_of_ones_own(key, higher_is_better, tmp_path):
    with pytest.raises(ValueError, match=f"`metric_for_best_model` is {key}, .*take one of dice, iou"):
        TeViATrainingArguments(output_dir=str(tmp_path), metric_for_best_model=key)
    register_metric(key, area_error, label="A score", higher_is_better=higher_is_better)
    arguments = TeViATrainingArguments(output_dir=str(tmp_path), metric_for_best_model=key)
    assert arguments.greater_is_better is higher_is_better
    masks = np.ones((2, 4, 4), np.uint8)
    assert key in compute_metrics(EvalPrediction(masks, masks))


def test_a_metric_of_boundaries_is_left_out_of_validation(tmp_path):
    register_metric("slow", area_error, label="A slow score", of_boundaries=True)
    masks = np.ones((2, 4, 4), np.uint8)
    assert "slow" not in compute_metrics(EvalPrediction(masks, masks))
    with pytest.raises(ValueError, match="`metric_for_best_model` is slow"):
        TeViATrainingArguments(output_dir=str(tmp_path), metric_for_best_model="slow")


def test_a_recipe_that_seeks_the_wrong_end_of_a_metric_is_refused(tmp_path):
    with pytest.raises(ValueError, match="`greater_is_better` is False, which is wrong for dice"):
        TeViATrainingArguments(output_dir=str(tmp_path), greater_is_better=False)


def test_a_metric_may_be_kept_off_the_card(tmp_path):
    register_metric("internal", area_error, label="An internal score", on_card=False)
    report = evaluated(tmp_path / "run")
    assert "internal" in report.table() and "internal" not in card_of(tmp_path / "run", tmp_path / "bundle").text


def test_a_card_shows_what_was_registered_where_the_report_was_made(tmp_path):
    register_metric("area_error", area_error, label="Relative area error")
    register_text_condition("template", one_text, label="one text for all | images")
    evaluated(tmp_path / "run", text_modes=("template",))
    del METRICS["area_error"], TEXT_CONDITIONS["template"]
    card = card_of(tmp_path / "run", tmp_path / "bundle")
    assert "area_error" in card.text and "| one text for all \\| images |" in card.text
    assert "Relative area error" in {result.metric_name for result in card.data.eval_results}


# A text condition


def one_text(texts, seed):
    return ["Pulmonary infection."] * len(texts)


def test_a_text_condition_of_ones_own_is_in_every_table(tmp_path, capsys):
    register_text_condition("template", one_text, label="one text for all images")
    assert "template" in help_of("evaluate", capsys)
    words = [
        "evaluate",
        str(TINY),
        "--max-samples",
        "4",
        "--text-modes",
        "template",
        "--output-dir",
        str(tmp_path / "run"),
    ]
    assert command.main(words) == 0
    assert "| template |" in capsys.readouterr().out
    content = json.loads((tmp_path / "run" / "evaluation.json").read_text())
    assert list(content["scores"]) == ["correct", "shuffled", "template"]
    rows = pd.read_csv(tmp_path / "run" / "evaluation.csv")
    assert set(rows[rows["text_mode"] == "template"]["text"]) == {"Pulmonary infection."}
    card = card_of(tmp_path / "run", tmp_path / "bundle")
    assert "| one text for all images |" in card.text
    assert "with one text for all images" in {result.dataset_config for result in card.data.eval_results}
    table = str(tmp_path / "run" / "evaluation.csv")
    assert command.main(["compare", table, table, "--other-text-mode", "template"]) == 0


def test_a_text_condition_of_ones_own_has_every_field_of_those_built_in():
    register_text_condition("shout", change=lambda _, text, draws: text.upper(), label="loud", by_default=True)
    register_text_condition("idle", change=lambda _, text, draws: text, label="as it is", rewords=True, by_default=True)
    assert "shout" in default_conditions(["One lesion."], seed=0) and "idle" not in default_conditions(["A."], seed=0)
    register_text_condition("denied", one_text, label="denied", denies=True)
    assert TEXT_CONDITIONS["denied"].denies


def test_a_text_condition_may_be_measured_always(tmp_path):
    register_text_condition("template", one_text, label="one text for all images", always=True)
    report = evaluated(tmp_path / "run", text_modes=())
    assert list(report.scores) == ["correct", "shuffled", "template"]
    assert report.text_sensitivity.b == pytest.approx(report.scores["shuffled"]["dice"])


# A data set


def test_a_data_set_of_ones_own_is_read_by_every_subcommand(scans, tmp_path, capsys):
    register_dataset("clinic", lambda folder: list_folder(folder, group_of=lambda name: name.split("_")[0]), QATA)
    for subcommand in ("evaluate", "check-data", "prompts"):
        assert "clinic" in help_of(subcommand, capsys)
    assert load_segmentation_dataset("clinic", scans)["group"][:] == ["train0", "train1"]
    assert command.main(["check-data", "clinic", str(scans)]) == 0
    drawn = write_prompts("clinic", scans, tmp_path / "prompts.csv")
    assert len(drawn.rows) == 6
    words = [
        "evaluate",
        str(TINY),
        "--dataset",
        "clinic",
        "--data-dir",
        str(scans),
        "--output-dir",
        str(tmp_path / "r"),
    ]
    assert command.main(words) == 0
    assert "Data set `clinic`, split" in card_of(tmp_path / "r", tmp_path / "bundle").text
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(f"config_name: {TINY}\ndataset: clinic\ndata_dir: {scans}\noutput_dir: {tmp_path / 'run'}\n")
    training, validation = load_splits(parse_recipe(recipe).data)
    assert training["group"][:] == ["train0", "train1"] and validation["group"][:] == ["val0", "val1"]


def test_a_data_set_may_be_made_in_memory(tmp_path, capsys):
    register_dataset(
        "pairs", make=lambda split, count=3: load_segmentation_dataset("synthetic", None, split, count=count)
    )
    assert "pairs" in help_of("evaluate", capsys) and "pairs" not in help_of("check-data", capsys)
    report = evaluate_dataset(TINY, "pairs", split="val", count=2, output_dir=tmp_path / "run")
    assert report.settings["dataset"] == "pairs" and report.settings["options"] == {"count": 2}
    card = card_of(tmp_path / "run", tmp_path / "bundle")
    assert "Data set `pairs`" in card.text and "Loaded with `count` 2." in card.text
    assert len(load_segmentation_dataset("pairs", count=2, text_table="", window="", split_seed=None)) == 2
    with pytest.raises(ValueError, match="'pairs' takes no window"):
        load_segmentation_dataset("pairs", window=(40, 400))
    with pytest.raises(ValueError, match="'pairs' is made in memory. Leave data_dir out"):
        load_segmentation_dataset("pairs", tmp_path)


def test_a_made_data_set_without_the_columns_is_refused():
    register_dataset("texts", make=lambda split: load_segmentation_dataset("synthetic", count=2).remove_columns("mask"))
    with pytest.raises(ValueError, match="'texts' was made without the columns mask"):
        load_segmentation_dataset("texts")


# A loss


def test_a_loss_of_ones_own_is_trained_where_the_config_weights_it(tmp_path):
    register_loss("second_dice", soft_dice_loss)
    pixels, labels = torch.randn(2, 3, 32, 32), torch.randint(0, 2, (2, 32, 32))
    torch.manual_seed(0)
    model = TeViAForSegmentation(tiny_config(use_text=False, second_dice_loss_weight=0.5)).eval()
    model.save_pretrained(tmp_path / "model")
    for reader in (model, TeViAForSegmentation.from_pretrained(tmp_path / "model").eval()):
        outputs = reader(pixels, labels=labels)
        dice, entropy = (loss(outputs.logits, labels) for loss in (soft_dice_loss, cross_entropy_loss))
        torch.testing.assert_close(outputs.segmentation_loss, 1.5 * dice + entropy)
    plain = TeViAForSegmentation(tiny_config(use_text=False)).eval()(pixels, labels=labels)
    dice, entropy = (loss(plain.logits, labels) for loss in (soft_dice_loss, cross_entropy_loss))
    torch.testing.assert_close(plain.segmentation_loss, dice + entropy)


def test_a_recipe_weights_a_loss_of_ones_own(tmp_path):
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(
        "vision_model: some/vision\ntext_model: some/text\noutput_dir: out\nconfig: {focal_loss_weight: 0.5}\n"
    )
    with pytest.raises(ValueError, match="`config` has unknown fields: focal_loss_weight"):
        parse_recipe(recipe)
    register_loss("focal", cross_entropy_loss)
    assert parse_recipe(recipe).model.config == {"focal_loss_weight": 0.5}


def test_a_replaced_loss_keeps_its_weight():
    register_loss("dice", cross_entropy_loss, exist_ok=True)
    model = TeViAForSegmentation(tiny_config(use_text=False, cross_entropy_loss_weight=0.0))
    outputs = model(torch.zeros(1, 3, 32, 32), labels=torch.ones(1, 32, 32, dtype=torch.long))
    expected = cross_entropy_loss(outputs.logits, torch.ones(1, 32, 32, dtype=torch.long))
    assert torch.equal(outputs.loss, expected) and outputs.loss.requires_grad


def test_a_loss_that_nobody_registered_is_refused_in_training_alone():
    model = TeViAForSegmentation(tiny_config(boundary_loss_weight=0.5))
    pixels, labels = torch.zeros(1, 3, 32, 32), torch.ones(1, 32, 32, dtype=torch.long)
    assert model(pixels).logits.shape == (1, 1, 32, 32)
    with pytest.raises(ValueError, match="boundary_loss_weight, an unregistered loss: call `register_loss`"):
        model(pixels, labels=labels)


def test_the_published_loss_is_dice_alone():
    logits, labels = torch.randn(2, 1, 4, 4), torch.randint(0, 2, (2, 4, 4))
    config = TeViAConfig.published()
    assert torch.equal(tevia_hf.loss_tevia.segmentation_loss(logits, labels, config), soft_dice_loss(logits, labels))


# What is taken is kept


@pytest.mark.parametrize(
    ("register", "message"),
    [
        (lambda: register_metric("dice", area_error, label="x"), "There is a metric 'dice'"),
        (lambda: register_metric("area error", area_error, label="x"), "give a name like `area_error_score`"),
        (lambda: register_metric("text_mode", area_error, label="x"), "cannot be a metric's key"),
        (lambda: register_metric("loss", area_error, label="x"), "cannot be a metric's key"),
        (lambda: register_metric("mine", label="x"), "give `of_image`, or `sums`"),
        (lambda: register_text_condition("none", one_text, label="x"), "There is a text condition 'none'"),
        (lambda: register_text_condition("a,b", one_text, label="x"), "cannot name a text condition"),
        (lambda: register_text_condition("no text branch", one_text, label="x"), "cannot name a text condition"),
        (lambda: register_dataset("folder", list_folder), "There is already a data set 'folder'"),
        (lambda: register_dataset("unknown", list_folder), "cannot name a data set"),
        (lambda: register_dataset("mine"), "Give either `list_examples`"),
        (lambda: register_loss("dice", soft_dice_loss), "There is a loss 'dice'"),
        (lambda: register_loss("alignment", soft_dice_loss), "cannot name a loss"),
    ],
)
def test_a_name_that_is_taken_or_none_is_refused(register, message):
    with pytest.raises(ValueError, match=message):
        register()


def test_an_entry_may_be_replaced_on_purpose():
    register_metric("dice", area_error, label="Not Dice", exist_ok=True)
    register_text_condition("none", one_text, label="x", exist_ok=True)
    register_dataset("folder", list_folder, exist_ok=True)
    register_loss("dice", soft_dice_loss, exist_ok=True)
    assert METRICS["dice"].label == "Not Dice" and TEXT_CONDITIONS["none"].choose is one_text


# The guide, and the subcommands


@pytest.mark.parametrize("block", BLOCKS, ids=range(len(BLOCKS)))
def test_every_block_of_the_guide_runs(block, scans, monkeypatch):
    monkeypatch.chdir(scans.parent)
    shutil.copytree(TINY, scans.parent / "hub_configs" / "tevia-tiny")
    exec(compile(block, "docs/extending.md", "exec"), {})


def test_the_guide_has_a_block_for_each_kind():
    headings = (ROOT / "docs" / "extending.md").read_text(encoding="utf-8").split("\n## ")[1:]
    kinds = ("A data set", "A metric", "A text condition", "A loss", "An encoder family", "An export format")
    assert [text.splitlines()[0] for text in headings] == list(kinds)
    assert all("```python" in text for text in headings)


@pytest.mark.parametrize("name", command.SUBCOMMANDS)
def test_each_subcommand_is_one_public_call(name):
    path = Path(command.__file__).with_name(f"{name.replace('-', '_')}.py")
    run = next(
        node for node in ast.parse(path.read_text()).body if isinstance(node, ast.FunctionDef) and node.name == "run"
    )
    imported = [alias.name for node in ast.walk(run) if isinstance(node, ast.ImportFrom) for alias in node.names]
    calls = {node.func.id for node in ast.walk(run) if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)}
    assert len([name for name in imported if name in tevia_hf.__all__ and name in calls]) == 1
    assert not calls & {"claim_output_dir", "load_trained", "open"}
