"""Agreement of masks with the texts given to the model, and lesion pixels where the texts deny lesions."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from tiny import tiny_processor, tiny_reader

from tevia_hf import evaluate_model
from tevia_hf.data.features import dataset_from_rows
from tevia_hf.evaluation.text_agreement import agreeing_fields, compare_with_text, text_scores, text_tables
from tevia_hf.evaluation.text_conditions import TEXT_CONDITIONS
from tevia_hf.experiments.grid import Run
from tevia_hf.experiments.table import scores_of
from tevia_hf.hub.model_card import eval_results, model_card, read_card_details, read_report, shown
from tevia_hf.prompts import BREAST, NUCLEI, QATA, denies_lesion, stated_facts
from tevia_hf.prompts.lesions import Lesions

TINY = Path(__file__).parents[1] / "hub_configs" / "tevia-tiny"
LEFT = "Unilateral pulmonary infection, one infected area, lower left lung."
EMPTY = np.zeros((40, 40), np.uint8)


def square(row: int, column: int, size: int = 5) -> np.ndarray:
    mask = EMPTY.copy()
    mask[row : row + size, column : column + size] = 1
    return mask


@pytest.mark.parametrize(
    ("mask", "agreeing"),
    [
        (square(30, 5), {"count": True, "side": True, "region": True}),
        (square(2, 5), {"count": True, "side": True, "region": False}),
        (square(30, 30), {"count": True, "side": False, "region": False}),
        (square(30, 5) | square(30, 12, 3), {"count": False, "side": True, "region": True}),
        (EMPTY, {"count": False, "side": False, "region": False}),
    ],
)
def test_count_side_and_region_are_compared_one_by_one(mask, agreeing):
    assert agreeing_fields(stated_facts(LEFT), Lesions(mask)) == agreeing


@pytest.mark.parametrize(
    ("text", "mask", "agreeing"),
    [
        ("1 focus, LLL", square(30, 5), {"count": True, "side": True, "region": True}),
        ("Pulmonary infection, one infected area.", square(30, 5), {"count": True}),
        ("Clear lungs.", EMPTY, {"count": True}),
        ("Clear lungs.", square(30, 5), {"count": False}),
        (BREAST.describe(square(30, 5)), square(30, 5), {"count": True, "region": True}),
        (NUCLEI.describe(square(30, 5)), square(30, 5), {"region": True}),
        ("hello world", square(30, 5), {}),
        ("", square(30, 5), {}),
    ],
)
def test_what_a_text_states_is_compared_in_any_wording_and_nothing_else(text, mask, agreeing):
    assert agreeing_fields(stated_facts(text), Lesions(mask)) == agreeing


def scores(texts, predictions, references):
    return text_scores([compare_with_text(*of_image) for of_image in zip(texts, predictions, references, strict=True)])


def test_agreement_is_a_share_of_the_images_that_state_a_field_beside_that_of_the_true_masks():
    texts = [LEFT, LEFT, "hello world", "Pulmonary infection, one infected area."]
    result = scores(texts, [square(30, 5), EMPTY, EMPTY, EMPTY], [square(30, 5)] * 4)
    assert result.agreement == {"count": (3, 1 / 3, 1.0), "side": (2, 0.5, 1.0), "region": (2, 0.5, 1.0)}
    assert result.absence is None and not result.denies_all_lesions


def test_pixels_marked_against_a_denying_text_are_counted_whatever_the_true_mask():
    texts = [QATA.empty, "Clear lungs.", LEFT]
    result = scores(texts, [square(0, 0, 4), EMPTY, square(0, 0)], [square(0, 0, 4), EMPTY, square(0, 0)])
    assert result.absence == (2, 1, 16 / 1600 / 2, 0.5)
    assert result.healthy == (1, 0, 0.0, 0.0)
    assert not result.denies_all_lesions  # the third text does not
    assert scores(texts[:2], [EMPTY] * 2, [square(0, 0), EMPTY]).denies_all_lesions


def test_ignored_pixels_are_neither_marked_nor_counted():
    reference = square(30, 5)
    reference[:20] = 255
    result = scores([LEFT, QATA.empty], [square(30, 5) | square(2, 30)] * 2, [reference] * 2)
    assert result.agreement["count"] == (2, 0.5, 0.5) and result.agreement["side"] == (1, 1.0, 1.0)
    assert result.absence == (1, 1, 25 / 800, 1.0)
    assert scores([QATA.empty], [square(2, 30)], [reference]).absence == (1, 1, 0.0, 0.0)


def rows():
    generator = np.random.default_rng(0)
    return [
        {
            "id": f"image-{index}",
            "text": QATA.describe(mask) if mask.any() else QATA.empty,
            "image": Image.fromarray(generator.integers(0, 255, mask.shape, dtype=np.uint8)),
            "mask": Image.fromarray(mask * 255),
        }
        for index, mask in enumerate([square(30, 5), square(2, 30), square(20, 20), EMPTY])
    ]


@pytest.fixture(scope="module")
def report():
    names = ("paraphrased", "underspecified", "overspecified", "absent")
    return evaluate_model(tiny_reader(), tiny_processor(), dataset_from_rows(rows()), names)


def test_a_report_holds_the_agreement_of_every_condition_whose_texts_are_read(report, tmp_path):
    result = report.against_text
    assert list(result) == list(report.scores)
    for name in ("correct", "paraphrased", "overspecified"):
        images = {field: row.images for field, row in result[name].agreement.items()}
        assert images == {
            "count": 4,
            "side": 3,
            "region": 3,
        }
        assert all(row.reference == 1 for row in result[name].agreement.values())
    report.save(tmp_path)
    saved = json.loads((tmp_path / "evaluation.json").read_text(encoding="utf-8"))["against_text"]
    assert saved["correct"]["agreement"]["count"] == result["correct"].agreement["count"]._asdict()
    assert saved["absent"]["absence"]["images"] == 4 and saved["correct"]["absence"]["images"] == 1


def test_an_image_without_text_is_evaluated_as_one_without_statements():
    examples = [{**row, "text": None if index == 1 else row["text"]} for index, row in enumerate(rows())]
    report = evaluate_model(tiny_reader(), tiny_processor(), dataset_from_rows(examples), ("absent", "flipped"))
    assert report.against_text["correct"].agreement["count"].images == 3
    assert list(report.images["text"]).count("") >= 3


def test_a_condition_whose_texts_deny_the_lesions_is_marked(report):
    lines = report.table().splitlines()
    assert [line.split(" | ")[0] for line in lines if "†" in line.split(" | ")[0]][:1] == ["| absent †"]
    assert any(line.startswith("† The text denies the lesion") for line in lines)
    assert any(line.startswith("| absent | 4 | ") for line in lines)
    assert any(line.startswith("Images without any lesion: ") for line in lines)
    assert "paraphrased: 4 of 4" not in report.table() and "underspecified: 3 of 4 texts changed" in report.table()
    assert report.settings["texts_changed"] == {"paraphrased": 4, "underspecified": 3, "overspecified": 4}
    assert not any("†" in table.markdown() for table in text_tables(report.against_text))


def test_the_texts_of_the_conditions_are_in_each_images_own_words_or_not(report):
    texts = {name: list(rows["text"]) for name, rows in report.images.groupby("text_mode")}
    own = [stated_facts(text) for text in texts["correct"]]
    facts = [stated_facts(text) for text in texts["paraphrased"]]
    assert texts["paraphrased"] != texts["correct"]
    assert [{"laterality": row.get("laterality"), **read} for row, read in zip(own, facts, strict=True)][:3] == own[:3]
    assert all(map(denies_lesion, texts["absent"])) and len(set(texts["absent"])) > 1


def test_a_condition_that_changes_no_text_is_refused():
    examples = dataset_from_rows([{**row, "text": "hello world"} for row in rows()])
    with pytest.raises(ValueError, match=r"text conditions \['paraphrased'\] change none of the 4 texts"):
        evaluate_model(tiny_reader(), tiny_processor(), examples, ("paraphrased", "overspecified"))


def test_denying_conditions_are_recorded_and_have_no_figure_on_a_card_nor_in_an_ablation(report, tmp_path):
    assert report.denying_conditions == ["absent"]
    run = Run("own", 0, tmp_path, {})
    report.save(tmp_path / "evaluation")
    saved = read_report(tmp_path / "evaluation")
    assert saved["denying_conditions"] == ["absent"]
    assert "dice_none" not in scores_of([run]) and "dice_absent" not in scores_of([run])
    assert "dice_paraphrased" in scores_of([run])
    details = read_card_details(TINY / "card.yaml")
    assert not [r for r in eval_results(details, saved) if "nothing is there" in (r.dataset_config or "")]
    lines = shown(details, saved)["table"].splitlines()
    (row,) = [line.strip("| ").split(" | ") for line in lines if "nothing is there" in line]
    assert len(row) > 3 and set(row[1:]) == {"-"}
    text = model_card(details, saved, "org/name").text
    assert "With a text that says that nothing is there the Dice is no score; marked all the same:" in text


@pytest.mark.parametrize("name", ["paraphrased", "underspecified", "overspecified", "absent"])
def test_a_condition_depends_on_the_seed_and_leaves_images_without_text_unchanged(name):
    choose = TEXT_CONDITIONS[name].texts
    assert choose([LEFT] * 20, 1) == choose([LEFT] * 20, 1) != choose([LEFT] * 20, 2)
    assert choose([None, ""], 0) == ["", ""]
