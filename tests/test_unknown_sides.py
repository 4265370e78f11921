"""Texts with a side that a flip cannot rewrite are detected, and texts of English reports are not."""

import numpy as np
import pytest
from masks import blobs

from tevia_hf.data.synthetic import synthetic_dataset
from tevia_hf.prompts import (
    FREE_TEXT,
    LANGUAGES,
    flip_text,
    language_of,
    may_hold_unknown_side,
    unknown_sides_warning,
)
from tevia_hf.prompts.words import MIRRORED

FOREIGN = {
    "German": ["Infiltrat im linken Oberlappen.", "Verschattung links", "Herd rechtsbasal", "Linksseitiger Erguss"],
    "Spanish": ["Infiltrado en el lóbulo superior izquierdo.", "tumor derecho"],
    "French": ["Opacité du lobe supérieur gauche.", "lobe droit", "Infection pulmonaire bilaterale"],
    "Italian": ["opacita polmonare destra", "lobo sinistro"],
    "Portuguese": ["lesão no pulmão direito", "tumor esquerdo"],
    "Dutch": ["infiltraat in de linker long", "rechterlong"],
    "Polish": ["guz w lewym plucu", "prawe pluco"],
    "Swedish": ["infiltrat i vänster lunga", "tumor hoger"],
    "Finnish": ["kasvain vasen", "oikea"],
    "Turkish": ["sol akciger", "sağ akciğer"],
    "Indonesian": ["nodul kiri"],
    "Welsh": ["Haroedd yn yr ysgyfaint mawr"],
    "Russian": ["опухоль слева"],
    "Chinese": ["左肺上叶感染。", "CT: 右肺"],
    "Japanese": ["右下葉の浸潤影", "ひだり"],
    "Korean": ["폐 좌측", "왼쪽"],
    "Arabic": ["كتلة يمين", "يسار"],
}
WORDINGS = [
    "L > R effusion", "R/L", "Mass in the R breast", "OD", "leftLung", "lungRight", "left1", "rigth lung", "lhs mass",
    "dextroscoliosis", "Sinister", "Dx: lobe", "LV myocardium", "UOQ", "contralateral lesion", "on the heart side",
    "BI-RADS 4 - 2 o'clock",
    "northeast quadrant", "mass ←", "clockwise", "Mass at 2:00", "Mass at 10 h", "2, 4 and 7 o'clock", "13 o'clock",
    "bbox 1 2 3 4", "Mass at (12, 30)", "x = 12", "at 45 degrees", "le\u00adft lung", "Ｌｅｆｔ lung",
]  # fmt: skip
ENGLISH = [
    "", "polyp", "melanoma", "kidney tumor", "RUL consolidation", "left_lung", "Left-sided effusion", "leftward shift",
    "leftmost mass", "RUQ mass", "Mass at 2 o'clock in the left breast.", "hyperdense subdural hematoma frontal",
    "β-catenin positive cells", "5 µm nuclei", "Ménière's disease on the left", "r/o pneumonia", "the bright spot",
    "lateral chest X-ray", "Gaucher disease", "Lewy bodies", "37 °C", "One small lesion at the upper left.",
    "Left upper lobe nodule, 3 x 4 mm", "No pneumothorax.", "COVID-19 pneumonia", "Follow-up in 3 months", "cleft lip",
    "Destruction of the right rib", "A linked lesion, directed to the left", "Ground glass opacity",
]  # fmt: skip


@pytest.mark.parametrize("axis", MIRRORED)
@pytest.mark.parametrize("text", [text for texts in FOREIGN.values() for text in texts])
def test_a_side_in_another_language_is_unknown(text, axis):
    assert may_hold_unknown_side(text, axis)


@pytest.mark.parametrize("text", WORDINGS)
def test_a_wording_that_no_flip_rewrites_is_unknown(text):
    assert may_hold_unknown_side(text)


@pytest.mark.parametrize("text", ENGLISH)
def test_an_english_text_of_no_side_or_of_known_ones_is_understood(text):
    assert not may_hold_unknown_side(text) and not may_hold_unknown_side(flip_text(text))


@pytest.mark.parametrize(
    "text", ["apical mass", "Mass above the hilum", "suprahilar", "anterior wall", "lowr lobe", "↑"]
)
def test_a_height_is_unknown_to_the_vertical_flip_alone(text):
    assert may_hold_unknown_side(text, "vertical") and not may_hold_unknown_side(text)


def test_a_text_without_words_has_no_unknown_side():
    assert not any(map(may_hold_unknown_side, (None, "", " ", "12", "?")))


@pytest.mark.parametrize("axis", MIRRORED)
def test_texts_of_the_languages_and_what_is_made_of_them_are_understood(axis):
    texts = {language.describe(blobs(seed), "benign") for language in LANGUAGES.values() for seed in range(12)}
    texts |= {language.empty for language in LANGUAGES.values()} | {row["text"] for row in synthetic_dataset(count=20)}
    generated = set()
    for text, language in ((text, language_of(text)) for text in texts):
        generated |= {language.underspecify(text, 0), language.overspecify(text, 0)}
        generated |= {
            language.paraphrase(text, seed, table) for seed in range(6) for table in ("training", "evaluation")
        }
    assert [text for text in texts | generated if may_hold_unknown_side(text, axis)] == []


@pytest.mark.parametrize(
    ("text", "sideways", "upside_down"),
    [
        ("Mass at 2 o'clock.", "Mass at 10 o'clock.", "Mass at 4 o'clock."),
        ("12 o'clock", "12 o'clock", "6 o'clock"),
        ("Six o’clock", "Six o’clock", "Twelve o’clock"),
        ("2:30 o'clock", "9:30 o'clock", "3:30 o'clock"),
        ("10-11 o'clock", "1-2 o'clock", "7-8 o'clock"),
        ("between 1 and 2 o'clock", "between 10 and 11 o'clock", "between 4 and 5 o'clock"),
        ("3-o'clock position, 4 mm", "9-o'clock position, 4 mm", "3-o'clock position, 4 mm"),
        ("breast, 1 o'clock; 7 o'clock", "breast, 11 o'clock; 5 o'clock", "breast, 5 o'clock; 11 o'clock"),
        ("2, 4 and 7 o'clock", "2, 4 and 7 o'clock", "2, 4 and 7 o'clock"),
    ],
)
def test_clock_positions_follow_a_flip_or_stay_and_are_unknown(text, sideways, upside_down):
    for axis, flipped in (("horizontal", sideways), ("vertical", upside_down)):
        assert flip_text(text, axis) == flipped and flip_text(flipped, axis) == text
        assert may_hold_unknown_side(text, axis) == text.startswith("2, 4")


@pytest.mark.parametrize(
    ("text", "flipped"),
    [
        ("left_lung", "right_lung"),
        ("RUQ mass", "LUQ mass"),
        ("Leftward shift", "Rightward shift"),
        ("leftLung", "leftLung"),
    ],
)
def test_compounds_of_a_side_follow_a_flip(text, flipped):
    assert flip_text(text) == flipped and flip_text(flipped) == text


def square(row, column):
    mask = np.zeros((60, 60), bool)
    mask[row : row + 10, column : column + 10] = True
    return mask


@pytest.mark.parametrize(
    ("after", "is_followed"),
    [
        (square(2, 3), True),
        (square(2, 45), False),
        (square(45, 2), False),
        (square(2, 2) | square(45, 2), False),
        (square(2, 2) & (np.arange(60) < 6), False),  # much smaller
        (np.zeros((60, 60), bool), False),
    ],
)
def test_a_text_that_is_not_understood_follows_no_mask_of_other_facts(after, is_followed):
    assert FREE_TEXT.can_follow("Tumor links.", square(2, 2), after) == is_followed
    assert FREE_TEXT.can_follow("A tumor on the left.", square(2, 2), after)


def test_unknown_sides_are_counted_with_one_of_the_texts():
    texts = ["A mass, left.", "Tumor links.", "Tumor links.", None, " ", "L > R"]
    warning = unknown_sides_warning(texts)
    assert warning.startswith(
        "3 of 4 texts may name a side (left, right) that a flip cannot swap, e.g. 'Tumor links.': their images"
    )
    assert unknown_sides_warning(["A mass, left.", None]) is None is unknown_sides_warning([])
