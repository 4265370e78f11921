"""Metrics score label masks and reject invalid numbers."""

import numpy as np
import pytest
import torch
from builders import answer, half_drawn, lesion
from tiny import tiny_processor, tiny_reader
from transformers import Trainer, TrainingArguments

from tevia_hf import segmentation_metrics
from tevia_hf.data.synthetic import synthetic_dataset
from tevia_hf.metrics import image_metrics

TRUTH, GUESS = lesion(value=1), half_drawn()
CALLS = {
    "segmentation_metrics": lambda a, b: segmentation_metrics([a], [b], outlines=False)["dice"],
    "image_metrics": lambda a, b: image_metrics(a, b)["dice"],
}
DICE = CALLS["segmentation_metrics"](GUESS, TRUTH)

every_call = pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)


def probabilities():
    values = np.where(GUESS > 0, 0.9, 0.1)
    return values + np.random.default_rng(0).uniform(-0.05, 0.05, values.shape)


NO_LABELS = {
    "probabilities": probabilities(),
    "probabilities of half precision": probabilities().astype(np.float16),
    "logits": 10 * probabilities() - 5,
    "whole numbers below 0": np.where(GUESS > 0, 3, -3),
    "NaN": np.where(GUESS > 0, np.nan, 0),
    "infinite": np.where(GUESS > 0, np.inf, 0),
    "one-hot": np.stack([GUESS == 0, GUESS > 0]).astype(np.uint8),
    "complex": GUESS.astype(complex),
    "text": GUESS.astype(str),
    "half a lesion": GUESS * 0.5,
}


@every_call
@pytest.mark.parametrize("numbers", NO_LABELS.values(), ids=NO_LABELS)
def test_predictions_that_are_no_labels_are_refused(call, numbers):
    assert answer(lambda: call(numbers, TRUTH), TypeError).error


@every_call
@pytest.mark.parametrize("numbers", NO_LABELS.values(), ids=NO_LABELS)
def test_references_that_are_no_labels_are_refused(call, numbers):
    assert answer(lambda: call(TRUTH, numbers), TypeError).error


@every_call
def test_two_maps_of_probabilities_are_not_compared_as_labels(call):
    assert answer(lambda: call(probabilities(), probabilities()), TypeError).error


def test_the_refusal_of_probabilities_hands_over_the_line_to_write():
    given = answer(lambda: segmentation_metrics([probabilities()], [TRUTH], outlines=False))
    assert given.names("threshold", "> 0.5", "post_process")


@every_call
@pytest.mark.parametrize("dtype", [bool, np.int8, np.int64, np.uint16, np.float32])
def test_labels_of_any_number_type_score_alike_or_are_refused(call, dtype):
    given = answer(lambda: call(GUESS.astype(dtype), TRUTH.astype(dtype)), TypeError)
    assert given.value == pytest.approx(DICE) if given.error is None else dtype == np.float32


@every_call
def test_tensors_score_as_their_arrays(call):
    given = answer(lambda: call(torch.from_numpy(GUESS), torch.from_numpy(TRUTH)), TypeError)
    assert given.error or given.value == pytest.approx(DICE)


# Shapes


@every_call
@pytest.mark.parametrize("axis", [0, -1])
def test_a_channel_axis_is_cut_or_refused(call, axis):
    given = answer(lambda: call(np.expand_dims(GUESS, axis), np.expand_dims(TRUTH, axis)))
    assert given.error or given.value == pytest.approx(DICE)


def test_one_mask_in_place_of_a_list_is_not_scored_row_by_row():
    given = answer(lambda: segmentation_metrics(GUESS, TRUTH, outlines=False))
    assert given.error or given.value["dice"] == pytest.approx(DICE)


@every_call
@pytest.mark.parametrize("flat", [np.ravel, lambda mask: mask[0]], ids=["raveled", "one row"])
def test_numbers_without_two_axes_are_refused(call, flat):
    assert answer(lambda: call(flat(GUESS), flat(TRUTH)), TypeError).error


@every_call
def test_an_empty_array_is_refused(call):
    assert answer(lambda: call(GUESS[:0], TRUTH[:0])).error


def test_a_stack_of_one_hot_maps_is_not_scored_as_labels():
    stacks = [np.stack([mask == 0, mask > 0]).astype(np.uint8)[None] for mask in (GUESS, TRUTH)]
    given = answer(lambda: segmentation_metrics(*stacks, outlines=False))
    assert given.error  # the background would count as a lesion


# Padding of the Trainer


def padded(mask, value=-100, height=80, width=96):
    wide = np.full((height, width), value, np.int64)
    wide[: mask.shape[0], : mask.shape[1]] = mask
    return wide


def scores_of(predictions, references):
    return segmentation_metrics(predictions, references, outlines=True)


def agree(given, true):
    return given.error is not None or all(given.value[key] == pytest.approx(true[key]) for key in true)


def test_padding_of_both_is_cut():
    true = scores_of([GUESS], [TRUTH])
    assert agree(answer(lambda: scores_of([padded(GUESS)], [padded(TRUTH)])), true)


def test_padding_that_has_become_156_is_no_label():
    true = scores_of([GUESS], [TRUTH])
    masks = [padded(GUESS).astype(np.uint8)], [padded(TRUTH)]
    assert agree(answer(lambda: scores_of(*masks)), true)


def test_padding_of_the_reference_alone_is_left_out():
    true = scores_of([GUESS], [TRUTH])
    assert agree(answer(lambda: scores_of([padded(GUESS, 0)], [padded(TRUTH)])), true)
    assert agree(answer(lambda: scores_of([padded(GUESS, 1)], [padded(TRUTH)])), true)


def test_padding_does_not_hide_what_a_prediction_marks_inside():
    hole = TRUTH.astype(np.int64)
    hole[12:16, 14:18] = -100  # within the image: nobody fills it there
    given = answer(lambda: scores_of([TRUTH], [hole]))
    assert given.error or given.value["dice"] == 1
    assert answer(lambda: scores_of([hole], [TRUTH])).error  # no model predicts -100


def test_images_of_several_heights_score_in_the_trainer_as_by_themselves(tmp_path):
    model, processor = tiny_reader(), tiny_processor()
    rows = [dict(row) for row in synthetic_dataset("val", size=64, count=4)]
    for number, row in enumerate(rows):
        box = (0, (0, 32)[number % 2], 64, 64)
        row["image"], row["mask"] = row["image"].crop(box), row["mask"].crop(box)

    def collate(examples):
        columns = ([example[name] for example in examples] for name in ("image", "text", "mask"))
        return processor(*columns, do_resize=False)

    def found(logits):
        return (logits[:, 0] > 0).to(torch.uint8)

    with torch.no_grad():
        batches = [collate([row]) for row in rows]
        true = scores_of([found(model(**batch).logits)[0].numpy() for batch in batches],
                         [batch["labels"][0].numpy() for batch in batches])  # fmt: skip
    trainer = Trainer(
        model=model,
        args=TrainingArguments(
            output_dir=str(tmp_path),
            per_device_eval_batch_size=1,
            remove_unused_columns=False,
            report_to=[],
            disable_tqdm=True,
            use_cpu=True,
        ),
        eval_dataset=rows,
        data_collator=collate,
        compute_metrics=lambda found: scores_of(list(found.predictions), list(found.label_ids)),
        preprocess_logits_for_metrics=lambda logits, labels: found(logits),
    )
    given = answer(trainer.evaluate)
    if given.error is None:
        assert {key: given.value[f"eval_{key}"] for key in true} == pytest.approx(true)
    else:
        assert given.names("size", "shape", "-100", "padding")


# What belongs to a score beside the masks


@every_call
@pytest.mark.parametrize("highest", [2, 31, 254])
def test_labels_that_only_the_prediction_holds_count_as_wrong(call, highest):
    wrong = np.where(TRUTH > 0, highest, 0).astype(np.uint8)
    given = answer(lambda: call(wrong, TRUTH))
    assert given.error or given.value == 0


def test_the_evaluate_module_refuses_what_metrics_refuse():
    evaluate = pytest.importorskip("evaluate")
    from pathlib import Path

    metric = evaluate.load(str(Path(__file__).parents[2] / "spaces" / "tevia-metric"))
    for numbers in (probabilities(), 10 * probabilities() - 5, padded(GUESS, -3)[:64, :64]):
        given = answer(lambda numbers=numbers: metric.compute(predictions=[numbers], references=[TRUTH]))
        assert given.error or np.array_equal(numbers, GUESS)
    white = answer(lambda: metric.compute(predictions=[GUESS], references=[lesion()], outlines=False))
    assert white.names("white_is_lesion") if white.error else white.value["dice"] == pytest.approx(DICE)
