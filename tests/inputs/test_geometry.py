"""Image and mask are compared in space if both files have a position."""

import nibabel
import numpy as np
import pytest
from builders import (
    answer,
    data_set,
    faults_of,
    folder,
    half_drawn,
    lesion,
    mentions,
    noise,
    pair,
    spoken_of,
    table,
    turned,
)
from medical_files import affine_of, item, stored_as, write_dicom, write_nifti
from tiny import tiny_processor, tiny_reader

from tevia_cli.main import main
from tevia_hf import evaluate_model, load_segmentation_dataset
from tevia_hf.io import MedicalImage, read_image, write_mask

SHAPE = (40, 32, 5)
SCANNER = np.diag([-1.0, -1.0, 3.0, 1.0])  # as a CT is written


def bright_lesion(shape=SHAPE):
    """A volume whose lesion is bright, and its mask."""
    volume, mask = np.random.default_rng(0).normal(0, 50, shape).astype(np.float32), np.zeros(shape, np.uint8)
    mask[5:15, 4:12] = 1
    volume[5:15, 4:12] += 500
    return volume, mask


def scan(root, mask_affine, image_affine=SCANNER, mask_shape=SHAPE, number=2, split="train"):
    """A data set of two slices of one scan."""
    folder(root)
    write_nifti(root / "images" / "a.nii.gz", bright_lesion()[0], image_affine)
    write_nifti(root / "masks" / "a.nii.gz", bright_lesion(mask_shape)[1], mask_affine)
    table(root, [f"a.nii.gz#{index}" for index in (number, number - 1)], split=[split] * 2)
    return root


def moved(affine, millimetres):
    affine = affine.copy()
    affine[:3, 3] += millimetres
    return affine


def scaled(affine, *factors):
    return affine @ np.diag([*factors, 1.0])


def tilted(affine, degrees):
    turn, angle = np.eye(4), np.deg2rad(degrees)
    turn[:2, :2] = [[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]
    return turn @ affine


ELSEWHERE = {
    "identity affine": np.eye(4),
    "left and right swapped": SCANNER @ np.diag([-1.0, 1, 1, 1]),
    "origin 3 mm to the side": moved(SCANNER, [3, 0, 0]),
    "origin half a pixel off": moved(SCANNER, [0, 0.5, 0]),
    "one slice up": moved(SCANNER, [0, 0, 3.0]),
    "half a slice up": moved(SCANNER, [0, 0, 1.5]),
    "pixels of half the size": scaled(SCANNER, 0.5, 0.5, 1),
    "slices of half the distance": scaled(SCANNER, 1, 1, 0.5),
    "tilted by 10 degrees": tilted(SCANNER, 10),
}


@pytest.mark.parametrize("affine", ELSEWHERE.values(), ids=ELSEWHERE)
def test_a_mask_that_lies_elsewhere_than_its_image_is_a_fault(tmp_path, affine):
    assert mentions(faults_of(scan(tmp_path, affine)), "a.nii.gz")


def test_a_mask_of_the_image_s_own_grid_is_none(tmp_path):
    assert faults_of(scan(tmp_path, SCANNER)) == []


@pytest.mark.parametrize("shift", [[0.1, 0, 0], [0, -0.2, 0], [0, 0, 0.5], [1e-4, 1e-4, 1e-4]])
def test_less_than_a_quarter_of_a_pixel_or_of_the_slice_step_is_none(tmp_path, shift):
    assert faults_of(scan(tmp_path, moved(SCANNER, shift))) == []


def test_other_slices_than_the_image_s_are_a_fault_that_names_both_counts(tmp_path):
    faults = faults_of(scan(tmp_path, scaled(np.eye(4), 1, 1, 5), np.eye(4), (40, 32, 3)))
    assert any("3" in line and "5" in line for line in faults)


def test_another_number_of_slices_is_a_fault_even_where_the_named_slice_fits(tmp_path):
    assert faults_of(scan(tmp_path, SCANNER, mask_shape=(40, 32, 4)))


def test_the_fault_names_both_spacings(tmp_path):
    faults = faults_of(scan(tmp_path, scaled(SCANNER, 0.5, 0.75, 1)))
    assert any("0.5" in line and "1" in line for line in faults)


@pytest.mark.parametrize("codes", ["LPS", "RAS", "ASR", "PIR"])
def test_a_mask_that_is_stored_in_another_order_but_lies_in_place_is_none(tmp_path, codes):
    root = folder(tmp_path)
    volume, mask = bright_lesion()
    write_nifti(root / "images" / "a.nii.gz", volume, affine_of("RAS", (1, 1, 3), (0, 0, 0)))
    order = nibabel.orientations.axcodes2ornt(codes)
    stored = nibabel.Nifti1Image(mask, affine_of("RAS", (1, 1, 3), (0, 0, 0))).as_reoriented(
        nibabel.orientations.ornt_transform(nibabel.orientations.axcodes2ornt("RAS"), order)
    )
    assert np.array_equal(np.asarray(stored.dataobj), stored_as(mask, codes))
    nibabel.save(stored, root / "masks" / "a.nii.gz")
    table(root, ["a.nii.gz#2", "a.nii.gz#1"])
    assert faults_of(root) == []
    shown = read_image(root / "images" / "a.nii.gz#2").array
    labels = read_image(root / "masks" / "a.nii.gz#2", is_mask=True).array
    assert shown[labels > 0].mean() > shown[labels == 0].mean() + 0.3


def test_the_unit_of_the_affine_counts(tmp_path):
    root = scan(tmp_path, SCANNER)
    mask = nibabel.load(root / "masks" / "a.nii.gz")
    mask = nibabel.Nifti1Image(np.asarray(mask.dataobj), mask.affine)
    mask.header.set_xyzt_units("micron")
    nibabel.save(mask, root / "masks" / "a.nii.gz")
    assert faults_of(root)


# DICOM


def ct(path, z=100.0, spacing=(2, 2), pixels=None, **tags):
    pixels = (np.arange(64, dtype=np.uint16) * 10).reshape(8, 8) if pixels is None else pixels
    place = {"PixelSpacing": list(spacing), "ImagePositionPatient": [0, 0, z]}
    return write_dicom(path, pixels, ImageOrientationPatient=[1, 0, 0, 0, 1, 0], **place, **tags)


MARKED = np.zeros((8, 8), np.uint16)
MARKED[1:4, 2:5] = 1


@pytest.mark.parametrize("other", [{"z": 105.0}, {"spacing": (1, 1)}, {"spacing": (2, 1)}], ids=str)
def test_a_dicom_mask_of_another_place_is_a_fault(tmp_path, other):
    ct_mask = lambda path: ct(path, pixels=MARKED, **other)  # noqa: E731  # read only in the next line
    assert mentions(faults_of(pair(tmp_path, ct_mask, ct, ".dcm", ".dcm")), "a.dcm")


def test_a_dicom_mask_of_the_same_place_is_none(tmp_path):
    assert faults_of(pair(tmp_path, lambda path: ct(path, pixels=MARKED), ct, ".dcm", ".dcm")) == []


def written_like(image_path, mask_path, shift=0.0):
    """A mask as `tevia predict` writes it, moved along the body."""
    image = read_image(image_path)
    affine = image.source.affine.copy()
    affine[2, 3] += shift
    source = type(image.source)(image.source.path, affine)
    write_mask(mask_path, MARKED.astype(np.uint8), 1, like=MedicalImage(image.array, image.spacing_mm, source))


def test_a_dicom_image_and_a_nifti_mask_are_compared_in_space(tmp_path):
    for name, shift in (("there", 0.0), ("away", 10.0)):
        root = pair(tmp_path / name, MARKED.astype(np.uint8) * 255, ct, ".png", ".dcm")
        (root / "masks" / "a.png").unlink()
        written_like(root / "images" / "a.dcm", root / "masks" / "a.nii.gz", shift)
    assert faults_of(tmp_path / "there") == []
    assert mentions(faults_of(tmp_path / "away"), "a.nii.gz")


def test_a_mask_that_knows_no_place_goes_with_any_image(tmp_path):
    assert faults_of(pair(tmp_path, MARKED.astype(np.uint8) * 255, ct, ".png", ".dcm")) == []


def test_the_frame_of_a_mask_has_its_own_place(tmp_path):
    def frames(path, first):
        at = [item(PlanePositionSequence=[item(ImagePositionPatient=[0, 0, first + 5 * k])]) for k in range(3)]
        tags = {"PixelSpacing": [2, 2], "ImageOrientationPatient": [1, 0, 0, 0, 1, 0]}
        values = noise(8, 24).reshape(3, 8, 8).astype(np.uint16) if path.parent.name == "images" else [MARKED] * 3
        write_dicom(path, np.array(values), NumberOfFrames=3, PerFrameFunctionalGroupsSequence=at, **tags)

    for name, first in (("there", 0), ("away", 5)):
        root = folder(tmp_path / name)
        frames(root / "images" / "a.dcm", 0)
        frames(root / "masks" / "a.dcm", first)
        table(root, ["a.dcm#0", "a.dcm#1"])
    assert faults_of(tmp_path / "there") == []
    assert mentions(faults_of(tmp_path / "away"), "a.dcm")


# Photographs that are turned when they are shown


@pytest.mark.parametrize("orientation", [2, 3, 6, 8])
def test_a_turn_noted_in_the_image_alone_is_named(tmp_path, orientation):
    image = turned(orientation, noise(48, 64, channels=3), quality=95)
    assert mentions(spoken_of(pair(tmp_path, lesion(48, 64), image, image_suffix=".jpg")), "EXIF")


@pytest.mark.parametrize("orientation", [2, 3, 5, 6, 8])
def test_a_turn_of_a_square_image_alone_is_named_though_the_sizes_agree(tmp_path, orientation):
    image = turned(orientation, noise(channels=3), quality=95)
    assert mentions(spoken_of(pair(tmp_path, lesion(), image, image_suffix=".jpg")), "EXIF")


def test_a_turn_noted_in_the_mask_alone_is_named(tmp_path):
    assert mentions(spoken_of(pair(tmp_path, turned(3, lesion()))), "EXIF")


def test_two_different_turns_are_named(tmp_path):
    assert mentions(spoken_of(pair(tmp_path, turned(8, lesion()), turned(6, noise()))), "EXIF")


def test_a_turn_noted_in_both_is_carried_out_in_both(tmp_path):
    root = pair(tmp_path, turned(6, lesion(48, 64)), turned(6, noise(48, 64)))
    assert faults_of(root) == []
    assert np.array_equal(read_image(root / "masks" / "a.png", is_mask=True).array, np.rot90(lesion(48, 64), -1))


def test_a_note_that_nothing_is_turned_is_none(tmp_path):
    assert faults_of(pair(tmp_path, lesion(), turned(1, noise(), quality=95), image_suffix=".jpg")) == []


# Everything that pairs them


def test_evaluation_refuses_a_mask_that_lies_elsewhere(tmp_path):
    dataset = load_segmentation_dataset("folder", scan(tmp_path, np.eye(4), split="test"), split="test")
    given = answer(lambda: evaluate_model(tiny_reader(), tiny_processor(), dataset, []))
    assert given.error and "a.nii.gz" in given.error


def test_training_refuses_a_mask_that_lies_elsewhere_before_the_first_step(tmp_path):
    from tevia_hf.data.features import undecoded
    from tevia_hf.data.survey import Survey

    def read(dataset):
        Survey(tiny_processor().image_processor).read_all(undecoded(dataset))

    there = load_segmentation_dataset("folder", scan(tmp_path / "there", SCANNER))
    read(there)
    away = load_segmentation_dataset("folder", scan(tmp_path / "away", np.eye(4)))
    with pytest.raises(ValueError, match=r"a\.nii\.gz"):
        read(away)


def test_check_data_ends_with_1_where_a_mask_lies_elsewhere(tmp_path, capsys):
    assert main(["check-data", "folder", str(scan(tmp_path, np.eye(4)))]) == 1
    assert "a.nii.gz" in capsys.readouterr().out


def test_several_masks_of_one_image_are_each_compared(tmp_path):
    root = data_set(tmp_path, {"a": lesion(), "b": np.rot90(lesion())})
    (root / "masks" / "a.png").rename(root / "masks" / "a_mask.png")
    turned(3, np.rot90(half_drawn() * 255))(root / "masks" / "a_mask_1.png")
    assert mentions(spoken_of(root), "EXIF")
