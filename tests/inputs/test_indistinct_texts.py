"""Texts that a model cannot tell apart are counted and shown before training."""

import numpy as np
import pytest
from builders import answer, data_set, lesion, mentions, table

from tevia_hf.inference.check_data import check_data
from tevia_hf.training.recipe import train_from_recipe

COUNT = 6
KNOWN = [f"{number} infected areas, {side} lung." for number in ("one", "two", "three") for side in ("left", "right")]


def texts_set(root, texts, splits=None):
    masks = {f"p{number}": np.roll(lesion(), 3 * number, axis=1) for number in range(len(texts))}
    data_set(root, masks, split=splits or ["train"] * len(texts))
    table(root, list(masks), texts, split=splits or ["train"] * len(texts))
    return root


@pytest.fixture
def spoken_of(tiny_dir):
    """The additional faults and warnings of check-data for a set of these texts and the trained model."""

    def spoken(root, texts, **options):
        given = answer(lambda: check_data("folder", texts_set(root, texts), tokenizer=tiny_dir, **options))
        return [given.error] if given.error else given.value.faults + given.value.warnings

    return spoken


APART = ("tell apart", "distinguish", "equal", "same", "alike", "indistinct", "unknown", "differ")


def test_texts_that_differ_only_in_unknown_words_are_named(tmp_path, spoken_of):
    texts = ["one xylem lung.", "one phloem lung.", *KNOWN[2:]]
    lines = [line for line in spoken_of(tmp_path, texts) if mentions([line], *APART)]
    assert mentions(lines, "xylem") or mentions(lines, "p0")
    assert mentions(lines, "phloem") or mentions(lines, "p1")


def test_texts_of_unknown_words_alone_are_named_with_their_count(tmp_path, spoken_of):
    texts = ["左肺上叶感染", "右肺上叶感染", "双肺下叶感染", *KNOWN[3:]]
    lines = [line for line in spoken_of(tmp_path, texts) if mentions([line], *APART)]
    assert mentions(lines, "3")


def test_texts_that_begin_alike_and_are_cut_there_are_named(tmp_path, spoken_of):
    start = "left lung, right lung, left lung, right lung, "
    texts = [start + ending for ending in ("one area.", "two areas.", "three areas.")] + KNOWN[3:]
    lines = spoken_of(tmp_path, texts, max_text_length=8)
    assert mentions([line for line in lines if mentions([line], *APART)], "3", "p0", "one area")


@pytest.mark.parametrize(
    "pair",
    [
        ("Left lung.", "LEFT LUNG."),
        ("left lung, läsion", "left lung, lasion"),
    ],
)
def test_texts_that_the_tokenizer_makes_equal_are_named(tmp_path, spoken_of, pair, tiny_dir):
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(tiny_dir)
    equal = tokenizer(pair[0])["input_ids"] == tokenizer(pair[1])["input_ids"]
    lines = spoken_of(tmp_path, [*pair, *KNOWN[2:]])
    assert equal and mentions(lines, *APART)


def test_a_set_whose_texts_are_all_equal_is_refused(tmp_path):
    faults = check_data("folder", texts_set(tmp_path, ["One lesion."] * COUNT)).faults
    assert mentions(faults, "text", "sentence") and mentions(faults, *APART)


def test_a_set_whose_texts_are_all_equal_to_the_tokenizer_is_refused(tmp_path, tiny_dir):
    root = texts_set(tmp_path, [f"{word} lung" for word in ("xylem", "phloem", "cortex", "pith", "stele", "rind")])
    given = answer(lambda: check_data("folder", root, tokenizer=tiny_dir))
    assert given.error or mentions(given.value.faults, *APART)


def test_a_set_whose_texts_are_cut_to_one_is_refused(tmp_path, tiny_dir):
    start = "left lung, right lung, left lung, right lung, "
    root = texts_set(tmp_path, [start + text for text in KNOWN])
    given = answer(lambda: check_data("folder", root, tokenizer=tiny_dir, max_text_length=6))
    assert given.error or mentions(given.value.faults, *APART)


def test_texts_that_differ_are_not_complained_of(tmp_path, spoken_of):
    assert not mentions(spoken_of(tmp_path, KNOWN), "tell apart", "distinguish", "indistinct", "same tokens")


def test_a_text_that_several_images_share_is_no_complaint(tmp_path, spoken_of):
    lines = spoken_of(tmp_path, [KNOWN[number % 3] for number in range(COUNT)])
    assert not mentions(lines, "tell apart", "distinguish", "indistinct", "same tokens")


def recipe(root, out, tiny_dir):
    path = root / "recipe.yaml"
    lines = {"config_name": tiny_dir, "dataset": "folder", "data_dir": root, "output_dir": out, "max_steps": 1}
    lines |= {"logging_steps": 1, "use_cpu": "true", "per_device_train_batch_size": 2}
    path.write_text("\n".join(f"{name}: {value}" for name, value in lines.items()) + "\n", encoding="utf-8")
    return path


@pytest.mark.parametrize(
    "texts",
    [["One lesion."] * COUNT, [f"{word} lung" for word in ("xylem", "phloem", "cortex", "pith", "stele", "rind")]],
    ids=["equal", "equal to the tokenizer"],
)
def test_training_refuses_a_set_of_which_no_two_texts_differ(tmp_path, tiny_dir, texts):
    root = texts_set(tmp_path / "set", texts, ["train"] * 4 + ["val"] * 2)
    with pytest.raises(ValueError, match=r"(?i)text|sentence"):
        train_from_recipe(recipe(root, tmp_path / "out", tiny_dir))
    assert not (tmp_path / "out" / "model.safetensors").exists()
