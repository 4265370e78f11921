"""Large images in tiles: the mask is that of MONAI's sliding window, and parts of files are read as whole files are."""

import numpy as np
import pytest
import tifffile
import torch
from monai.inferers import SlidingWindowInferer
from PIL import Image
from tiny import tiny_processor, tiny_reader

from tevia_hf import (
    Predictor,
    TeViAForSegmentation,
    Tiling,
    evaluate_model,
    load_segmentation_dataset,
    predict,
    read_image,
)
from tevia_hf.decoding_tevia import scaled_to_unit
from tevia_hf.inference import predictor as predicting
from tevia_hf.inference.predict import predict_masks
from tevia_hf.inference.tiles import Tiles, blended_rows
from tevia_hf.io import regions
from tevia_hf.io.regions import StoredPixels, load_parts

HEIGHT, WIDTH, TILING = 150, 110, Tiling(64, 0.25)
TEXTS = ["upper left lung", "", "lower right lung"]


@pytest.fixture(scope="module")
def pixels():
    """Dark noise with a bright triangle, which no flip and no swap of axes leaves in its place."""
    rng = np.random.default_rng(0)
    rows, columns = np.mgrid[:HEIGHT, :WIDTH]
    inside = (columns > 20) & (rows > 60) & (columns < rows - 50)
    return (rng.integers(0, 60, (HEIGHT, WIDTH, 3)) + 180 * inside[..., None]).astype(np.uint8)


@pytest.fixture(scope="module")
def model():
    return tiny_reader()


@pytest.fixture(scope="module")
def predictor(model):
    return Predictor(
        model, tiny_processor(), batch_size=4, with_probabilities=True, with_statistics=True, tiling=TILING
    )


def answers_of(predictor, image, texts):
    (prediction,) = predictor.predictions([({"image": image}, texts)])
    assert prediction.error is None, prediction.error
    return prediction.answers


def by_monai(predictor, pixels, text, tiling=TILING):
    """The probabilities of MONAI's inferer, which holds the whole image and all results in memory."""

    def probabilities(tiles):
        prepared = [predictor.prepare(tile.permute(1, 2, 0).byte().numpy()) for tile in tiles]
        return torch.from_numpy(np.stack(predictor._probabilities(predictor.encode(prepared), [text] * len(tiles))))

    inferer = SlidingWindowInferer((tiling.size,) * 2, sw_batch_size=4, overlap=tiling.overlap, mode="gaussian")
    return inferer(torch.from_numpy(pixels).permute(2, 0, 1)[None].float(), probabilities)[0]


# Blending


def test_probabilities_are_those_of_monais_sliding_window(predictor, pixels):
    for answer, text in zip(answers_of(predictor, pixels, TEXTS), TEXTS, strict=True):
        expected = by_monai(predictor, pixels, text).numpy()
        np.testing.assert_allclose(answer.probabilities, expected, atol=1e-3)  # float16
        assert answer.mask.shape == (HEIGHT, WIDTH)
        clear = np.abs(expected[0] - 0.5) > 1e-5
        assert (answer.mask == (expected[0] > 0.5))[clear].all()


@pytest.mark.parametrize("height, width, size, overlap", [(150, 110, 64, 0.25), (64, 200, 64, 0.5), (97, 97, 32, 0)])
def test_rows_leave_as_soon_as_no_tile_covers_them(height, width, size, overlap):
    tiling, truth = Tiling(size, overlap), np.random.default_rng(0).random((2, 3, height, width), np.float32)
    seen = 0

    def results():
        for rows, columns in tiling.boxes(height, width):
            assert rows.start - seen <= size
            yield (rows, columns), truth[..., rows, columns]

    parts = []
    for part in blended_rows(results(), tiling, height, width):
        parts.append(part)
        seen += part.shape[-2]
    np.testing.assert_allclose(np.concatenate(parts, axis=-2), truth, rtol=1e-5)
    assert len(parts) == len({rows.start for rows, _ in tiling.boxes(height, width)})


def test_a_pixel_in_the_middle_of_a_tile_weighs_more_than_at_its_edge():
    tiling = Tiling(64, 0.5)
    results = (((r, c), np.full((1, 64, 64), float(c.start > 0), np.float32)) for r, c in tiling.boxes(64, 96))
    (row,) = [part[0, 32] for part in blended_rows(results, tiling, 64, 96)]
    assert row[33] < 0.2 < 0.8 < row[62]


# Tiles


def test_a_smaller_image_is_continued_by_its_mirror_image(predictor, pixels):
    small = pixels[:40, :50]
    tile = Tiles(small).tile((slice(0, 64), slice(0, 64)))
    assert (tile[:40, 50:] == small[:, :-15:-1]).all() and (tile[40:, :50] == small[:-25:-1]).all()
    assert answers_of(predictor, small, [""])[0].mask.shape == (40, 50)


@pytest.mark.parametrize("dtype", [np.uint16, np.float32, np.int16])
def test_values_are_scaled_as_in_the_whole_image(dtype, predictor):
    values = np.linspace(0, 30000, HEIGHT * WIDTH).reshape(HEIGHT, WIDTH).astype(dtype)
    tiles = Tiles(values)
    for box in TILING.boxes(HEIGHT, WIDTH):
        np.testing.assert_array_equal(tiles.tile(box), scaled_to_unit(values)[box])
    own = predictor.prepare(tiles.tile((slice(0, 64), slice(0, 64)))).image.array
    assert own.max() < 0.5, "scaled by its own maximum"


@pytest.mark.parametrize("size, overlap", [(0, 0.25), (512.5, 0.25), (64, 1), (64, -0.1), (True, 0.25)])
def test_sizes_and_overlaps_out_of_range_are_rejected(size, overlap):
    with pytest.raises(ValueError, match="`(tile|overlap)` is"):
        Tiling(size, overlap)


def test_a_text_is_encoded_once_for_all_tiles_and_a_tile_once_for_all_texts(model, monkeypatch, pixels):
    counts = {"images": 0, "texts": 0}
    usual_image, usual_text = TeViAForSegmentation.encode_image, model.model.encode_text

    def counted_image(own, values):
        counts["images"] += len(values)
        return usual_image(own, values)

    def counted_text(input_ids, attention_mask):
        counts["texts"] += len(input_ids)
        return usual_text(input_ids, attention_mask)

    monkeypatch.setattr(TeViAForSegmentation, "encode_image", counted_image)
    monkeypatch.setattr(model.model, "encode_text", counted_text)
    predictor = Predictor(model, tiny_processor(), batch_size=4, tiling=TILING)
    answers_of(predictor, pixels, [*TEXTS, TEXTS[0]])
    assert counts == {"images": len(TILING.boxes(HEIGHT, WIDTH)), "texts": 2}  # "" needs none


# Files


@pytest.fixture
def tiff(tmp_path, pixels):
    def write(name="slide.tif", array=pixels, photometric="rgb", levels=0, **options):
        with tifffile.TiffWriter(tmp_path / name) as file:
            file.write(array, photometric=photometric, **options)
            for level in range(1, levels + 1):
                file.write(array[:: 2**level, :: 2**level], photometric=photometric, subfiletype=1, **options)
        return tmp_path / name

    return write


@pytest.mark.parametrize(
    "options",
    [
        {"tile": (32, 32)},
        {"tile": (32, 32), "compression": "zlib"},
        {"tile": (32, 32), "levels": 2},
        {"tile": (32, 32), "byteorder": ">"},
    ],
    ids=str,
)
def test_parts_of_a_tiff_are_read_from_the_file(options, tiff, pixels, predictor, tmp_path):
    options = dict(options)
    if order := options.pop("byteorder", None):
        tifffile.imwrite(tmp_path / "slide.tif", pixels, photometric="rgb", byteorder=order, **options)
        path = tmp_path / "slide.tif"
    else:
        path = tiff(**options)
    stored = load_parts(path).array
    assert isinstance(stored, StoredPixels) and stored.shape == pixels.shape
    np.testing.assert_array_equal(stored[30:80, 50:200], pixels[30:80, 50:200])
    np.testing.assert_array_equal(stored[::7, ::7], pixels[::7, ::7])
    in_memory, from_file = (answers_of(predictor, image, [""])[0] for image in (pixels, path))
    np.testing.assert_array_equal(from_file.probabilities, in_memory.probabilities)


def test_strips_are_read_in_parts_beyond_the_limit_for_whole_images_alone(tiff, pixels, monkeypatch):
    path = tiff(rowsperstrip=7)
    assert isinstance(load_parts(path).array, np.ndarray)
    monkeypatch.setattr(regions, "MAX_PIXELS", 1000)
    stored = load_parts(path).array
    np.testing.assert_array_equal(stored[30:80, 50:90], pixels[30:80, 50:90])
    monkeypatch.setattr(regions, "MAX_CHUNK", 500)
    assert isinstance(load_parts(path).array, np.ndarray)


def test_pyramids_that_cannot_be_read_in_parts_are_refused_with_the_reason(tiff, pixels, predictor):
    deep = pixels[..., 0].astype(np.uint16) * 200
    files = {
        "has not 8 bits": tiff("deep.tif", deep, "minisblack", levels=2, tile=(32, 32)),
        "alpha": tiff("a.tif", np.dstack([pixels, pixels[..., 0]]), "rgb", levels=1, extrasamples=["unassalpha"]),
    }
    with tifffile.TiffWriter(files["has not 8 bits"].with_name("two.tif")) as file:
        for image in (pixels, pixels[::2, ::2]):  # half as large, but no level of a pyramid
            file.write(image, photometric="rgb", tile=(32, 32), metadata=None)
    files["no pyramid"] = files["alpha"].with_name("two.tif")
    for reason, path in files.items():
        (prediction,) = predictor.predictions([({"image": path}, [""])])
        assert reason in str(prediction.error) and path.name in str(prediction.error)


def test_damaged_headers_are_errors_of_the_image(tiff, predictor, tmp_path):
    content = tiff(tile=(32, 32)).read_bytes()
    rng = np.random.default_rng(0)
    path = tmp_path / "damaged.tif"
    for _ in range(60):
        damaged = bytearray(content)
        for place in rng.integers(8, 300, 3):
            damaged[len(content) - place if rng.random() < 0.5 else place] = rng.integers(256)
        path.write_bytes(damaged)
        (prediction,) = predictor.predictions([({"image": path}, [""])])
        assert isinstance(prediction.error, (ValueError, OSError, type(None))), repr(prediction.error)


def test_the_alpha_channel_is_no_part_of_the_range_of_values(predictor):
    colours = np.random.default_rng(0).integers(0, 9000, (64, 64, 3)).astype(np.uint16)
    opaque = np.dstack([colours, np.full((64, 64), 65535, np.uint16)])
    box = (slice(0, 64), slice(0, 64))
    np.testing.assert_array_equal(Tiles(opaque).tile(box), Tiles(colours).tile(box))


def test_other_files_are_read_as_a_whole(tiff, pixels, tmp_path):
    grey = pixels[..., 0]
    files = {
        "deep": tiff("deep.tif", grey.astype(np.uint16) * 200, "minisblack", tile=(32, 32)),
        "white": tiff("white.tif", grey, "miniswhite", tile=(32, 32)),
        "turned": tiff("turned.tif", grey, "minisblack", extratags=[(274, 3, 1, 6, True)]),
        "alpha": tiff("alpha.tif", np.dstack([pixels, grey]), "rgb", extrasamples=["unassalpha"], tile=(32, 32)),
        "bits": tiff("bits.tif", grey > 100, "minisblack"),
    }
    Image.fromarray(pixels).quantize(8).save(tmp_path / "palette.tif")
    Image.fromarray(pixels).save(tmp_path / "plain.png")
    for name, path in files.items() | {"palette": tmp_path / "palette.tif", "png": tmp_path / "plain.png"}.items():
        read = load_parts(path)
        assert isinstance(read.array, np.ndarray), name
        np.testing.assert_array_equal(read.array, read_image(path).array, err_msg=name)


def test_a_cut_tiff_is_rejected_and_not_filled_with_black(tiff, predictor, tmp_path):
    path = tiff(tile=(32, 32))
    content = path.read_bytes()
    with tifffile.TiffFile(path) as file:
        start = max(file.pages.first.dataoffsets)
    cut = tmp_path / "cut.tif"
    cut.write_bytes(content[: start + 10])
    (prediction,) = predictor.predictions([({"image": cut}, [""])])
    assert prediction.error is not None and "cut.tif" in str(prediction.error)


def test_a_damaged_part_is_an_error_with_the_file(tiff, predictor):
    path = tiff(tile=(32, 32), compression="zlib")
    with tifffile.TiffFile(path) as file:
        page = file.pages.first
        start, length = page.dataoffsets[-3], page.databytecounts[-3]
    content = bytearray(path.read_bytes())
    content[start : start + length] = bytes(length)
    path.write_bytes(content)
    (prediction,) = predictor.predictions([({"image": path}, [""])])
    assert "slide.tif: a part of it cannot be decoded" in str(prediction.error)


def test_an_image_beyond_the_limit_is_predicted_from_its_parts(tiff, predictor, monkeypatch):
    path = tiff(tile=(32, 32))
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1000)
    with pytest.raises(ValueError, match=r"tiles.*--tile 512"):
        read_image(path)
    assert answers_of(predictor, path, [""])[0].mask.shape == (HEIGHT, WIDTH)


# Jobs


def job(model, images, folder, **options):
    return predict(model, tiny_processor(), images, [TEXTS[0]] * len(images), folder, batch_size=4, **options)


def test_a_job_writes_masks_overlays_probabilities_and_lesions_of_tiled_images(
    model, tiff, pixels, tmp_path, predictor
):
    path = tiff(tile=(32, 32))
    table = job(model, [path], tmp_path / "out", tiling=TILING, probabilities=True, statistics=True)
    (expected,) = answers_of(predictor, pixels, [TEXTS[0]])
    (row,) = table.to_dict("records")
    mask = np.array(Image.open(row["mask"]))
    np.testing.assert_array_equal(mask > 0, expected.mask > 0)
    np.testing.assert_array_equal(np.load(row["probabilities"]), expected.probabilities[0])
    assert row["pixels"] == (mask > 0).sum() == expected.statistics["lesion"].pixels
    inside = expected.probabilities[0][mask > 0]
    assert row["probability"] == pytest.approx(inside.astype(np.float64).mean(), abs=1e-3) if inside.size else True
    with Image.open(row["overlay"]) as overlay:
        assert overlay.width / overlay.height == pytest.approx(WIDTH / HEIGHT, rel=0.02)


def test_overlays_of_large_images_are_shrunk(model, tiff, tmp_path, monkeypatch):
    monkeypatch.setattr("tevia_hf.inference.outputs.OVERLAY_SIDE", 60)
    table = job(model, [tiff(tile=(32, 32))], tmp_path / "out", tiling=TILING)
    with Image.open(table.loc[0, "overlay"]) as overlay:
        assert max(overlay.size) < 384 + 60  # small ones are enlarged by whole factors up to there
        assert overlay.width / overlay.height == pytest.approx(WIDTH / HEIGHT, rel=0.05)


def test_a_job_with_another_tiling_is_not_continued(model, tiff, tmp_path):
    path = tiff(tile=(32, 32))
    job(model, [path], tmp_path / "out", tiling=TILING)
    with pytest.raises(ValueError, match="tiling"):
        job(model, [path], tmp_path / "out", tiling=Tiling(64, 0.5), resume=True)
    table = job(model, [path], tmp_path / "out", tiling=TILING, resume=True)
    assert list(table["status"]) == ["done"]


def test_an_unreadable_image_leaves_the_others_alone(model, tiff, tmp_path):
    (tmp_path / "broken.png").write_bytes(b"no image")
    table = job(model, [tmp_path / "broken.png", tiff(tile=(32, 32))], tmp_path / "out", tiling=TILING)
    assert list(table["status"]) == ["failed", "done"]


def test_logits_that_are_not_finite_fail_with_the_images_name(model, pixels, monkeypatch):
    predictor = Predictor(model, tiny_processor(), batch_size=4, tiling=TILING)
    usual = predictor.network.ask

    def broken(features, texts):
        output = usual(features, texts)
        output.logits[-1, 0, 0, 0] = float("nan")
        return output

    monkeypatch.setattr(predictor.network, "ask", broken)
    (prediction,) = predictor.predictions([({"image": pixels, "id": "slide 7"}, [""])])
    assert "image slide 7 are not finite" in str(prediction.error) and not prediction.answers


def test_errors_of_the_network_are_raised_and_no_fault_of_the_image(model, pixels, monkeypatch):
    predictor = Predictor(model, tiny_processor(), tiling=TILING)

    def broken(prepared):
        raise RuntimeError("out of memory")

    monkeypatch.setattr(predictor, "encode", broken)
    with pytest.raises(RuntimeError, match="out of memory"):
        next(predictor.predictions([({"image": pixels}, [""])]))


def test_an_overlap_without_tiles_is_refused():
    assert Tiling.of(None, None) is None and Tiling.of(64, None) == Tiling(64) and Tiling.of(64, 0.5).overlap == 0.5
    with pytest.raises(ValueError, match="--tile 512"):
        Tiling.of(None, 0.5)


def test_an_evaluation_in_tiles_scores_the_masks_of_tiles(model):
    dataset = load_segmentation_dataset("synthetic", split="test", size=80, count=2)
    report = evaluate_model(model, tiny_processor(), dataset, text_modes=[], tiling=TILING)
    assert report.settings["tiling"] == {"size": 64, "overlap": 0.25}
    predictor = Predictor(model, tiny_processor(), tiling=TILING)
    own = report.images[report.images["text_mode"] == "correct"]
    for (_, row), example in zip(own.iterrows(), dataset, strict=True):
        mask = answers_of(predictor, example["image"], [example["text"]])[0].mask
        assert row["predicted_pixels"] == mask.sum()


def test_a_large_image_in_one_pass_causes_one_warning(model, monkeypatch):
    monkeypatch.setattr(predicting, "LARGE_SIDE", 48)
    examples = [{"image": np.zeros((size, 40), np.uint8), "text": "", "id": f"scan {size}"} for size in (48, 49, 64)]
    with pytest.warns(UserWarning, match=r"scan (49|64) has (49|64) x 40 pixels.*32 x 32.*--tile 512") as caught:
        predict_masks(model, tiny_processor(), examples)
    assert len([one for one in caught if "--tile" in str(one.message)]) == 1
