"""Volumes: every slice is predicted, and the mask lies over the scan, whatever its axes and the order of its files."""

import gzip

import nibabel
import numpy as np
import pandas as pd
import pytest
from medical_files import CODES, PLANES, affine_of, item, write_dicom, write_nifti
from PIL import Image
from tiny import tiny_processor, tiny_reader

from tevia_hf import Predictor, predict, read_image
from tevia_hf.inference.items import items_of
from tevia_hf.inference.job import run_job
from tevia_hf.inference.manifest import read_records
from tevia_hf.inference.predict import as_frame
from tevia_hf.inference.sources import job_of
from tevia_hf.inference.volume_outputs import VolumeOutput
from tevia_hf.io import volume as volume_module
from tevia_hf.io.address import parse_address
from tevia_hf.io.volume import VolumeMask
from tevia_hf.io.volumes import as_volume, open_volume

SHAPE = (7, 9, 5)
OBLIQUE = nibabel.affines.from_matvec(
    np.array([[0.96, -0.28, 0], [0.28, 0.96, 0], [0, 0, 1]]) @ np.diag([0.8, 0.8, 2.5]), [3, -4, 5]
)
AFFINES = {code: affine_of(code, (0.8, 0.9, 2.5)) for code in CODES} | {"oblique": OBLIQUE}


@pytest.fixture(scope="module")
def model():
    return tiny_reader()


@pytest.fixture(scope="module")
def run(model):
    def run(sources, folder, text="left lung", table=None, plane=None, series=None, **options):
        items = job_of(sources, text, table, plane, series)
        return as_frame(run_job(model, tiny_processor(), items, folder, batch_size=4, **options))

    return run


@pytest.fixture(scope="module")
def values():
    return np.random.default_rng(0).integers(0, 1000, SHAPE).astype(np.int16)


@pytest.fixture
def scan(tmp_path, values):
    return write_nifti(tmp_path / "scan.nii.gz", values, AFFINES["LPS"])


def placed(pixels, position, folder, name, **tags):
    """A file of a series."""
    geometry = {
        "ImagePositionPatient": list(position),
        "ImageOrientationPatient": [1, 0, 0, 0, 1, 0],
        "PixelSpacing": [0.5, 0.7],
        "SliceThickness": 2.5,
        "SeriesInstanceUID": "1.2.3",
        "SeriesNumber": 1,
        "SeriesDescription": "Chest",
    }
    folder.mkdir(exist_ok=True)
    return write_dicom(folder / name, pixels, **{**geometry, **tags})


@pytest.fixture
def series(tmp_path):
    """Six slices in files whose names are in another order than the slices."""
    pixels = np.random.default_rng(1).integers(0, 1000, (6, 8, 10)).astype(np.uint16)
    for number, name in enumerate("cfaebd"):
        placed(pixels[number], (-3, -4, 2.5 * number), tmp_path / "ct", f"{name}.dcm")
    return tmp_path / "ct", pixels


# Position


@pytest.mark.parametrize("plane", [None, *PLANES])
@pytest.mark.parametrize("codes", AFFINES)
def test_the_mask_of_a_volume_has_each_slice_where_the_scan_has_it(tmp_path, values, codes, plane):
    path = write_nifti(tmp_path / "scan.nii.gz", values, AFFINES[codes])
    volume = open_volume(as_volume(path, plane), tmp_path)
    mask = VolumeMask(volume.grid, tmp_path / "mask")
    for number in range(volume.count):
        image = volume.slice(number)
        one = read_image(f"{path}#{volume.address.plane}:{number}")
        assert (image.array == one.array).all() and np.allclose(image.source.affine, one.source.affine)
        # read_image scales each slice by its own range
        stored = volume.grid.as_displayed(np.asarray(nibabel.load(path).dataobj[volume.grid.place(number)]))
        mask.add(number, (stored > 500).astype(np.uint8))
        assert (mask.slice(number) == (stored > 500)).all()
    mask.save(tmp_path / "out.nii.gz")
    assert (np.asarray(nibabel.load(tmp_path / "out.nii.gz").dataobj) == (values > 500)).all()


def test_the_mask_of_a_volume_has_the_geometry_of_its_header(run, tmp_path, values):
    scan = nibabel.Nifti1Image(values, None)
    scan.set_qform(OBLIQUE, "scanner")
    scan.set_sform(affine_of("LPS"), "mni")
    scan.header.set_xyzt_units("micron")
    scan.header.set_slope_inter(2, -1000)
    nibabel.save(scan, tmp_path / "scan.nii.gz")
    run([tmp_path / "scan.nii.gz"], tmp_path / "out")
    own, mask = (nibabel.load(folder / "scan.nii.gz") for folder in (tmp_path, tmp_path / "out"))
    assert mask.shape == own.shape and mask.get_data_dtype() == np.uint8
    assert (mask.get_qform() == own.get_qform()).all() and (mask.get_sform() == own.get_sform()).all()
    for name in ("qform_code", "sform_code", "xyzt_units", "pixdim"):
        assert (mask.header[name] == own.header[name]).all()
    assert set(np.unique(mask.dataobj)) <= {0, 1}


@pytest.mark.parametrize("plane", [None, "coronal"])
@pytest.mark.parametrize("suffix", [".nii.gz", ".nii"])
def test_a_volume_has_the_masks_and_measures_of_its_slices(run, tmp_path, values, plane, suffix):
    path = write_nifti(tmp_path / f"scan{suffix}", values, AFFINES["PIR"])
    table = run([path], tmp_path / "whole", plane=plane, mask_suffix=suffix)
    address, grid = as_volume(path, plane), open_volume(as_volume(path, plane), tmp_path).grid
    count = 5 if plane is None else grid.size[2]
    slices = run([f"{path}#{address.plane}:{number}" for number in range(count)], tmp_path / "slices")
    mask = np.asarray(nibabel.load(tmp_path / "whole" / f"scan{suffix}").dataobj)
    for number, name in enumerate(slices["mask"]):
        assert (grid.as_displayed(mask[grid.place(number)]) * 255 == np.asarray(Image.open(name))).all()
    row = table.iloc[0]
    assert (table["name"].item(), row["pixels"]) == ("scan", slices["pixels"].sum())
    assert row["pixels"] == np.count_nonzero(mask) > 0 and row["foreground"] == pytest.approx(mask.mean())
    assert row["volume_mm3"] == pytest.approx(row["pixels"] * 0.8 * 0.9 * 2.5)
    weighted = np.average(slices["probability"].fillna(0), weights=slices["pixels"])
    assert row["probability"] == pytest.approx(weighted)
    assert Image.open(row["overlay"]).width > 500


def test_slices_are_by_default_those_that_are_stored(tmp_path, values):
    for codes, plane in {
        "RAS": "axial",
        "LPS": "axial",
        "ASR": "sagittal",
        "IPL": "sagittal",
        "SAL": "sagittal",
    }.items():
        path = write_nifti(tmp_path / "scan.nii", values, AFFINES[codes])
        assert as_volume(path).plane == plane
    assert as_volume(f"{path}#coronal:all").plane == "coronal"
    assert as_volume(f"{path}#all").plane == "axial" and not as_volume(f"{path}#1").is_volume
    assert parse_address("scan.nii#coronal:all@40,400").window == (40, 400)
    single = write_nifti(tmp_path / "single.nii", values[:, :, :1])
    assert not as_volume(single).is_volume and not as_volume(single, "coronal").is_volume


# DICOM


def test_the_slices_of_a_series_are_in_order_of_their_positions(run, series, tmp_path):
    folder, pixels = series
    volume = open_volume(as_volume(folder), tmp_path)
    first = volume.slice(0).source
    assert volume.count == 6 and first.slice_spacing_mm == 2.5 and volume.voxel_mm3 == pytest.approx(0.5 * 0.7 * 2.5)
    for number in range(6):
        expected = pixels[number].astype(float)
        shown = (expected - expected.min()) / (expected.max() - expected.min())
        assert np.allclose(volume.slice(number).array, shown, atol=1e-6)
    table = run([folder], tmp_path / "out")
    mask = nibabel.load(tmp_path / "out" / "ct.nii.gz")
    assert table["name"].item() == "ct" and mask.shape == (10, 8, 6)
    assert np.allclose(mask.affine @ [9, 7, 5, 1], [3 - 9 * 0.7, 4 - 7 * 0.5, 12.5, 1])  # RAS+
    assert (mask.get_qform() == mask.get_sform()).all() and int(mask.header["qform_code"]) == 1
    one = run([folder / "a.dcm"], tmp_path / "one")  # slice 2
    assert (np.asarray(Image.open(one["mask"].item())) == np.asarray(mask.dataobj)[:, :, 2].T * 255).all()


def test_a_series_may_run_from_top_to_bottom_and_be_oblique(tmp_path):
    pixels = np.random.default_rng(1).integers(0, 1000, (4, 8, 10)).astype(np.uint16)
    turn = np.array([[0.96, -0.28, 0], [0.28, 0.96, 0], [0, 0, 1]])
    for number in range(4):
        orientation = [*(turn @ [0, 1, 0]), *(turn @ [0, 0, -1])]  # sagittal
        placed(
            pixels[number],
            turn @ [-3.0 * number, 0, 0],
            tmp_path / "mr",
            f"{number}",
            ImageOrientationPatient=orientation,
        )
    volume = open_volume(as_volume(tmp_path / "mr"), tmp_path)
    lps = [volume.slice(number).source.affine[:3, 3] * [-1, -1, 1] for number in range(4)]
    assert np.allclose(lps, [turn @ [-3.0 * (3 - number), 0, 0] for number in range(4)]) or np.allclose(
        lps, [turn @ [-3.0 * number, 0, 0] for number in range(4)]
    )
    at = {tuple(np.round(place, 3)): number for number, place in enumerate(lps)}
    for number in range(4):
        own = volume.slice(at[tuple(np.round(turn @ [-3.0 * number, 0, 0], 3))]).array
        assert np.unravel_index(own.argmax(), own.shape) == np.unravel_index(pixels[number].argmax(), (8, 10))


FAULTS = {
    "a slice twice": (dict(position=(-3, -4, 5)), "1 positions are there twice, e.g. in .*dcm and .*dcm: give each"),
    "an uneven distance": (
        dict(position=(-3, -4, 13.9)),
        r"uneven positions: 1.4 mm between d.dcm and extra.dcm, 2.5 mm",
    ),
    "a slice beside the others": (dict(position=(20, -4, 15)), "uneven positions: .* and up to "),
    "another orientation": (
        dict(position=(-3, -4, 15), ImageOrientationPatient=[0, 1, 0, 0, 0, -1]),
        "different orientation or pixel size, e.g. a.dcm and extra.dcm",
    ),
    "another size": (dict(position=(-3, -4, 15), size=(8, 9)), "8 x 10 and 8 x 9 pixels"),
    "no position": (dict(position=(-3, -4, 15), ImageOrientationPatient=None), "extra.dcm has no position"),
    "a missing slice": (dict(position=(-3, -4, 17.5)), "1 slices are missing: 5 mm between d.dcm and extra.dcm"),
    "another series": (
        dict(position=(-3, -4, 0), SeriesInstanceUID="1.2.4", SeriesNumber=7, SeriesDescription="Lung"),
        r"holds 2 series: 1 'Chest' \(6 slices\), 7 'Lung' \(1 slices\). Select one .*`--series 1`",
    ),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_series_that_is_no_volume_is_refused_by_name(run, series, tmp_path, fault):
    tags, message = FAULTS[fault]
    size, position = tags.get("size", (8, 10)), tags["position"]
    others = {name: value for name, value in tags.items() if name not in ("size", "position")}
    placed(np.ones(size, np.uint16), position, series[0], "extra.dcm", **others)
    table = run([series[0]], tmp_path / "out")
    assert table["status"].item() == "failed" and not (tmp_path / "out" / "ct.nii.gz").exists()
    with pytest.raises(ValueError, match=message):
        raise ValueError(table["error"].item())


@pytest.mark.parametrize("chosen", ["1", "1.2.3", "Chest"])
def test_one_of_several_series_is_chosen(run, series, tmp_path, chosen):
    tags = {"SeriesInstanceUID": "1.2.4", "SeriesNumber": 7, "SeriesDescription": "Lung"}
    placed(np.ones((8, 10), np.uint16), (-3, -4, 0), series[0], "extra.dcm", **tags)
    run([series[0]], tmp_path / "out", series=chosen)
    assert nibabel.load(tmp_path / "out" / "ct.nii.gz").shape == (10, 8, 6)
    table = run([series[0]], tmp_path / "none", series="2")
    assert "holds 2 series, not '2' alone" in table["error"].item()


def test_localizers_and_files_without_an_image_are_left_out(run, series, tmp_path):
    tags = {"ImageType": ["ORIGINAL", "PRIMARY", "LOCALIZER"], "ImageOrientationPatient": [0, 1, 0, 0, 0, -1]}
    placed(np.ones((20, 20), np.uint16), (0, 0, 0), series[0], "0.dcm", SeriesInstanceUID="1.2.9", **tags)
    (series[0] / "notes.txt").write_text("")
    run([series[0]], tmp_path / "out")
    assert nibabel.load(tmp_path / "out" / "ct.nii.gz").shape == (10, 8, 6)


def test_all_missing_slices_are_counted(run, series, tmp_path):
    for height in (17.5, 25.0):  # after 12.5
        placed(np.ones((8, 10), np.uint16), (-3, -4, height), series[0], f"{height}.dcm")
    table = run([series[0]], tmp_path / "out")
    assert "3 slices are missing: 7.5 mm between 17.5.dcm and 25.0.dcm" in table["error"].item()


def test_the_qform_is_unset_where_it_cannot_hold_a_tilted_gantry(run, tmp_path):
    for number in range(4):
        placed(np.ones((8, 10), np.uint16), (0, 1.2 * number, 4 * number), tmp_path / "ct", f"{number}.dcm")
    run([tmp_path / "ct"], tmp_path / "out")
    header = nibabel.load(tmp_path / "out" / "ct.nii.gz").header
    assert (int(header["qform_code"]), int(header["sform_code"])) == (0, 1)
    assert np.allclose(header.get_best_affine() @ [0, 0, 3, 1], [0, -3.6, 12, 1])


def test_a_series_without_positions_causes_a_warning_and_an_unused_choice_an_error(tmp_path):
    for number in range(3):
        placed(np.ones((4, 4), np.uint16), (0, 0, number), tmp_path / "ct", f"{number}.dcm", PixelSpacing=None)
    with pytest.warns(UserWarning, match=r"ct: the files of series 1 'Chest' \(3 slices\) lack positions"):
        assert len(job_of([tmp_path / "ct"])) == 3
    with pytest.raises(ValueError, match="no input is a folder of a series"), pytest.warns(UserWarning):
        job_of([tmp_path / "ct"], series="1")


def test_slices_of_a_series_may_have_texts_of_their_own(run, series, tmp_path):
    for name, rows in {"right": ["ct#2"], "wrong": ["ct#6"]}.items():
        texts = pd.DataFrame([["ct", "left lung"], *([row, "right lung"] for row in rows)])
        texts.to_csv(tmp_path / f"{name}.csv", index=False, header=["Image", "Description"])
    (item,) = job_of([series[0]], text_table=tmp_path / "right.csv")
    assert item.text == "left lung" and item.slice_texts == ((2, "right lung"),)
    table = run([series[0]], tmp_path / "out", table=tmp_path / "wrong.csv")
    assert "texts for the slices [6], but the volume has" in table["error"].item()


def test_a_window_of_a_single_slice_of_a_volume_is_refused(scan, tmp_path):
    texts = pd.DataFrame([["scan.nii.gz#2@40,400", "left lung"]], columns=["Image", "Description"])
    texts.to_csv(tmp_path / "texts.csv", index=False)
    with pytest.raises(ValueError, match="scan.nii.gz#2@40,400' has a window"):
        job_of([scan], text_table=tmp_path / "texts.csv")


def test_a_folder_of_radiographs_is_no_volume(tmp_path):
    for number in range(3):
        folder = tmp_path / "dx"
        folder.mkdir(exist_ok=True)
        write_dicom(folder / f"{number}.dcm", np.ones((4, 4), np.uint16), SeriesInstanceUID="1.2.3")
    assert not as_volume(folder).is_volume and len(job_of([folder])) == 3


@pytest.mark.parametrize("is_placed", [True, False])
def test_the_frames_of_a_file_are_a_volume(run, tmp_path, is_placed, monkeypatch):
    pixels = np.random.default_rng(1).integers(0, 1000, (4, 8, 10)).astype(np.uint16)
    heights = [6, 0, 3, 9]  # frames may be in any order
    groups = [
        item(
            PlanePositionSequence=[item(ImagePositionPatient=[0, 0, height])],
            PlaneOrientationSequence=[item(ImageOrientationPatient=[1, 0, 0, 0, 1, 0])],
            PixelMeasuresSequence=[item(PixelSpacing=[0.5, 0.7], SliceThickness=3)],
        )
        for height in heights
    ]
    tags = {"PerFrameFunctionalGroupsSequence": groups} if is_placed else {}
    path = write_dicom(tmp_path / "cine.dcm", pixels, NumberOfFrames=4, **tags)
    volume = open_volume(as_volume(path), tmp_path)
    order = [1, 2, 0, 3] if is_placed else range(4)
    for number, frame in enumerate(order):
        assert (volume.slice(number).array == read_image(f"{path}#{frame}").array).all()
    table = run([path], tmp_path / "out")
    assert nibabel.load(tmp_path / "out" / "cine.nii.gz").shape == (10, 8, 4)
    assert pd.notna(table["volume_mm3"].item()) == is_placed


# Jobs


def test_slices_may_have_texts_of_their_own(run, scan, tmp_path):
    texts = ["left lung", "upper right lung", "right lung"]
    rows = zip(["scan.nii.gz", "scan.nii.gz#1", "scan.nii.gz#4"], texts, strict=True)
    pd.DataFrame(rows, columns=["Image", "Description"]).to_csv(tmp_path / "texts.csv", index=False)
    run([scan], tmp_path / "out", table=tmp_path / "texts.csv")
    mask = np.asarray(nibabel.load(tmp_path / "out" / "scan.nii.gz").dataobj)
    volume = open_volume(as_volume(scan), tmp_path)
    for number in range(5):
        text = {1: texts[1], 4: texts[2]}.get(number, texts[0])
        one = run([f"{scan}#{number}"], tmp_path / f"{number}", text=text)
        expected = np.asarray(Image.open(one["mask"].item())) > 0
        assert (volume.grid.as_displayed(mask[volume.grid.place(number)]) == expected).all()


def test_texts_of_slices_alone_leave_the_others_without(scan, tmp_path):
    pd.DataFrame([["scan.nii.gz#1", "left lung"]], columns=["Image", "Description"]).to_csv(tmp_path / "t.csv")
    (only,) = job_of([scan], text_table=tmp_path / "t.csv")
    assert (only.name, only.text, only.slice_texts) == ("scan", "", ((1, "left lung"),))


def test_a_text_of_a_slice_that_is_not_there_is_refused(run, scan, tmp_path):
    rows = [["scan.nii.gz", "left lung"], ["scan.nii.gz#5", "right lung"]]
    pd.DataFrame(rows, columns=["Image", "Description"]).to_csv(tmp_path / "texts.csv", index=False)
    table = run([scan], tmp_path / "out", table=tmp_path / "texts.csv")
    assert (
        "scan.nii.gz" in table["error"].item()
        and "slices [5], but the volume has the slices 0 to 4" in table["error"].item()
    )


def test_a_bad_volume_costs_its_own_row_and_says_why(run, scan, tmp_path, values):
    write_nifti(tmp_path / "four.nii", np.stack([values, values], axis=-1))
    (tmp_path / "cut.nii.gz").write_bytes(scan.read_bytes()[:-9])
    holes = values.astype(np.float32)
    holes[:, :, 3] = np.nan
    write_nifti(tmp_path / "holes.nii.gz", holes)
    table = run([tmp_path], tmp_path / "out").set_index("name")
    assert table["status"].to_dict() == {"cut": "failed", "four": "failed", "holes": "failed", "scan": "done"}
    for name, reason in {"four": "2 volumes", "cut": "export the file again", "holes": "63 pixels are NaN"}.items():
        assert reason in table["error"][name] and f"{name}.nii" in table["error"][name]
    assert {path.name for path in (tmp_path / "out").iterdir()} == {
        *(".tevia-output", "manifest.jsonl", "overlays", "predictions.csv", "scan.nii.gz"),
    }


def test_a_volume_that_was_cut_leaves_no_half_written_file_and_is_made_again(run, scan, tmp_path, monkeypatch):
    run([scan], tmp_path / "whole")
    usual = VolumeMask.add

    def add(self, number, labels):
        if number == 3:
            raise KeyboardInterrupt
        usual(self, number, labels)

    with monkeypatch.context() as patch:
        patch.setattr(VolumeMask, "add", add)
        patch.setattr(volume_module, "finalize", lambda *args, **options: None)  # as after kill -9
        with pytest.raises(KeyboardInterrupt):
            run([scan], tmp_path / "out")
    assert not list((tmp_path / "out").glob("*.nii.gz")) and list((tmp_path / "out").glob(".part-*"))
    run([scan], tmp_path / "out", resume=True)
    own, whole = (np.asarray(nibabel.load(tmp_path / name / "scan.nii.gz").dataobj) for name in ("out", "whole"))
    assert (own == whole).all() and not list((tmp_path / "out").glob(".part-*"))
    assert [row["name"] for row in read_records(tmp_path / "out" / "manifest.jsonl")[1:]] == ["scan"]


def test_volumes_and_images_share_a_job_and_a_volume_may_have_several_texts(model, scan, tmp_path):
    Image.fromarray(np.arange(64, dtype=np.uint8).reshape(8, 8)).save(tmp_path / "a.png")
    images, texts = [scan, tmp_path / "a.png", scan], ["left lung", "left lung", "right lung"]
    table = predict(model, tiny_processor(), images, texts, tmp_path / "out", batch_size=4)
    assert list(table["name"]) == ["scan_1", "scan_2", "a"] and set(table["status"]) == {"done"}
    masks = [np.asarray(nibabel.load(tmp_path / "out" / f"scan_{n}.nii.gz").dataobj) for n in (1, 2)]
    assert (masks[0] != masks[1]).any() and pd.isna(table["volume_mm3"][2])
    again = predict(
        model, tiny_processor(), images, ["left lung", "left lung", ""], tmp_path / "out", batch_size=4, resume=True
    )
    assert (np.asarray(nibabel.load(tmp_path / "out" / "scan_1.nii.gz").dataobj) == masks[0]).all()
    assert list(again["status"]) == ["done"] * 3


def test_what_is_for_images_alone_is_refused_for_volumes(run, scan, tmp_path):
    with pytest.raises(ValueError, match="`probabilities` and `statistics` are for images, but .*scan.nii.gz is a vol"):
        run([scan], tmp_path / "out", statistics=True)
    assert not (tmp_path / "out").exists()


def test_the_copy_of_a_compressed_volume_is_deleted_with_it(scan, tmp_path):
    (tmp_path / "work").mkdir()
    volume = open_volume(as_volume(scan), tmp_path / "work")
    assert len(list((tmp_path / "work").iterdir())) == 1
    del volume
    assert not list((tmp_path / "work").iterdir())
    (tmp_path / "bad.nii.gz").write_bytes(gzip.compress(gzip.decompress(scan.read_bytes()))[:-9])
    with pytest.raises(ValueError, match=r"bad.nii.gz: corrupt or cut short"):
        open_volume(as_volume(tmp_path / "bad.nii.gz"), tmp_path / "work")
    assert not list((tmp_path / "work").iterdir()) and items_of([scan], [""])[0].is_volume


@pytest.mark.parametrize("part", ["save", "_overlay"])
def test_an_error_in_writing_a_volume_costs_its_own_row(run, scan, tmp_path, monkeypatch, part):
    def fails(*_):
        raise RuntimeError("no\nspace")

    monkeypatch.setattr(VolumeMask if part == "save" else VolumeOutput, part, fails)
    table = run([scan], tmp_path / "out")
    assert table["status"].item() == "failed" and table["error"].item().endswith("scan.nii.gz: RuntimeError: no space")
    assert not list((tmp_path / "out").glob(".part-*"))


# Found by a review


def test_a_window_holds_for_a_series_too(series):
    (only,) = job_of([series[0]])
    assert only.with_window((-600, 1500)).image.window == (-600, 1500)


def test_rounded_positions_are_one_volume_and_those_that_drift_are_none(tmp_path):
    for number in range(40):
        placed(np.ones((4, 4), np.uint16), (0, 0, round(0.625 * number, 1)), tmp_path / "even", f"{number}.dcm")
        height = number * 1.0 if number < 20 else 19 + (number - 19) * 1.095
        placed(np.ones((4, 4), np.uint16), (0, 0, height), tmp_path / "drift", f"{number}.dcm")
    volume = open_volume(as_volume(tmp_path / "even"), tmp_path)
    assert volume.count == 40 and volume.slice(20).source.affine[2, 3] == pytest.approx(12.5, abs=0.1)
    with pytest.raises(ValueError, match="uneven positions"):
        open_volume(as_volume(tmp_path / "drift"), tmp_path)


@pytest.mark.parametrize("tags", [{"PatientID": "p{}"}, {"StudyInstanceUID": "1.2.{}"}, {"SeriesInstanceUID": ""}])
def test_images_of_several_patients_or_studies_are_no_volume(tmp_path, tags):
    for number in range(4):
        own = {name: value.format(number) for name, value in tags.items()}
        placed(np.ones((4, 4), np.uint16), (0, 0, number), tmp_path / "mixed", f"{number}.dcm", **own)
    assert not as_volume(tmp_path / "mixed").is_volume and len(job_of([tmp_path / "mixed"])) == 4


def test_a_folder_with_other_images_is_no_volume(series):
    Image.new("L", (8, 8)).save(series[0] / "other.png")
    assert not as_volume(series[0]).is_volume and len(job_of([series[0]])) == 7


def test_a_file_that_was_cut_short_is_named(run, series, tmp_path):
    path = series[0] / "d.dcm"
    path.write_bytes(path.read_bytes()[:300])
    table = run([series[0]], tmp_path / "out")
    assert "d.dcm cut short or damaged" in table["error"].item()


def test_the_current_folder_has_its_name(series, monkeypatch):
    monkeypatch.chdir(series[0])
    assert job_of(["."])[0].name == "ct"


def test_texts_of_slices_name_them_as_addresses_do(run, tmp_path, values):
    path = write_nifti(tmp_path / "cor.nii", values, affine_of("RIA"))
    assert as_volume(path).plane == "coronal"
    for rows, message in {
        (("cor.nii#2", "a"),): "is axial, but the slices of the volume are coronal: write cor.nii#coronal:2",
        (("cor.nii#coronal:2", "a"), ("cor.nii#coronal:2", "b")): "'cor.nii#coronal:2' has several rows",
    }.items():
        pd.DataFrame(rows, columns=["Image", "Description"]).to_csv(tmp_path / "t.csv", index=False)
        with pytest.raises(ValueError, match=message):
            job_of([path], text_table=tmp_path / "t.csv")
    pixels = np.random.default_rng(1).integers(0, 1000, (3, 8, 10)).astype(np.uint16)
    groups = [
        item(
            PlanePositionSequence=[item(ImagePositionPatient=[0, 0, height])],
            PlaneOrientationSequence=[item(ImageOrientationPatient=[1, 0, 0, 0, 1, 0])],
            PixelMeasuresSequence=[item(PixelSpacing=[0.5, 0.7], SliceThickness=3)],
        )
        for height in (6, 3, 0)
    ]
    frames = write_dicom(tmp_path / "f.dcm", pixels, NumberOfFrames=3, PerFrameFunctionalGroupsSequence=groups)
    volume = open_volume(as_volume(frames), tmp_path)
    assert [volume.number_of(frame) for frame in range(4)] == [2, 1, 0, None]


def test_options_hold_for_the_volumes_of_a_table(tmp_path, scan):
    pd.DataFrame([["scan.nii.gz", "a"]], columns=["Image", "Description"]).to_csv(tmp_path / "t.csv", index=False)
    assert job_of([tmp_path / "t.csv"], plane="sagittal")[0].image.plane == "sagittal"


def test_a_frame_sequence_without_positions_keeps_its_spacing(tmp_path):
    tags = {"PixelSpacing": [0.5, 0.7], "SpacingBetweenSlices": 3}
    path = write_dicom(tmp_path / "cine.dcm", np.ones((4, 8, 10), np.uint16), NumberOfFrames=4, **tags)
    zooms = open_volume(as_volume(path), tmp_path).grid.template.header.get_zooms()
    assert zooms == pytest.approx((0.7, 0.5, 3))


def test_batches_of_a_resumed_job_are_those_of_an_unbroken_one(run, tmp_path, values, monkeypatch):
    for name in "ab":
        write_nifti(tmp_path / f"{name}.nii", values)
    for name in "cde":
        Image.fromarray(values[:, :, 0].astype(np.uint8)).save(tmp_path / f"{name}.png")
    usual, sizes = Predictor.encode, []

    def encode(self, prepared):
        sizes.append([image.name.rpartition("/")[2] for image in prepared])
        return usual(self, prepared)

    monkeypatch.setattr(Predictor, "encode", encode)
    run([tmp_path], tmp_path / "out")
    whole = list(sizes)
    assert [len(batch) for batch in whole] == [4, 1, 4, 1, 3]
    (tmp_path / "out" / "b.nii.gz").unlink()
    sizes.clear()
    run([tmp_path], tmp_path / "out", resume=True)
    assert sizes == whole[2:4]
