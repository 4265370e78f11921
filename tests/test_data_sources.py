from functools import partial

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from tiny import tiny_processor

from tevia_hf.data.example import example_id
from tevia_hf.data.faults import raise_problems
from tevia_hf.data.features import FEATURES, dataset_from_rows, undecoded
from tevia_hf.data.qata import subject
from tevia_hf.data.registry import load_segmentation_dataset
from tevia_hf.data.survey import Survey

LEFT = "unilateral pulmonary infection, one infected area, lower left lung."
RIGHT = "unilateral pulmonary infection, one infected area, lower right lung."
TRAIN = {"covid_1": LEFT, "cxr_s11228-e19964-r1": RIGHT}
VAL = {"cxr_s5-e6-r7": RIGHT}


qata_dataset, folder_dataset = (partial(load_segmentation_dataset, name) for name in ("qata", "folder"))


def write_images(images, masks, names, suffix=".jpg"):
    for folder in (images, masks):
        folder.mkdir(parents=True, exist_ok=True)
    for name in names:
        Image.new("L", (12, 8), 100).save(images / f"{name}{suffix}")
        Image.new("1", (12, 8), 1).save(masks / f"mask_{name}.png")


def write_table(path, texts, **columns):
    path.parent.mkdir(parents=True, exist_ok=True)
    table = pd.DataFrame({"Image": [f"mask_{name}.png" for name in texts], "Description": texts.values(), **columns})
    table.to_csv(path, index=False) if path.suffix == ".csv" else table.to_excel(path, index=False)


def kaggle(root):
    write_images(root / "Train Set" / "Images", root / "Train Set" / "Ground-truths", {**TRAIN, **VAL}, ".png")
    write_table(root / "Train_text.xlsx", TRAIN)
    write_table(root / "Val_text.xlsx", VAL)


def tevia(root):
    write_images(root / "Train" / "Images", root / "Train" / "GTs", {**TRAIN, **VAL})
    write_table(root / "prompt" / "train.csv", TRAIN)
    write_table(root / "prompt" / "val.csv", VAL)


def lvit(root):
    for title, texts in (("Train", TRAIN), ("Val", VAL)):
        folder = root / f"{title}_Folder"
        write_images(folder / "img", folder / "labelcol", texts)
        write_table(folder / f"{title}_text.xlsx", texts)


def lvit_with_tables_beside(root):
    lvit(root)
    for title in ("Train", "Val"):
        (root / f"{title}_Folder" / f"{title}_text.xlsx").rename(root / f"{title}_text.xlsx")


def plain(root, split=("train", "train", "val")):
    write_images(root / "images", root / "masks", {**TRAIN, **VAL})
    write_table(root / "table.csv", {**TRAIN, **VAL}, split=list(split))


@pytest.mark.parametrize("layout", [kaggle, tevia, lvit, lvit_with_tables_beside, plain])
@pytest.mark.parametrize("load", [qata_dataset, folder_dataset], ids=["qata", "folder"])
def test_every_layout_gives_image_mask_and_text_of_each_split(tmp_path, layout, load):
    layout(tmp_path)
    for split, texts in (("train", TRAIN), ("val", VAL)):
        dataset = load(tmp_path, split)
        assert dataset.features == FEATURES
        assert dict(zip(dataset["id"], dataset["text"], strict=True)) == texts
        for example in undecoded(dataset):
            assert example["image"]["path"].rsplit("/", 1)[-1].startswith(f"{example['id']}.")
            assert example["mask"]["path"].endswith(f"/mask_{example['id']}.png")
            assert example["image"]["bytes"] is None and example["mask"]["bytes"] is None
        assert dataset[0]["image"].size == dataset[0]["mask"].size == (12, 8)


def test_the_group_of_a_qata_example_is_its_subject(tmp_path):
    tevia(tmp_path)
    assert qata_dataset(tmp_path)["group"][:] == ["covid_1", "s11228"]
    assert folder_dataset(tmp_path)["group"][:] == list(TRAIN)
    assert [subject(name) for name in ("cxr_s5-e6-r7", "covid_12", "cxr_5")] == ["s5", "covid_12", "cxr_5"]


@pytest.mark.parametrize("name", ["mask_a.b.png", "a.b.jpg", "a.b_mask.tif", "a.b", "folder/a.b.PNG", " a.b.png"])
def test_image_mask_and_row_share_an_id_whatever_the_suffix(name):
    assert example_id(name) == "a.b"


def test_an_empty_description_is_an_example_without_text(tmp_path):
    write_images(tmp_path / "images", tmp_path / "masks", TRAIN)
    write_table(tmp_path / "table.csv", dict.fromkeys(TRAIN))
    assert folder_dataset(tmp_path)["text"][:] == [None, None]


def test_a_plain_folder_without_a_split_column_is_all_train(tmp_path):
    write_images(tmp_path / "images", tmp_path / "masks", TRAIN)
    write_table(tmp_path / "table.xlsx", TRAIN)
    assert len(folder_dataset(tmp_path)) == 2
    with pytest.raises(ValueError, match="no examples of the split 'val', there are: train.*group_split"):
        folder_dataset(tmp_path, "val")


def test_the_registry_loads_each_source_by_name(tmp_path):
    tevia(tmp_path)
    assert len(load_segmentation_dataset("synthetic", split="val", count=2, size=32)) == 2
    assert load_segmentation_dataset("qata", tmp_path)["group"][1] == "s11228"
    assert load_segmentation_dataset("folder", str(tmp_path), split="val")["id"][:] == list(VAL)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"name": "qatar"}, "name is 'qatar'.*synthetic, qata, mosmed, monuseg, breast, brain, folder"),
        ({"name": "synthetic", "split": "dev"}, "split is 'dev'.*train, val, test"),
        ({"name": "qata"}, "Pass data_dir"),
        ({"name": "synthetic", "data_dir": "/somewhere"}, "Leave data_dir out"),
    ],
)
def test_the_registry_refuses_what_it_does_not_know_with_the_choices(arguments, message):
    with pytest.raises(ValueError, match=message):
        load_segmentation_dataset(**arguments)


def missing_image(root):
    (root / "Train" / "Images" / "covid_1.jpg").unlink()


def missing_mask(root):
    (root / "Train" / "GTs" / "mask_covid_1.png").unlink()


def missing_row(root):
    write_table(root / "prompt" / "train.csv", {"covid_1": LEFT})


def row_without_files(root):
    write_table(root / "prompt" / "train.csv", {**TRAIN, "covid_9": LEFT})


def duplicate_row(root):
    table = root / "prompt" / "train.csv"
    table.write_text(table.read_text() + f'mask_covid_1.png,"{RIGHT}"\n')


def headings_alone(root):
    (root / "prompt" / "train.csv").write_text("Image,Description\n")


def empty_file(root):
    (root / "prompt" / "train.csv").write_text("")


def other_columns(root):
    (root / "prompt" / "train.csv").write_text("file,caption\na.png,b\n")


def nameless_row(root):
    (root / "prompt" / "train.csv").write_text("Image,Description\n,b\n")


def not_utf8(root):
    (root / "prompt" / "train.csv").write_bytes(b"Image,Description\n\xe9.png,b\n")


def missing_table(root):
    (root / "prompt" / "train.csv").unlink()


def twin_images(root):
    Image.new("L", (12, 8)).save(root / "Train" / "Images" / "covid_1.png")


def no_folders(root):
    (root / "Train").rename(root / "Training")


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (missing_image, r"1 problem:\n  row 'covid_1' has no image\n"),
        (missing_mask, "row 'covid_1' has no mask"),
        (
            missing_row,
            r"(?s)2 problems.*cxr_s11228-e19964-r1.jpg' has no row.*mask_cxr_s11228-e19964-r1.png' has no row",
        ),
        (row_without_files, r"(?s)row 'covid_9' has no image.*row 'covid_9' has no mask"),
        (duplicate_row, "row 'covid_1' appears 2 times"),
        (headings_alone, "train.csv has no rows"),
        (empty_file, "train.csv: not readable as a table.*Save it"),
        (other_columns, r"no column Image and Description; it has \['file', 'caption'\]. Rename"),
        (nameless_row, "row 2 has no file name"),
        (not_utf8, "UTF-8"),
        (missing_table, "no table of texts for the split 'train'.*prompt/train.csv"),
        (twin_images, "'covid_1.jpg' and 'covid_1.png' belong to the same example"),
        (no_folders, r"Known layouts: .*Train/Images \+ Train/GTs.*Found: \['Training', 'prompt'\]"),
    ],
)
def test_a_damaged_data_set_is_refused_with_what_is_wrong(tmp_path, damage, message):
    tevia(tmp_path)
    damage(tmp_path)
    with pytest.raises(ValueError, match=message):
        qata_dataset(tmp_path)


def test_a_missing_folder_is_reported_as_missing(tmp_path):
    with pytest.raises(ValueError, match="no such folder"):
        folder_dataset(tmp_path / "none")


def test_several_tables_beside_a_plain_folder_are_refused_by_name(tmp_path):
    plain(tmp_path)
    write_table(tmp_path / "other.csv", TRAIN)
    with pytest.raises(ValueError, match=r"\['other.csv', 'table.csv'\]"):
        folder_dataset(tmp_path)


def test_a_split_that_the_column_does_not_hold_is_refused_with_what_it_holds(tmp_path):
    plain(tmp_path, split=("train", "train", "dev"))
    with pytest.raises(ValueError, match="no examples of the split 'val', there are: train, dev"):
        folder_dataset(tmp_path, "val")


def test_one_error_counts_all_problems_and_lists_ten():
    with pytest.raises(ValueError, match="25 problems") as caught:
        raise_problems("The data set", [f"line {line} is empty" for line in range(25)], "Fill them.")
    assert str(caught.value).count("is empty") == 10
    assert "and 15 more" in str(caught.value)


@pytest.mark.parametrize(("count", "lines"), [(3, 3), (4, 1), (25, 1)])
def test_many_equal_problems_are_one_line_with_their_number(count, lines):
    rows = [{"id": str(index), "image": None, "mask": "m.png"} for index in range(count)]
    with pytest.raises(ValueError, match=f"{count} problems") as caught:
        dataset_from_rows(rows)
    assert str(caught.value).count("has no image") == lines
    assert (f"row '0' has no image (and {count - 1} more like this: '1', '2', '3'" in str(caught.value)) == (lines == 1)


def test_spacing_is_kept_and_may_be_unknown():
    image = Image.new("L", (4, 4))
    rows = [
        {"id": str(index), "image": image, "mask": image, "spacing_mm": mm}
        for index, mm in enumerate([[0.5, 2.0], None])
    ]
    assert dataset_from_rows(rows)["spacing_mm"][:] == [[0.5, 2.0], None]


def test_verification_passes_over_a_sound_data_set(tmp_path):
    tevia(tmp_path)
    Survey(tiny_processor().image_processor).read_all(undecoded(qata_dataset(tmp_path)))
    Survey(tiny_processor().image_processor).read_all(undecoded(load_segmentation_dataset("synthetic", count=2)))


def test_loading_opens_no_image_and_verification_names_all_bad_ones(tmp_path):
    names = [f"covid_{index}" for index in range(14)]
    write_images(tmp_path / "images", tmp_path / "masks", names)
    write_table(tmp_path / "table.csv", dict.fromkeys(names, LEFT))
    for name in names[:12]:
        path = tmp_path / "images" / f"{name}.jpg"
        path.write_bytes(path.read_bytes()[:-40])
    Image.fromarray(np.zeros((8, 10), np.uint8)).save(tmp_path / "masks" / "mask_covid_12.png")
    dataset = folder_dataset(tmp_path)
    with pytest.raises(ValueError, match="13 problems") as caught:
        Survey(tiny_processor().image_processor).read_all(undecoded(dataset))
    assert all(f"'{name}'" in str(caught.value) for name in names[:13])
    assert "mask_covid_12.png" in str(caught.value) and "8 x 10" in str(caught.value)
    assert "covid_13" not in str(caught.value)


def test_verification_names_a_mask_whose_values_are_no_labels(tmp_path):
    tevia(tmp_path)
    mask = tmp_path / "Train" / "GTs" / "mask_covid_1.png"
    Image.fromarray(np.full((8, 12), 100, np.uint8)).save(mask)
    with pytest.raises(ValueError, match=r"1 problem:\n.*covid_1.*mask_covid_1\.png.*100"):
        Survey(tiny_processor().image_processor).read_all(undecoded(qata_dataset(tmp_path)))


def test_a_file_removed_after_loading_is_named(tmp_path):
    tevia(tmp_path)
    dataset = qata_dataset(tmp_path)
    missing_mask(tmp_path)
    with pytest.raises(ValueError, match="mask of example 'covid_1'.*no such file"):
        Survey(tiny_processor().image_processor).read_all(undecoded(dataset))
