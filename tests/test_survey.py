"""Reading a data set once: the meaning of 255 in all masks, and errors if they disagree."""

import numpy as np
import pytest
import tifffile
from PIL import Image
from tiny import tiny_processor

from tevia_cli.main import main
from tevia_hf import segmentation_metrics
from tevia_hf.data.example import Example
from tevia_hf.data.survey import Survey, white_is_lesion_in
from tevia_hf.io import parse_address, read_image
from tevia_hf.labels_tevia import WhiteReading
from tevia_hf.mask_pairs import PADDING


def rows(folder, **masks):
    """An example for each mask, its image beside it."""
    for name, mask in masks.items():
        Image.fromarray(np.eye(16, dtype=np.uint8) * 90).save(folder / f"{name}.image.png")
        Image.fromarray(np.asarray(mask, np.uint8)).save(folder / f"{name}.png")
    files = {name: [parse_address(folder / f"{name}{part}.png") for part in (".image", "")] for name in masks}
    return [Example(name, name, image, (mask,)).row() for name, (image, mask) in files.items()]


def square(value, **border):
    mask = np.zeros((16, 16), np.uint8)
    mask[4:9, 3:8] = value
    mask[:, 14:] = border.get("border", 0)
    return mask


def reading(examples, **settings):
    survey = Survey(tiny_processor().image_processor, **settings)
    survey.read_all(examples)
    return survey


def test_a_lossy_mask_tells_nothing_of_255(tmp_path):
    greys = square(255)
    greys[4, 3:8] = [249, 252, 254, 3, 2]
    for num_labels in (None, 1):
        examples = rows(tmp_path, a=square(255), b=greys)
        assert white_is_lesion_in(examples, num_labels, on_error="skip") is True


def test_masks_that_are_not_read_may_tell_what_255_means(tmp_path):
    survey = reading(rows(tmp_path, a=square(0, border=255)))
    assert survey.white_is_lesion() is True
    survey.consult(rows(tmp_path, b=square(1, border=255)))
    assert survey.white_is_lesion() is False and "b.png holds labels beside 255" in survey.warnings()[0]


@pytest.mark.parametrize("part", ["image", "mask"])
def test_a_slice_that_cannot_be_named_so_is_a_fault_of_its_example(part, tmp_path):
    ana, ben, cleo = rows(tmp_path, ana=square(0), ben=square(255), cleo=square(1, border=255))
    survey = Survey(tiny_processor().image_processor)
    wrong = ana | {part: f"{tmp_path}/scan.nii.gz#top"}
    assert [position for position, _ in survey.read([wrong, ben])] == [1]
    assert survey.faults[0].reason.startswith(f"{part} of example 'ana': {tmp_path}/scan.nii.gz#top: '#top' names no")
    survey.consult([wrong, cleo])
    assert survey.white_is_lesion() is False


def test_a_stream_is_not_judged_by_the_masks_of_another_part(tmp_path):
    survey = reading(rows(tmp_path, a=square(1, border=255)))
    assert survey.white_is_lesion() is False
    survey.has_stream = True
    assert survey.white_is_lesion() is None


def test_with_several_labels_nothing_is_to_be_declared():
    with pytest.raises(ValueError, match="num_labels=3 255 is always ignored"):
        WhiteReading(3, True)


@pytest.mark.parametrize("planes", ["contig", "separate"])
def test_a_mask_in_colours_of_16_bits_keeps_its_labels(planes, tmp_path):
    labels = square(1).astype(np.uint16)
    stacked = np.stack([labels] * 3, -1 if planes == "contig" else 0)
    tifffile.imwrite(tmp_path / "a.tif", stacked, photometric="rgb", planarconfig=planes)
    assert np.array_equal(read_image(tmp_path / "a.tif", is_mask=True).array[..., 0], labels)


def test_padding_is_cut_at_the_end_alone():
    prediction, reference = np.zeros((12, 12), int), np.zeros((12, 12), int)
    prediction[0, 0] = reference[9, 0] = 1
    reference[4:6] = PADDING
    padded = np.pad(reference, (0, 3), constant_values=PADDING)
    scores = [
        segmentation_metrics([guess], [truth])["hd95"]
        for guess, truth in ((prediction, reference), (np.pad(prediction, (0, 3)), padded))
    ]
    assert scores == [9.0, 9.0]
    with pytest.raises(ValueError, match="nothing but padding"):
        segmentation_metrics([prediction], [np.full((12, 12), PADDING)])


def test_what_was_declared_does_not_merge_labels_with_255():
    with pytest.raises(ValueError, match="holds labels beside 255"):
        segmentation_metrics([[[0, 1, 1]]], [[[0, 1, 255]]], white_is_lesion=True)


def test_the_option_is_true_or_false_in_any_case(tmp_path, capsys):
    with pytest.raises(SystemExit):
        main(["check-data", "folder", str(tmp_path), "--white-is-lesion", "maybe"])
    assert "write true or false" in capsys.readouterr().err
    assert main(["check-data", "folder", str(tmp_path / "none"), "--white-is-lesion", "True"]) == 2
