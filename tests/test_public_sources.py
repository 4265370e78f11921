"""Every public data set, read from a miniature in its own layout."""

from pathlib import Path

import nibabel
import numpy as np
import pytest
from layouts import LAYOUTS, SIZE, TEXT, busi, figshare, image_of, lgg, monuseg, mosmed, save, square, write_table
from tiny import tiny_processor

from tevia_hf import load_segmentation_dataset
from tevia_hf.data.brain import finding, patient
from tevia_hf.data.decoding import decode_image, decode_labels
from tevia_hf.data.features import undecoded
from tevia_hf.data.lvit import patient as slide_patient
from tevia_hf.data.lvit import study
from tevia_hf.data.registry import list_examples
from tevia_hf.data.splits import parse_fractions, split_by_group
from tevia_hf.data.survey import Survey


@pytest.mark.parametrize(("name", "write"), LAYOUTS.values(), ids=LAYOUTS)
def test_every_layout_loads_pairs_that_training_takes(tmp_path, name, write):
    write(tmp_path)
    listing = list_examples(name, tmp_path)
    assert listing.problems == []
    assert set(listing.splits) <= {"train", "val", "test"} and "train" in listing.splits
    for split in listing.splits:
        dataset = load_segmentation_dataset(name, tmp_path, split)
        Survey(tiny_processor().image_processor).read_all(undecoded(dataset))
        assert dataset[0]["image"].size == dataset[0]["mask"].size == SIZE[::-1]


def masks_by_id(name, root):
    examples = list_examples(name, root).examples
    return {example.id: decode_labels(example.row(), num_labels=1) == 1 for example in examples}


def test_three_channel_masks_hold_the_lesion_once(tmp_path):
    mosmed(tmp_path)
    for mask in masks_by_id("mosmed", tmp_path).values():
        np.testing.assert_array_equal(mask, square() > 0)


def test_several_masks_of_one_image_are_joined(tmp_path):
    busi(tmp_path)
    masks = masks_by_id("breast", tmp_path)
    np.testing.assert_array_equal(masks["benign (2)"], (square() | square(40) | square(20)) > 0)
    np.testing.assert_array_equal(masks["benign (1)"], square() > 0)
    assert not masks["normal (1)"].any()


def test_masks_with_an_alpha_channel_are_joined_by_their_colours(tmp_path):
    busi(tmp_path)
    opaque = np.dstack([square(40, channels=3), np.full(SIZE, 255, np.uint8)])
    save(tmp_path / "Dataset_BUSI_with_GT" / "benign" / "benign (2)_mask_1.png", opaque)
    masks = masks_by_id("breast", tmp_path)
    np.testing.assert_array_equal(masks["benign (2)"], (square() | square(40) | square(20)) > 0)


def damaged_masks(root, pixels):
    """The error of reading a benign image one of whose three masks is replaced."""
    busi(root)
    save(root / "Dataset_BUSI_with_GT" / "benign" / "benign (2)_mask_1.png", pixels)
    listing = list_examples("breast", root)
    assert not listing.problems  # no file was opened
    (example,) = [example for example in listing.examples if example.id == "benign (2)"]
    with pytest.raises(ValueError, match=r"mask of example 'benign \(2\)'") as caught:
        decode_labels(example.row(), num_labels=1)
    with pytest.raises(ValueError, match=r"1 problem:\n  mask of example 'benign \(2\)'"):
        Survey(tiny_processor().image_processor).read_all(undecoded(listing.dataset(example.split)))
    return str(caught.value)


def test_masks_of_other_values_are_not_joined_and_the_file_is_named(tmp_path):
    assert "benign (2)_mask_1.png holds 1 values that are not labels (100)" in damaged_masks(
        tmp_path, square(value=100)
    )


def test_masks_of_two_sizes_are_not_joined(tmp_path):
    assert "48 x 64, 20 x 64, 48 x 64 pixels" in damaged_masks(tmp_path, square()[:20])


def test_classes_come_from_folder_name_or_record(tmp_path):
    busi(tmp_path / "busi")
    figshare(tmp_path / "figshare")
    lgg(tmp_path / "lgg")
    classes = {found.id: found.finding for found in list_examples("breast", tmp_path / "busi").examples}
    assert (classes["benign (1)"], classes["malignant (1)"], classes["normal (1)"]) == ("benign", "malignant", None)
    kinds = {found.id: found.finding for found in list_examples("brain", tmp_path / "figshare").examples}
    assert [kinds[number] for number in "123"] == ["glioma", "pituitary", "meningioma"]
    assert {found.finding for found in list_examples("brain", tmp_path / "lgg").examples} == {"glioma"}
    assert (finding("image_Meningioma_3"), finding("image_3")) == ("meningioma", None)


def test_records_are_shown_upright_with_all_their_values(tmp_path):
    figshare(tmp_path)
    examples = {example.id: example for example in list_examples("brain", tmp_path).examples}
    image = decode_image(examples["3"].row())
    assert image.dtype == np.int16
    np.testing.assert_array_equal(image, image_of("3").astype(np.int16) * 20)
    np.testing.assert_array_equal(decode_labels(examples["3"].row(), 1), square(3) > 0)
    assert examples["3"].group == examples["4"].group == "102"


def test_a_damaged_record_is_a_problem_of_its_own(tmp_path):
    figshare(tmp_path)
    (tmp_path / "brainTumorDataPublic_1-766" / "2.mat").write_bytes(b"cut short")
    with pytest.raises(ValueError, match=r"(?s)1 problem:.*2\.mat: not a brain tumour record.*Fetch it again"):
        load_segmentation_dataset("brain", tmp_path)


@pytest.mark.parametrize(
    ("group_of", "name", "group"),
    [
        (study, "Morozov_study_0017_20", "Morozov_study_0017"),
        (study, "Jun_coronacases_case7_75", "Jun_coronacases_case7"),
        (study, "Jun_radiopaedia_10_85902_1_3", "Jun_radiopaedia_10_85902_1"),
        (slide_patient, "TCGA-18-5592-01Z-00-DX1", "TCGA-18-5592"),
        (slide_patient, "slide_7", "slide_7"),
        (patient, "TCGA_CS_4943_20000902_7", "TCGA_CS_4943"),
    ],
)
def test_groups_are_patients_or_studies(group_of, name, group):
    assert group_of(name) == group


def test_slices_stay_with_their_patient(tmp_path):
    lgg(tmp_path)
    examples = list_examples("brain", tmp_path).examples
    assert [example.id for example in examples[:3]] == [f"TCGA_CS_4941_19960909_{number}" for number in (1, 2, 10)]
    for group in {example.group for example in examples}:
        assert len({example.split for example in examples if example.group == group}) == 1
    assert len({example.split for example in examples}) == 3


def test_a_set_with_splits_is_divided_anew_on_request(tmp_path):
    mosmed(tmp_path)
    row = {"id": "Morozov_study_0017_22.png"}
    save(tmp_path / "Test_Folder" / "img" / row["id"], image_of(row["id"]))
    save(tmp_path / "Test_Folder" / "labelcol" / row["id"], square(channels=3))
    write_table(tmp_path / "Test_Folder" / "Test_text.xlsx", ["Jun_radiopaedia_case1_3.png", row["id"]])
    published = list_examples("mosmed", tmp_path).examples
    assert len({found.split for found in published if found.group == "Morozov_study_0017"}) == 2
    divided = list_examples("mosmed", tmp_path, group_split=(0.5, 0.25, 0.25))
    assert len({found.split for found in divided.examples if found.group == "Morozov_study_0017"}) == 1
    assert {found.id for found in divided.examples} == {found.id for found in published}
    sizes = [len(load_segmentation_dataset("mosmed", tmp_path, split, group_split=(0.5, 0.25, 0.25)))
             for split in ("train", "val", "test")]  # fmt: skip
    assert sum(sizes) == 6 and min(sizes) > 0


def test_texts_of_a_table_replace_those_of_the_set(tmp_path):
    lgg(tmp_path)
    ids = [example.id for example in list_examples("brain", tmp_path).examples]
    write_table(tmp_path / "mine.csv", [f"{name}_mask.tif" for name in ids], "MRI displaying no tumor.")
    dataset = load_segmentation_dataset("brain", tmp_path, text_table=tmp_path / "mine.csv")
    assert set(dataset["text"]) == {"MRI displaying no tumor."}
    assert set(load_segmentation_dataset("brain", tmp_path)["text"]) == {None}
    write_table(tmp_path / "mine.csv", [f"{name}_mask.tif" for name in ids[1:]] + ["other.tif"])
    with pytest.raises(
        ValueError, match=r"(?s)2 problems:\n  'TCGA_CS_4941_19960909_1' has no row\n  row 'other' has no"
    ):
        load_segmentation_dataset("brain", tmp_path, text_table=tmp_path / "mine.csv")


def test_given_texts_replace_a_missing_table(tmp_path):
    monuseg(tmp_path)
    (tmp_path / "Train_Folder" / "Train_text.xlsx").unlink()
    with pytest.raises(ValueError, match="no table of texts for the split 'train'"):
        load_segmentation_dataset("monuseg", tmp_path)
    names = [f"{example.id}.png" for example in list_examples("monuseg", tmp_path).examples]
    write_table(tmp_path / "mine.csv", names)
    assert load_segmentation_dataset("monuseg", tmp_path, text_table=tmp_path / "mine.csv")["text"][:] == [TEXT]


def test_a_fault_in_one_split_leaves_the_others_usable(tmp_path):
    monuseg(tmp_path)
    (tmp_path / "Test_Folder" / "labelcol" / "TCGA-2Z-A9J9-01A-01-TS1.png").unlink()
    assert len(load_segmentation_dataset("monuseg", tmp_path, "train")) == 1
    with pytest.raises(ValueError, match="has no mask"):
        load_segmentation_dataset("monuseg", tmp_path, "test")


def test_a_split_that_is_not_there_is_refused_with_those_that_are(tmp_path):
    LAYOUTS["qata"][1](tmp_path)
    with pytest.raises(ValueError, match="no examples of the split 'test', there are: train, val"):
        load_segmentation_dataset("qata", tmp_path, "test")


# Splits by group


def test_groups_are_never_divided_and_splits_have_about_their_share():
    rng = np.random.default_rng(0)
    groups = [f"p{number}" for number in rng.integers(0, 60, 1000)]
    splits = split_by_group(groups, (0.6, 0.2, 0.2), seed=1)
    for group in set(groups):
        assert len({split for split, of in zip(splits, groups, strict=True) if of == group}) == 1
    assert splits.count("train") == pytest.approx(600, abs=40)
    assert splits.count("val") == pytest.approx(200, abs=40)
    assert split_by_group(groups, (0.6, 0.2, 0.2), seed=1) == splits != split_by_group(groups, (0.6, 0.2, 0.2), seed=2)


def test_the_split_of_a_group_does_not_depend_on_the_order_of_examples():
    groups = [f"p{number % 30}" for number in range(200)]
    forward = dict(zip(groups, split_by_group(groups), strict=True))
    backward = dict(zip(groups[::-1], split_by_group(groups[::-1]), strict=True))
    assert forward == backward


def test_a_share_of_nothing_leaves_a_split_out():
    assert set(split_by_group(list("abcdef"), (0.5, 0.0, 0.5))) == {"train", "test"}


def test_too_few_groups_are_refused():
    with pytest.raises(ValueError, match="2 groups cannot fill the splits"):
        split_by_group(list("aabb"))


@pytest.mark.parametrize("text", ["0.7,0.3", "0.7,0.1,0.1", "a,b,c", "1.2,-0.1,-0.1", ""])
def test_shares_that_are_none_are_refused(text):
    with pytest.raises(ValueError, match="0.7,0.1,0.2"):
        parse_fractions(text)


# Medical files in a folder of one's own


def test_slices_of_volumes_are_examples_with_spacing_and_window(tmp_path):
    rng = np.random.default_rng(0)
    volume = rng.integers(-1000, 1000, (12, 10, 5)).astype(np.int16)
    labels = (volume > 500).astype(np.uint8)
    affine = np.diag([0.5, 2.0, 5.0, 1.0])
    for folder, array in (("images", volume), ("masks", labels)):
        (tmp_path / folder).mkdir()
        nibabel.save(nibabel.Nifti1Image(array, affine), tmp_path / folder / "scan.nii.gz")
    write_table(tmp_path / "table.csv", ["scan.nii.gz#1", "scan.nii.gz#3"])
    dataset = load_segmentation_dataset("folder", tmp_path, window=(0, 1000))
    assert dataset["id"][:] == ["scan_1", "scan_3"]
    survey = Survey(tiny_processor().image_processor)
    survey.read_all(undecoded(dataset))
    example = undecoded(dataset)[1]
    assert survey.spacings[0] == (2.0, 0.5)
    np.testing.assert_array_equal(decode_labels(example, 1), labels[::-1, ::-1, 3].T)
    seen = np.clip((volume[::-1, ::-1, 3].T + 500) / 1000, 0, 1)
    np.testing.assert_allclose(decode_image(example), seen, atol=1e-6)
    np.testing.assert_allclose(np.asarray(dataset[1]["image"]), seen, atol=1e-6)
    np.testing.assert_array_equal(np.asarray(dataset[1]["mask"]), labels[::-1, ::-1, 3].T)
    assert Path(example["image"]["path"]).name == "scan.nii.gz#3@0,1000"
