"""Tables and folders made by hand: their entries are used, and contradictions are problems."""

from pathlib import Path

import nibabel
import numpy as np
import pandas as pd
import pytest
from layouts import TEXT, busi, image_of, lgg, save, square, write_table
from PIL import Image

from tevia_hf.data.decoding import decode_labels
from tevia_hf.data.registry import list_examples
from tevia_hf.data.splits import parse_fractions
from tevia_hf.data.tables import read_table, texts_for


def plain(root: Path, **columns) -> Path:
    """`images/`, `masks/` and a table with these columns, for images a, b, c, ..."""
    count = len(next(iter(columns.values())))
    names = [f"{letter}.png" for letter in "abcdefgh"[:count]]
    for name in names:
        save(root / "images" / name, image_of(name))
        save(root / "masks" / name, square())
    table = {"Image": names, "Description": [TEXT] * count, **columns}
    pd.DataFrame(table).to_csv(root / "table.csv", index=False)
    return root


def problems(listing):
    return [problem.text for problem in listing.problems]


def splits(listing):
    return {example.id: example.split for example in listing.examples}


def test_a_row_without_a_split_among_others_is_a_problem_and_moves_nobody(tmp_path):
    listing = list_examples("folder", plain(tmp_path, split=["train", "val", None]))
    assert splits(listing) == {"a": "train", "b": "val", "c": None}
    assert [text.split(": ")[1] for text in problems(listing)] == ["row 'c.png' has no split"]


def test_an_empty_column_of_splits_is_none(tmp_path):
    listing = list_examples("folder", plain(tmp_path, split=[None] * 8))
    assert set(splits(listing).values()) == {"train", "val", "test"} and not listing.problems


def test_splits_and_groups_are_read_whatever_their_capitals_and_blanks(tmp_path):
    listing = list_examples("folder", plain(tmp_path, Split=[" Train", "VAL "], GROUP=["ana ", " ben"]))
    assert splits(listing) == {"a": "train", "b": "val"}
    assert [example.group for example in listing.examples] == ["ana", "ben"] and not listing.problems


def test_the_images_of_a_group_stay_together(tmp_path):
    listing = list_examples("folder", plain(tmp_path, group=list("aabbccdd")), group_split=(0.5, 0.25, 0.25))
    of_group = {}
    for example in listing.examples:
        of_group.setdefault(example.group, set()).add(example.split)
    assert len(of_group) == 4 and all(len(found) == 1 for found in of_group.values())


def test_an_image_without_a_group_is_its_own_group(tmp_path):
    listing = list_examples("folder", plain(tmp_path, group=["ana", None]))
    assert [example.group for example in listing.examples] == ["ana", "b"]


def test_slices_of_one_volume_stay_together(tmp_path):
    volume = nibabel.Nifti1Image(np.arange(32 * 32 * 4, dtype=np.int16).reshape(32, 32, 4), np.eye(4))
    for folder in ("images", "masks"):
        (tmp_path / folder).mkdir()
        for name in "ab":
            volume.to_filename(tmp_path / folder / f"{name}.nii.gz")
    names = [f"{name}.nii.gz#{number}" for name in "ab" for number in range(4)]
    write_table(tmp_path / "table.csv", names)
    listing = list_examples("folder", tmp_path, group_split=(0.5, 0.5, 0))
    assert {example.group for example in listing.examples} == {"a", "b"}
    assert len({(example.group, example.split) for example in listing.examples}) == 2


def lvit(root, **tables):
    for title, table in tables.items():
        for name in table["Image"]:
            save(root / f"{title}_Folder" / "img" / name, image_of(f"{title}{name}"))
            save(root / f"{title}_Folder" / "labelcol" / name, square())
        pd.DataFrame(table).to_csv(root / f"{title}_text.csv", index=False)
    return root


def test_a_column_that_contradicts_the_folders_is_a_problem(tmp_path):
    table = {"Image": ["a.png", "b.png"], "Description": [TEXT] * 2}
    listing = list_examples("folder", lvit(tmp_path, Train={**table, "split": ["train", "test"]}))
    assert set(splits(listing).values()) == {"train"}
    assert "row 'b.png' has the split 'test', but is in the folder of 'train'" in problems(listing)[0]


def test_an_example_of_two_splits_is_a_problem_of_both(tmp_path):
    for name in ("a.png", "b.png", "c.png"):
        save(tmp_path / "Train" / "Images" / name, image_of(name))
        save(tmp_path / "Train" / "GTs" / name, square())
    write_table(tmp_path / "prompt" / "train.csv", ["a.png", "b.png"])
    write_table(tmp_path / "prompt" / "val.csv", ["b.png", "c.png"])
    listing = list_examples("folder", tmp_path)
    assert problems(listing) == ["'b' is in several splits: train, val. Keep its row in one"]
    for split in ("train", "val"):
        with pytest.raises(ValueError, match="several splits"):
            listing.dataset(split)


def test_the_same_file_name_in_two_folders_of_splits_is_two_examples(tmp_path):
    table = {"Image": ["1.png"], "Description": [TEXT]}
    listing = list_examples("folder", lvit(tmp_path, Train=table, Test=table))
    assert len(listing.examples) == 2 and not listing.problems


def test_one_text_for_two_images_of_a_name_is_refused(tmp_path):
    table = {"Image": ["1.png"], "Description": [TEXT]}
    lvit(tmp_path / "data", Train=table, Test=table)
    write_table(tmp_path / "own.csv", ["1.png"])
    with pytest.raises(ValueError, match="'1' is the name of 2 examples"):
        list_examples("folder", tmp_path / "data", text_table=tmp_path / "own.csv")


@pytest.mark.parametrize("missing", ["img", "labelcol"])
def test_a_split_without_its_images_or_masks_is_a_problem_of_that_split_alone(missing, tmp_path):
    table = {"Image": ["1.png"], "Description": [TEXT]}
    lvit(tmp_path, Train=table)
    (tmp_path / "Test_Folder" / ({"img", "labelcol"} - {missing}).pop()).mkdir(parents=True)
    listing = list_examples("folder", tmp_path)
    assert len(listing.dataset("train")) == 1
    with pytest.raises(ValueError, match=f"but not .*{missing}"):
        listing.dataset("test")


def test_cells_are_read_without_the_blanks_around_them(tmp_path):
    pd.DataFrame({" Image ": [" a.png\n"], "Description": ["  "]}).to_csv(tmp_path / "table.csv", index=False)
    assert read_table(tmp_path / "table.csv").to_dict("records") == [{"Image": "a.png", "Description": None}]
    assert texts_for(tmp_path / "table.csv", ["a"]) == [None]


def test_brain_packages_are_split_by_patient(tmp_path):
    lgg(tmp_path / "lgg")
    for path in (tmp_path / "lgg").rglob("*.tif"):
        folder = "train_masks" if path.stem.endswith("_mask") else "train_images"
        (tmp_path / "package" / folder).mkdir(parents=True, exist_ok=True)
        path.rename(tmp_path / "package" / folder / path.name)
    listing = list_examples("brain", tmp_path / "package", group_split=(0.5, 0, 0.5))
    groups = {example.group for example in listing.examples}
    assert len(groups) < len(listing.examples) and all(group.count("_") == 2 for group in groups)


def test_several_masks_of_an_lgg_slice_are_joined(tmp_path):
    lgg(tmp_path)
    mask = next(tmp_path.rglob("*_mask.tif"))
    first = np.asarray(Image.open(mask)) > 0
    second = np.zeros(first.shape, np.uint8)
    second[:3, :3] = 255
    save(mask.with_name(f"{mask.stem}_1.tif"), second)
    examples = list_examples("brain", tmp_path).examples
    (example,) = [example for example in examples if example.id == mask.stem.removesuffix("_mask")]
    assert np.array_equal(decode_labels(example.row(), 1) > 0, first | (second > 0))


def test_joined_masks_keep_what_is_not_to_be_counted(tmp_path):
    busi(tmp_path)
    mask = next(tmp_path.rglob("benign*_mask.png"))
    labels = np.zeros(np.asarray(Image.open(mask)).shape[:2], np.uint8)
    labels[0, :4], labels[1, :4] = 255, 1
    save(mask, labels)
    other = np.zeros_like(labels)
    other[0, 0] = other[2, 0] = 1
    save(mask.with_name(f"{mask.stem}_1.png"), other)
    examples = list_examples("breast", tmp_path).examples
    (example,) = [example for example in examples if example.id == mask.stem.removesuffix("_mask")]
    joined = decode_labels(example.row(), 1)
    assert joined[0, :5].tolist() == [1, 255, 255, 255, 0] and joined[1:3, 0].tolist() == [1, 1]


def test_classes_in_folders_of_splits_are_not_mixed_into_one_set(tmp_path):
    for split in ("train", "val"):
        busi(tmp_path / "whole" / split)
        (tmp_path / "data").mkdir(exist_ok=True)
        next((tmp_path / "whole" / split).rglob("benign")).parent.rename(tmp_path / "data" / split)
    with pytest.raises(ValueError, match="several folders"):
        list_examples("breast", tmp_path / "data")


def test_shares_that_are_no_numbers_are_refused():
    with pytest.raises(ValueError, match="give the shares"):
        parse_fractions("nan,0.5,0.5")
