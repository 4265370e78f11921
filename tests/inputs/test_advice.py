"""Following the advice of an error message literally gives a sound data set, not another wrong one."""

import re

import numpy as np
import pytest
from builders import (
    answer,
    data_set,
    drawn,
    examined,
    faults_of,
    folder,
    lesion,
    mentions,
    noise,
    put,
    spoken_of,
    table,
    turned,
)
from medical_files import write_dicom, write_nifti
from PIL import Image

from tevia_hf import segmentation_metrics
from tevia_hf.io import read_image


def numbered(*values):
    """A lesion for each value, side by side."""
    mask = np.zeros((64, 64), np.uint8)
    for number, value in enumerate(values):
        mask[5 + 10 * number : 12 + 10 * number, 5:20] = value
    return mask


def refused_set(root, mask, num_labels=1):
    masks = {"a": mask, "b": np.roll(mask, 20, axis=1)}
    return faults_of(data_set(root, masks), num_labels)


def thresholds(faults):
    """What the faults say to write, such as `mask > 127`."""
    return [float(value) for fault in faults for value in re.findall(r"mask > ([\d.]+\d|\d+)", fault)]


TWO_VALUES = {"0/2": [2], "0/100": [100], "0/127": [127], "0/128": [128], "0/254": [254], "0/3": [3], "0/200": [200]}


@pytest.mark.parametrize("values", TWO_VALUES.values(), ids=TWO_VALUES)
def test_the_advice_for_another_value_of_the_lesion_keeps_the_lesion(tmp_path, values):
    mask = numbered(*values)
    faults = refused_set(tmp_path / "before", mask)
    assert faults and thresholds(faults)
    for threshold in thresholds(faults):
        assert np.array_equal(mask > threshold, mask > 0)
        assert refused_set(tmp_path / f"after{threshold}", (mask > threshold).astype(np.uint8)) == []


MANY = {
    "instances": [1, 2, 3, 4, 5],
    "two instances": [1, 2],
    "grey classes": [85, 170, 255],
    "classes of ten": [10, 20, 30],
    "with a lesion of 255": [1, 2, 255],
    "dark and bright": [30, 240],
}


@pytest.mark.parametrize("values", MANY.values(), ids=MANY)
def test_the_advice_for_several_values_empties_no_mask(tmp_path, values):
    mask = numbered(*values)
    faults = refused_set(tmp_path / "before", mask)
    assert faults
    for threshold in thresholds(faults):
        assert np.array_equal(mask > threshold, mask > 0)
    for labels in {int(number) for fault in faults for number in re.findall(r"num_labels=(\d+)", fault)} - {1}:
        assert refused_set(tmp_path / f"labels{labels}", mask, labels) == []


def test_the_advice_for_a_lossy_mask_gives_the_lesion_that_was_drawn(tmp_path):
    def lossy(path):
        Image.fromarray(lesion()).save(path, "JPEG", quality=60)

    masks = {"a": lossy, "b": lossy}
    faults = faults_of(data_set(tmp_path / "before", masks, suffix=".jpg"))
    stored = np.asarray(Image.open(tmp_path / "before" / "masks" / "a.jpg"))
    assert faults and thresholds(faults)
    assert all(np.array_equal(stored > threshold, drawn()) for threshold in thresholds(faults))


def test_the_advice_for_probabilities_keeps_the_lesion(tmp_path):
    masks = {name: Image.fromarray(np.where(drawn(), 0.9, 0.1).astype(np.float32)) for name in "ab"}
    faults = faults_of(data_set(tmp_path, masks, suffix=".tif"))
    assert faults
    assert all(threshold == 0.5 for threshold in thresholds(faults))


def test_a_threshold_is_advised_only_where_it_gives_what_was_drawn(tmp_path):
    mask = np.where(drawn(), 2, 1).astype(np.uint8)
    for threshold in thresholds(refused_set(tmp_path, mask)):
        assert np.array_equal(mask > threshold, drawn())


# Sizes


@pytest.mark.parametrize("orientation", [5, 6, 7, 8])
def test_a_mask_of_a_turned_image_is_not_to_be_resized(tmp_path, orientation):
    root = folder(tmp_path)
    for number, name in enumerate("ab"):
        turned(orientation, noise(48, 64, number, 3), quality=95)(root / "images" / f"{name}.jpg")
        put(root / "masks" / f"{name}.png", lesion(48, 64))
    table(root, ["a", "b"])
    spoken = spoken_of(root)
    assert mentions(spoken, "EXIF") and not mentions(spoken, "resize")


def test_a_mask_turned_as_the_advice_for_exif_has_it_is_sound(tmp_path):
    root = folder(tmp_path)
    for number, name in enumerate("ab"):
        turned(6, noise(48, 64, number, 3), quality=95)(root / "images" / f"{name}.jpg")
        put(root / "masks" / f"{name}.png", np.rot90(lesion(48, 64), -1))
    table(root, ["a", "b"])
    faults = faults_of(root)
    assert not mentions(faults, "resize")


@pytest.mark.parametrize("size", [(32, 32), (60, 64), (128, 128)])
def test_a_mask_of_another_size_may_be_resized(tmp_path, size):
    faults = refused_set(tmp_path, lesion(*size))
    assert faults and all("64" in fault and str(size[0]) in fault for fault in faults)


# Files


def test_no_export_is_to_be_converted_to_png(tmp_path):
    path = write_dicom(tmp_path / "IM0001", np.arange(64, dtype=np.uint16).reshape(8, 8))
    assert not answer(lambda: read_image(path)).names("Convert it to PNG")


@pytest.mark.parametrize("dtype", [np.float64, np.uint32, np.float16])
def test_no_sound_file_is_to_be_fetched_again(tmp_path, dtype):
    tifffile = pytest.importorskip("tifffile")
    tifffile.imwrite(tmp_path / "a.tif", np.linspace(0, 1000, 4096).reshape(64, 64).astype(dtype))
    given = answer(lambda: read_image(tmp_path / "a.tif"))
    assert not given.names("fetch", "export the file again", "corrupt")


def test_a_mask_with_a_header_that_scales_is_not_to_be_thresholded(tmp_path):
    import nibabel

    labels = np.zeros((8, 8, 1))
    labels[2:5, 2:5] = 1
    volume = nibabel.Nifti1Image(labels, np.eye(4))
    volume.set_data_dtype(np.uint8)
    nibabel.save(volume, tmp_path / "m.nii.gz")
    assert not answer(lambda: read_image(tmp_path / "m.nii.gz", is_mask=True)).names("probabilities", "threshold")


def test_a_slice_that_the_advice_names_can_be_read(tmp_path):
    path = write_nifti(tmp_path / "a.nii.gz", np.random.default_rng(0).normal(size=(8, 8, 5)).astype(np.float32))
    error = answer(lambda: read_image(path)).error
    (number,) = set(re.findall(r"a\.nii\.gz#(\d+)", error))
    assert read_image(f"{path}#{number}").array.shape == (8, 8)


# Lines to write


def test_the_line_for_white_references_can_be_followed():
    given = answer(lambda: segmentation_metrics([lesion(value=1)], [lesion()], outlines=False))
    assert given.error and "white_is_lesion" in given.error
    assert segmentation_metrics([lesion(value=1)], [lesion()], outlines=False, white_is_lesion=True)["dice"] == 1


def test_the_advice_of_a_mixed_set_can_be_followed(tmp_path):
    root = data_set(tmp_path, {"a": lesion(value=1), "b": lesion()})
    faults = faults_of(root)
    assert mentions(faults, "white_is_lesion")
    assert examined(root, white_is_lesion=True).is_sound


def test_a_table_in_quotation_marks_as_advised_is_read(tmp_path):
    root = data_set(tmp_path, {"a": lesion(), "b": lesion().T})
    row = "{},{},train\n"
    texts = ["Left lesion, one, upper", "Right lesion, two, lower"]
    head = "Image,Description,split\n"
    (root / "table.csv").write_text(head + "".join(row.format(*pair) for pair in zip("ab", texts, strict=True)))
    assert mentions(faults_of(root), "quot")
    quoted = [(name, f'"{text}"') for name, text in zip("ab", texts, strict=True)]
    (root / "table.csv").write_text(head + "".join(row.format(*pair) for pair in quoted))
    assert faults_of(root) == []
