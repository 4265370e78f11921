"""Properties of any mask, any table and any number."""

import csv
import io
import math
import unicodedata

import numpy as np
import pytest
from builders import answer, noise, read_mask
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays, from_dtype
from PIL import Image

from tevia_hf import TeViAImageProcessor, segmentation_metrics
from tevia_hf.data.augment import TextAwareAugmentation
from tevia_hf.data.tables import read_table
from tevia_hf.inference.predict import predict_masks
from tevia_hf.io import parse_window
from tevia_hf.labels_tevia import to_labels

few = settings(
    max_examples=30,
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)

fewer = settings(few, max_examples=12)
every_type = pytest.mark.parametrize("name", ["bool", "u1", "i1", "u2", "i8", "f2", "f8"])


def elements(kind):
    """Values of a number type; of floats those that masks should not hold are likely."""
    if kind.kind == "f":
        return st.sampled_from([0.0, 1.0, 1.0, 2.0, 255.0, 0.5, -1.0, 1e-3, math.nan, math.inf]).map(kind.type)
    return from_dtype(kind)


def any_array(name, low=1, high=5):
    kind, shapes = np.dtype(name), array_shapes(min_dims=2, max_dims=2, min_side=low, max_side=high)
    return arrays(kind, shapes, elements=elements(kind), fill=st.nothing())


def small_numbers():
    """Arrays of few values, among which labels are likely."""
    values = st.sampled_from([0, 1, 2, 3, 127, 128, 254, 255])
    return st.lists(st.lists(values, min_size=3, max_size=3), min_size=3, max_size=3).map(
        lambda rows: np.array(rows, np.uint8)
    )


DRAWN = arrays(bool, (6, 7))


# Masks


@every_type
@fewer
@given(data=st.data(), num_labels=st.sampled_from([None, 1, 2, 3]))
def test_any_array_gives_labels_or_is_refused(name, data, num_labels):
    mask = data.draw(any_array(name) | small_numbers())
    found = answer(lambda: to_labels(mask, num_labels), TypeError)
    if found.error is None:
        allowed = range(255) if num_labels is None else range(max(num_labels, 2))
        assert found.value.dtype == np.uint8 and found.value.shape == mask.shape
        assert set(np.unique(found.value).tolist()) <= {*allowed, 255}
        assert np.array_equal(found.value == 0, mask == 0)  # no lesion is made or lost


@every_type
@fewer
@given(data=st.data(), num_labels=st.sampled_from([1, 3]))
def test_the_processor_takes_any_mask_or_refuses_it(name, data, num_labels):
    mask = data.draw(any_array(name, 2) | small_numbers())
    processor = TeViAImageProcessor(num_labels=num_labels, do_resize=False)
    image = noise(*mask.shape)
    found = answer(lambda: processor(image, mask, input_data_format="channels_last")["labels"][0].numpy(), TypeError)
    if found.error is None:
        assert np.array_equal(found.value == 0, mask == 0)
        assert found.value.min() >= 0 and set(np.unique(found.value)) <= {*range(max(num_labels, 2)), 255}


def holds_labels(values):
    """Whether all are whole numbers that labels can be, or the Trainer's padding."""
    return all(value == -100 or (0 <= value < math.inf and value == np.floor(value)) for value in np.unique(values))


@every_type
@fewer
@given(data=st.data())
def test_metrics_score_any_two_arrays_or_refuse_them(name, data):
    prediction = data.draw(any_array(name))
    reference = data.draw(arrays(prediction.dtype, prediction.shape, elements=elements(prediction.dtype)))
    found = answer(lambda: segmentation_metrics([prediction], [reference], outlines=False), TypeError)
    if found.error is None:
        assert all(0 <= value <= 1 for value in found.value.values())
        assert holds_labels(prediction) and holds_labels(reference)


@few
@given(DRAWN, DRAWN)
def test_the_score_of_masks_does_not_depend_on_their_number_type(first, second):
    truth = segmentation_metrics([first.astype(np.uint8)], [second.astype(np.uint8)], outlines=False)
    for dtype in ("bool", "i1", "u2", "i8"):
        masks = [first.astype(dtype)], [second.astype(dtype)]
        assert segmentation_metrics(*masks, outlines=False) == pytest.approx(truth)


def palette(colours):
    def make(mask):
        image = Image.fromarray(mask.astype(np.uint8))
        image.putpalette([part for colour in colours for part in colour])
        return image

    return make


CODINGS = {
    "0/1": lambda mask: Image.fromarray(mask.astype(np.uint8)),
    "0/255": lambda mask: Image.fromarray(mask.astype(np.uint8) * 255),
    "bool": Image.fromarray,
    "palette": palette([(0, 0, 0), (255, 255, 255)]),
    "palette, white first": lambda mask: palette([(255, 255, 255), (0, 0, 0)])(~mask),
    "palette, red first": lambda mask: palette([(255, 0, 0), (0, 0, 0)])(~mask),
    "16 bit": lambda mask: Image.fromarray(mask.astype(np.uint16)),
    "three channels": lambda mask: Image.fromarray(np.stack([mask.astype(np.uint8) * 255] * 3, -1)),
    "opaque": lambda mask: Image.fromarray(
        np.dstack([mask.astype(np.uint8) * 255] * 3 + [np.full(mask.shape, 255, "u1")])
    ),
}


@pytest.mark.parametrize("suffix", [".png", ".tif"])
@pytest.mark.parametrize("coding", CODINGS)
@few
@given(mask=DRAWN)
def test_the_lesion_that_is_read_is_the_one_that_was_drawn(tmp_path, coding, suffix, mask):
    assume("red" not in coding or 0 < mask.sum() < mask.size)  # red alone may be lesion or background
    path = tmp_path / f"m{suffix}"
    CODINGS[coding](mask).save(path)
    found = answer(lambda: read_mask(path))
    assert found.error is None and np.array_equal(found.value == 1, mask)


# Tables

CELL = st.text(st.characters(exclude_categories=["Cs", "Cc"]), max_size=12).map(str.strip)
WORDS = st.sampled_from(
    ["NA", "null", "001", "1.0", "None", "a;b", 'a "b" c', "a, b", "a\tb", "ä", "e\u0301", "#", "="]
)
TEXTS = st.lists(CELL | WORDS, min_size=1, max_size=5)


def written(texts, **dialect):
    lines = io.StringIO()
    writer = csv.writer(lines, **dialect)
    writer.writerow(["Image", "Description", "split"])
    writer.writerows([f"p{number}.png", text, "train"] for number, text in enumerate(texts))
    return lines.getvalue()


def same(text):
    return unicodedata.normalize("NFC", text) or None


@few
@given(
    texts=TEXTS,
    delimiter=st.sampled_from([",", ";", "\t"]),
    quoting=st.sampled_from([csv.QUOTE_ALL, csv.QUOTE_MINIMAL]),
    ending=st.sampled_from(["\n", "\r\n"]),
    encoding=st.sampled_from(["utf-8", "utf-8-sig", "utf-16"]),
)
def test_a_table_gives_back_its_texts_or_is_refused(tmp_path, texts, delimiter, quoting, ending, encoding):
    content = written(texts, delimiter=delimiter, quoting=quoting, lineterminator=ending)
    (tmp_path / "t.csv").write_bytes(content.encode(encoding))
    found = answer(lambda: read_table(tmp_path / "t.csv"))
    if found.error is None:
        assert [same(text or "") for text in found.value["Description"]] == [same(text.strip()) for text in texts]
        assert found.value["Image"].tolist() == [f"p{number}.png" for number in range(len(texts))]
    else:
        assert delimiter != "," or encoding == "utf-16"  # the plain form is always read


@few
@given(texts=TEXTS)
def test_a_table_without_quotation_marks_moves_no_column(tmp_path, texts):
    rows = [f"p{number}.png,{text},train" for number, text in enumerate(texts)]
    (tmp_path / "t.csv").write_text("\n".join(["Image,Description,split", *rows]) + "\n", encoding="utf-8")
    found = answer(lambda: read_table(tmp_path / "t.csv"))
    if found.error is None and not any('"' in text for text in texts):
        assert [same(text or "") for text in found.value["Description"]] == [same(text.strip()) for text in texts]


# Options

NUMBERS = st.floats(allow_nan=True, allow_infinity=True) | st.integers(-5, 5) | st.sampled_from([0.0, 1.0, 0.5, -0.0])
ANYTHING = NUMBERS | st.text(max_size=5) | st.none() | st.lists(st.floats(0, 1), max_size=2)


def is_share(value):
    is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
    return is_number and math.isfinite(value) and 0 <= value <= 1


@few
@given(ANYTHING)
def test_a_share_is_taken_only_within_range(value):
    found = answer(lambda: TextAwareAugmentation(flip_probability=value), TypeError)
    assert (found.error is None) == is_share(value)


@few
@given(value=ANYTHING)
def test_a_threshold_is_taken_only_within_range(reader, processor, value):
    found = answer(lambda: predict_masks(reader, processor, [], threshold=value, description=None), TypeError)
    assert (found.error is None) == is_share(value)


@few
@given(value=st.integers(-3, 3) | st.floats(-3, 3) | st.none() | st.text(max_size=3))
def test_a_batch_size_is_taken_only_where_it_counts(reader, processor, value):
    found = answer(lambda: predict_masks(reader, processor, [], batch_size=value, description=None), TypeError)
    is_count = isinstance(value, int) and value >= 1
    assert found.error is None if is_count else found.error is not None or value == int(value) >= 1


@few
@given(NUMBERS, NUMBERS)
def test_a_window_is_taken_only_where_it_has_a_width(centre, width):
    found = answer(lambda: parse_window(f"{centre},{width}"))
    assert (found.error is None) == (math.isfinite(centre) and math.isfinite(width) and width > 0)


@few
@given(st.text(alphabet="0123456789.,-+eE naif", max_size=10))
def test_any_text_is_a_window_or_refused(text):
    found = answer(lambda: parse_window(text))
    assert found.error is not None or (len(found.value) == 2 and found.value[1] > 0)
