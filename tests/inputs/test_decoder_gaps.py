"""A valid file is read correctly, or the error names its kind; it is not called corrupt."""

import nibabel
import numpy as np
import pytest
from builders import (
    answer,
    bits_tiff,
    data_set,
    drawn,
    faults_of,
    lesion,
    mentions,
    noise,
    same_order,
    tiff_of,
    write_tiff,
)
from medical_files import write_dicom, write_nifti
from PIL import Image, features

from tevia_hf import TeViAImageProcessor
from tevia_hf.io import read_image

tifffile = pytest.importorskip("tifffile")


def ramp(dtype, low, high, size=(48, 64)):
    return np.linspace(low, high, size[0] * size[1]).reshape(size).astype(dtype)


def is_right_or_named(path, truth, *names):
    """Whether brighter is brighter, or the error names the content of the file."""
    given = answer(lambda: read_image(path).array)
    if given.error is not None:
        return given.names(*names) and not given.names("corrupt")
    return same_order(given.value, truth)


NUMBERS = {
    "signed 8": ramp("i1", -64, 63),
    "signed 8 below 0": ramp("i1", -128, -1),
    "signed 16": ramp("i2", -1024, 3000),
    "signed 32": ramp("i4", -1024, 3000),
    "unsigned 16": ramp("u2", 0, 65535),
    "unsigned 32": ramp("u4", 0, 4_000_000_000),
    "unsigned 64": ramp("u8", 0, 4_000_000_000),
    "float 16": ramp("f2", 0, 1),
    "float 32": ramp("f4", -5, 5),
    "float 64": ramp("f8", 0, 1),
}


@pytest.mark.parametrize("pixels", NUMBERS.values(), ids=NUMBERS)
def test_a_tiff_of_any_number_type_keeps_its_order_or_is_refused_by_type(tmp_path, pixels):
    path = tiff_of(pixels)(tmp_path / "a.tif")
    assert is_right_or_named(path, pixels, str(pixels.dtype), "bit", "type")


@pytest.mark.parametrize("pixels", NUMBERS.values(), ids=NUMBERS)
def test_so_does_one_that_tifffile_writes(tmp_path, pixels):
    tifffile.imwrite(tmp_path / "a.tif", pixels, photometric="minisblack")
    assert is_right_or_named(tmp_path / "a.tif", pixels, str(pixels.dtype), "bit", "type")


def test_a_complex_tiff_is_shown_by_its_magnitude_or_refused_by_type(tmp_path):
    values = (ramp("f4", -1, 1) + 1j * ramp("f4", 2, 0)).astype(np.complex64)
    path = tiff_of(values)(tmp_path / "a.tif")
    assert is_right_or_named(path, np.abs(values), "complex")


@pytest.mark.parametrize("planar", [1, 2])
@pytest.mark.parametrize("dtype", ["u1", "u2"])
def test_colours_of_8_and_16_bits_are_read_whatever_the_order_of_their_planes(tmp_path, dtype, planar):
    rng = np.random.default_rng(0)
    planes = rng.integers(0, np.iinfo(dtype).max, (3, 32, 48)).astype(f"<{dtype}")
    truth = np.moveaxis(planes, 0, -1)
    raw = (planes if planar == 2 else truth).tobytes()
    path = write_tiff(tmp_path / "a.tif", raw, (32, 48), 8 * planes.itemsize, 2, samples=3, planar=planar)
    given = answer(lambda: read_image(path).array)
    assert given.names("16", "planar") if given.error else same_order(given.value, truth)


@pytest.mark.parametrize("dtype", ["u2", "f4"])
def test_a_white_is_zero_tiff_is_inverted_or_refused(tmp_path, dtype):
    values = ramp(dtype, 0, 1000)
    path = tiff_of(values, photometric=0)(tmp_path / "a.tif")
    assert is_right_or_named(path, -values.astype(float), "white", "photometric", "MINISWHITE")


LAYOUTS = [{"compression": "zlib"}, {"tile": (16, 16)}, {"byteorder": ">"}, {"bigtiff": True}, {"rowsperstrip": 7}]


@pytest.mark.parametrize("options", LAYOUTS, ids=str)
@pytest.mark.parametrize("dtype", ["u1", "u2", "f4"])
def test_any_way_to_lay_a_tiff_out_is_read(tmp_path, dtype, options):
    pixels = ramp(dtype, 0, 200)
    tifffile.imwrite(tmp_path / "a.tif", pixels, photometric="minisblack", **options)
    assert is_right_or_named(tmp_path / "a.tif", pixels, "imagecodecs")


@pytest.mark.parametrize("compression", ["tiff_lzw", "tiff_adobe_deflate", "packbits", "jpeg", "tiff_deflate"])
@pytest.mark.parametrize("channels", [None, 3])
def test_compressed_tiffs_are_read_as_before(tmp_path, compression, channels):
    pixels = np.kron(noise(6, 8, channels=channels), np.ones((8, 8, *[1] * (channels is not None)), np.uint8))
    Image.fromarray(pixels).save(tmp_path / "a.tif", compression=compression)
    assert same_order(read_image(tmp_path / "a.tif").array, pixels)


@pytest.mark.parametrize("compression", ["group3", "group4", None])
def test_masks_of_one_bit_are_read_as_before(tmp_path, compression):
    Image.fromarray(drawn()).save(tmp_path / "a.tif", **({"compression": compression} if compression else {}))
    assert np.array_equal(read_image(tmp_path / "a.tif", is_mask=True).array > 0, drawn())
    bits_tiff(drawn(), 1)(tmp_path / "b.tif")
    assert np.array_equal(read_image(tmp_path / "b.tif", is_mask=True).array > 0, drawn())


def test_a_tiff_that_is_cut_short_is_still_called_so(tmp_path):
    path = tiff_of(ramp("u2", 0, 1000))(tmp_path / "a.tif")
    path.write_bytes(path.read_bytes()[:1000])
    assert answer(lambda: read_image(path)).names("corrupt", "cut short")


# Pages


@pytest.mark.parametrize("suffix", [".tif", ".gif", ".png", ".webp"])
def test_nobody_takes_the_first_of_several_pages_without_a_word(tmp_path, suffix):
    pages = [Image.fromarray(noise(seed=number)) for number in range(3)]
    path = tmp_path / f"stack{suffix}"
    pages[0].save(path, save_all=True, append_images=pages[1:])
    for call in (read_image, TeViAImageProcessor(), lambda path: TeViAImageProcessor()(Image.open(path))):
        assert answer(lambda call=call: call(str(path) if call is not read_image else path)).error


def test_a_stack_that_is_one_page_of_many_samples_is_no_colour(tmp_path):
    tifffile.imwrite(
        tmp_path / "a.tif", np.stack([ramp("u2", 0, 99)] * 5), photometric="minisblack", planarconfig="separate"
    )
    given = answer(lambda: read_image(tmp_path / "a.tif").array)
    assert given.error is not None and not given.names("corrupt")


# Other formats


@pytest.mark.parametrize("suffix", [".bmp", ".jp2", ".webp", ".gif", ".ppm", ".pgm", ".tga"])
def test_an_image_of_another_format_is_read_or_refused_by_its_suffix(tmp_path, suffix):
    if suffix == ".jp2" and not features.check("jpg_2000"):
        pytest.skip("Pillow was built without it")
    pixels = np.kron(noise(6, 8), np.ones((8, 8), np.uint8))
    Image.fromarray(pixels).save(tmp_path / f"a{suffix}", **({"lossless": True} if suffix == ".webp" else {}))
    assert is_right_or_named(tmp_path / f"a{suffix}", pixels, suffix)


@pytest.mark.parametrize("suffix", [".bmp", ".jp2"])
def test_a_set_of_another_format_is_read_or_its_suffix_named(tmp_path, suffix):
    root = data_set(tmp_path, {"a": lesion(), "b": lesion().T}, suffix=suffix)
    faults = faults_of(root)
    assert not faults or mentions(faults, suffix)


def test_a_photograph_with_a_preview_is_read(tmp_path):
    pixels = np.kron(noise(6, 8, channels=3), np.ones((8, 8, 1), np.uint8))
    preview = Image.fromarray(pixels).resize((16, 12))
    Image.fromarray(pixels).save(
        tmp_path / "a.jpg", "MPO", save_all=True, append_images=[preview], quality=95, subsampling=0
    )
    for call in (lambda path: read_image(path).array, TeViAImageProcessor()):
        given = answer(lambda call=call: call(str(tmp_path / "a.jpg")))
        assert given.error is None or given.names("MPO", "preview")
    assert is_right_or_named(tmp_path / "a.jpg", pixels, "MPO", "preview")


def test_the_content_of_a_file_counts_and_not_its_suffix(tmp_path):
    pixels = np.kron(noise(6, 8), np.ones((8, 8), np.uint8))
    Image.fromarray(pixels).save(tmp_path / "a.tif", "PNG")
    Image.fromarray(pixels).save(tmp_path / "b.png", "TIFF")
    assert is_right_or_named(tmp_path / "a.tif", pixels, "PNG")
    assert is_right_or_named(tmp_path / "b.png", pixels, "TIFF")


# NIfTI and DICOM


def test_complex_nifti_is_shown_by_its_magnitude_or_refused_by_type(tmp_path):
    rng = np.random.default_rng(0)
    values = (rng.normal(size=(8, 8, 2)) + 1j * rng.normal(size=(8, 8, 2))).astype(np.complex64)
    write_nifti(tmp_path / "a.nii.gz", values)
    truth = np.abs(values[..., 0]).T[::-1, ::-1]
    given = answer(lambda: read_image(f"{tmp_path / 'a.nii.gz'}#0").array)
    assert given.names("complex") if given.error else same_order(given.value, truth)


def test_a_complex_mask_is_refused_by_type(tmp_path):
    write_nifti(tmp_path / "a.nii.gz", np.ones((8, 8, 1), np.complex64) * 1j)
    given = answer(lambda: read_image(tmp_path / "a.nii.gz", is_mask=True))
    assert given.error is not None and not given.names("corrupt")


@pytest.mark.parametrize("dtype", ["i1", "u2", "i4", "u4", "i8", "u8", "f4", "f8"])
def test_nifti_of_any_number_type_keeps_its_order(tmp_path, dtype):
    values = ramp(dtype, 0, 100, (8, 8))[..., None]
    nibabel.save(nibabel.Nifti1Image(values, np.eye(4), dtype=values.dtype), tmp_path / "a.nii.gz")
    assert same_order(read_image(tmp_path / "a.nii.gz").array, values[..., 0].T[::-1, ::-1])


@pytest.mark.parametrize("header", ["u1", "i2"])
@pytest.mark.parametrize("highest", [1, 3])
def test_labels_that_nifti_scales_are_whole_again(tmp_path, header, highest):
    labels = np.zeros((8, 8, 3))
    labels[2:5, 2:5] = highest
    labels[6, 6] = 1
    volume = nibabel.Nifti1Image(labels, np.eye(4))
    volume.set_data_dtype(header)
    nibabel.save(volume, tmp_path / "m.nii.gz")
    values = np.unique(read_image(f"{tmp_path / 'm.nii.gz'}#1", is_mask=True).array)
    assert values.tolist() == sorted({0, 1, highest})


def test_probabilities_in_nifti_are_not_rounded_to_labels(tmp_path):
    values = np.full((8, 8, 1), 0.999, np.float32)
    write_nifti(tmp_path / "m.nii.gz", values)
    assert answer(lambda: read_image(tmp_path / "m.nii.gz", is_mask=True)).error


def test_the_processor_reads_medical_files_by_their_path_or_names_the_fix(tmp_path):
    dicom = write_dicom(tmp_path / "a.dcm", np.arange(64, dtype=np.uint16).reshape(8, 8))
    nifti = write_nifti(tmp_path / "a.nii.gz", np.arange(64, dtype=np.int16).reshape(8, 8, 1))
    for path in (dicom, nifti):
        assert not answer(lambda path=path: TeViAImageProcessor()(str(path))).names("corrupt")
