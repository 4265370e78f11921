"""NIfTI volumes in radiological orientation."""

import nibabel
import numpy as np
import pytest
from medical_files import CODES, RAMP, affine_of, stored_as, write_nifti

from tevia_hf.io import read_image, write_mask


@pytest.mark.parametrize("codes", CODES)
@pytest.mark.parametrize(
    ("fragment", "voxel"),
    # The voxel (x to the right, y to the front, z up) of a 3 x 4 x 5 volume that is at the image's upper left.
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
def test_nifti_spacing_is_row_then_column_of_the_image(tmp_path, codes, plane, expected):
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
    path = write_nifti(tmp_path / "a.nii", np.zeros(shape, np.int16))
    assert read_image(path).array.shape == read_image(f"{path}#middle").array.shape == expected


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


def test_a_missing_medical_file_is_reported_as_missing(tmp_path):
    for name in ("a.nii.gz#4", "a.dcm"):
        with pytest.raises(FileNotFoundError, match=name.partition("#")[0]):
            read_image(tmp_path / name)
