"""Images and masks of two folders: which belong together, and which files are neither."""

import unicodedata
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tevia_hf.data import pairing
from tevia_hf.data.affixes import Affix, find_affixes
from tevia_hf.data.example import example_id
from tevia_hf.data.registry import list_examples
from tevia_hf.io.address import is_clutter


def folder_of(root, images, masks, rows=None, header="Image,Description,split"):
    for folder, names in (("images", images), ("masks", masks)):
        (root / folder).mkdir()
        for name in names:
            Image.fromarray(np.eye(8, dtype=np.uint8) * 255).save(root / folder / name, "PNG")
    rows = [f"{name},left,train" for name in images] if rows is None else rows
    (root / "t.csv").write_text("\n".join([header, *rows]), encoding="utf-8")
    return list_examples("folder", root)


def faults(listing):
    return [problem.text for problem in listing.problems]


def pairs(listing):
    return {example.id: (example.image.path.name, example.masks[0].path.name) for example in listing.examples}


@pytest.mark.parametrize(
    "name",
    [".a.png", "._a.png", ".DS_Store", "Thumbs.db", "desktop.ini", "~$t.xlsx", ".~lock.t.csv#", "__MACOSX/a.png"],
)
def test_what_systems_leave_behind_is_clutter(name):
    assert is_clutter(Path("folder") / name) and not is_clutter(Path("folder/a.png"))


@pytest.mark.parametrize(
    ("images", "masks", "found"),
    [
        (["ISIC_1", "ISIC_2"], ["ISIC_1_segmentation", "ISIC_2_segmentation"], "the ending `_segmentation`"),
        (["a"], ["a_seg"], "the ending `_seg`"),
        (["1", "2"], ["gt_1", "gt_2"], "the beginning `gt_`"),
        (["1", "2"], ["mask1", "mask2"], "the beginning `mask`"),
        (["a", "b", "c"], ["a-mask", "b-mask", "other-mask"], "the ending `-mask`"),
        (["1", "2", "3"], ["11", "21", "31"], None),
        (["a", "b"], ["a", "b_seg"], None),
        (["a_1", "a_2"], ["b_1", "b_2"], None),
        (["left", "right"], ["eft", "ight"], None),
    ],
)
def test_an_affix_of_all_masks_is_found_where_it_leads_to_the_images(images, masks, found):
    assert [str(affix) for affix in find_affixes(masks, images)] == ([found] if found else [])


def test_two_affixes_that_both_lead_to_images_are_both_given():
    assert find_affixes(["a__seg"], ["a", "a_"]) == [Affix(suffix="_seg"), Affix(suffix="__seg")]


@pytest.mark.parametrize("row", ["ISIC_1.jpg", "ISIC_1_Segmentation.png", "ISIC_1"])
def test_masks_with_a_common_ending_belong_to_their_images_and_rows(row, tmp_path):
    listing = folder_of(tmp_path, ["ISIC_1.jpg"], ["ISIC_1_Segmentation.png"], [f"{row},left,train"])
    assert pairs(listing) == {"ISIC_1": ("ISIC_1.jpg", "ISIC_1_Segmentation.png")} and not faults(listing)
    assert "the ending `_Segmentation` of all masks" in listing.warnings[0]
    with pytest.warns(UserWarning, match="the ending `_Segmentation` of all masks"):
        listing.dataset("train")


@pytest.mark.parametrize("row", ["a_0000.png", "a"])
def test_images_with_a_common_ending_belong_to_their_masks(row, tmp_path):
    listing = folder_of(tmp_path, ["a_0000.png", "b_0000.png"], ["a.png", "b.png"], [f"{row},left,train", "b,x,train"])
    assert pairs(listing)["a"] == ("a_0000.png", "a.png") and not faults(listing)
    assert "the ending `_0000` of all images" in listing.warnings[0]


def test_slices_of_volumes_with_a_common_ending_are_found(tmp_path):
    listing = folder_of(tmp_path, ["a_0000.nii.gz"], ["a.nii.gz"], ["a_0000.nii.gz#4,x,train", "a.nii.gz#5,x,train"])
    assert [(found.id, found.group, found.masks[0].number) for found in listing.examples] == [
        ("a_4", "a", 4),
        ("a_5", "a", 5),
    ]


def test_several_channels_an_image_are_refused_by_name(tmp_path):
    names = ["a_0000.png", "a_0001.png", "b_0000.png", "b_0001.png"]
    listing = folder_of(tmp_path, names, ["a.png", "b.png"], ["a,left,train"])
    assert "there are several channels per image (a_0000, a_0001)" in faults(listing)[0]


def test_an_affix_in_doubt_is_refused(tmp_path):
    listing = folder_of(tmp_path, ["a.png", "a_.png"], ["a__seg.png"], ["a,left,train"])
    assert "either the ending `_seg` or the ending `__seg`" in faults(listing)[0]


def test_names_that_have_nothing_in_common_are_refused_with_one_of_each(tmp_path):
    listing = folder_of(tmp_path, ["ana.png", "ben.png"], ["cleo.png", "dora.png"])
    assert "no mask is named like an image: images are e.g. 'ana', masks 'cleo'" in faults(listing)[0]


def test_affixes_of_all_images_and_all_masks_are_stripped_from_both(tmp_path):
    listing = folder_of(tmp_path, ["21_training.tif", "22_training.tif"], ["21_manual1.gif", "22_manual1.gif"])
    assert pairs(listing) == {f"2{n}": (f"2{n}_training.tif", f"2{n}_manual1.gif") for n in (1, 2)}
    assert len(listing.warnings) == 2


def test_names_are_of_one_unicode_form_and_paths_stay(tmp_path):
    composed, apart = (unicodedata.normalize(form, "Müller.png") for form in ("NFC", "NFD"))
    listing = folder_of(tmp_path, [apart], [composed], [f"{composed},left,train"])
    assert pairs(listing) == {composed.removesuffix(".png"): (apart, composed)} and not faults(listing)


def test_the_id_of_a_file_is_found_once_and_rows_that_name_it_need_no_other(tmp_path, monkeypatch):
    found = Counter()

    def count(file_name):
        found[file_name] += 1
        return example_id(file_name)

    monkeypatch.setattr(pairing, "example_id", count)
    listing = folder_of(
        tmp_path, ["a.png", "b.png"], ["mask_a.png", "mask_b.png"], ["a.png,x,train", "mask_b.png,y,val"]
    )
    assert pairs(listing) == {"a": ("a.png", "mask_a.png"), "b": ("b.png", "mask_b.png")} and not faults(listing)
    assert found == {"a.png": 1, "b.png": 1, "mask_a.png": 1, "mask_b.png": 1}


def test_the_mask_of_a_slice_keeps_its_number():
    assert example_id("scan_mask.nii.gz#40") == example_id("scan.nii.gz#40") == "scan_40"


def test_clutter_is_left_out_and_counted(tmp_path):
    for folder in ("images", "masks", "__MACOSX"):
        (tmp_path / folder).mkdir()
        for name in ("._a.png", ".DS_Store"):
            (tmp_path / folder / name).write_bytes(b"no image")
    for name in ("~$t.xlsx", "._t.csv"):
        (tmp_path / name).touch()
    for folder in ("images", "masks"):
        Image.fromarray(np.eye(8, dtype=np.uint8)).save(tmp_path / folder / "a.png")
    (tmp_path / "t.csv").write_text("Image,Description,split\na,left,train\n")
    listing = list_examples("folder", tmp_path)
    assert list(pairs(listing)) == ["a"] and not faults(listing) and not listing.warnings
    assert [note.split("holds ")[1] for note in listing.notes] == [
        "2 files that are no data (.DS_Store, ._a.png), ignored"
    ] * 2


def test_other_files_are_counted_by_suffix(tmp_path):
    (tmp_path / "images" / "sub").mkdir(parents=True)
    for name in ("a.txt", "b.TXT"):
        (tmp_path / "images" / name).touch()
    (tmp_path / "images").rename(tmp_path / "kept")
    folder_of(tmp_path, ["a.png"], ["a.png"])
    for path in (tmp_path / "kept").iterdir():
        path.rename(tmp_path / "images" / path.name)
    listing = list_examples("folder", tmp_path)
    assert not faults(listing)
    assert [text.split(" holds ")[1] for text in listing.warnings] == [
        "1 folder (sub), not searched",
        "2 files ending in .txt, no image suffix: ignored",
    ]


def test_a_row_without_its_image_names_the_file_that_cannot_be_read(tmp_path):
    folder_of(tmp_path, ["a.png", "b.png"], ["a.png", "b.png"])
    (tmp_path / "masks" / "b.png").rename(tmp_path / "masks" / "b.xyz")
    (fault,) = faults(list_examples("folder", tmp_path))
    assert "holds 1 file ending in .xyz ('b.xyz'), not readable as an image: convert to PNG (supported: .png" in fault


def test_a_folder_without_readable_images_names_the_suffixes_that_are_there(tmp_path):
    folder_of(tmp_path, ["a.xyz", "b.xyz"], ["a.xyz", "b.xyz"], [])
    (tmp_path / "t.csv").unlink()
    found = faults(list_examples("folder", tmp_path))
    assert sum("holds 2 files ending in .xyz ('a.xyz', 'b.xyz'), not readable" in fault for fault in found) == 2


def test_a_column_of_patients_that_is_not_read_is_a_warning(tmp_path):
    rows = ["a,left,train,p"]
    listing = folder_of(tmp_path, ["a.png"], ["a.png"], rows, header="Image,Description,split,patient")
    assert "`patient` looks like the group but is not read: rename it to `group`" in listing.warnings[0]


def test_a_table_is_found_whatever_the_capitals_of_its_suffix(tmp_path):
    folder_of(tmp_path, ["a.png"], ["a.png"])
    (tmp_path / "t.csv").rename(tmp_path / "T.CSV")
    assert list_examples("folder", tmp_path).examples[0].text == "left"


@pytest.mark.parametrize("suffix", [".xls", ".ods"])
def test_a_table_of_another_kind_is_named_where_none_is_found(suffix, tmp_path):
    folder_of(tmp_path, ["a.png"], ["a.png"])
    (tmp_path / "t.csv").rename(tmp_path / f"t{suffix}")
    assert f"t{suffix} is not read: save it as UTF-8 CSV or xlsx" in faults(list_examples("folder", tmp_path))[0]
