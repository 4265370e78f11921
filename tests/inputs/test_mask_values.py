"""The meaning of a mask value is decided once per data set, equally for everything that reads masks."""

import numpy as np
import pytest
from builders import answer, data_set, drawn, examined, half_drawn, labels_of, lesion, mentions, refusal_or_report
from PIL import Image
from tiny import tiny_processor, tiny_reader

from tevia_cli.main import main
from tevia_hf import evaluate_model, load_segmentation_dataset, segmentation_metrics
from tevia_hf.data.ready import ready_dataset
from tevia_hf.metrics import image_metrics
from tevia_hf.training.arguments import parse_fields

EMPTY = np.zeros((64, 64), np.uint8)


def bordered(has_lesion: bool) -> np.ndarray:
    """0/1 with an unannotated strip of 255."""
    mask = lesion(value=int(has_lesion))
    mask[:, 56:] = 255
    return mask


def scores(call, prediction, reference, **options):
    if call is image_metrics:
        return image_metrics(prediction, reference, **options)["dice"]
    return segmentation_metrics([prediction], [reference], outlines=False, **options)["dice"]


def true_dice(prediction):
    return segmentation_metrics([prediction], [lesion(value=1)], outlines=False)["dice"]


# Metrics


@pytest.mark.parametrize("call", [segmentation_metrics, image_metrics])
@pytest.mark.parametrize("prediction", [EMPTY, half_drawn()], ids=["nothing found", "half found"])
def test_a_white_reference_is_scored_as_a_lesion_or_refused(call, prediction):
    given = answer(lambda: scores(call, prediction, lesion()))
    assert (
        given.value == pytest.approx(true_dice(prediction)) if given.error is None else given.names("white_is_lesion")
    )


@pytest.mark.parametrize("call", [segmentation_metrics, image_metrics])
def test_metrics_score_white_as_the_lesion_where_that_is_given(call):
    assert scores(call, half_drawn(), lesion(), white_is_lesion=True) == pytest.approx(true_dice(half_drawn()))
    assert scores(call, EMPTY, lesion(), white_is_lesion=True) == 0


@pytest.mark.parametrize("call", [segmentation_metrics, image_metrics])
def test_metrics_leave_white_out_where_it_is_given_as_ignored(call):
    assert scores(call, half_drawn(), lesion(), white_is_lesion=False) == 1  # nothing but ignored pixels to find
    elsewhere = np.roll(lesion(value=1), 30, axis=1)
    assert scores(call, elsewhere, lesion(), white_is_lesion=False) == 0


def test_a_label_beside_white_in_one_reference_makes_it_ignored_in_all():
    strip = np.zeros_like(EMPTY)
    strip[:, 56:] = 1
    found = segmentation_metrics([lesion(value=1), strip], [bordered(True), bordered(False)], outlines=False)
    assert found["dice"] == 1  # the second image holds only what is ignored


def test_references_that_mean_two_things_are_not_scored_without_a_word():
    references = [lesion(value=1), lesion()]  # 0/1 and 0/255
    given = answer(lambda: segmentation_metrics([lesion(value=1)] * 2, references, outlines=False))
    assert given.names("white_is_lesion", "255")


# Data sets


def test_a_strip_that_is_ignored_in_some_masks_is_no_lesion_in_the_others(tmp_path):
    sick = {"p0": True, "p1": True, "p2": False}
    report = examined(data_set(tmp_path, {name: bordered(has) for name, has in sick.items()}))
    assert mentions(report.warnings, "255", "ignored")
    assert report.splits["train"]["empty masks"] == 1


def test_the_warning_of_ignored_pixels_names_a_mask_and_counts_those_of_white_alone(tmp_path):
    masks = {"first": bordered(True), "bare1": bordered(False), "bare2": bordered(False), "bare3": bordered(False)}
    report = examined(data_set(tmp_path, masks))
    (line,) = [line for line in report.warnings if "255" in line]
    assert "first" in line and "3" in line.replace("255", "")


def test_a_mask_that_is_ignored_throughout_holds_no_lesion(tmp_path):
    report = examined(data_set(tmp_path, {"a": bordered(True), "b": np.full_like(EMPTY, 255), "c": bordered(True)}))
    assert report.faults or report.splits["train"]["empty masks"] == 1


def test_the_meaning_of_white_is_one_for_all_splits(tmp_path):
    masks = {"a": bordered(True), "b": bordered(True), "c": bordered(False)}
    report = examined(data_set(tmp_path, masks, split=["train", "train", "val"]))
    assert report.faults or report.splits["val"]["empty masks"] == 1


CODINGS = {"ones": lesion(value=1), "whites": lesion()}


def test_masks_of_0_and_1_beside_masks_of_0_and_255_are_a_fault_that_names_two(tmp_path):
    faults, _ = refusal_or_report(data_set(tmp_path, CODINGS))
    (fault,) = [line for line in faults if "white_is_lesion" in line]
    assert "ones" in fault and "whites" in fault


def test_the_advice_to_give_white_is_lesion_makes_a_mixed_set_whole(tmp_path):
    report = examined(data_set(tmp_path, CODINGS), white_is_lesion=True)
    assert report.is_sound and report.splits["train"]["empty masks"] == 0
    report = examined(tmp_path, white_is_lesion=False)
    assert report.is_sound and report.splits["train"]["empty masks"] == 1


@pytest.mark.parametrize("value", [1, 255])
def test_a_set_of_one_coding_needs_no_word(tmp_path, value):
    masks = {"a": lesion(value=value), "b": np.rot90(lesion(value=value)), "c": EMPTY}
    report = examined(data_set(tmp_path, masks))
    assert report.is_sound and report.splits["train"]["empty masks"] == 1
    assert not mentions(report.warnings, "white_is_lesion")
    assert np.array_equal(labels_of(tmp_path), lesion(value=1))


def test_one_bit_masks_go_with_white_ones(tmp_path):
    masks = {"bits": Image.fromarray(drawn()), "grey": lesion()}
    report = examined(data_set(tmp_path, masks))
    assert report.is_sound and report.splits["train"]["empty masks"] == 0


def test_an_unknown_coding_is_not_given_a_meaning_by_its_neighbours(tmp_path):
    report = examined(data_set(tmp_path, {"a": lesion(), "b": lesion(value=254)}))
    assert mentions(report.faults, "254")


def test_several_labels_ignore_white_in_every_mask(tmp_path):
    masks = {"a": lesion(value=2), "b": bordered(True), "white": lesion()}
    report = examined(data_set(tmp_path, masks), num_labels=3)
    assert report.faults or report.splits["train"]["empty masks"] == 1
    assert not (labels_of(tmp_path, "white", num_labels=3) == 1).any()


# Commands and reports


def test_check_data_takes_what_white_means(tmp_path, capsys):
    root = str(data_set(tmp_path, CODINGS))
    assert main(["check-data", "folder", root]) == 1
    assert main(["check-data", "folder", root, "--white-is-lesion", "true"]) == 0
    white = str(data_set(tmp_path / "white", {"a": lesion(), "b": np.rot90(lesion())}))
    assert main(["check-data", "folder", white]) == 0
    assert main(["check-data", "folder", white, "--white-is-lesion", "false"]) == 1  # no lesion is left
    capsys.readouterr()


def test_a_report_records_what_white_means(tmp_path):
    data_set(tmp_path, {"a": lesion(), "b": np.rot90(lesion())}, split=["test", "test"])
    dataset = load_segmentation_dataset("folder", tmp_path, split="test")
    model, processor = tiny_reader(), tiny_processor()
    found = {given: evaluate_model(model, processor, dataset, [], white_is_lesion=given) for given in (None, False)}
    assert found[None].settings["white_is_lesion"] is True and found[False].settings["white_is_lesion"] is False
    assert found[None].images["true_pixels"].tolist()[:2] == [int(drawn().sum())] * 2
    assert found[False].images["true_pixels"].tolist()[:2] == [0, 0]


def test_evaluation_reads_white_as_in_the_whole_set(tmp_path):
    data_set(tmp_path, {"a": bordered(True), "b": bordered(False)}, split=["test", "test"])
    dataset = load_segmentation_dataset("folder", tmp_path, split="test")
    given = answer(lambda: evaluate_model(tiny_reader(), tiny_processor(), dataset, []))
    assert given.names("255") if given.error else given.value.images["true_pixels"].tolist()[:2] == [drawn().sum(), 0]


def test_evaluation_refuses_masks_that_disagree(tmp_path):
    data_set(tmp_path, CODINGS, split=["test", "test"])
    dataset = load_segmentation_dataset("folder", tmp_path, split="test")
    with pytest.raises(ValueError, match="white_is_lesion"):
        evaluate_model(tiny_reader(), tiny_processor(), dataset, [])


def test_a_recipe_takes_what_white_means_and_nothing_else():
    fields = {"config_name": "x", "output_dir": "y"}
    assert parse_fields(fields).data.white_is_lesion is None
    assert parse_fields({**fields, "white_is_lesion": False}).data.white_is_lesion is False
    assert parse_fields(fields, ["--white_is_lesion", "true"]).data.white_is_lesion is True
    with pytest.raises(ValueError, match="white_is_lesion"):
        parse_fields(fields, ["--white_is_lesion", "perhaps"])


def test_a_data_set_of_ones_own_is_read_by_the_same_rule():
    import datasets

    masks = [Image.fromarray(bordered(True)), Image.fromarray(bordered(False))]
    rows = {"image": [Image.fromarray(lesion())] * 2, "mask": masks, "text": ["left", "none"], "id": ["a", "b"]}
    kinds = datasets.Features({"image": datasets.Image(), "mask": datasets.Image()})
    kinds |= {name: datasets.Value("string") for name in ("text", "id")}
    dataset = ready_dataset(datasets.Dataset.from_dict(rows, features=datasets.Features(kinds)))
    given = answer(lambda: evaluate_model(tiny_reader(), tiny_processor(), dataset, []))
    assert given.names("255") if given.error else given.value.images["true_pixels"].tolist()[:2] == [drawn().sum(), 0]
