"""Masks at the position of their image."""

import nibabel
import numpy as np
import pytest
from medical_files import CODES, PLANES, RAMP, affine_of, stored_as, write_dicom, write_nifti

from tevia_hf.io import (
    read_image,
    write_mask,
)


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
    scan_voxel = np.argwhere(scan.get_fdata() == stored[1, 0])[0]
    mask_voxels = np.argwhere(mask.get_fdata() == 1)
    assert len(mask_voxels) == 1 and mask.get_data_dtype() == np.uint8
    np.testing.assert_allclose(mask.affine @ [*mask_voxels[0], 1], scan.affine @ [*scan_voxel, 1])
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
def test_a_mask_of_a_dicom_image_lies_where_the_patient_does(tmp_path, orientation, world):
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


@pytest.mark.parametrize("name", ["mask.png", "mask.nii.gz"])
def test_a_mask_of_another_shape_than_its_image_is_refused(tmp_path, name):
    source = read_image(write_dicom(tmp_path / "a.dcm", RAMP))
    with pytest.raises(ValueError, match=rf"{name}.*\(4, 3\).*\(3, 4\)"):
        write_mask(tmp_path / name, np.zeros((4, 3), np.uint8), like=source)


@pytest.mark.parametrize("name", ["mask.nii.gz"])
def test_values_that_are_no_labels_are_refused_in_every_format(tmp_path, name):
    with pytest.raises(ValueError, match="num_labels=1"):
        write_mask(tmp_path / name, np.array([[0, 1, 2]]))
    assert not (tmp_path / name).exists()
