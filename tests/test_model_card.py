"""A card says what a person wrote and what a report measured, in a form that the Hub's own readers take."""

import json
from pathlib import Path

import pytest
import yaml
from huggingface_hub import ModelCard

from tevia_hf.hub.model_card import CardDetails, model_card, read_card_details, read_report

FOLDERS = sorted(path for path in (Path(__file__).parents[1] / "hub_configs").iterdir() if path.is_dir())
TINY = Path(__file__).parents[1] / "hub_configs" / "tevia-tiny"


def card_of(folder, tmp_path, report=None) -> ModelCard:
    details = read_card_details(folder / "card.yaml")
    model_card(details, report, f"org/{folder.name}").save(tmp_path / "README.md")
    return ModelCard.load(tmp_path / "README.md", ignore_metadata_errors=False)


@pytest.fixture
def report():
    return read_report(TINY)


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: folder.name)
def test_every_card_is_read_back_with_what_it_must_say(folder, tmp_path):
    card, details = card_of(folder, tmp_path), read_card_details(folder / "card.yaml")
    assert card.data.license == "apache-2.0" and card.data.library_name == "transformers"
    for said in ("Not for clinical decisions", details.dataset.license, details.title, *details.limits):
        assert said in card.text
    for encoder in details.encoders:
        assert encoder.license in card.text
    assert "dice_pooled" in card.text and "text-sensitivity" in card.text


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: folder.name)
def test_a_card_without_a_report_shows_no_figure(folder, tmp_path):
    card = card_of(folder, tmp_path)
    assert "None measured yet" in card.text and not card.data.eval_results


def test_the_results_of_a_card_are_those_of_the_report(report, tmp_path):
    results = card_of(TINY, tmp_path, report).data.eval_results
    own = {r.metric_type: r.metric_value for r in results if r.dataset_config is None}
    assert own == report["scores"]["correct"]
    others = {r.dataset_config: r.metric_value for r in results if r.dataset_config}
    assert others["with another image's sentence"] == report["scores"]["shuffled"]["dice"]
    assert others["with no sentence"] == report["scores"]["none"]["dice"]
    assert {(r.dataset_name, r.dataset_split) for r in results} == {("synthetic films of this package", "test")}


def test_every_figure_in_the_text_is_in_the_report(report, tmp_path):
    report["scores"]["correct"]["dice"] = 0.123456
    report["text_sensitivity"]["difference"] = 0.654321
    text = card_of(TINY, tmp_path, report).text
    assert "| its own sentence | 0.123 |" in text and "**Text-sensitivity** 0.654" in text


def test_what_is_no_number_is_no_result(report, tmp_path):
    report["scores"]["correct"]["hd95"] = float("nan")
    report["intervals"]["correct"]["dice"] = None
    card = card_of(TINY, tmp_path, report)
    assert "hd95" not in {r.metric_type for r in card.data.eval_results}
    assert "nan" not in card.text.lower().split("## intended use")[0]


def test_scores_on_patients_of_the_training_are_marked(report, tmp_path):
    assert "flatter the model" not in card_of(TINY, tmp_path, report).text
    report["settings"]["groups_seen_in_training"] = 7
    assert "7 groups (patients)" in card_of(TINY, tmp_path, report).text


def test_a_report_of_a_model_without_text_has_a_card_too(report, tmp_path):
    report["scores"] = {"no text branch": report["scores"]["none"]}
    report["intervals"] = {"no text branch": report["intervals"]["none"]}
    report["text_sensitivity"] = None
    card = card_of(TINY, tmp_path, report)
    assert "| no text branch | 0.472 |" in card.text and "**Text-sensitivity**" not in card.text
    assert {r.dataset_config for r in card.data.eval_results} == {None}


def test_the_shipped_report_was_measured_on_the_shipped_weights(report):
    from tevia_hf.training.prediction import weights_digest

    assert report["settings"]["weights"] == weights_digest(TINY)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"licence": "mit"}, "licence"),
        ({"license": ""}, "license"),
        ({"limits": "one"}, "expected a list"),
        ({"limits": []}, "limits"),
        ({"dataset": "QaTa"}, "dataset must hold"),
        ({"dataset": {"name": "QaTa"}}, "lacks \\['license'\\]"),
        ({"encoders": [{"name": "a/b", "role": "vision"}]}, "encoders lacks"),
        ({1: "a"}, "not known are \\['1'\\]"),
    ],
)
def test_a_card_with_a_wrong_field_names_it(change, message, tmp_path):
    values = yaml.safe_load((TINY / "card.yaml").read_text()) | change
    (tmp_path / "card.yaml").write_text(yaml.safe_dump(values))
    with pytest.raises(ValueError, match=message):
        read_card_details(tmp_path / "card.yaml")


@pytest.mark.parametrize("content", ["- a", "a: [", "", "text"])
def test_a_card_that_is_no_mapping_is_refused(content, tmp_path):
    (tmp_path / "card.yaml").write_text(content)
    with pytest.raises(ValueError, match="card.yaml"):
        read_card_details(tmp_path / "card.yaml")


def test_the_details_are_the_fields_of_the_file():
    assert type(read_card_details(TINY / "card.yaml")) is CardDetails


@pytest.mark.parametrize("content", ["{}", "[]", "{", json.dumps({"settings": {}, "scores": {}})])
def test_what_evaluate_did_not_write_is_no_report(content, tmp_path):
    (tmp_path / "evaluation.json").write_text(content)
    with pytest.raises(ValueError, match="no report of `tevia evaluate`"):
        read_report(tmp_path)
