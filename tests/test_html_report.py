"""The HTML report and the worst cases: complete, safe for any text, readable without scripts or network."""

import json
import re
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from faked_reports import label_map, report_maker
from PIL import Image

from tevia_hf.evaluation import html_report, worst_cases
from tevia_hf.evaluation.worst_cases import WorstMasks
from tevia_hf.hub.bundle import write_bundle
from tevia_hf.score_summaries import ImageScores

TINY = Path(__file__).parents[1] / "hub_configs" / "tevia-tiny"
HOSTILE = '<script>alert(1)</script> | a_b & "quote" 5% `code`'
VOID = {"meta", "img", "br", "link", "input", "hr"}


class Page(HTMLParser):
    """The tags of a page with their attributes, and its text; raises `AssertionError` for tags that do not match."""

    def __init__(self, content):
        super().__init__()
        self.tags, self.texts, self.open, self.cells = [], [], [], []
        self.feed(content)
        assert self.open == []

    def handle_starttag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))
        if tag not in VOID:
            self.open.append(tag)
        if tag == "tr":
            self.cells.append([])
        if tag in ("td", "th"):
            self.cells[-1].append("")

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open and self.open[-1] not in ("script", "style"):
            self.texts.append(data)
            if {"td", "th"} & set(self.open):
                self.cells[-1][-1] += data

    def all(self, tag):
        return [attributes for name, attributes in self.tags if name == tag]


@pytest.fixture
def report_on(monkeypatch):
    return report_maker(monkeypatch)


@pytest.fixture
def report(report_on):
    references = [label_map((1, 0, 0)), label_map((1, 0, 0), (2, 16, 16)), label_map(), label_map((1, 8, 8))]
    predictions = [label_map((1, 0, 4)), label_map((1, 0, 0)), label_map((3, 0, 0)), label_map()]
    return report_on(predictions, references, texts=[HOSTILE, "b", "c", "d"], text_modes=["none"])


def test_the_page_shows_all_that_the_markdown_shows(report, tmp_path):
    report.save(tmp_path)
    page = Page((tmp_path / "evaluation.html").read_text(encoding="utf-8"))
    text, rows = "".join(page.texts), page.cells
    blocks = [block for section in report.sections() for block in section.blocks]
    for block in blocks:
        if isinstance(block, str):
            assert block.replace("`", "") in text
        else:
            table = [list(block.header), *([str(cell) for cell in row] for row in block.rows)]
            start = rows.index(table[0])
            assert rows[start : start + len(table)] == table
    assert report.summary() in text and sum(not isinstance(block, str) for block in blocks) == 4
    assert ["weights", report.settings["weights"]] in rows and ["classes.benign", "1"] in rows


def test_ids_and_texts_cannot_break_the_page(report, tmp_path):
    report.images["id"] = [HOSTILE if name == "i0" else name for name in report.images["id"]]
    report.settings["model"] = HOSTILE
    content = html_report.html_report(report)
    page = Page(content)
    assert "alert(1)</script>" not in content and len(page.all("script")) == 1
    assert page.cells and [HOSTILE, "g0", HOSTILE] in [row[:3] for row in page.cells]
    report.settings["skipped"] = [{"id": HOSTILE, "reason": HOSTILE}]
    assert "- \\<script>alert(1)\\</script> \\| a_b" in report.table()
    assert f"{HOSTILE}: {HOSTILE}" in "".join(Page(html_report.html_report(report)).texts)


def test_the_page_needs_nothing_else(report):
    content = html_report.html_report(report)
    page = Page(content)
    assert not page.all("link") and not re.search(r"https?:|url\(|@import|\bsrc=\"(?!data:image/jpeg)", content)
    assert "default-src 'none'" in content


def test_the_page_can_be_used_by_keyboard_and_screen_reader(report):
    page = Page(html_report.html_report(report))
    assert page.all("html") == [{"lang": "en"}] and len(page.all("h1")) == 1
    assert {"header", "nav", "main", "footer"} <= {tag for tag, _ in page.tags}
    assert all(image["alt"] for image in page.all("img"))
    assert len(page.all("caption")) == len(page.all("table")) > 3
    assert {header.get("scope") for header in page.all("th")} == {"col", "row"}
    regions = [div for div in page.all("div") if "region" in div.get("class", "")]
    assert all(region["tabindex"] == "0" and region["aria-label"] for region in regions)
    ids = [attributes["id"] for _, attributes in page.tags if "id" in attributes]
    assert len(ids) == len(set(ids)) and {link["href"].removeprefix("#") for link in page.all("a")} == set(ids)
    assert len(page.all("button")) == 15 and [th for th in page.all("th") if "aria-sort" in th] == [
        {"scope": "col", "class": "number", "aria-sort": "ascending"}
    ]


def test_images_stand_in_the_order_of_their_scores_and_the_rest_is_named(report, monkeypatch):
    table = html_report.images_table(report)
    assert [row[0] for row in table.rows] == ["i3", "i2", "i1", "i0"] and "all 4" in table.caption
    assert table.header[:6] == ["id", "group", "text", "dice", "dice/benign", "dice/malignant"]
    monkeypatch.setattr(html_report, "MOST_ROWS", 3)
    table = html_report.images_table(report)
    assert (
        len(table.rows) == 3 and "the 3 with the lowest `dice` of 4; the others are in evaluation.csv" in table.caption
    )


def test_a_failing_model_is_named_before_its_scores(report_on):
    empty = label_map()
    page = Page(html_report.html_report(report_on([empty] * 2, [label_map((1, 0, 0)), empty], {0: "lesion"})))
    assert {"class": "failure", "role": "note"} in page.all("p")
    assert "Recall 0: the model marks nothing" in "".join(page.texts)


def test_the_page_and_the_sheet_of_patients_are_in_no_bundle(report, tmp_path):
    report.save(tmp_path / "run")
    saved = json.loads((tmp_path / "run" / "evaluation.json").read_text())
    tiny = json.loads((TINY / "evaluation.json").read_text())
    saved["settings"] |= {name: tiny["settings"][name] for name in ("weights", "image_processor")}
    (tmp_path / "run" / "evaluation.json").write_text(json.dumps(saved))
    assert {path.name for path in (tmp_path / "run").iterdir()} == {
        "evaluation.json", "evaluation.md", "evaluation.html", "evaluation.csv", "evaluation.png", "worst_cases.jpg"
    }  # fmt: skip
    write_bundle(TINY, tmp_path / "bundle", evaluation=tmp_path / "run", name="org/name")
    held = {path.name for path in (tmp_path / "bundle").rglob("*")}
    assert "evaluation.json" in held and not held & {"evaluation.html", "evaluation.csv", "worst_cases.jpg"}
    assert "i0" not in (tmp_path / "bundle" / "README.md").read_text()


# Worst cases


def scores(dice, true_pixels=1):
    return ImageScores({"dice": dice}, {}, 0, true_pixels)


def test_only_the_worst_masks_are_kept_and_of_equal_ones_those_with_larger_lesions(monkeypatch):
    monkeypatch.setattr(worst_cases, "WORST_CASES", 3)
    worst = WorstMasks()
    for position, (dice, pixels) in enumerate([(0.9, 1), (0.0, 5), (0.5, 1), (0.0, 9), (0.0, 7), (0.0, 9)]):
        worst.add(position, scores(dice, pixels), np.zeros((2, 2)), np.zeros((2, 2)))
        assert len(worst.heap) <= 3
    assert [masks.position for masks in worst.ordered()] == [3, 5, 4]


def test_of_a_metric_that_should_be_low_the_highest_are_the_worst(monkeypatch):
    monkeypatch.setattr(worst_cases, "PRIMARY", "hd95")
    monkeypatch.setattr(worst_cases, "WORST_CASES", 1)
    worst = WorstMasks()
    for position, distance in enumerate([3.0, 9.0, 1.0]):
        worst.add(position, ImageScores({"hd95": distance}, {}, 0, 1), np.zeros(1), np.zeros(1))
    assert [masks.score for masks in worst.ordered()] == [9.0]


def test_an_evaluation_keeps_its_worst_cases_with_their_own_texts(report, tmp_path):
    cases = [(case.id, case.text, case.score) for case in report.worst_cases]
    assert cases == [("i3", "d", 0), ("i2", "c", 0), ("i1", "b", 0.5), ("i0", HOSTILE, 0.5)]
    first = report.worst_cases[0]
    plain, marked = np.asarray(first.image), np.asarray(first.reference)
    assert (plain != marked).any() and np.array_equal(marked, np.asarray(first.prediction))  # nothing is predicted
    report.save(tmp_path)
    sheet = Image.open(tmp_path / "worst_cases.jpg")
    assert sheet.format == "JPEG" and sheet.height > sheet.width
