"""Texts generated from the masks of a data set, with their description."""

import numpy as np
import pandas as pd
import pytest
from layouts import LAYOUTS, image_of, save, square
from PIL import Image

from tevia_hf import load_segmentation_dataset
from tevia_hf.data.generated_prompts import choose_language, classes_in, generate_prompts, write_prompts
from tevia_hf.data.registry import list_examples
from tevia_hf.prompts import BRAIN, BREAST, QATA


def drawn_of(layout, root, **options):
    name, write = LAYOUTS[layout]
    write(root)
    listing = list_examples(name, root)
    return generate_prompts(listing, choose_language(name, None, None, ""), **options)


def test_every_example_gets_a_text_that_can_replace_that_of_its_set(tmp_path):
    for layout in LAYOUTS:
        root = tmp_path / layout
        root.mkdir()
        drawn = drawn_of(layout, root)
        path = drawn.save(tmp_path / f"{layout}.csv")
        name = LAYOUTS[layout][0]
        assert drawn.problems == []
        texts = [text for split in ("train", "val", "test") if split in list_examples(name, root).splits
                 for text in load_segmentation_dataset(name, root, split, text_table=path)["text"]]  # fmt: skip
        assert len(texts) == len(drawn.rows) and all(texts)


def test_texts_name_the_class_of_the_layout(tmp_path):
    texts = dict(drawn_of("busi", tmp_path).rows)
    assert texts["benign (1)_mask.png"] == (
        "One medium rectangular-shaped benign tumor at the lower left in the breast ultrasound image."
    )
    assert texts["normal (1)_mask.png"] == BREAST.empty
    assert texts["benign (2).png"].startswith("Three medium")


def test_the_table_has_the_published_columns_and_a_description_beside_it(tmp_path):
    drawn = drawn_of("qata", tmp_path)
    path = drawn.save(tmp_path / "new" / "prompts.csv")
    assert list(pd.read_csv(path).columns) == ["Image", "Description"]
    about = (tmp_path / "new" / "prompts.about.txt").read_text()
    assert "carry part of the answer" in about and '"Left" is the left of the image.' in about
    with pytest.raises(ValueError, match="exists. Set --overwrite"):
        drawn.save(path)
    assert drawn.save(path, overwrite=True) == path
    with pytest.raises(ValueError, match="Name it 'p.csv'"):
        drawn.save(tmp_path / "p.xlsx")


def test_patient_sides_are_written_and_described(tmp_path):
    drawn = drawn_of("qata", tmp_path, patient_sides=True)
    assert drawn.sides == '"Left" is the left of the patient.'
    assert all(text.endswith("lower right lung.") for _, text in drawn.rows)


def test_equal_masks_give_equal_texts(tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    assert drawn_of("figshare", tmp_path / "a").rows == drawn_of("figshare", tmp_path / "b").rows


def test_agreement_counts_the_fields_in_which_text_and_mask_agree(tmp_path):
    names = ["a", "b", "c", "d"]
    texts = [
        "unilateral pulmonary infection, one infected area, lower left lung.",  # true
        "unilateral pulmonary infection, two infected areas, middle lower left lung.",
        "unilateral pulmonary infection, one infected area, lower right lung.",
        "Something else.",
    ]
    for name in names:
        save(tmp_path / "images" / f"{name}.png", image_of(name))
        save(tmp_path / "masks" / f"{name}.png", square())
    pd.DataFrame({"Image": names, "Description": texts}).to_csv(tmp_path / "table.csv", index=False)
    agreement = generate_prompts(list_examples("folder", tmp_path), QATA).agreement
    assert agreement == pytest.approx(
        {"in the language": 3 / 4, "count_word": 2 / 4, "laterality": 3 / 4, "lungs": 1 / 4, "sides": 2 / 4,
         "overlap of regions": (1 + 1 / 2 + 0 + 0) / 4}
    )  # fmt: skip


def test_a_mask_that_cannot_be_read_costs_its_own_row_only(tmp_path):
    LAYOUTS["mosmed"][1](tmp_path)
    (tmp_path / "Val_Folder" / "labelcol" / "Morozov_study_0018_4.png").write_bytes(b"")
    (tmp_path / "Test_Folder" / "labelcol" / "Jun_radiopaedia_case1_3.png").unlink()
    drawn = generate_prompts(list_examples("mosmed", tmp_path), QATA)
    assert len(drawn.rows) == 3 and len(drawn.problems) == 2
    assert "corrupt or cut short" in drawn.problems[0] and "has no mask" in drawn.problems[1]


def test_a_mask_of_greys_is_a_problem_and_gets_no_text(tmp_path):
    LAYOUTS["mosmed"][1](tmp_path)
    greys = np.arange(48 * 64, dtype=np.uint8).reshape(48, 64)
    path = tmp_path / "Val_Folder" / "labelcol" / "Morozov_study_0018_4.png"
    Image.fromarray(greys).save(path)
    drawn = generate_prompts(list_examples("mosmed", tmp_path), QATA)
    assert len(drawn.rows) == 4
    (problem,) = drawn.problems
    assert problem.startswith(f"mask of example 'Morozov_study_0018_4': {path} holds 256 values that are not labels")
    assert "these are greys" in problem


def test_a_text_is_generated_from_a_user_template(tmp_path):
    LAYOUTS["lgg"][1](tmp_path)
    language = choose_language("brain", None, "{Count_word} {finding}{s} ({percent} %), {place}.", "Clear.")
    texts = {text for _, text in generate_prompts(list_examples("brain", tmp_path), language).rows}
    assert texts == {"Clear.", "One glioma (3.3 %), lower left."}
    assert {text for _, text in generate_prompts(list_examples("brain", tmp_path), language, finding="x").rows} == texts


def test_a_text_that_cannot_be_read_back_is_a_problem(tmp_path):
    LAYOUTS["mosmed"][1](tmp_path)
    drawn = generate_prompts(list_examples("mosmed", tmp_path), BRAIN, finding="grade II/III")
    assert len(drawn.problems) == 5 and "cannot be read back" in drawn.problems[0]


@pytest.mark.parametrize(
    ("dataset", "language", "message"),
    [
        ("folder", None, "has no language of its own"),
        ("brain", "lungs", "language is 'lungs'"),
        ("atlas", None, "dataset is"),
    ],
)
def test_a_language_that_nothing_names_is_refused(dataset, language, message):
    with pytest.raises(ValueError, match=message):
        choose_language(dataset, language, None, "")
    assert choose_language("brain", None, None, "") is BRAIN and choose_language("brain", "qata", None, "") is QATA


@pytest.mark.parametrize("values", [(255, 255), (1, 1), (1, 2)])
def test_masks_of_255_and_of_labels_are_lesions(values, tmp_path):
    for name, mask in zip("ab", (square(value=value) for value in values), strict=True):
        save(tmp_path / "images" / f"{name}.png", image_of(name))
        save(tmp_path / "masks" / f"{name}.png", mask)
    texts = [text for _, text in generate_prompts(list_examples("folder", tmp_path), QATA).rows]
    assert len(texts) == 2 and len(set(texts)) == 1 and np.char.find(texts, "lower left lung").min() > 0


def folder_of(root, **masks):
    """A folder of images with masks."""
    for kind in ("images", "masks"):
        (root / kind).mkdir()
    for name, mask in masks.items():
        Image.fromarray(np.full(mask.shape, 90, np.uint8)).save(root / "images" / f"{name}.png")
        Image.fromarray(mask).save(root / "masks" / f"{name}.png")
    return root


def two_lesions(small, large):
    mask = np.zeros((64, 64), np.uint8)
    mask[4:10, 4:10], mask[30:60, 30:60] = small, large
    return mask


def test_texts_name_the_classes_in_the_mask_the_largest_first(tmp_path):
    masks = {"a": two_lesions(1, 1), "b": two_lesions(2, 0), "c": two_lesions(1, 2), "d": two_lesions(2, 1)}
    masks |= {"e": two_lesions(0, 0), "f": two_lesions(255, 1)}
    generated = write_prompts(
        "folder",
        folder_of(tmp_path, **masks),
        tmp_path / "prompts.csv",
        template="{finding} lesion{s}.",
        class_names=["benign", "malignant"],
    )
    texts = {name.removesuffix(".png"): text for name, text in generated.rows}
    assert texts["c"] == "malignant and benign lesions."
    assert texts["d"] == "benign and malignant lesions."
    assert (texts["a"], texts["b"], texts["e"], texts["f"]) == (
        "benign lesions.",
        "malignant lesion.",
        "No lesion.",
        "benign lesion.",
    )
    assert generated.problems == []


def test_one_class_name_leaves_the_finding_as_it_is(tmp_path):
    root = folder_of(tmp_path, a=two_lesions(1, 1))
    language = choose_language("folder", None, "{finding} lesion{s}.", "No lesion.")
    for names in (None, ["tumour"]):
        (row,) = generate_prompts(list_examples("folder", root), language, "benign", class_names=names).rows
        assert row[1] == "benign lesions."


def test_labels_beyond_the_class_names_are_problems_with_advice(tmp_path):
    root = folder_of(tmp_path, a=two_lesions(1, 3))
    language = choose_language("folder", None, "{finding} lesion{s}.", "No lesion.")
    generated = generate_prompts(list_examples("folder", root), language, class_names=["benign", "malignant"])
    assert any("not labels (3)" in problem for problem in generated.problems)


def test_three_classes_in_one_mask_can_be_read_back(tmp_path):
    mask = two_lesions(1, 2)
    mask[40:44, 4:10] = 3
    language = choose_language("folder", None, "{finding} lesion{s}.", "No lesion.")
    names = ["benign", "malignant", "cyst"]
    generated = generate_prompts(list_examples("folder", folder_of(tmp_path, a=mask)), language, class_names=names)
    assert generated.problems == [] and generated.rows[0][1].count(" and ") == 2


def test_class_names_that_a_wording_cannot_hold_are_reported(tmp_path):
    listing = list_examples("folder", folder_of(tmp_path, a=two_lesions(1, 2)))
    with pytest.raises(ValueError, match=r"Texts cannot name the classes \['BI-RADS 4 \(c\)'\]"):
        generate_prompts(listing, BREAST, class_names=["benign", "BI-RADS 4 (c)"])
    without = choose_language("folder", None, "{Count_word} lesion{s}.", "No lesion.")
    (problem,) = generate_prompts(listing, without, class_names=["benign", "malignant"]).problems
    assert "no text names a class" in problem


def test_several_classes_are_listed_by_area():
    labels = np.repeat([3, 1, 2, 0, 255], [7, 3, 5, 9, 9]).reshape(1, -1)
    assert classes_in(labels, {1: "a", 2: "b", 3: "c", 4: "d"}) == "c and b and a"
    assert classes_in(np.zeros((2, 2), int), {1: "a", 2: "b"}) == ""
