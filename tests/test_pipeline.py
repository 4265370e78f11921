"""Pictures and sentences in, masks of the pictures' own size out, however they are handed over."""

import numpy as np
import pytest
import torch
from PIL import Image
from tiny import tiny_config, tiny_processor, tiny_reader
from transformers import pipeline

from tevia_hf import TeViAForSegmentation, TeViASegmentationPipeline

TASK = "text-guided-image-segmentation"
TEXTS = ["upper left lung", "two infected areas, lower right lung", None]


@pytest.fixture(scope="module")
def segment():
    return TeViASegmentationPipeline(tiny_reader(), processor=tiny_processor(), device="cpu")


def film(seed, height=40, width=52):
    pixels = np.random.default_rng(seed).integers(0, 255, (height, width), np.uint8)
    return Image.fromarray(pixels)


FILMS = [film(0), film(1, 64, 33), film(2, 32, 90)]


def expected_mask(segment, image, text, threshold=0.5):
    with torch.no_grad():
        outputs = segment.model(**segment.processor(image, text or ""))
    return segment.processor.post_process_segmentation(outputs, [(image.height, image.width)], threshold)[0].numpy()


def mask_of(entries):
    (entry,) = entries
    return np.asarray(entry["mask"]) // 255


def test_one_line_makes_the_pipeline_of_a_folder(segment, tmp_path):
    segment.save_pretrained(tmp_path)
    loaded = pipeline(TASK, model=str(tmp_path))
    assert type(loaded) is TeViASegmentationPipeline
    assert np.array_equal(mask_of(loaded(FILMS[0], TEXTS[0])), mask_of(segment(FILMS[0], TEXTS[0])))


@pytest.mark.parametrize("batch_size", [1, 2, 3])
def test_pictures_of_any_sizes_and_sentences_of_any_lengths_go_together(segment, batch_size):
    found = segment(FILMS, TEXTS, batch_size=batch_size)
    for entries, image, text in zip(found, FILMS, TEXTS, strict=True):
        assert np.array_equal(mask_of(entries), expected_mask(segment, image, text))


def test_mappings_lists_and_generators_give_the_same(segment, tmp_path):
    FILMS[0].save(tmp_path / "film.png")
    rows = [{"image": image, "text": text} for image, text in zip(FILMS, TEXTS, strict=True)]
    masks = [mask_of(entries) for entries in segment(FILMS, TEXTS)]
    others = (
        segment(rows),
        list(segment(row for row in rows)),
        [segment(row) for row in rows],
        [segment(str(tmp_path / "film.png"), TEXTS[0]), *segment(FILMS[1:], TEXTS[1:])],
        [segment(np.asarray(FILMS[0]), TEXTS[0]), *segment(FILMS[1:], TEXTS[1:])],
    )
    for other in others:
        assert all(np.array_equal(mask_of(entries), mask) for entries, mask in zip(other, masks, strict=True))


def test_one_sentence_serves_all_pictures(segment):
    masks = [mask_of(entries) for entries in segment(FILMS, TEXTS[0])]
    assert all(np.array_equal(m, expected_mask(segment, f, TEXTS[0])) for m, f in zip(masks, FILMS, strict=True))


def test_the_sentence_changes_the_mask(segment):
    assert not np.array_equal(mask_of(segment(FILMS[0], TEXTS[0])), mask_of(segment(FILMS[0], TEXTS[1])))


def test_a_higher_threshold_marks_less_and_the_score_is_the_mean_inside(segment):
    low, high = (segment(FILMS[0], TEXTS[0], threshold=value)[0] for value in (0.45, 0.52))
    areas = [np.asarray(entry["mask"]) > 0 for entry in (low, high)]
    assert areas[1].sum() < areas[0].sum() and (areas[0] | ~areas[1]).all()
    assert 0.45 < low["score"] < high["score"] < 1


def test_nothing_found_is_an_empty_mask_of_score_zero(segment):
    (entry,) = segment(FILMS[0], TEXTS[0], threshold=1.0)
    assert entry["score"] == 0 and not np.asarray(entry["mask"]).any() and entry["mask"].size == FILMS[0].size


def test_the_overlay_changes_the_picture_inside_the_mask_only(segment):
    (entry,) = segment(FILMS[1], TEXTS[0], overlay=True)
    picture, plain = np.asarray(entry["overlay"]), np.asarray(FILMS[1].convert("RGB"))
    inside = np.asarray(entry["mask"]) > 0
    assert np.array_equal(picture[~inside], plain[~inside])
    assert (picture[inside] != plain[inside]).any(axis=1).all()


def test_several_labels_give_an_entry_each_without_the_background():
    torch.manual_seed(0)
    model = TeViAForSegmentation(tiny_config(num_labels=4)).eval()
    segment = TeViASegmentationPipeline(model, processor=tiny_processor(num_labels=4), device="cpu")
    found = segment(FILMS[0], TEXTS[0])
    labels = model(**segment.processor(FILMS[0], TEXTS[0])).logits
    labels = segment.processor.post_process_segmentation(type("O", (), {"logits": labels}), [(40, 52)])[0].numpy()
    assert {entry["label"] for entry in found} == {f"LABEL_{label}" for label in np.unique(labels) if label}
    for entry in found:
        assert np.array_equal(np.asarray(entry["mask"]) > 0, labels == int(entry["label"][-1]))


def test_a_model_without_text_ignores_the_sentence():
    torch.manual_seed(0)
    model = TeViAForSegmentation(tiny_config(use_text=False)).eval()
    segment = TeViASegmentationPipeline(model, processor=tiny_processor(), device="cpu")
    assert segment(FILMS[0], TEXTS[0])[0]["score"] == segment(FILMS[0])[0]["score"]


@pytest.mark.parametrize(
    ("arguments", "options", "message"),
    [
        ((FILMS, TEXTS[:2]), {}, "3 images but 2 texts"),
        (({"image": FILMS[0]}, "left"), {}, "leave `text` out"),
        ((FILMS[0], "left"), {"threshold": 1.5}, "threshold is 1.5"),
        ((FILMS[0], "left"), {"treshold": 0.5}, "treshold"),
        ((FILMS[0], 3), {}, "text 0 is a int"),
    ],
)
def test_bad_input_is_refused_with_its_reason(segment, arguments, options, message):
    with pytest.raises((ValueError, TypeError), match=message):
        segment(*arguments, **options)
