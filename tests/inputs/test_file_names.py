"""Files are identified by content, and paired by names without a common suffix."""

import json

import numpy as np
import pytest
from builders import answer, examined, faults_of, folder, labels_of, lesion, mentions, noise, put, same_order, table
from medical_files import write_dicom, write_nifti
from PIL import Image

from tevia_cli.main import main
from tevia_hf import TeViAImageProcessor, TeViASegmentationPipeline, load_segmentation_dataset
from tevia_hf.data.registry import list_examples
from tevia_hf.inference.items import list_images
from tevia_hf.io import read_image

RAMP = (np.arange(64, dtype=np.uint16) * 10).reshape(8, 8)

# Content


@pytest.mark.parametrize("name", ["IM000001", "I0", "1.2.840.113619.2.5", "a.IMA", "a.ima", "scan.001", "a.DCM"])
def test_dicom_is_known_by_its_content(tmp_path, name):
    path = write_dicom(tmp_path / name, RAMP)
    given = answer(lambda: read_image(path).array)
    if given.error is None:
        assert same_order(given.value, RAMP)
    else:
        assert given.names("DICOM", ".dcm") and "Convert it to PNG" not in given.error


@pytest.mark.parametrize("name", ["IM000001", "a.IMA"])
def test_a_folder_of_an_export_is_a_folder_of_images(tmp_path, name):
    images = tmp_path / "images"
    images.mkdir()
    write_dicom(images / name, RAMP)
    given = answer(lambda: list_images([images]))
    assert given.names("DICOM", "without") if given.error else len(given.value) == 1


def test_text_beside_an_export_is_no_image(tmp_path):
    write_dicom(tmp_path / "IM000001", RAMP)
    (tmp_path / "README").write_text("exported")
    (tmp_path / "DICOMDIR.txt").write_text("index")
    given = answer(lambda: list_images([tmp_path]))
    assert given.error or [str(path).rsplit("/", 1)[-1] for path in given.value] == ["IM000001"]


def test_a_set_of_dicom_without_suffix_is_paired_or_named(tmp_path):
    root = folder(tmp_path)
    for number in range(2):
        write_dicom(root / "images" / f"IM{number:04}", RAMP + number * (np.arange(64).reshape(8, 8) % 7).astype("u2"))
        put(root / "masks" / f"IM{number:04}.png", lesion(8, 8))
    table(root, ["IM0000", "IM0001"])
    faults = faults_of(root)
    assert not faults or mentions(faults, "DICOM", "suffix")


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".tif"])
def test_dicom_by_another_suffix_is_read_or_named(tmp_path, suffix):
    path = write_dicom(tmp_path / "a.dcm", RAMP).rename(tmp_path / f"a{suffix}")
    given = answer(lambda: read_image(path).array)
    assert (given.names("DICOM") and not given.names("corrupt")) if given.error else same_order(given.value, RAMP)


@pytest.mark.parametrize("content", [b"", b"<html><body>Please log in</body></html>" * 9, b"PK\3\4" + bytes(200)])
def test_what_is_no_dicom_at_all_is_not_called_a_report(tmp_path, content):
    (tmp_path / "a.dcm").write_bytes(content)
    given = answer(lambda: read_image(tmp_path / "a.dcm"))
    assert given.error and not given.names("not the report", "structure set")


def test_a_photograph_by_the_suffix_of_dicom_is_read_or_named(tmp_path):
    Image.fromarray(noise()).save(tmp_path / "a.jpg")
    path = (tmp_path / "a.jpg").rename(tmp_path / "a.dcm")
    given = answer(lambda: read_image(path).array)
    assert given.error is None or not given.names("not the report", "structure set")


def test_a_dicom_without_pixels_is_still_named_so(tmp_path):
    path = write_dicom(tmp_path / "a.dcm", RAMP)
    import pydicom

    dataset = pydicom.dcmread(path)
    del dataset.PixelData
    dataset.save_as(path)
    assert answer(lambda: read_image(path)).names("PixelData", "pixels", "report")


@pytest.mark.parametrize("kind", ["dicom", "nifti"])
def test_processor_and_pipeline_read_medical_files_or_do_not_call_them_corrupt(tmp_path, reader, processor, kind):
    if kind == "dicom":
        path = write_dicom(tmp_path / "a.dcm", RAMP)
    else:
        path = write_nifti(tmp_path / "a.nii.gz", RAMP.astype(np.int16)[..., None])
    segment = TeViASegmentationPipeline(reader, processor=processor, device="cpu")
    for call in (TeViAImageProcessor(), lambda path: segment(path, "left")):
        given = answer(lambda call=call: call(str(path)))
        assert given.error is None or not given.names("corrupt")


def test_the_command_predicts_an_export_or_names_it(tmp_path, reader_dir, capsys):
    images = tmp_path / "images"
    images.mkdir()
    write_dicom(images / "IM000001", RAMP)
    out = tmp_path / "out"
    code = main(["predict", reader_dir, str(images), "--text", "left", "--output-dir", str(out)])
    spoken = capsys.readouterr().err
    assert len(list(out.glob("*.png"))) == 1 if code == 0 else mentions([spoken], "DICOM", "without")


# Names


def set_of(root, image_name, mask_name, suffix=".png", names=("c1", "c2", "c11")):
    """Examples c1, c2, c11 whose files are called so; the lesion of each lies elsewhere."""
    folder(root)
    for number, name in enumerate(names):
        put(root / "images" / f"{image_name.format(name)}{suffix}", noise(seed=number))
        put(root / "masks" / f"{mask_name.format(name)}{suffix}", np.roll(lesion(), 5 * number, axis=1))
    table(root, list(names))
    return root


SCHEMES = {
    "ISIC": ("{}", "{}_segmentation"),
    "nnU-Net": ("{}_0000", "{}"),
    "_mask": ("{}", "{}_mask"),
    "mask_": ("{}", "mask_{}"),
    "_gt": ("{}", "{}_gt"),
    "_label": ("{}", "{}_label"),
    "_seg": ("{}", "{}_seg"),
    "both": ("{}_img", "{}_lbl"),
    "-mask": ("{}", "{}-mask"),
    "_MASK": ("{}", "{}_MASK"),
}


@pytest.mark.parametrize(("image_name", "mask_name"), SCHEMES.values(), ids=SCHEMES)
def test_a_suffix_that_all_names_share_is_found_and_the_right_files_are_paired(tmp_path, image_name, mask_name):
    root = set_of(tmp_path, image_name, mask_name)
    assert faults_of(root) == []
    rows = load_segmentation_dataset("folder", root)
    assert len(rows) == 3
    for number, name in enumerate(rows["id"]):
        assert np.array_equal(labels_of(root, name), np.roll(lesion(value=1), 5 * number, axis=1))


@pytest.mark.parametrize("scheme", ["ISIC", "nnU-Net", "_gt"])
def test_the_suffix_is_named(tmp_path, scheme):
    suffix = next(name.replace("{}", "") for name in SCHEMES[scheme] if name != "{}")
    report = examined(set_of(tmp_path, *SCHEMES[scheme]))
    assert report.is_sound  # else a fault would name the file
    report.save(tmp_path / "report")
    held = json.loads((tmp_path / "report" / "check.json").read_text())
    assert suffix in report.text() or suffix in json.dumps(held)


@pytest.mark.parametrize("scheme", ["ISIC", "nnU-Net"])
@pytest.mark.parametrize("named", [0, 1])
def test_the_table_may_name_either_file(tmp_path, scheme, named):
    root = set_of(tmp_path, *SCHEMES[scheme])
    table(root, [f"{SCHEMES[scheme][named].format(name)}.png" for name in ("c1", "c2", "c11")])
    assert faults_of(root) == []
    assert len(load_segmentation_dataset("folder", root)) == 3


def test_numbers_at_the_end_that_tell_images_apart_are_no_suffix(tmp_path):
    root = set_of(tmp_path, "{}", "{}", names=("case_0000", "case_0001", "case_0002"))
    assert faults_of(root) == []
    assert sorted(load_segmentation_dataset("folder", root)["id"]) == ["case_0000", "case_0001", "case_0002"]


def test_several_channels_of_one_case_are_not_taken_for_one_image(tmp_path):
    root = set_of(tmp_path, "{}_0000", "{}")
    for number, name in enumerate(("c1", "c2", "c11")):
        put(root / "images" / f"{name}_0001.png", noise(seed=10 + number))
    assert mentions(faults_of(root), "_0001", "c1")


def test_a_suffix_of_some_masks_alone_is_not_cut_where_names_would_meet(tmp_path):
    root = set_of(tmp_path, "{}", "{}_segmentation")
    put(root / "masks" / "c1.png", lesion())
    assert faults_of(root)


def test_a_mask_is_not_paired_with_the_image_whose_name_it_begins_with(tmp_path):
    root = set_of(tmp_path, "{}", "{}_segmentation")
    (root / "masks" / "c1_segmentation.png").unlink()
    faults = faults_of(root)
    assert mentions(faults, "c1") and not mentions(faults, "'c11'")


def test_volumes_of_nnu_net_are_paired(tmp_path):
    root = folder(tmp_path)
    for number, name in enumerate(("c1", "c2")):
        volume = np.random.default_rng(number).normal(size=(16, 16, 2)).astype(np.float32)
        write_nifti(root / "images" / f"{name}_0000.nii.gz", volume)
        write_nifti(root / "masks" / f"{name}.nii.gz", np.stack([lesion(16, 16, 1)] * 2, -1))
    table(root, [f"{name}.nii.gz#{number}" for name in ("c1", "c2") for number in range(2)])
    assert faults_of(root) == []
    assert {example.group for example in list_examples("folder", root).examples} in (
        {"c1", "c2"},
        {"c1_0000", "c2_0000"},
    )
