import struct

import numpy as np
import pytest
import tifffile
from PIL import Image

from tevia_hf.io import MedicalImage, address, read_image, readers, register_reader, supported_suffixes, write_mask

RAMP = np.arange(12, dtype=np.uint8).reshape(3, 4) * 20


@pytest.mark.parametrize("suffix", [".png", ".tif", ".tiff", ".PNG"])
@pytest.mark.parametrize(
    "pixels", [RAMP, RAMP.astype(np.uint16) * 250, np.stack([RAMP, RAMP // 2, RAMP // 3], -1), RAMP > 100], ids=str
)
def test_lossless_files_come_back_with_their_pixels_and_type(tmp_path, suffix, pixels):
    Image.fromarray(pixels).save(tmp_path / f"a{suffix}")
    array = read_image(tmp_path / f"a{suffix}").array
    assert array.dtype == pixels.dtype
    np.testing.assert_array_equal(array, pixels)


def test_a_plain_image_has_no_spacing_and_no_place(tmp_path):
    Image.fromarray(RAMP).save(tmp_path / "a#4.png")
    image = read_image(tmp_path / "a#4.png")
    assert image.spacing_mm is None and image.source.affine is None


def test_jpeg_is_read(tmp_path):
    Image.new("L", (8, 6), 100).save(tmp_path / "a.jpg")
    np.testing.assert_array_equal(read_image(str(tmp_path / "a.jpg")).array, np.full((6, 8), 100, np.uint8))


def test_palette_colours_become_rgb(tmp_path):
    Image.new("RGB", (4, 4), (255, 0, 0)).convert("P").save(tmp_path / "a.png")
    assert read_image(tmp_path / "a.png").array[0, 0].tolist() == [255, 0, 0]


def test_grey_with_alpha_becomes_grey(tmp_path):
    Image.new("LA", (4, 4), (90, 10)).save(tmp_path / "a.png")
    np.testing.assert_array_equal(read_image(tmp_path / "a.png").array, np.full((4, 4), 90))


def test_a_rotation_noted_in_the_file_is_carried_out(tmp_path):
    image = Image.new("L", (8, 4))
    exif = image.getexif()
    exif[0x0112] = 6
    image.save(tmp_path / "a.jpg", exif=exif)
    assert read_image(tmp_path / "a.jpg").array.shape == (8, 4)


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".tif"])
def test_a_truncated_file_is_named_with_what_to_do(tmp_path, suffix):
    path = tmp_path / f"cut{suffix}"
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (64, 64), dtype=np.uint8)).save(path)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(ValueError, match=rf"cut{suffix}.*corrupt or cut short.*again"):
        read_image(path)


def test_a_file_that_is_no_image_is_named(tmp_path):
    (tmp_path / "text.png").write_text("not a picture")
    with pytest.raises(ValueError, match="text.png"):
        read_image(tmp_path / "text.png")


def test_a_file_of_several_pages_is_refused_with_their_number(tmp_path):
    pages = [Image.fromarray(RAMP), Image.fromarray(RAMP)]
    pages[0].save(tmp_path / "stack.tif", save_all=True, append_images=pages[1:])
    with pytest.raises(ValueError, match="2 pages"):
        read_image(tmp_path / "stack.tif")


def test_an_unknown_suffix_is_refused_with_the_known_ones(tmp_path):
    with pytest.raises(ValueError, match=rf"'.mha'.*{', '.join(supported_suffixes())}"):
        read_image(tmp_path / "a.mha")


def test_a_missing_file_is_reported_as_missing(tmp_path):
    with pytest.raises(FileNotFoundError, match="none.png"):
        read_image(tmp_path / "none.png")


@pytest.mark.parametrize(
    "mask", [RAMP > 100, (RAMP > 100).astype(np.int64), (RAMP > 100).astype(np.uint8) * 255], ids=str
)
def test_a_binary_mask_is_written_as_0_and_255(tmp_path, mask):
    path = write_mask(tmp_path / "new" / "mask.png", mask)
    np.testing.assert_array_equal(read_image(path).array, (RAMP > 100) * 255)


def test_labels_are_written_as_they_are(tmp_path):
    labels = np.array([[0, 1], [1, 255]])
    np.testing.assert_array_equal(read_image(write_mask(tmp_path / "mask.png", labels, num_labels=3)).array, labels)


@pytest.mark.parametrize(
    ("name", "mask", "num_labels", "message"),
    [
        ("mask.jpg", RAMP > 0, 1, "mask.png"),
        ("mask.png", np.zeros((3, 4, 1), bool), 1, r"\(3, 4, 1\)"),
        ("mask.png", np.array([[0, 1, 2]]), 1, "num_labels=1"),
        ("mask.png", np.array([[0, 1, 255]]), 1, "num_labels=1"),
        ("mask.png", np.array([[0, 3]]), 3, "0 to 2"),
    ],
)
def test_a_mask_that_cannot_be_written_faithfully_is_refused(tmp_path, name, mask, num_labels, message):
    with pytest.raises(ValueError, match=message):
        write_mask(tmp_path / name, mask, num_labels)
    assert not (tmp_path / name).exists()


def test_a_palette_mask_keeps_its_labels_on_request(tmp_path):
    mask = Image.fromarray(np.array([[0, 1], [2, 1]], np.uint8), mode="P")
    mask.putpalette([0, 0, 0, 200, 10, 10, 10, 200, 10])
    mask.save(tmp_path / "mask.png")
    assert read_image(tmp_path / "mask.png", is_mask=True).array.tolist() == [[0, 1], [2, 1]]
    assert read_image(tmp_path / "mask.png").array.shape == (2, 2, 3)


def test_a_format_of_ones_own_is_read_once_it_is_registered(tmp_path, monkeypatch):
    monkeypatch.setattr(readers, "_READERS", dict(readers._READERS))
    monkeypatch.setattr(address, "_known_suffixes", list(address._known_suffixes))
    path = tmp_path / "a.NPY"
    with path.open("wb") as file:
        np.save(file, RAMP)
    with pytest.raises(ValueError, match="'.NPY' cannot be read"):
        read_image(path)
    register_reader([".npy"], lambda file, is_mask, most_pixels: MedicalImage(np.load(file.path)))
    np.testing.assert_array_equal(read_image(path).array, RAMP)
    assert ".npy" in supported_suffixes()
    path.write_bytes(b"no array")
    with pytest.raises(ValueError, match=r"a\.NPY: not readable, corrupt or cut short"):
        read_image(path)


@pytest.mark.parametrize("suffix", ["npy", ".NPY", ".png", ".nii.gz"])
def test_a_suffix_that_is_none_or_has_its_reader_is_refused(suffix):
    with pytest.raises(ValueError, match=f"'{suffix}' cannot be registered: give one such as"):
        register_reader([suffix], None)


def bmp_of_16_colours(path, rows):
    """A BMP file of 4 x 2 pixels whose rows are packed as RLE4."""
    palette = b"".join(bytes([16 * index] * 3 + [0]) for index in range(16))
    head = struct.pack("<IiiHHIIiiII", 40, 4, 2, 1, 4, 2, len(rows), 0, 0, 16, 0)
    start = 14 + len(head) + len(palette)
    path.write_bytes(b"BM" + struct.pack("<IHHI", start + len(rows), 0, 0, start) + head + palette + rows)
    return path


def test_a_bmp_that_pillow_shifts_is_refused(tmp_path):
    path = bmp_of_16_colours(tmp_path / "a.bmp", b"\x00\x03\x12\x30\x01\x40\x00\x00\x04\x50\x00\x00\x00\x01")
    with pytest.raises(ValueError, match=r"a\.bmp: it is a BMP of 16 colours packed as RLE4.*save it as PNG"):
        read_image(path)


def test_a_bmp_of_another_kind_is_not_called_corrupt(tmp_path):
    Image.fromarray(RAMP).save(tmp_path / "a.bmp")
    content = bytearray((tmp_path / "a.bmp").read_bytes())
    content[30:34] = (4).to_bytes(4, "little")  # a whole JPEG inside
    (tmp_path / "a.bmp").write_bytes(content)
    with pytest.raises(ValueError, match=r"a\.bmp: not readable, damaged or of an unsupported format .*PNG"):
        read_image(tmp_path / "a.bmp")


def test_colours_that_a_16_bit_tiff_stores_multiplied_by_their_alpha_are_as_seen(tmp_path):
    colours = np.full((4, 3, 5), 30000, np.uint16)  # alpha a half: 20000 and 40000 are seen
    colours[0], colours[1], colours[3] = 10000, 20000, 32768
    tifffile.imwrite(
        tmp_path / "a.tif", colours, planarconfig="separate", photometric="rgb", extrasamples=["assocalpha"]
    )
    pixel = read_image(tmp_path / "a.tif").array[0, 0].tolist()
    assert pixel == [round(value * 255 / 65535) for value in (20000, 40000, 60000, 32768)]
