"""DICOM files as a viewer displays them, with values computed by hand."""

import sys

import h5py
import numpy as np
import pydicom
import pytest
from medical_files import RAMP, item, lookup_table, write_dicom, write_figshare, write_nifti
from PIL import Image
from pydicom.uid import JPEGLSLossless

from tevia_hf.io import (
    read_image,
)


def test_16_bit_pixels_without_a_window_keep_every_step_between_0_and_1(tmp_path):
    pixels = np.arange(65536, dtype=np.uint16).reshape(256, 256)
    array = read_image(write_dicom(tmp_path / "a.dcm", pixels)).array
    assert array.dtype == np.float32 and array.shape == (256, 256)
    assert (array[0, 0], array[-1, -1]) == (0, 1)
    assert (np.diff(array.ravel()) > 0).all()


def test_rescaling_comes_before_the_window_of_the_address(tmp_path):
    # Stored 0..1100 with slope 2 and intercept -1000: -1000..1200. Window 100 +- 200: -100 -> 0, 300 -> 1.
    path = write_dicom(tmp_path / "a.dcm", RAMP, RescaleSlope=2, RescaleIntercept=-1000, WindowCenter=0, WindowWidth=10)
    array = read_image(f"{path}#@100,400").array
    np.testing.assert_allclose(array.ravel(), [0, 0, 0, 0, 0, 0.25, 0.75, 1, 1, 1, 1, 1])


def test_the_first_window_of_the_file_is_used_with_the_standards_half_steps(tmp_path):
    # LINEAR, centre 500, width 401: ends 500 - 0.5 -+ 400 / 2 = 299.5 and 699.5.
    path = write_dicom(tmp_path / "a.dcm", RAMP, WindowCenter=[500, 0], WindowWidth=[401, 2])
    expected = [0, 0, 0, 0.5 / 400, 100.5 / 400, 200.5 / 400, 300.5 / 400, 1, 1, 1, 1, 1]
    np.testing.assert_allclose(read_image(path).array.ravel(), expected, rtol=1e-6)


@pytest.mark.parametrize(
    ("function", "expected"),
    [
        ("LINEAR_EXACT", [0, 0.25, 0.5, 0.75, 1]),
        ("SIGMOID", [0.1192029, 0.2689414, 0.5, 0.7310586, 0.8807971]),  # 1 / (1 + e^2), 1 / (1 + e), ...
    ],
)
def test_window_functions_of_the_file_are_followed(tmp_path, function, expected):
    pixels = np.array([[0, 100, 200, 300, 400]], np.uint16)
    path = write_dicom(tmp_path / "a.dcm", pixels, WindowCenter=200, WindowWidth=400, VOILUTFunction=function)
    np.testing.assert_allclose(read_image(path).array[0], expected, rtol=1e-6)


def test_a_negative_slope_does_not_turn_the_window_over(tmp_path):
    tags = {"RescaleSlope": -1, "RescaleIntercept": 1100, "VOILUTFunction": "LINEAR_EXACT"}
    path = write_dicom(tmp_path / "a.dcm", RAMP, WindowCenter=550, WindowWidth=1100, **tags)
    np.testing.assert_allclose(read_image(path).array.ravel(), np.arange(11, -1, -1) / 11, rtol=1e-6)


def test_signed_pixels_are_read_as_signed(tmp_path):
    path = write_dicom(tmp_path / "a.dcm", np.array([[-1000, 0, 1000]], np.int16))
    np.testing.assert_allclose(read_image(path).array, [[0, 0.5, 1]])


def test_bits_above_those_stored_are_ignored(tmp_path):
    pixels = np.array([[0, 2048, 4095]], np.uint16)
    pixels[0, 0] |= 0x8000  # an old overlay
    path = write_dicom(tmp_path / "a.dcm", pixels, BitsStored=12, HighBit=11)
    np.testing.assert_allclose(read_image(path).array, [[0, 2048 / 4095, 1]], rtol=1e-6)


def test_monochrome1_is_turned_so_that_high_is_bright(tmp_path):
    tags = {"PhotometricInterpretation": "MONOCHROME1"}
    plain = read_image(write_dicom(tmp_path / "a.dcm", RAMP, **tags)).array
    np.testing.assert_allclose(plain.ravel(), np.arange(11, -1, -1) / 11, rtol=1e-6)
    windowed = read_image(f"{tmp_path / 'a.dcm'}#@550,1100").array
    np.testing.assert_allclose(windowed, plain, rtol=1e-6)


def test_a_value_table_is_looked_up_after_the_modality_table(tmp_path):
    # Stored 0..4 -> modality 10, 20, 30, 40, 50 -> VOI table from 20: 20 -> 0, 21 -> 255, 22 and more -> 4095.
    tags = {
        "ModalityLUTSequence": [lookup_table([10, 20, 21, 40, 50], 0, 12)],
        "VOILUTSequence": [lookup_table([0, 255, 4095], 20, 12)],
        "WindowCenter": 1,
        "WindowWidth": 1,
    }
    path = write_dicom(tmp_path / "a.dcm", np.arange(5, dtype=np.uint16)[None], **tags)
    np.testing.assert_allclose(read_image(path).array, [[0, 0, 255 / 4095, 1, 1]], rtol=1e-6)


def test_a_long_table_of_8_bit_values_does_not_wrap_around(tmp_path):
    table = (np.arange(1024) // 4).tolist()
    pixels = np.array([[0, 255, 256, 512, 1023]], np.uint16)
    path = write_dicom(tmp_path / "a.dcm", pixels, VOILUTSequence=[lookup_table(table, 0, 8)])
    np.testing.assert_allclose(read_image(path).array, [[0, 63 / 255, 64 / 255, 128 / 255, 1]], rtol=1e-6)


@pytest.mark.parametrize("padding", [-2000, 63536])
def test_padding_sets_no_end_of_the_range(tmp_path, padding):
    pixels = np.array([[-2000, -1000, 0, 1000]], np.int16)
    dataset = pydicom.dcmread(write_dicom(tmp_path / "a.dcm", pixels))
    # 63536 is -2000 in the wrong type, as files of several makers have it
    dataset.add_new("PixelPaddingValue", "SS" if padding < 0 else "US", padding)
    dataset.save_as(tmp_path / "a.dcm")
    np.testing.assert_allclose(read_image(tmp_path / "a.dcm").array, [[0, 0, 0.5, 1]])


def test_padding_may_be_a_range(tmp_path):
    dataset = pydicom.dcmread(write_dicom(tmp_path / "a.dcm", np.array([[0, 50, 100, 300, 500]], np.uint16)))
    dataset.add_new("PixelPaddingValue", "US", 0)
    dataset.add_new("PixelPaddingRangeLimit", "US", 60)
    dataset.save_as(tmp_path / "a.dcm")
    np.testing.assert_allclose(read_image(tmp_path / "a.dcm").array, [[0, 0, 0, 0.5, 1]])


def test_tags_without_a_value_are_as_good_as_none(tmp_path):
    names = ("WindowCenter", "WindowWidth", "RescaleSlope", "RescaleIntercept", "NumberOfFrames", "VOILUTSequence")
    path = write_dicom(tmp_path / "a.dcm", RAMP[None], **dict.fromkeys(names))
    np.testing.assert_allclose(read_image(path).array, RAMP / 1100, rtol=1e-6)


def test_a_flat_image_becomes_zeros(tmp_path):
    assert read_image(write_dicom(tmp_path / "a.dcm", np.full((2, 2), 700, np.uint16))).array.tolist() == [[0, 0]] * 2


@pytest.mark.parametrize(("width", "function"), [(0, "LINEAR"), (-3, "LINEAR"), (0, "LINEAR_EXACT"), (0, "SIGMOID")])
def test_a_window_that_has_no_width_is_as_good_as_none(tmp_path, width, function):
    path = write_dicom(tmp_path / "a.dcm", RAMP, WindowCenter=40, WindowWidth=width, VOILUTFunction=function)
    np.testing.assert_allclose(read_image(path).array, RAMP / 1100, rtol=1e-6)
    assert read_image(f"{path}#@550,1100").array.max() == 1


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_pixels_that_are_no_numbers_are_refused(tmp_path, bad):
    dicom = write_dicom(tmp_path / "a.dcm", np.array([[0, bad]], np.float32))
    nifti = write_nifti(tmp_path / "a.nii", np.array([[0, bad]], np.float32))
    for path in (dicom, nifti):
        with pytest.raises(ValueError, match=rf"{path.name}.*1 pixel.*NaN or infinite"):
            read_image(path)


# --- DICOM: frames, colour, spacing, place


def test_the_frame_named_by_the_address_is_read(tmp_path):
    frames = np.stack([RAMP, RAMP[::-1], RAMP[:, ::-1]])
    path = write_dicom(tmp_path / "a.dcm", frames, NumberOfFrames=3)
    np.testing.assert_allclose(read_image(f"{path}#2").array, RAMP[:, ::-1] / 1100, rtol=1e-6)
    image = read_image(f"{path}#middle")
    np.testing.assert_allclose(image.array, RAMP[::-1] / 1100, rtol=1e-6)
    assert image.source.frame == 1


@pytest.mark.parametrize(("fragment", "message"), [("", "3 frames.*a.dcm#1"), ("#3", "3 frames.*0 to 2")])
def test_several_frames_need_one_that_is_there(tmp_path, fragment, message):
    path = write_dicom(tmp_path / "a.dcm", np.stack([RAMP] * 3), NumberOfFrames=3)
    with pytest.raises(ValueError, match=message):
        read_image(f"{path}{fragment}")


def test_a_plane_is_for_volumes_only(tmp_path):
    with pytest.raises(ValueError, match="a.dcm.*plane"):
        read_image(f"{write_dicom(tmp_path / 'a.dcm', RAMP)}#coronal:0")


def test_each_frame_has_its_own_scaling_spacing_and_place(tmp_path):
    def group(slope, spacing, z):
        return item(
            PixelMeasuresSequence=[item(PixelSpacing=spacing, SliceThickness=2)],
            PixelValueTransformationSequence=[item(RescaleSlope=slope, RescaleIntercept=0, RescaleType="US")],
            PlanePositionSequence=[item(ImagePositionPatient=[0, 0, z])],
        )

    tags = {
        "SharedFunctionalGroupsSequence": [
            item(
                PlaneOrientationSequence=[item(ImageOrientationPatient=[1, 0, 0, 0, 1, 0])],
                FrameVOILUTSequence=[item(WindowCenter=500, WindowWidth=1000, VOILUTFunction="LINEAR_EXACT")],
            )
        ],
        "PerFrameFunctionalGroupsSequence": [group(1, [3, 4], 5), group(0.5, [6, 7], 8)],
    }
    path = write_dicom(tmp_path / "a.dcm", np.stack([RAMP, RAMP]), NumberOfFrames=2, **tags)
    first, second = read_image(f"{path}#0"), read_image(f"{path}#1")
    assert (first.spacing_mm, second.spacing_mm) == ((3, 4), (6, 7))
    np.testing.assert_allclose(first.array, np.minimum(RAMP / 1000, 1), rtol=1e-6)
    np.testing.assert_allclose(second.array, RAMP / 2000, rtol=1e-6)
    assert second.source.affine[:3, 3].tolist() == [0, 0, 8]


@pytest.mark.parametrize(
    ("tags", "expected"),
    [
        ({"PixelSpacing": [2, 3], "ImagerPixelSpacing": [4, 5]}, (2, 3)),
        ({"ImagerPixelSpacing": [4, 5], "NominalScannedPixelSpacing": [6, 7]}, (4, 5)),
        ({"NominalScannedPixelSpacing": [6, 7]}, (6, 7)),
        ({"PixelSpacing": [0, 0], "ImagerPixelSpacing": [4, 5]}, (4, 5)),
        ({"PixelSpacing": None}, None),
        ({}, None),
    ],
)
def test_spacing_is_row_then_column_from_the_best_tag_there_is(tmp_path, tags, expected):
    assert read_image(write_dicom(tmp_path / "a.dcm", RAMP, **tags)).spacing_mm == expected


def region(x, y, unit=3):
    return item(
        RegionSpatialFormat=1, PhysicalUnitsXDirection=unit, PhysicalUnitsYDirection=unit,
        PhysicalDeltaX=x, PhysicalDeltaY=y,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("regions", "expected"),
    [
        ([region(0.02, 0.03)], (0.3, 0.2)),  # centimetres a pixel, x is the column
        ([region(0.02, 0.03), region(1, 1, unit=4)], (0.3, 0.2)),  # 4: seconds
        ([region(0.02, 0.03), region(0.05, 0.05)], None),  # two scales in one image
        ([region(1, 1, unit=4)], None),
    ],
)
def test_ultrasound_spacing_comes_from_its_region_in_millimetres(tmp_path, regions, expected):
    spacing = read_image(write_dicom(tmp_path / "a.dcm", RAMP, SequenceOfUltrasoundRegions=regions)).spacing_mm
    assert spacing == (expected and pytest.approx(expected))


COLOUR = np.array([[[255, 0, 0], [0, 128, 64]]], np.uint8)


def test_colour_comes_as_8_bit_rgb(tmp_path):
    array = read_image(write_dicom(tmp_path / "a.dcm", COLOUR)).array
    assert array.dtype == np.uint8
    np.testing.assert_array_equal(array, COLOUR)
    faint = COLOUR // 2  # of 16 bits the range of the type counts, not that of the image
    wide = read_image(write_dicom(tmp_path / "b.dcm", faint.astype(np.uint16) * 257)).array
    np.testing.assert_array_equal(wide, faint)


def test_luminance_colour_becomes_rgb(tmp_path):
    ybr = np.asarray(Image.fromarray(COLOUR).convert("YCbCr"))
    path = write_dicom(tmp_path / "a.dcm", ybr.copy(), PhotometricInterpretation="YBR_FULL")
    np.testing.assert_allclose(read_image(path).array.astype(int), COLOUR, atol=2)


@pytest.mark.parametrize("factor", [1, 257])
def test_a_palette_gives_its_colours_and_a_mask_its_indices(tmp_path, factor):
    table = np.array([0, 200, 255], np.uint16) * factor
    names = [f"{colour}PaletteColorLookupTable" for colour in ("Red", "Green", "Blue")]
    tags = {f"{name}Data": (table // (i + 1)).astype(np.uint16).tobytes() for i, name in enumerate(names)}
    tags |= {f"{name}Descriptor": [3, 0, 16] for name in names}
    pixels = np.array([[0, 1, 2]], np.uint8)
    path = write_dicom(tmp_path / "a.dcm", pixels, PhotometricInterpretation="PALETTE COLOR", **tags)
    array = read_image(path).array
    assert array.dtype == np.uint8
    np.testing.assert_allclose(array[0].astype(int), [[0, 0, 0], [200, 100, 67], [255, 128, 85]], atol=1)
    np.testing.assert_array_equal(read_image(path, is_mask=True).array, pixels)


def test_a_dicom_mask_keeps_its_stored_labels(tmp_path):
    tags = {"RescaleSlope": 2, "RescaleIntercept": 5, "WindowCenter": 1, "WindowWidth": 2}
    path = write_dicom(tmp_path / "a.dcm", np.array([[0, 3]], np.uint8), **tags)
    mask = read_image(path, is_mask=True).array
    assert mask.dtype == np.uint8 and mask.tolist() == [[0, 3]]


def test_a_dicom_mask_that_shows_0_as_white_is_refused(tmp_path):
    path = write_dicom(tmp_path / "a.dcm", np.array([[0, 1]], np.uint8), PhotometricInterpretation="MONOCHROME1")
    with pytest.raises(ValueError, match=r"a\.dcm.*MONOCHROME1.*save it as PNG"):
        read_image(path, is_mask=True)


def test_a_coloured_dicom_is_no_mask(tmp_path):
    with pytest.raises(ValueError, match="a.dcm.*colour.*label"):
        read_image(write_dicom(tmp_path / "a.dcm", COLOUR), is_mask=True)
    grey = np.repeat(np.array([[[0], [1]]], np.uint8).reshape(1, 2, 1), 3, axis=2)
    assert read_image(write_dicom(tmp_path / "b.dcm", grey), is_mask=True).array.tolist() == [[0, 1]]


def test_the_source_names_its_place(tmp_path):
    # Columns run to the patient's left (L+), rows to the back (P+); RAS has both signs turned.
    place = {"ImagePositionPatient": [-10, -20, 30], "ImageOrientationPatient": [1, 0, 0, 0, 1, 0]}
    tags = {**place, "PixelSpacing": [2, 3], "SliceThickness": 5}
    source = read_image(write_dicom(tmp_path / "a.dcm", RAMP, **tags)).source
    # column 2, row 1
    assert (source.affine @ [2, 1, 0, 1]).tolist() == [10 - 2 * 3, 20 - 1 * 2, 30, 1]
    assert read_image(write_dicom(tmp_path / "b.dcm", RAMP)).source.affine is None


# --- DICOM: files that are damaged or not what they seem


def test_a_dicom_file_needs_no_preamble(tmp_path):
    path = write_dicom(tmp_path / "bare.dcm", RAMP, preamble=False)
    assert path.read_bytes()[128:132] != b"DICM"
    np.testing.assert_allclose(read_image(path).array, RAMP / 1100, rtol=1e-6)


@pytest.mark.parametrize("content", [b"", b"not a picture", b"\0" * 5000, bytes(range(256)) * 20])
@pytest.mark.parametrize("name", ["a.dcm", "a.nii", "a.nii.gz", "a.mat"])
def test_a_medical_file_of_other_content_is_named(tmp_path, name, content):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ValueError, match=rf"(?s){name}.*(again|Export)"):
        read_image(tmp_path / name)


@pytest.mark.parametrize("name", ["a.dcm", "a.nii", "a.nii.gz", "a.mat"])
def test_a_truncated_medical_file_is_named_with_what_to_do(tmp_path, name):
    path, pixels = tmp_path / name, np.random.default_rng(0).integers(0, 999, (64, 64), dtype=np.int16)
    {"dcm": write_dicom, "mat": write_figshare}.get(name[-3:], write_nifti)(path, pixels)
    read_image(path)
    path.write_bytes(path.read_bytes()[: path.stat().st_size * 2 // 3])
    with pytest.raises(ValueError, match=rf"(?s){name}.*(cut short|truncated).*again"):
        read_image(path)


def damaged(path, name):
    """A file with a malformed value of one tag."""
    tags = {"NumberOfFrames": 1, "PixelSpacing": [2, 3], "RescaleSlope": 2, "WindowCenter": 4, "WindowWidth": 5}
    write_dicom(path, RAMP, **tags)
    content = bytearray(path.read_bytes())
    tag = pydicom.tag.Tag(name)
    place = content.index(tag.group.to_bytes(2, "little") + tag.element.to_bytes(2, "little"))
    content[place + 8 : place + 10] = b"?!" if name != "Rows" else b"\0\0"
    path.write_bytes(content)
    return path


@pytest.mark.parametrize("name", ["NumberOfFrames", "Rows"])
def test_a_damaged_tag_that_is_needed_is_reported_with_its_file(tmp_path, name):
    with pytest.raises(ValueError, match=r"(?s)a\.dcm.*again"):
        read_image(damaged(tmp_path / "a.dcm", name))


@pytest.mark.parametrize("name", ["PixelSpacing", "RescaleSlope", "WindowCenter"])
def test_a_damaged_tag_that_is_optional_costs_the_tag_alone(tmp_path, name):
    image = read_image(damaged(tmp_path / "a.dcm", name))
    assert (image.spacing_mm is None) == (name == "PixelSpacing")
    if name != "PixelSpacing":
        np.testing.assert_allclose(image.array, RAMP / 1100, rtol=1e-6)


@pytest.mark.parametrize("slope", [0, "?!"])
def test_no_window_is_applied_to_values_whose_scale_is_not_known(tmp_path, slope):
    path = tmp_path / "a.dcm"
    if slope == 0:
        write_dicom(path, RAMP, RescaleSlope=0, WindowCenter=4, WindowWidth=5)
        np.testing.assert_allclose(read_image(path).array, RAMP / 1100, rtol=1e-6)
    else:
        damaged(path, "RescaleSlope")
    with pytest.raises(ValueError, match=r"a\.dcm.*slope.*leave the window out"):
        read_image(f"{path}#@40,400")


def test_a_dicom_file_without_an_image_is_named(tmp_path):
    path = write_dicom(tmp_path / "a.dcm", RAMP)
    dataset = pydicom.dcmread(path)
    del dataset.PixelData
    dataset.save_as(path)
    with pytest.raises(ValueError, match=r"^\S*a\.dcm: holds no image"):
        read_image(path)


def test_a_compression_without_decoder_says_what_to_install(tmp_path, monkeypatch):
    path = write_dicom(tmp_path / "a.dcm", RAMP)
    dataset = pydicom.dcmread(path)
    dataset.file_meta.TransferSyntaxUID = JPEGLSLossless
    dataset.PixelData = pydicom.encaps.encapsulate([b"\xff\xd8"])
    dataset["PixelData"].VR = "OB"
    dataset.save_as(path)
    monkeypatch.setattr(pydicom.pixels.get_decoder(JPEGLSLossless), "_available", {})
    with pytest.raises(ValueError, match=r"(?s)a\.dcm.*JPEG-LS.*pip install"):
        read_image(path)


def test_absurd_sizes_are_refused_before_anything_is_decoded(tmp_path):
    dicom = write_dicom(tmp_path / "a.dcm", RAMP)
    dataset = pydicom.dcmread(dicom)
    dataset.Rows = dataset.Columns = 60000
    dataset.save_as(dicom)
    nifti = write_nifti(tmp_path / "a.nii", RAMP)
    content = bytearray(nifti.read_bytes())
    content[42:46] = np.array([30000, 30000], "<i2").tobytes()
    nifti.write_bytes(content)
    with h5py.File(tmp_path / "a.mat", "w") as file:
        file.create_dataset("cjdata/image", (20001, 20001), "i1", chunks=(100, 100))
    for name in ("a.dcm", "a.nii", "a.mat"):
        with pytest.raises(ValueError, match=rf"{name}.*00. pixels, more than 178,956,970"):
            read_image(tmp_path / name)


@pytest.mark.parametrize("name", ["a.png", "a.dcm", "a.nii.gz", "a.mat"])
def test_a_caller_may_set_a_lower_limit_to_the_size(name, tmp_path):
    write = {
        "a.png": lambda path, pixels: Image.fromarray(pixels.astype(np.uint8)).save(path),
        "a.dcm": write_dicom,
        "a.nii.gz": write_nifti,
        "a.mat": write_figshare,
    }
    write[name](tmp_path / name, RAMP)
    assert read_image(tmp_path / name, most_pixels=RAMP.size).array.size == RAMP.size
    with pytest.raises(ValueError, match=rf"{name}: claims .* pixels, more than {RAMP.size - 1}"):
        read_image(tmp_path / name, most_pixels=RAMP.size - 1)


def test_a_volume_that_would_be_unpacked_for_long_is_refused(tmp_path):
    path = write_nifti(tmp_path / "a.nii.gz", np.zeros((4, 4, 65), np.uint8))
    with pytest.raises(ValueError, match="1,040 values, too many to unpack"):
        read_image(f"{path}#3", most_pixels=16)


@pytest.mark.parametrize(
    ("library", "name"), [("pydicom", "a.dcm"), ("nibabel", "a.nii.gz"), ("nibabel", "a.nii"), ("h5py", "a.mat")]
)
def test_a_missing_library_says_what_to_install(tmp_path, monkeypatch, library, name):
    (tmp_path / name).write_bytes(b"any")
    for module in [module for module in sys.modules if module.partition(".")[0] == library]:
        monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(ValueError, match=rf"{library}.*pip install .tevia_hf\[medical\]"):
        read_image(tmp_path / name)


def test_dicom_without_pixels_is_not_called_another_kind_of_file(tmp_path):
    bare = item(PatientName="A")
    bare.file_meta = pydicom.dataset.FileMetaDataset()
    bare.file_meta.TransferSyntaxUID = pydicom.uid.ExplicitVRLittleEndian
    bare.save_as(tmp_path / "a.dcm", enforce_file_format=False)
    (tmp_path / "a.dcm").write_bytes(b"\0" * 128 + b"DICM" + (tmp_path / "a.dcm").read_bytes().partition(b"DICM")[2])
    with pytest.raises(ValueError, match="a.dcm: holds no image"):
        read_image(tmp_path / "a.dcm")


def test_a_dicomdir_is_named_as_a_list_of_files(tmp_path):
    path = write_dicom(tmp_path / "a.dcm", RAMP, DirectoryRecordSequence=[item(PatientName="A")])
    dataset = pydicom.dcmread(path)
    del dataset.PixelData
    dataset.save_as(path)
    with pytest.raises(ValueError, match=r"a.dcm: is a list of DICOM files \(DICOMDIR\)"):
        read_image(path)


@pytest.mark.parametrize("count", [b"1A", b"-2"])
def test_a_frame_count_that_is_none_is_named(tmp_path, count):
    path = write_dicom(tmp_path / "a.dcm", RAMP[None], NumberOfFrames=98)
    path.write_bytes(path.read_bytes().replace(b"98", count))
    with pytest.raises(ValueError, match=f"a.dcm: its NumberOfFrames is '{count.decode()}'"):
        read_image(path)


def test_compressed_pixels_that_no_decoder_reads_are_not_called_corrupt_alone(tmp_path):
    path = write_dicom(tmp_path / "a.dcm", RAMP)
    dataset = pydicom.dcmread(path)
    dataset.file_meta.TransferSyntaxUID = pydicom.uid.JPEGExtended12Bit
    dataset.PixelData = pydicom.encaps.encapsulate(
        [b"\xff\xd8\xff\xc1\x00\x0b\x0c\x00\x03\x00\x04\x01\x01\x11\x00\xff\xd9"]
    )
    dataset["PixelData"].is_undefined_length = True
    dataset.save_as(path)
    with pytest.raises(ValueError, match=r"JPEG Extended.*are damaged, or no installed decoder supports.*python-gdcm"):
        read_image(path)
