import numpy as np
import pytest
from masks import blobs
from PIL import Image

from tevia_hf.data.augment import PARAPHRASES, TextAwareAugmentation, augmented
from tevia_hf.data.features import dataset_from_rows
from tevia_hf.data.synthetic import synthetic_dataset
from tevia_hf.prompts import BREAST, LANGUAGES, QATA, flip_text, stated_facts

TEXT = "Unilateral pulmonary infection, one infected area, lower left lung."
FLIPPED_TEXT = "Unilateral pulmonary infection, one infected area, lower right lung."
ALWAYS_FLIP = TextAwareAugmentation(flip_probability=1.0, zoom_probability=0.0)
ALWAYS_ZOOM = TextAwareAugmentation(flip_probability=0.0, zoom_probability=1.0)


def example(dtype=np.uint8, channels=None, name="a"):
    """A bright square, which the labels mark, at the lower left of an image."""
    image = np.zeros((40, 60), dtype)
    image[24:32, 12:20] = 200 if np.issubdtype(dtype, np.integer) else 1
    return {
        "image": image if channels is None else np.stack([image] * channels, -1),
        "labels": (image > 0).astype(np.uint8),
        "text": TEXT,
        "id": name,
    }


def test_a_flip_mirrors_image_and_mask_and_rewrites_the_text():
    flipped = ALWAYS_FLIP(example())
    np.testing.assert_array_equal(flipped["image"], example()["image"][:, ::-1])
    np.testing.assert_array_equal(flipped["labels"], example()["labels"][:, ::-1])
    assert (flipped["text"], flipped["id"]) == (FLIPPED_TEXT, "a")


def test_with_probability_zero_nothing_changes():
    unchanged = TextAwareAugmentation(0.0, 0.0)(example())
    np.testing.assert_array_equal(unchanged["image"], example()["image"])
    np.testing.assert_array_equal(unchanged["labels"], example()["labels"])
    assert unchanged["text"] == TEXT


def test_zoom_moves_image_and_mask_together():
    for name in "abcdefgh":
        zoomed = ALWAYS_ZOOM(example(name=name))
        sharp = np.abs(zoomed["image"].astype(int) - 100) > 60
        np.testing.assert_array_equal((zoomed["image"] > 100)[sharp], (zoomed["labels"] > 0)[sharp])
    assert not np.array_equal(zoomed["labels"], example()["labels"])
    assert zoomed["text"] == TEXT


def test_zoom_adds_no_new_values_to_a_mask():
    assert {*np.unique(ALWAYS_ZOOM(example())["labels"])} == {0, 1}


def test_zoom_stays_within_its_limits():
    areas = [np.mean(ALWAYS_ZOOM(example(name=str(name)))["labels"] > 0) for name in range(40)]
    ratios = np.sqrt(np.array(areas) / np.mean(example()["labels"] > 0))
    assert 0.85 < ratios.min() < 1.0 < 1.1 < ratios.max() < 1.3


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32, np.bool_])
@pytest.mark.parametrize("channels", [None, 1, 3])
def test_shapes_and_types_are_kept(dtype, channels):
    given = example(dtype, channels)
    result = TextAwareAugmentation(1.0, 1.0)(given)
    assert (result["image"].shape, result["image"].dtype) == (given["image"].shape, given["image"].dtype)
    assert (result["labels"].shape, result["labels"].dtype) == (given["labels"].shape, given["labels"].dtype)


def test_the_given_example_is_left_as_it_is():
    given = example()
    TextAwareAugmentation(1.0, 1.0)(given)
    np.testing.assert_array_equal(given["image"], example()["image"])
    assert given["text"] == TEXT


def test_examples_without_text_or_mask_are_flipped_too():
    assert ALWAYS_FLIP({**example(), "text": None})["text"] is None
    flipped = ALWAYS_FLIP({"image": example()["image"], "id": "a"})
    np.testing.assert_array_equal(flipped["image"], example()["image"][:, ::-1])


def draws(augmentation, names=range(64)):
    return [augmentation(example(name=str(name)))["text"] == FLIPPED_TEXT for name in names]


def test_flips_have_the_set_rate():
    assert 0.3 < np.mean(draws(TextAwareAugmentation())) < 0.7
    assert 0.05 < np.mean(draws(TextAwareAugmentation(flip_probability=0.2))) < 0.35


def test_augmentation_depends_on_seed_epoch_and_id_but_not_on_the_order():
    augmentation = TextAwareAugmentation()
    first = draws(augmentation)
    assert draws(augmentation, reversed(range(64)))[::-1] == first
    assert draws(TextAwareAugmentation(seed=1)) != first
    augmentation.set_epoch(1)
    second = draws(augmentation)
    assert second != first
    resumed = TextAwareAugmentation()
    resumed.set_epoch(1)
    assert draws(resumed) == second


def test_an_augmented_data_set_varies_image_mask_and_text_together_on_every_access():
    dataset = synthetic_dataset(count=2)
    flip = TextAwareAugmentation(flip_probability=1.0, zoom_probability=0.0)
    for given, varied in zip(dataset, augmented(dataset, flip), strict=True):
        np.testing.assert_array_equal(varied["image"], np.asarray(given["image"])[:, ::-1])
        np.testing.assert_array_equal(varied["labels"], np.asarray(given["mask"])[:, ::-1] // 255)
        assert varied["text"] == flip_text(given["text"]) != given["text"]
        assert varied["id"] == given["id"]


def test_a_data_set_without_masks_is_not_varied():
    with pytest.raises(ValueError, match="no 'mask'"):
        augmented(synthetic_dataset(count=2).remove_columns("mask"), TextAwareAugmentation())


# Texts whose side nobody can rewrite


GERMAN = "Infiltrat im linken Oberlappen."


@pytest.mark.parametrize("text", [GERMAN, "左肺上叶感染。", "Lesion at (12, 30).", "UOQ", "2, 4 and 7 o'clock"])
def test_an_image_is_not_flipped_where_its_text_may_hold_an_unknown_side(text):
    both_ways = TextAwareAugmentation(1.0, 0.0, vertical_flip_probability=1.0)
    kept = both_ways({**example(), "text": text})
    np.testing.assert_array_equal(kept["image"], example()["image"])
    np.testing.assert_array_equal(kept["labels"], example()["labels"])
    assert kept["text"] == text


def test_an_image_is_flipped_along_the_axis_on_which_its_text_can_follow():
    flipped = TextAwareAugmentation(1.0, 0.0, vertical_flip_probability=1.0)({**example(), "text": "Basal, left."})
    np.testing.assert_array_equal(flipped["image"], example()["image"][:, ::-1])
    assert flipped["text"] == "Basal, right."


def test_a_clock_position_follows_the_flip_of_its_image():
    given = {**example(), "text": "Mass at 2 o'clock in the left breast."}
    assert ALWAYS_FLIP(given)["text"] == "Mass at 10 o'clock in the right breast."


def test_other_augmentations_are_the_same_for_a_text_with_an_unknown_side():
    vary = TextAwareAugmentation(0.5, 0.0, intensity_probability=1.0, noise_probability=1.0)
    is_flipped = []
    for name in map(str, range(20)):
        known, unknown = (vary({**example(name=name), "text": text}) for text in ("A mass, left.", GERMAN))
        is_flipped.append(known["text"] == "A mass, right.")
        if not is_flipped[-1]:
            np.testing.assert_array_equal(known["image"], unknown["image"])
    assert 0 < sum(is_flipped) < 20


def test_a_text_of_an_unknown_side_stays_true_of_a_zoomed_or_turned_mask():
    vary, moved = TextAwareAugmentation(0.0, 1.0, rotation_probability=1.0), set()
    for seed in range(60):
        mask = blobs(seed, (96, 128))
        given = {"image": mask * np.uint8(200), "labels": mask * np.uint8(1), "text": GERMAN, "id": str(seed)}
        varied = vary(given)
        old, new = (BREAST.observe(part["labels"] == 1) for part in (given, varied))
        assert [old.get(name) for name in ("count_word", "place")] == [
            new.get(name) for name in ("count_word", "place")
        ]
        assert varied["text"] == GERMAN
        moved.add(not np.array_equal(varied["labels"], given["labels"]))
    assert moved == {False, True}


def test_an_augmentation_counts_the_texts_that_keep_their_image_from_its_flips():
    texts = [GERMAN, "A mass, left.", GERMAN, "", None, "A basal mass."]
    assert "2 of 4 texts may name a side (left, right) that a flip cannot swap, e.g. 'Infiltrat im linken" in (
        TextAwareAugmentation(0.5).unknown_sides_warning(texts)
    )
    assert "3 of 4 texts" in TextAwareAugmentation(0.5, vertical_flip_probability=0.5).unknown_sides_warning(texts)
    assert TextAwareAugmentation(0.0).unknown_sides_warning(texts) is None
    assert TextAwareAugmentation(0.5).unknown_sides_warning(["A mass, left."]) is None


# Image, mask and text together


VARIED = TextAwareAugmentation(0.5, 0.5, 0.3, 0.5, 0.5, 0.5)


@pytest.mark.parametrize("patient_sides", [False, True])
@pytest.mark.parametrize("name", LANGUAGES)
def test_the_text_of_the_augmented_mask_is_the_augmented_text(name, patient_sides):
    language, changed = LANGUAGES[name], 0
    vary = TextAwareAugmentation(0.5, 0.5, 0.3, 0.5, 0.5, 0.5, patient_sides=patient_sides)
    for seed in range(120):
        mask = blobs(seed, (96, 128))
        text = language.describe(mask, "benign", patient_sides)
        varied = vary({"image": mask * np.uint8(200), "labels": mask * np.uint8(1), "text": text, "id": str(seed)})
        assert varied["text"] == language.describe(varied["labels"] == 1, "benign", patient_sides)
        changed += varied["text"] != text
    assert changed > 8


def test_image_and_mask_move_together_in_every_variation():
    for seed in range(60):
        mask = blobs(seed, (96, 128))
        vary = TextAwareAugmentation(0.5, 0.5, 0.5, 1.0)
        varied = vary({"image": mask * np.uint8(200), "labels": mask * np.uint8(1), "text": None, "id": str(seed)})
        sharp = np.abs(varied["image"].astype(int) - 100) > 70
        assert np.mean((varied["image"] > 100)[sharp] == (varied["labels"] > 0)[sharp]) > 0.999
        assert sharp.mean() > 0.9


def test_a_vertical_flip_mirrors_from_top_to_bottom_and_rewrites_the_text():
    flipped = TextAwareAugmentation(0.0, 0.0, vertical_flip_probability=1.0)(
        {**example(), "text": "One tumor at the lower left; the rest is dense."}
    )
    np.testing.assert_array_equal(flipped["image"], example()["image"][::-1])
    np.testing.assert_array_equal(flipped["labels"], example()["labels"][::-1])
    assert flipped["text"] == "One tumor at the upper left; the rest is dense."


def test_rotation_turns_by_up_to_its_limit_and_adds_no_mask_values():
    bar = np.zeros((101, 101), np.uint8)
    bar[49:52, 10:91] = 1
    angles = []
    for name in range(30):
        turned = TextAwareAugmentation(0.0, 0.0, rotation_probability=1.0)(
            {"image": bar, "labels": bar, "text": "", "id": str(name)}
        )["labels"]
        assert {*np.unique(turned)} <= {0, 1}
        rows, columns = np.nonzero(turned)
        angles.append(np.rad2deg(np.arctan(np.polyfit(columns, rows, 1)[0])))
    assert -16 < min(angles) < -8 and 8 < max(angles) < 16


def test_a_zoom_that_would_lose_all_lesions_is_not_carried_out():
    mask = np.zeros((60, 60), np.uint8)
    mask[0:2, 0:2] = 1
    mask[55:, 55:] = 255  # ignored
    for name in range(40):
        zoomed = ALWAYS_ZOOM({"image": mask, "labels": mask, "text": "One lesion.", "id": str(name)})
        assert (zoomed["labels"] == 1).any() and zoomed["text"] == "One lesion."


def test_lesions_that_leave_the_image_leave_the_text():
    mask = np.zeros((100, 100), np.uint8)
    mask[0:3, 0:3] = mask[60:80, 60:80] = 1
    text = QATA.describe(mask > 0)
    assert "two infected areas" in text and "left" in text
    texts = {ALWAYS_ZOOM({"image": mask, "labels": mask, "text": text, "id": str(name)})["text"] for name in range(40)}
    assert "Unilateral pulmonary infection, one infected area, lower right lung." in texts and text in texts


def test_contrast_and_noise_change_the_image_alone_and_stay_in_its_range():
    given = {**example(np.uint16), "image": np.arange(2400, dtype=np.uint16).reshape(40, 60) * 20}
    exposed = TextAwareAugmentation(0.0, 0.0, intensity_probability=1.0, noise_probability=1.0)(given)
    assert not np.array_equal(exposed["image"], given["image"])
    assert given["image"].min() <= exposed["image"].min() and exposed["image"].max() <= given["image"].max()
    assert np.corrcoef(exposed["image"].ravel(), given["image"].ravel())[0, 1] > 0.9
    np.testing.assert_array_equal(exposed["labels"], given["labels"])
    assert exposed["text"] == TEXT


def test_a_paraphrase_states_the_text_of_the_varied_mask_and_changes_nothing_else():
    plain = TextAwareAugmentation(flip_probability=0.5, zoom_probability=0.5, rotation_probability=0.5)
    worded = TextAwareAugmentation(0.5, 0.5, rotation_probability=0.5, paraphrase_probability=1.0)
    own, written = ([vary(example(name=str(name))) for name in range(60)] for vary in (plain, worded))
    for one, other in zip(own, written, strict=True):
        np.testing.assert_array_equal(one["image"], other["image"])
        facts = {"laterality": "unilateral", **stated_facts(other["text"])}
        assert facts == stated_facts(one["text"])
    assert 20 < len({other["text"] for other in written}) <= 2 * PARAPHRASES
    assert [worded(example(name="0"))["text"] for _ in range(2)] == [written[0]["text"]] * 2


def test_paraphrases_have_the_set_rate_and_free_text_stays():
    sometimes = TextAwareAugmentation(0.0, 0.0, paraphrase_probability=0.5)
    assert 30 < sum(sometimes(example(name=str(name)))["text"] != TEXT for name in range(100)) < 70
    for text in ("A nodule.", "", None):
        assert sometimes({**example(), "text": text})["text"] == text


def test_a_mask_that_nobody_decoded_is_refused():
    given = example()
    with pytest.raises(ValueError, match=r"decoded before.*decode_example\(example, num_labels\)"):
        ALWAYS_FLIP({"image": given["image"], "mask": given["labels"] * 255, "text": TEXT, "id": "a"})


def stored(mask, path):
    Image.fromarray(mask).save(path)
    rows = [{"id": "a", "image": Image.new("L", mask.shape[1::-1]), "mask": path, "text": TEXT}]
    return dataset_from_rows(rows)


@pytest.mark.parametrize(
    ("values", "num_labels", "labels"),
    [([0, 255], 1, [0, 1]), ([0, 1, 255], 1, [0, 1, 255]), ([0, 255], 3, [0, 255]), ([0, 2, 255], 3, [0, 2, 255])],
)
def test_masks_are_labels_before_they_are_varied(values, num_labels, labels, tmp_path):
    mask = np.repeat(np.array([values], np.uint8), 8, axis=0).repeat(8, axis=1)
    for channels in (mask, np.stack([mask] * 3, -1)):
        varied = augmented(stored(channels, tmp_path / "a.png"), ALWAYS_FLIP, num_labels)[0]
        assert "mask" not in varied and varied["labels"].dtype == np.uint8
        assert varied["labels"][0, ::-8].tolist() == labels


def test_a_mask_of_no_labels_is_refused_by_its_file(tmp_path):
    mask = np.full((8, 8), 100, np.uint8)
    with pytest.raises(ValueError, match=r"mask of example 'a': .*a\.png holds 1 values that are not labels \(100\)"):
        augmented(stored(mask, tmp_path / "a.png"), ALWAYS_FLIP)[0]
