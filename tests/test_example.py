"""Examples name their files, which are opened when they are read; several masks are one label map then."""

import pickle
from dataclasses import replace
from itertools import permutations

import datasets
import numpy as np
import pytest
from layouts import busi
from PIL import Image
from tiny import tiny_processor

from tevia_hf.data.collate import SegmentationCollator
from tevia_hf.data.decoding import decode_labels, join_labels
from tevia_hf.data.example import Example, ImageRef, parse_files, spell_files
from tevia_hf.data.features import undecoded
from tevia_hf.data.listing import Listing
from tevia_hf.data.registry import list_examples
from tevia_hf.data.survey import reference_labels
from tevia_hf.io import parse_address

SPELLINGS = [("a.png",), ("d e/scan.nii.gz#coronal:40@-600,1500",), ("a_mask.png", "a_mask_1.png", "b.nii#3")]


@pytest.mark.parametrize("spellings", SPELLINGS)
def test_files_are_spelled_and_read_back(spellings):
    files = tuple(map(parse_address, spellings))
    assert parse_files(spell_files(files)) == files
    assert spell_files(files[0]) == spellings[0]


def saved(folder, *masks):
    """A listing of one example with these masks, each a file of its own."""
    paths = [folder / f"a_mask_{index}.png" for index in range(len(masks))]
    for path, mask in zip(paths, masks, strict=True):
        Image.fromarray(np.array([mask], np.uint8).repeat(4, axis=0)).save(path)
    Image.new("L", (len(masks[0]), 4)).save(folder / "a.png")
    files = tuple(map(parse_address, paths))
    return Listing("here", [Example("a", "patient", parse_address(folder / "a.png"), files, "A text.", "train")])


def as_it_is(dataset, folder):
    return dataset


def pickled(dataset, folder):
    return pickle.loads(pickle.dumps(dataset))


def saved_to_disk(dataset, folder):
    """What `map` makes of a mask holds the pixels themselves."""
    dataset.map(lambda example: {"mask": example["mask"]}).save_to_disk(folder)
    return datasets.load_from_disk(folder)


@pytest.mark.parametrize("keep", [as_it_is, pickled, saved_to_disk])
def test_a_data_set_of_several_masks_is_as_plain_as_any(keep, tmp_path):
    dataset = keep(saved(tmp_path, [0, 255, 0], [0, 0, 255]).dataset("train"), tmp_path / "kept")
    assert dataset[0]["text"] == "A text." and dataset[0]["group"] == "patient"
    assert decode_labels(undecoded(dataset)[0], 1).tolist() == [[0, 1, 1]] * 4
    assert np.asarray(dataset[0]["mask"]).tolist() == [[0, 1, 1]] * 4


def test_every_reader_joins_them_alike(tmp_path):
    listing = saved(tmp_path, [0, 255, 0, 0], [1, 0, 255, 0])
    expected = [[1, 255, 255, 0]] * 4  # beside label 1 in one of them, 255 is ignored in all
    example, processor = undecoded(listing.dataset("train"))[0], tiny_processor(4)
    assert decode_labels(listing.examples[0].row(), 1).tolist() == expected
    assert reference_labels(example, processor.image_processor).tolist() == expected
    assert SegmentationCollator(processor)([example])["labels"][0].tolist() == expected


def test_true_labels_are_not_read_a_second_time():
    """Of a label map without a lesion, 255 is ignored and no white lesion."""
    example = {"image": np.zeros((4, 2), np.uint8), "labels": np.array([[0, 255]] * 4, np.uint8), "id": "a"}
    assert decode_labels(example, 1).tolist() == [[0, 255]] * 4


@pytest.mark.parametrize(
    ("maps", "joined"),
    [
        (([0, 1, 0], [0, 0, 1]), [0, 1, 1]),
        (([0, 1, 255], [0, 0, 1]), [0, 1, 1]),
        (([0, 255, 255], [1, 0, 255]), [1, 255, 255]),
        (([0, 2, 0], [1, 2, 0], [0, 0, 3]), [1, 2, 3]),
    ],
)
def test_masks_are_joined_in_any_order(maps, joined):
    for order in permutations(maps):
        assert join_labels([np.array([labels], np.uint8) for labels in order]).tolist() == [joined]


def test_masks_that_contradict_each_other_are_refused():
    with pytest.raises(ValueError, match="the same pixels with different labels"):
        join_labels([np.array([[1, 0]]), np.array([[2, 0]])])
    with pytest.raises(ValueError, match="1 x 2, 2 x 1 pixels.*Resize them to the image"):
        join_labels([np.array([[1, 0]]), np.array([[1], [0]])])


def test_a_listing_opens_no_file(tmp_path):
    busi(tmp_path)
    expected = list_examples("breast", tmp_path).examples
    for path in tmp_path.rglob("*.png"):
        path.write_bytes(b"")
    listing = list_examples("breast", tmp_path)
    assert listing.examples == expected and not listing.problems
    assert {len(example.masks) for example in expected} == {1, 3}


def test_a_window_is_that_of_every_image_that_has_none(tmp_path):
    names = ["a.dcm", "b.nii#3", "c.nii#@1,2", "d.png"]
    examples = [Example(name, name, parse_address(name), (parse_address(name),)) for name in names]
    listing = Listing("here", [*examples, Example("e", "e")]).with_window((40, 400))
    images = [example.image and str(example.image) for example in listing.examples]
    assert images == ["a.dcm#@40,400", "b.nii#3@40,400", "c.nii#@1,2", "d.png", None]
    assert [example.masks for example in listing.examples] == [
        example.masks for example in [*examples, Example("e", "e")]
    ]


def test_an_example_is_a_value(tmp_path):
    (example,) = saved(tmp_path, [0, 1]).examples
    assert replace(example) == example and hash(replace(example)) == hash(example)
    assert example.row()["image"] == ImageRef(tmp_path / "a.png")
