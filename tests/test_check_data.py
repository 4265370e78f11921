"""Faults planted in a copy of each data set are found, and a sound one has none."""

import json
import re

import h5py
import numpy as np
import pandas as pd
import pytest
from layouts import LAYOUTS, TEXT, image_of, save
from PIL import Image
from tiny import tiny_processor

from tevia_hf.colours_tevia import LABEL_COLOURS
from tevia_hf.data.check import NEARLY_EQUAL, check_dataset, count_words, near_duplicates
from tevia_hf.data.classes import named_classes
from tevia_hf.data.listing import Listing
from tevia_hf.data.registry import list_examples
from tevia_hf.data.survey import Survey, thumbnail
from tevia_hf.inference.check_data import check_data


@pytest.fixture(scope="module")
def processor():
    return tiny_processor()


def examined(name, root, processor, **options):
    return check_dataset(list_examples(name, root), processor, **options)


def masks_of(root):
    return sorted(path for path in root.rglob("*") if "mask" in str(path.relative_to(root)).lower() and path.is_file()
                  or path.parent.name in ("GTs", "labelcol"))  # fmt: skip


def missing_mask(root):
    masks_of(root)[0].unlink()


def other_size(root):
    path = masks_of(root)[0]
    Image.fromarray(np.asarray(Image.open(path))[:20]).save(path)


def other_values(root):
    path = masks_of(root)[0]
    Image.fromarray(np.full(np.asarray(Image.open(path)).shape[:2], 7, np.uint8)).save(path)


def corrupt_file(root):
    path = masks_of(root)[0]
    path.write_bytes(path.read_bytes()[:60])


FAULTS = {
    missing_mask: "has no mask",
    other_size: "segmentation map|size",
    other_values: r"not labels \(7\)",
    corrupt_file: "corrupt or cut short",
}
PICTURES = {key: value for key, value in LAYOUTS.items() if key != "figshare"}


@pytest.mark.parametrize(("name", "write"), LAYOUTS.values(), ids=LAYOUTS)
def test_a_sound_data_set_has_no_faults(tmp_path, processor, name, write):
    write(tmp_path)
    report = examined(name, tmp_path, processor)
    assert report.faults == [] and report.is_sound
    assert all(held["examples"] == held["readable"] > 0 for held in report.splits.values())
    assert report.sheet is not None


@pytest.mark.parametrize("plant", FAULTS, ids=lambda plant: plant.__name__)
@pytest.mark.parametrize(("name", "write"), PICTURES.values(), ids=PICTURES)
def test_a_planted_fault_is_found_and_the_rest_is_examined(tmp_path, processor, name, write, plant):
    write(tmp_path)
    plant(tmp_path)
    report = examined(name, tmp_path, processor)
    assert len(report.faults) == 1 and not report.is_sound
    assert pd.Series(report.faults).str.contains(FAULTS[plant]).all()
    assert sum(held["readable"] for held in report.splits.values()) == (
        sum(held["examples"] for held in report.splits.values()) - 1
    )


@pytest.mark.parametrize("plant", ["missing mask", "size mismatch", "wrong values", "corrupt file", "same patient"])
def test_faults_of_records_are_found(tmp_path, processor, plant):
    LAYOUTS["figshare"][1](tmp_path)
    path = tmp_path / "brainTumorDataPublic_1-766" / "2.mat"
    if plant == "corrupt file":
        path.write_bytes(path.read_bytes()[:60])
    elif plant == "same patient":  # under another number and name
        (path.parent / "99.mat").write_bytes(path.read_bytes())
        with h5py.File(path.parent / "99.mat", "a") as file:
            file["cjdata/PID"][0] = ord("9")
    else:
        with h5py.File(path, "a") as file:
            mask = file["cjdata/tumorMask"][:]
            del file["cjdata/tumorMask"]
            if plant != "missing mask":
                file["cjdata/tumorMask"] = mask[:, :20] if plant == "size mismatch" else mask * 7
    report = examined("brain", tmp_path, processor)
    assert len(report.faults) == 1
    assert ("'2'" if plant == "same patient" else "2.mat") in report.faults[0]


@pytest.mark.parametrize("layout", ["qata", "mosmed", "monuseg"])
def test_an_empty_text_is_found(tmp_path, processor, layout):
    name, write = LAYOUTS[layout]
    write(tmp_path)
    table = next(path for path in sorted(tmp_path.rglob("*")) if path.suffix in (".csv", ".xlsx"))
    content = pd.read_csv(table) if table.suffix == ".csv" else pd.read_excel(table)
    content.loc[0, "Description"] = None
    content.to_csv(table, index=False) if table.suffix == ".csv" else content.to_excel(table, index=False)
    report = examined(name, tmp_path, processor)
    assert len(report.faults) == 1 and "1 of" in report.faults[0] and "have no text" in report.faults[0]


def test_a_set_without_any_text_is_sound_but_gives_a_warning(tmp_path, processor):
    LAYOUTS["lgg"][1](tmp_path)
    report = examined("brain", tmp_path, processor)
    assert report.is_sound and "no example has a text" in report.warnings[0]


def rename_into_test(root):
    """A slice of a training patient in the test split."""
    for folder in ("img", "labelcol"):
        source = root / "Train_Folder" / folder / "Morozov_study_0017_21.png"
        source.rename(root / "Test_Folder" / folder / source.name)
    for title, names in (("Train", ["Morozov_study_0017_20.png", "Jun_coronacases_case7_75.png"]),
                         ("Test", ["Jun_radiopaedia_case1_3.png", "Morozov_study_0017_21.png"])):  # fmt: skip
        table = pd.DataFrame({"Image": names, "Description": [TEXT] * 2})
        table.to_excel(root / f"{title}_Folder" / f"{title}_text.xlsx", index=False)


def test_a_patient_in_two_splits_is_found_and_a_group_split_is_the_cure(tmp_path, processor):
    LAYOUTS["mosmed"][1](tmp_path)
    rename_into_test(tmp_path)
    report = examined("mosmed", tmp_path, processor)
    assert len(report.faults) == 1
    assert (
        "1 groups (patients, studies) with 2 examples lie in more than one split: Morozov_study_0017"
        in report.faults[0]
    )
    cured = check_dataset(list_examples("mosmed", tmp_path, group_split=(0.5, 0.25, 0.25)), processor)
    assert cured.is_sound


def test_equal_images_in_two_splits_are_a_fault_and_near_ones_a_warning(tmp_path, processor):
    LAYOUTS["monuseg"][1](tmp_path)
    pixels = image_of("TCGA-18-5592-01Z-00-DX1", channels=3)
    image = tmp_path / "Val_Folder" / "img" / "TCGA-38-6178-01Z-00-DX1.png"
    save(image, pixels)
    report = examined("monuseg", tmp_path, processor)
    assert "1 pairs of equal images in different splits: 'TCGA-18-5592-01Z-00-DX1' (train)" in report.faults[0]
    save(tmp_path / "Train_Folder" / "img" / "TCGA-18-5592-01Z-00-DX1.png", pixels[::-1])
    assert examined("monuseg", tmp_path, processor).is_sound
    save(tmp_path / "Train_Folder" / "img" / "TCGA-18-5592-01Z-00-DX1.png", pixels)
    save(image, np.clip(pixels * 0.9 + 5, 0, 255).astype(np.uint8))
    report = examined("monuseg", tmp_path, processor)
    assert report.is_sound and "1 pairs of nearly equal images in different splits" in report.warnings[0]


def test_equal_images_under_two_names_are_a_fault_in_one_split_too(tmp_path, processor):
    LAYOUTS["lgg"][1](tmp_path)
    first, *others = list_examples("brain", tmp_path).of_split("train")
    other = next(example for example in others if example.group != first.group)
    other.image.path.write_bytes(first.image.path.read_bytes())
    report = examined("brain", tmp_path, processor)
    assert len(report.faults) == 1 and "1 pairs of equal images in one split" in report.faults[0]


def test_a_training_split_without_a_lesion_is_a_fault(tmp_path, processor):
    LAYOUTS["breast-package"][1](tmp_path)
    for path in (tmp_path / "train_masks").iterdir():
        save(path, np.zeros((48, 64), np.uint8))
    report = examined("breast", tmp_path, processor)
    assert report.faults == ["no mask of the split 'train' contains a lesion: nothing can be learned from it"]
    assert report.splits["train"]["empty masks"] == 2 and report.splits["val"]["empty masks"] == 0


def test_all_problems_of_the_listing_are_faults(tmp_path, processor):
    LAYOUTS["qata"][1](tmp_path)
    (tmp_path / "Train" / "Images" / "covid_1.jpg").unlink()
    save(tmp_path / "Train" / "Images" / "stray.jpg", image_of("stray"))
    save(tmp_path / "Train" / "Images" / "covid_2.png", image_of("covid_2"))
    faults = "\n".join(examined("qata", tmp_path, processor).faults)
    for text in (
        "row 'covid_1' has no image",
        "stray.jpg' has no row",
        "'covid_2.jpg' and 'covid_2.png' belong to the same",
    ):
        assert text in faults


def test_splits_are_counted_with_their_sizes_and_mask_values(tmp_path, processor):
    LAYOUTS["mosmed"][1](tmp_path)
    report = examined("mosmed", tmp_path, processor)
    assert report.splits["train"] == {
        "examples": 3, "readable": 3, "groups": 2, "sizes": "64x48 (3)", "mask values": "0, 255", "empty masks": 0,
        "median lesion": "3.3 %", "with text": 3,
    }  # fmt: skip
    assert "| train | 3 | 3 | 2 | 64x48 (3) | 0, 255 | 0 | 3.3 % | 3 |" in report.text()


def test_texts_are_measured_in_tokens(tmp_path, processor):
    LAYOUTS["qata"][1](tmp_path)
    words = examined("qata", tmp_path, processor, max_text_length=10)
    assert words.texts == {"distinct": 1, "words and marks in the longest": 12, "truncated": 5}
    assert "5 texts are longer than 10 words and marks" in words.warnings[0]
    letters = examined("qata", tmp_path, processor, count_tokens=len)
    assert letters.texts == {"distinct": 1, "tokens in the longest": len(TEXT)}
    assert count_words("One area, left.") == 5


def test_a_report_is_written_with_its_sheet(tmp_path, processor):
    LAYOUTS["qata"][1](tmp_path / "data")
    report = examined("qata", tmp_path / "data", processor)
    report.save(tmp_path / "out")
    assert json.loads((tmp_path / "out" / "check.json").read_text())["faults"] == []
    assert Image.open(tmp_path / "out" / "overlays.jpg").size == report.sheet.size


def test_a_set_of_nothing_readable_is_reported(tmp_path, processor):
    LAYOUTS["monuseg"][1](tmp_path)
    for path in tmp_path.rglob("*.png"):
        path.write_bytes(b"")
    for path in tmp_path.rglob("*.tif"):
        path.write_bytes(b"")
    report = examined("monuseg", tmp_path, processor)
    assert len(report.faults) == 3 and report.sheet is None
    assert "3 faults:" in report.text()
    assert check_dataset(Listing("nothing"), processor).is_sound is False


# Near duplicates


def test_thumbnails_of_an_image_and_its_copies_correlate():
    pixels = np.kron(np.random.default_rng(0).integers(0, 255, (12, 16)), np.ones((20, 20))).astype(np.uint8)
    copies = [
        pixels,
        (pixels * 0.8).astype(np.uint8),
        pixels[::2, ::2],
        np.stack([pixels] * 3, -1),
        pixels.astype(float),
    ]
    others = [pixels[:, ::-1], pixels[::-1]]
    thumbnails = np.array([thumbnail(array) for array in copies + others])
    assert (thumbnails[:5] @ thumbnails[:5].T > NEARLY_EQUAL).all()
    assert set(near_duplicates(thumbnails)) == {(a, b) for a in range(5) for b in range(a + 1, 5)}


def test_pairs_are_found_across_blocks():
    rng = np.random.default_rng(0)
    thumbnails = rng.normal(size=(2100, 64)).astype(np.float32)
    thumbnails /= np.linalg.norm(thumbnails, axis=1, keepdims=True)
    thumbnails[2050] = thumbnails[7]
    thumbnails[1030] = thumbnails[1029]
    assert sorted(near_duplicates(thumbnails)) == [(7, 2050), (1029, 1030)]


def test_flat_images_are_no_duplicates():
    assert list(near_duplicates(np.array([thumbnail(np.full((8, 8), value)) for value in (3, 200)]))) == []


def many(root, values):
    """A folder of images with a mask of one square of each value, for each list of values."""
    rng = np.random.default_rng(0)
    for index, labels in enumerate(values):
        mask = np.zeros((24, 24), np.uint8)
        for place, label in enumerate(labels):
            mask[2 + 6 * place : 6 + 6 * place, 3:9] = label
        for kind, pixels in (("images", rng.integers(0, 255, (24, 24), np.uint8)), ("masks", mask)):
            (root / kind).mkdir(exist_ok=True)
            Image.fromarray(pixels).save(root / kind / f"{index:03}.png")
    lines = [f"{index:03}.png,,train" for index in range(len(values))]
    (root / "examples.csv").write_text("\n".join(["Image,Description,split", *lines]) + "\n")
    return root


def test_masks_with_equal_faults_are_one_fault_with_advice_for_all_masks(tmp_path, processor):
    root = many(tmp_path, [[1]] * 5 + [[2]] * 60 + [[3], [1, 3]])
    for index in range(4):
        (root / "images" / f"{index:03}.png").write_bytes(b"no image")
    values, unreadable = sorted(examined("folder", root, processor).faults, key=len, reverse=True)
    assert values.startswith(
        "62 masks hold values that are not labels (2, 3 only in '065.png', '066.png'), e.g. '005.png', '006.png', "
        "'007.png', ..."
    )
    assert "keep them by num_labels=4 (`--num-labels 4` of `tevia check-data`" in values
    assert (
        unreadable.startswith("image of example '000'") and "(and 3 more like this: '001', '002', '003')" in unreadable
    )


def test_training_reports_equal_faults_once(tmp_path, processor):
    rows = [example.row() for example in list_examples("folder", many(tmp_path, [[2]] * 60)).examples]
    with pytest.raises(ValueError, match=r"60 problems:\n  60 masks hold values that are not labels \(2\)") as caught:
        Survey(processor.image_processor).read_all(rows)
    assert str(caught.value).count("masks hold") == 1 and "num_labels=3" in str(caught.value)


def test_masks_with_other_faults_of_their_values_have_their_own_advice(tmp_path, processor):
    report = examined("folder", many(tmp_path, [[2]] * 2 + [[100]] * 3 + [[1]]), processor)
    classes, lesion = report.faults
    assert classes.startswith("2 masks hold") and "num_labels=3" in classes
    assert lesion.startswith("3 masks hold") and "num_labels=" not in lesion.partition(": ")[2]


def test_images_are_counted_for_each_class_if_there_are_several(tmp_path, processor):
    root = many(tmp_path, [[1]] * 5 + [[2]] * 3 + [[1, 2], [255], []])
    report = check_data("folder", root, class_names=["benign", "malignant"], output_dir=tmp_path / "out")
    assert report.splits["train"]["images per class"] == "benign 6, malignant 4"
    assert not any("not labels" in fault for fault in report.faults)
    assert check_data("folder", root, num_labels=3).splits["train"]["images per class"] == "LABEL_1 6, LABEL_2 4"
    one = check_data("folder", root, class_names=["tumour"])
    assert "images per class" not in one.splits["train"] and any("num_labels=3" in fault for fault in one.faults)


def test_the_sheet_has_a_legend_with_the_colour_of_each_class(tmp_path):
    report = check_data("folder", many(tmp_path, [[1]] * 5), class_names=["a", "b", "c"])
    title = np.asarray(report.sheet)[:60]
    assert all((title == colour).all(-1).sum() > 100 for colour in LABEL_COLOURS[:3])


@pytest.mark.parametrize(("names", "num_labels"), [(["a", "b"], 2), (["a", "b"], 4), (["a"], 3), (["a", "b"], 1)])
def test_class_names_that_do_not_fit_the_number_of_labels_are_refused(tmp_path, names, num_labels):
    with pytest.raises(ValueError, match="class names .* do not fit: give") as caught:
        check_data("folder", tmp_path, class_names=names, num_labels=num_labels)
    fitting = int(re.search(r"set `num_labels` to (\d+)", str(caught.value))[1])
    assert named_classes(names, fitting) == (dict(enumerate(names, 1)), fitting)
    count = int(re.search(r"give (\d+) names", str(caught.value))[1])
    assert named_classes([f"name {number}" for number in range(count)], num_labels)[1] == num_labels


@pytest.mark.parametrize("names", [["a", "a"], ["a", ""], ["a/b", "c"], [""]])
def test_class_names_are_unique_and_not_empty(names):
    with pytest.raises(ValueError, match="its own name"):
        named_classes(names)


@pytest.mark.parametrize(("names", "num_labels"), [(["tumour"], None), (["tumour"], 1), (["tumour"], 2)])
def test_one_class_may_have_a_name_with_and_without_a_label_of_the_background(names, num_labels):
    assert named_classes(names, num_labels) == ({1: "tumour"}, num_labels or 1)
