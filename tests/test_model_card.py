"""A card shows details written by a person and scores of a report, in a form that the Hub accepts."""

import ast
import json
from pathlib import Path

import pytest
import yaml
from huggingface_hub import ModelCard

from tevia_hf.evaluation.text_conditions import TEXT_CONDITIONS
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
    for statement in ("Not for clinical decisions", details.dataset.license, details.title, *details.limits):
        assert statement in card.text
    for encoder in details.encoders:
        assert encoder.license in card.text
    assert "dice_pooled" in card.text and "text sensitivity" in card.text.lower()


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: folder.name)
def test_a_card_without_a_report_shows_no_figure(folder, tmp_path):
    card = card_of(folder, tmp_path)
    assert "None measured yet" in card.text and not card.data.eval_results


def test_the_results_of_a_card_are_those_of_the_report(report, tmp_path):
    results = card_of(TINY, tmp_path, report).data.eval_results
    own = {r.metric_type: r.metric_value for r in results if r.dataset_config is None}
    assert own == report["scores"]["correct"]
    others = {r.dataset_config: r.metric_value for r in results if r.dataset_config}
    assert others["with another image's text"] == report["scores"]["shuffled"]["dice"]
    assert others["with no text"] == report["scores"]["none"]["dice"]
    assert {(r.dataset_name, r.dataset_split) for r in results} == {("synthetic images of this package", "test")}


def test_every_figure_of_the_table_is_the_reports(report, tmp_path):
    text = card_of(TINY, tmp_path, report).text
    table = [[part.strip() for part in line.split("|")[1:-1]] for line in text.splitlines() if line.startswith("|")]
    header = next(row for row in table if row[0] == "the model is given")
    names = {row[0]: row[1:] for row in table}
    for mode, scores in report["scores"].items():
        shown = dict(zip(header[1:], names[TEXT_CONDITIONS[mode].label], strict=True))
        low, high = report["intervals"][mode]["dice"]
        assert shown.pop("95 % of dice") == f"{low:.3f} to {high:.3f}"
        assert shown == {metric: f"{value:.3f}" for metric, value in scores.items()}
    found = report["text_sensitivity"]
    low, high = found["interval"]
    assert f"**Text sensitivity** {found['difference']:.3f}" in text and f"(95 %: {low:.3f} to {high:.3f})" in text
    assert "`hd95` in px" in text and "threshold 0.5" in text and "200 images" in text


def test_the_metadata_are_what_the_hub_reads(report, tmp_path):
    details = read_card_details(FOLDERS[0].parent / "tevia-qata" / "card.yaml")
    details.dataset.id = "org/qata"
    report["settings"].update(dataset="qata", split="val", max_samples=400)
    card = model_card(details, report, "org/tevia-qata")
    data = card.data.to_dict()
    assert data["base_model"] == ["facebook/convnext-tiny-224", "microsoft/BiomedVLP-CXR-BERT-specialized"]
    assert data["base_model_relation"] == "finetune" and data["datasets"] == ["org/qata"]
    assert data["pipeline_tag"] == "image-segmentation" and data["library_name"] == "transformers"
    assert data["tags"] == ["tevia", "medical", "text-guided-image-segmentation", "chest-x-ray", "covid-19"]
    (entry,) = data["model-index"]
    assert entry["name"] == "org/tevia-qata"
    of_own = entry["results"][0]
    assert of_own["task"] == {"type": "image-segmentation"}
    expected = {"name": "QaTa-COV19-v2", "type": "org/qata", "split": "val", "args": {"max_samples": 400}}
    assert of_own["dataset"] == expected
    assert {metric["type"]: metric["value"] for metric in of_own["metrics"]} == report["scores"]["correct"]


def test_figures_on_another_data_set_go_by_its_name(report, tmp_path):
    report["settings"].update(dataset="folder", data_dir="/home/jane/clinic")
    card = card_of(TINY, tmp_path, report)
    assert "Data set `clinic`, split" in card.text and "/home/jane" not in card.text
    assert {(found.dataset_type, found.dataset_name) for found in card.data.eval_results} == {("clinic", "clinic")}
    details = read_card_details(TINY / "card.yaml")
    details.dataset.source = "clinic"
    own = model_card(details, report, "a/b").data.eval_results
    assert {found.dataset_name for found in own} == {details.dataset.name}


def test_the_side_that_left_means_is_the_recipes():
    details = read_card_details(TINY / "card.yaml")
    plain, swapped = (model_card(details, None, "a/b", recipe).text for recipe in ("", "patient_sides: true"))
    assert '"Left" is the left of the image.' in plain and '"Left" is the patient\'s left.' in swapped


def test_the_details_are_written_as_they_are_read(tmp_path):
    for folder in FOLDERS:
        details = read_card_details(folder / "card.yaml")
        (tmp_path / "card.yaml").write_text(details.yaml(), encoding="utf-8")
        assert read_card_details(tmp_path / "card.yaml") == details


@pytest.mark.parametrize(
    ("choice", "statement"),
    [
        ({"text_table": "mine.csv"}, "come from the table `mine.csv`"),
        (
            {"group_split": "0.5,0.0,0.5", "split_seed": 3},
            "made by groups (patients, if they are known), `group_split`\n0.5,0.0,0.5, `split_seed` 3",
        ),
        ({"max_samples": 6}, "`max_samples` 6"),
        ({"window": "-600,1500"}, "Loaded with `window` -600,1500."),
    ],
)
def test_settings_that_change_the_meaning_of_the_scores_are_on_the_card(choice, statement, report, tmp_path):
    plain = card_of(TINY, tmp_path, report).text
    report["settings"].update(choice)
    card = card_of(TINY, tmp_path, report)
    assert statement in card.text and statement not in plain
    assert all(result.dataset_args == choice for result in card.data.eval_results)


def test_what_would_break_a_table_or_a_list_is_made_plain(tmp_path):
    values = yaml.safe_load((TINY / "card.yaml").read_text())
    values["limits"] = ["one\n\n# two"]
    values["encoders"][0]["license"] = "a | b"
    values["example"] = 'the patient\'s "left", <2 cm'
    (tmp_path / "card.yaml").write_text(yaml.safe_dump(values))
    text = model_card(read_card_details(tmp_path / "card.yaml"), None, "a/b", "a: '```'").text
    assert "- one # two\n" in text and "a \\| b" in text and "~~~yaml\na: '```'\n~~~" in text
    call = next(line for line in text.splitlines() if line.startswith("segment("))
    assert ast.literal_eval(call.split(", ", 1)[1].split(")  #")[0]) == values["example"]
    assert "<2 cm" in call


def test_what_is_no_number_is_no_result(report, tmp_path):
    report["scores"]["correct"]["hd95"] = float("nan")
    report["intervals"]["correct"]["dice"] = None
    report["intervals"]["none"]["dice"] = [float("nan"), float("nan")]
    card = card_of(TINY, tmp_path, report)
    assert "hd95" not in {r.metric_type for r in card.data.eval_results}
    assert "nan" not in card.text.lower().split("## intended use")[0]


def test_scores_on_patients_of_the_training_are_marked(report, tmp_path):
    assert "too optimistic" not in card_of(TINY, tmp_path, report).text
    report["settings"]["groups_seen_in_training"] = 7
    assert "7 groups (patients)" in card_of(TINY, tmp_path, report).text
    report["settings"]["groups_seen_in_training"] = None
    assert (
        "It is not known whether patients" not in card_of(TINY, tmp_path, report).text
    )  # synthetic images have no patients
    report["settings"]["dataset"] = "qata"
    assert "It is not known whether patients" in card_of(TINY, tmp_path, report).text


def test_a_report_of_a_model_without_text_has_a_card_too(report, tmp_path):
    report["scores"] = {"no text branch": report["scores"]["none"]}
    report["intervals"] = {"no text branch": report["intervals"]["none"]}
    report["text_sensitivity"] = None
    card = card_of(TINY, tmp_path, report)
    assert (
        f"| no text branch | {report['scores']['no text branch']['dice']:.3f} |" in card.text
        and "**Text sensitivity**" not in card.text
    )
    assert {r.dataset_config for r in card.data.eval_results} == {None}


def test_the_shipped_report_was_measured_on_the_shipped_weights(report):
    from tevia_hf.inference.identity import weights_digest

    assert report["settings"]["weights"] == weights_digest(TINY)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"licence": "mit"}, "licence"),
        ({"license": ""}, "license"),
        ({"license": "Apache 2.0"}, "use the Hub's abbreviation"),
        ({"license": "other"}, "license_name"),
        ({"license_name": "mine"}, "license_name"),
        ({"title": {"TeViA": "for x"}}, "`title` is .*in quotes if it contains a colon"),
        ({"title": "  "}, "`title`"),
        ({"limits": "one"}, "expected a list"),
        ({"limits": [{"Note": "224 px"}]}, "`limits` is .*in quotes if they contain a colon"),
        ({"tags": [1]}, "`tags`"),
        ({"limits": []}, "limits"),
        ({"dataset": "QaTa"}, "dataset must hold"),
        ({"dataset": {"name": "QaTa"}}, "lacks \\['license'\\]"),
        ({"encoders": [{"name": "a/b", "role": "vision"}]}, "encoders lacks"),
        ({1: "a"}, "quotes"),
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


def test_a_licence_of_ones_own_has_its_name_and_link(tmp_path):
    values = yaml.safe_load((TINY / "card.yaml").read_text())
    values |= {"license": "other", "license_name": "clinic-only", "license_link": "https://example.org/licence"}
    (tmp_path / "card.yaml").write_text(yaml.safe_dump(values))
    card = model_card(read_card_details(tmp_path / "card.yaml"), None, "a/b")
    assert card.data.license == "other" and card.data.license_name == "clinic-only"
    assert card.data.license_link == "https://example.org/licence" and "| this model | clinic-only |" in card.text


def without(report, *keys):
    for key in keys[:-1]:
        report = report[key]
    del report[keys[-1]]


@pytest.mark.parametrize("keys", [("intervals",), ("settings",), ("scores", "none", "dice"), ("intervals", "none")])
def test_a_report_that_lacks_a_part_is_none(keys, report, tmp_path):
    without(report, *keys)
    (tmp_path / "evaluation.json").write_text(json.dumps(report))
    with pytest.raises(ValueError, match="not a report of `tevia evaluate`"):
        read_report(tmp_path)


@pytest.mark.parametrize("content", ["{}", "[]", "{", '{"scores": [1]}', json.dumps({"settings": {}, "scores": {}})])
def test_what_evaluate_did_not_write_is_no_report(content, tmp_path):
    (tmp_path / "evaluation.json").write_text(content)
    with pytest.raises(ValueError, match="not a report of `tevia evaluate`"):
        read_report(tmp_path)
