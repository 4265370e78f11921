"""DICOM, NIfTI and MATLAB files made here, with the values and places in them worked out by hand."""

import sys
from pathlib import Path

import h5py
import nibabel
import numpy as np
import pydicom
import pytest
from PIL import Image
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, JPEGLSLossless, generate_uid

from tevia_hf.io import (
    SUFFIXES,
    Address,
    is_image_file,
    parse_address,
    read_brain_tumor_record,
    read_image,
    stem,
    with_window,
    write_mask,
)

RAMP = np.arange(12, dtype=np.uint16).reshape(3, 4) * 100  # 0 to 1100
PLANES = ("axial", "coronal", "sagittal")


def write_dicom(path, pixels, preamble=True, **tags):
    """A DICOM file of `pixels` (rows, columns[, 3]) or, with NumberOfFrames, (frames, rows, columns)."""
    dataset = Dataset()
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset.SOPClassUID, dataset.SOPInstanceUID = CTImageStorage, "1.2.3"
    colour = pixels.ndim == 3 and "NumberOfFrames" not in tags
    dataset.Rows, dataset.Columns = pixels.shape[:2] if colour else pixels.shape[-2:]
    dataset.SamplesPerPixel, dataset.PhotometricInterpretation = (3, "RGB") if colour else (1, "MONOCHROME2")
    if colour:
        dataset.PlanarConfiguration = 0
    dataset.BitsAllocated = dataset.BitsStored = 8 * pixels.itemsize
    dataset.HighBit = dataset.BitsStored - 1
    dataset.PixelRepresentation = int(pixels.dtype.kind == "i")
    for name, value in tags.items():
        setattr(dataset, name, value)
    if pixels.dtype.kind == "f":
        dataset.FloatPixelData = pixels.tobytes()
    else:
        dataset.PixelData = pixels.tobytes()
    dataset.save_as(path, enforce_file_format=preamble)
    return path


def item(**tags):
    dataset = Dataset()
    for name, value in tags.items():
        setattr(dataset, name, value)
    return dataset


def lookup_table(values, first, bits):
    return item(LUTDescriptor=[len(values), first, bits], LUTData=np.array(values, "<u2").tobytes())


# --- addresses


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("d/scan.nii.gz", ("d/scan.nii.gz", "axial", None, None)),
        ("scan.nii.gz#40", ("scan.nii.gz", "axial", 40, None)),
        ("scan.NII#coronal:40", ("scan.NII", "coronal", 40, None)),
        ("scan.nii#sagittal:middle@40,400", ("scan.nii", "sagittal", "middle", (40.0, 400.0))),
        ("scan.dcm#3", ("scan.dcm", "axial", 3, None)),
        ("ct.nii.gz#40@-600,1500", ("ct.nii.gz", "axial", 40, (-600.0, 1500.0))),
        ("ct.dicom#@40.5,400.25", ("ct.dicom", "axial", None, (40.5, 400.25))),
        ("a.dcm#1/scan.nii#0", ("a.dcm#1/scan.nii", "axial", 0, None)),
        ("case#40.png", ("case#40.png", "axial", None, None)),
        ("scan.dcm#40.png", ("scan.dcm#40.png", "axial", None, None)),
        ("a.dcm#1/scan.nii", ("a.dcm#1/scan.nii", "axial", None, None)),
        ("a.dcm#1/photo.png", ("a.dcm#1/photo.png", "axial", None, None)),
        ("brain.mat#4", ("brain.mat#4", "axial", None, None)),
    ],
)
def test_an_address_names_file_plane_slice_and_window(text, expected):
    address = parse_address(text)
    assert (str(address.path), *address[1:]) == expected
    assert isinstance(address, Address)
    assert parse_address(Path(text)) == address


@pytest.mark.parametrize(
    "fragment", ["-1", "4o", "oblique:3", "3@40", "3@40,0", "@40,-400", "coronal40", "1,2", "@inf,1"]
)
def test_a_malformed_address_is_refused_with_one_that_is_right(fragment):
    with pytest.raises(ValueError, match=r"scan.nii#.*coronal:40.*@-600,1500"):
        parse_address(f"scan.nii#{fragment}")


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("ct.dcm", "ct.dcm#@40,400"),
        ("ct.nii.gz#coronal:7", "ct.nii.gz#coronal:7@40,400"),
        ("ct.nii.gz#7@-600,1500", "ct.nii.gz#7@-600,1500"),
        ("photo.png", "photo.png"),
        ("brain.mat", "brain.mat"),
    ],
)
def test_a_window_is_added_to_medical_files_that_have_none(path, expected):
    assert str(with_window(path, (40, 400))) == expected


def test_a_window_added_is_the_window_read_back():
    assert parse_address(with_window("a.nii", (0.123456789, 1234567.5))).window == (0.123456789, 1234567.5)


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("d/scan.nii.gz", "scan"),
        ("scan.NII.GZ#40", "scan_40"),
        ("scan.nii#coronal:40@40,400", "scan_coronal_40"),
        ("scan.dcm#middle", "scan_middle"),
        ("ct.dcm#@40,400", "ct"),
        ("a.b.png", "a.b"),
        ("case#40.png", "case#40"),
    ],
)
def test_the_stem_keeps_the_slice_and_drops_suffix_and_window(path, expected):
    assert stem(path) == expected


def test_readable_files_are_known_by_name_with_or_without_address():
    assert {".png", ".dcm", ".dicom", ".nii", ".nii.gz", ".mat"} <= set(SUFFIXES)
    readable = ["a.PNG", "a.dcm", "a.nii.gz", "a.nii.gz#4", "a.dcm#@40,400", "a.mat"]
    assert [path for path in [*readable, "a.gz", "a.txt", "table.csv", "nii.gz"] if is_image_file(path)] == readable


# --- DICOM: grey values


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


def test_a_flat_picture_becomes_zeros(tmp_path):
    assert read_image(write_dicom(tmp_path / "a.dcm", np.full((2, 2), 700, np.uint16))).array.tolist() == [[0, 0]] * 2


@pytest.mark.parametrize(("width", "function"), [(0, "LINEAR"), (-3, "LINEAR"), (0, "LINEAR_EXACT"), (0, "SIGMOID")])
def test_a_window_that_has_no_width_is_refused_with_the_way_to_give_another(tmp_path, width, function):
    path = write_dicom(tmp_path / "a.dcm", RAMP, WindowCenter=40, WindowWidth=width, VOILUTFunction=function)
    with pytest.raises(ValueError, match=r"a\.dcm.*[Ww]idth.*#@40,400"):
        read_image(path)
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
        ([region(0.02, 0.03), region(0.05, 0.05)], None),  # two scales in one picture
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
    faint = COLOUR // 2  # of 16 bits the range of the type counts, not that of the picture
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
    path = write_dicom(
        tmp_path / "a.dcm", np.array([[0, 3]], np.uint8), PhotometricInterpretation="MONOCHROME1", **tags
    )
    mask = read_image(path, is_mask=True).array
    assert mask.dtype == np.uint8 and mask.tolist() == [[0, 3]]


def test_a_coloured_dicom_is_no_mask(tmp_path):
    with pytest.raises(ValueError, match="a.dcm.*colour.*label"):
        read_image(write_dicom(tmp_path / "a.dcm", COLOUR), is_mask=True)
    grey = np.repeat(np.array([[[0], [1]]], np.uint8).reshape(1, 2, 1), 3, axis=2)
    assert read_image(write_dicom(tmp_path / "b.dcm", grey), is_mask=True).array.tolist() == [[0, 1]]


def test_the_source_names_the_dicom_instance_and_its_place(tmp_path):
    # Columns run to the patient's left (L+), rows to the back (P+); RAS has both signs turned.
    place = {"ImagePositionPatient": [-10, -20, 30], "ImageOrientationPatient": [1, 0, 0, 0, 1, 0]}
    frame = generate_uid()
    tags = {**place, "FrameOfReferenceUID": frame, "PixelSpacing": [2, 3], "SliceThickness": 5}
    source = read_image(write_dicom(tmp_path / "a.dcm", RAMP, **tags)).source
    expected = {"SOPInstanceUID": "1.2.3", "SOPClassUID": CTImageStorage, "FrameOfReferenceUID": frame}
    assert expected.items() <= source.references.items()
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


@pytest.mark.parametrize("name", ["NumberOfFrames", "PixelSpacing", "RescaleSlope", "WindowCenter", "Rows"])
def test_a_damaged_tag_is_said_to_be_in_this_file(tmp_path, name):
    tags = {"NumberOfFrames": 1, "PixelSpacing": [2, 3], "RescaleSlope": 2, "WindowCenter": 4, "WindowWidth": 5}
    path = write_dicom(tmp_path / "a.dcm", RAMP, **tags)
    content = bytearray(path.read_bytes())
    tag = pydicom.tag.Tag(name)
    place = content.index(tag.group.to_bytes(2, "little") + tag.element.to_bytes(2, "little"))
    content[place + 8 : place + 10] = b"?!" if name != "Rows" else b"\0\0"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"(?s)a\.dcm.*again"):
        read_image(path)


def test_a_dicom_file_without_a_picture_is_named(tmp_path):
    path = write_dicom(tmp_path / "a.dcm", RAMP)
    dataset = pydicom.dcmread(path)
    del dataset.PixelData
    dataset.save_as(path)
    with pytest.raises(ValueError, match=r"^\S*a\.dcm: holds no picture"):
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
        file.create_dataset("cjdata/image", (10001, 10001), "i1", chunks=(100, 100))
    for name in ("a.dcm", "a.nii", "a.mat"):
        with pytest.raises(ValueError, match=rf"{name}.*00. pixels, more than 100,000,000"):
            read_image(tmp_path / name)


@pytest.mark.parametrize(
    ("library", "name"), [("pydicom", "a.dcm"), ("nibabel", "a.nii.gz"), ("nibabel", "a.nii"), ("h5py", "a.mat")]
)
def test_a_missing_library_says_what_to_install(tmp_path, monkeypatch, library, name):
    (tmp_path / name).write_bytes(b"any")
    for module in [module for module in sys.modules if module.partition(".")[0] == library]:
        monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(ValueError, match=rf"{library}.*pip install .tevia_hf\[medical\]"):
        read_image(tmp_path / name)


# --- NIfTI


def write_nifti(path, volume, affine=None):
    nibabel.save(nibabel.Nifti1Image(volume, np.eye(4) if affine is None else affine), path)
    return path


def affine_of(codes, spacing=(1.0, 1.0, 1.0), origin=(5.0, -7.0, 11.0)):
    """The affine of a volume whose axes point where the letters say, such as "LPS"."""
    affine = np.eye(4)
    affine[:3, :3] = 0
    for axis, (letter, step) in enumerate(zip(codes, spacing, strict=True)):
        world = next(i for i, pair in enumerate(("LR", "PA", "IS")) if letter in pair)
        affine[world, axis] = step if letter in "RAS" else -step
    affine[:3, 3] = origin
    return affine


def stored_as(canonical, codes):
    """The RAS+ array `canonical` with its axes in the order and direction of `codes`."""
    order = [next(i for i, pair in enumerate(("LR", "PA", "IS")) if letter in pair) for letter in codes]
    flips = [slice(None, None, 1 if letter in "RAS" else -1) for letter in codes]
    return canonical.transpose(order)[tuple(flips)]


CODES = ["RAS", "LPS", "LAS", "RPI", "ASR", "PIR", "SAL", "IPL"]


@pytest.mark.parametrize("codes", CODES)
@pytest.mark.parametrize(
    ("fragment", "voxel"),
    # The voxel (x to the right, y to the front, z up) of a 3 x 4 x 5 volume that is at the picture's upper left.
    [("axial:1", (2, 3, 1)), ("coronal:1", (2, 1, 4)), ("sagittal:1", (1, 3, 4)), ("1", (2, 3, 1))],
)
def test_the_patients_right_front_and_top_are_at_the_upper_left_whatever_the_storage(tmp_path, codes, fragment, voxel):
    canonical = np.zeros((3, 4, 5), np.int16)
    canonical[voxel] = 1
    path = write_nifti(tmp_path / "a.nii.gz", stored_as(canonical, codes), affine_of(codes))
    expected = {"c": (5, 3), "s": (5, 4)}.get(fragment[0], (4, 3))
    array = read_image(f"{path}#{fragment}", is_mask=True).array
    assert array.shape == expected and array[0, 0] == 1 and array.sum() == 1


@pytest.mark.parametrize(
    ("plane", "pixel"),
    # One voxel off the corner along x in a volume of 3 x 4 x 5, then what plane it is seen in.
    [("axial", (0, 1)), ("coronal", (0, 1)), ("sagittal", None)],
)
def test_columns_run_from_the_patients_right_to_the_left(tmp_path, plane, pixel):
    canonical = np.zeros((3, 4, 5), np.int16)
    canonical[1, 3, 4] = 1
    index = {"axial": 4, "coronal": 3, "sagittal": 2}[plane]
    array = read_image(f"{write_nifti(tmp_path / 'a.nii', canonical)}#{plane}:{index}", is_mask=True).array
    assert [tuple(p) for p in np.argwhere(array).tolist()] == ([pixel] if pixel else [])


@pytest.mark.parametrize("codes", CODES)
@pytest.mark.parametrize(("plane", "expected"), [("axial", (3, 2)), ("coronal", (4, 2)), ("sagittal", (4, 3))])
def test_nifti_spacing_is_row_then_column_of_the_picture(tmp_path, codes, plane, expected):
    by_world = {"R": 2.0, "L": 2.0, "A": 3.0, "P": 3.0, "S": 4.0, "I": 4.0}
    affine = affine_of(codes, [by_world[letter] for letter in codes])
    path = write_nifti(tmp_path / "a.nii", np.zeros((3, 3, 3), np.int16), affine)
    assert read_image(f"{path}#{plane}:0").spacing_mm == pytest.approx(expected)


def test_micrometres_become_millimetres(tmp_path):
    image = nibabel.Nifti1Image(np.zeros((3, 3), np.int16), np.diag([500, 250, 1, 1]))
    image.header.set_xyzt_units("micron")
    nibabel.save(image, tmp_path / "a.nii")
    read = read_image(tmp_path / "a.nii")
    assert read.spacing_mm == pytest.approx((0.25, 0.5))
    mask = read_image(write_mask(tmp_path / "mask.nii", np.zeros((3, 3), np.uint8), like=read))
    assert mask.spacing_mm == pytest.approx((0.25, 0.5))
    np.testing.assert_allclose(mask.source.affine, read.source.affine)


def test_nifti_values_are_scaled_by_the_header_and_the_window(tmp_path):
    # Stored 0..1100 with slope 2 and intercept -1000, see the DICOM test of the same numbers.
    image = nibabel.Nifti1Image(RAMP.T.astype(np.int16)[::-1, ::-1].copy(), np.eye(4))
    image.header.set_slope_inter(2, -1000)
    nibabel.save(image, tmp_path / "a.nii")
    content = bytearray((tmp_path / "a.nii").read_bytes())
    content[112:120] = np.array([2, -1000], "<f4").tobytes()
    content[352:] = image.get_fdata().astype("<i2").tobytes(order="F")
    (tmp_path / "a.nii").write_bytes(content)
    array = read_image(f"{tmp_path / 'a.nii'}#@100,400").array
    np.testing.assert_allclose(array.ravel(), [0, 0, 0, 0, 0, 0.25, 0.75, 1, 1, 1, 1, 1])
    assert read_image(tmp_path / "a.nii", is_mask=True).array[0, :2].tolist() == [-1000, -800]


def test_a_16_bit_nifti_slice_keeps_every_step_between_0_and_1(tmp_path):
    volume = np.arange(-32768, 32768, dtype=np.int16).reshape(256, 256, 1)
    array = read_image(write_nifti(tmp_path / "a.nii.gz", volume)).array
    assert array.dtype == np.float32
    assert len(np.unique(array)) == 65536 and (array.min(), array.max()) == (0, 1)


def test_a_slice_is_scaled_by_its_own_ends(tmp_path):
    volume = np.stack([np.array([[0, 10]]), np.array([[0, 1000]])], -1).astype(np.int16)
    np.testing.assert_allclose(read_image(f"{write_nifti(tmp_path / 'a.nii', volume)}#0").array.max(), 1)


@pytest.mark.parametrize(
    ("shape", "fragment", "message"),
    [
        ((3, 4, 5), "", r"5 axial slices.*a\.nii#2"),
        ((3, 4, 5), "#coronal:@1,2", r"4 coronal slices.*a\.nii#coronal:2"),
        ((3, 4, 5), "#sagittal:3", r"3 sagittal slices.*0 to 2.*a\.nii#sagittal:1"),
        ((3, 4, 5, 2), "#0", "2.*volumes.*Save"),
        ((3, 4, 5, 1, 3), "#0", "3.*volumes.*Save"),
    ],
)
def test_one_slice_of_one_volume_must_be_meant(tmp_path, shape, fragment, message):
    path = write_nifti(tmp_path / "a.nii", np.zeros(shape, np.int16))
    with pytest.raises(ValueError, match=rf"a\.nii.*{message}"):
        read_image(f"{path}{fragment}")


@pytest.mark.parametrize(
    ("shape", "expected"),
    [((3, 4), (4, 3)), ((3, 4, 1), (4, 3)), ((3, 4, 1, 1), (4, 3)), ((3, 1, 5), (5, 3)), ((1, 4, 5), (5, 4))],
)
def test_a_single_slice_needs_neither_index_nor_plane(tmp_path, shape, expected):
    assert read_image(write_nifti(tmp_path / "a.nii", np.zeros(shape, np.int16))).array.shape == expected


def test_a_flat_file_without_a_third_step_is_read(tmp_path):
    path = write_nifti(tmp_path / "a.nii", np.zeros((3, 4), np.int16), np.diag([2.0, 3, 1, 1]))
    content = bytearray(path.read_bytes())
    content[252:256] = np.array([0, 1], "<i2").tobytes()  # the sform counts
    content[288:292] = content[304:308] = content[320:324] = bytes(4)  # its third column
    path.write_bytes(content)
    assert read_image(path).spacing_mm == (3, 2)


def test_a_volume_that_spans_no_space_is_refused(tmp_path):
    path = write_nifti(tmp_path / "a.nii", np.zeros((3, 4, 5), np.int16))
    content = bytearray(path.read_bytes())
    content[252:256] = np.array([0, 1], "<i2").tobytes()
    content[280:328] = np.zeros(12, "<f4").tobytes()
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"a\.nii.*affine.*set_sform"):
        read_image(f"{path}#1")


def test_nifti_colour_comes_as_rgb(tmp_path):
    volume = np.zeros((2, 3, 1), [("R", "u1"), ("G", "u1"), ("B", "u1")])
    volume[1, 2, 0] = (200, 100, 50)  # right and front: upper left
    path = write_nifti(tmp_path / "a.nii", volume)
    array = read_image(path).array
    assert array.dtype == np.uint8 and array.shape == (3, 2, 3) and array[0, 0].tolist() == [200, 100, 50]
    with pytest.raises(ValueError, match="a.nii.*colour.*label"):
        read_image(path, is_mask=True)


@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.float32])
def test_a_nifti_mask_keeps_its_labels_as_integers(tmp_path, dtype):
    mask = read_image(write_nifti(tmp_path / "a.nii.gz", np.array([[0, 2], [255, 4]], dtype)), is_mask=True).array
    assert np.issubdtype(mask.dtype, np.integer)
    assert mask.tolist() == [[4, 2], [255, 0]]  # rows front to back, columns right to left


def test_a_nifti_mask_of_probabilities_is_refused(tmp_path):
    path = write_nifti(tmp_path / "a.nii.gz", np.array([[0, 0.5]], np.float32))
    with pytest.raises(ValueError, match=r"a\.nii\.gz.*whole numbers"):
        read_image(path, is_mask=True)


# --- figshare's MATLAB files


def write_figshare(path, image, mask=None, label=2, patient="MR017260F"):
    """As MATLAB stores it: column by column, so that HDF5 shows the axes swapped."""
    with h5py.File(path, "w") as file:
        file["cjdata/image"] = image.T
        file["cjdata/tumorMask"] = (image > 0 if mask is None else mask).T.astype(np.uint8)
        file["cjdata/label"] = np.array([[label]], np.float64)
        file["cjdata/PID"] = np.array([[ord(letter)] for letter in patient], np.uint16)
    return path


def test_a_matlab_image_and_mask_are_the_right_way_up(tmp_path):
    image = np.arange(6, dtype=np.int16).reshape(2, 3) * 1000
    path = write_figshare(tmp_path / "7.mat", image)
    read = read_image(path)
    assert read.array.dtype == np.int16 and read.spacing_mm is None
    np.testing.assert_array_equal(read.array, image)
    mask = read_image(path, is_mask=True).array
    assert mask.dtype == bool
    np.testing.assert_array_equal(mask, image > 0)


def test_a_tumour_record_is_class_and_patient(tmp_path):
    assert read_brain_tumor_record(write_figshare(tmp_path / "7.mat", RAMP)) == (2, "MR017260F")


@pytest.mark.parametrize("read", [read_image, read_brain_tumor_record])
def test_another_matlab_file_is_refused_with_what_is_missing(tmp_path, read):
    with h5py.File(tmp_path / "7.mat", "w") as file:
        file["other"] = 1
    with pytest.raises(ValueError, match=r"7\.mat.*cjdata"):
        read(tmp_path / "7.mat")


def test_a_missing_medical_file_is_said_to_be_missing(tmp_path):
    for name in ("a.nii.gz#4", "a.dcm", "a.mat"):
        with pytest.raises(FileNotFoundError, match=name.partition("#")[0]):
            read_image(tmp_path / name)


# --- masks


@pytest.mark.parametrize("codes", CODES)
@pytest.mark.parametrize("plane", PLANES)
def test_a_mask_lies_over_the_voxels_it_was_drawn_on(tmp_path, codes, plane):
    canonical = np.arange(60, dtype=np.int16).reshape(3, 4, 5)
    affine = affine_of(codes, (1.5, 2.5, 3.5))
    scan = nibabel.load(write_nifti(tmp_path / "a.nii.gz", stored_as(canonical, codes), affine))
    source = read_image(f"{tmp_path / 'a.nii.gz'}#{plane}:1")
    stored = read_image(f"{tmp_path / 'a.nii.gz'}#{plane}:1", is_mask=True).array
    marked = np.zeros(stored.shape, np.uint8)
    marked[1, 0] = 1
    mask = nibabel.load(write_mask(tmp_path / "out" / "mask.nii.gz", marked, like=source))
    there = np.argwhere(scan.get_fdata() == stored[1, 0])[0]
    here = np.argwhere(mask.get_fdata() == 1)
    assert len(here) == 1 and mask.get_data_dtype() == np.uint8
    np.testing.assert_allclose(mask.affine @ [*here[0], 1], scan.affine @ [*there, 1])
    np.testing.assert_array_equal(read_image(tmp_path / "out" / "mask.nii.gz", is_mask=True).array, marked)


@pytest.mark.parametrize("plane", PLANES)
def test_a_nifti_mask_is_a_thin_volume_in_canonical_orientation(tmp_path, plane):
    affine = affine_of("LPS", (1.5, 2.5, 3.5))
    path = write_nifti(tmp_path / "a.nii.gz", np.zeros((3, 4, 5), np.int16), affine)
    source = read_image(f"{path}#{plane}:1")
    mask = nibabel.load(write_mask(tmp_path / "mask.nii.gz", np.zeros(source.array.shape, bool), like=source))
    assert nibabel.aff2axcodes(mask.affine) == ("R", "A", "S")
    assert mask.header.get_zooms() == pytest.approx((1.5, 2.5, 3.5))
    assert mask.shape == {"axial": (3, 4, 1), "coronal": (3, 1, 5), "sagittal": (1, 4, 5)}[plane]


def test_a_mask_of_an_oblique_scan_lies_over_it(tmp_path):
    turn = np.deg2rad(20)
    affine = np.eye(4)
    affine[:2, :2] = [[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]]
    affine = affine @ np.diag([2, 3, 4, 1])
    affine[:3, 3] = [9, 8, 7]
    volume = np.arange(60, dtype=np.int16).reshape(3, 4, 5)
    source = read_image(f"{write_nifti(tmp_path / 'a.nii', volume, affine)}#coronal:2")
    marked = np.zeros(source.array.shape, np.uint8)
    marked[4, 2] = 1  # bottom and left: voxel (0, 2, 0)
    mask = nibabel.load(write_mask(tmp_path / "mask.nii", marked, like=source))
    here = np.argwhere(mask.get_fdata() == 1)[0]
    np.testing.assert_allclose(mask.affine @ [*here, 1], affine @ [0, 2, 0, 1], atol=1e-5)


@pytest.mark.parametrize(
    ("orientation", "world"),
    # Pixel (row 2, column 1) at spacing 2 (rows) and 3 (columns), from LPS (-10, -20, 30); then x and y turned.
    [
        ([1, 0, 0, 0, 1, 0], [-(-10 + 3), -(-20 + 4), 30]),  # axial
        ([1, 0, 0, 0, 0, -1], [-(-10 + 3), 20, 30 - 4]),  # coronal
        ([0, 1, 0, 0, 0, -1], [10, -(-20 + 3), 30 - 4]),  # sagittal
        ([-1, 0, 0, 0, 1, 0], [-(-10 - 3), -(-20 + 4), 30]),  # the other handedness
    ],
)
def test_a_mask_of_a_dicom_picture_lies_where_the_patient_does(tmp_path, orientation, world):
    tags = {"ImagePositionPatient": [-10, -20, 30], "ImageOrientationPatient": orientation}
    source = read_image(write_dicom(tmp_path / "a.dcm", RAMP, PixelSpacing=[2, 3], SliceThickness=5, **tags))
    marked = np.zeros(RAMP.shape, np.uint8)
    marked[2, 1] = 1
    mask = nibabel.load(write_mask(tmp_path / "mask.nii.gz", marked, like=source))
    here = np.argwhere(mask.get_fdata() == 1)[0]
    np.testing.assert_allclose((mask.affine @ [*here, 1])[:3], world)
    assert sorted(mask.header.get_zooms()) == pytest.approx([2, 3, 5])


def test_a_mask_without_a_place_keeps_its_spacing_and_its_way_up(tmp_path):
    source = read_image(write_dicom(tmp_path / "a.dcm", RAMP, PixelSpacing=[2, 3]))
    labels = (RAMP // 100 % 3).astype(np.uint8)
    path = write_mask(tmp_path / "mask.nii.gz", labels, num_labels=3, like=source)
    read = read_image(path, is_mask=True)
    np.testing.assert_array_equal(read.array, labels)
    assert read.spacing_mm == pytest.approx((2, 3))
    assert read_image(write_mask(tmp_path / "plain.nii", labels, num_labels=3)).spacing_mm == (1, 1)


def test_a_binary_nifti_mask_holds_0_and_1(tmp_path):
    path = write_mask(tmp_path / "mask.nii", (RAMP > 500).astype(np.uint8) * 255)
    np.testing.assert_array_equal(read_image(path, is_mask=True).array, RAMP > 500)


def test_segmentation_arrays_hold_labels_and_what_they_refer_to(tmp_path):
    place = {"ImagePositionPatient": [-10, -20, 30], "ImageOrientationPatient": [0, 1, 0, 0, 0, -1]}
    frames = np.stack([RAMP, RAMP])
    tags = {**place, "PixelSpacing": [2, 3], "FrameOfReferenceUID": "1.2.9", "NumberOfFrames": 2}
    source = read_image(f"{write_dicom(tmp_path / 'a.dcm', frames, **tags)}#1")
    labels = (RAMP // 100 % 3).astype(np.uint8)
    with np.load(write_mask(tmp_path / "mask.npz", labels, num_labels=3, like=source)) as arrays:
        found = {name: arrays[name] for name in arrays.files}
    np.testing.assert_array_equal(found["pixel_array"], labels[None])
    assert found["pixel_array"].dtype == np.uint8
    assert found["segment_numbers"].tolist() == [1, 2]
    assert found["pixel_spacing"].tolist() == [2, 3]
    np.testing.assert_allclose(found["image_position_patient"], [-10, -20, 30])
    np.testing.assert_allclose(found["image_orientation_patient"], [0, 1, 0, 0, 0, -1], atol=1e-12)
    assert found["referenced_frame_number"].ravel().tolist() == [2]  # DICOM counts from 1
    names = ("referenced_sop_instance_uid", "referenced_sop_class_uid", "frame_of_reference_uid")
    assert [str(found[name]) for name in names] == ["1.2.3", CTImageStorage, "1.2.9"]


def test_segmentation_arrays_of_a_plain_picture_leave_empty_what_is_unknown(tmp_path):
    Image.fromarray((RAMP // 5).astype(np.uint8)).save(tmp_path / "a.png")
    with np.load(write_mask(tmp_path / "mask.npz", RAMP > 500, like=read_image(tmp_path / "a.png"))) as arrays:
        assert arrays["segment_numbers"].tolist() == [1]
        assert arrays["pixel_array"].max() == 1
        for name in ("pixel_spacing", "image_position_patient", "image_orientation_patient"):
            assert arrays[name].size == 0
        for name in ("referenced_sop_instance_uid", "referenced_sop_class_uid", "frame_of_reference_uid"):
            assert str(arrays[name]) == ""


def test_an_empty_mask_still_has_its_segment(tmp_path):
    with np.load(write_mask(tmp_path / "mask.npz", np.zeros((3, 4), bool))) as arrays:
        assert arrays["segment_numbers"].tolist() == [1]


@pytest.mark.parametrize("name", ["mask.png", "mask.nii.gz", "mask.npz"])
def test_a_mask_of_another_shape_than_its_picture_is_refused(tmp_path, name):
    source = read_image(write_dicom(tmp_path / "a.dcm", RAMP))
    with pytest.raises(ValueError, match=rf"{name}.*\(4, 3\).*\(3, 4\)"):
        write_mask(tmp_path / name, np.zeros((4, 3), np.uint8), like=source)


@pytest.mark.parametrize("name", ["mask.nii.gz", "mask.npz"])
def test_values_that_are_no_labels_are_refused_in_every_format(tmp_path, name):
    with pytest.raises(ValueError, match="num_labels=1"):
        write_mask(tmp_path / name, np.array([[0, 1, 2]]))
    assert not (tmp_path / name).exists()


def test_an_ignored_region_is_no_segment(tmp_path):
    with pytest.raises(ValueError, match=r"mask\.npz.*255"):
        write_mask(tmp_path / "mask.npz", np.array([[0, 1, 255]]), num_labels=2)
