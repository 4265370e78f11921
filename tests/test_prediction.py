"""Masks for image files: their sizes, axes and texts, and files that are no images."""

import copy
from collections import Counter
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image
from tiny import tiny_config, tiny_processor, tiny_reader

from tevia_hf import TeViAForSegmentation, predict
from tevia_hf.inference import outputs as writing
from tevia_hf.inference import predictor as asking
from tevia_hf.inference.item_tables import items_of_table
from tevia_hf.inference.items import list_images
from tevia_hf.inference.loading import load_trained
from tevia_hf.inference.predict import predict_masks
from tevia_hf.inference.predictor import Predictor
from tevia_hf.io import read_image, writers
from tevia_hf.io.output_dir import MARKER

SIZES = {"a.png": (40, 56), "b.png": (64, 32), "c.tif": (33, 70)}
TEXTS = ["left lung", "", "upper right lung"]


@pytest.fixture(scope="module")
def model():
    return tiny_reader()


@pytest.fixture
def images(tmp_path):
    folder = tmp_path / "images"
    folder.mkdir()
    rng = np.random.default_rng(0)
    for name, size in SIZES.items():
        Image.fromarray(rng.integers(0, 255, size, dtype=np.uint8)).save(folder / name)
    return [folder / name for name in SIZES]


@pytest.fixture
def examples(images):
    return [{"image": path, "text": text, "id": path.stem} for path, text in zip(images, TEXTS, strict=True)]


# Masks in memory


def test_masks_have_the_images_own_sizes(model, examples):
    masks = predict_masks(model, tiny_processor(), examples)
    assert [mask.shape for mask in masks] == list(SIZES.values())
    assert all(mask.dtype == np.uint8 and set(np.unique(mask)) == {0, 1} for mask in masks)


def test_the_batch_size_does_not_change_masks(model, examples):
    single, pairs, together = (predict_masks(model, tiny_processor(), examples, batch_size=size) for size in (1, 2, 8))
    for one, two, three in zip(single, pairs, together, strict=True):
        assert np.mean(one != three) < 0.002 and np.mean(two != three) < 0.002  # rounding on the threshold


def test_the_masks_depend_on_the_text(model, examples):
    others = [{**example, "text": "lower left lung"} for example in examples]
    for mask, other in zip(*(predict_masks(model, tiny_processor(), e) for e in (examples, others)), strict=True):
        assert np.mean(mask != other) > 0.002


def test_images_in_memory_give_the_masks_of_their_files(model, examples):
    decoded = [{**example, "image": Image.open(example["image"])} for example in examples]
    for one, other in zip(*(predict_masks(model, tiny_processor(), e) for e in (examples, decoded)), strict=True):
        assert np.array_equal(one, other)


def test_a_processor_that_swaps_axes_gives_masks_in_the_images_own(model, images):
    pixels = [read_image(path).array for path in images]
    plain = predict_masks(model, tiny_processor(), [{"image": p.T.copy(), "text": "left"} for p in pixels])
    swapped = predict_masks(model, tiny_processor(swap_axes=True), [{"image": p, "text": "left"} for p in pixels])
    for one, other, image in zip(plain, swapped, pixels, strict=True):
        assert other.shape == image.shape and np.array_equal(one.T, other)


def test_prediction_leaves_no_gradients_and_a_training_model_in_training(model, examples):
    model.train()
    predict_masks(model, tiny_processor(), examples)
    assert model.training and all(parameter.grad is None for parameter in model.parameters())
    model.eval()


def test_prediction_is_without_dropout_even_for_a_model_in_training(model, examples):
    expected = predict_masks(model, tiny_processor(), examples)
    masks = predict_masks(model.train(), tiny_processor(), examples)
    assert all(np.array_equal(one, other) for one, other in zip(masks, expected, strict=True))
    model.eval()


@pytest.mark.parametrize("projection", ["per_token", "token_mixing"])
def test_images_without_text_are_predicted(projection, examples):
    config = tiny_config(text_projection=projection, text_token_lengths=[24, 12, 9])
    without = [{**example, "text": ""} for example in examples]
    assert len(predict_masks(TeViAForSegmentation(config), tiny_processor(), without)) == 3


def test_several_labels_are_distinguished(examples):
    torch.manual_seed(0)
    model = TeViAForSegmentation(tiny_config(num_labels=3))
    torch.nn.init.zeros_(model.decode_head.classifier.bias)
    masks = predict_masks(model, tiny_processor(num_labels=3), examples)
    assert len(set().union(*(np.unique(mask) for mask in masks))) > 1 and max(mask.max() for mask in masks) <= 2


# Masks as files


def test_an_overlay_has_its_images_name_whatever_the_mask_is_written_as(model, images, tmp_path, monkeypatch):
    monkeypatch.setattr(writers, "MASK_SUFFIXES", (".npy",))
    monkeypatch.setitem(writers._WRITERS, ".npy", lambda path, labels, *_: np.save(path, labels))
    table = predict(model, tiny_processor(), images, TEXTS, tmp_path / "out", mask_suffix=".npy")
    assert [Path(path).name for path in table["mask"]] == ["a.npy", "b.npy", "c.npy"]
    assert [Path(path).name for path in table["overlay"]] == ["a.jpg", "b.jpg", "c.jpg"]


def test_masks_overlays_and_the_table_are_written(model, images, examples, tmp_path):
    table = predict(model, tiny_processor(), images, TEXTS, tmp_path / "out")
    masks = predict_masks(model, tiny_processor(), examples)
    for (_, row), path, text, mask in zip(table.iterrows(), images, TEXTS, masks, strict=True):
        assert (row["image"], row["text"], row["error"]) == (str(path), text, "")
        assert np.array_equal(read_image(row["mask"]).array, mask * 255)
        assert row["foreground"] == pytest.approx(mask.mean())
        with Image.open(row["overlay"]) as overlay:
            assert overlay.width * mask.shape[0] == overlay.height * mask.shape[1]
    names = {"a.png", "b.png", "c.png"}
    written = {*names, "overlays", "predictions.csv", "manifest.jsonl", MARKER}
    assert {path.name for path in (tmp_path / "out").iterdir()} == written
    assert {path.name for path in (tmp_path / "out" / "overlays").iterdir()} == {"a.jpg", "b.jpg", "c.jpg"}
    names = [
        "name",
        "image",
        "text",
        "mask",
        "overlay",
        "foreground",
        "pixels",
        "mm2",
        "probability",
        "status",
        "error",
    ]
    written = pd.read_csv(tmp_path / "out" / "predictions.csv", keep_default_na=False, na_values={"mm2": ""})
    assert list(written) == names
    pd.testing.assert_frame_equal(written, table, check_dtype=False)


def several_classes(names=("background", "benign", "malignant")):
    torch.manual_seed(0)
    model = TeViAForSegmentation(tiny_config(id2label=dict(enumerate(names)))).eval()
    torch.nn.init.zeros_(model.decode_head.classifier.bias)
    return model, tiny_processor(num_labels=len(names))


def probabilities_of(model, processor, image, text):
    outputs = model(**processor(image, text))
    (maps,) = processor.post_process_segmentation(outputs, [image.shape], return_probabilities=True)
    return maps.detach().numpy()


def test_the_table_has_area_and_mean_probability_of_a_mask(model, images, tmp_path):
    processor = tiny_processor()
    table = predict(model, processor, images, TEXTS, tmp_path / "out", batch_size=1)
    for (_, row), path, text in zip(table.iterrows(), images, TEXTS, strict=True):
        image = read_image(path).array
        mask, (probability,) = read_image(row["mask"]).array > 0, probabilities_of(model, processor, image, text)
        assert row["pixels"] == mask.sum() > 0 and np.isnan(row["mm2"])
        assert row["probability"] == pytest.approx(probability[mask].mean(), rel=1e-5)
    assert pd.read_csv(tmp_path / "out" / "predictions.csv")["pixels"].dtype == np.int64


def test_the_table_has_the_measures_of_each_class_by_name(images, tmp_path):
    model, processor = several_classes()
    table = predict(model, processor, images, TEXTS, tmp_path / "out", batch_size=1)
    assert list(table)[6:-2] == [
        f"{field}/{name}" for name in ("benign", "malignant") for field in ("pixels", "mm2", "probability")
    ]
    for (_, row), path, text in zip(table.iterrows(), images, TEXTS, strict=True):
        labels, maps = read_image(row["mask"]).array, probabilities_of(model, processor, read_image(path).array, text)
        for label, name in enumerate(("benign", "malignant"), 1):
            assert row[f"pixels/{name}"] == (labels == label).sum()
            if (labels == label).any():
                expected = pytest.approx(maps[label][labels == label].mean(), rel=1e-5)
                assert row[f"probability/{name}"] == expected
            else:
                assert np.isnan(row[f"probability/{name}"])
    assert (table[["pixels/benign", "pixels/malignant"]] > 0).to_numpy().any()


def test_an_empty_mask_has_no_pixels_and_no_probability(model, images, tmp_path):
    predict(model, tiny_processor(), images, TEXTS, tmp_path / "out", threshold=1.0)
    written = pd.read_csv(tmp_path / "out" / "predictions.csv")
    assert (written["pixels"] == 0).all() and written["probability"].isna().all() and written["mm2"].isna().all()


def test_areas_are_in_square_millimetres_where_the_size_of_pixels_is_known(model, images):
    examples = [{"image": images[0], "spacing_mm": spacing} for spacing in ([0.5, 3.0], None)]
    predictor = Predictor(model, tiny_processor(), with_statistics=True)
    known, unknown = (one.statistics[0]["lesion"] for one in predictor.predictions((e, ["left"]) for e in examples))
    assert known.pixels == unknown.pixels > 0 and known.mm2 == 1.5 * known.pixels and unknown.mm2 is None
    (empty,) = Predictor(model, tiny_processor(), 1.0, with_statistics=True).predictions([(examples[0], ["left"])])
    assert empty.statistics[0]["lesion"] == (0, 0.0, None)


@pytest.mark.parametrize("threshold", [0.3, 0.5, 0.501])
def test_statistics_take_no_further_pass_and_leave_masks_as_they_are(images, threshold):
    for model, processor in ((tiny_reader(), tiny_processor()), several_classes()):
        requests = [({"image": image}, ["left lung", "", "left lung"]) for image in images]
        passes = Counter()
        model.decode_head.register_forward_hook(lambda *_, passes=passes: passes.update(["all"]))
        plain, measured = (
            list(Predictor(model, processor, threshold, 1, with_statistics=flag).predictions(requests))
            for flag in (False, True)
        )
        assert passes["all"] == 2 * 2 * len(images)  # of two predictors, for two distinct texts
        for one, other, (example, texts) in zip(plain, measured, requests, strict=True):
            assert not one.statistics and [len(one.masks), len(other.masks), len(other.statistics)] == [3, 3, 3]
            pixels = read_image(example["image"]).array
            for text, mask, other_mask in zip(texts, one.masks, other.masks, strict=True):
                outputs = model(**processor(pixels, text))
                (expected,) = processor.post_process_segmentation(outputs, [pixels.shape], threshold)
                assert np.array_equal(mask, other_mask) and np.array_equal(mask, expected.numpy())


def test_a_corrupt_file_affects_its_own_row_only(model, images, tmp_path):
    images[1].write_bytes(images[1].read_bytes()[:200])
    table = predict(model, tiny_processor(), images, TEXTS, tmp_path / "out")
    assert "b.png: not readable, corrupt or cut short" in table["error"][1]
    assert table["mask"][1] == "" and np.isnan(table["foreground"][1])
    assert list(table["error"][[0, 2]]) == ["", ""]
    assert [(tmp_path / "out" / f"{stem}.png").exists() for stem in "abc"] == [True, False, True]


def test_missing_and_unsupported_files_are_reported_in_the_table(model, images, tmp_path):
    (tmp_path / "notes.txt").write_text("no image")
    images[:2] = [tmp_path / "notes.txt", tmp_path / "none.png"]
    table = predict(model, tiny_processor(), images, TEXTS, tmp_path / "out")
    assert "cannot be read. Supported: .png" in table["error"][0] and "no such file" in table["error"][1]
    assert (tmp_path / "out" / "c.png").exists()


def test_a_file_with_invalid_pixels_affects_its_own_row_only(model, images, tmp_path):
    Image.fromarray(np.full((40, 40), np.nan, dtype=np.float32)).save(images[2])
    table = predict(model, tiny_processor(), images, TEXTS, tmp_path / "out")
    assert list(table["error"][:2]) == ["", ""] and "NaN" in table["error"][2]
    assert (tmp_path / "out" / "a.png").exists()


def test_the_table_is_written_when_no_file_can_be_read(model, tmp_path):
    table = predict(model, tiny_processor(), [tmp_path / "none.png"], [""], tmp_path / "out")
    assert "no such file" in table["error"][0] and (tmp_path / "out" / "predictions.csv").exists()


def test_images_that_would_overwrite_each_others_masks_are_refused(model, images, tmp_path):
    same_stem = tmp_path / "a.jpg"
    with pytest.raises(ValueError, match=r"Several outputs would be named \['a'\] and overwrite each other"):
        predict(model, tiny_processor(), [*images, same_stem], [*TEXTS, ""], tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_counts_of_texts_and_images_must_be_equal(model, images, tmp_path):
    with pytest.raises(ValueError, match="3 images but 1 texts: give one text per image, '' for none"):
        predict(model, tiny_processor(), images, [""], tmp_path / "out")


class Spoilt(torch.nn.Module):
    """A decode head whose logits are not finite for the images at some indices, counted by calls."""

    def __init__(self, head, spoils):
        super().__init__()
        self.head, self.spoils = head, spoils

    def forward(self, *args):
        logits, features = self.head(*args)
        return torch.where(self.spoils(logits)[:, None, None, None], torch.full_like(logits, np.nan), logits), features


@pytest.fixture
def with_invalid_logits(model):
    def with_invalid_logits(spoils):
        broken = copy.deepcopy(model)
        broken.decode_head = Spoilt(broken.decode_head, spoils)
        return broken

    return with_invalid_logits


@pytest.fixture
def one_invalid(with_invalid_logits, model, examples):
    """A model that returns NaN for b.png only."""
    predictor = Predictor(model, tiny_processor())
    encoded = predictor.encode([predictor.prepare(example["image"]) for example in examples])
    expected_mean = predictor.ask(encoded, TEXTS).logits[1].mean()
    return with_invalid_logits(lambda logits: (logits.mean((1, 2, 3)) - expected_mean).abs() < 1e-4)


@pytest.mark.parametrize("batch_size", [1, 16])
def test_an_image_with_logits_that_are_not_finite_affects_its_own_row_only(one_invalid, images, tmp_path, batch_size):
    table = predict(one_invalid, tiny_processor(), images, TEXTS, tmp_path / "out", batch_size=batch_size)
    assert "b.png are not finite" in table["error"][1] and list(table["error"][[0, 2]]) == ["", ""]
    assert [(tmp_path / "out" / f"{stem}.png").exists() for stem in "abc"] == [True, False, True]


def test_masks_in_memory_are_refused_with_the_image_whose_logits_are_not_finite(one_invalid, examples):
    with pytest.raises(ValueError, match="logits of image b are not finite"):
        predict_masks(one_invalid, tiny_processor(), examples, batch_size=2)


def test_a_model_without_a_single_finite_logit_is_refused_and_the_table_is_kept(with_invalid_logits, images, tmp_path):
    images[2].write_bytes(b"no image")
    broken = with_invalid_logits(lambda logits: torch.ones(len(logits), dtype=torch.bool))
    with pytest.raises(ValueError, match=r"a\.png, .*b\.png are not finite.* compute in float32 or bfloat16"):
        predict(broken, tiny_processor(), images, TEXTS, tmp_path / "out")
    assert (pd.read_csv(tmp_path / "out" / "predictions.csv")["error"] != "").all()


@pytest.mark.parametrize("part", ["write_mask", "overlay"])
def test_a_write_error_affects_one_row_and_leaves_no_incomplete_file(model, images, tmp_path, monkeypatch, part):
    usual, folder = getattr(writing, part), tmp_path / "out"

    def fails(*args, **kwargs):
        if 64 in np.shape(args[1]):  # that of b.png
            raise RuntimeError("no\nspace")
        return usual(*args, **kwargs)

    monkeypatch.setattr(writing, part, fails)
    table = predict(model, tiny_processor(), images, TEXTS, folder)
    assert table["error"][1] == f"{images[1]}: RuntimeError: no space" and list(table["error"][[0, 2]]) == ["", ""]
    assert sorted(path.stem for path in (folder / "overlays").iterdir()) == ["a", "c"]
    assert (folder / "b.png").exists() == (table["mask"][1] != "") == (part == "overlay")
    assert (folder / "predictions.csv").exists()


def test_an_unexpected_error_of_a_reader_affects_one_row(model, images, tmp_path, monkeypatch):
    usual = asking.load_image

    def reads(file):
        if file.path.name == "b.png":
            raise AttributeError("no PixelData")
        return usual(file)

    monkeypatch.setattr(asking, "load_image", reads)
    table = predict(model, tiny_processor(), images, TEXTS, tmp_path / "out")
    assert table["error"][1] == f"{images[1]}: AttributeError: no PixelData" and table["mask"][2] != ""


# Lists of images


def test_folders_give_their_images_in_order_and_files_themselves(images, tmp_path):
    (images[0].parent / "notes.txt").touch()
    (images[0].parent / "deeper").mkdir()
    assert list_images([images[2], images[0].parent]) == [images[2], *images]


def test_a_folder_without_images_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"No image at .*: give image files, or folders with \.png, \.jpg"):
        list_images([tmp_path])


def test_a_path_that_does_not_exist_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"No image at .*none\.png"):
        list_images([tmp_path / "none.png"])


# Tables of texts


@pytest.fixture
def table_of(tmp_path):
    def table_of(rows, name="texts.csv"):
        table = pd.DataFrame(rows, columns=["Image", "Description"])
        path = tmp_path / name
        table.to_excel(path, index=False) if path.suffix == ".xlsx" else table.to_csv(path, index=False)
        return path

    return table_of


@pytest.mark.parametrize("name", ["texts.csv", "texts.xlsx"])
def test_texts_are_found_by_the_images_name_in_any_order(images, table_of, name):
    path = table_of([("c.png", TEXTS[2]), ("mask_a.png", TEXTS[0]), ("b", None)], name)
    assert [(item.name, item.text) for item in items_of_table(path, images)] == list(zip("abc", TEXTS, strict=True))


def test_every_image_without_a_row_is_reported_at_once(images, table_of):
    with pytest.raises(ValueError, match="2 problems:\n  'b' has no row\n  'c' has no row\nEach image needs a row"):
        items_of_table(table_of([("a.png", "x"), ("a.png", "y")]), images)


def test_rows_without_an_image_are_counted_in_a_warning(images, table_of):
    rows = [("a.png", "x"), ("b.png", "y"), ("c.png", "z"), ("d.png", "x"), ("d.png", "y"), ("e.png", "y")]
    with pytest.warns(UserWarning, match="3 rows name none of the images, e.g. 'd'"):
        assert [item.text for item in items_of_table(table_of(rows), images)] == ["x", "y", "z"]


def test_an_image_with_several_rows_has_a_numbered_mask_for_each(images, table_of):
    rows = [("a.png", "x"), ("b.png", "y"), ("a.png", "z"), ("c.png", "")]
    items = items_of_table(table_of(rows), images)
    assert [(item.name, item.text) for item in items] == [("a_1", "x"), ("a_2", "z"), ("b", "y"), ("c", "")]


def test_a_column_names_the_masks(images, tmp_path):
    rows = [("a.png", "x", "upper"), ("b.png", "y", ""), ("c.tif", "z", "last"), ("a.png", "z", "lower")]
    path = tmp_path / "texts.csv"
    pd.DataFrame(rows, columns=["Image", "Description", "name"]).to_csv(path, index=False)
    assert [item.name for item in items_of_table(path, images)] == ["upper", "lower", "b", "last"]


@pytest.mark.parametrize(("name", "message"), [("../x", "cannot be named"), ("b", "Several outputs would be named")])
def test_a_name_that_would_leave_the_folder_or_replace_a_mask_is_refused(images, tmp_path, name, message):
    path = tmp_path / "texts.csv"
    rows = [("a.png", "x", name), ("b.png", "y", ""), ("c.tif", "z", "")]
    pd.DataFrame(rows, columns=["Image", "Description", "Name"]).to_csv(path, index=False)
    with pytest.raises(ValueError, match=message):
        items_of_table(path, images)


def test_predict_never_writes_over_its_images(model, images):
    before = images[0].read_bytes()
    with pytest.raises(ValueError, match="holds the images themselves"):
        predict(model, tiny_processor(), images, TEXTS, images[0].parent)
    assert images[0].read_bytes() == before


def test_a_folder_that_is_missing_or_holds_no_weights_is_reported_first(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "outputs").mkdir()
    for name, hub in (("outputs/nope", ", nor a model of that name"), (str(tmp_path / "nope"), ""), ("a/b/c", "")):
        with pytest.raises(ValueError, match=f"No folder {name} in .*{hub}"):
            load_trained(name)
    tiny_config().save_pretrained(tmp_path / "recipe")
    with pytest.raises(ValueError, match="holds no weights: train them, e.g. by `tevia train recipe/recipe.yaml`"):
        load_trained("recipe")
