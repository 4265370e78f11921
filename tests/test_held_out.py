"""Images that were not used for training or model selection are determined from the list in the model's folder."""

import shutil
from pathlib import Path

import pandas as pd
import pytest
from huggingface_hub import ModelCard

from tevia_cli.main import main
from tevia_hf import evaluate_dataset, load_segmentation_dataset, write_bundle
from tevia_hf.data.features import dataset_from_rows
from tevia_hf.data.origin import origin_of
from tevia_hf.data.splits import held_out

TINY = Path(__file__).parents[1] / "hub_configs" / "tevia-tiny"


@pytest.fixture
def examples():
    return load_segmentation_dataset("synthetic", split="val", count=4, size=32)


@pytest.fixture
def trained_on(tmp_path):
    """The folder of a model that was trained on rows of (id, group, part)."""

    def trained_on(*rows):
        folder = tmp_path / "trained"
        shutil.copytree(TINY, folder, dirs_exist_ok=True)
        pd.DataFrame(rows, columns=["id", "group", "part"]).to_csv(folder / "_splits.csv", index=False)
        return folder

    return trained_on


def test_images_of_training_and_validation_are_left_out_with_all_others_of_their_groups(examples, trained_on):
    rows = [{**row, "group": "ab"[index // 2]} for index, row in enumerate(examples)]
    names = list(examples["id"])
    left = held_out(dataset_from_rows(rows), trained_on((names[0], "not known by then", "train")))
    assert list(left["id"]) == names[1:]
    left = held_out(dataset_from_rows(rows), trained_on(("another", "a", "eval")))
    assert list(left["id"]) == names[2:]


def test_images_without_a_known_group_are_no_group(examples, trained_on):
    rows = [{**row, "group": ""} for row in examples]
    folder = trained_on((examples["id"][0], "", "train"), ("another", "", "eval"))
    assert list(held_out(dataset_from_rows(rows), folder)["id"]) == list(examples["id"])[1:]


def test_the_record_of_the_data_set_says_that_it_is_held_out(examples, trained_on):
    left = held_out(examples, trained_on((examples["id"][0], "", "train")))
    assert origin_of(left) == origin_of(examples) | {"held_out": True, "left_out": len(examples) - len(left)}
    assert origin_of(left.select([0])) == origin_of(examples) | {
        "held_out": True,
        "left_out": len(examples) - len(left),
        "max_samples": 1,
    }


def test_a_report_on_held_out_images_says_so_and_so_does_the_card(examples, trained_on, tmp_path):
    folder = trained_on((examples["id"][1], "", "train"))
    report = evaluate_dataset(
        folder, split="val", output_dir=tmp_path / "report", text_modes=(), held_out=True, count=4, size=32
    )
    assert report.settings["held_out"] is True and report.settings["images"] == 3
    assert set(report.images["id"]) == set(examples["id"]) - {examples["id"][1]}
    write_bundle(folder, tmp_path / "bundle", evaluation=tmp_path / "report")
    card = ModelCard.load(tmp_path / "bundle" / "README.md", ignore_metadata_errors=True).text
    assert "Images and patients of the training and its validation are left out." in card


def test_a_model_with_unknown_training_data_is_refused(examples):
    with pytest.raises(ValueError, match="has no _splits.csv.*leave `held_out` out"):
        held_out(examples, TINY)


def test_a_data_set_without_held_out_images_is_refused(examples, trained_on):
    with pytest.raises(ValueError, match="All 4 examples.*evaluate on another split"):
        held_out(examples, trained_on(*((name, "", "train") for name in examples["id"])))


def test_the_subcommand_has_the_option(tmp_path, capsys):
    assert main(["evaluate", str(TINY), "--held-out", "--output-dir", str(tmp_path / "out")]) == 2
    assert "has no _splits.csv" in capsys.readouterr().err and not (tmp_path / "out").exists()
