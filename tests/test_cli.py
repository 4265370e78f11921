"""The command `tevia`: every subcommand from its arguments to its files, exit codes, and errors for bad input."""

import json
import re
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import layouts
import nibabel
import numpy as np
import pandas as pd
import pytest
import torch
import yaml
from PIL import Image
from references.reference_case import MANIFEST, reference_state_dict
from safetensors.torch import load_file
from tiny import tiny_processor, tiny_tokenizer, tiny_vision_config
from transformers import BertConfig, ConvNextConfig, ConvNextModel

from tevia_cli.main import SUBCOMMANDS, main
from tevia_hf import TeViAForSegmentation, TeViAProcessor
from tevia_hf.data import synthetic
from tevia_hf.inference.identity import pixel_settings, weights_digest
from tevia_hf.io import read_image


@pytest.fixture(scope="module")
def model_dir(built_tiny_model, tmp_path_factory):
    folder = tmp_path_factory.mktemp("model")
    built_tiny_model.save_pretrained(folder)
    tiny_processor().save_pretrained(folder)
    return str(folder)


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory):
    """`images/`, `masks/` and a table of two images per split."""
    folder = tmp_path_factory.mktemp("data")
    rows = []
    for split in ("train", "val", "test"):
        for example in synthetic.synthetic_dataset(split, size=32, count=2):
            name = f"{example['id']}.png"
            for part in ("image", "mask"):
                path = folder / f"{part}s" / name
                path.parent.mkdir(exist_ok=True)
                example[part].save(path)
            rows.append({"Image": name, "Description": example["text"], "split": split})
    pd.DataFrame(rows).to_csv(folder / "table.csv", index=False)
    return str(folder)


@pytest.fixture
def image_paths(data_dir):
    return sorted((Path(data_dir) / "images").glob("*test*"))


@pytest.fixture
def recipe(model_dir, data_dir, tmp_path):
    values = {
        "model_name_or_path": model_dir,
        "dataset": "folder",
        "data_dir": data_dir,
        "output_dir": str(tmp_path / "run"),
        "num_train_epochs": 1,
        "learning_rate": "1e-3",
        "use_cpu": True,
        "disable_tqdm": True,
    }
    path = tmp_path / "recipe.yaml"
    path.write_text(yaml.safe_dump(values), encoding="utf-8")
    return str(path)


@pytest.fixture
def out(tmp_path):
    return tmp_path / "out"


@pytest.fixture
def used(out):
    """A folder that holds an earlier result."""
    out.mkdir()
    (out / "earlier.txt").touch()
    (out / ".tevia-output").touch()
    return out


# What the subcommands do


def test_demo_trains_evaluates_and_writes_overlays(out, monkeypatch, capsys):
    monkeypatch.setattr(synthetic, "DEFAULT_COUNTS", {"train": 16, "val": 2, "test": 4})
    assert main(["demo", "--output-dir", str(out), "--epochs", "1"]) == 0
    model, processor = (
        TeViAForSegmentation.from_pretrained(out / "model"),
        TeViAProcessor.from_pretrained(out / "model"),
    )
    assert model.config.use_text and processor.image_processor.size["height"] == 64
    with Image.open(out / "overlays.png") as sheet:
        assert min(sheet.size) > 500
    printed = capsys.readouterr().out
    rows = [line for line in printed.splitlines() if line.startswith("| ")]
    assert len(rows) == 7 and "vision-only baseline" in printed and "overlays.png" in printed


def test_evaluate_notes_what_makes_other_examples_than_the_splits_own(model_dir, data_dir, out):
    arguments = ["evaluate", model_dir, "--dataset", "folder", "--data-dir", data_dir, "--output-dir", str(out)]
    assert main([*arguments, "--max-samples", "1", "--group-split", "0.0,0.0,1.0", "--split-seed", "3"]) == 0
    settings = json.loads((out / "evaluation.json").read_text(encoding="utf-8"))["settings"]
    assert (settings["max_samples"], settings["group_split"], settings["split_seed"]) == (1, "0.0,0.0,1.0", 3)
    assert "text_table" not in settings and "window" not in settings


def test_evaluate_without_a_single_text_leaves_the_folder_free(model_dir, tmp_path, out, capsys):
    layouts.lgg(tmp_path / "lgg")
    arguments = ["evaluate", model_dir, "--dataset", "brain", "--data-dir", str(tmp_path / "lgg"), "--split", "test"]
    assert main([*arguments, "--group-split", "0.0,0.0,1.0", "--output-dir", str(out)]) == 2
    assert "No example has a text" in capsys.readouterr().err and not out.exists()


def test_train_trains_a_recipe_with_overriding_options(recipe, model_dir, tmp_path, capsys):
    assert main(["train", recipe, "--learning_rate", "1e-2", "--output_dir", str(tmp_path / "other")]) == 0
    before, after = (load_file(Path(folder) / "model.safetensors") for folder in (model_dir, tmp_path / "other"))
    assert not torch.equal(before["decode_head.classifier.weight"], after["decode_head.classifier.weight"])
    saved = yaml.safe_load((tmp_path / "other" / "recipe.yaml").read_text(encoding="utf-8"))
    assert saved["learning_rate"] == 1e-2 and not (tmp_path / "run").exists()
    assert f"The model is in {tmp_path / 'other'}" in capsys.readouterr().out


def test_train_resumes_where_it_stopped_if_resume_is_set(recipe, tmp_path):
    assert main(["train", recipe]) == 0
    assert main(["train", recipe]) == 2
    assert main(["train", recipe, "--resume", "--num_train_epochs", "2"]) == 0
    assert (tmp_path / "run" / "checkpoint-2").exists() and (tmp_path / "run" / "checkpoint-1").exists()


def test_evaluate_prints_and_writes_the_scores(model_dir, data_dir, out, capsys):
    arguments = ["evaluate", model_dir, "--dataset", "folder", "--data-dir", data_dir, "--output-dir", str(out)]
    assert main([*arguments, "--text-modes", "correct,none", "--threshold", "0.4"]) == 0
    content = json.loads((out / "evaluation.json").read_text(encoding="utf-8"))
    assert list(content["scores"]) == ["correct", "shuffled", "none"]
    expected = {"images": 2, "threshold": 0.4, "seed": 0, "model": model_dir, "dataset": "folder", "split": "test"}
    expected |= {"hd95_unit": "px", "groups_seen_in_training": None, "weights": weights_digest(model_dir)}
    expected |= {"data_dir": data_dir, "image_processor": pixel_settings(tiny_processor().image_processor)}
    expected |= {"texts_changed": {}, "white_is_lesion": True, "skipped": [], "tiling": None, "classes": {"lesion": 1}}
    expected["dtype"] = "float32"
    assert content["settings"] == expected and expected["weights"]
    assert len(pd.read_csv(out / "evaluation.csv")) == 6
    assert (out / "evaluation.png").is_file() and (out / "evaluation.md").is_file()
    printed = capsys.readouterr().out
    assert f"| none | {content['scores']['none']['dice']:.3f} |" in printed and "2 images" in printed


def test_evaluate_needs_no_data_of_ones_own(model_dir, out, monkeypatch):
    monkeypatch.setattr(synthetic, "DEFAULT_COUNTS", {"train": 2, "val": 2, "test": 6})
    assert main(["evaluate", model_dir, "--max-samples", "3", "--output-dir", str(out)]) == 0
    conditions = ["correct", "shuffled", "none", "paraphrased"]  # the synthetic texts are in a known language
    assert list(pd.read_csv(out / "evaluation.csv")["text_mode"].unique()) == conditions


def test_predict_writes_masks_and_overlays_for_a_folder(model_dir, image_paths, tmp_path, out, capsys):
    rows = [{"Image": path.name, "Description": "left lung"} for path in image_paths]
    pd.DataFrame(rows).to_csv(tmp_path / "sentences.csv", index=False)
    arguments = [str(path) for path in image_paths]
    assert (
        main(["predict", model_dir, *arguments, "--text-table", f"{tmp_path}/sentences.csv", "--output-dir", str(out)])
        == 0
    )
    table = pd.read_csv(out / "predictions.csv")
    assert list(table["text"]) == ["left lung"] * 2
    for path in image_paths:
        mask = read_image(out / path.name).array
        assert mask.shape == (32, 32) and set(np.unique(mask)) <= {0, 255}
        assert (out / "overlays" / path.with_suffix(".jpg").name).exists()
    assert f"2 of 2 masks are in {out}" in capsys.readouterr().out


def test_predict_takes_one_text_for_all_or_none(model_dir, image_paths, tmp_path):
    for arguments, text in ((["--text", "left lung"], "left lung"), ([], "")):
        folder = tmp_path / f"out{len(arguments)}"
        assert main(["predict", model_dir, str(image_paths[0].parent), *arguments, "--output-dir", str(folder)]) == 0
        table = pd.read_csv(folder / "predictions.csv", keep_default_na=False)
        assert len(table) == 6 and set(table["text"]) == {text}


def test_predict_reports_a_damaged_file_and_still_writes_the_others(model_dir, image_paths, tmp_path, out, capsys):
    (tmp_path / "damaged.png").write_bytes(image_paths[0].read_bytes()[:100])
    arguments = [str(tmp_path / "damaged.png"), str(image_paths[0])]
    assert main(["predict", model_dir, *arguments, "--output-dir", str(out)]) == 1
    printed = capsys.readouterr()
    assert "damaged.png: not readable, corrupt or cut short" in printed.err and "1 of 2 masks" in printed.out
    assert (out / image_paths[0].name).exists()


def test_convert_makes_a_model_and_processor_of_a_lightning_file(tmp_path, out, capsys):
    ConvNextConfig(**MANIFEST["vision_config"]).save_pretrained(tmp_path / "vision")
    BertConfig(**MANIFEST["text_config"]).save_pretrained(tmp_path / "text")
    tiny_tokenizer().save_pretrained(tmp_path / "text")
    weights = {f"model.{name}": torch.from_numpy(values) for name, values in reference_state_dict().items()}
    torch.save({"state_dict": weights}, tmp_path / "best.ckpt")
    arguments = ["convert", str(tmp_path / "best.ckpt"), "--vision", f"{tmp_path}/vision", "--text", f"{tmp_path}/text"]
    assert main([*arguments, "--output-dir", str(out)]) == 0
    saved = load_file(out / "model.safetensors")
    assert torch.equal(saved["decode_head.classifier.weight"], weights["model.out.conv.conv.weight"])
    assert TeViAProcessor.from_pretrained(out).image_processor.swap_axes
    assert "209 tensors converted, 16 without counterpart dropped" in capsys.readouterr().out


# Bad input


@pytest.fixture
def arguments_for(recipe, model_dir, data_dir, image_paths, tmp_path):
    """The arguments of each subcommand that would work except for the output folder."""
    torch.save({"state_dict": {"fc.weight": torch.zeros(2)}}, tmp_path / "other.ckpt")
    return {
        "demo": ["demo", "--epochs", "1", "--output-dir"],
        "train": ["train", recipe, "--output_dir"],
        "evaluate": ["evaluate", model_dir, "--dataset", "folder", "--data-dir", data_dir, "--output-dir"],
        "predict": ["predict", model_dir, str(image_paths[0]), "--output-dir"],
    }


def refused(arguments, capsys, message: str) -> None:
    """Exit code 2 and one message without a traceback, which `--debug` gives."""
    assert main(arguments) == 2
    output = capsys.readouterr().err
    assert f"tevia {arguments[0]}: " in output and message in output and "Traceback" not in output
    with pytest.raises((ValueError, OSError)):
        main(["--debug", *arguments])


@pytest.mark.parametrize("subcommand", ["demo", "train", "evaluate", "predict"])
def test_a_used_output_folder_is_refused(subcommand, arguments_for, used, capsys):
    refused([*arguments_for[subcommand], str(used)], capsys, f"{used} already holds files: name another folder")
    assert (used / "earlier.txt").exists()


@pytest.mark.parametrize("subcommand", ["train", "evaluate", "predict"])
def test_overwrite_replaces_what_the_folder_holds(subcommand, arguments_for, used):
    assert main([*arguments_for[subcommand], str(used), "--overwrite"]) == 0
    assert not (used / "earlier.txt").exists() and list(used.iterdir())


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ["evaluate", "{model}", "--dataset", "folder", "--data-dir", "/none"],
            "/none: no such folder. Give the folder that holds",
        ),
        (["evaluate", "{model}", "--text-modes", "correct,wrong"], "Unknown text conditions ['wrong']"),
        (["evaluate", "/none", "--dataset", "folder", "--data-dir", "{data}"], "/none"),
        (["evaluate", "{vision}", "--dataset", "folder", "--data-dir", "{data}"], "no TeViA model but 'convnext'"),
        (["predict", "{vision}", "{data}/images"], "no TeViA model but 'convnext'"),
        (["predict", "{model}", "/none.png"], "No image at /none.png"),
        (["predict", "{model}", "{data}/images", "--text-table", "{data}/none.csv"], "none.csv"),
        (["convert", "/none.ckpt", "--vision", "{vision}", "--text", "{model}"], "No checkpoint at /none.ckpt"),
        (["convert", "{other}", "--vision", "{vision}", "--text", "{text}"], "no checkpoint of the authors'"),
    ],
)
def test_bad_input_is_reported_and_overwrites_nothing(
    arguments, message, arguments_for, model_dir, data_dir, tmp_path, used, capsys, monkeypatch
):
    monkeypatch.setattr(synthetic, "DEFAULT_COUNTS", {"train": 2, "val": 2, "test": 2})
    ConvNextModel(tiny_vision_config()).save_pretrained(tmp_path / "vision")
    BertConfig().save_pretrained(tmp_path / "text")
    places = {"model": model_dir, "data": data_dir, "vision": tmp_path / "vision", "text": tmp_path / "text"}
    given = [word.format(**places, other=tmp_path / "other.ckpt") for word in arguments]
    refused([*given, "--output-dir", str(used), "--overwrite"], capsys, message)
    assert (used / "earlier.txt").exists()


@pytest.mark.parametrize(
    ("content", "message"),
    [("learning_rat: 1", "did you mean learning_rate?"), ("output_dir: [", "recipe.yaml"), ("- a", "holds no")],
    ids=["misspelt", "no YAML", "a list"],
)
def test_an_unreadable_recipe_is_reported(content, message, recipe, capsys):
    Path(recipe).write_text(content, encoding="utf-8")
    refused(["train", recipe], capsys, message)


@pytest.mark.parametrize("arguments", [[], ["trian"], ["train"], ["evaluate", "model"], ["predict", "model", "a.png"]])
def test_missing_or_unknown_arguments_end_with_2_and_the_usage(arguments, capsys):
    with pytest.raises(SystemExit, match="2"):
        main(arguments)
    assert "usage: tevia" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["predict", "model", "a.png", "--txt", "left lung", "--output-dir", "out"], "--txt (did you mean --text?)"),
        (
            ["evaluate", "model", "--txet-table=a.csv", "--output-dir", "out"],
            "--txet-table (did you mean --text-table?)",
        ),
        (["check-data", "folder", "data", "--xyz"], "--xyz"),
        (["compare", "a.csv", "b.csv", "--outptu", "c.csv"], "--outptu c.csv (did you mean --output?)"),
        (["compare", "a.csv", "b.csv", "--xyz"], "--xyz\n"),
        (["predict", "model", "a.png", "--output", "out"], "--output (did you mean --output-dir?)"),
        (["evaluate", "model", "--thresh=0.4", "--output-dir", "out"], "--thresh (did you mean --threshold?)"),
        (["table", "run", "--against", "run", "--out", "a.md"], "--out a.md (did you mean --output?)"),
        (["ablate", "a.yaml", "--grid", "b.yaml", "--table"], "--table (did you mean --table-only?)"),
        (["ablate", "a.yaml", "--grid", "b.yaml", "--output", "out"], "--output out (did you mean --output-dir?)"),
        (["train", "a.yaml", "--over", "--output-dir", "out"], "--over --output-dir out (did you mean --overwrite?)"),
    ],
    ids=lambda part: part[0] if isinstance(part, list) else "",
)
def test_a_misspelt_or_abbreviated_option_is_reported_by_the_subcommand_without_waiting_for_torch(arguments, message):
    code = (
        "import sys\nfrom tevia_cli.main import main\ntry:\n    main(sys.argv[1:])\nfinally:\n    print(*sys.modules)"
    )
    command = [sys.executable, "-c", code, *arguments]
    result = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert result.returncode == 2 and not {"torch", "transformers", "tevia_hf"} & set(result.stdout.split())
    assert f"tevia {arguments[0]}: error: unrecognized arguments: {message}" in result.stderr


def test_values_with_dashes_are_no_misspelt_options(model_dir, image_paths, out):
    arguments = ["predict", model_dir, str(image_paths[0]), "--text", "--left lung", "--threshold=0.4", "--output-dir"]
    assert main([*arguments, str(out)]) == 0
    assert list(pd.read_csv(out / "predictions.csv")["text"]) == ["--left lung"]


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ("--output", "Unrecognized arguments: --output (did you mean --output-dir?)."),
        ("--learning_rat", "Unrecognized arguments: --learning_rat (did you mean --learning-rate?)."),
        ("--num-train", "Unrecognized arguments: --num-train (did you mean --num-train-epochs?)."),
        ("stray", "Unrecognized arguments: stray, value."),
    ],
)
def test_an_abbreviated_recipe_field_is_reported_and_trains_nothing(option, message, recipe, tmp_path, capsys):
    refused(["train", recipe, option, "value"], capsys, message)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("subcommand", ["predict", "evaluate", "export", "check-data", "prompts"])
def test_options_known_before_the_imports_are_those_of_the_help(subcommand, capsys):
    with pytest.raises(SystemExit, match="0"):
        main([subcommand, "--help"])
    usage = capsys.readouterr().out.partition("\n\n")[0]
    module = import_module(f"tevia_cli.{subcommand.replace('-', '_')}")
    assert sorted(module.OPTIONS) == sorted(set(re.findall(r"(?<=[ \[])--[a-z0-9-]+", usage)) | {"--help"})


@pytest.mark.parametrize(
    ("options", "named"),
    [
        (["--int8"], ""),
        (["--dataset", "synthetic"], ""),
        (["--seed", "3", "--no-cache"], ", and with them --seed, --cache"),
    ],
)
def test_options_of_int8_without_it_are_refused(options, named, model_dir, out, capsys):
    refused(
        ["export", model_dir, "--output-dir", str(out), *options], capsys, f"Give --int8 and --dataset together{named}:"
    )
    assert not out.exists()


@pytest.mark.parametrize("subcommand", SUBCOMMANDS)
def test_every_subcommand_has_a_help(subcommand, capsys):
    with pytest.raises(SystemExit, match="0"):
        main([subcommand, "--help"])
    assert f"usage: tevia {subcommand}" in capsys.readouterr().out


# Data: check, texts, comparison, medical files


@pytest.fixture
def mosmed_dir(tmp_path):
    layouts.mosmed(tmp_path / "mosmed")
    table = tmp_path / "mosmed" / "Train_Folder" / "Train_text.xlsx"
    content = pd.read_excel(table)
    content.loc[0, "Description"] = "two infected areas, all left lung."
    content.to_excel(table, index=False)
    return tmp_path / "mosmed"


def test_check_data_finds_texts_that_no_model_can_tell_apart(tmp_path, model_dir, capsys):
    layouts.mosmed(tmp_path)
    assert main(["check-data", "mosmed", str(tmp_path)]) == 1
    assert "all 3 texts are equal: 'unilateral pulmonary infection" in capsys.readouterr().out
    table = tmp_path / "Train_Folder" / "Train_text.xlsx"
    content = pd.read_excel(table)
    content["Description"] = ["Herd links.", "Herd rechts.", "Kein Herd."]
    content.to_excel(table, index=False)
    assert main(["check-data", "mosmed", str(tmp_path)]) == 0
    assert (
        "3 of 3 texts may name a side (left, right) that a flip cannot swap, e.g. 'Herd links.'"
        in capsys.readouterr().out
    )
    assert main(["check-data", "mosmed", str(tmp_path), "--tokenizer", model_dir]) == 1
    assert "all 3 different texts become the same tokens" in capsys.readouterr().out


def test_check_data_exits_with_0_for_a_sound_set_and_1_for_a_faulty_one(mosmed_dir, out, capsys):
    arguments = ["check-data", "mosmed", str(mosmed_dir), "--output-dir", str(out)]
    assert main(arguments) == 0
    assert "0 faults." in capsys.readouterr().out and (out / "overlays.jpg").is_file()
    (mosmed_dir / "Val_Folder" / "labelcol" / "Morozov_study_0018_4.png").unlink()
    assert main([*arguments, "--overwrite"]) == 1
    assert "row 'Morozov_study_0018_4' has no mask" in capsys.readouterr().out
    assert len(json.loads((out / "check.json").read_text())["faults"]) == 1


def test_check_data_counts_the_tokens_of_a_tokenizer(mosmed_dir, model_dir, capsys):
    assert main(["check-data", "mosmed", str(mosmed_dir), "--tokenizer", model_dir, "--max-text-length", "3"]) == 0
    printed = capsys.readouterr().out
    assert "tokens in the longest, 5 truncated" in printed


def test_prompts_are_written_and_train_a_model(tmp_path, model_dir, out, capsys):
    layouts.lgg(tmp_path / "lgg")
    table = tmp_path / "prompts.csv"
    assert main(["prompts", "brain", str(tmp_path / "lgg"), "--output", str(table)]) == 0
    printed = capsys.readouterr().out
    assert "carry part of the answer" in printed and '"Left" is the left of the image.' in printed
    values = {
        "model_name_or_path": model_dir, "dataset": "brain", "data_dir": str(tmp_path / "lgg"),
        "output_dir": str(out), "num_train_epochs": 1, "use_cpu": True, "disable_tqdm": True,
        "rotation_probability": 0.5, "group_split": "0.5,0.25,0.25", "split_seed": 3,
    }  # fmt: skip
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(yaml.safe_dump(values), encoding="utf-8")
    assert main(["train", str(recipe)]) == 2
    assert "No example of the training split has a text" in capsys.readouterr().err
    assert main(["train", str(recipe), "--text-table", str(table)]) == 0
    splits = pd.read_csv(out / "_splits.csv")
    assert set(splits["part"]) == {"train", "eval"}
    assert not set(splits[splits["part"] == "train"]["group"]) & set(splits[splits["part"] == "eval"]["group"])
    arguments = [
        "evaluate",
        str(out),
        "--dataset",
        "brain",
        "--data-dir",
        str(tmp_path / "lgg"),
        "--text-table",
        str(table),
    ]
    same_split = ["--group-split", "0.5,0.25,0.25", "--split-seed", "3", "--output-dir"]
    capsys.readouterr()
    assert main([*arguments, *same_split, str(tmp_path / "same")]) == 0
    assert "were in the model's training" not in capsys.readouterr().out
    assert main([*arguments, "--split", "val", *same_split, str(tmp_path / "val")]) == 0
    assert "were in the model's training" not in capsys.readouterr().out
    assert main([*arguments, "--split", "train", *same_split, str(tmp_path / "seen")]) == 0
    assert "2 groups (patients) were in the model's training" in capsys.readouterr().out


def test_prompts_of_ones_own_form_and_of_the_patients_side(mosmed_dir, tmp_path):
    table = tmp_path / "p.csv"
    arguments = ["prompts", "mosmed", str(mosmed_dir), "--output", str(table), "--patient-sides"]
    assert main([*arguments, "--template", "{Count_word} lesion{s}: {place}."]) == 0
    assert set(pd.read_csv(table)["Description"]) == {"One lesion: lower right."}
    assert "the left of the patient" in table.with_suffix(".about.txt").read_text()
    assert main(arguments) == 2 and set(pd.read_csv(table)["Description"]) == {"One lesion: lower right."}


def test_two_runs_are_compared(model_dir, data_dir, tmp_path, capsys):
    arguments = [
        "evaluate",
        model_dir,
        "--dataset",
        "folder",
        "--data-dir",
        data_dir,
        "--output-dir",
        str(tmp_path / "a"),
    ]
    assert main(arguments) == 0
    table = str(tmp_path / "a" / "evaluation.csv")
    assert main(["compare", table, table, "--other-text-mode", "shuffled", "--output", str(tmp_path / "c.csv")]) == 0
    printed = capsys.readouterr().out
    assert "| score | A | B | A - B | 95 % | p |" in printed
    content = json.loads((tmp_path / "a" / "evaluation.json").read_text())
    row = pd.read_csv(tmp_path / "c.csv").set_index("score").loc["dice"]
    assert row["difference"] == pytest.approx(content["text_sensitivity"]["difference"])


def test_a_slice_of_a_scan_is_predicted_and_its_mask_lies_over_it(model_dir, tmp_path, out):
    scan, affine = tmp_path / "ct.nii.gz", np.diag([-0.7, 0.8, 3.0, 1.0])
    volume = np.random.default_rng(0).integers(-1000, 1000, (40, 50, 6)).astype(np.int16)
    nibabel.save(nibabel.Nifti1Image(volume, affine), scan)
    arguments = [
        "predict",
        model_dir,
        f"{scan}#2",
        f"{scan}#coronal:9",
        "--text",
        "left lung",
        "--output-dir",
        str(out),
    ]
    assert main([*arguments, "--window=-600,1500", "--mask-suffix", ".nii.gz"]) == 0
    mask = nibabel.load(out / "ct_2.nii.gz")
    assert sorted(mask.header.get_zooms()) == pytest.approx([0.7, 0.8, 3.0])
    inside = nibabel.affines.apply_affine(np.linalg.inv(affine) @ mask.affine, np.argwhere(np.ones(mask.shape)))
    assert inside.min() >= -1e-4 and (inside.max(0) <= np.array(volume.shape) - 1 + 1e-4).all()
    assert set(np.round(inside[:, 2])) == {2}
    assert (out / "overlays" / "ct_coronal_9.jpg").is_file()
    table = pd.read_csv(out / "predictions.csv", keep_default_na=False)
    assert list(table["error"]) == ["", ""]


def test_a_slice_that_is_not_there_costs_its_own_row(model_dir, tmp_path, out, capsys):
    scan = tmp_path / "ct.nii"
    nibabel.save(nibabel.Nifti1Image(np.zeros((40, 50, 6), np.int16), np.eye(4)), scan)
    assert main(["predict", model_dir, f"{scan}#6", f"{scan}#3", "--output-dir", str(out)]) == 1
    assert "holds 6 axial slices, 0 to 5; not 6" in capsys.readouterr().err
    assert (out / "ct_3.png").is_file()
