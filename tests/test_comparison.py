"""Paired comparison of two runs on the same images."""

import pandas as pd
import pytest

from tevia_hf.evaluation.comparison import compare_runs, comparison_text


def write_run(path, dice, mode="correct", names=None, groups=None, **columns):
    names = names or [f"image-{index}" for index in range(len(dice))]
    table = pd.DataFrame(
        {"id": names, "group": groups or names, "text_mode": mode, "dice": dice, "hd95": [1.0] * len(dice)}
    ).assign(**({"predicted_pixels": 4, "true_pixels": 4} | columns))
    table.to_csv(path, mode="a" if path.exists() else "w", header=not path.exists(), index=False)
    return path


def test_images_are_paired_by_id_whatever_their_order(tmp_path):
    a = write_run(tmp_path / "a.csv", [0.9, 0.6, 0.8], names=["x", "y", "z"])
    b = write_run(tmp_path / "b.csv", [0.7, 0.8, 0.5], names=["z", "x", "y"])
    table = compare_runs(a, b).set_index("score")
    assert table.loc["dice", "difference"] == pytest.approx(0.1)
    assert table.loc["dice", ["low", "high"]].tolist() == pytest.approx([0.1, 0.1])
    assert table.loc["hd95", "difference"] == 0 and table.loc["hd95", "p_value"] == 1


def test_two_text_conditions_of_one_run_are_compared(tmp_path):
    path = write_run(tmp_path / "a.csv", [0.9, 0.8])
    write_run(path, [0.1, 0.2], mode="shuffled")
    table = compare_runs(path, path, "correct", "shuffled").set_index("score")
    assert table.loc["dice", ["a", "b"]].tolist() == pytest.approx([0.85, 0.15])
    with pytest.raises(ValueError, match="no rows with the text 'none', there are: correct, shuffled"):
        compare_runs(path, path, "none", "correct")


def test_a_model_without_text_is_compared_by_its_only_rows(tmp_path):
    text = write_run(tmp_path / "a.csv", [0.9, 0.8])
    vision_only = write_run(tmp_path / "b.csv", [0.5, 0.6], mode="no text branch")
    assert compare_runs(text, vision_only)["difference"][0] == pytest.approx(0.3)


def test_patients_are_the_units_of_evidence(tmp_path):
    groups = ["p1", "p1", "p2", "p2"]
    a = write_run(tmp_path / "a.csv", [0.9, 0.9, 0.8, 0.8], groups=groups)
    b = write_run(tmp_path / "b.csv", [0.5, 0.5, 0.5, 0.5], groups=groups)
    row = compare_runs(a, b).iloc[0]
    assert (row["images"], row["groups"], row["p_value"]) == (4, 2, pytest.approx(2 / 4))


def test_runs_on_other_images_are_refused_by_name(tmp_path):
    a = write_run(tmp_path / "a.csv", [0.9, 0.8], names=["x", "y"])
    b = write_run(tmp_path / "b.csv", [0.9, 0.8], names=["x", "z"])
    with pytest.raises(ValueError, match=r"(?s)2 problems:\n  'z' is in .*b.csv only\n  'y' is in .*a.csv only"):
        compare_runs(a, b)


@pytest.mark.parametrize("content", ["", "id,dice\nx,0.5\n"])
def test_other_tables_are_refused(tmp_path, content):
    (tmp_path / "a.csv").write_text(content)
    with pytest.raises(ValueError, match="Give the evaluation.csv of a run"):
        compare_runs(tmp_path / "a.csv", tmp_path / "a.csv")


def test_an_image_twice_in_a_run_is_refused(tmp_path):
    a = write_run(tmp_path / "a.csv", [0.9, 0.8], names=["x", "x"])
    with pytest.raises(ValueError, match="'x' has several rows"):
        compare_runs(a, a)


def test_the_comparison_is_shown_as_a_table(tmp_path):
    a, b = write_run(tmp_path / "a.csv", [0.9, 0.6]), write_run(tmp_path / "b.csv", [0.7, 0.4])
    text = comparison_text(compare_runs(a, b))
    assert "| dice | 0.750 | 0.550 | +0.200 | [0.200, 0.200] | 0.5 |" in text
    assert "2 images of 2 groups" in text


def test_runs_with_other_reference_masks_are_refused_by_image(tmp_path):
    a = write_run(tmp_path / "a.csv", [0.9, 0.6])
    b = write_run(tmp_path / "b.csv", [0.7, 0.4], true_pixels=[4, 9])
    with pytest.raises(ValueError, match=r"(?s)'image-1' has .* true_pixels is 4 in .*a.csv, 9 in .*reference masks"):
        compare_runs(a, b)


def test_classes_that_are_swapped_in_the_reference_masks_are_other_masks(tmp_path):
    a = write_run(tmp_path / "a.csv", [0.9], **{"true_pixels/benign": 4, "true_pixels/malignant": 0})
    b = write_run(tmp_path / "b.csv", [0.9], **{"true_pixels/benign": 0, "true_pixels/malignant": 4})
    with pytest.raises(ValueError, match="2 problems:\n.*true_pixels/benign is 4 in"):
        compare_runs(a, b)


@pytest.mark.parametrize(
    ("predicted", "true", "remark"), [([0, 0], [4, 0], True), ([0, 1], [4, 0], False), (0, 0, False)]
)
def test_a_run_that_finds_no_lesion_is_named(tmp_path, predicted, true, remark):
    a = write_run(tmp_path / "a.csv", [0.9, 0.6], true_pixels=true)
    b = write_run(tmp_path / "b.csv", [0.0, 1.0], predicted_pixels=predicted, true_pixels=true)
    text = comparison_text(compare_runs(a, b))
    assert ("B finds no lesion (recall 0)." in text) is remark and "A finds no lesion" not in text


def test_a_score_that_images_lack_is_named_and_not_compared(tmp_path):
    a = write_run(tmp_path / "a.csv", [0.9, 0.6, 0.5], iou=[0.5, float("nan"), 0.4])
    b = write_run(tmp_path / "b.csv", [0.7, 0.4, 0.3], iou=[0.5, 0.4, 0.3])
    text = comparison_text(compare_runs(a, b))
    assert "| iou | - | - | - | - | - |" in text and "| dice | 0.667 | 0.467 | +0.200 |" in text
    assert "iou is missing for 1 of 3 images of A: not compared." in text
