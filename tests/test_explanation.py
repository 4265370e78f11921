"""The effect of a text on a mask, against no text, and attention maps at the image's size."""

import re

import numpy as np
import pytest
import torch
from PIL import Image
from tiny import tiny_config, tiny_processor, tiny_reader

from tevia_hf import TeViAForSegmentation, explain_texts, heat_map, text_warnings
from tevia_hf.inference.explain import focus

IMAGE = np.random.default_rng(0).integers(0, 255, (48, 70), np.uint8)


def test_the_effect_is_the_probability_with_the_text_minus_that_without():
    model, processor = tiny_reader(), tiny_processor()
    read, blank, none = explain_texts(model, processor, IMAGE, ["upper left lung", "", None])
    assert read.probability.shape == read.effect.shape == read.attention.shape == IMAGE.shape
    np.testing.assert_allclose(read.effect, read.probability - blank.probability, atol=1e-6)
    assert np.abs(read.effect).max() > 1e-3
    assert not blank.effect.any() and blank.attention is None
    np.testing.assert_array_equal(none.probability, blank.probability)


def test_a_model_without_text_has_no_effect_of_text():
    model = TeViAForSegmentation(tiny_config(use_text=False)).eval()
    (result,) = explain_texts(model, tiny_processor(), IMAGE, ["upper left lung"])
    assert not result.effect.any() and result.attention is None


def test_attention_maps_cover_the_image_without_the_padding_of_the_network():
    """48 x 70 pixels are padded to 64 x 96 in the network."""
    model, processor = tiny_reader(), tiny_processor(do_resize=False)
    result = explain_texts(model, processor, IMAGE, ["upper left lung"])[0].attention
    inputs = processor([IMAGE], ["upper left lung"])
    inputs["pixel_values"] = torch.nn.functional.pad(inputs["pixel_values"], (0, 26, 0, 16))
    with torch.no_grad():
        seen = focus(model(**inputs, output_attentions=True).attentions[-1][0]).unflatten(0, (8, 12))
    whole = torch.nn.functional.interpolate(seen[None, None], (64, 96), mode="bilinear")[0, 0]
    np.testing.assert_allclose(result, whole[:48, :70], atol=1e-5)


def test_of_several_labels_the_probability_is_that_of_any_but_the_background():
    torch.manual_seed(0)
    model, processor = TeViAForSegmentation(tiny_config(num_labels=3)).eval(), tiny_processor(num_labels=3)
    with torch.no_grad():
        outputs = model(**processor([IMAGE], ["upper left lung"]))
    (maps,) = processor.post_process_segmentation(outputs, [IMAGE.shape], return_probabilities=True)
    (result,) = explain_texts(model, processor, IMAGE, ["upper left lung"])
    np.testing.assert_allclose(result.probability, maps[1:].sum(0), atol=1e-5)


def test_maps_of_swapped_axes_are_swapped_back():
    model = tiny_reader()
    (plain,) = explain_texts(model, tiny_processor(), IMAGE.T, ["upper left lung"])
    (swapped,) = explain_texts(model, tiny_processor(swap_axes=True), IMAGE, ["upper left lung"])
    np.testing.assert_allclose(swapped.attention, plain.attention.T, atol=1e-5)
    np.testing.assert_allclose(swapped.probability, plain.probability.T, atol=1e-5)


@pytest.mark.parametrize(
    ("text", "settings", "expected"),
    [
        ("upper left lung", {}, []),
        (None, {}, []),
        ("upper sinister lung", {}, ["1 of its tokens"]),
        ("left lung " * 20, {}, ["42 tokens.*first 24"]),
        ("lung lingua " * 20, {}, ["42 tokens", "20 of its tokens"]),
        (" ", {"text_dropout": 0.0}, ["always had a text"]),
        ("upper left lung", {"text_dropout": 0.0}, []),
        ("upper left lung", {"use_text": False}, ["reads no text"]),
        ("", {"use_text": False}, []),
    ],
)
def test_warnings_name_truncated_unknown_and_missing_text(text, settings, expected):
    notes = text_warnings(TeViAForSegmentation(tiny_config(**settings)), tiny_processor(), text)
    assert len(notes) == len(expected) and all(map(re.search, expected, notes))


def test_a_warning_names_unfamiliar_words():
    model, processor = TeViAForSegmentation(tiny_config()), tiny_processor()
    processor.record_words(["upper left lung"])
    assert text_warnings(model, processor, "lower left lung") == []
    (note,) = text_warnings(model, processor, "lower right and middle lung infection two")
    assert "in no text of the training (lower, right, middle, infection, two)" in note


def test_focus_is_0_for_all_tokens_alike_and_1_for_one():
    shares = torch.zeros(2, 1, 2, 4)
    shares[:, 0, 0] = 0.25
    shares[:, 0, 1, 2] = 1
    torch.testing.assert_close(focus(shares), torch.tensor([[0.0, 1.0]]))
    assert focus(torch.ones(2, 3, 3, 1)).eq(0).all()


def test_a_heat_map_is_orange_where_positive_blue_where_negative_and_the_image_elsewhere():
    values = np.array([[1.0, 0.0, -1.0]])
    image = heat_map(Image.new("L", (3, 1), 100), values)
    assert image.size == (384, 128)
    orange, grey, blue = np.asarray(image)[64, [0, 191, 383]].round(-1).tolist()
    assert orange[0] > orange[2] and blue[2] > blue[0] and grey == [100, 100, 100]
    with pytest.raises(ValueError, match="resize the values"):
        heat_map(IMAGE, values)
