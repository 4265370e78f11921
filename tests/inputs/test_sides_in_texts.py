"""Image and text are flipped together or not at all."""

import numpy as np
import pytest
from builders import answer, lesion, noise

from tevia_hf.data.augment import TextAwareAugmentation

MIRROR = TextAwareAugmentation(flip_probability=1.0, zoom_probability=0.0)
UPSIDE_DOWN = TextAwareAugmentation(flip_probability=0.0, zoom_probability=0.0, vertical_flip_probability=1.0)


def flipped(text, augmentation=MIRROR):
    """Whether the labels were flipped, and the text afterwards."""
    labels = lesion(value=1)
    result = augmentation({"image": noise(), "labels": labels, "text": text, "id": "a"})
    return not np.array_equal(result["labels"], labels), result["text"]


def is_true_of_both(text, expected, augmentation=MIRROR):
    """Whether image and text are unchanged, or the text now describes the flipped image."""
    given = answer(lambda: flipped(text, augmentation))
    if given.error is not None:
        return True
    moved, words = given.value
    return expected.lower() in words.lower() if moved else words == text


OTHER_LANGUAGES = {
    "Infiltrat im linken Oberlappen.": "rechten",
    "Rundherd rechts basal.": "links",
    "Infiltrado en el lóbulo superior izquierdo.": "derecho",
    "Opacité du lobe supérieur gauche.": "droit",
    "Opacità del lobo superiore sinistro.": "destro",
    "Nódulo no lobo superior esquerdo.": "direito",
    "Infiltraat in de linker bovenkwab.": "rechter",
    "Naciek w lewym płucu.": "prawym",
    "Инфильтрат в левом лёгком.": "правом",
    "左肺上叶感染。": "右",
    "左上肺野に浸潤影。": "右",
    "왼쪽 폐의 침윤.": "오른쪽",
    "Sol akciğerde infiltrasyon.": "sağ",
    "ارتشاح في الرئة اليسرى": "اليمنى",
    "Infiltrat i vänster lunga.": "höger",
    "Infiltrado no pulmao ESQUERDO": "direito",
    "Infiltrat li. Oberlappen": "re.",
}


@pytest.mark.parametrize(("text", "expected"), OTHER_LANGUAGES.items(), ids=range(len(OTHER_LANGUAGES)))
def test_a_side_in_another_language_is_rewritten_or_the_image_stays(text, expected):
    assert is_true_of_both(text, expected)


def test_a_side_written_in_decomposed_letters_is_rewritten_or_the_image_stays():
    import unicodedata

    assert is_true_of_both(unicodedata.normalize("NFD", "Tumor in der rechten Niere, größer."), "linken")
    assert is_true_of_both(unicodedata.normalize("NFD", "Infiltrat i vänster lunga."), "höger")


ENGLISH = {
    "Mass at 2 o'clock in the left breast.": "10 o'clock",
    "Mass at 3 o'clock.": "9 o'clock",
    "Mass at 2 o’clock.": "10 o’clock",
    "Lesion at the 10:30 position.": "1:30",
    "Lesion at 4 oclock": "8 oclock",
    "Left-sided effusion.": "right-sided",
    "Nodule in the LEFT lung": "RIGHT",
    "LLL consolidation.": "RLL",
    "Opacity of the L. upper lobe.": "R. upper",
    "Opacity of the L upper lobe.": "R upper",
    "Effusion (L).": "(R)",
    "L-sided effusion.": "R-sided",
    "L>R effusions.": "R>L",
    "Lt. breast mass.": "Rt. breast",
    "Leftward shift of the midline.": "rightward",
    "Lesion at the lefthand border.": "righthand",
    "Cup in OS is enlarged.": "OD",
    "Oculus sinister: drusen.": "dexter",
    "Levoscoliosis of the spine.": "dextroscoliosis",
}


@pytest.mark.parametrize(("text", "expected"), ENGLISH.items(), ids=range(len(ENGLISH)))
def test_any_wording_of_a_side_is_rewritten_or_the_image_stays(text, expected):
    assert is_true_of_both(text, expected)


@pytest.mark.parametrize("hour", range(1, 13))
def test_a_clock_position_is_mirrored_or_the_image_stays(hour):
    expected = 12 if hour == 12 else 12 - hour
    assert is_true_of_both(f"A mass at {hour} o'clock.", f"at {expected} o'clock")


def test_a_text_of_which_one_side_alone_is_understood_is_not_flipped_by_halves():
    moved, text = flipped("Left lesion at 2 o'clock.")
    assert ("Right" in text and "10 o'clock" in text) if moved else text == "Left lesion at 2 o'clock."
    moved, text = flipped("Left lung: Infiltrat links.")
    assert ("Right" in text and "rechts" in text) if moved else text == "Left lung: Infiltrat links."


KNOWN = {
    "Left lesion.": "Right lesion.",
    "Bilateral pulmonary infection, two infected areas, lower left lung and upper right lung.": None,
    "RUL opacity.": "LUL opacity.",
    "Lesion in the upper left.": "Lesion in the upper right.",
}


@pytest.mark.parametrize(("text", "expected"), KNOWN.items(), ids=range(len(KNOWN)))
def test_texts_that_are_understood_are_still_flipped(text, expected):
    moved, words = flipped(text)
    assert moved and words == (expected or words) and words != text


@pytest.mark.parametrize("text", ["No lesion.", "", None, "One round mass, evenly dense.", "The nuclei lie evenly."])
def test_texts_without_a_side_are_still_flipped(text):
    assert flipped(text) == (True, text)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Infiltrat im linken Oberlappen.", "unterlappen"),
        ("Opacité du lobe supérieur gauche.", "inférieur"),
        ("右上肺野に浸潤影。", "下"),
        ("Mass at 2 o'clock.", "4 o'clock"),
        ("Mass at 6 o'clock.", "12 o'clock"),
        ("Lesion above the diaphragm.", "below"),
        ("Cranial to the hilum.", "caudal"),
        ("Basal opacity.", "apical"),
    ],
)
def test_top_and_bottom_go_together_with_the_text_too(text, expected):
    assert is_true_of_both(text, expected, UPSIDE_DOWN)


def test_augmentation_leaves_what_cannot_be_rewritten_unchanged():
    augmentation = TextAwareAugmentation(flip_probability=0.5, zoom_probability=0.0)
    for epoch in range(8):
        augmentation.set_epoch(epoch)
        assert is_true_of_both("Infiltrat im linken Oberlappen.", "rechten", augmentation)


def test_flipping_twice_gives_the_text_back_or_leaves_it():
    for text in (*OTHER_LANGUAGES, *ENGLISH, *KNOWN):
        moved, once = flipped(text)
        assert once != text or not moved or "ilateral" in text or flipped(once) == (True, text), text


@pytest.mark.parametrize("text", ["Infiltrat im linken Oberlappen.", "左肺上叶感染。"])
def test_a_text_may_be_flipped_with_no_labels_at_hand(text):
    result = MIRROR({"image": noise(), "text": text, "id": "a"})
    assert np.array_equal(result["image"], noise()) == (result["text"] == text)
