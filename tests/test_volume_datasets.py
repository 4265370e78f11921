"""Data sets of volumes with label volumes, expanded to their slices."""

import nibabel
import numpy as np
import pandas as pd
import pytest
from datasets import Dataset
from datasets import Image as ImageColumn
from killing import Killed, kill_after
from medical_files import affine_of, item, write_dicom, write_nifti
from PIL import Image
from tiny import tiny_processor, tiny_reader

from tevia_hf import evaluate_model, load_segmentation_dataset, volume_metrics
from tevia_hf.data.decoding import decode_labels
from tevia_hf.data.features import undecoded
from tevia_hf.data.slices import check_slices
from tevia_hf.evaluation.evaluate import evaluate_dataset
from tevia_hf.evaluation.volumes import whole_volumes
from tevia_hf.inference.manifest import read_records
from tevia_hf.inference.predict import predict_masks

SHAPE, SPACING = (8, 10, 5), (0.8, 0.9, 2.5)
LABELLED = {"p1": [1, 3], "p2": [0]}  # slices with a lesion, from the bottom


@pytest.fixture
def root(tmp_path):
    """Two volumes; the second is stored from head to foot, its label volume in another order of axes."""
    rng = np.random.default_rng(0)
    for name, slices in LABELLED.items():
        image, mask = rng.integers(0, 1000, SHAPE).astype(np.int16), np.zeros(SHAPE, np.uint8)
        for number in slices:
            mask[2:5, 1 + number : 4 + number, number] = 1
        image[mask > 0] = 2000
        affine = affine_of("RAS", SPACING, (0, 0, 0))
        if name == "p2":
            image, affine = image[:, :, ::-1], affine_of("RAI", SPACING, (0, 0, 4 * 2.5))
        for part, voxels, own in (("images", image, affine), ("masks", mask, affine_of("RAS", SPACING, (0, 0, 0)))):
            (tmp_path / part).mkdir(exist_ok=True)
            write_nifti(tmp_path / part / f"{name}.nii.gz", voxels, own)
    return tmp_path


def table(root, rows, name="texts.csv"):
    pd.DataFrame(rows, columns=["Image", "Description"]).to_csv(root / name, index=False)


@pytest.fixture
def texts(root):
    table(root, [["p1.nii.gz", "left lung"], ["p2.nii.gz", "right lung"]])


@pytest.mark.usefixtures("texts")
@pytest.mark.parametrize("slices", ["all", "lesion", 2])
def test_a_volume_is_expanded_to_the_chosen_slices_each_with_its_mask(root, slices):
    numbers = {name: {"all": range(5), "lesion": own, 2: (0, 2, 4)}[slices] for name, own in LABELLED.items()}
    dataset = load_segmentation_dataset("folder", root, slices=slices)
    assert dataset["id"] == [f"{name}_{number}" for name in LABELLED for number in numbers[name]]
    assert dataset["group"] == [name for name in LABELLED for _ in numbers[name]]
    assert dataset["text"] == [
        text for name, text in (("p1", "left lung"), ("p2", "right lung")) for _ in numbers[name]
    ]
    for row, raw in zip(dataset, undecoded(dataset), strict=True):
        name, number = row["id"].split("_")
        labels = decode_labels(raw, 1, True)
        assert labels.any() == (int(number) in LABELLED[name])
        brightest = np.asarray(row["image"]) == np.asarray(row["image"]).max()
        assert not labels.any() or (brightest == (labels > 0)).all()  # the lesion is the brightest


@pytest.mark.usefixtures("texts")
def test_no_split_cuts_through_a_volume(root):
    parts = {split: [] for split in ("train", "val", "test")}
    for split in parts:
        try:
            parts[split] = load_segmentation_dataset("folder", root, split=split, group_split=(0.5, 0.0, 0.5))["group"]
        except ValueError:
            continue
    groups = [set(own) for own in parts.values() if own]
    assert len(groups) == 2 and not groups[0] & groups[1]


def test_a_slice_may_have_a_row_of_its_own(root):
    table(root, [["p1.nii.gz", "left lung"], ["p1.nii.gz#3", "upper right lung"], ["p2.nii.gz#0", ""]])
    with pytest.raises(ValueError, match="slices is '0'"):
        check_slices("0")
    dataset = load_segmentation_dataset("folder", root)
    texts = dict(zip(dataset["id"], dataset["text"], strict=True))
    assert texts == {**{f"p1_{n}": "left lung" for n in (0, 1, 2, 4)}, "p1_3": "upper right lung", "p2_0": None}
    (root / "other").mkdir()
    table(root / "other", [["p1", "other"], ["p1_1", "own"], ["p2_0", "third"]])
    dataset = load_segmentation_dataset("folder", root, text_table=str(root / "other" / "texts.csv"), slices="lesion")
    assert dict(zip(dataset["id"], dataset["text"], strict=True)) == {"p1_1": "own", "p1_3": "other", "p2_0": "third"}


@pytest.mark.usefixtures("texts")
@pytest.mark.parametrize("fault", ["slices", "spacing", "position", "size", "kind"])
def test_a_label_volume_on_another_grid_is_refused_with_the_file_and_the_fix(root, fault):
    mask, affine = np.zeros(SHAPE, np.uint8), affine_of("RAS", SPACING, (0, 0, 0))
    (root / "masks" / "p1.nii.gz").unlink()
    if fault == "kind":
        Image.fromarray(mask[:, :, 0]).save(root / "masks" / "p1.png")
    changes = {
        "slices": (mask[:, :, :4], affine),
        "spacing": (mask, affine_of("RAS", (0.8, 0.9, 2.0), (0, 0, 0))),
        "position": (mask, affine_of("RAS", SPACING, (0, 0, 5))),
        "size": (mask[:7], affine),
    }
    if fault in changes:
        write_nifti(root / "masks" / "p1.nii.gz", *changes[fault])
    with pytest.raises(
        ValueError, match=r"p1\.(nii|png).*(another grid|columns, rows, slices|mask is|save it as NIfTI)"
    ):
        load_segmentation_dataset("folder", root)


@pytest.mark.usefixtures("texts")
def test_an_evaluation_scores_each_volume_over_its_slices(root, tmp_path):
    dataset = load_segmentation_dataset("folder", root)
    report = evaluate_model(tiny_reader(), tiny_processor(), dataset, text_modes=["correct", "none"])
    table = report.volumes.set_index(["text_mode", "volume"])
    masks = predict_masks(tiny_reader(), tiny_processor(), undecoded(dataset), description=None)
    references = [decode_labels(row, 1, True) for row in undecoded(dataset)]
    for name in LABELLED:
        own = [index for index, group in enumerate(dataset["group"]) if group == name]
        predicted, true = (np.stack([each[index] for index in own]) for each in (masks, references))
        row = table.loc[("correct", f"{name}.nii.gz")]
        assert row["slices"] == 5 and row["group"] == name
        assert row["dice_volume"] == pytest.approx(2 * (predicted * true).sum() / (predicted.sum() + true.sum()))
        scores = volume_metrics(predicted, true, (2.5, 0.9, 0.8), white_is_lesion=True)
        assert row["dice_volume"] == pytest.approx(scores["dice"])
        assert row["hd95_volume"] == pytest.approx(scores["hd95"], rel=1e-6) and scores["hd95"] > 0
        assert row["surface_dice_volume"] == scores["surface_dice"]
    summary = report.volume_summary()
    assert summary["correct"]["volumes"] == 2
    assert summary["correct"]["dice_volume"] == pytest.approx(table.loc["correct"]["dice_volume"].mean())
    for score in ("dice_volume", "hd95_volume"):
        low, high = summary["correct"][f"{score}_interval"]
        assert low <= summary["correct"][score] <= high
    report.save(tmp_path / "report")
    assert "| dice_volume |" in (tmp_path / "report" / "evaluation.md").read_text()
    assert (tmp_path / "report" / "volumes.csv").is_file()
    assert "dice_volume" in (tmp_path / "report" / "evaluation.json").read_text()


@pytest.mark.usefixtures("texts")
@pytest.mark.parametrize("slices", ["lesion", 2])
def test_distances_in_three_dimensions_need_all_slices(root, slices, tmp_path):
    dataset = load_segmentation_dataset("folder", root, slices=slices)
    report = evaluate_model(tiny_reader(), tiny_processor(), dataset, text_modes=[])
    assert report.volumes["dice_volume"].notna().all() and report.volumes["hd95_volume"].isna().all()
    assert "hd95_volume" not in report.volume_summary()["correct"]
    assert "no distances in three dimensions" in report.table()


@pytest.mark.usefixtures("texts")
def test_one_slice_less_leaves_its_volume_without_distances(root):
    dataset = load_segmentation_dataset("folder", root)
    part = dataset.select([index for index, name in enumerate(dataset["id"]) if name != "p1_2"])
    report = evaluate_model(tiny_reader(), tiny_processor(), part, text_modes=[])
    known = report.volumes.groupby("volume")["hd95_volume"].count()
    assert known["p1.nii.gz"] == 0 and known["p2.nii.gz"] > 0


@pytest.mark.usefixtures("texts")
def test_the_order_of_slices_among_the_images_does_not_matter(root):
    dataset = load_segmentation_dataset("folder", root)
    shuffled = dataset.select(np.random.default_rng(0).permutation(len(dataset)))
    reports = [evaluate_model(tiny_reader(), tiny_processor(), own, text_modes=["none"]) for own in (dataset, shuffled)]
    first, second = (
        report.volumes[report.volumes["text_mode"] == "none"].set_index("volume").sort_index() for report in reports
    )
    pd.testing.assert_frame_equal(first, second, check_exact=False)


def test_a_slice_in_another_split_than_its_volume_is_refused(root):
    rows = [["p1.nii.gz", "", "train"], ["p1.nii.gz#2", "", "test"], ["p2.nii.gz", "", "train"]]
    pd.DataFrame(rows, columns=["Image", "Description", "split"]).to_csv(root / "texts.csv", index=False)
    with pytest.raises(ValueError, match=r"slices of .*p1.nii.gz are in the splits \['test', 'train'\]"):
        load_segmentation_dataset("folder", root)


@pytest.mark.usefixtures("texts")
def test_an_image_without_a_size_of_pixels_leaves_the_distances_of_volumes(root):
    Image.fromarray(np.zeros((10, 8), np.uint8)).save(root / "images" / "p3.png")
    Image.fromarray(np.eye(10, 8, dtype=np.uint8)).save(root / "masks" / "p3.png")
    table(root, [["p1.nii.gz", "left lung"], ["p2.nii.gz", "right lung"], ["p3.png", ""]])
    report = evaluate_model(
        tiny_reader(), tiny_processor(), load_segmentation_dataset("folder", root), text_modes=[], white_is_lesion=True
    )
    assert report.settings["hd95_unit"] == "px" and report.volumes["hd95_volume"].notna().all()


@pytest.mark.parametrize("heights", [[6, 0, 3, 9], [0, 0, 0, 0], [0, 3, 6, 20]])
def test_frames_are_a_volume_in_the_order_and_at_the_distance_of_their_positions(tmp_path, heights):
    """Not of their numbers, and not of a tag for the thickness; at one position they are no volume."""
    plane = {"PixelSpacing": [0.5, 0.7], "SliceThickness": 5.0}
    shared = [item(PixelMeasuresSequence=[item(**plane)])]
    orientation = [item(ImageOrientationPatient=[1, 0, 0, 0, 1, 0])]
    frames = [
        item(PlanePositionSequence=[item(ImagePositionPatient=[0, 0, z])], PlaneOrientationSequence=orientation)
        for z in heights
    ]
    groups = {"SharedFunctionalGroupsSequence": shared, "PerFrameFunctionalGroupsSequence": frames}
    path = write_dicom(tmp_path / "cine.dcm", np.zeros((4, 8, 10), np.uint16), NumberOfFrames=4, **groups)
    rows = {"image": [{"bytes": None, "path": f"{path}#{number}"} for number in range(4)]}
    dataset = Dataset.from_dict(rows).cast_column("image", ImageColumn(decode=False))
    found = whole_volumes(dataset)
    assert [volume.positions for volume in found] == ([(1, 2, 0, 3)] if heights[0] == 6 else [])
    assert all(volume.spacing_mm == pytest.approx((3, 0.5, 0.7)) for volume in found)


@pytest.mark.usefixtures("texts")
@pytest.mark.parametrize("at", [2, 5, 7])
def test_a_resumed_evaluation_scores_interrupted_volumes_as_an_unbroken_one(root, tmp_path, monkeypatch, at):
    model = tmp_path / "model"
    tiny_reader().save_pretrained(model)
    tiny_processor().save_pretrained(model)

    def evaluate(folder, **options):
        return evaluate_dataset(model, "folder", root, "train", folder, batch_size=3, text_modes=[], **options)

    with monkeypatch.context() as patch, pytest.raises(Killed):
        kill_after(patch, at)
        evaluate(tmp_path / "out")
    resumed, whole = evaluate(tmp_path / "out", resume=True), evaluate(tmp_path / "whole")
    pd.testing.assert_frame_equal(resumed.volumes, whole.volumes)
    pd.testing.assert_frame_equal(resumed.images, whole.images)
    names = [row["name"] for row in read_records(tmp_path / "out" / "manifest.jsonl")[1:]]
    assert len(names) == len(set(names)) == 10 + 2


def test_images_that_are_no_slices_have_no_scores_of_volumes(tmp_path):
    dataset = load_segmentation_dataset("synthetic", split="test", size=32, count=2)
    report = evaluate_model(tiny_reader(), tiny_processor(), dataset, text_modes=["correct"])
    report.save(tmp_path / "report")
    assert "dice_volume" not in report.table() and not (tmp_path / "report" / "volumes.csv").exists()


@pytest.mark.usefixtures("texts")
def test_a_mask_without_a_position_is_refused_as_its_left_is_unknown(root):
    write_nifti(root / "masks" / "p1.nii.gz", np.zeros(SHAPE, np.uint8))
    volume = nibabel.load(root / "masks" / "p1.nii.gz")
    nibabel.save(nibabel.Nifti1Image(np.asarray(volume.dataobj), None), root / "masks" / "p1.nii.gz")
    with pytest.raises(ValueError, match=r"masks.p1.nii.gz has no position .* Save it with the affine of the other"):
        load_segmentation_dataset("folder", root)
    (root / "other").mkdir()
    table(root / "other", [["p1", "a"], ["p2", "b"]])
    with pytest.raises(ValueError, match="has no position"):
        load_segmentation_dataset("folder", root, text_table=str(root / "other" / "texts.csv"))


@pytest.mark.usefixtures("texts")
def test_a_slice_that_is_labelled_everywhere_is_a_slice_with_a_lesion(root):
    mask = np.zeros(SHAPE, np.uint8)
    mask[:, :, 2] = 1
    write_nifti(root / "masks" / "p1.nii.gz", mask, affine_of("RAS", SPACING, (0, 0, 0)))
    assert load_segmentation_dataset("folder", root, slices="lesion")["id"] == ["p1_2", "p2_0"]


def test_a_slice_in_another_plane_than_its_volume_is_refused(root):
    table(root, [["p1.nii.gz", "left lung"], ["p1.nii.gz#coronal:3", "b"], ["p2.nii.gz", "right lung"]])
    with pytest.raises(ValueError, match=r"another plane than the others of its volume: write p1.nii.gz#axial:NUMBER"):
        load_segmentation_dataset("folder", root)
