"""The meaning of mask values, which one module defines."""

import ast
import re
from pathlib import Path

import numpy as np
import pytest
import torch

import tevia_hf
from tevia_hf.labels_tevia import (
    IGNORE_INDEX,
    ForeignValuesError,
    class_names,
    highest_label,
    is_lesion,
    single_channel,
    to_labels,
)

SOURCE = Path(tevia_hf.__file__).parent
DEFINING = {"labels_tevia.py"}
EVERY_VALUE = (0, 1, 2, 3, 127, 254, 255)
EVERY_NUM_LABELS = (None, 1, 2, 3, 255)


# Meaning of values


@pytest.mark.parametrize(
    ("id2label", "names"),
    [
        ({0: "lesion"}, {1: "lesion"}),
        ({0: "background", 1: "tumour"}, {1: "tumour"}),
        ({"0": "background", "1": "benign", "2": "malignant"}, {1: "benign", 2: "malignant"}),
    ],
)
def test_labels_have_the_names_of_the_config(id2label, names):
    assert class_names(id2label) == names


@pytest.mark.parametrize("id2label", [{0: "-", 1: "a", 2: "a"}, {0: "-", 1: "a/b"}])
def test_ambiguous_names_of_labels_are_refused(id2label):
    with pytest.raises(ValueError, match="its own name"):
        class_names(id2label)


@pytest.mark.parametrize("id2label", [{1: "a", 2: "b"}, {1: "a"}, {0: "-", 2: "b"}])
def test_names_without_the_background_are_refused(id2label):
    """Two names from label 1 on would make a model of two labels, which has no channel for the second."""
    with pytest.raises(ValueError, match="`0: background`"):
        class_names(id2label)


@pytest.mark.parametrize(
    ("values", "num_labels", "expected"),
    [
        ([0, 1], 1, [0, 1]),
        ([0, 255], 1, [0, 1]),
        ([255], 1, [1]),
        ([0, 1, 255], 1, [0, 1, 255]),
        ([1, 255], 1, [1, 255]),
        ([False, True], 1, [0, 1]),
        ([False, True], 3, [0, 1]),
        ([0.0, 1.0], 1, [0, 1]),
        ([0, 1, 2, 255], 3, [0, 1, 2, 255]),
        ([0, 255], 3, [0, 255]),
        ([0, 255], None, [0, 1]),
        ([0, 2, 255], None, [0, 2, 255]),
        ([0], None, [0]),
    ],
)
def test_a_mask_becomes_a_label_map(values, num_labels, expected):
    read = to_labels(np.array([values]), num_labels)
    assert read.dtype == np.uint8 and read.tolist() == [expected]


@pytest.mark.parametrize("num_labels", [None, 1, 2, 3])
@pytest.mark.parametrize("values", [[0, 255], [255], [0, 1, 255]])
def test_a_label_map_is_read_as_it_is(values, num_labels):
    assert to_labels(np.array([values]), num_labels, white_is_lesion=False).tolist() == [values]


def test_a_lesion_is_every_label_that_is_not_ignored():
    values = [0, 1, 2, 254, 255]
    for of_kind in (np.array(values), torch.tensor(values)):
        assert is_lesion(of_kind).tolist() == [False, True, True, True, False]
    assert is_lesion(np.array([False, True])).tolist() == [False, True]
    assert [highest_label(count) for count in (1, 2, 3)] == [1, 1, 2]


def test_equal_channels_are_one_and_alpha_is_none():
    mask = np.array([[0, 255], [255, 0]], np.uint8)
    opaque = np.full_like(mask, 200)
    for channels in ([mask], [mask] * 3, [mask, opaque], [mask, mask, mask, opaque]):
        assert single_channel(np.stack(channels)).tolist() == mask.tolist()
    for channels in ([mask, mask, opaque], [opaque, mask, mask, mask]):
        with pytest.raises(ValueError, match="3 channels that differ: a coloured mask has no labels"):
            single_channel(np.stack(channels))
    with pytest.raises(ValueError, match=r"shape \(5, 2, 2\)"):
        single_channel(np.stack([mask] * 5))


# Advice


def advice_for(mask, num_labels=1):
    with pytest.raises(ValueError) as caught:
        to_labels(mask, num_labels)
    return re.fullmatch(r".*?; (?:num_labels|allowed).*?: (.*)\.", str(caught.value))[1]


def mask_of(*values):
    """A mask of background 0 with a square of each value."""
    mask = np.zeros((200, 64), np.float64 if any(value % 1 for value in values) else np.int32)
    for index, value in enumerate(values):
        mask[6 + 3 * index : 8 + 3 * index, 5:25] = value
    return mask


LOSSY = [1, 2, 3, 9, 249, 252, 254, 255]


@pytest.mark.parametrize(
    ("values", "threshold"),
    [
        ([2], 0),
        ([100], 0),
        ([127], 0),
        ([254], 0),
        ([1, 2, 3, 4, 5], 0),
        ([1, 3], 0),
        ([0.25, 0.75, 1.0], 0.5),
        (LOSSY, 127),
    ],
    ids=str,
)
def test_following_the_advice_marks_the_lesions(values, threshold):
    mask = mask_of(*values)
    (expression,) = re.findall(r"\((mask [^)]*)\)", advice_for(mask))
    followed = eval(expression, {"mask": mask})
    assert np.array_equal(followed, mask > threshold) and followed.any()
    assert to_labels(followed, 1).any()


@pytest.mark.parametrize(
    "values",
    [[2, 255], [128, 255], [1, 2, 255], [0.2, 0.3], [-1, 1], [np.nan, 1], list(range(1, 60)), [300, 301]],
    ids=str,
)
def test_values_of_unknown_meaning_are_not_to_be_binarised(values):
    """255 may be the lesion or ignored, and the threshold of greys is unknown."""
    advice = advice_for(mask_of(*values))
    assert "127" not in advice and "0.5" not in advice
    assert "mask > 0" not in advice or values == [300, 301]  # numbers of lesions


def test_a_mask_without_background_is_not_all_lesion():
    assert "mask >" not in advice_for(np.full((8, 8), 7))


@pytest.mark.parametrize("values", [[3], [1, 2, 3], [7]])
def test_labels_that_the_model_lacks_come_with_their_number(values):
    advice = advice_for(mask_of(*values), num_labels=3)
    assert "mask >" not in advice
    assert to_labels(mask_of(*values), int(re.search(r"num_labels=(\d+)", advice)[1])).max() == max(values)


@pytest.mark.parametrize("values", [[2], [1, 2], [2, 255], [1, 2, 255], [5]], ids=str)
def test_values_that_may_be_classes_are_to_be_kept_before_anything_else(values):
    """Writing 1 for all lesions would erase the classes of a set whose masks hold one class each."""
    advice, count = advice_for(mask_of(*values)), max(value for value in values if value != 255) + 1
    assert advice.startswith(f"if they are classes, keep them by num_labels={count} (`--num-labels {count}`")
    assert f"`config: {{num_labels: {count}}}` of a recipe" in advice


def test_the_values_of_several_masks_give_one_advice_that_fits_all():
    masks = [(f"{name}.png", np.array([0, 2, 3])) for name in "abcd"]
    error = ForeignValuesError(masks, np.array([0, 1, 2, 3]), 1)
    assert str(error).startswith("4 masks hold values that are not labels (2, 3), e.g. 'a.png', 'b.png', 'c.png', ...;")
    assert "keep them by num_labels=4" in str(error) and error.is_class_like


def test_a_value_of_a_single_mask_among_many_is_shown_with_its_name():
    masks = [(f"{index}.png", np.array([0, 2])) for index in range(60)] + [("stray.png", np.array([0, 1, 30]))]
    error = ForeignValuesError(masks, np.array([0, 1, 2, 30]), 1)
    assert str(error).startswith("61 masks hold values that are not labels (2, 30 only in 'stray.png'), e.g. '0.png'")


def test_greys_are_not_taken_for_many_labels():
    for num_labels in (None, 1, 3):
        with pytest.raises(ValueError, match="these are greys"):
            to_labels(np.arange(100).reshape(10, 10), num_labels)


# No other module


def numbers_of(path):
    """The lines of a module's code that contain the value of IGNORE_INDEX."""
    nodes = [node for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))) if isinstance(node, ast.Constant)]
    return [node.lineno for node in nodes if type(node.value) in (int, float) and node.value == IGNORE_INDEX]


@pytest.mark.parametrize("path", sorted(SOURCE.rglob("*.py")), ids=lambda path: path.relative_to(SOURCE).as_posix())
def test_no_other_module_contains_the_number(path):
    assert bool(numbers_of(path)) == (path.relative_to(SOURCE).as_posix() in DEFINING)


def compares_values(path):
    """The comparisons with WHITE in a module's code."""
    nodes = [node for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))) if isinstance(node, ast.Compare)]
    return [ast.unparse(node) for node in nodes if "WHITE" in ast.unparse(node).split()]


@pytest.mark.parametrize("path", sorted(SOURCE.rglob("*.py")), ids=lambda path: path.relative_to(SOURCE).as_posix())
def test_no_other_module_reads_white(path):
    assert not compares_values(path) or path.relative_to(SOURCE).as_posix() in DEFINING


def test_a_planted_number_is_found(tmp_path):
    planted = tmp_path / "planted.py"
    for code in ("lesion = mask == 255", "keep = mask != 255.0", "IGNORE = 255", "x / 255"):
        planted.write_text(code)
        assert numbers_of(planted)
    planted.write_text("lesion = mask == WHITE")
    assert not numbers_of(planted) and compares_values(planted)
