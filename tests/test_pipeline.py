"""Masks of images from images and texts, for all kinds of inputs."""

import io
import threading
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer

import datasets
import nibabel
import numpy as np
import pytest
import torch
from medical_files import affine_of, write_nifti
from PIL import Image
from tiny import tiny_config, tiny_processor, tiny_reader
from transformers import pipeline
from transformers.pipelines.pt_utils import KeyDataset

from tevia_hf import TeViAForSegmentation, TeViASegmentationPipeline, load_segmentation_dataset, read_image
from tevia_hf.colours_tevia import FILL_OPACITY, LABEL_COLOURS
from tevia_hf.data.features import FEATURES
from tevia_hf.pipeline_tevia import ROW_KEYS

TASK = "text-guided-image-segmentation"
TEXTS = ["upper left lung", "two infected areas, lower right lung", None]


@pytest.fixture(scope="module")
def segment():
    return TeViASegmentationPipeline(tiny_reader(), processor=tiny_processor(), device="cpu")


def random_image(seed, height=40, width=52):
    pixels = np.random.default_rng(seed).integers(0, 255, (height, width), np.uint8)
    return Image.fromarray(pixels)


IMAGES = [random_image(0), random_image(1, 64, 33), random_image(2, 32, 90)]


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
    assert np.array_equal(mask_of(loaded(IMAGES[0], TEXTS[0])), mask_of(segment(IMAGES[0], TEXTS[0])))


@pytest.mark.parametrize("batch_size", [1, 2, 3])
def test_images_of_any_sizes_and_texts_of_any_lengths_go_together(segment, batch_size):
    result = segment(IMAGES, TEXTS, batch_size=batch_size)
    for entries, image, text in zip(result, IMAGES, TEXTS, strict=True):
        assert np.array_equal(mask_of(entries), expected_mask(segment, image, text))


def test_mappings_lists_and_generators_give_the_same(segment, tmp_path):
    IMAGES[0].save(tmp_path / "image.png")
    rows = [{"image": image, "text": text} for image, text in zip(IMAGES, TEXTS, strict=True)]
    masks = [mask_of(entries) for entries in segment(IMAGES, TEXTS)]
    others = (
        segment(rows),
        list(segment(row for row in rows)),
        [segment(row) for row in rows],
        [segment(str(tmp_path / "image.png"), TEXTS[0]), *segment(IMAGES[1:], TEXTS[1:])],
        [segment(np.asarray(IMAGES[0]), TEXTS[0]), *segment(IMAGES[1:], TEXTS[1:])],
    )
    for other in others:
        assert all(np.array_equal(mask_of(entries), mask) for entries, mask in zip(other, masks, strict=True))


@pytest.fixture(scope="module")
def image_data():
    features = datasets.Features({"image": datasets.Image(), "text": datasets.Value("string")})
    return datasets.Dataset.from_dict({"image": IMAGES, "text": TEXTS}, features=features)


class Images(torch.utils.data.Dataset):
    def __len__(self):
        return len(IMAGES)

    def __getitem__(self, index):
        return {"image": IMAGES[index], "text": TEXTS[index]}


def test_data_sets_and_iterators_of_any_kind_are_batches_of_images(segment, image_data):
    masks = [mask_of(entries) for entries in segment(IMAGES, TEXTS)]
    result = (
        segment(image_data),
        segment(image_data.to_iterable_dataset()),
        segment(image_data["image"], image_data["text"]),
        segment(KeyDataset(image_data, "image"), TEXTS),
        segment(Images(), batch_size=2),
        segment((image for image in IMAGES), TEXTS),
        segment(iter(IMAGES), TEXTS),
        segment(tuple({"image": image, "text": text} for image, text in zip(IMAGES, TEXTS, strict=True))),
        segment([{"image": IMAGES[0], "text": TEXTS[0]}, IMAGES[1], IMAGES[2]])[:1] + segment(IMAGES[1:], TEXTS[1:]),
    )
    for entries_of_all in result:
        seen = [mask_of(entries) for entries in entries_of_all]
        assert len(seen) == 3 and all(np.array_equal(*pair) for pair in zip(seen, masks, strict=True))
    assert segment([]) == segment([], []) == []
    with pytest.raises(ValueError, match="shorter"):
        list(segment((image for image in IMAGES), TEXTS[:2]))
    assert len(segment(image_data)) == len(segment(Images())) == 3


@pytest.fixture
def server_url(tmp_path):
    """The URL of a server for the files in `tmp_path`."""

    class Quiet(SimpleHTTPRequestHandler):
        def __init__(self, *args):
            super().__init__(*args, directory=str(tmp_path))

        def log_message(self, *_):
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Quiet) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()


def test_an_image_of_16_bits_is_the_same_from_a_url_and_from_a_path(segment, server_url, tmp_path):
    Image.fromarray(np.asarray(IMAGES[0]).astype(np.uint16) * 200).save(tmp_path / "deep.png")
    from_url, from_path = (segment(f"{where}/deep.png", TEXTS[0]) for where in (server_url, tmp_path))
    assert np.array_equal(mask_of(from_url), mask_of(from_path)) and from_url[0]["score"] == from_path[0]["score"]
    (tmp_path / "text.png").write_text("no image")
    for name, message in (
        ("none.png", "none.png.*404"),
        ("text.png", "/text.png.*cannot be read"),
        ("a b", "/a b cannot be read"),
    ):
        with pytest.raises(ValueError, match=message):
            segment(f"{server_url}/{name}", TEXTS[0])


@pytest.mark.parametrize(
    "row",
    [
        {"image": IMAGES[0], "prompt": TEXTS[0]},
        {"image": IMAGES[0], "caption": TEXTS[0]},
        {"image": IMAGES[0], "Text": TEXTS[0]},
        {"image": IMAGES[0], "texts": TEXTS[0], "mask": None},
        {"image": IMAGES[0], "text": TEXTS[0], "prompt": TEXTS[1]},
        {"img": IMAGES[0], "text": TEXTS[0]},
        {"images": IMAGES[0], "text": TEXTS[0]},
    ],
)
def test_a_mapping_with_other_keys_is_refused_with_those_to_use(segment, row):
    for inputs in (row, [{"image": IMAGES[0], "text": TEXTS[0]}, row], (r for r in [row])):
        with pytest.raises(ValueError, match=r"Input [01] has .* give {\"image\": ..., \"text\": ...}"):
            list(segment(inputs))


def test_rows_of_a_data_set_are_accepted_with_all_their_columns(segment):
    rows = load_segmentation_dataset("synthetic", split="train", count=2)
    assert set(rows.column_names) == set(ROW_KEYS) == set(FEATURES)
    expected = [mask_of(segment(row["image"], row["text"])) for row in rows]
    for inputs in (rows, list(rows), (row for row in rows)):
        assert all(
            np.array_equal(mask_of(result), mask) for result, mask in zip(segment(inputs), expected, strict=True)
        )


@pytest.mark.parametrize("size", [(40, 3), (3, 40), (4, 4)])
def test_an_image_as_narrow_as_a_number_of_channels_is_read_correctly(segment, size):
    (entry,) = segment(random_image(0, *size), TEXTS[0])
    assert entry["mask"].size == size[::-1]


def test_one_text_is_used_for_all_images(segment):
    masks = [mask_of(entries) for entries in segment(IMAGES, TEXTS[0])]
    assert all(np.array_equal(m, expected_mask(segment, f, TEXTS[0])) for m, f in zip(masks, IMAGES, strict=True))


def test_the_text_changes_the_mask(segment):
    assert not np.array_equal(mask_of(segment(IMAGES[0], TEXTS[0])), mask_of(segment(IMAGES[0], TEXTS[1])))


def test_a_higher_threshold_marks_less_and_the_score_is_the_mean_inside(segment):
    low, high = (segment(IMAGES[0], TEXTS[0], threshold=value)[0] for value in (0.45, 0.52))
    areas = [np.asarray(entry["mask"]) > 0 for entry in (low, high)]
    assert areas[1].sum() < areas[0].sum() and (areas[0] | ~areas[1]).all()
    assert 0.45 < low["score"] < high["score"] < 1
    with torch.no_grad():
        outputs = segment.model(**segment.processor(IMAGES[0], TEXTS[0]))
    (maps,) = segment.processor.post_process_segmentation(outputs, [(40, 52)], return_probabilities=True)
    assert low["score"] == pytest.approx(maps[0].numpy()[areas[0]].mean(), rel=1e-5)


def test_without_a_lesion_the_mask_is_empty_and_the_score_zero(segment):
    (entry,) = segment(IMAGES[0], TEXTS[0], threshold=np.float32(1))
    assert (
        entry["score"] == entry["area"] == 0
        and not np.asarray(entry["mask"]).any()
        and entry["mask"].size == IMAGES[0].size
    )


def test_the_overlay_changes_the_image_inside_the_mask_only(segment):
    (entry,) = segment(IMAGES[1], TEXTS[0], overlay=True)
    image, plain = np.asarray(entry["overlay"]), np.asarray(IMAGES[1].convert("RGB"))
    inside = np.asarray(entry["mask"]) > 0
    assert np.array_equal(image[~inside], plain[~inside])
    orange = np.array(LABEL_COLOURS[0])
    assert np.abs(image[inside] - ((1 - FILL_OPACITY) * plain[inside] + FILL_OPACITY * orange)).max() <= 0.5 + 1e-3


def test_several_labels_give_an_entry_each_without_the_background():
    torch.manual_seed(0)
    model = TeViAForSegmentation(tiny_config(num_labels=4)).eval()
    processor = tiny_processor(num_labels=4)
    logits = model(**processor(IMAGES[0], TEXTS[0])).logits
    model.decode_head.classifier.bias.data -= logits.mean(dim=(0, 2, 3))  # no label wins everywhere
    segment = TeViASegmentationPipeline(model, processor=processor, device="cpu")
    result = segment(IMAGES[0], TEXTS[0])
    outputs = model(**processor(IMAGES[0], TEXTS[0]))
    labels = processor.post_process_segmentation(outputs, [(40, 52)])[0].numpy()
    (maps,) = processor.post_process_segmentation(outputs, [(40, 52)], return_probabilities=True)
    assert set(np.unique(labels)) >= {0, 1, 2}
    assert [entry["label"] for entry in result] == [f"LABEL_{label}" for label in np.unique(labels) if label]
    for entry in result:
        label, area = int(entry["label"][-1]), np.asarray(entry["mask"]) > 0
        assert entry["area"] == area.sum() > 0
        assert np.array_equal(area, labels == label)
        assert entry["score"] == pytest.approx(maps[label].detach().numpy()[area].mean(), rel=1e-5)


def test_a_missing_text_causes_a_warning_if_none_was_missing_in_training(segment, recwarn):
    always_with_text = TeViASegmentationPipeline(
        tiny_reader(text_dropout=0.0), processor=tiny_processor(), device="cpu"
    )
    for pipe, text, is_warned in (
        (segment, None, False),
        (always_with_text, TEXTS[0], False),
        (always_with_text, " ", True),
    ):
        recwarn.clear()
        pipe(IMAGES[0], text)
        assert any("never trained without a text" in str(w.message) for w in recwarn) is is_warned


def test_an_unfamiliar_text_causes_a_warning(recwarn):
    processor = tiny_processor()
    segment = TeViASegmentationPipeline(tiny_reader(), processor=processor, device="cpu")
    segment(IMAGES[0], "hello there")
    assert not any("trained on" in str(warning.message) for warning in recwarn)
    processor.record_words(TEXTS)
    segment(IMAGES[0], TEXTS[0])
    assert not any("trained on" in str(warning.message) for warning in recwarn)
    with pytest.warns(UserWarning, match=r"'hello world' \(hello, world\)"):
        segment(IMAGES[0], "hello world")


def test_logits_that_are_not_finite_are_refused(segment):
    model = tiny_reader()
    model.decode_head.classifier.bias.data.fill_(float("nan"))
    broken = TeViASegmentationPipeline(model, processor=tiny_processor(), device="cpu")
    with pytest.raises(ValueError, match="logits of image 0 are not finite"):
        broken(IMAGES[0], TEXTS[0])


@pytest.mark.parametrize("value", [0, -1, 2.5, "8"])
def test_a_batch_size_out_of_range_is_refused_by_the_call_and_for_all_calls(segment, value):
    settings = {"processor": segment.processor, "device": "cpu", "batch_size": value}
    for call in (
        lambda: segment(IMAGES, TEXTS, batch_size=value),
        lambda: TeViASegmentationPipeline(segment.model, **settings),
    ):
        with pytest.raises(ValueError, match="`batch_size` is .*: give a whole number from 1 on"):
            call()


def test_a_model_without_text_ignores_the_text():
    torch.manual_seed(0)
    model = TeViAForSegmentation(tiny_config(use_text=False)).eval()
    segment = TeViASegmentationPipeline(model, processor=tiny_processor(), device="cpu")
    assert segment(IMAGES[0], TEXTS[0])[0]["score"] == segment(IMAGES[0])[0]["score"]


@pytest.mark.parametrize(
    ("arguments", "options", "message"),
    [
        ((IMAGES, TEXTS[:2]), {}, "3 images but 2 texts"),
        (({"image": IMAGES[0]}, "left"), {}, "leave `text` out"),
        ((IMAGES[0], "left"), {"threshold": 1.5}, "`threshold` is 1.5: give a number from 0 to 1"),
        ((IMAGES[0], "left"), {"threshold": "0,8"}, "give 0.8, with a decimal point"),
        ((IMAGES[0], "left"), {"threshold": float("nan")}, "`threshold` is nan"),
        ((IMAGES[0], "left"), {"treshold": 0.5}, "treshold"),
        ((IMAGES[0], "left"), {"threshold": "0.5"}, "`threshold` is '0.5': give a number"),
        ((IMAGES[0], 3), {}, "text 0 is a int"),
        ((IMAGES, ["left", 3, "left"]), {}, "text 1 is a int"),
        (([IMAGES[0], np.full((9, 9), np.nan)], "left"), {}, "image 1 holds NaN"),
        (({"text": "left"},), {}, "no image.*'text'"),
        ((io.BytesIO(b"left"), "left"), {}, "image 0 is a BytesIO"),
    ],
)
def test_bad_input_is_refused_with_its_reason(segment, arguments, options, message):
    with pytest.raises((ValueError, TypeError), match=message):
        segment(*arguments, **options)


@pytest.mark.parametrize("plane", ["axial", "coronal"])
def test_the_mask_of_a_volume_lies_over_it_and_holds_that_of_each_slice(segment, plane, tmp_path):
    rng = np.random.default_rng(0)
    voxels = rng.integers(0, 1000, (20, 24, 5)).astype(np.int16)
    path = write_nifti(tmp_path / "scan.nii.gz", voxels, affine_of("LAS", (0.8, 0.9, 2.5)))
    address = path if plane == "axial" else f"{path}#coronal:all"
    (entry,) = segment(address, TEXTS[0], batch_size=4)
    mask, scan = entry["mask"], nibabel.load(path)
    assert np.array_equal(mask.affine, scan.affine) and mask.shape == scan.shape
    assert mask.get_data_dtype() == np.uint8 and set(np.unique(mask.dataobj)) <= {0, 1}
    assert entry["area"] == np.asarray(mask.dataobj).sum() > 0
    nibabel.save(mask, tmp_path / "mask.nii.gz")
    scores = []
    for number in range(5 if plane == "axial" else 24):
        own = "" if plane == "axial" else "coronal:"
        (single,) = segment(f"{path}#{own}{number}", TEXTS[0])
        stored = read_image(f"{tmp_path / 'mask.nii.gz'}#{own}{number}", is_mask=True).array
        assert np.array_equal(np.asarray(single["mask"]) // 255, stored)
        scores += [single["score"]] * single["area"]
    assert entry["score"] == pytest.approx(np.mean(scores))


def test_labels_of_a_volume_are_in_the_order_of_the_model(tmp_path):
    names = {0: "background", 1: "edema", 2: "core", 3: "enhancing"}
    model = tiny_reader(id2label=names)
    with torch.no_grad():
        model.decode_head.classifier.weight.mul_(50)
    path = write_nifti(
        tmp_path / "scan.nii", np.random.default_rng(0).integers(0, 99, (20, 24, 3)).astype(np.int16), np.eye(4)
    )
    entries = TeViASegmentationPipeline(model, processor=tiny_processor(num_labels=4), device="cpu")(str(path), None)
    found = [entry["label"] for entry in entries]
    assert len(found) > 1 and found == [name for name in names.values() if name in found]


def test_volumes_go_alone_and_without_an_overlay(segment, tmp_path):
    path = write_nifti(tmp_path / "scan.nii", np.zeros((20, 24, 5), np.int16), affine_of("LAS", (1, 1, 1)))
    with pytest.raises(ValueError, match="overlay"):
        segment(str(path), TEXTS[0], overlay=True)
    with pytest.raises(ValueError, match=r"holds 5 axial slices.*scan.nii#2"):
        segment([str(path)], TEXTS[:1])
