"""Scores with correct, shuffled and no text, at the images' own size; and the Trainer's own metrics."""

import json
from collections import Counter
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch
from datasets import Dataset
from PIL import Image
from scipy import ndimage
from tiny import tiny_config, tiny_processor, tiny_reader
from transformers import EvalPrediction

from tevia_hf import TeViAForSegmentation, TeViASegmentationOutput, evaluate_model, metrics, segmentation_metrics
from tevia_hf.data.features import dataset_from_rows
from tevia_hf.data.survey import reference_labels
from tevia_hf.evaluation.text_conditions import TEXT_CONDITIONS, shuffled_texts
from tevia_hf.inference.predict import predict_masks
from tevia_hf.logits_tevia import labels_from_logits
from tevia_hf.metric_table import METRICS
from tevia_hf.metrics import image_metrics
from tevia_hf.training.trainer import compute_metrics

SIZES = [(40, 56), (64, 32), (48, 48), (33, 70)]
LUNGS = "Unilateral pulmonary infection, one infected area, lower left lung."
DICE = {"correct": 0.8, "shuffled": 0.6, "none": 0.81}
TEXTS = ["left lung", "right lung", "upper left lung", "lower right lung"]


def image(index: int) -> dict:
    rng = np.random.default_rng(index)
    size = SIZES[index]
    return {
        "id": f"image-{index}",
        "group": f"patient-{index // 2}",
        "text": TEXTS[index],
        "image": Image.fromarray(rng.integers(0, 255, size, dtype=np.uint8)),
        "mask": Image.fromarray((rng.random(size) < 0.4).astype(np.uint8) * 255),
    }


@pytest.fixture(scope="module")
def examples():
    return dataset_from_rows([image(index) for index in range(4)])


@pytest.fixture(scope="module")
def model():
    return tiny_reader()


@pytest.fixture(scope="module")
def report(model, examples):
    return evaluate_model(model, tiny_processor(), examples, batch_size=3, seed=5)


def test_each_text_condition_has_its_scores(report):
    assert list(report.scores) == ["correct", "shuffled", "none"]
    assert all(set(row) == set(METRICS) for row in report.scores.values())
    assert len({row["dice"] for row in report.scores.values()}) == 3


def test_a_text_model_is_not_evaluated_without_a_single_text(model):
    silent = dataset_from_rows([{**image(index), "text": ""} for index in range(2)])
    with pytest.raises(ValueError, match="No example has a text.*--text-table"):
        evaluate_model(model, tiny_processor(), silent)


def test_each_image_has_a_row_for_each_text_condition(report, examples):
    assert list(report.images.columns)[:6] == ["id", "group", "text_mode", "text", "dice", "iou"]
    assert {"hd95", "surface_dice", "accuracy", "lesion_precision", "lesion_recall"} < set(report.images.columns)
    for mode, rows in report.images.groupby("text_mode"):
        assert list(rows["id"]) == list(examples["id"]) and list(rows["group"]) == list(examples["group"])
        assert rows["dice"].mean() == pytest.approx(report.scores[mode]["dice"])


def test_a_data_set_without_ids_is_evaluated_by_row_numbers(report, model, examples):
    columns = {name: [row[name] for row in examples] for name in ("image", "mask", "text")}
    own = evaluate_model(model, tiny_processor(), Dataset.from_dict(columns), batch_size=3, seed=5)
    assert own.settings["dataset"] == "unknown" and own.scores == report.scores
    first = own.images[own.images["text_mode"] == "correct"]
    assert list(first["id"]) == list(first["group"]) == ["0", "1", "2", "3"]
    assert {case.id for case in own.worst_cases} == set(first["id"])


def test_an_unreadable_row_without_an_id_is_named_by_its_number(model, examples):
    rows = [{name: row[name] for name in ("image", "mask", "text")} for row in examples]
    rows[2]["mask"] = Image.new("L", (8, 8))
    report = evaluate_model(model, tiny_processor(), Dataset.from_list(rows), (), on_error="skip")
    assert [row["id"] for row in report.settings["skipped"]] == ["2"]
    assert list(report.images["id"][:3]) == ["0", "1", "3"]


def test_correct_text_is_the_images_own_shuffled_anothers_and_none_is_empty(report, examples):
    texts = {mode: list(rows["text"]) for mode, rows in report.images.groupby("text_mode")}
    assert texts["correct"] == TEXTS and texts["none"] == [""] * 4
    assert sorted(texts["shuffled"]) == sorted(TEXTS)
    assert all(own != other for own, other in zip(TEXTS, texts["shuffled"], strict=True))


def test_scores_are_of_masks_at_the_images_own_size(report, model, examples):
    masks = predict_masks(model, tiny_processor(), list(examples))
    references = [np.asarray(example["mask"]) // 255 for example in examples]
    assert [mask.shape for mask in masks] == SIZES
    assert report.scores["correct"] == segmentation_metrics(masks, references)
    dice = [image_metrics(mask, reference)["dice"] for mask, reference in zip(masks, references, strict=True)]
    assert list(report.images["dice"][:4]) == dice and min(dice) > 0


def test_correct_and_shuffled_are_always_evaluated(model, examples):
    report = evaluate_model(model, tiny_processor(), examples, text_modes=("none",))
    assert list(report.scores) == ["correct", "shuffled", "none"] and len(report.images) == 12


def test_flipped_texts_change_sides_and_contradictory_ones_presence(model, examples):
    report = evaluate_model(model, tiny_processor(), examples, text_modes=("flipped", "contradictory"))
    texts = {mode: list(rows["text"]) for mode, rows in report.images.groupby("text_mode")}
    assert texts["flipped"] == ["right lung", "left lung", "upper right lung", "lower left lung"]
    assert set(texts["contradictory"]) == {"There is no lesion in this image."}
    for name in ("flipped", "contradictory"):
        assert TEXT_CONDITIONS[name].texts([None, ""], 0) == ["", ""]


def test_text_sensitivity_is_the_paired_difference_of_correct_and_shuffled(report):
    dice = report.images.pivot(index="id", columns="text_mode", values="dice")
    result = report.text_sensitivity
    assert result.difference == pytest.approx((dice["correct"] - dice["shuffled"]).mean())
    assert (result.images, result.groups) == (4, 2)
    assert (
        f"Text sensitivity (dice with an image's own text minus with another's): {result.difference:.3f}"
        in report.table()
    )


def test_intervals_hold_the_scores_and_resample_patients(report):
    for mode, row in report.scores.items():
        low, high = report.intervals[mode]["dice"]
        assert low <= row["dice"] <= high
    rows = report.images[report.images["text_mode"] == "correct"]
    assert report.intervals["correct"]["dice"] == pytest.approx(
        (rows.groupby("group")["dice"].mean().min(), rows.groupby("group")["dice"].mean().max())
    )


def test_distances_are_in_millimetres_where_the_pixels_have_a_size(model):
    rows = [{**image(index), "spacing_mm": (2.0, 2.0)} for index in range(2)]
    in_mm = evaluate_model(model, tiny_processor(), dataset_from_rows(rows), ())
    in_pixels = evaluate_model(model, tiny_processor(), dataset_from_rows([image(0), image(1)]), ())
    assert (in_mm.settings["hd95_unit"], in_pixels.settings["hd95_unit"]) == ("mm", "px")
    assert in_mm.scores["correct"]["hd95"] == pytest.approx(2 * in_pixels.scores["correct"]["hd95"])
    assert in_mm.scores["correct"]["hd95"] > 0


def test_the_true_mask_is_measured_once_an_image_whatever_number_of_conditions(model, examples, monkeypatch):
    labelled, usual = Counter(), ndimage.label

    def label(mask, *args):
        labelled[mask.tobytes()] += 1
        return usual(mask, *args)

    monkeypatch.setattr(ndimage, "label", label)
    evaluate_model(model, tiny_processor(), examples, ["none", "flipped", "contradictory", "absent"])
    references = [(np.asarray(example["mask"]) > 0).tobytes() for example in examples]
    assert [labelled[reference] for reference in references] == [2] * 4  # for the scores, and to compare with texts


def test_conditions_that_leave_a_text_as_it_is_share_its_scores(model, monkeypatch):
    sideless = dataset_from_rows([{**image(index), "text": "one lesion"} for index in range(4)])
    scored, usual = [], metrics.score_pair
    monkeypatch.setattr(metrics, "score_pair", lambda pair, **options: scored.append(pair) or usual(pair, **options))
    report = evaluate_model(model, tiny_processor(), sideless, ["none", "flipped"])
    assert len(scored) == 2 * 4  # of four conditions
    rows = {mode: of_mode.drop(columns="text_mode") for mode, of_mode in report.images.groupby("text_mode")}
    own, *alike = (rows[mode].to_dict("list") for mode in ("correct", "shuffled", "flipped"))
    assert alike == [own, own] and rows["none"]["dice"].tolist() != own["dice"]


def test_an_unknown_text_condition_is_refused_with_the_choices(model, examples):
    with pytest.raises(ValueError, match=r"Unknown text conditions \['wrong'\]: choose from correct, shuffled, none,"):
        evaluate_model(model, tiny_processor(), examples, text_modes=("correct", "wrong"))


def test_a_vision_only_network_has_one_row(examples):
    report = evaluate_model(TeViAForSegmentation(tiny_config(use_text=False)), tiny_processor(), examples)
    assert list(report.scores) == ["no text branch"] and len(report.images) == 4


def test_the_threshold_is_on_the_probability(model, examples):
    low, high = (evaluate_model(model, tiny_processor(), examples, ("correct",), threshold=t) for t in (0.0, 1.0))
    everything = [np.ones(size, dtype=np.uint8) for size in SIZES]
    references = [np.asarray(example["mask"]) // 255 for example in examples]
    assert low.scores["correct"] == segmentation_metrics(everything, references)
    assert high.scores["correct"]["dice"] == 0


def test_a_report_is_written_as_json_and_csv(report, tmp_path):
    report.save(tmp_path / "new" / "folder")
    content = json.loads((tmp_path / "new" / "folder" / "evaluation.json").read_text(encoding="utf-8"))
    assert content["scores"] == report.scores
    assert content["settings"] == report.settings
    assert content["metrics"]["hd95"]["unit"] == "px" and list(content["metrics"]) == list(METRICS)
    assert content["text_conditions"]["shuffled"] == "another image's text"
    assert content["text_sensitivity"]["difference"] == report.text_sensitivity.difference
    assert content["intervals"]["correct"]["dice"] == list(report.intervals["correct"]["dice"])
    assert (tmp_path / "new" / "folder" / "evaluation.md").read_text(encoding="utf-8") == report.table() + "\n"
    assert Image.open(tmp_path / "new" / "folder" / "evaluation.png").size == report.figure.size
    table = pd.read_csv(tmp_path / "new" / "folder" / "evaluation.csv", keep_default_na=False)
    pd.testing.assert_frame_equal(table, report.images)


def test_the_table_shows_every_score(report):
    lines = report.table().splitlines()
    assert lines[2] == "| text | dice | 95 % | " + " | ".join(list(METRICS)[1:]) + " |"
    assert lines[4].startswith(f"| correct | {report.scores['correct']['dice']:.3f} | [")


def test_other_wordings_are_measured_by_default_where_the_language_is_known(model, examples):
    known = dataset_from_rows([{**image(index), "text": [LUNGS, TEXTS[0]][index]} for index in range(2)])
    report = evaluate_model(model, tiny_processor(), known)
    assert list(report.scores) == ["correct", "shuffled", "none", "paraphrased"]
    assert "paraphrased: 1 of 2 texts changed" in report.table() and report.headline().endswith(
        " (1 of 2 texts changed)."
    )
    assert list(evaluate_model(model, tiny_processor(), known, text_modes=()).scores) == ["correct", "shuffled"]


def test_the_headline_gives_the_difference_of_each_other_condition_in_points(report):
    report = replace(report, scores={name: {**report.scores[name], "dice": dice} for name, dice in DICE.items()})
    expected = "Dice 0.800 with its own text. Against it, in points: another image's text -20.0, no text +1.0."
    assert report.headline() == report.table().splitlines()[0] == expected
    report = replace(report, denying_conditions=["none"])
    assert report.headline().endswith("another image's text -20.0.")


@pytest.mark.parametrize("count", [2, 3, 20])
def test_shuffling_leaves_no_text_with_its_image(count):
    texts = [str(index) for index in range(count)]
    for seed in range(5):
        shuffled = shuffled_texts(texts, seed)
        assert sorted(shuffled) == sorted(texts) and all(a != b for a, b in zip(texts, shuffled, strict=True))


def test_shuffling_depends_on_the_seed():
    texts = [str(index) for index in range(20)]
    shuffle = TEXT_CONDITIONS["shuffled"].choose
    assert shuffle(texts, 1) == shuffle(texts, 1) != shuffle(texts, 2)


def test_evaluation_leaves_a_training_model_in_training(model, examples):
    model.train()
    evaluate_model(model, tiny_processor(), examples, ("none",))
    assert model.training
    model.eval()


# References


@pytest.mark.parametrize("swap_axes", [False, True])
def test_references_keep_the_images_own_axes_and_size(examples, swap_axes):
    for example in examples:
        reference = reference_labels(example, tiny_processor(swap_axes=swap_axes).image_processor)
        assert np.array_equal(reference, np.asarray(example["mask"]) // 255)


def test_a_reference_that_is_no_mask_is_refused(examples):
    example = {**examples[0], "mask": np.arange(40 * 56, dtype=np.uint8).reshape(40, 56) % 7}
    with pytest.raises(ValueError, match="2, 3"):
        reference_labels(example, tiny_processor().image_processor)


@pytest.mark.parametrize("swap_axes", [False, True])
def test_a_perfect_network_scores_one_whatever_the_axes(examples, swap_axes):
    class Perfect(torch.nn.Module):
        """Answers with the network's own image of the mask."""

        config = tiny_config(use_text=False)
        device, dtype = torch.device("cpu"), torch.float32

        def encode_image(self, pixel_values):
            return pixel_values

        def forward(self, image_features):
            return TeViASegmentationOutput(logits=image_features[:, :1])

    processor = tiny_processor(64, swap_axes=swap_axes)
    halves = np.zeros((64, 64), dtype=np.uint8)
    halves[:20] = 255  # not symmetric under transposition
    row = {"id": "a", "image": Image.fromarray(halves), "mask": Image.fromarray(halves), "text": ""}
    report = evaluate_model(Perfect(), processor, dataset_from_rows([row]))
    assert report.scores["no text branch"]["dice"] == 1


# The Trainer's metrics


def test_the_trainers_metrics_are_the_packages():
    rng = np.random.default_rng(0)
    predictions, labels = rng.integers(0, 2, (3, 8, 8)).astype(np.uint8), rng.choice([0, 1, 255], (3, 8, 8))
    scores = compute_metrics(EvalPrediction(predictions, labels))
    assert scores == segmentation_metrics(list(predictions), list(labels), outlines=False)
    assert set(METRICS) - set(scores) == {"hd95", "surface_dice"}


def test_one_label_is_predicted_where_its_logit_is_positive():
    logits = torch.tensor([[[[-1.0, 0.5], [2.0, -0.1]]]])
    labels = labels_from_logits(logits)
    assert labels.tolist() == [[[0, 1], [1, 0]]] and labels.dtype == torch.uint8


def test_of_several_labels_the_largest_logit_is_predicted():
    logits = torch.tensor([[0.1, 5.0], [0.3, 2.0], [0.2, 9.0]]).view(1, 3, 1, 2)
    assert labels_from_logits(logits).tolist() == [[[1, 2]]]
