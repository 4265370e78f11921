"""A mask is read as displayed, whatever its stored bytes, or is rejected by name."""

import numpy as np
import pytest
from builders import (
    answer,
    bits_tiff,
    drawn,
    faults_of,
    folder,
    labels_of,
    lesion,
    mentions,
    pair,
    read_mask,
    same_order,
    spoken_of,
    tiff_of,
)
from PIL import Image

from tevia_hf.io import read_image


def is_read_or_refused(root, truth, suffix=".png", num_labels=1):
    """Whether the mask of "a" has these labels, for the data set and by its path, or is a fault that names it."""
    of_a = [line for line in faults_of(root, num_labels) if "'a'" in line or f"a{suffix}" in line]
    if of_a:
        return not mentions(of_a, "corrupt")
    by_path = read_mask(root / "masks" / f"a{suffix}", num_labels)
    return np.array_equal(labels_of(root, num_labels=num_labels), truth) and np.array_equal(by_path, truth)


def with_palette(indices, colours):
    image = Image.fromarray(indices.astype(np.uint8))
    image.putpalette([part for colour in colours for part in colour])
    return image


BLACK, WHITE, RED, GREY = (0, 0, 0), (255, 255, 255), (255, 0, 0), (128, 128, 128)

# Palettes


def test_a_palette_that_pillow_makes_of_a_mask_keeps_its_lesion(tmp_path):
    quantized = Image.fromarray(lesion()).quantize(2)
    assert np.array_equal(np.asarray(quantized.convert("L")) > 127, drawn())
    assert is_read_or_refused(pair(tmp_path, quantized), drawn())


@pytest.mark.parametrize("colour", [WHITE, RED, GREY], ids=["white", "red", "grey"])
def test_a_palette_of_two_colours_is_read_by_its_colours(tmp_path, colour):
    first = pair(tmp_path / "first", with_palette(~drawn(), [colour, BLACK]))
    assert is_read_or_refused(first, drawn())
    last = pair(tmp_path / "last", with_palette(drawn(), [BLACK, colour]))
    assert is_read_or_refused(last, drawn())


def test_two_colours_at_any_places_of_a_longer_palette_are_read_by_their_colours(tmp_path):
    colours = [RED, WHITE, GREY, BLACK]
    assert is_read_or_refused(pair(tmp_path, with_palette(np.where(drawn(), 1, 3), colours)), drawn())


def test_a_palette_of_two_equal_colours_shows_no_lesion(tmp_path):
    root = pair(tmp_path, with_palette(drawn(), [BLACK, BLACK]))
    assert is_read_or_refused(root, np.zeros_like(drawn()))


def test_the_indices_of_a_palette_of_classes_are_its_labels(tmp_path):
    classes = np.where(drawn(), 2, 0)
    classes[50:60, 5:20] = 1
    root = pair(tmp_path, with_palette(classes, [BLACK, RED, (0, 128, 0)]))
    assert faults_of(root, num_labels=3) == []
    assert np.array_equal(labels_of(root, num_labels=3), classes)


def test_a_palette_whose_colours_are_transparent_by_halves_is_not_read_as_full(tmp_path):
    image = with_palette(drawn(), [WHITE, WHITE])
    root = pair(tmp_path, lambda path: image.save(path, transparency=bytes([0, 255])))
    assert is_read_or_refused(root, drawn())


def test_an_empty_palette_mask_of_white_first_stays_empty(tmp_path):
    root = pair(tmp_path, with_palette(np.ones_like(drawn()), [WHITE, BLACK]))
    assert is_read_or_refused(root, np.zeros_like(drawn()))


# Alpha


@pytest.mark.parametrize("colour", [WHITE, BLACK, RED], ids=["white", "black", "red"])
def test_a_mask_that_lives_in_its_alpha_channel_is_read_from_it_or_refused(tmp_path, colour):
    pixels = np.zeros((64, 64, 4), np.uint8)
    pixels[..., :3], pixels[..., 3] = colour, lesion()
    assert is_read_or_refused(pair(tmp_path, pixels), drawn())


@pytest.mark.parametrize("grey", [0, 255])
def test_so_is_one_of_grey_and_alpha(tmp_path, grey):
    pixels = np.stack([np.full((64, 64), grey, np.uint8), lesion()], -1)
    assert is_read_or_refused(pair(tmp_path, Image.fromarray(pixels, "LA")), drawn())


def test_an_alpha_channel_that_is_opaque_changes_nothing(tmp_path):
    pixels = np.stack([lesion()] * 3 + [np.full((64, 64), 255, np.uint8)], -1)
    root = pair(tmp_path, pixels)
    assert faults_of(root) == []
    assert np.array_equal(labels_of(root), drawn())


def test_an_alpha_channel_that_says_the_same_as_the_grey_changes_nothing(tmp_path):
    assert is_read_or_refused(pair(tmp_path, Image.fromarray(np.stack([lesion()] * 2, -1), "LA")), drawn())


# TIFF


def test_one_bit_of_white_is_zero_is_no_inverted_mask(tmp_path):
    root = pair(tmp_path, bits_tiff(drawn(), photometric=0), mask_suffix=".tif")
    assert mentions(spoken_of(root), "a.tif") or is_read_or_refused(root, drawn(), ".tif")


def test_one_bit_of_black_is_zero_is_read(tmp_path):
    root = pair(tmp_path, bits_tiff(drawn(), photometric=1), mask_suffix=".tif")
    assert faults_of(root) == []
    assert np.array_equal(labels_of(root), drawn())


@pytest.mark.parametrize("dtype", ["u1", "u2"])
def test_a_white_is_zero_mask_of_labels_is_no_inverted_one(tmp_path, dtype):
    root = pair(tmp_path, tiff_of(lesion(value=1).astype(dtype), photometric=0), mask_suffix=".tif")
    assert mentions(spoken_of(root), "a.tif") or is_read_or_refused(root, drawn(), ".tif")


@pytest.mark.parametrize("dtype", ["i1", "i2", "i4", "u4", "f4"])
def test_labels_of_any_number_type_are_read_or_refused(tmp_path, dtype):
    root = pair(tmp_path, tiff_of(lesion(value=1).astype(dtype)), mask_suffix=".tif")
    assert is_read_or_refused(root, drawn(), ".tif")


def test_a_signed_mask_of_minus_ones_is_not_taken_for_white(tmp_path):
    signed = np.where(drawn(), 0, -1).astype(np.int8)  # -1: nobody looked, or the background; the lesion it is not
    spoken = spoken_of(pair(tmp_path, tiff_of(signed), mask_suffix=".tif"))
    read = answer(lambda: read_mask(tmp_path / "masks" / "a.tif"))
    assert mentions(spoken, "a.tif") or read.error or not (read.value[~drawn()] == 1).any()


@pytest.mark.parametrize("dtype", ["u1", "u2"])
def test_a_white_is_zero_image_is_shown_bright_where_it_is_bright(tmp_path, dtype):
    values = np.linspace(0, np.iinfo(dtype).max, 64 * 64).reshape(64, 64).astype(dtype)
    tiff_of(values, photometric=0)(tmp_path / "a.tif")
    given = answer(lambda: read_image(tmp_path / "a.tif").array)
    assert given.error is not None or same_order(given.value, -values.astype(float))


def test_white_of_16_bits_is_the_lesion_or_refused(tmp_path):
    root = pair(tmp_path, Image.fromarray(lesion().astype(np.uint16) * 257))
    assert is_read_or_refused(root, drawn())


def test_a_file_and_an_array_of_one_mask_have_the_same_labels(tmp_path):
    folder(tmp_path)
    for name, image in {"grey": Image.fromarray(lesion()), "bits": Image.fromarray(drawn())}.items():
        image.save(tmp_path / f"{name}.png")
        assert np.array_equal(read_mask(tmp_path / f"{name}.png"), drawn())
