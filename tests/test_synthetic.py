import numpy as np
import pytest
from scipy import ndimage

from tevia_hf.data import synthetic
from tevia_hf.data.features import FEATURES
from tevia_hf.data.synthetic import synthetic_dataset
from tevia_hf.metrics import segmentation_metrics

COUNT = 60
NUMBERS = {"one": 1, "two": 2}


def arrays(dataset, column):
    return [np.asarray(pixels) for pixels in dataset[column]]


@pytest.fixture(scope="module")
def dataset():
    return synthetic_dataset(count=COUNT)


@pytest.fixture(scope="module")
def masks(dataset):
    return arrays(dataset, "mask")


@pytest.fixture(scope="module")
def counterparts():
    return synthetic_dataset(count=COUNT, counterpart=True)


@pytest.fixture
def drawn(monkeypatch):
    """The lesions of all images, four per image, targets or not."""
    lesions = []
    draw = synthetic._sample_lesion
    monkeypatch.setattr(synthetic, "_sample_lesion", lambda *given: lesions.append(draw(*given)) or lesions[-1])
    synthetic_dataset(count=COUNT)
    return lesions


def cells(mask):
    """The cells of the mask's components, by their centres."""
    labelled, number = ndimage.label(mask)
    centres = np.array(ndimage.center_of_mass(mask, labelled, range(1, number + 1))) / mask.shape[0]
    rows = np.digitize(centres[:, 0], [0.365, 0.585])
    return sorted(
        (("left", "right")[int(x > 0.5)], ("upper", "middle", "lower")[row])
        for row, x in zip(rows, centres[:, 1], strict=True)
    )


def named_cells(text):
    clauses = text.rstrip(".").split(", ")[-1].split(" and ")
    return sorted((clause.split()[-2], region) for clause in clauses for region in clause.split()[:-2])


def test_examples_have_the_common_columns_and_the_set_size():
    dataset = synthetic_dataset(count=2, size=96)
    assert dataset.features == FEATURES
    assert dataset[0]["image"].size == dataset[0]["mask"].size == (96, 96)
    assert dataset[0]["image"].mode == "L"


def test_the_text_names_the_cells_and_the_number_of_the_masked_lesions(dataset, masks):
    for text, mask in zip(dataset["text"], masks, strict=True):
        assert cells(mask) == named_cells(text)
        assert ndimage.label(mask)[1] == NUMBERS[text.split(", ")[1].split()[0]]


def test_masks_hold_0_and_255_only(masks):
    assert {*np.unique(masks)} == {0, 255}


def test_counterparts_are_the_same_images_with_as_many_other_target_lesions(dataset, masks, counterparts):
    assert dataset["id"][:] == counterparts["id"][:]
    np.testing.assert_array_equal(arrays(dataset, "image"), arrays(counterparts, "image"))
    for mask, other, text in zip(masks, arrays(counterparts, "mask"), counterparts["text"], strict=True):
        assert not np.any(mask & other)
        assert ndimage.label(mask)[1] == ndimage.label(other)[1]
        assert cells(other) == named_cells(text)


def test_unmeant_lesions_look_like_the_meant_ones(dataset, masks, counterparts):
    images = arrays(dataset, "image")
    meant, other = (
        np.mean([image[mask > 0].mean() for image, mask in zip(images, drawn, strict=True)])
        for drawn in (masks, arrays(counterparts, "mask"))
    )
    assert abs(meant - other) < 5


def test_lesions_stand_out_from_the_lung_around_them(dataset, masks):
    for image, mask in zip(arrays(dataset, "image"), masks, strict=True):
        around = ndimage.binary_dilation(mask, iterations=3) & ~ndimage.binary_dilation(mask)
        assert image[mask > 0].mean() > image[around].mean() + 30


def test_lesions_are_at_least_five_pixels_across_at_64_pixels(masks):
    assert all(ndimage.label(ndimage.binary_erosion(mask, np.ones((3, 3)), iterations=1))[1] for mask in masks)
    assert min(mask.any(axis).sum() / ndimage.label(mask)[1] for mask in masks for axis in (0, 1)) >= 2.5
    assert min((mask > 0).sum() / ndimage.label(mask)[1] for mask in masks) >= 20


def test_marking_all_lesions_without_reading_is_wrong(masks, drawn):
    groups = [drawn[first : first + 4] for first in range(0, len(drawn), 4)]
    everything = [
        np.max([synthetic._coverage(lesion, *synthetic._grid(64), 64) for lesion in lesions], axis=0) >= 0.5
        for lesions in groups
    ]
    assert all(ndimage.label(marked)[1] == 4 for marked in everything)
    assert 0.4 < segmentation_metrics(everything, [mask > 0 for mask in masks])["dice"] < 0.57


def test_the_text_alone_does_not_give_the_mask(drawn):
    for cell in {lesion.cell for lesion in drawn}:
        x, y = np.transpose([(lesion.x, lesion.y) for lesion in drawn if lesion.cell == cell])
        radius = np.mean([lesion.radius for lesion in drawn])
        assert np.ptp(x) > 1.5 * radius
        assert np.ptp(y) > 1.5 * radius


def test_equal_seeds_give_equal_examples_and_a_longer_set_begins_with_the_shorter(dataset):
    again = synthetic_dataset(count=5)
    np.testing.assert_array_equal(arrays(again, "image"), arrays(dataset.select(range(5)), "image"))
    assert again["text"][:] == dataset["text"][:5]


def test_no_image_is_in_two_splits_or_two_seeds():
    sets = [synthetic_dataset(split, count=20, seed=seed) for split in ("train", "val", "test") for seed in (0, 1)]
    groups = [pixels.tobytes() for dataset in sets for pixels in arrays(dataset, "image")]
    assert len(set(groups)) == len(groups)
    assert len({name for dataset in sets for name in dataset["id"]}) == len(groups)


@pytest.mark.parametrize(
    ("options", "message"),
    [({"split": "dev"}, "train, val, test"), ({"size": 16}, "pass 32 or more"), ({"count": 0}, "no rows")],
)
def test_options_that_make_no_sense_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        synthetic_dataset(**options)
