"""Each lesion of a mask is measured on its own, in pixels and, where sizes are known, in millimetres."""

import json
import math

import numpy as np
import pytest
from medical_files import RAMP, affine_of, write_dicom, write_nifti
from PIL import Image
from scipy.ndimage import gaussian_filter
from scipy.spatial.distance import pdist

from tevia_hf import lesion_statistics
from tevia_hf.io import read_image
from tevia_hf.lesion_measures import class_statistics
from tevia_hf.mask_scores import Region

ONE = {1: "lesion"}
TWO = {1: "benign", 2: "malignant"}


def drawn(*rows):
    return np.array([[int(value) for value in row] for row in rows], np.uint8)


def only_lesion(mask, **sizes):
    (lesion,) = lesion_statistics(mask, ONE, **sizes)
    return lesion


def test_sizes_follow_rows_and_columns_of_different_spacing():
    lesion = only_lesion(drawn("000000", "011100", "011100", "000000"), spacing_mm=(2.0, 0.5), slice_thickness_mm=3.0)
    assert (lesion.label, lesion.pixels, lesion.area_mm2, lesion.volume_mm3) == ("lesion", 6, 6.0, 18.0)
    assert lesion.diameter_px == pytest.approx(math.hypot(1, 2))
    assert lesion.diameter_mm == pytest.approx(math.hypot(1 * 2.0, 2 * 0.5))


def test_the_longest_diameter_may_have_another_direction_in_millimetres_than_in_pixels():
    lesion = only_lesion(drawn("10000", "10000", "11111"), spacing_mm=(10.0, 1.0))
    assert lesion.diameter_px == pytest.approx(math.hypot(2, 4))
    lesion = only_lesion(drawn("1111", "1000", "1000"), spacing_mm=(10.0, 0.1))
    assert lesion.diameter_mm == pytest.approx(math.hypot(20, 0.3))


def test_pixels_that_touch_at_a_corner_are_one_lesion_as_in_the_lesion_wise_metrics():
    mask = drawn("1000", "0100", "0001")
    assert [lesion.pixels for lesion in lesion_statistics(mask, ONE)] == [2, 1]
    assert sorted(Region(mask == 1).lesions[1].tolist()) == [1, 2]


def test_a_single_pixel_has_an_area_and_no_diameter():
    lesion = only_lesion(drawn("000", "001"), spacing_mm=(2.0, 3.0))
    assert (lesion.pixels, lesion.area_mm2, lesion.diameter_px, lesion.diameter_mm) == (1, 6.0, 0.0, 0.0)
    assert (lesion.centre_row, lesion.centre_column) == (1.0, 2.0)


@pytest.mark.parametrize(
    ("mask", "pixels", "millimetres"),
    [
        (drawn("01111"), 3, 9),
        (drawn("0", "1", "1", "1"), 2, 4),
        (drawn("100", "010", "001"), math.hypot(2, 2), math.hypot(4, 6)),
        (drawn("001", "010", "100"), math.hypot(2, 2), math.hypot(4, 6)),
        (drawn("011"), 1, 3),
    ],
)
def test_a_lesion_of_one_line_is_as_long_as_the_line(mask, pixels, millimetres):
    lesion = only_lesion(mask, spacing_mm=(2.0, 3.0))
    assert lesion.diameter_px == pytest.approx(pixels) and lesion.diameter_mm == pytest.approx(millimetres)


@pytest.mark.parametrize("seed", range(8))
def test_the_diameter_is_the_longest_of_all_distances_between_pixels(seed):
    rng = np.random.default_rng(seed)
    mask = (gaussian_filter(rng.random((40, 30)), 2) > 0.5).astype(np.uint8)
    spacing = tuple(rng.uniform(0.2, 3, 2).tolist())
    numbers, areas = Region(mask == 1).lesions
    lesions = lesion_statistics(mask, ONE, spacing)
    assert len(lesions) == len(areas) > 1
    parts = [np.argwhere(numbers == number) for number in np.argsort(-areas, kind="stable") + 1]
    for lesion, pixels in zip(lesions, parts, strict=True):
        assert lesion.diameter_px == pytest.approx(pdist(pixels).max(initial=0))
        assert lesion.diameter_mm == pytest.approx(pdist(pixels * spacing).max(initial=0))
        assert (lesion.centre_row, lesion.centre_column) == pytest.approx(tuple(pixels.mean(axis=0)))


def test_lesions_are_listed_by_class_and_within_it_from_the_largest():
    mask = drawn("2010011", "2000011", "0000000", "2220300")
    found = [(lesion.label, lesion.pixels) for lesion in lesion_statistics(mask, TWO)]
    assert found == [("benign", 4), ("benign", 1), ("malignant", 3), ("malignant", 2)]
    assert [lesion.label for lesion in lesion_statistics(mask, {2: "malignant"})] == ["malignant"] * 2


def test_touching_classes_are_lesions_of_their_own():
    assert [(lesion.label, lesion.pixels) for lesion in lesion_statistics(drawn("1122", "1122"), TWO)] == [
        ("benign", 4),
        ("malignant", 4),
    ]


def test_a_mask_without_lesions_has_none():
    assert lesion_statistics(np.zeros((4, 5), np.uint8), TWO, (1.0, 1.0), 1.0) == []


def test_ignored_pixels_belong_to_no_lesion():
    mask = drawn("110", "000", "000")
    mask[1:] = 255
    assert only_lesion(mask).pixels == 2
    assert lesion_statistics(np.full((3, 3), 255, np.uint8), ONE) == []


def test_the_centre_is_a_row_and_a_column_and_the_side_that_of_the_image():
    mask = np.zeros((40, 100), np.uint8)
    mask[30:35, 10:13] = 1
    lesion = only_lesion(mask)
    assert (lesion.centre_row, lesion.centre_column, lesion.side) == (32.0, 11.0, "left")
    lesion = only_lesion(mask[:, ::-1])
    assert (lesion.centre_row, lesion.centre_column, lesion.side) == (32.0, 88.0, "right")


@pytest.mark.parametrize(
    ("row", "side"),
    [
        ("1100", "left"),
        ("0011", "right"),
        ("0110", "both"),
        ("11000", "left"),
        ("01100", "left"),  # up to the middle column, not across it
        ("00110", "right"),
        ("01110", "both"),
        ("00100", "both"),  # on neither side
    ],
)
def test_a_lesion_across_the_middle_column_is_on_both_sides(row, side):
    assert only_lesion(drawn(row)).side == side


def test_unknown_sizes_are_none():
    mask = drawn("11", "11")
    fields = "area_mm2 volume_mm3 diameter_mm".split()
    assert [getattr(only_lesion(mask), name) for name in fields] == [None] * 3
    assert [getattr(only_lesion(mask, slice_thickness_mm=2.0), name) for name in fields] == [None] * 3
    lesion = only_lesion(mask, spacing_mm=(1.0, 1.0))
    assert (lesion.area_mm2, lesion.volume_mm3) == (4.0, None) and lesion.diameter_mm is not None


@pytest.mark.parametrize("mask", [np.eye(3, dtype=bool), np.eye(3, dtype=np.int64), np.eye(3)])
def test_masks_may_hold_any_type_of_number(mask):
    assert only_lesion(mask).pixels == 3


def test_statistics_are_written_to_json_as_they_are():
    sizes = {"spacing_mm": tuple(np.float32([0.5, 0.5])), "slice_thickness_mm": np.float32(2)}
    lesions = lesion_statistics(np.kron(np.eye(2, dtype=np.uint8), np.ones((3, 3), np.uint8)), ONE, **sizes)
    for value in ([lesion._asdict() for lesion in lesions], class_statistics(lesions, ONE.values())):
        assert json.loads(json.dumps(value)) == value


def test_large_masks_of_many_lesions_are_measured():
    canvas = Image.new("L", (2000, 2000))
    starts = [(80 * column, 100 * row) for row in range(20) for column in range(25)]
    for left, top in starts:
        canvas.paste(1, (left + 10, top + 10, left + 70, top + 80))
    lesions = lesion_statistics(np.asarray(canvas), ONE, (0.1, 0.1))
    assert len(lesions) == 500 and {lesion.pixels for lesion in lesions} == {60 * 70}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((np.zeros((2, 3, 4), np.uint8), ONE), r"shape \(2, 3, 4\).*\(height, width\)"),
        ((np.full((2, 2), 0.3), ONE), "not labels.*0.3.*threshold"),
        ((np.zeros((2, 2)), {0: "background", 1: "lesion"}), "label 0.*1 to 254"),
        ((np.zeros((2, 2)), {255: "ignored"}), "label 255.*1 to 254"),
        ((np.zeros((2, 2)), ONE, (1.0, 0.0)), "`spacing_mm` is 0.0"),
        ((np.zeros((2, 2)), ONE, (1.0, 1.0, 1.0)), r"`spacing_mm` .*\(row, column\)"),
        ((np.zeros((2, 2)), ONE, None, -1.0), "`slice_thickness_mm` is -1.0"),
    ],
)
def test_what_cannot_be_measured_is_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        lesion_statistics(*arguments)


def test_the_lesions_of_an_image_are_summed_by_class_and_in_total():
    mask = drawn("11010", "11000", "00000", "22222")
    found = class_statistics(lesion_statistics(mask, TWO, (2.0, 1.0), 3.0), TWO.values())
    assert found == {
        "benign": {"lesions": 2, "volume_mm3": 30.0, "diameter_px": math.hypot(1, 1), "diameter_mm": math.hypot(2, 1)},
        "malignant": {"lesions": 1, "volume_mm3": 30.0, "diameter_px": 4.0, "diameter_mm": 4.0},
    }


def test_sums_of_unknown_sizes_are_none_and_without_lesions_zero():
    found = class_statistics(lesion_statistics(drawn("11"), ONE), ["lesion", "cyst"])
    assert found["lesion"] == {"lesions": 1, "volume_mm3": None, "diameter_px": 1.0, "diameter_mm": None}
    assert set(found["cyst"].values()) == {0}


# --- The distance between slices, the thickness of what a slice shows


@pytest.mark.parametrize(("plane", "expected"), [("axial", 4), ("coronal", 3), ("sagittal", 2)])
def test_the_distance_between_slices_of_a_volume_is_that_of_its_plane(tmp_path, plane, expected):
    path = write_nifti(tmp_path / "a.nii", np.zeros((3, 3, 3), np.int16), affine_of("LPS", (2.0, 3.0, 4.0)))
    assert read_image(f"{path}#{plane}:1").source.slice_spacing_mm == pytest.approx(expected)


def test_slices_of_a_tilted_volume_are_as_far_apart_as_their_planes(tmp_path):
    affine = np.diag([2.0, 3.0, 4.0, 1.0])
    affine[0, 2] = 1.0
    path = write_nifti(tmp_path / "a.nii", np.zeros((3, 3, 3), np.int16), affine)
    assert read_image(f"{path}#1").source.slice_spacing_mm == pytest.approx(4)


def test_frames_of_a_dicom_file_are_as_far_apart_as_it_states(tmp_path):
    tags = {
        "ImagePositionPatient": [0, 0, 0],
        "ImageOrientationPatient": [1, 0, 0, 0, 1, 0],
        "PixelSpacing": [2, 3],
        "GridFrameOffsetVector": [0, 5],
        "SliceThickness": 5,
    }
    path = write_dicom(tmp_path / "a.dcm", np.stack([RAMP, RAMP]), NumberOfFrames=2, **tags)
    assert read_image(f"{path}#1").source.slice_spacing_mm == pytest.approx(5)


def test_the_distance_of_slices_is_unknown_where_the_file_does_not_give_it(tmp_path):
    flat = write_nifti(tmp_path / "a.nii", np.zeros((3, 3, 1), np.int16))
    place = {"ImagePositionPatient": [0, 0, 0], "ImageOrientationPatient": [1, 0, 0, 0, 1, 0], "PixelSpacing": [2, 3]}
    placed, bare = write_dicom(tmp_path / "a.dcm", RAMP, **place), write_dicom(tmp_path / "b.dcm", RAMP)
    frames = write_dicom(
        tmp_path / "c.dcm", np.stack([RAMP, RAMP]), NumberOfFrames=2, GridFrameOffsetVector=[0, 5], **place
    )
    Image.new("L", (3, 3)).save(tmp_path / "a.png")
    for path in (flat, placed, bare, f"{frames}#1", tmp_path / "a.png"):
        assert read_image(path).source.slice_spacing_mm is None


def test_a_single_slice_has_the_thickness_that_its_file_gives(tmp_path):
    assert read_image(write_dicom(tmp_path / "a.dcm", RAMP, SliceThickness=5)).source.slice_spacing_mm == 5
