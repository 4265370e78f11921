"""One bad file stops everything, or is skipped and listed if `on_error` is "skip"; nothing else is lost."""

import numpy as np
import pandas as pd
import pytest
from builders import answer, data_set, lesion, mentions, noise
from PIL import Image

from tevia_cli.main import main
from tevia_hf import evaluate_model, load_segmentation_dataset
from tevia_hf.evaluation.evaluate import evaluate_dataset
from tevia_hf.inference.predict import predict
from tevia_hf.training.arguments import parse_fields
from tevia_hf.training.recipe import train_from_recipe

NAMES = ["a", "b", "c", "d"]


def cut_short(root):
    path = root / "images" / "b.png"
    path.write_bytes(path.read_bytes()[:200])


def other_size(root):
    Image.fromarray(lesion(40, 40)).save(root / "masks" / "b.png")


def second_mask_of_another_size(root):
    """As a published copy of BUSI holds one."""
    (root / "masks" / "b.png").rename(root / "masks" / "b_mask.png")
    Image.fromarray(lesion(40, 40)).save(root / "masks" / "b_mask_1.png")


def no_labels(root):
    Image.fromarray(lesion(value=77)).save(root / "masks" / "b.png")


def not_finite(root):
    (root / "images" / "b.png").unlink()
    pixels = noise().astype(np.float32)
    pixels[0, 0] = np.nan
    Image.fromarray(pixels).save(root / "images" / "b.tif")


def coloured_mask(root):
    colours = np.stack([lesion(), lesion().T, lesion()], -1)
    Image.fromarray(colours).save(root / "masks" / "b.png")


BAD = {
    "cut short": cut_short,
    "mask of another size": other_size,
    "second mask of another size": second_mask_of_another_size,
    "not labels": no_labels,
    "NaN": not_finite,
    "mask in colours": coloured_mask,
}
every_fault = pytest.mark.parametrize("spoil", BAD.values(), ids=BAD)


def spoiled_set(root, spoil, splits=("test",) * 4):
    masks = {name: np.roll(lesion(), 4 * number, axis=1) for number, name in enumerate(NAMES)}
    data_set(root, masks, split=list(splits))
    spoil(root)
    return root


# Evaluation


@every_fault
def test_an_evaluation_is_stopped_by_a_bad_file_and_names_it(tmp_path, reader, processor, spoil):
    dataset = load_segmentation_dataset("folder", spoiled_set(tmp_path, spoil), split="test")
    with pytest.raises(ValueError, match=r"'b'|/b[._]"):
        evaluate_model(reader, processor, dataset, [])


@every_fault
def test_an_evaluation_that_skips_lists_what_it_left_out(tmp_path, reader, processor, spoil):
    dataset = load_segmentation_dataset("folder", spoiled_set(tmp_path, spoil), split="test")
    report = evaluate_model(reader, processor, dataset, [], on_error="skip")
    assert [skipped["id"] for skipped in report.settings["skipped"]] == ["b"]
    assert all(skipped["reason"].strip() for skipped in report.settings["skipped"])
    assert report.settings["images"] == 3
    assert sorted(set(report.images["id"])) == ["a", "c", "d"]


def missing_mask(root):
    (root / "masks" / "b.png").unlink()


def mask_of_another_kind_of_file(root):
    (root / "masks" / "b.png").rename(root / "masks" / "b.mha")


def image_without_a_row(root):
    Image.fromarray(noise(seed=9)).save(root / "images" / "e.png")


@pytest.mark.parametrize("spoil", [missing_mask, mask_of_another_kind_of_file])
def test_a_row_without_its_file_is_skipped_and_listed_too(tmp_path, reader, processor, spoil):
    root = spoiled_set(tmp_path, spoil)
    with pytest.raises(ValueError, match="'b"):
        load_segmentation_dataset("folder", root, split="test")
    dataset = load_segmentation_dataset("folder", root, split="test", on_error="skip")
    report = evaluate_model(reader, processor, dataset, [], on_error="skip")
    assert [skipped["id"] for skipped in report.settings["skipped"]] == ["b"]


def test_a_file_without_a_row_is_a_warning_where_files_may_be_skipped(tmp_path):
    root = spoiled_set(tmp_path, image_without_a_row)
    with pytest.warns(UserWarning, match=r"e\.png' has no row"):
        assert len(load_segmentation_dataset("folder", root, split="test", on_error="skip")) == 4


def test_the_scores_are_those_of_the_rest(tmp_path, reader, processor):
    dataset = load_segmentation_dataset("folder", spoiled_set(tmp_path, other_size), split="test")
    report = evaluate_model(reader, processor, dataset, [], on_error="skip")
    rest = evaluate_model(reader, processor, dataset.select([0, 2, 3]), [])
    assert report.scores["correct"] == pytest.approx(rest.scores["correct"])


def test_a_sound_set_skips_nothing(tmp_path, reader, processor):
    dataset = load_segmentation_dataset("folder", spoiled_set(tmp_path, lambda root: None), split="test")
    report = evaluate_model(reader, processor, dataset, [], on_error="skip")
    assert report.settings["skipped"] == [] and report.settings["images"] == 4


def test_a_set_of_nothing_but_bad_files_is_refused(tmp_path, reader, processor):
    root = spoiled_set(tmp_path, lambda root: None)
    for name in NAMES:
        (root / "images" / f"{name}.png").write_bytes(b"nothing")
    dataset = load_segmentation_dataset("folder", root, split="test")
    assert answer(lambda: evaluate_model(reader, processor, dataset, [], on_error="skip")).error


@pytest.mark.parametrize("value", ["ignore", "", True])
def test_on_error_is_raise_or_skip(tmp_path, reader, processor, value):
    dataset = load_segmentation_dataset("folder", spoiled_set(tmp_path, lambda root: None), split="test")
    for call in (
        lambda: evaluate_model(reader, processor, dataset, [], on_error=value),
        lambda: evaluate_dataset("no/such/model", on_error=value),
        lambda: parse_fields({"config_name": "x", "output_dir": "y", "on_error": value}),
    ):
        assert answer(call).names("on_error")


def test_the_command_skips_and_lists(tmp_path, reader_dir, capsys):
    root = spoiled_set(tmp_path / "set", other_size)
    words = ["evaluate", reader_dir, "--dataset", "folder", "--data-dir", str(root), "--text-modes", "none"]
    assert main([*words, "--output-dir", str(tmp_path / "raised")]) == 2
    assert mentions([capsys.readouterr().err], "b.png", "'b'")
    assert main([*words, "--on-error", "skip", "--output-dir", str(tmp_path / "skipped")]) == 0
    assert '"b"' in (tmp_path / "skipped" / "evaluation.json").read_text()
    capsys.readouterr()


# Training


def trained(root, reader_dir, spoil, on_error):
    splits = ("train", "train", "train", "val")
    fields = {"config_name": reader_dir, "dataset": "folder", "data_dir": spoiled_set(root / "set", spoil, splits)}
    fields |= {"output_dir": root / "out", "max_steps": 1, "per_device_train_batch_size": 2, "use_cpu": True}
    fields |= {"eval_strategy": "no", "save_strategy": "no", "load_best_model_at_end": False, "on_error": on_error}
    path = root / "recipe.yaml"
    path.write_text("".join(f"{name}: {value}\n" for name, value in fields.items()), encoding="utf-8")
    train_from_recipe(path)
    return root / "out"


def test_a_training_that_skips_examples_records_them_beside_the_model(tmp_path, reader_dir):
    out = trained(tmp_path, reader_dir, second_mask_of_another_size, "skip")
    skipped = pd.read_csv(out / "_skipped.csv")
    assert list(skipped.columns) == ["id", "part", "reason"]
    assert skipped["id"].tolist() == ["b"] and skipped["part"].tolist() == ["train"]
    assert "40" in skipped["reason"][0] or "size" in skipped["reason"][0]
    assert "b" not in pd.read_csv(out / "_splits.csv")["id"].tolist()


def test_a_training_that_raises_names_the_file(tmp_path, reader_dir):
    with pytest.raises(ValueError, match=r"'b'|/b[._]"):
        trained(tmp_path, reader_dir, cut_short, "raise")
    assert not (tmp_path / "out" / "model.safetensors").exists()


def test_a_recipe_raises_unless_on_error_is_set():
    fields = {"config_name": "x", "output_dir": "y"}
    assert parse_fields(fields).data.on_error == "raise"
    assert parse_fields(fields, ["--on_error", "skip"]).data.on_error == "skip"


# Prediction


@pytest.fixture
def images(tmp_path):
    for number, name in enumerate(NAMES):
        Image.fromarray(noise(seed=number)).save(tmp_path / f"{name}.png")
    return [tmp_path / f"{name}.png" for name in NAMES]


@pytest.mark.parametrize("batch_size", [1, 4])
@pytest.mark.parametrize("suffix", [".png", ".nii.gz"])
def test_an_error_in_writing_costs_its_own_row(tmp_path, reader, processor, images, suffix, batch_size):
    out = tmp_path / "out"
    (out / f"b{suffix}" / "in the way").mkdir(parents=True)  # a folder where the mask should be
    for name in (".tevia-output", "manifest.jsonl"):
        (out / name).touch()
    options = {"batch_size": batch_size, "mask_suffix": suffix, "resume": True}
    found = predict(reader, processor, images, ["left"] * 4, out, **options)
    assert [bool(error) for error in found["error"]] == [False, True, False, False]
    assert all((out / f"{name}{suffix}").is_file() for name in "acd")
    assert pd.read_csv(out / "predictions.csv")["image"].tolist() == list(map(str, images))


def test_an_error_in_writing_an_overlay_costs_its_own_row(tmp_path, reader, processor, images):
    out = tmp_path / "out"
    (out / "overlays" / "c.jpg" / "in the way").mkdir(parents=True)
    for name in (".tevia-output", "manifest.jsonl"):
        (out / name).touch()
    found = predict(reader, processor, images, ["left"] * 4, out, resume=True)
    assert [bool(error) for error in found["error"]] == [False, False, True, False]
    assert (out / "d.png").is_file() and (out / "predictions.csv").is_file()


@pytest.mark.parametrize("batch_size", [1, 4])
def test_an_image_that_cannot_be_read_costs_its_own_row(tmp_path, reader, processor, images, batch_size):
    images[1].write_bytes(images[1].read_bytes()[:100])
    found = predict(reader, processor, images, ["left"] * 4, tmp_path / "out", batch_size=batch_size)
    assert [bool(error) for error in found["error"]] == [False, True, False, False]


def test_the_command_ends_with_1_where_a_row_failed_and_keeps_the_rest(tmp_path, reader_dir, images, capsys):
    out = tmp_path / "out"
    images[1].write_bytes(b"no image")
    assert main(["predict", reader_dir, *map(str, images), "--text", "left", "--output-dir", str(out)]) == 1
    assert sorted(path.name for path in out.glob("*.png")) == ["a.png", "c.png", "d.png"]
    assert "b.png" in capsys.readouterr().err
