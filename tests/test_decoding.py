"""One decoder reads every file, and PIL images are the same arrays to the model's code and to the package."""

import numpy as np
import pytest
import torch
from medical_files import RAMP, write_dicom, write_figshare, write_nifti
from PIL import Image
from tiny import tiny_processor, tiny_reader

from tevia_hf import TeViAImageProcessor, TeViASegmentationPipeline
from tevia_hf.data.decoding import decode_image, decode_labels
from tevia_hf.data.features import dataset_from_rows, undecoded
from tevia_hf.decoding_tevia import image_to_array, read_plain_file
from tevia_hf.io import ImageRef, read_image

MODES = ["1", "L", "LA", "La", "P", "PA", "RGB", "RGBA", "RGBa", "RGBX", "CMYK", "YCbCr", "HSV", "I", "F"]
VOLUME = np.arange(60, dtype=np.int16).reshape(3, 4, 5)
DEEP = ["<u2", ">u2", "<i4", ">i4", "<f4", ">f4"]


def image_of(mode):
    pixels = np.random.default_rng(0).integers(0, 256, (6, 9, 3)).astype(np.uint8)
    colours = Image.fromarray(pixels)
    if mode == "La":
        return colours.convert("LA").convert("La")
    if mode == "RGBa":
        return colours.convert("RGBA").convert("RGBa")
    return colours.convert("P").convert("PA") if mode == "PA" else colours.convert(mode)


def turned(image, orientation):
    exif = image.getexif()
    exif[0x0112] = orientation
    return image


@pytest.mark.parametrize("is_mask", [False, True])
@pytest.mark.parametrize("orientation", [1, 3, 5, 6, 8])
@pytest.mark.parametrize("mode", MODES)
def test_an_image_of_any_mode_is_one_array(mode, orientation, is_mask):
    array = image_to_array(turned(image_of(mode), orientation), is_mask)
    assert array.dtype.isnative and array.ndim in (2, 3)
    assert array.shape[:2] == ((9, 6) if orientation >= 5 else (6, 9))


@pytest.mark.parametrize("is_mask", [False, True])
@pytest.mark.parametrize("dtype", DEEP)
def test_an_image_of_any_depth_is_one_array(dtype, is_mask, tmp_path):
    pixels = (np.arange(12).reshape(3, 4) * 3000).astype(dtype)
    Image.fromarray(pixels).save(tmp_path / "a.tif")
    with Image.open(tmp_path / "a.tif") as image:
        arrays = [image_to_array(image, is_mask), image_to_array(Image.fromarray(pixels))]
    for array in arrays:
        assert array.dtype.isnative
        np.testing.assert_array_equal(array, pixels)


def test_a_palette_gives_colours_of_an_image_and_indices_of_a_mask():
    image = Image.fromarray(np.array([[0, 1], [2, 1]], np.uint8), mode="P")
    image.putpalette([0, 0, 0, 200, 10, 10, 10, 200, 10])
    for given in (image, image.convert("PA")):
        assert np.atleast_3d(image_to_array(given, True))[..., 0].tolist() == [[0, 1], [2, 1]]
        assert image_to_array(given)[0, 1].tolist()[:3] == [200, 10, 10]


# Files


def png(folder):
    Image.fromarray(RAMP.astype(np.uint16) * 50).save(folder / "a.png")
    return folder / "a.png"


def two_pages(folder):
    pages = [Image.new("L", (8, 6)), Image.new("L", (8, 6), 9)]
    pages[0].save(folder / "a.tif", save_all=True, append_images=pages[1:])
    return folder / "a.tif"


def cut_short(folder):
    png(folder).write_bytes(png(folder).read_bytes()[:50])
    return folder / "a.png"


READABLE = {
    "png": png,
    "dicom": lambda folder: write_dicom(folder / "a.dcm", RAMP),
    "dicom through a window": lambda folder: f"{write_dicom(folder / 'a.dcm', RAMP)}#@500,300",
    "slice": lambda folder: f"{write_nifti(folder / 'a.nii.gz', VOLUME)}#coronal:2",
    "record": lambda folder: write_figshare(folder / "7.mat", RAMP.astype(np.int16)),
}  # fmt: skip
REFUSED = {
    "two pages": two_pages,
    "cut short": cut_short,
    "no slice named": lambda folder: write_nifti(folder / "a.nii.gz", VOLUME),
    "malformed slice": lambda folder: f"{write_nifti(folder / 'a.nii', VOLUME)}#4o",
    "slice beyond the last": lambda folder: f"{write_nifti(folder / 'a.nii', VOLUME)}#5",
    "other suffix": lambda folder: folder / "a.bmp",
    "missing": lambda folder: folder / "missing.png",
}


def plain():
    return TeViAImageProcessor(do_resize=False, normalization="fixed", image_mean=0.0, image_std=1.0)


@pytest.mark.parametrize("write", READABLE.values(), ids=READABLE)
def test_the_processor_reads_a_file_as_read_image_does(write, tmp_path):
    path = write(tmp_path)
    for given in (path, str(path)):
        assert torch.equal(plain()(given).pixel_values, plain()(read_image(path).array).pixel_values)


@pytest.mark.parametrize("write", READABLE.values(), ids=READABLE)
def test_the_pipeline_reads_a_file_as_read_image_does(write, tmp_path):
    path = write(tmp_path)
    segment = TeViASegmentationPipeline(tiny_reader(), processor=tiny_processor(), device="cpu")
    (by_path,), (by_array,) = segment(str(path), "left"), segment(read_image(path).array, "left")
    assert by_path["score"] == by_array["score"] and by_path["mask"].size == by_array["mask"].size


@pytest.mark.parametrize("write", REFUSED.values(), ids=REFUSED)
def test_what_read_image_refuses_is_refused_everywhere_with_its_message(write, tmp_path):
    path = str(write(tmp_path))
    segment = TeViASegmentationPipeline(tiny_reader(), processor=tiny_processor(), device="cpu")
    with pytest.raises((ValueError, OSError)) as expected:
        read_image(path)
    dataset = dataset_from_rows([{"id": "a", "image": path, "mask": path}])
    # In a list, as the pipeline takes a volume that is given alone.
    for read in (
        plain(),
        lambda path: segment([path]),
        lambda path: dataset[0]["image"],
        lambda path: plain()(np.zeros((6, 8)), path),
    ):
        with pytest.raises(type(expected.value)) as caught:
            read(path)
        assert str(caught.value) == str(expected.value)


def test_masks_are_read_by_the_same_decoder(tmp_path):
    path = f"{write_nifti(tmp_path / 'a.nii.gz', VOLUME % 2)}#1"
    mask = read_image(path, is_mask=True).array
    assert torch.equal(plain()(np.zeros(mask.shape), path).labels[0], torch.from_numpy(mask).long())


@pytest.mark.parametrize("kind", [name for name in READABLE if name != "png"])
def test_without_the_package_an_error_says_that_medical_files_need_it(kind, tmp_path):
    with pytest.raises((ValueError, OSError), match=r"tevia_hf\[medical\]|No such file"):
        read_plain_file(READABLE[kind](tmp_path))


def test_without_the_package_plain_files_are_read_alike(tmp_path):
    np.testing.assert_array_equal(read_plain_file(png(tmp_path)), read_image(tmp_path / "a.png").array)
    with pytest.raises(ValueError, match=r"a\.tif: holds 2 pages"):
        read_plain_file(two_pages(tmp_path))
    with pytest.raises(ValueError, match=r"a\.png: not readable"):
        read_plain_file(cut_short(tmp_path))


def test_a_data_set_shows_what_read_image_reads(tmp_path):
    dataset = dataset_from_rows([{"id": "a", "image": png(tmp_path), "mask": png(tmp_path)}])
    assert undecoded(dataset)[0]["image"] == {"path": str(tmp_path / "a.png"), "bytes": None}
    np.testing.assert_array_equal(np.asarray(dataset[0]["image"]), read_image(tmp_path / "a.png").array)


# Entries of a column


def test_a_thin_colour_image_is_decoded_twice_alike():
    pixels = np.arange(3 * 50 * 3, dtype=np.uint8).reshape(3, 50, 3)
    once = decode_image({"image": Image.fromarray(pixels)})
    assert np.array_equal(once, pixels) and np.array_equal(decode_image({"image": once}), pixels)


@pytest.mark.parametrize("held", ["bytes", "image"])
def test_several_pages_are_refused_however_they_are_held(held, tmp_path):
    path = two_pages(tmp_path)
    entry = {"bytes": path.read_bytes(), "path": None} if held == "bytes" else Image.open(path)
    for decoded in (decode_image, lambda example: decode_labels(example, 1)):
        with pytest.raises(ValueError, match="'a': .* holds 2 pages, one is expected"):
            decoded({"id": "a", "image": entry, "mask": entry})


@pytest.mark.parametrize("entry", [None, {"bytes": None, "path": None}])
def test_a_missing_mask_is_named_by_its_example(entry):
    with pytest.raises(ValueError, match="mask of example 'a': it is missing"):
        decode_labels({"id": "a", "mask": entry}, 1)


def test_white_is_ignored_in_all_masks_of_an_image_that_has_several_labels(tmp_path):
    files = []
    for name, value in (("a.png", 2), ("b.png", 255)):
        mask = np.zeros((6, 6), np.uint8)
        mask[value % 5, :3] = value
        Image.fromarray(mask).save(tmp_path / name)
        files.append(ImageRef(tmp_path / name))
    known, unknown = (decode_labels({"id": "a", "mask": tuple(files)}, num_labels) for num_labels in (3, None))
    assert np.array_equal(known, unknown) and set(np.unique(known)) == {0, 2, 255}
