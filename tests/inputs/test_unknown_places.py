"""No position is assumed for files without one; a bad optional tag is ignored and does not cost the image."""

import numpy as np
import pytest
from builders import answer, lesion, noise, same_order
from medical_files import item, write_dicom, write_nifti
from PIL import Image

from tevia_cli.main import main
from tevia_hf import TeViAImageProcessor
from tevia_hf.inference.predict import predict
from tevia_hf.io import MedicalImage, read_image, write_mask

ORIENTATION = [1, 0, 0, 0, 1, 0]
RAMP = (np.arange(64, dtype=np.uint16) * 10).reshape(8, 8)
FRAMES = np.stack([RAMP + 1000 * number for number in range(3)])


def slice_of(path, pixels=RAMP, **tags):
    place = {"PixelSpacing": [2, 2], "ImagePositionPatient": [0, 0, 100], "ImageOrientationPatient": ORIENTATION}
    return write_dicom(path, pixels, **(place | tags))


def height_of(path):
    """The z of the first pixel in mm, None where no place is given."""
    source = read_image(path).source
    return None if source is None or source.affine is None else float(source.affine[2, 3])


# Frames


def test_frames_of_a_dose_grid_lie_at_their_offsets(tmp_path):
    path = slice_of(
        tmp_path / "dose.dcm", FRAMES, NumberOfFrames=3, Modality="RTDOSE", GridFrameOffsetVector=[0, 5, 12.5]
    )
    assert [height_of(f"{path}#{frame}") for frame in range(3)] in ([100, 105, 112.5], [None] * 3)


def test_offsets_from_the_patient_s_origin_are_positions(tmp_path):
    offsets = [100, 104, 108]  # the other way to write them: the first is the z of the position itself
    path = slice_of(tmp_path / "dose.dcm", FRAMES, NumberOfFrames=3, GridFrameOffsetVector=offsets, Modality="RTDOSE")
    assert [height_of(f"{path}#{frame}") for frame in range(3)] in ([100, 104, 108], [None] * 3)


@pytest.mark.parametrize("offsets", [None, [0, 5], [0], []])
def test_frames_without_positions_of_their_own_have_none(tmp_path, offsets):
    tags = {} if offsets is None else {"GridFrameOffsetVector": offsets}
    path = slice_of(tmp_path / "a.dcm", FRAMES, NumberOfFrames=3, **tags)
    assert height_of(f"{path}#2") is None
    assert same_order(read_image(f"{path}#2").array, RAMP)


def test_frames_with_positions_of_their_own_lie_there(tmp_path):
    groups = [item(PlanePositionSequence=[item(ImagePositionPatient=[0, 0, z])]) for z in (7, 3, -1)]
    path = slice_of(tmp_path / "a.dcm", FRAMES, NumberOfFrames=3, PerFrameFunctionalGroupsSequence=groups)
    assert [height_of(f"{path}#{frame}") for frame in range(3)] == [7, 3, -1]


def test_a_frame_that_lacks_a_group_has_no_place(tmp_path):
    groups = [item(PlanePositionSequence=[item(ImagePositionPatient=[0, 0, z])]) for z in (7, 3)]
    path = slice_of(tmp_path / "a.dcm", FRAMES, NumberOfFrames=3, PerFrameFunctionalGroupsSequence=groups)
    assert height_of(f"{path}#2") is None


def test_a_single_frame_lies_where_its_file_says(tmp_path):
    assert height_of(slice_of(tmp_path / "a.dcm")) == 100
    assert height_of(slice_of(tmp_path / "b.dcm", RAMP[None], NumberOfFrames=1)) == 100


# Orientations that span no plane

SINGULAR = {
    "zeros": [0] * 6,
    "parallel": [1, 0, 0, 1, 0, 0],
    "antiparallel": [0, 1, 0, 0, -1, 0],
    "one zero": [1, 0, 0, 0, 0, 0],
}


@pytest.mark.parametrize("orientation", SINGULAR.values(), ids=SINGULAR)
def test_an_orientation_that_spans_no_plane_gives_no_place(tmp_path, orientation):
    path = slice_of(tmp_path / "a.dcm", ImageOrientationPatient=orientation)
    assert height_of(path) is None and same_order(read_image(path).array, RAMP)


@pytest.mark.parametrize("suffix", [".nii.gz", ".png"])
@pytest.mark.parametrize("orientation", [[0] * 6, [1, 0, 0, 1, 0, 0]], ids=["zeros", "parallel"])
def test_such_an_image_costs_no_other_its_mask(tmp_path, reader, processor, orientation, suffix):
    bad = slice_of(tmp_path / "a.dcm", ImageOrientationPatient=orientation)
    Image.fromarray(noise()).save(tmp_path / "b.png")
    found = predict(reader, processor, [bad, tmp_path / "b.png"], ["left"] * 2, tmp_path / "out", mask_suffix=suffix)
    assert found["error"][1] == "" and (tmp_path / "out" / f"b{suffix}").exists()
    assert (tmp_path / "out" / "predictions.csv").exists()
    assert (tmp_path / "out" / f"a{suffix}").exists() or "a.dcm" in found["error"][0]


def test_so_it_is_in_the_command(tmp_path, reader_dir, capsys):
    images = tmp_path / "images"
    images.mkdir()
    slice_of(images / "a.dcm", ImageOrientationPatient=[0] * 6)
    Image.fromarray(noise()).save(images / "b.png")
    out = tmp_path / "out"
    words = ["predict", reader_dir, str(images), "--text", "left", "--mask-suffix", ".nii.gz", "--output-dir", str(out)]
    assert main(words) in (0, 1)
    assert (out / "b.nii.gz").exists() and (out / "predictions.csv").exists()
    capsys.readouterr()


def test_a_mask_of_an_image_without_a_place_can_be_written_and_read(tmp_path):
    image = read_image(slice_of(tmp_path / "a.dcm", ImageOrientationPatient=[0] * 6))
    write_mask(tmp_path / "m.nii.gz", lesion(8, 8, 1), 1, like=MedicalImage(*image))
    assert np.array_equal(read_image(tmp_path / "m.nii.gz", is_mask=True).array.sum(), lesion(8, 8, 1).sum())


# Optional tags

BAD_TAGS = {
    "no spacing": {"PixelSpacing": None},
    "spacing of zeros": {"PixelSpacing": [0, 0]},
    "spacing below 0": {"PixelSpacing": [-1, 1]},
    "one spacing": {"PixelSpacing": [1]},
    "three spacings": {"PixelSpacing": [1, 1, 1]},
    "position of two numbers": {"ImagePositionPatient": [0, 0]},
    "orientation of three numbers": {"ImageOrientationPatient": [1, 0, 0]},
    "thickness of 0": {"SliceThickness": 0},
    "window of no width": {"WindowCenter": 30, "WindowWidth": 0},
    "window of negative width": {"WindowCenter": 30, "WindowWidth": -100},
    "centre without width": {"WindowCenter": 30},
    "empty window": {"WindowCenter": None, "WindowWidth": None},
    "slope of 0": {"RescaleSlope": 0, "RescaleIntercept": 0},
    "slope without intercept": {"RescaleSlope": 2},
    "empty slope": {"RescaleSlope": None, "RescaleIntercept": None},
    "unknown window function": {"WindowCenter": 300, "WindowWidth": 600, "VOILUTFunction": "CURVED"},
    "padding beyond the type": {"PixelPaddingValue": 0, "PixelPaddingRangeLimit": 0},
}


@pytest.mark.parametrize("tags", BAD_TAGS.values(), ids=BAD_TAGS)
def test_a_bad_optional_tag_costs_the_tag_and_not_the_image(tmp_path, tags):
    path = slice_of(tmp_path / "a.dcm", **tags)
    given = answer(lambda: read_image(path))
    assert given.error is None and same_order(given.value.array, RAMP)


@pytest.mark.parametrize("tags", [{"PixelSpacing": [0, 0]}, {"PixelSpacing": [1]}, {"PixelSpacing": [-1, 1]}], ids=str)
def test_a_bad_spacing_is_no_spacing(tmp_path, tags):
    image = read_image(slice_of(tmp_path / "a.dcm", **tags))
    assert image.spacing_mm is None and (image.source is None or image.source.affine is None)


@pytest.mark.parametrize("tag", ["PixelSpacing", "ImagePositionPatient", "ImageOrientationPatient"])
@pytest.mark.parametrize("bad", [b"nan", b"0,5", b"x  "])
def test_a_tag_that_holds_no_numbers_costs_the_tag(tmp_path, tag, bad):
    values = {"PixelSpacing": ["1.25", "1.25"], "ImagePositionPatient": ["1.25", "0", "0"]}
    values["ImageOrientationPatient"] = ["1.25", "0", "0", "0", "1", "0"]
    path = slice_of(tmp_path / "a.dcm", **{tag: values[tag]})
    path.write_bytes(path.read_bytes().replace(b"1.25", bad.ljust(4)))
    image = read_image(path)
    assert same_order(image.array, RAMP)
    assert image.source is None or image.source.affine is None or np.isfinite(image.source.affine).all()
    assert tag != "PixelSpacing" or image.spacing_mm is None


def test_an_image_of_slope_0_is_not_handed_over_as_one_value(tmp_path):
    path = slice_of(tmp_path / "a.dcm", RescaleSlope="0", RescaleIntercept="-1024")
    given = answer(lambda: read_image(path).array)
    assert given.names("slope") if given.error else given.value.std() > 0
    given = answer(lambda: TeViAImageProcessor()(str(path))["pixel_values"])
    assert given.error or given.value.std() > 0


# NIfTI


def test_a_volume_whose_affine_spans_no_space_is_refused_by_name(tmp_path):
    path = write_nifti(tmp_path / "a.nii", RAMP.astype(np.int16)[..., None])
    content = bytearray(path.read_bytes())
    content[254:256], content[280:328] = (1).to_bytes(2, "little"), bytes(48)  # sform_code and srow_x to srow_z
    path.write_bytes(content)
    given = answer(lambda: read_image(path))
    assert given.error is None or (given.names("affine") and not given.names("corrupt"))
