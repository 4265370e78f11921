"""Pictures and sentences in, masks of the pictures' own size out, however they are handed over."""

import io
import threading
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer

import datasets
import numpy as np
import pytest
import torch
from PIL import Image
from tiny import tiny_config, tiny_processor, tiny_reader
from transformers import pipeline
from transformers.pipelines.pt_utils import KeyDataset

from tevia_hf import TeViAForSegmentation, TeViASegmentationPipeline, load_segmentation_dataset
from tevia_hf.colours_tevia import FILL_OPACITY, LABEL_COLOURS
from tevia_hf.data.features import FEATURES
from tevia_hf.pipeline_tevia import ROW_KEYS

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


@pytest.fixture(scope="module")
def film_data():
    features = datasets.Features({"image": datasets.Image(), "text": datasets.Value("string")})
    return datasets.Dataset.from_dict({"image": FILMS, "text": TEXTS}, features=features)


class Films(torch.utils.data.Dataset):
    def __len__(self):
        return len(FILMS)

    def __getitem__(self, index):
        return {"image": FILMS[index], "text": TEXTS[index]}


def test_data_sets_and_iterators_of_any_kind_are_several_pictures(segment, film_data):
    masks = [mask_of(entries) for entries in segment(FILMS, TEXTS)]
    found = (
        segment(film_data),
        segment(film_data.to_iterable_dataset()),
        segment(film_data["image"], film_data["text"]),
        segment(KeyDataset(film_data, "image"), TEXTS),
        segment(Films(), batch_size=2),
        segment((film for film in FILMS), TEXTS),
        segment(iter(FILMS), TEXTS),
        segment(tuple({"image": image, "text": text} for image, text in zip(FILMS, TEXTS, strict=True))),
        segment([{"image": FILMS[0], "text": TEXTS[0]}, FILMS[1], FILMS[2]])[:1] + segment(FILMS[1:], TEXTS[1:]),
    )
    for entries_of_all in found:
        seen = [mask_of(entries) for entries in entries_of_all]
        assert len(seen) == 3 and all(np.array_equal(*pair) for pair in zip(seen, masks, strict=True))
    assert segment([]) == segment([], []) == []
    with pytest.raises(ValueError, match="shorter"):
        list(segment((film for film in FILMS), TEXTS[:2]))
    assert len(segment(film_data)) == len(segment(Films())) == 3


@pytest.fixture
def address(tmp_path):
    """Of a server that gives the files of `tmp_path`."""

    class Quiet(SimpleHTTPRequestHandler):
        def __init__(self, *args):
            super().__init__(*args, directory=str(tmp_path))

        def log_message(self, *_):
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Quiet) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()


def test_a_picture_of_16_bits_is_the_same_from_an_address_and_from_a_path(segment, address, tmp_path):
    Image.fromarray(np.asarray(FILMS[0]).astype(np.uint16) * 200).save(tmp_path / "deep.png")
    fetched, read = (segment(f"{where}/deep.png", TEXTS[0]) for where in (address, tmp_path))
    assert np.array_equal(mask_of(fetched), mask_of(read)) and fetched[0]["score"] == read[0]["score"]
    (tmp_path / "text.png").write_text("no picture")
    for name, message in (
        ("none.png", "none.png.*404"),
        ("text.png", "/text.png.*cannot be read"),
        ("a b", "/a b cannot be read"),
    ):
        with pytest.raises(ValueError, match=message):
            segment(f"{address}/{name}", TEXTS[0])


@pytest.mark.parametrize(
    "row",
    [
        {"image": FILMS[0], "prompt": TEXTS[0]},
        {"image": FILMS[0], "caption": TEXTS[0]},
        {"image": FILMS[0], "Text": TEXTS[0]},
        {"image": FILMS[0], "texts": TEXTS[0], "mask": None},
        {"image": FILMS[0], "text": TEXTS[0], "prompt": TEXTS[1]},
        {"img": FILMS[0], "text": TEXTS[0]},
        {"images": FILMS[0], "text": TEXTS[0]},
    ],
)
def test_a_mapping_with_other_keys_is_refused_with_those_to_use(segment, row):
    for inputs in (row, [{"image": FILMS[0], "text": TEXTS[0]}, row], (r for r in [row])):
        with pytest.raises(ValueError, match=r"Input [01] has .* give {\"image\": ..., \"text\": ...}"):
            list(segment(inputs))


def test_rows_of_a_data_set_are_taken_with_all_their_columns(segment):
    rows = load_segmentation_dataset("synthetic", split="train", count=2)
    assert set(rows.column_names) == set(ROW_KEYS) == set(FEATURES)
    expected = [mask_of(segment(row["image"], row["text"])) for row in rows]
    for inputs in (rows, list(rows), (row for row in rows)):
        assert all(np.array_equal(mask_of(found), mask) for found, mask in zip(segment(inputs), expected, strict=True))


@pytest.mark.parametrize("size", [(40, 3), (3, 40), (4, 4)])
def test_a_picture_as_narrow_as_channels_are_many_is_read_as_it_lies(segment, size):
    (entry,) = segment(film(0, *size), TEXTS[0])
    assert entry["mask"].size == size[::-1]


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
    with torch.no_grad():
        outputs = segment.model(**segment.processor(FILMS[0], TEXTS[0]))
    (maps,) = segment.processor.post_process_segmentation(outputs, [(40, 52)], return_probabilities=True)
    assert low["score"] == pytest.approx(maps[0].numpy()[areas[0]].mean(), rel=1e-5)


def test_nothing_found_is_an_empty_mask_of_score_zero(segment):
    (entry,) = segment(FILMS[0], TEXTS[0], threshold=np.float32(1))
    assert entry["score"] == 0 and not np.asarray(entry["mask"]).any() and entry["mask"].size == FILMS[0].size


def test_the_overlay_changes_the_picture_inside_the_mask_only(segment):
    (entry,) = segment(FILMS[1], TEXTS[0], overlay=True)
    picture, plain = np.asarray(entry["overlay"]), np.asarray(FILMS[1].convert("RGB"))
    inside = np.asarray(entry["mask"]) > 0
    assert np.array_equal(picture[~inside], plain[~inside])
    orange = np.array(LABEL_COLOURS[0])
    assert np.abs(picture[inside] - ((1 - FILL_OPACITY) * plain[inside] + FILL_OPACITY * orange)).max() <= 0.5 + 1e-3


def test_several_labels_give_an_entry_each_without_the_background():
    torch.manual_seed(0)
    model = TeViAForSegmentation(tiny_config(num_labels=4)).eval()
    processor = tiny_processor(num_labels=4)
    logits = model(**processor(FILMS[0], TEXTS[0])).logits
    model.decode_head.classifier.bias.data -= logits.mean(dim=(0, 2, 3))  # no label wins everywhere
    segment = TeViASegmentationPipeline(model, processor=processor, device="cpu")
    found = segment(FILMS[0], TEXTS[0])
    outputs = model(**processor(FILMS[0], TEXTS[0]))
    labels = processor.post_process_segmentation(outputs, [(40, 52)])[0].numpy()
    (maps,) = processor.post_process_segmentation(outputs, [(40, 52)], return_probabilities=True)
    assert set(np.unique(labels)) >= {0, 1, 2}
    assert [entry["label"] for entry in found] == [f"LABEL_{label}" for label in np.unique(labels) if label]
    for entry in found:
        label, area = int(entry["label"][-1]), np.asarray(entry["mask"]) > 0
        assert np.array_equal(area, labels == label)
        assert entry["score"] == pytest.approx(maps[label].detach().numpy()[area].mean(), rel=1e-5)


def test_a_missing_sentence_is_warned_of_where_none_was_missing_in_training(segment, recwarn):
    always_told = TeViASegmentationPipeline(tiny_reader(text_dropout=0.0), processor=tiny_processor(), device="cpu")
    for pipe, text, is_warned in ((segment, None, False), (always_told, TEXTS[0], False), (always_told, " ", True)):
        recwarn.clear()
        pipe(FILMS[0], text)
        assert any("never trained without a text" in str(w.message) for w in recwarn) is is_warned


def test_a_text_unlike_those_of_the_training_is_warned_of(recwarn):
    processor = tiny_processor()
    segment = TeViASegmentationPipeline(tiny_reader(), processor=processor, device="cpu")
    segment(FILMS[0], "hello world")
    assert not any("trained on" in str(warning.message) for warning in recwarn)
    processor.record_words(TEXTS)
    segment(FILMS[0], TEXTS[0])
    assert not any("trained on" in str(warning.message) for warning in recwarn)
    with pytest.warns(UserWarning, match=r"'hello world' \(hello, world\)"):
        segment(FILMS[0], "hello world")


def test_logits_that_are_not_finite_are_refused(segment):
    model = tiny_reader()
    model.decode_head.classifier.bias.data.fill_(float("nan"))
    broken = TeViASegmentationPipeline(model, processor=tiny_processor(), device="cpu")
    with pytest.raises(ValueError, match="logits of image 0 are not finite"):
        broken(FILMS[0], TEXTS[0])


@pytest.mark.parametrize("value", [0, -1, 2.5, "8"])
def test_a_batch_size_out_of_range_is_refused_by_the_call_and_for_all_calls(segment, value):
    settings = {"processor": segment.processor, "device": "cpu", "batch_size": value}
    for call in (
        lambda: segment(FILMS, TEXTS, batch_size=value),
        lambda: TeViASegmentationPipeline(segment.model, **settings),
    ):
        with pytest.raises(ValueError, match="`batch_size` is .*: give a whole number from 1 on"):
            call()


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
        ((FILMS[0], "left"), {"threshold": 1.5}, "`threshold` is 1.5: give a number from 0 to 1"),
        ((FILMS[0], "left"), {"threshold": "0,8"}, "give 0.8, with a point"),
        ((FILMS[0], "left"), {"threshold": float("nan")}, "`threshold` is nan"),
        ((FILMS[0], "left"), {"treshold": 0.5}, "treshold"),
        ((FILMS[0], "left"), {"threshold": "0.5"}, "`threshold` is '0.5': give a number"),
        ((FILMS[0], 3), {}, "text 0 is a int"),
        ((FILMS, ["left", 3, "left"]), {}, "text 1 is a int"),
        (([FILMS[0], np.full((9, 9), np.nan)], "left"), {}, "image 1 holds NaN"),
        (({"text": "left"},), {}, "no image.*'text'"),
        ((io.BytesIO(b"left"), "left"), {}, "image 0 is a BytesIO"),
    ],
)
def test_bad_input_is_refused_with_its_reason(segment, arguments, options, message):
    with pytest.raises((ValueError, TypeError), match=message):
        segment(*arguments, **options)
