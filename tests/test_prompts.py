import numpy as np
import pytest
from masks import blobs

from tevia_hf.prompts import (
    BRAIN,
    BREAST,
    LANGUAGES,
    NUCLEI,
    QATA,
    Area,
    ReportLanguage,
    flip_text,
    language_of,
    qata_text,
)
from tevia_hf.prompts.lesions import Lesions

LOWER_RIGHT = Area("right", ("lower",))
UPPER_LEFT = Area("left", ("upper",))


def test_two_sides_give_a_bilateral_text_with_the_left_clause_first():
    expected = "Bilateral pulmonary infection, two infected areas, upper left lung and lower right lung."
    assert qata_text([LOWER_RIGHT, UPPER_LEFT]) == expected


def test_one_side_gives_a_unilateral_text():
    assert qata_text([LOWER_RIGHT]) == "Unilateral pulmonary infection, one infected area, lower right lung."


def test_regions_are_named_from_top_to_bottom_and_three_are_all():
    assert qata_text([Area("left", ("lower", "middle"))]).endswith("two infected areas, middle lower left lung.")
    assert qata_text([Area("left", ("middle", "lower", "upper"))], count=1).endswith(
        "one infected area, all left lung."
    )


def test_the_stated_count_may_differ_from_the_number_of_regions():
    assert "five infected areas" in qata_text([LOWER_RIGHT], count=5)


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
def test_what_the_language_cannot_state_is_refused(areas, count):
    with pytest.raises(ValueError, match="pass|name"):
        qata_text(areas, count)


@pytest.mark.parametrize("count", [None, 3])
@pytest.mark.parametrize("regions", [("upper",), ("middle", "lower"), ("upper", "middle", "lower")])
def test_a_flipped_text_is_the_text_of_the_mirrored_areas(regions, count):
    areas = [Area("left", regions), LOWER_RIGHT]
    mirrored = [Area("right", regions), Area("left", ("lower",))]
    count = count or len(regions) + 1
    assert flip_text(qata_text(areas, count)) == qata_text(mirrored, count)
    assert flip_text(qata_text(areas[:1], count)) == qata_text(mirrored[:1], count)


def test_flip_swaps_left_and_right_words_and_keeps_their_case():
    assert flip_text("Left LEFT right-sided, bright, leftover") == "Right RIGHT left-sided, bright, leftover"


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
    assert flip_text(flip_text(text)) == text
    assert (flip_text(text) == text) == (
        not {"left", "right"} & set(text.lower().replace(";", "").replace(".", "").split())
    )


def follow(text: str, before: np.ndarray, after: np.ndarray) -> str:
    return language_of(text).follow(text, before, after)


def mask_of(drawing: str) -> np.ndarray:
    """A mask drawn with # and other characters."""
    return np.array([[character == "#" for character in line] for line in drawing.split()])


@pytest.mark.parametrize("name", LANGUAGES)
@pytest.mark.parametrize("seed", range(25))
def test_a_described_mask_is_read_back_as_it_was_observed(name, seed):
    language, mask = LANGUAGES[name], blobs(seed)
    described = language.describe(mask, finding="benign")
    read = language.read(described)
    assert {**read, "finding": ""} == {**language.observe(mask), "finding": ""}
    assert read.get("finding", "benign") == "benign"
    assert language.disagreements(described, language.observe(mask)) == {}
    assert language_of(described) is language


@pytest.mark.parametrize("name", LANGUAGES)
@pytest.mark.parametrize("seed", range(25))
def test_the_flipped_text_describes_the_mirrored_mask(name, seed):
    language, mask = LANGUAGES[name], blobs(seed)
    assert flip_text(language.describe(mask)) == language.describe(mask[:, ::-1])
    assert language.describe(mask, patient_sides=True) == language.describe(mask[:, ::-1])
    if name != "qata":  # lungs have no plane of symmetry from top to bottom
        assert flip_text(language.describe(mask), "vertical") == language.describe(mask[::-1])


def test_left_is_the_left_of_the_image_unless_patient_sides_are_set():
    mask = np.zeros((40, 40), bool)
    mask[30:34, 5:9] = True
    assert QATA.describe(mask) == "Unilateral pulmonary infection, one infected area, lower left lung."
    assert "lower right lung" in QATA.describe(mask, patient_sides=True)


def test_lesions_that_meet_at_a_corner_are_one():
    assert Lesions(mask_of("##... ..#.. ...#. .....")).count == 1
    assert Lesions(mask_of("##... .#... ...#. .....")).count == 2


def test_specks_are_no_lesions_unless_there_is_nothing_else():
    mask = np.zeros((300, 300), bool)
    mask[0, 0] = mask[290, 290] = True
    assert BREAST.observe(mask)["count_word"] == "two"
    mask[100:110, 100:110] = True
    assert BREAST.observe(mask) == {
        "count_word": "one", "size": "small", "shape": "rectangular", "s": "", "place": "center",
    }  # fmt: skip
    mask[200, 200:209] = True  # nine of 90,000 pixels are a lesion
    assert BREAST.observe(mask)["count_word"] == "two"


def test_ignored_pixels_are_no_lesion_and_labels_are():
    assert Lesions(np.array([[255, 255, 0, 2], [0, 0, 0, 0]])).mask.sum() == 1


def test_a_lesion_across_the_midline_names_both_sides_and_a_sliver_does_not():
    mask = np.zeros((50, 50), bool)
    mask[30:34, 15:35] = True
    assert QATA.observe(mask)["laterality"] == "bilateral"
    mask[:, 27:] = False
    assert QATA.observe(mask)["lungs"] == "lower left lung"


@pytest.mark.parametrize(
    ("drawing", "shape"),
    [
        ("#......... ##........ ###....... ####...... #####..... ######.... #######... ########..", "triangular"),
        ("########## ########## ########## ##########", "rectangular"),
        (".....###### ..#########. .#########.. ######.....", "oval"),
        ("..####.. .######. ######## ######## ######## ######## .######. ..####..", "round"),
        ("########## #......... #......... #......... ##########", "irregular"),
        ("#", "rectangular"),
    ],
)
def test_shapes_are_named_as_they_look(drawing, shape):
    mask = mask_of(" ".join(line.ljust(13, ".") for line in drawing.split()))
    assert BREAST.observe(mask)["shape"] == shape
    assert BREAST.observe(np.pad(mask, ((3, 40), (9, 2))).T)["shape"] == shape


def test_sizes_are_shares_of_the_image():
    mask = np.zeros((20, 20), bool)
    for pixels, size in ((7, "small"), (8, "medium"), (39, "medium"), (40, "large")):
        mask.flat[:pixels] = True
        assert BREAST.observe(mask)["size"] == size


def test_every_place_that_holds_a_lesion_is_named_in_reading_order():
    mask = np.zeros((30, 30), bool)
    mask[15, 25] = mask[2, 2] = mask[15, 15] = mask[3, 5] = True
    assert BRAIN.describe(mask, "glioma") == (
        "MRI displaying a glioma tumor in the upper left and the center and the right region."
    )
    assert BRAIN.describe(mask) == "MRI displaying a tumor in the upper left and the center and the right region."


@pytest.mark.parametrize(
    ("covered", "stated"),
    [
        ((), "are evenly distributed"),
        (((0, 0),), "density in the upper left is high"),
        (((1, 0), (1, 1)), "density in the lower is high"),
        (((0, 1), (1, 1)), "density in the right is high"),
        (((0, 1), (1, 0)), "are irregularly distributed"),
    ],
)
def test_nuclei_are_dense_where_they_cover_most(covered, stated):
    mask = np.zeros((41, 41), bool)
    mask[::2] = True
    for row, column in covered:
        mask[21 * row : 21 * row + 20, 21 * column : 21 * column + 20] = True
    assert NUCLEI.describe(mask) == f"The nuclei {stated}."


def test_few_nuclei_are_sparse():
    assert NUCLEI.describe(np.eye(20, dtype=bool)) == "The nuclei are sparsely distributed."


@pytest.mark.parametrize("language", LANGUAGES.values())
def test_an_empty_mask_has_a_text_of_its_own_and_contradicts_all_others(language):
    empty = np.zeros((9, 9), np.uint8)
    assert language.describe(empty, "malignant") == language.empty
    assert language.read(language.empty) == {}
    assert language.disagreements(language.describe(blobs(0)), {})
    assert language.disagreements(language.empty, language.observe(blobs(0)))


def test_published_texts_are_read_in_any_case_and_spelling_of_the_whole_lung():
    stated = QATA.read(
        "bilateral pulmonary infection, six infected areas, upper middle lower left lung and all right lung."
    )
    assert stated == {
        "laterality": "bilateral", "count_word": "six", "s": "s", "lungs": "all left lung and all right lung",
    }  # fmt: skip
    assert QATA.read("The nuclei are evenly distributed.") is None
    assert (
        NUCLEI.read("The nuclei density in the upper right is high.")["density"] == "density in the upper right is high"
    )


def test_a_false_word_is_found_with_what_is_seen():
    mask = np.zeros((40, 40), bool)
    mask[30:34, 5:9] = True
    described = "Unilateral pulmonary infection, two infected areas, lower right lung."
    assert QATA.disagreements(described, QATA.observe(mask)) == {
        "count_word": ("two", "one"), "s": ("s", ""), "lungs": ("lower right lung", "lower left lung"),
    }  # fmt: skip
    assert QATA.disagreements("A film.", QATA.observe(mask)) is None


def test_a_template_of_ones_own_is_written_and_read_back():
    language = ReportLanguage(
        "{Count_word} {finding}{s}, {percent} % of the picture, {count} in all, again {count}.", "None."
    )
    described = language.describe(mask_of("#.#.. ....."), finding="cyst")
    assert described == "Two cysts, 20.0 % of the picture, 2 in all, again 2."
    assert language.disagreements(described, language.observe(mask_of("#.#.. ....."))) == {}
    assert language.disagreements(described, language.observe(mask_of("#.... .....")))["count"] == ("2", "1")


@pytest.mark.parametrize("template", ["{colour}", "{}", "{0}", "{count"])
def test_a_template_with_a_field_that_does_not_exist_is_refused(template):
    with pytest.raises(ValueError, match="use count, count_word|expected '}'"):
        ReportLanguage(template, "None.")


def test_replaced_fields_leave_the_rest_as_it_was_written():
    text = "bilateral pulmonary infection,  two infected areas, all left lung and all right lung."
    stated = {"laterality": "unilateral", "count_word": "one", "s": "", "lungs": "all left lung"}
    assert QATA.replace(text, stated) == "unilateral pulmonary infection,  one infected area, all left lung."
    assert QATA.replace(text.capitalize(), {"laterality": "unilateral"}).startswith("Unilateral")


@pytest.mark.parametrize("seed", range(25))
@pytest.mark.parametrize("name", LANGUAGES)
def test_a_text_follows_its_mask_to_any_other(name, seed):
    language, before, after = LANGUAGES[name], blobs(seed), blobs(seed + 1000)
    followed = follow(language.describe(before, "benign"), before, after)
    assert followed == language.describe(after, "benign")
    assert follow(language.describe(before, "benign"), before, np.zeros_like(before)) == language.empty


def test_claims_of_a_person_that_the_change_leaves_alone_are_kept():
    before, after = np.zeros((40, 40), bool), np.zeros((40, 40), bool)
    before[30:34, 5:9] = after[30:34, 5:9] = after[20:22, 5:9] = True
    text = "bilateral pulmonary infection, one infected area, upper right lung."
    assert follow(text, before, after) == "bilateral pulmonary infection, two infected areas, upper right lung."


def test_clauses_of_free_text_that_may_no_longer_be_true_are_dropped():
    before, after = np.zeros((40, 40), bool), np.zeros((40, 40), bool)
    before[30:34, 5:9] = after[30:34, 25:29] = True
    text = "A film of an adult; one opacity, at the left base. Blurred edges."
    assert follow(text, before, after) == "A film of an adult; one opacity, Blurred edges."
    assert follow(text, before, before) == text
    assert follow("One lesion on the left", before, after) == ""
    assert follow(text, before, ~after & False) == "A film of an adult; Blurred edges."


def square_at(row, column, side=4):
    mask = np.zeros((40, 40), bool)
    mask[row : row + side, column : column + side] = True
    return mask


def test_a_person_who_reads_regions_otherwise_is_not_corrected_by_a_small_move():
    before, after = square_at(15, 5), square_at(12, 5)
    measured, person = "lower left lung", "upper left lung"
    text = "unilateral pulmonary infection, one infected area, {}."
    assert follow(text.format(measured), before, after) == text.format("middle lower left lung")
    assert follow(text.format(person), before, after) == text.format(person)


@pytest.mark.parametrize(
    ("text", "left"),
    [
        ("Chest film, 1 opacity, blurred.", "Chest film, blurred."),
        ("Chest film, both opacities are dense.", "Chest film."),
        ("Chest film, a pair of opacities, blurred.", "Chest film, blurred."),
        ("T2 film of 3 mm slices, 2.5 cm apart.", "T2 film of 3 mm slices, 2.5 cm apart."),
    ],
)
def test_free_text_loses_its_numbers_when_a_lesion_leaves_the_image(text, left):
    assert follow(text, square_at(5, 5) | square_at(30, 30), square_at(5, 5)) == left


@pytest.mark.parametrize(
    ("clause", "after"),
    [
        ("a small one", square_at(3, 3, 20)),
        ("2.0 percent of it", square_at(3, 3, 20)),
        ("2.0% of it", square_at(3, 3, 20)),
    ],
)
def test_free_text_loses_sizes_and_shares_that_a_zoom_changed(clause, after):
    before = square_at(3, 3)
    assert follow(f"One lesion, {clause}, blurred.", before, after) == "One lesion, blurred."
    assert follow(f"One lesion, {clause}, blurred.", before, before) == f"One lesion, {clause}, blurred."


@pytest.mark.parametrize("around", ["{}", " {}", "{}\n", "  {} "])
def test_blanks_around_a_text_do_not_hide_its_form(around):
    text = around.format("unilateral pulmonary infection, one infected area, lower left lung.")
    followed = follow(text, square_at(30, 5), square_at(30, 30))
    assert followed == text.replace("left", "right")


@pytest.mark.parametrize(
    ("text", "mirrored"),
    [
        ("middle lower left lung and upper right lung", "upper middle left lung and lower right lung"),
        ("all left lung", "all left lung"),
        ("Upper middle area, TOP of the film", "Middle lower area, BOTTOM of the film"),
        ("superior to the upper left and the center", "inferior to the center and the lower left"),
    ],
)
def test_a_vertical_flip_keeps_lists_in_their_order(text, mirrored):
    assert flip_text(text, "vertical") == mirrored
    assert flip_text(mirrored, "vertical") == text


@pytest.mark.parametrize(
    ("text", "mirrored", "axis"),
    [
        ("2 foci, LUL/RLL", "2 foci, RUL/LLL", "horizontal"),
        ("2 foci, LUL/RLL", "2 foci, LLL/RUL", "vertical"),
        ("LUZ/LMZ & RLZ: 3 foci", "RUZ/RMZ & LLZ: 3 foci", "horizontal"),
        ("LUZ/LMZ & RLZ: 3 foci", "LLZ/LMZ & RUZ: 3 foci", "vertical"),
        ("RML: one opacity", "LML: one opacity", "horizontal"),
        ("entire lt. lung + rt. lung lower", "entire rt. lung + lt. lung lower", "horizontal"),
        ("all of L lung, r lung, mid zone", "all of R lung, l lung, mid zone", "horizontal"),
    ],
)
def test_a_flip_knows_the_abbreviations_of_paraphrases(text, mirrored, axis):
    assert flip_text(text, axis) == mirrored and flip_text(mirrored, axis) == text


@pytest.mark.parametrize(
    ("text", "opposite"),
    [
        ("bilateral pulmonary infection, two infected areas, all left lung and all right lung.", QATA.empty),
        ("One small oval-shaped benign tumor at the left in the breast ultrasound image.", BREAST.empty),
        ("An opacity at the left base.", "There is no lesion in this image."),
        ("One lesion, no effusion.", "There is no lesion in this image."),
        ("Normal film without infiltrates.", "There is a lesion in this image."),
        ("No nodule, mass or consolidation.", "There is a lesion in this image."),
        ("Unremarkable breast", "There is a lesion in this image."),
        ("No effusion, one nodule.", "There is no lesion in this image."),
        ("No effusion but an opacity at the left.", "There is no lesion in this image."),
        ("Normal heart. Right lower lobe opacity.", "There is no lesion in this image."),
        ("An oval mass without calcification.", "There is no lesion in this image."),
        ("Heart size is normal. Right lower lobe opacity.", "There is no lesion in this image."),
        (BRAIN.empty, "There is a lesion in this image."),
    ],
)
def test_a_contradiction_turns_presence_round(text, opposite):
    assert language_of(text).contradict(text) == opposite
