import numpy as np
import pytest
import torch
from PIL import Image

from tevia_hf.data.collate import SegmentationCollator
from tevia_hf.data.features import undecoded
from tevia_hf.data.synthetic import synthetic_dataset


class FakeProcessor:
    """Stacks pictures and masks as they are and writes each sentence as its number of words."""

    def __call__(self, images, text=None, segmentation_maps=None, return_tensors=None):
        assert return_tensors == "pt"
        inputs = {"pixel_values": torch.stack([torch.from_numpy(image).float() for image in images])}
        if text is not None:
            inputs["input_ids"] = torch.tensor([[len((sentence or "").split())] for sentence in text])
            inputs["attention_mask"] = (inputs["input_ids"] > 0).long()
        if segmentation_maps is not None:
            if any(mask.shape != image.shape for mask, image in zip(segmentation_maps, images, strict=True)):
                raise ValueError("The mask at index 1 has another size.")
            inputs["labels"] = torch.stack([torch.from_numpy(mask > 0).long() for mask in segmentation_maps])
        return inputs


@pytest.fixture(scope="module")
def dataset():
    return synthetic_dataset(count=3)


def test_a_batch_holds_pictures_sentences_and_labels_in_order(dataset):
    batch = SegmentationCollator(FakeProcessor())(list(dataset))
    assert set(batch) == {"pixel_values", "input_ids", "attention_mask", "labels"}
    for index, example in enumerate(dataset):
        np.testing.assert_array_equal(batch["pixel_values"][index], np.asarray(example["image"]))
        np.testing.assert_array_equal(batch["labels"][index], np.asarray(example["mask"]) > 0)
        assert batch["input_ids"][index] == len(example["text"].split())


def test_undecoded_examples_give_the_same_batch(dataset):
    collator = SegmentationCollator(FakeProcessor())
    expected, got = collator(list(dataset)), collator(list(undecoded(dataset)))
    assert all(torch.equal(expected[key], got[key]) for key in expected)


def test_an_example_without_a_sentence_reaches_the_processor_as_such(dataset):
    batch = SegmentationCollator(FakeProcessor())([dataset[0], {**dataset[1], "text": None}])
    assert batch["attention_mask"].tolist() == [[1], [0]]


def test_examples_without_text_and_mask_give_pictures_alone(dataset):
    examples = list(dataset.remove_columns(["text", "mask"]))
    assert set(SegmentationCollator(FakeProcessor())(examples)) == {"pixel_values"}


def test_sentence_features_take_the_place_of_the_tokens(dataset):
    asked = []

    def text_features(sentences):
        asked.extend(sentences)
        return torch.ones(len(sentences), 4, 2), torch.ones(len(sentences), 4)

    collator = SegmentationCollator(FakeProcessor(), text_features=text_features)
    batch = collator([dataset[0], {**dataset[1], "text": None}])
    assert set(batch) == {"pixel_values", "text_features", "attention_mask", "labels"}
    assert batch["text_features"].shape == (2, 4, 2) and batch["attention_mask"].shape == (2, 4)
    assert asked == [dataset[0]["text"], ""]


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


def test_what_the_processor_refuses_is_told_with_the_ids_of_the_batch(dataset):
    examples = [dataset[0], {**dataset[1], "mask": Image.new("L", (8, 8))}]
    with pytest.raises(ValueError, match=rf"another size.*{dataset[1]['id']}"):
        SegmentationCollator(FakeProcessor())(examples)
