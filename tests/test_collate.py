from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image
from tiny import tiny_processor

from tevia_hf.data.augment import TextAwareAugmentation, augmented
from tevia_hf.data.collate import SegmentationCollator
from tevia_hf.data.decoding import AS_DECODED
from tevia_hf.data.features import undecoded
from tevia_hf.data.synthetic import synthetic_dataset


class FakeProcessor:
    """Stacks images and labels as they are and writes each text as its number of words."""

    image_processor = SimpleNamespace(num_labels=1)

    def __call__(self, images, text=None, segmentation_maps=None, return_tensors=None, **as_decoded):
        assert return_tensors == "pt" and as_decoded == AS_DECODED
        inputs = {"pixel_values": torch.stack([torch.from_numpy(image).float() for image in images])}
        if text is not None:
            inputs["input_ids"] = torch.tensor([[len((one or "").split())] for one in text])
            inputs["attention_mask"] = (inputs["input_ids"] > 0).long()
        if segmentation_maps is not None:
            if any(mask.shape != image.shape for mask, image in zip(segmentation_maps, images, strict=True)):
                raise ValueError("The mask at index 1 has another size.")
            inputs["labels"] = torch.stack([torch.from_numpy(labels).long() for labels in segmentation_maps])
        return inputs


@pytest.fixture(scope="module")
def dataset():
    return synthetic_dataset(count=3)


def test_a_batch_holds_images_texts_and_labels_in_order(dataset):
    batch = SegmentationCollator(FakeProcessor())(list(dataset))
    assert set(batch) == {"pixel_values", "input_ids", "attention_mask", "labels"}
    for index, example in enumerate(dataset):
        np.testing.assert_array_equal(batch["pixel_values"][index], np.asarray(example["image"]))
        np.testing.assert_array_equal(batch["labels"][index], np.asarray(example["mask"]) > 0)
        assert batch["input_ids"][index] == len(example["text"].split())


def test_labels_take_a_byte_per_pixel(dataset):
    labels = SegmentationCollator(tiny_processor())(list(dataset))["labels"]
    assert labels.dtype == torch.uint8 and labels.unique().tolist() == [0, 1]


def test_undecoded_examples_give_the_same_batch(dataset):
    collator = SegmentationCollator(FakeProcessor())
    expected, got = collator(list(dataset)), collator(list(undecoded(dataset)))
    assert all(torch.equal(expected[key], got[key]) for key in expected)


def test_an_example_without_a_text_reaches_the_processor_as_such(dataset):
    batch = SegmentationCollator(FakeProcessor())([dataset[0], {**dataset[1], "text": None}])
    assert batch["attention_mask"].tolist() == [[1], [0]]


def test_examples_without_text_and_mask_give_images_alone(dataset):
    examples = list(dataset.remove_columns(["text", "mask"]))
    assert set(SegmentationCollator(FakeProcessor())(examples)) == {"pixel_values"}


def test_text_features_replace_the_tokens(dataset):
    requested = []

    def text_features(texts):
        requested.extend(texts)
        return torch.ones(len(texts), 4, 2), torch.ones(len(texts), 4)

    collator = SegmentationCollator(FakeProcessor(), text_features=text_features)
    batch = collator([dataset[0], {**dataset[1], "text": None}])
    assert set(batch) == {"pixel_values", "text_features", "attention_mask", "labels"}
    assert batch["text_features"].shape == (2, 4, 2) and batch["attention_mask"].shape == (2, 4)
    assert requested == [dataset[0]["text"], ""]


def test_a_damaged_file_is_named_with_its_example(dataset, tmp_path):
    path = tmp_path / "cut.png"
    dataset[0]["image"].save(path)
    path.write_bytes(path.read_bytes()[:200])
    with pytest.raises(ValueError, match=r"image of example 'seven'.*cut\.png"):
        SegmentationCollator(FakeProcessor())(
            [{**dataset[0], "id": "seven", "image": {"path": str(path), "bytes": None}}]
        )


def test_damaged_bytes_are_named_with_their_example(dataset):
    with pytest.raises(ValueError, match=r"mask of example 'seven'.*corrupt"):
        SegmentationCollator(FakeProcessor())([{**dataset[0], "id": "seven", "mask": {"path": None, "bytes": b"no"}}])


def test_an_error_of_the_processor_names_the_ids_of_the_batch(dataset):
    examples = [dataset[0], {**dataset[1], "mask": Image.new("L", (8, 8))}]
    with pytest.raises(ValueError, match=rf"another size.*{dataset[1]['id']}"):
        SegmentationCollator(FakeProcessor())(examples)


def batch_of(value, num_labels=1, key="mask"):
    image = np.zeros(value.size[::-1] if isinstance(value, Image.Image) else value.shape[:2], np.uint8)
    collator = SegmentationCollator(tiny_processor(num_labels=num_labels))
    example = {"image": image, key: value, "text": "", "id": "a"}
    return sorted(set(collator([example])["labels"].unique().tolist()))


@pytest.mark.parametrize("read", [np.asarray, lambda mask: np.stack([mask] * 3, -1), Image.fromarray])
@pytest.mark.parametrize(
    ("values", "num_labels", "labels"),
    [([0, 255], 1, [0, 1]), ([0, 1], 1, [0, 1]), ([0, 1, 255], 1, [0, 1, 255]), ([0, 255], 2, [0, 255])],
)
def test_a_mask_is_read_by_the_labels_of_the_processor(read, values, num_labels, labels):
    mask = np.repeat(np.array([values], np.uint8), 32, axis=1).repeat(64, axis=0)
    assert batch_of(read(mask), num_labels) == labels


@pytest.mark.parametrize("values", [[0, 255], [255, 255], [1, 255], [0, 1]])
def test_labels_are_not_read_a_second_time(values):
    """255 in a label map without lesions in it stays ignored."""
    labels = np.repeat(np.array([values], np.uint8), 32, axis=1).repeat(64, axis=0)
    assert batch_of(labels, key="labels") == sorted(set(values))


def test_augmented_examples_and_plain_ones_give_the_same_labels(dataset):
    collator, still = SegmentationCollator(tiny_processor()), TextAwareAugmentation(0.0, 0.0)
    plain, varied = collator(list(undecoded(dataset))), collator(list(augmented(dataset, still)))
    assert all(torch.equal(plain[name], varied[name]) for name in plain)
