"""Implausible data sets give warnings before training."""

import numpy as np
import pytest
from builders import answer, data_set, examined, folder, lesion, mentions, noise, table
from medical_files import write_dicom
from PIL import Image

from tevia_cli.main import main
from tevia_hf.io import read_image
from tevia_hf.training.recipe import train_from_recipe

LARGE, CORNERS, FLAT = ("half", "invert", "cover"), ("corner", "invert"), ("one value", "constant", "same value")


def six(mask, change=lambda mask, number: np.roll(mask, number, axis=1)):
    return {f"p{number}": change(mask, number) for number in range(6)}


def warned_of(root, **options):
    report = examined(root, **options)
    return [*report.faults, *report.warnings]


def test_inverted_masks_are_named(tmp_path):
    assert mentions(warned_of(data_set(tmp_path, six(255 - lesion()))), *LARGE, *CORNERS)


def test_inverted_masks_of_label_numbers_are_named(tmp_path):
    assert mentions(warned_of(data_set(tmp_path, six(1 - lesion(value=1)))), *LARGE, *CORNERS)


def test_masks_that_cover_over_half_without_a_corner_are_named(tmp_path):
    large = np.zeros((64, 64), np.uint8)
    large[4:58, 4:56] = 255
    assert mentions(warned_of(data_set(tmp_path, six(large))), *LARGE)


def test_masks_that_touch_all_four_corners_are_named_however_small(tmp_path):
    frame = np.zeros((64, 64), np.uint8)
    frame[:4], frame[-4:] = 255, 255
    assert mentions(warned_of(data_set(tmp_path, six(frame))), *CORNERS)


def test_full_masks_are_named(tmp_path):
    assert mentions(warned_of(data_set(tmp_path, six(np.ones((64, 64), np.uint8)))), *LARGE, *CORNERS)


def test_a_background_that_is_numbered_as_a_class_is_named(tmp_path):
    mask = np.where(lesion() > 0, 1, 2).astype(np.uint8)
    assert mentions(warned_of(data_set(tmp_path, six(mask)), num_labels=3), *LARGE, *CORNERS)


def test_one_large_lesion_among_many_small_ones_is_none(tmp_path):
    masks = six(lesion()) | {"large": 255 - lesion()}
    assert not mentions(warned_of(data_set(tmp_path, masks)), "invert")


def test_ordinary_masks_are_not_complained_of(tmp_path):
    lines = warned_of(data_set(tmp_path, six(lesion())))
    assert not mentions(lines, *LARGE, *CORNERS, *FLAT)


@pytest.mark.parametrize("value", [0, 128, 255])
@pytest.mark.parametrize("channels", [None, 3])
def test_images_of_one_value_are_named(tmp_path, value, channels):
    flat = np.full((64, 64) if channels is None else (64, 64, 3), value, np.uint8)
    masks = six(lesion())
    images = {name: noise(seed=number, channels=channels) for number, name in enumerate(masks)} | {"p3": flat}
    lines = warned_of(data_set(tmp_path, masks, images))
    assert mentions([line for line in lines if mentions([line], *FLAT)], "p3", "1 ")


def test_images_of_one_colour_are_named(tmp_path):
    red = np.zeros((64, 64, 3), np.uint8)
    red[..., 0] = 200
    lines = warned_of(data_set(tmp_path, six(lesion()), {"p2": red}))
    assert mentions(lines, *FLAT)


def beside_its_window(path, seed=0):
    """A CT slice all of whose values lie outside its window."""
    values = noise(16, 16, seed).astype(np.uint16) + 1500
    window = {"WindowCenter": "30", "WindowWidth": "100"}
    return write_dicom(path, values, RescaleSlope="1", RescaleIntercept="-1024", **window)


def test_a_window_outside_all_values_is_named(tmp_path):
    root = folder(tmp_path)
    for number in range(3):
        beside_its_window(root / "images" / f"p{number}.dcm", number)
        Image.fromarray(lesion(16, 16)).save(root / "masks" / f"p{number}.png")
    table(root, [f"p{number}" for number in range(3)])
    given = answer(lambda: read_image(root / "images" / "p0.dcm").array)
    assert given.error or given.value.std() > 0 or mentions(warned_of(root), *FLAT, "window")


def test_a_recipe_with_a_window_outside_all_values_is_named(tmp_path, capsys):
    root = folder(tmp_path)
    for number in range(3):
        values = noise(16, 16, number).astype(np.uint16)
        write_dicom(root / "images" / f"p{number}.dcm", values)
        Image.fromarray(lesion(16, 16)).save(root / "masks" / f"p{number}.png")
    table(root, [f"p{number}" for number in range(3)])
    main(["check-data", "folder", str(root), "--window=5000,100"])
    assert mentions([capsys.readouterr().out], *FLAT, "window")


def test_training_warns_of_inverted_masks_too(tmp_path, reader_dir):
    masks = six(255 - lesion())
    root = data_set(tmp_path / "set", masks, split=["train"] * 5 + ["val"])
    fields = {"config_name": reader_dir, "dataset": "folder", "data_dir": root, "output_dir": tmp_path / "out"}
    fields |= {"max_steps": 1, "eval_strategy": "no", "load_best_model_at_end": False, "save_strategy": "no"}
    fields |= {"per_device_train_batch_size": 1, "use_cpu": True}
    path = tmp_path / "recipe.yaml"
    path.write_text("".join(f"{name}: {value}\n" for name, value in fields.items()), encoding="utf-8")
    given = answer(lambda: train_from_recipe(path))
    assert given.names(*LARGE, *CORNERS)
