import pytest

from tevia_hf.prompts import Area, flip_sentence, qata_sentence

LOWER_RIGHT = Area("right", ("lower",))
UPPER_LEFT = Area("left", ("upper",))


def test_two_sides_give_a_bilateral_sentence_with_the_left_clause_first():
    expected = "Bilateral pulmonary infection, two infected areas, upper left lung and lower right lung."
    assert qata_sentence([LOWER_RIGHT, UPPER_LEFT]) == expected


def test_one_side_gives_a_unilateral_sentence():
    assert qata_sentence([LOWER_RIGHT]) == "Unilateral pulmonary infection, one infected area, lower right lung."


def test_regions_are_named_from_top_to_bottom_and_three_are_all():
    assert qata_sentence([Area("left", ("lower", "middle"))]).endswith("two infected areas, middle lower left lung.")
    assert qata_sentence([Area("left", ("middle", "lower", "upper"))], count=1).endswith(
        "one infected area, all left lung."
    )


def test_the_stated_count_may_differ_from_the_number_of_regions():
    assert "five infected areas" in qata_sentence([LOWER_RIGHT], count=5)


@pytest.mark.parametrize(
    ("areas", "count"),
    [
        ([], None),
        ([LOWER_RIGHT, LOWER_RIGHT], None),
        ([Area("top", ("lower",))], None),
        ([Area("left", ())], None),
        ([Area("left", ("lower", "lower"))], None),
        ([Area("left", ("basal",))], None),
        ([LOWER_RIGHT], 0),
        ([LOWER_RIGHT], 13),
    ],
)
def test_what_the_grammar_cannot_say_is_refused(areas, count):
    with pytest.raises(ValueError, match="pass|name"):
        qata_sentence(areas, count)


@pytest.mark.parametrize("count", [None, 3])
@pytest.mark.parametrize("regions", [("upper",), ("middle", "lower"), ("upper", "middle", "lower")])
def test_a_flipped_sentence_is_the_sentence_of_the_mirrored_areas(regions, count):
    areas = [Area("left", regions), LOWER_RIGHT]
    mirrored = [Area("right", regions), Area("left", ("lower",))]
    count = count or len(regions) + 1
    assert flip_sentence(qata_sentence(areas, count)) == qata_sentence(mirrored, count)
    assert flip_sentence(qata_sentence(areas[:1], count)) == qata_sentence(mirrored[:1], count)


def test_flip_swaps_left_and_right_words_and_keeps_their_case():
    assert flip_sentence("Left LEFT right-sided, bright, leftover") == "Right RIGHT left-sided, bright, leftover"


@pytest.mark.parametrize(
    "text",
    [
        "Bilateral pulmonary infection, two infected areas, upper left lung and lower right lung.",
        "bilateral pulmonary infection, two infected areas, all right lung and middle lower left lung.",
        "bilateral pulmonary infection, two infected areas, all lung and all right lung.",
        "One tumor at the Right; the LEFT is clear.",
        "lower left lung and upper left lung, right hilum",
        "The nuclei are evenly distributed.",
        "",
    ],
)
def test_flipping_twice_gives_the_original(text):
    assert flip_sentence(flip_sentence(text)) == text
    assert (flip_sentence(text) == text) == (
        not {"left", "right"} & set(text.lower().replace(";", "").replace(".", "").split())
    )
