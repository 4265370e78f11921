"""Several evaluated runs in one table and figure for papers."""

import csv
import json
import re
from dataclasses import asdict

import pandas as pd
import pytest
from faked_reports import label_map, report_maker
from PIL import Image

from tevia_cli.main import main
from tevia_hf import compare_runs, results_table
from tevia_hf.io.latex import latex_text
from tevia_hf.io.markdown import Table
from tevia_hf.score_summaries import ClassScores

COUNTS = {"dice_pooled": (4, 8), "lesion_precision": (0, 0)}
DICE = {"a": [0.9, 0.8, 0.7, 0.9], "b": [0.5, 0.6, 0.6, 0.7], "c": [0.9, 0.7, 0.8, 0.8]}


def write_run(folder, dice, mode="correct", unit="px", ids="wxyz", true_pixels=4, lesions=None, **fields):
    """A run with these Dice values of images of two patients; `lesions` are scores of images with a lesion."""
    folder.mkdir(parents=True)
    rows = pd.DataFrame({"id": list(ids), "group": list("ppqq"), "text_mode": mode, "dice": dice, "hd95": 1.0})
    rows = rows.assign(predicted_pixels=4, true_pixels=true_pixels)
    rows.to_csv(folder / "evaluation.csv", index=False)
    mean = sum(dice) / len(dice)
    scores = {"dice": mean, "iou": mean - 0.2, "hd95": 10 * mean, "dice_pooled": 0.5, "lesion_precision": 1.0}
    intervals = {key: [value - 0.1, value + 0.1] for key, value in scores.items()}
    report = {"settings": {"hd95_unit": unit}, "scores": {mode: scores}, "intervals": {mode: intervals}}
    report |= {"foreground": {mode: asdict(ClassScores(4, 0, 4, 4, scores | (lesions or {}), {}, COUNTS))}} | fields
    (folder / "evaluation.json").write_text(json.dumps(report))
    return folder


@pytest.fixture
def runs(tmp_path):
    return [write_run(tmp_path / name, dice) for name, dice in DICE.items()]


def test_each_run_has_its_scores_and_intervals_and_the_best_are_bold(runs):
    header, _, *rows = results_table(runs).text().splitlines()[:5]
    assert header == "| run | dice | iou | hd95 (px) |"
    assert rows[0] == "| a | **0.825** [0.725, 0.925] | **0.625** [0.525, 0.725] | 8.250 [8.150, 8.350] |"
    assert rows[1] == "| b | 0.600 [0.500, 0.700] | 0.400 [0.300, 0.500] | **6.000** [5.900, 6.100] |"


def test_equal_scores_to_the_digits_shown_are_equally_good(tmp_path):
    runs = [write_run(tmp_path / name, [0.5, 0.5, 0.5, 0.5 + more]) for name, more in (("a", 0), ("b", 1e-4))]
    assert results_table(runs, metrics=["dice"]).text().count("**0.500**") == 2


def test_p_values_are_those_of_a_comparison_and_corrected_for_the_number_of_runs(runs):
    table = results_table(runs, against="a").frame.set_index("run")
    pairs = {
        name: compare_runs(runs["abc".index(name)] / "evaluation.csv", runs[0] / "evaluation.csv") for name in "bc"
    }
    p_values = {name: pair.set_index("score").loc["dice", "p_value"] for name, pair in pairs.items()}
    assert table["p"].dropna().to_dict() == p_values
    smallest = min(p_values, key=p_values.get)
    assert table.loc[smallest, "p_holm"] == pytest.approx(min(1, 2 * p_values[smallest]))
    assert pd.isna(table.loc["a", "p"]) and list(table["groups"]) == [2, 2, 2]
    assert results_table(runs, against=runs[0]).frame.equals(results_table(runs, against="a").frame)


def test_the_notes_say_what_intervals_and_p_values_are(runs):
    text = results_table(runs, against="b").text()
    assert (
        "bootstrap 95 % intervals, resampled by group (patient); 4 images of 2 groups, text condition: correct" in text
    )
    assert "Lower is better: hd95." in text
    assert "permutation test of dice against b, paired by image" in text and "corrected for 2 comparisons." in text


def test_a_csv_has_all_digits(runs):
    rows = list(csv.DictReader(results_table(runs, against="a").text("csv").splitlines()))
    assert list(rows[0]) == [
        "run", "dice", "dice_low", "dice_high", "iou", "iou_low", "iou_high", "hd95", "hd95_low", "hd95_high",
        "images", "groups", "p", "p_holm",
    ]  # fmt: skip
    mean = sum(DICE["a"]) / 4
    assert float(rows[0]["iou"]) == mean - 0.2 and rows[0]["p"] == ""


def test_latex_has_the_rules_of_booktabs(runs):
    lines = results_table(runs, metrics=["dice", "dice_pooled"]).text("latex").splitlines()
    assert lines[:4] == [
        r"% \usepackage{booktabs}",
        r"\begin{tabular}{lrr}",
        r"\toprule",
        r"run & dice & dice\_pooled \\",
    ]
    assert lines[5] == r"a & \textbf{0.825} [0.725, 0.925] & \textbf{0.500} [0.400, 0.600] \\"
    assert r"95 \% intervals" in lines[-1]


HOSTILE = "[<script>|a_b & 5% $x^2$ ~#{c}\\"


def test_a_name_breaks_no_format(runs):
    table = results_table(runs, names=[HOSTILE, "_b_", "*c*"], against=HOSTILE, metrics=["dice"])
    latex = table.text("latex")
    (row,) = [line for line in latex.splitlines() if "script" in line and "&" in line and "textbf" in line]
    script = r"{}[\textless{}script\textgreater{}\textbar{}"
    escaped = script + r"a\_b \& 5\% \$x\textasciicircum{}2\$ \textasciitilde{}\#\{c\}\textbackslash{}"
    assert row.startswith(f"{escaped} & ") and latex_text(HOSTILE) == escaped
    assert len(re.findall(r"(?<!\\)&", row)) == 3
    markdown = table.text().splitlines()
    assert all(len(re.findall(r"(?<!\\)\|", line)) == 5 for line in markdown[:5])
    assert "<script>" not in re.sub(r"\\<", "", table.text()) and r"| \_b\_ |" in markdown[3]
    assert list(csv.DictReader(table.text("csv").splitlines()))[0]["run"] == HOSTILE


def test_a_name_is_escaped_alike_in_reports(runs):
    (row,) = [line for line in results_table(runs[:1], names=[HOSTILE]).text().splitlines() if "script" in line]
    header, _, escaped = Table(["class", HOSTILE], [[HOSTILE, "0.5"]]).markdown().splitlines()
    name = row.split(" | ")[0]
    assert escaped == f"{name} | 0.5 |" and header == f"| class {name} |"


def test_runs_are_called_by_their_folders_with_parents_where_these_are_equal(tmp_path):
    folders = [tmp_path / "one" / "evaluation", tmp_path / "two" / "evaluation", tmp_path / "three"]
    runs = [write_run(folder, [0.5] * 4) for folder in folders]
    assert list(results_table(runs).frame["run"]) == ["one/evaluation", "two/evaluation", "three"]
    with pytest.raises(ValueError, match="given twice"):
        results_table([runs[0], runs[0]])
    with pytest.raises(ValueError, match="3 runs and the names .*: give each run its own name"):
        results_table(runs, names=["a", "b"])
    with pytest.raises(ValueError, match="at least one folder"):
        results_table([])


def test_runs_on_other_images_are_refused_by_name(tmp_path, runs):
    other = write_run(tmp_path / "other", [0.5] * 4, ids="wxyv")
    with pytest.raises(ValueError, match=r"(?s)2 problems:\n  'v' is in other only\n  'z' is in a only"):
        results_table([runs[0], other])


def test_runs_with_other_reference_masks_are_refused_by_image(tmp_path, runs):
    other = write_run(tmp_path / "other", [0.5] * 4, true_pixels=[4, 4, 9, 4])
    with pytest.raises(ValueError, match="(?s)'y' has different .* true_pixels is 4 in a, 9 in other\n.*same images"):
        results_table([runs[0], other])


def test_runs_with_other_classes_are_refused(tmp_path, runs):
    other = write_run(tmp_path / "other", [0.5] * 4, classes={"correct": {"benign": {}, "malignant": {}}})
    with pytest.raises(ValueError, match=r"other has the classes \['benign', 'malignant'\], a has one class"):
        results_table([runs[0], other])


def test_a_run_that_finds_no_lesion_is_named_and_never_the_best(tmp_path, runs):
    other = write_run(tmp_path / "other", [1.0] * 4, lesions={"dice_pooled": 0.0})
    text = results_table([*runs, other], metrics=["dice"]).text()
    assert "| other | 1.000 [0.900, 1.100] |" in text and "| a | **0.825** [0.725, 0.925] |" in text
    assert text.count("finds no lesion") == 1 and "other finds no lesion (recall 0)." in text


def test_a_ratio_of_0_to_0_has_no_value(tmp_path):
    runs = [write_run(tmp_path / "a", [0.5] * 4, lesions={"lesion_precision": None})]
    runs += [write_run(tmp_path / "b", [0.5] * 4)]
    _, _, *rows = results_table(runs, metrics=["lesion_precision"]).text().splitlines()
    assert rows[0].endswith("| - |") and rows[1].endswith("| **1.000** [0.900, 1.100] |")


def test_texts_that_deny_the_lesion_are_neither_ranked_nor_tested(tmp_path, runs):
    denied = [
        write_run(tmp_path / f"{name}2", [0.9] * 4, mode="absent", denying_conditions=["absent"]) for name in "ab"
    ]
    vision = write_run(tmp_path / "vision", [0.5] * 4, mode="no text branch")
    table = results_table([*denied, vision], metrics=["dice"], against="vision", text_mode="absent")
    text = table.text()
    assert "| a2 | 0.900 [0.800, 1.000] | - | - |" in text and "| vision | **0.500** " in text
    assert "a2: its texts deny the lesion, so that its scores are meaningless." in text and "p: two-sided" not in text
    assert results_table([*denied, vision], against="a2", text_mode="absent").frame["p"].isna().all()


def test_distances_in_two_units_share_no_column(tmp_path, runs):
    other = write_run(tmp_path / "other", [0.5] * 4, unit="mm")
    with pytest.raises(ValueError, match="The runs give hd95 in mm and px"):
        results_table([runs[0], other])
    assert len(results_table([runs[0], other], metrics=["dice"]).frame) == 2


def test_what_is_missing_is_named(tmp_path, runs):
    with pytest.raises(ValueError, match="no readable evaluation.json. Give the folder of `tevia evaluate`"):
        results_table([tmp_path])
    with pytest.raises(ValueError, match="A metric of the table .*'wrong'. Choose one of: dice, iou, hd95"):
        results_table(runs, metrics=["wrong"])
    with pytest.raises(ValueError, match="'d' is none of the runs: give one of a, b, c"):
        results_table(runs, against="d")
    with pytest.raises(ValueError, match="a has one class"):
        results_table(runs, by_class=True)


def test_a_vision_only_run_stands_beside_the_others(tmp_path, runs):
    vision = write_run(tmp_path / "vision", [0.5] * 4, mode="no text branch")
    assert list(results_table([runs[0], vision]).frame["dice"]) == pytest.approx([0.825, 0.5])


def test_classes_have_rows_of_their_own(tmp_path, monkeypatch):
    report_on = report_maker(monkeypatch)
    references = [label_map((1, 0, 0)), label_map((1, 0, 0), (2, 16, 16)), label_map()]
    predictions = [label_map((1, 0, 4)), label_map((1, 0, 0)), label_map((3, 0, 0))]
    for name, masks in (("a", references), ("b", predictions)):
        report_on(masks, references).save(tmp_path / name)
    table = results_table([tmp_path / "a", tmp_path / "b"], metrics=["dice"], by_class=True, against="b")
    rows = table.frame.set_index(["class", "run"])
    assert rows.loc[("benign", "b"), "dice"] == pytest.approx(0.75) and rows.loc[("malignant", "b"), "dice"] == 0
    assert rows["images"].to_dict()["benign", "a"] == 2 and pd.isna(rows.loc[("cyst", "a"), "dice"])
    assert rows.loc[("benign", "a"), "p"] == 1 and pd.isna(rows.loc[("benign", "b"), "p"])
    text = table.text()
    assert "| benign | a | **1.000** [1.000, 1.000] | 1 | 1 | 2 |" in text and "| cyst | a | - | - | - | 0 |" in text
    assert "1 comparison in each class" in text and "b finds no lesion of the class malignant (recall 0)." in text


def test_the_command_writes_table_and_figure(tmp_path, runs, capsys):
    output, figure = tmp_path / "table.tex", tmp_path / "figure.pdf"
    command = ["table", *map(str, runs), "--against", str(runs[1]), "--names", "ours,base,$x$", "--metrics", "dice,iou"]
    assert main([*command, "--format", "latex", "--output", str(output), "--figure", str(figure)]) == 0
    printed = capsys.readouterr().out
    assert printed == output.read_text() and r"\textbf{0.825}" in printed and "against base" in printed
    assert figure.read_bytes().startswith(b"%PDF") and b"/Subtype /Image" not in figure.read_bytes()
    assert main([*command, "--figure", str(tmp_path / "figure.png")]) == 0
    assert Image.open(tmp_path / "figure.png").width > 1500
    assert main([*command, "--figure", str(tmp_path / "figure.doc")]) == 2
    assert "name the figure with the ending .pdf, .png, .svg" in capsys.readouterr().err
