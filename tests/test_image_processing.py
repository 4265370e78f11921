"""Images and masks to model inputs, predictions to masks."""

import os
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from huggingface_hub.errors import StrictDataclassFieldValidationError
from PIL import Image
from transformers import AutoImageProcessor, PreTrainedConfig

from tevia_hf import TeViAImageProcessor

IMAGES = Path(os.environ.get("TEVIA_REFERENCE_PICTURES", "unset"))
SETTING_ERRORS = (ValueError, TypeError, StrictDataclassFieldValidationError)
SMALL = {"height": 16, "width": 16}


def plain(**settings):
    """A processor that only scales pixels to [0, 1]."""
    defaults = {"do_resize": False, "normalization": "fixed", "image_mean": 0.0, "image_std": 1.0}
    return TeViAImageProcessor(**(defaults | settings))


def random_pixels(*shape, seed=0, dtype=np.uint8):
    return np.random.default_rng(seed).integers(0, 256, shape).astype(dtype)


def logits_of(probabilities):
    return SimpleNamespace(logits=torch.logit(torch.as_tensor(probabilities, dtype=torch.float32)))


class ThrowawayConfig(PreTrainedConfig):
    model_type = "tevia-image-processor-test"


@pytest.mark.parametrize(
    "read", [np.asarray, lambda image: torch.from_numpy(np.array(image)), lambda image: image, "path"]
)
def test_every_kind_of_input_gives_the_same_pixels(read, tmp_path):
    image = Image.fromarray(random_pixels(20, 30, 3))
    image.save(tmp_path / "a.png")
    given = tmp_path / "a.png" if read == "path" else read(image)
    expected = np.asarray(image).transpose(2, 0, 1)[None] / 255
    for images in (given, [given]):
        np.testing.assert_allclose(plain()(images).pixel_values.numpy(), expected, atol=1e-6)


def test_channels_may_come_first_or_last_and_batches_as_one_array():
    batch = random_pixels(2, 20, 30, 3)
    last, first = plain()(batch).pixel_values, plain()(torch.from_numpy(batch).permute(0, 3, 1, 2)).pixel_values
    assert last.shape == (2, 3, 20, 30)
    assert torch.equal(last, first)


def thin_images():
    """PIL images with a side that could be the number of channels."""
    for shape in [(3, 20, 3), (1, 20, 3), (4, 20, 3), (4, 20, 4), (3, 3, 3), (20, 3, 3), (1, 1, 3), (3, 20), (1, 4)]:
        yield pytest.param(Image.fromarray(random_pixels(*shape)), id=str(shape))
    yield pytest.param(Image.fromarray(random_pixels(3, 20)).convert("LA"), id="LA")
    yield pytest.param(Image.fromarray(random_pixels(4, 20) > 99), id="bool")
    yield pytest.param(Image.fromarray(random_pixels(3, 20, dtype=np.float32)), id="float")


@pytest.mark.parametrize("image", thin_images())
def test_a_pil_image_and_its_file_are_always_height_by_width_by_channels(image, tmp_path):
    pixels = plain()(image).pixel_values
    assert pixels.shape == (1, 3, image.height, image.width)
    if image.mode != "F":
        expected = np.asarray(image.convert("RGB")).transpose(2, 0, 1)[None] / 255
        np.testing.assert_allclose(pixels.numpy(), expected, atol=1e-6)
        image.save(tmp_path / "thin.png")
        assert torch.equal(plain()(tmp_path / "thin.png").pixel_values, pixels)


@pytest.mark.parametrize("mode", ["L", "RGB", "RGBA", "LA", "1"])
@pytest.mark.parametrize("shape", [(3, 20), (1, 20), (4, 20), (20, 3), (4, 4)])
def test_a_pil_mask_is_always_height_by_width_by_channels(shape, mode):
    lesion = random_pixels(*shape) > 99
    mask = Image.fromarray(lesion.astype(np.uint8) * 255).convert(mode)
    assert plain()(Image.new("L", shape[::-1]), mask).labels[0].tolist() == lesion.astype(int).tolist()


@pytest.mark.parametrize("shape", [(3, 20, 3), (1, 20, 3), (4, 20, 1), (3, 3, 3), (4, 20, 4)])
@pytest.mark.parametrize("kind", [np.asarray, torch.from_numpy])
def test_an_ambiguous_array_is_read_by_input_data_format_or_refused(shape, kind):
    image = kind(random_pixels(*shape))
    for processor in (plain(), TeViAImageProcessor()):
        with pytest.raises(ValueError, match=r"may come first or last: set input_data_format=.*PIL image"):
            processor(image)
    last, first = ({"input_data_format": f"channels_{where}"} for where in ("last", "first"))
    assert plain()(image, **last).pixel_values.shape == (1, 3, *shape[:2])
    assert plain(**first)(image).pixel_values.shape == plain()(image, **first).pixel_values.shape == (1, 3, *shape[1:])
    mask = kind(np.ones(shape, np.uint8))
    with pytest.raises(ValueError, match="mask 0 has shape .*may come first or last"):
        plain()(random_pixels(*shape[:2]), mask)
    assert plain()(image, mask, **last).labels.shape == (1, *shape[:2])


def test_a_layout_that_the_array_does_not_have_is_refused():
    with pytest.raises(ValueError, match="image 0 has 20 channels: give .height, width."):
        plain()(random_pixels(20, 30, 3), input_data_format="channels_first")
    with pytest.raises(StrictDataclassFieldValidationError, match="input_data_format"):
        plain(input_data_format="HWC")


def file_of_pages(path):
    pages = [Image.fromarray(random_pixels(6, 7, seed=seed)) for seed in range(3)]
    pages[0].save(path, save_all=True, append_images=pages[1:])
    return path, pages


@pytest.mark.parametrize("name", ["pages.tif", "pages.png"])
def test_a_file_of_several_pages_is_refused(name, tmp_path):
    path, _ = file_of_pages(tmp_path / name)
    for arguments in ((path,), (random_pixels(6, 7), path)):
        with pytest.raises(ValueError, match=r"holds 3 pages, one is expected. Save each page as a file of its own"):
            plain()(*arguments)


@pytest.mark.parametrize("name", ["pages.tif", "pages.gif", "pages.png"])
def test_an_image_of_several_pages_is_refused_until_one_is_chosen(name, tmp_path):
    path, pages = file_of_pages(tmp_path / name)
    image = Image.open(path)
    with pytest.raises(ValueError, match=r"image 0 .* holds 3 pages, one is expected. Choose one .`image.seek"):
        plain()(image)
    with pytest.raises(ValueError, match=r"mask 0 .* holds 3 pages"):
        plain()(random_pixels(6, 7), image)
    image.seek(1)
    chosen = image.copy()
    assert torch.equal(plain()(chosen).pixel_values, plain()(pages[1]).pixel_values)


@pytest.mark.parametrize(
    ("size", "expected"),
    [
        (128, (128, 128)),
        ([16, 24], (16, 24)),
        ((16, 24), (16, 24)),
        ({"height": 16, "width": 24}, (16, 24)),
        ({"width": 24, "height": 16}, (16, 24)),
    ],
)
def test_a_size_may_be_a_side_a_pair_or_named(size, expected, tmp_path):
    processor_of_size = TeViAImageProcessor(size=size)
    processor_of_size.save_pretrained(tmp_path)
    for processor in (processor_of_size, TeViAImageProcessor.from_pretrained(tmp_path)):
        assert processor(random_pixels(20, 30)).pixel_values.shape[-2:] == expected
        assert dict(processor.size) == {"height": expected[0], "width": expected[1]}
    assert TeViAImageProcessor()(random_pixels(20, 30), size=size).pixel_values.shape[-2:] == expected
    assert TeViAImageProcessor.from_pretrained(tmp_path, size=size).size == processor_of_size.size


def test_without_normalization_pixels_stay_between_0_and_1():
    image = random_pixels(20, 30)
    for normalization in ("zscore", "fixed"):
        pixels = plain(normalization=normalization, image_mean=0.5)(image, do_normalize=False).pixel_values
        np.testing.assert_allclose(pixels[0, 0].numpy(), image / 255, atol=1e-6)


@pytest.mark.parametrize("shape", [(20, 30), (20, 30, 1), (1, 20, 30)])
def test_grey_is_repeated_to_three_channels(shape):
    grey = random_pixels(*shape)
    pixels = plain()(grey).pixel_values[0].numpy()
    np.testing.assert_allclose(pixels, np.repeat(grey.reshape(1, 20, 30), 3, axis=0) / 255, atol=1e-6)


@pytest.mark.parametrize("mode", ["LA", "RGBA", "PA"])
def test_alpha_is_dropped(mode):
    image = Image.fromarray(random_pixels(20, 30)).convert(mode)
    opaque, seen_through = image.copy(), image.copy()
    seen_through.putalpha(7)
    assert torch.equal(plain()(opaque).pixel_values, plain()(seen_through).pixel_values)


def test_sixteen_bit_images_are_not_saturated():
    deep = np.array([[0, 16384], [32768, 65535]], dtype=np.uint16)
    for image in (deep, Image.fromarray(deep), deep.astype(np.int32)):
        np.testing.assert_allclose(plain()(image).pixel_values[0, 0].numpy(), deep / 65535, atol=1e-6)


def test_floats_inside_0_to_1_are_taken_as_they_are_and_others_by_their_own_range():
    inside, outside = np.array([[0.2, 0.4], [0.6, 0.5]]), np.array([[-1000.0, 0.0], [1000.0, 500.0]])
    np.testing.assert_allclose(plain()(inside).pixel_values[0, 0].numpy(), inside, atol=1e-6)
    np.testing.assert_allclose(plain()(outside).pixel_values[0, 0].numpy(), (outside + 1000) / 2000, atol=1e-6)


def test_zscore_gives_each_channel_mean_0_and_biased_deviation_1():
    image = random_pixels(40, 30, 3) // np.array([1, 2, 5], dtype=np.uint8)
    pixels = TeViAImageProcessor(size=SMALL)(image).pixel_values.double()
    torch.testing.assert_close(pixels.mean(dim=(2, 3)), torch.zeros(1, 3).double(), atol=1e-5, rtol=0)
    torch.testing.assert_close(pixels.var(dim=(2, 3), correction=0), torch.ones(1, 3).double(), atol=1e-4, rtol=0)


def test_zscore_makes_a_constant_image_zero():
    flat = TeViAImageProcessor(size=SMALL)(np.full((30, 50), 77, dtype=np.uint8)).pixel_values
    assert flat.abs().max() < 0.05


def test_fixed_normalization_subtracts_the_mean_and_divides_by_the_deviation():
    white = np.full((8, 8), 255, dtype=np.uint8)
    pixels = plain(image_mean=[0.5, 0.4, 0.0], image_std=[0.5, 0.2, 2.0])(white).pixel_values
    torch.testing.assert_close(pixels[0, :, 3, 3], torch.tensor([1.0, 3.0, 0.5]))


def test_antialias_averages_what_plain_resizing_skips():
    stripes = np.zeros((64, 64), dtype=np.uint8)
    stripes[:, ::4] = 255
    smooth, rough = (plain(do_resize=True, size=SMALL, do_antialias=on)(stripes).pixel_values for on in (True, False))
    assert (smooth[..., 4:12] - 0.25).abs().max() < 0.05
    assert (rough[..., 4:12] - 0.25).abs().max() > 0.2


def test_bicubic_overshoot_is_not_clipped():
    edge = np.zeros((8, 8), dtype=np.uint8)
    edge[:, 4:] = 255
    pixels = plain(do_resize=True, size=SMALL)(edge).pixel_values
    assert pixels.min() < 0 and pixels.max() > 1


def test_swapped_axes_transpose_images_and_masks():
    image, mask = random_pixels(20, 30), (random_pixels(20, 30) > 200).astype(np.uint8)
    inputs = plain(swap_axes=True)(image, mask)
    assert torch.equal(inputs.pixel_values, plain()(image.T).pixel_values)
    assert torch.equal(inputs.labels[0], torch.from_numpy(mask.T).long())


def test_post_processing_swaps_the_axes_back():
    mask = (random_pixels(12, 18, seed=3) > 128).astype(np.uint8)
    processor = plain(swap_axes=True)
    labels = processor(random_pixels(12, 18), mask).labels
    (back,) = processor.post_process_segmentation(logits_of(labels[:, None] * 0.8 + 0.1), target_sizes=[(12, 18)])
    assert torch.equal(back, torch.from_numpy(mask))


def test_masks_are_resized_to_the_nearest_label():
    mask = np.kron(np.array([[0, 3], [7, 255]]), np.ones((10, 10))).astype(np.uint8)
    labels = TeViAImageProcessor(size=SMALL, num_labels=8)(random_pixels(20, 20), mask).labels
    assert labels.shape == (1, 16, 16) and labels.dtype == torch.int64
    assert torch.equal(labels[0], torch.from_numpy(np.kron([[0, 3], [7, 255]], np.ones((8, 8)))).long())


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([False, True], [0, 1]),
        ([0, 1], [0, 1]),
        ([0, 255], [0, 1]),
        ([255, 255], [1, 1]),
        ([0.0, 1.0], [0, 1]),
        ([0, 1, 255], [0, 1, 255]),
        ([1, 255], [1, 255]),
        ([0, 0], [0, 0]),
    ],
)
def test_binary_masks_are_reduced_to_0_1_and_ignore(values, expected):
    mask = np.array([values])
    assert plain()(np.zeros(mask.shape), mask).labels[0].tolist() == [expected]


@pytest.mark.parametrize("values", [[0, 255], [255, 255], [0, 1, 255], [0, 0]])
def test_a_label_map_keeps_what_is_ignored(values):
    labels = np.array([values])
    assert plain(white_is_lesion=False)(np.zeros(labels.shape), labels).labels[0].tolist() == [values]
    assert plain()(np.zeros(labels.shape), labels, white_is_lesion=False).labels[0].tolist() == [values]


def test_masks_of_three_equal_channels_are_reduced_and_of_different_channels_refused():
    mask = np.repeat((random_pixels(6, 7, 1) > 99).astype(np.uint8) * 255, 3, axis=2)
    assert plain()(random_pixels(6, 7), mask).labels[0].tolist() == (mask[..., 0] // 255).tolist()
    mask[0, 0] = [0, 255, 0]
    with pytest.raises(ValueError, match="mask 0 has 3 channels that differ.*save it as one channel"):
        plain()(random_pixels(6, 7), mask)


def test_a_palette_mask_keeps_its_indices():
    indices = random_pixels(6, 7) % 3
    mask = Image.fromarray(indices, mode="L")
    mask.putpalette([0, 0, 0, 255, 0, 0, 0, 0, 255])
    assert mask.mode == "P"
    assert plain(num_labels=3)(random_pixels(6, 7), mask).labels[0].tolist() == indices.tolist()


def test_masks_come_as_a_list_or_as_one_array():
    images, masks = random_pixels(3, 6, 7, 3), (random_pixels(3, 6, 7) > 99).astype(np.uint8)
    for given in (masks, list(masks), torch.from_numpy(masks), masks[:, None]):
        assert torch.equal(plain()(images, given).labels, torch.from_numpy(masks).long())


@pytest.mark.parametrize(
    ("num_labels", "values", "message"),
    [
        (1, [0, 128, 254], r"mask 1 holds 2 values that are not labels \(128, 254\); num_labels=1 allows 0/1, 0/255"),
        (1, [0, 0.5, 1], r"mask 1 holds 1 values that are not labels \(0.5\)"),
        (
            3,
            [0, 2, 3],
            r"\(3\); num_labels=3 allows 0 to 2 and 255 .*: map them to 0 to 2, or, if .*num_labels=4",
        ),
        (1, [-1, 0, 1], r"\(-1\)"),
        (1, [np.nan, 0, 1], r"\(nan\)"),
    ],
)
def test_values_that_are_no_labels_are_refused(num_labels, values, message):
    masks = [np.zeros((1, 3)), np.array([values])]
    with pytest.raises(ValueError, match=message):
        plain(num_labels=num_labels)([np.zeros((1, 3))] * 2, masks)


def test_a_mask_of_another_size_is_refused_with_both_sizes():
    with pytest.raises(ValueError, match="mask 0 is 7 x 6 .* its image is 6 x 7"):
        plain()(random_pixels(6, 7), np.zeros((7, 6)))


def test_counts_that_differ_are_refused_with_both_counts():
    with pytest.raises(ValueError, match="2 images but 1 segmentation maps"):
        plain()([random_pixels(6, 7)] * 2, [np.zeros((6, 7))])


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_pixels_that_are_not_finite_are_refused_with_the_index(value):
    bad = np.full((6, 7), 0.5)
    bad[2, 3] = value
    with pytest.raises(ValueError, match="image 1 holds NaN or infinite pixels"):
        plain()([np.full((6, 7), 0.5), bad])


def test_a_truncated_file_is_refused_by_name(tmp_path):
    path = tmp_path / "half.png"
    Image.fromarray(random_pixels(64, 64)).save(path)
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(ValueError, match=r"half.png: not readable, corrupt or cut short .*Fetch"):
        plain()(path)
    with pytest.raises(ValueError, match=r"image 0 \(.*half.png\): not readable"):
        plain()(Image.open(path))
    with pytest.raises(ValueError, match=r"half.png: not readable, corrupt or cut short"):
        plain()(random_pixels(64, 64), path)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match="absent.png"):
        plain()(tmp_path / "absent.png")


@pytest.mark.parametrize(
    ("images", "error", "message"),
    [
        (np.zeros((5, 6, 7)), ValueError, r"image 0 has shape \(5, 6, 7\)"),
        ([np.zeros((6, 7)), np.zeros(3)], ValueError, r"image 1 has shape \(3,\)"),
        ([3], TypeError, "image 0 is a int: give a PIL image"),
        ([], ValueError, "No images were given"),
        ([np.zeros((6, 7)), np.zeros((7, 6))], ValueError, r"\[\(6, 7\), \(7, 6\)\] make no batch"),
    ],
)
def test_inputs_that_are_no_batch_of_images_are_refused(images, error, message):
    with pytest.raises(error, match=message):
        plain()(images)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"size": {"shortest_edge": 9}}, 'size must be {"height".* got .*shortest_edge'),
        ({"size": {"height": 9, "width": 9, "longest_edge": 9}}, 'size must be {"height"'),
        ({"size": {"height": 9}}, 'size must be {"height"'),
        ({"size": [9]}, 'size must be {"height"'),
        ({"size": [9, 9, 3]}, r"or the side of a square, in pixels; got \[9, 9, 3\]"),
        ({"size": 0}, 'size must be {"height"'),
        ({"size": [-9, 9]}, 'size must be {"height"'),
        ({"size": "9"}, "size"),
        ({"do_rescale": False}, "takes no do_rescale: give any of do_resize, size"),
        ({"resample": 1}, "resample must be one of"),
        ({"num_labels": 0}, "num_labels must be 1 to 255, got 0"),
        ({"normalization": "zscores"}, "normalization"),
        ({"swapaxes": True}, "swapaxes"),
    ],
)
def test_settings_that_do_not_exist_are_refused_at_construction_and_at_call(settings, message):
    with pytest.raises(SETTING_ERRORS, match=message):
        TeViAImageProcessor(**settings)
    with pytest.raises(SETTING_ERRORS, match=message):
        TeViAImageProcessor()(random_pixels(6, 7), **settings)


def test_probabilities_are_resized_bilinearly_and_then_thresholded():
    outputs = logits_of([[[[0.1, 0.9]]]])
    (probabilities,) = TeViAImageProcessor().post_process_segmentation(
        outputs, target_sizes=torch.tensor([[2, 4]]), return_probabilities=True
    )
    torch.testing.assert_close(probabilities, torch.tensor([[[0.1, 0.3, 0.7, 0.9]] * 2]))
    for threshold, row in ((0.5, [0, 0, 1, 1]), (0.2, [0, 1, 1, 1])):
        (mask,) = TeViAImageProcessor().post_process_segmentation(outputs, [(2, 4)], threshold=threshold)
        assert mask.dtype == torch.uint8 and mask.tolist() == [row, row]


def test_several_labels_become_the_most_probable_one():
    outputs = SimpleNamespace(logits=torch.tensor([[[[2.0, 0.0]], [[0.0, 0.0]], [[1.0, 5.0]]]]))
    processor = TeViAImageProcessor(num_labels=3)
    assert processor.post_process_segmentation(outputs)[0].tolist() == [[0, 2]]
    (probabilities,) = processor.post_process_segmentation(outputs, return_probabilities=True)
    torch.testing.assert_close(probabilities.sum(dim=0), torch.ones(1, 2))


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize("as_probabilities", [True, False])
def test_logits_that_are_not_finite_give_no_mask(value, as_probabilities):
    logits = torch.zeros(3, 1, 4, 4)
    logits[1, 0, 2, 3] = value
    message = "The logits of image 1 are not finite .* In float16 large values overflow"
    with pytest.raises(ValueError, match=message):
        TeViAImageProcessor().post_process_segmentation(
            SimpleNamespace(logits=logits), return_probabilities=as_probabilities
        )


def test_counts_of_predictions_and_target_sizes_that_differ_are_refused():
    with pytest.raises(ValueError, match="1 predictions but 2 target sizes"):
        TeViAImageProcessor().post_process_segmentation(logits_of([[[[0.5]]]]), [(1, 1), (2, 2)])


def test_settings_survive_save_and_load(tmp_path):
    settings = {"size": SMALL, "do_antialias": False, "swap_axes": True, "num_labels": 3, "normalization": "fixed"}
    processor = TeViAImageProcessor(**settings)
    processor.save_pretrained(tmp_path)
    loaded = TeViAImageProcessor.from_pretrained(tmp_path)
    assert loaded.to_dict() == processor.to_dict()
    assert {name: getattr(loaded, name) for name in settings} == settings
    AutoImageProcessor.register(ThrowawayConfig, image_processor_classes={"pil": TeViAImageProcessor}, exist_ok=True)
    automatic = AutoImageProcessor.from_pretrained(tmp_path)
    assert type(automatic) is TeViAImageProcessor
    assert torch.equal(automatic(random_pixels(20, 30)).pixel_values, processor(random_pixels(20, 30)).pixel_values)


def test_settings_of_a_call_do_not_stay():
    processor = TeViAImageProcessor(size=SMALL)
    assert processor(random_pixels(20, 30), size={"height": 8, "width": 4}).pixel_values.shape == (1, 3, 8, 4)
    assert processor(random_pixels(20, 30), return_tensors="np")["pixel_values"].shape == (1, 3, 16, 16)


@pytest.mark.skipif(
    not (IMAGES / "reference/pixels_expected.npz").exists(),
    reason="the images' licences keep them out of the repository: name their folder in TEVIA_REFERENCE_PICTURES",
)
@pytest.mark.parametrize(
    ("name", "image", "mask"),
    [
        ("qata", "qata/Train/Images/covid_0001.jpg", "qata/Train/GTs/mask_covid_0001.png"),
        ("busi", "busi/malignant/malignant (20).png", "busi/malignant/malignant (20)_mask.png"),
    ],
)
def test_pixels_equal_those_of_the_published_reader(name, image, mask):
    expected = np.load(IMAGES / "reference/pixels_expected.npz")
    processor = TeViAImageProcessor(swap_axes=True, do_antialias=False, normalization="zscore")
    inputs = processor(IMAGES / "data" / image, IMAGES / "data" / mask)
    error = np.abs(inputs.pixel_values[0].numpy() - expected[f"{name}_pixels"].astype(np.float32))
    assert error.max() < 2e-3  # the reference is stored in float16
    assert (inputs.labels.numpy() == expected[f"{name}_mask"]).all()


def test_masks_and_images_are_shrunk_on_one_grid():
    columns = np.arange(64) >= 32
    step = np.broadcast_to(columns, (64, 64)).astype(np.uint8)
    for start in range(1, 63):  # an edge anywhere lies at the same place in the image and in the mask, to half a pixel
        step = np.broadcast_to(np.arange(64) >= start, (64, 64))
        inputs = plain(size=SMALL, normalization="fixed", image_mean=0.0, image_std=1.0)(
            step.astype(np.uint8) * 255, step
        )
        assert abs(inputs.pixel_values[0, 0, 0].sum() - inputs.labels[0, 0].sum()) <= 0.51


def test_the_orientation_in_the_file_is_applied(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(np.zeros((20, 30), np.uint8)).save(tmp_path / "rotated.jpg", exif=exif)
    assert plain(do_resize=False)(tmp_path / "rotated.jpg").pixel_values.shape[-2:] == (30, 20)
