"""Data sets of volumes with label volumes, expanded to their slices."""

import numpy as np
import pandas as pd
import pytest
from medical_files import affine_of, write_nifti
from PIL import Image

from tevia_hf import load_segmentation_dataset
from tevia_hf.data.decoding import decode_labels
from tevia_hf.data.features import undecoded
from tevia_hf.data.slices import check_slices

SHAPE, SPACING = (8, 10, 5), (0.8, 0.9, 2.5)
LABELLED = {"p1": [1, 3], "p2": [0]}  # slices with a lesion, from the bottom


@pytest.fixture
def root(tmp_path):
    """Two volumes; the second is stored from head to foot, its label volume in another order of axes."""
    rng = np.random.default_rng(0)
    for name, slices in LABELLED.items():
        image, mask = rng.integers(0, 1000, SHAPE).astype(np.int16), np.zeros(SHAPE, np.uint8)
        for number in slices:
            mask[2:5, 1 + number : 4 + number, number] = 1
        image[mask > 0] = 2000
        affine = affine_of("RAS", SPACING, (0, 0, 0))
        if name == "p2":
            image, affine = image[:, :, ::-1], affine_of("RAI", SPACING, (0, 0, 4 * 2.5))
        for part, voxels, own in (("images", image, affine), ("masks", mask, affine_of("RAS", SPACING, (0, 0, 0)))):
            (tmp_path / part).mkdir(exist_ok=True)
            write_nifti(tmp_path / part / f"{name}.nii.gz", voxels, own)
    return tmp_path


def table(root, rows, name="texts.csv"):
    pd.DataFrame(rows, columns=["Image", "Description"]).to_csv(root / name, index=False)


@pytest.fixture
def texts(root):
    table(root, [["p1.nii.gz", "left lung"], ["p2.nii.gz", "right lung"]])


@pytest.mark.usefixtures("texts")
@pytest.mark.parametrize("slices", ["all", "lesion", 2])
def test_a_volume_is_expanded_to_the_chosen_slices_each_with_its_mask(root, slices):
    numbers = {name: {"all": range(5), "lesion": own, 2: (0, 2, 4)}[slices] for name, own in LABELLED.items()}
    dataset = load_segmentation_dataset("folder", root, slices=slices)
    assert dataset["id"] == [f"{name}_{number}" for name in LABELLED for number in numbers[name]]
    assert dataset["group"] == [name for name in LABELLED for _ in numbers[name]]
    assert dataset["text"] == [
        text for name, text in (("p1", "left lung"), ("p2", "right lung")) for _ in numbers[name]
    ]
    for row, raw in zip(dataset, undecoded(dataset), strict=True):
        name, number = row["id"].split("_")
        labels = decode_labels(raw, 1, True)
        assert labels.any() == (int(number) in LABELLED[name])
        brightest = np.asarray(row["image"]) == np.asarray(row["image"]).max()
        assert not labels.any() or (brightest == (labels > 0)).all()  # the lesion is the brightest


@pytest.mark.usefixtures("texts")
def test_no_split_cuts_through_a_volume(root):
    parts = {split: [] for split in ("train", "val", "test")}
    for split in parts:
        try:
            parts[split] = load_segmentation_dataset("folder", root, split=split, group_split=(0.5, 0.0, 0.5))["group"]
        except ValueError:
            continue
    groups = [set(own) for own in parts.values() if own]
    assert len(groups) == 2 and not groups[0] & groups[1]


def test_a_slice_may_have_a_row_of_its_own(root):
    table(root, [["p1.nii.gz", "left lung"], ["p1.nii.gz#3", "upper right lung"], ["p2.nii.gz#0", ""]])
    with pytest.raises(ValueError, match="slices is '0'"):
        check_slices("0")
    dataset = load_segmentation_dataset("folder", root)
    texts = dict(zip(dataset["id"], dataset["text"], strict=True))
    assert texts == {**{f"p1_{n}": "left lung" for n in (0, 1, 2, 4)}, "p1_3": "upper right lung", "p2_0": None}
    (root / "other").mkdir()
    table(root / "other", [["p1", "other"], ["p1_1", "own"], ["p2_0", "third"]])
    dataset = load_segmentation_dataset("folder", root, text_table=str(root / "other" / "texts.csv"), slices="lesion")
    assert dict(zip(dataset["id"], dataset["text"], strict=True)) == {"p1_1": "own", "p1_3": "other", "p2_0": "third"}


@pytest.mark.usefixtures("texts")
@pytest.mark.parametrize("fault", ["slices", "spacing", "position", "size", "kind"])
def test_a_label_volume_on_another_grid_is_refused_with_the_file_and_the_fix(root, fault):
    mask, affine = np.zeros(SHAPE, np.uint8), affine_of("RAS", SPACING, (0, 0, 0))
    (root / "masks" / "p1.nii.gz").unlink()
    if fault == "kind":
        Image.fromarray(mask[:, :, 0]).save(root / "masks" / "p1.png")
    changes = {
        "slices": (mask[:, :, :4], affine),
        "spacing": (mask, affine_of("RAS", (0.8, 0.9, 2.0), (0, 0, 0))),
        "position": (mask, affine_of("RAS", SPACING, (0, 0, 5))),
        "size": (mask[:7], affine),
    }
    if fault in changes:
        write_nifti(root / "masks" / "p1.nii.gz", *changes[fault])
    with pytest.raises(
        ValueError, match=r"p1\.(nii|png).*(another grid|columns, rows, slices|mask is|save it as NIfTI)"
    ):
        load_segmentation_dataset("folder", root)
