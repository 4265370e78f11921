"""Reports of models with several classes, of empty masks, and of models that find no lesion."""

import json
from pathlib import Path
from types import SimpleNamespace

import pandas as pd
import pytest
from faked_reports import label_map, report_maker

from tevia_hf import compare_runs
from tevia_hf.evaluation.report_tables import class_table
from tevia_hf.experiments.table import scores_of
from tevia_hf.hub.model_card import model_card, read_card_details, read_report
from tevia_hf.score_summaries import EMPTY_MASK_RULE

TINY = Path(__file__).parents[1] / "hub_configs" / "tevia-tiny"


@pytest.fixture
def report_on(monkeypatch):
    return report_maker(monkeypatch)


@pytest.fixture
def report(report_on):
    """Three classes: benign in two images, malignant in one and never predicted, cyst in none; an empty image."""
    references = [label_map((1, 0, 0)), label_map((1, 0, 0), (2, 16, 16)), label_map(), label_map((1, 8, 8))]
    predictions = [label_map((1, 0, 4)), label_map((1, 0, 0)), label_map((3, 0, 0)), label_map()]
    return report_on(predictions, references, text_modes=["none"])


def test_each_class_is_scored_over_the_images_that_show_it(report):
    own = report.classes["correct"]
    assert list(own) == ["benign", "malignant", "cyst"]
    assert own["benign"].scores["dice"] == pytest.approx((0.5 + 1 + 0) / 3)
    assert own["benign"].counts["lesion_recall"] == (2, 3) and own["benign"].scores["false_positives"] == 0
    assert own["malignant"].scores["dice"] == 0 and own["malignant"].scores["lesion_precision"] is None
    assert own["cyst"].scores["dice"] is None and own["cyst"].scores["false_positives"] == 0.25
    assert report.foreground["correct"].scores["dice"] == pytest.approx((0.5 + 0.5 + 0) / 3)
    assert report.foreground["correct"].scores["false_positives"] == 1


def test_the_table_names_missing_and_unpredicted_classes_and_what_is_averaged(report):
    table = report.table()
    note = "(mean over 4 images of the mean over the classes in either mask, 1 of them without a lesion)"
    assert table.startswith(f"Dice 0.250 with its own text {note}.")
    assert "No image has the class cyst: it is not scored." in table
    assert "malignant is never predicted; images that show it: 1." in table
    assert EMPTY_MASK_RULE in table and "Images without a lesion (1): share with a false positive 1.000" in table
    assert class_table(report.classes["correct"]).markdown() in table
    assert "| correct | 0.500 | 0.000 | - |" in table and "| none | 0.500 | 0.000 | - |" in table


def test_conditions_that_deny_the_lesion_are_left_out_of_the_classes(report_on):
    mask = label_map((1, 0, 0), (2, 16, 16))
    table = report_on([mask], [mask], texts=["one lesion"], text_modes=["absent"]).table()
    assert "| absent † |" in table and "| absent |" not in table.split("By class")[1].split("Agreement")[0]


def test_names_of_classes_may_hold_signs_of_formulas(report_on):
    mask = label_map((1, 0, 0), (2, 16, 16))
    report = report_on([mask], [mask], {0: "background", 1: "T$_$", 2: "<b>|x|"})
    assert list(report.classes["correct"]) == ["T$_$", "<b>|x|"]


def test_class_scores_are_saved_and_can_be_computed_from_the_per_image_table(report, tmp_path):
    report.save(tmp_path)
    saved = json.loads((tmp_path / "evaluation.json").read_text())
    assert saved["settings"]["classes"] == {"benign": 1, "malignant": 2, "cyst": 3}
    rows = pd.read_csv(tmp_path / "evaluation.csv").query("text_mode == 'correct'")
    for name in ("benign", "malignant"):
        shown = rows[rows[f"true_pixels/{name}"] > 0]
        own = saved["classes"]["correct"][name]
        assert own["images"] == len(shown)
        assert own["scores"]["dice"] == pytest.approx(shown[f"dice/{name}"].mean())
    assert rows["predicted_pixels"].sum() == rows.filter(like="predicted_pixels/").sum().sum() == 3 * 64


def test_runs_are_compared_class_by_class(report, report_on, tmp_path):
    report.save(tmp_path / "a")
    references = [label_map((1, 0, 0)), label_map((1, 0, 0), (2, 16, 16)), label_map(), label_map((1, 8, 8))]
    report_on(references, references).save(tmp_path / "b")
    table = compare_runs(*(tmp_path / run / "evaluation.csv" for run in "ba")).set_index("score")
    assert table.loc["dice/benign", "difference"] == pytest.approx(0.5) and table.loc["dice/benign", "images"] == 3
    assert table.loc["dice/malignant", "difference"] == 1 and "dice/cyst" not in table.index


def test_the_card_shows_the_classes_and_how_empty_masks_count(report, tmp_path):
    report.save(tmp_path)
    card = model_card(read_card_details(TINY / "card.yaml"), read_report(tmp_path), "org/name")
    assert class_table(report.classes["correct"]).markdown() in card.text and EMPTY_MASK_RULE in card.text
    assert "Recall 0" not in card.text


def test_the_card_of_a_model_that_marks_nothing_says_so(report_on, tmp_path):
    report_on([label_map()] * 2, [label_map((1, 0, 0)), label_map()], {0: "lesion"}).save(tmp_path)
    card = model_card(read_card_details(TINY / "card.yaml"), read_report(tmp_path), "org/name")
    assert "**Recall 0: the model marks nothing" in card.text


def test_an_ablation_has_a_column_for_each_class_that_the_images_show(report, tmp_path):
    report.save(tmp_path / "evaluation")
    row = scores_of([SimpleNamespace(name="run", folder=tmp_path)] * 2)
    assert row["dice/benign"] == report.classes["correct"]["benign"].scores["dice"] and "dice/cyst" not in row


def test_one_class_has_neither_a_table_nor_columns_of_classes(report_on):
    mask = label_map((1, 0, 0))
    report = report_on([mask, mask], [mask, label_map((1, 0, 4))], {0: "lesion"})
    assert report.classes == {"correct": {}, "shuffled": {}, "none": {}}
    assert not [column for column in report.images.columns if "/" in column]
    table = report.table()
    assert table.startswith("Dice 0.750 with its own text. Against") and "class" not in table
    assert "without a lesion" not in table and EMPTY_MASK_RULE in table


def test_empty_images_and_missed_lesions_are_scored_apart_with_one_class(report_on):
    mask, empty = label_map((1, 0, 0)), label_map()
    report = report_on([mask, empty, mask, empty], [mask, mask, empty, empty], {0: "lesion"})
    table = report.table()
    assert table.startswith("Dice 0.500 with its own text (mean over 4 images, 2 of them without a lesion).")
    assert (
        "Images with a lesion (2): `dice` 0.500" in table and "`hd95` 0.000 over the 1 where both masks hold" in table
    )
    assert "Images without a lesion (2): share with a false positive 0.500" in table


def test_a_model_that_marks_nothing_is_called_that_whatever_its_dice(report_on):
    empty = label_map()
    report = report_on([empty] * 3, [label_map((1, 0, 0)), empty, empty], {0: "lesion"})
    assert report.scores["correct"]["dice"] == pytest.approx(2 / 3)
    for line in (report.headline(), report.table()):
        assert line.startswith("Recall 0: the model marks nothing; images with a lesion: 1.")


def test_a_set_of_empty_masks_only_is_no_failure(report_on):
    empty = label_map()
    report = report_on([empty, label_map((2, 0, 0))], [empty, empty])
    table = report.table()
    assert "Recall 0" not in table and "Images without a lesion (2): share with a false positive 0.500" in table
    assert table.count("No image has the class") == 3
    assert report.figure.size[0] > 0


def test_equal_texts_have_no_sensitivity(report_on):
    mask = label_map((1, 0, 0))
    report = report_on([mask] * 3, [mask] * 3, {0: "lesion"}, texts=["the same"] * 3)
    assert report.text_sensitivity.difference == 0 and "nan" not in report.table()
    assert "All texts are equal: their effect cannot be measured" in report.table()


def test_an_ignored_border_between_two_classes_counts_for_neither(report_on):
    reference = label_map((1, 0, 0), (2, 0, 8))
    reference[:, 7:9] = 255
    prediction = label_map((2, 0, 7), (2, 0, 8))
    prediction[0:8, 0:7] = 1
    report = report_on([prediction], [reference])
    assert {name: own.scores["dice"] for name, own in report.classes["correct"].items()} == {
        "benign": 1, "malignant": 1, "cyst": None
    }  # fmt: skip
