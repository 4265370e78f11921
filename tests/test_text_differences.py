"""Texts that a model cannot tell apart are counted, and refused where no two differ."""

import warnings

import pytest
from stock import labelled, new_model
from tiny import tiny_processor, tiny_tokenizer

from tevia_hf import build_trainer
from tevia_hf.data.augment import TextAwareAugmentation
from tevia_hf.inference.text_differences import check_texts_differ, text_problems
from tevia_hf.training.arguments import TeViATrainingArguments

LEFT, RIGHT = "left lung", "right lung"
TOKENIZER = tiny_tokenizer(8)  # two of its tokens are special
LONG = "one infected area, upper lung"


@pytest.mark.parametrize(
    "texts", [[LEFT, RIGHT], [LEFT], [], [None, ""], [LEFT, ""], [LEFT, LEFT, RIGHT], [LEFT, None, " "], ["Herd"]]
)
@pytest.mark.parametrize("tokenizer", [None, TOKENIZER], ids=["words", "tokens"])
def test_texts_that_differ_and_sets_of_one_example_have_no_problem(texts, tokenizer):
    found = text_problems(texts, tokenizer, 8)
    assert found.faults == []
    assert found.warnings == [] == check_texts_differ(texts, TOKENIZER)


@pytest.mark.parametrize("tokenizer", [None, TOKENIZER], ids=["words", "tokens"])
def test_a_set_of_one_text_is_refused_with_the_way_out(tokenizer):
    found = text_problems([LEFT, LEFT, LEFT], tokenizer, 8)
    assert found == (["all 3 texts are equal: 'left lung'. Write what each image shows, or train without text "
                      "(`use_text: false` under `config`)"], [])  # fmt: skip


@pytest.mark.parametrize(
    ("texts", "fault", "way_out"),
    [
        (["Herd", "Kern"], "all 2 different texts consist of unknown tokens alone: 'Herd' and 'Kern'", "`text_model`"),
        (["Herd links", "Kern"], "consist of unknown tokens alone", "`text_model`"),
        (["Herd lung", "Kern lung"], "all 2 different texts become the same tokens", "`text_model`"),
        (["Left lung", "left LUNG"], "all 2 different texts become the same tokens", "in words rather than in case"),
        ([f"{LONG} left", f"{LONG} right"], "all 2 different texts become the same", r"Raise max_text_length \(8\)"),
    ],
)
def test_texts_of_which_no_two_differ_for_the_tokenizer_are_refused(texts, fault, way_out):
    with pytest.raises(ValueError, match=f"{fault}.*{way_out}.*use_text: false"):
        check_texts_differ(texts, TOKENIZER)
    assert text_problems([*texts, None], TOKENIZER).faults == []  # no text is another than this one
    assert text_problems([*texts, None], TOKENIZER).warnings != [] == text_problems(texts).faults


def test_a_larger_limit_tells_texts_of_the_same_beginning_apart():
    texts = [f"{LONG} left", f"{LONG} right", LEFT]
    (warning,) = check_texts_differ(texts, TOKENIZER)
    assert warning.startswith("2 of 3 different texts become the same tokens as another") and "(8)" in warning
    assert f"{texts[0]!r} and {texts[1]!r}" in warning
    assert check_texts_differ(texts, tiny_tokenizer(24)) == []


def test_without_a_tokenizer_beginnings_are_compared_word_by_word():
    texts = ["one two three left", "one two three right", LEFT]
    (warning,) = text_problems(texts, max_text_length=3).warnings
    assert "2 of 3 different texts begin with the same 3 words" in warning and "(3)" in warning
    assert text_problems(texts, max_text_length=4).warnings == [] == text_problems(texts).warnings


def test_texts_of_unknown_words_are_counted_with_two_examples():
    texts = ["Herd links im lung", "Kern", LEFT, "one tumor"]
    (warning,) = check_texts_differ(texts, TOKENIZER)
    assert "2 of 4 different texts consist mostly of unknown tokens: 'Kern' and 'Herd links im lung'" in warning


def test_pairs_that_differ_in_more_than_case_are_quoted_first():
    (warning,) = check_texts_differ(["left lung", "Left lung", "left tumor lung", "left lesion lung"], TOKENIZER)
    assert "4 of 4" in warning and "'left tumor lung' and 'left lesion lung'. Take another text encoder" in warning


def trainer_of(texts, folder, augmentation=None):
    args = TeViATrainingArguments(
        output_dir=str(folder), eval_strategy="no", load_best_model_at_end=False, use_cpu=True
    )
    dataset = labelled(len(texts)).remove_columns("text").add_column("text", texts)
    return build_trainer(new_model(), tiny_processor(), args, dataset, augmentation=augmentation)


def test_training_refuses_texts_of_which_no_two_differ(tmp_path):
    with pytest.raises(ValueError, match="learn nothing from the texts of the training split: all 3 texts are equal"):
        trainer_of([LEFT] * 3, tmp_path)


def test_training_names_texts_that_a_flip_cannot_rewrite_or_a_model_not_tell_apart_once(tmp_path):
    texts = ["Infiltrat links", "Infiltrat rechts", LEFT]
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        trainer_of(texts, tmp_path, TextAwareAugmentation(flip_probability=0.5))
    found = [str(warning.message) for warning in caught if "Training split" in str(warning.message)]
    assert len(found) == 3 and "2 of 3 different texts become the same tokens" in found[0]
    assert "2 of 3 texts may name a side (left, right) that a flip cannot swap, e.g. 'Infiltrat links'" in found[2]


def test_without_flips_no_side_is_named(tmp_path, recwarn):
    trainer_of(["left lung, (12, 30)", RIGHT], tmp_path, TextAwareAugmentation(flip_probability=0.0))
    assert not any("cannot be rewritten" in str(warning.message) for warning in recwarn)
