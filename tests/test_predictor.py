"""Each image is decoded, preprocessed and encoded once, for any number of texts."""

from collections import Counter

import numpy as np
import pytest
import torch
from PIL import Image
from tiny import tiny_config, tiny_processor, tiny_reader

from tevia_hf import Predictor, TeViAForSegmentation, evaluate_model, load_segmentation_dataset, predict
from tevia_hf.data.features import undecoded
from tevia_hf.inference import predictor as asking
from tevia_hf.inference.predict import masks_of_each, predict_masks

TEXTS = ["upper left lung", "", "two infected areas, lower right lung"]


@pytest.fixture(scope="module")
def model():
    return tiny_reader()


@pytest.fixture(scope="module")
def dataset():
    return load_segmentation_dataset("synthetic", split="test", size=48, count=5)


@pytest.fixture
def counted(model, monkeypatch):
    """Counts by operation: images decoded, preprocessed, encoded; texts encoded."""
    counts = Counter()
    processor = tiny_processor()

    def counting(owner, name, amount=lambda *args, **kwargs: 1):
        usual = getattr(owner, name)

        def called(*args, **kwargs):
            counts[name] += amount(*args, **kwargs)
            return usual(*args, **kwargs)

        monkeypatch.setattr(owner, name, called)

    counting(asking, "load_image")
    counting(type(processor.image_processor), "preprocess")
    counting(TeViAForSegmentation, "encode_image", lambda model, pixels: len(pixels))
    counting(model.model, "encode_text", lambda input_ids, attention_mask: len(input_ids))
    return counts, processor


def test_files_are_decoded_preprocessed_and_encoded_once(model, counted, tmp_path):
    counts, processor = counted
    paths = [tmp_path / f"{index}.png" for index in range(3)]
    for path in paths:
        Image.fromarray(np.random.default_rng(0).integers(0, 255, (40, 56), np.uint8)).save(path)
    predict(model, processor, paths, [TEXTS[0]] * 3, tmp_path / "out", batch_size=2)
    assert counts == {"load_image": 3, "preprocess": 3, "encode_image": 3, "encode_text": 1}


def test_an_evaluation_encodes_an_image_once_for_all_conditions(model, counted, dataset):
    counts, processor = counted
    conditions = ["none", "flipped", "contradictory", "absent"]
    report = evaluate_model(model, processor, dataset, conditions, batch_size=2)
    assert set(report.scores) == {"correct", "shuffled", *conditions}
    assert counts["load_image"] == counts["encode_image"] == len(dataset)
    requested = set(report.images["text"]) - {""}
    assert counts["encode_text"] == len(requested)


def test_masks_of_conditions_are_those_of_each_text_alone(model, dataset):
    examples, texts = undecoded(dataset), [dataset["text"], [""] * 5, [TEXTS[0]] * 5]
    requests = zip(examples, zip(*texts, strict=True), strict=True)
    predictor = Predictor(model, tiny_processor(), batch_size=2)
    together = [masks for _, masks in masks_of_each(predictor, requests, total=5)]
    for place, of_condition in enumerate(texts):
        alone = [{**example, "text": text} for example, text in zip(examples, of_condition, strict=True)]
        for masks, expected in zip(together, predict_masks(model, tiny_processor(), alone), strict=True):
            assert np.mean(masks[place] != expected) < 0.002  # rounding on the threshold
    assert any((own != none).any() for own, none, _ in together)


def test_a_batch_is_predicted_once_for_equal_texts_and_whole_for_others(model, dataset, monkeypatch):
    """Whole, so that a mask is the same whatever else is asked for."""
    own = [TEXTS[0], "", TEXTS[2], TEXTS[2], ""]
    changed = ["", *own[1:]]
    decoded, usual = [], model.model.forward

    def forward(pixel_values, input_ids, attention_mask, text_features, *args):
        if text_features is not None:  # as it is in the pass that fuses the model
            decoded.append(len(text_features))
        return usual(pixel_values, input_ids, attention_mask, text_features, *args)

    monkeypatch.setattr(model.model, "forward", forward)
    predictor = Predictor(model, tiny_processor())
    requests = zip(undecoded(dataset), zip(own, changed, own, strict=True), strict=True)
    together = [prediction.masks for prediction in predictor.predictions(requests)]
    assert decoded == [5, 5] and all(first is third for first, _, third in together)
    alone = predictor.predictions(zip(undecoded(dataset), zip(changed, strict=True), strict=True))
    assert all(np.array_equal(masks[1], prediction.masks[0]) for masks, prediction in zip(together, alone, strict=True))


def test_several_texts_are_combined_with_one_image(model):
    predictor = Predictor(model, tiny_processor())
    encoded = predictor.encode([predictor.prepare(np.random.default_rng(1).random((40, 56)))])
    logits = predictor.ask(encoded, TEXTS).logits
    assert logits.shape[0] == 3
    for place, text in enumerate(TEXTS):
        torch.testing.assert_close(predictor.ask(encoded, [text]).logits[0], logits[place], atol=1e-5, rtol=1e-4)


def test_images_of_several_sizes_are_predicted_at_their_own(model):
    images = [np.random.default_rng(seed).random(shape) for seed, shape in enumerate([(40, 56), (64, 33), (40, 56)])]
    predictor = Predictor(model, tiny_processor(do_resize=False))
    examples = [{"image": image} for image in images]
    predictions = list(predictor.predictions((example, TEXTS[:2]) for example in examples))
    assert [[mask.shape for mask in each.masks] for each in predictions] == [[image.shape] * 2 for image in images]
    alone = next(predictor.predictions([(examples[2], TEXTS[:2])]))
    for one, other in zip(predictions[2].masks, alone.masks, strict=True):
        assert np.mean(one != other) < 0.002


def test_an_invalid_image_affects_its_own_prediction_only(model, tmp_path):
    broken = tmp_path / "broken.png"
    broken.write_bytes(b"no image")
    examples = [{"image": np.zeros((40, 40))}, {"image": broken}, {"image": None}, {"image": np.full((40, 40), np.nan)}]
    good, *bad = Predictor(model, tiny_processor()).predictions((example, [""]) for example in examples)
    assert good.error is None and good.masks[0].shape == (40, 40)
    assert [each.masks for each in bad] == [[]] * 3
    assert ["broken.png" in str(bad[0].error), "missing" in str(bad[1].error), "NaN" in str(bad[2].error)] == [True] * 3


def test_a_model_without_text_predicts_the_same_mask_for_every_text(dataset):
    model = TeViAForSegmentation(tiny_config(use_text=False))
    requests = [(example, (example["text"], "")) for example in undecoded(dataset)]
    masks = [masks for _, masks in masks_of_each(Predictor(model, tiny_processor()), requests, total=5)]
    assert len(masks) == 5 and all(np.array_equal(own, none) for own, none in masks)
    assert model.training


def test_examples_are_read_once_and_one_without_an_image_raises_an_error(model, dataset):
    reads = Counter()

    class Lazy:
        def __len__(self):
            return len(dataset)

        def __iter__(self):
            for index, example in enumerate(undecoded(dataset)):
                reads[index] += 1
                yield example

    assert len(predict_masks(model, tiny_processor(), Lazy(), batch_size=2)) == 5 and set(reads.values()) == {1}
    assert list(Predictor(model, tiny_processor()).predictions([])) == []
    with pytest.raises(KeyError, match="image"):
        list(Predictor(model, tiny_processor()).predictions([({"text": ""}, [""])]))


@pytest.mark.parametrize("options", [{"threshold": 50}, {"threshold": float("nan")}, {"batch_size": 0}])
def test_an_option_out_of_range_is_refused(model, options):
    with pytest.raises(ValueError, match=next(iter(options))):
        Predictor(model, tiny_processor(), **options)
