"""The processor of exported models gives the pixels, tokens and probabilities of TeViAProcessor."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from tiny import tiny_processor

from tevia_hf import TeViAImageProcessor
from tevia_hf.inference.exported_processing import ExportedImageProcessor, ExportedProcessor
from tevia_hf.inference.identity import pixel_settings
from tevia_hf.logits_tevia import NonFiniteLogitsError

RNG = np.random.default_rng(0)
IMAGES = {
    "grey": RNG.integers(0, 256, (50, 70), np.uint8),
    "colour with alpha": RNG.integers(0, 256, (33, 70, 4), np.uint8),
    "16 bit": RNG.integers(300, 4000, (50, 40), np.uint16),
    "constant": np.full((40, 50, 3), 7, np.uint8),
}
SETTINGS = {
    "default": {},
    "published": {"do_antialias": False, "swap_axes": True, "resample": 2},
    "fixed": {"normalization": "fixed", "image_mean": [0.1, 0.2, 0.3], "image_std": 0.5, "size": (30, 44)},
    "as it is": {"do_resize": False, "do_normalize": False},
    "nearest": {"resample": 0},
}


def both(**settings):
    usual = TeViAImageProcessor(**{"size": {"height": 32, "width": 48}, **settings})
    return usual, ExportedImageProcessor(pixel_settings(usual))


@pytest.mark.parametrize("image", IMAGES)
@pytest.mark.parametrize("settings", SETTINGS)
def test_pixels_are_those_of_the_image_processor(settings, image):
    usual, exported = both(**SETTINGS[settings])
    expected = usual(IMAGES[image], input_data_format="channels_last")["pixel_values"][0].numpy()
    pixels = exported(IMAGES[image])
    # A constant channel divided by `FLAT_STD` is rounding alone.
    np.testing.assert_allclose(pixels, expected, atol=5e-3 if image == "constant" else 2e-5)
    assert pixels.dtype == np.float32 and pixels.flags.c_contiguous
    assert pixel_settings(exported) == pixel_settings(usual)


@pytest.mark.parametrize("num_labels", [1, 3])
@pytest.mark.parametrize("swap_axes", [False, True])
def test_probabilities_are_those_of_the_image_processor(num_labels, swap_axes):
    usual, exported = both(num_labels=num_labels, swap_axes=swap_axes)
    logits = 40 * np.random.default_rng(1).standard_normal((2, num_labels, 8, 12)).astype(np.float32)
    logits[0, 0, 0, :2] = (300, -300)
    sizes = [(50, 70), (5, 7)]
    outputs = SimpleNamespace(logits=torch.from_numpy(logits))
    expected = usual.post_process_segmentation(outputs, sizes, return_probabilities=True)
    for own, other in zip(exported.probabilities(logits, sizes), expected, strict=True):
        np.testing.assert_allclose(own, other.numpy(), atol=1e-6)


def test_images_and_logits_that_are_not_finite_are_refused():
    _, exported = both()
    with pytest.raises(ValueError, match="NaN or infinite pixels"):
        exported(np.full((40, 40), np.nan))
    logits = np.zeros((3, 1, 4, 4), np.float32)
    logits[1, 0, 2, 2] = np.inf
    with pytest.raises(NonFiniteLogitsError) as error:
        exported.probabilities(logits, [(4, 4)] * 3)
    assert error.value.indices == [1]


@pytest.fixture(scope="module")
def processors(tmp_path_factory):
    usual = tiny_processor()
    usual.record_words(["one infected area in the left lung"] * 2)
    usual.save_pretrained(folder := tmp_path_factory.mktemp("processor"))
    settings, limit = pixel_settings(usual.image_processor), usual.tokenizer.model_max_length
    return usual, ExportedProcessor(settings, folder / "tokenizer.json", limit, usual.known_words)


@pytest.mark.parametrize("text", ["one infected area", "LEFT lung, upper", "left " * 60, "x"])
@pytest.mark.filterwarnings("ignore")
def test_tokens_are_those_of_the_processor(processors, text):
    usual, exported = processors
    expected = usual(text=text)
    for own, name in zip(exported.tokens(text), ("input_ids", "attention_mask"), strict=True):
        np.testing.assert_array_equal(own, expected[name].numpy())


def test_long_and_unfamiliar_texts_cause_the_warnings_of_the_processor(processors):
    for text in ("infected area " * 40, "quick brown foxes"):
        messages = []
        for tokenize in (lambda text: processors[0](text=text), processors[1].tokens):
            with pytest.warns(UserWarning, match="truncated|Most words") as caught:
                tokenize(text)
            messages.append([str(warning.message) for warning in caught])
        assert messages[0] == messages[1]
