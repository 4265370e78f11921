"""Prediction jobs: what is on disk after a kill, an error or a division among processes."""

import errno
import os
import pickle
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from killing import Killed, kill_after
from medical_files import write_nifti
from PIL import Image
from tiny import tiny_config, tiny_processor, tiny_reader

from tevia_cli.main import main
from tevia_hf import TeViAForSegmentation, read_image
from tevia_hf.data.features import dataset_from_rows
from tevia_hf.inference import outputs
from tevia_hf.inference.item_tables import items_of_dataset
from tevia_hf.inference.items import batches, items_of
from tevia_hf.inference.job import run_job
from tevia_hf.inference.manifest import Manifest, read_records
from tevia_hf.inference.predict import as_frame
from tevia_hf.inference.shards import Shard, parse_shard, shard_of_process
from tevia_hf.inference.sources import job_of
from tevia_hf.io.output_dir import check_output_dir

COUNT, BATCH = 10, 3
TEXTS = ["left lung", "upper right lung"]


@pytest.fixture(scope="module")
def model():
    return tiny_reader()


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    folder = tmp_path_factory.mktemp("images")
    rng = np.random.default_rng(0)
    for index in range(COUNT):
        Image.fromarray(rng.integers(0, 255, (24, 20 + index), dtype=np.uint8)).save(folder / f"{index}.png")
    return sorted(folder.iterdir())


@pytest.fixture(scope="module")
def items(images):
    """One text for most images, two for some."""
    texts = [(image, TEXTS[0]) for image in images] + [(image, TEXTS[1]) for image in images[2:5]]
    return items_of(*map(list, zip(*texts, strict=True)))


@pytest.fixture(scope="module")
def run(model, items):
    def run(folder, items=items, **options):
        return as_frame(run_job(model, tiny_processor(), items, folder, batch_size=BATCH, **options))

    return run


@pytest.fixture(scope="module")
def whole(run, tmp_path_factory):
    """The outputs of an unbroken run."""
    folder = tmp_path_factory.mktemp("whole") / "out"
    run(folder)
    return folder


def content(folder):
    """The bytes of all masks and overlays, and the table without the folder."""
    files = {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*.[pj][np]g")}
    table = pd.read_csv(folder / "predictions.csv").drop(columns=["mask", "overlay"])
    return files, table.to_csv(index=False)


def rows_in(folder):
    return [row["name"] for path in folder.glob("manifest*.jsonl") for row in read_records(path)[1:]]


# Resumption


@pytest.mark.parametrize("at", [0, 1, 5, 12])
def test_a_resumed_job_has_the_outputs_of_an_unbroken_one(run, whole, items, tmp_path, monkeypatch, at):
    with monkeypatch.context() as patch, pytest.raises(Killed):
        names = kill_after(patch, at)
        run(tmp_path / "out")
    assert rows_in(tmp_path / "out") == names
    run(tmp_path / "out", resume=True)
    assert content(tmp_path / "out") == content(whole)
    assert sorted(rows_in(tmp_path / "out")) == sorted(item.name for item in items)


def test_finished_items_are_neither_predicted_nor_written_again(run, whole, model, tmp_path, monkeypatch):
    times = {path: path.stat().st_mtime_ns for path in whole.rglob("*.png")}
    monkeypatch.setattr(type(model), "forward", None)
    table = run(whole, resume=True)
    assert set(table["status"]) == {"done"} and {path: path.stat().st_mtime_ns for path in times} == times


@pytest.mark.parametrize("cut", [1, 30, "header"])
def test_a_line_that_was_cut_short_is_done_again(run, whole, tmp_path, cut):
    run(tmp_path / "out")
    path = tmp_path / "out" / "manifest.jsonl"
    size = path.stat().st_size - cut if cut != "header" else 20
    with path.open("r+b") as file:
        file.truncate(size)
    run(tmp_path / "out", resume=True)
    assert content(tmp_path / "out") == content(whole) and len(set(rows_in(tmp_path / "out"))) == 13


def test_incomplete_files_of_a_killed_run_are_removed(run, tmp_path):
    run(tmp_path / "out")
    for name in (".part-1.0.png", "overlays/.part-2.0.jpg"):
        (tmp_path / "out" / name).write_bytes(b"half")
    run(tmp_path / "out", resume=True)
    assert not list((tmp_path / "out").rglob(".part*"))


def test_a_folder_with_outputs_is_refused_unless_they_are_resumed_or_overwritten(run, tmp_path):
    run(tmp_path / "out")
    with pytest.raises(ValueError, match=r"holds 13 finished masks of 13: continue with `--resume`.*`--overwrite`"):
        run(tmp_path / "out")
    (tmp_path / "out" / "0.png").write_bytes(b"other")
    run(tmp_path / "out", overwrite=True)
    assert read_image(tmp_path / "out" / "0.png").array.shape == (24, 20)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"threshold": 0.4}, "threshold is 0.4, there 0.5"),
        ({"overlays": False}, "overlays is False, there True"),
        ({"mask_suffix": ".nii"}, "mask_suffix is .nii, there .png"),
    ],
)
def test_a_job_with_other_settings_is_not_resumed(run, whole, change, message):
    before = content(whole)
    with pytest.raises(ValueError, match=f"outputs of another job.*{message}"):
        run(whole, resume=True, **change)
    assert content(whole) == before


def test_a_job_of_another_model_or_processor_is_not_resumed(whole, items):
    with pytest.raises(ValueError, match="outputs of another job.*weights"):
        run_job(TeViAForSegmentation(tiny_config()), tiny_processor(), items, whole, resume=True)
    with pytest.raises(ValueError, match="outputs of another job.*image_processor"):
        run_job(tiny_reader(), tiny_processor(normalization="fixed"), items, whole, resume=True)


def test_other_versions_are_noted(run, tmp_path):
    run(tmp_path / "out")
    path = tmp_path / "out" / "manifest.jsonl"
    path.write_text(path.read_text().replace('"transformers": "', '"transformers": "0', 1))
    with pytest.warns(UserWarning, match=r"begun with other versions: transformers is \d.*, there 0\d"):
        run(tmp_path / "out", resume=True)


def test_an_image_or_text_that_has_changed_is_predicted_again(run, images, tmp_path):
    copies = [tmp_path / path.name for path in images[:3]]
    for copy, path in zip(copies, images, strict=False):
        copy.write_bytes(path.read_bytes())
    run(tmp_path / "out", items_of(copies, TEXTS[:1] * 3))
    copies[1].write_bytes(images[9].read_bytes())
    table = run(tmp_path / "out", items_of(copies, [*TEXTS, TEXTS[0]][:3]), resume=True)
    assert read_image(tmp_path / "out" / "1.png").array.shape == (24, 29)
    assert list(table["text"]) == [*TEXTS, TEXTS[0]] and rows_in(tmp_path / "out") == ["0", "1", "2", "1"]


def test_a_mask_that_was_deleted_is_written_again(run, whole, tmp_path):
    run(tmp_path / "out")
    (tmp_path / "out" / "7.png").unlink()
    run(tmp_path / "out", resume=True)
    assert content(tmp_path / "out") == content(whole)


# Errors


def test_failed_items_have_a_status_and_reason_and_are_tried_again(run, images, tmp_path):
    copies = [tmp_path / path.name for path in images[:4]]
    for copy, path in zip(copies, images, strict=False):
        copy.write_bytes(path.read_bytes())
    copies[1].write_bytes(b"no image")
    copies[2].unlink()
    items = items_of(copies, [""] * 4)
    table = run(tmp_path / "out", items)
    assert list(table["status"]) == ["done", "failed", "failed", "done"]
    assert "1.png" in table["error"][1] and "no such file" in table["error"][2]
    for copy, path in zip(copies, images, strict=False):
        copy.write_bytes(path.read_bytes())
    assert set(run(tmp_path / "out", items, resume=True)["status"]) == {"done"}


def test_on_error_raise_stops_at_the_first_error_and_keeps_what_is_before(run, images, tmp_path):
    broken = tmp_path / "broken.png"
    broken.write_bytes(b"no image")
    items = items_of([*images[:2], broken, images[3]], [""] * 4)
    with pytest.raises(ValueError, match="broken"):
        run(tmp_path / "out", items, on_error="raise")
    assert list(pd.read_csv(tmp_path / "out" / "predictions.csv")["status"]) == ["done", "done", "failed", "missing"]


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EROFS, errno.EACCES])
@pytest.mark.parametrize("place", ["mask", "manifest"])
def test_a_full_or_read_only_disk_stops_the_job_and_keeps_what_is_done(run, whole, tmp_path, monkeypatch, code, place):
    def fail(usual):
        def fails(*args, **options):
            if "5" in (getattr(args[0], "stem", None), getattr(args[-1], "get", dict().get)("name")):
                raise OSError(code, os.strerror(code))
            return usual(*args, **options)

        return fails

    with monkeypatch.context() as patch:
        owner, name = (outputs, "write_mask") if place == "mask" else (Manifest, "add")
        patch.setattr(owner, name, fail(getattr(owner, name)))
        with pytest.raises(outputs.OutputError, match=r"cannot be written to .*finished masks are kept.*`--resume`"):
            run(tmp_path / "out")
    assert rows_in(tmp_path / "out") == ["0", "1", "2_1", "2_2", "3_1", "3_2", "4_1", "4_2"]
    run(tmp_path / "out", resume=True)
    assert content(tmp_path / "out") == content(whole)


def test_a_job_whose_folder_has_become_read_only_keeps_it_and_hands_over_the_fix(run, tmp_path, monkeypatch):
    run(tmp_path / "out")

    def touch(path, **options):
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    monkeypatch.setattr(Path, "touch", touch)
    with pytest.raises(outputs.OutputError, match="Read-only file system.*`--resume`"):
        run(tmp_path / "out", resume=True)


def test_a_disk_that_takes_half_a_line_loses_that_line_alone(run, whole, tmp_path, monkeypatch):
    class Full:
        def __init__(self, file):
            self.file, self.lines = file, 0

        def write(self, line):
            self.lines += 1
            return self.file.write(line[: len(line) // 2] if self.lines == 5 else line)

        def close(self):
            self.file.close()

    usual = Path.open
    with monkeypatch.context() as patch:
        patch.setattr(
            Path, "open", lambda path, *a, **o: Full(usual(path, *a, **o)) if a == ("ab",) else usual(path, *a, **o)
        )
        with pytest.raises(outputs.OutputError, match="No space left on device"):
            run(tmp_path / "out")
    run(tmp_path / "out", resume=True)
    assert content(tmp_path / "out") == content(whole)


# Several processes


def test_shards_and_a_merge_give_the_outputs_of_one_run(run, whole, items, tmp_path):
    tables = [run(tmp_path / "out", shard=Shard(index, 3)) for index in range(3)]
    assert sum(len(table) for table in tables) == len(items) and not (tmp_path / "out" / "predictions.csv").exists()
    merged = run(tmp_path / "out", merge=True)
    assert content(tmp_path / "out") == content(whole) and set(merged["status"]) == {"done"}


def test_a_merge_names_what_is_missing_and_a_resumed_job_makes_it(run, whole, model, items, tmp_path, monkeypatch):
    for index in (0, 2):
        run(tmp_path / "out", shard=Shard(index, 3))
    with monkeypatch.context() as patch:
        patch.setattr(type(model), "forward", None)
        merged = run(tmp_path / "out", merge=True)
    missing = [item.label for item in batches(items, BATCH)[1]]
    assert list(merged["image"][merged["status"] == "missing"]) == missing
    run(tmp_path / "out", resume=True)
    assert content(tmp_path / "out") == content(whole)


def test_a_launcher_gives_each_process_of_the_command_its_shard(model, images, tmp_path, monkeypatch, run):
    model.save_pretrained(tmp_path / "model")
    tiny_processor().save_pretrained(tmp_path / "model")
    arguments = ["predict", str(tmp_path / "model"), str(images[0].parent), "--output-dir", str(tmp_path / "out")]
    monkeypatch.setenv("WORLD_SIZE", "2")
    for rank in "01":
        monkeypatch.setenv("RANK", rank)
        assert main([*arguments, "--batch-size", "3"]) == 0
    assert {path.name for path in (tmp_path / "out").glob("man*")} == {f"manifest-{rank}-of-2.jsonl" for rank in "01"}
    assert sorted(rows_in(tmp_path / "out")) == sorted(path.stem for path in images)
    table = run(tmp_path / "whole")  # a function that one process calls is not divided
    assert len(table) == 13 and (tmp_path / "whole" / "predictions.csv").exists()


@pytest.mark.parametrize("text", ["3/3", "1", "-1/2", "a/b", "1/0", "1/2/3"])
def test_an_invalid_shard_is_refused(text):
    with pytest.raises(ValueError, match=f"shard is '{text}': give index and number, as in 0/3"):
        parse_shard(text)


def test_shards_are_refused_where_they_would_harm(run, tmp_path):
    with pytest.raises(ValueError, match="`overwrite` would delete the outputs of other shards"):
        run(tmp_path / "out", shard=Shard(0, 2), overwrite=True)
    with pytest.raises(ValueError, match="holds no outputs to merge"):
        run(tmp_path / "out", merge=True)
    run(tmp_path / "out", shard=Shard(0, 2))
    with pytest.raises(ValueError, match="finished masks"):
        run(tmp_path / "out", shard=Shard(0, 2))
    with pytest.raises(ValueError, match="without `resume`"):
        run(tmp_path / "out", merge=True, resume=True)


def test_an_engine_by_name_is_refused_with_the_function_that_takes_one(run, tmp_path):
    with pytest.raises(
        ValueError, match=r'engine is \'ray\'.*`predict_files\(\.\.\., engine="ray"\)`.*`rows_on_ray\(MODEL\)`'
    ):
        run(tmp_path / "out", engine="ray")
    assert not (tmp_path / "out").exists()


# What is written


def test_probabilities_are_float16_maps_at_the_images_size(run, model, images, tmp_path):
    table = run(tmp_path / "out", items_of(images[:2], TEXTS), probabilities=True, overlays=False)
    assert "overlay" not in table and not (tmp_path / "out" / "overlays").exists()
    for path, mask, image in zip(table["probabilities"], table["mask"], images, strict=False):
        values = np.load(path)
        assert values.dtype == np.float16 and values.shape == read_image(image).array.shape
        assert np.array_equal(values > 0.5, read_image(mask).array > 0) or 0.5 in values


def test_probabilities_of_several_labels_have_a_channel_each(images, tmp_path):
    model, processor = TeViAForSegmentation(tiny_config(num_labels=3)), tiny_processor(num_labels=3)
    run_job(model, processor, items_of(images[:1], [""]), tmp_path / "out", probabilities=True)
    values = np.load(tmp_path / "out" / "probabilities" / "0.npy")
    assert values.shape == (3, 24, 20) and np.allclose(values.astype(float).sum(0), 1, atol=2e-3)


# Sources


def test_a_table_lists_images_by_path_with_their_texts(images, tmp_path):
    rows = [(os.path.relpath(images[1], tmp_path), "left lung", "x"), (str(images[0]), "", "")]
    pd.DataFrame(rows, columns=["Image", "Description", "Name"]).to_csv(tmp_path / "job.csv", index=False)
    items = job_of([tmp_path / "job.csv"], text="lung")
    assert [(item.name, item.text) for item in items] == [("x", "left lung"), ("0", "lung")]
    assert [item.image.path.resolve() for item in items] == [images[1], images[0]]


@pytest.mark.parametrize("kind", ["parquet", "folder"])
def test_a_saved_data_set_is_predicted(run, images, whole, tmp_path, kind):
    rows = [{"id": path.stem, "text": TEXTS[0], "image": path, "mask": path} for path in images[5:]]
    dataset = dataset_from_rows(rows).map(lambda row: row)  # which holds the pixels
    source = tmp_path / ("set.parquet" if kind == "parquet" else "set")
    dataset.to_parquet(source) if kind == "parquet" else dataset.save_to_disk(source)
    table = run(tmp_path / "out", job_of([source]))
    assert list(table["image"]) == list("56789") and set(table["status"]) == {"done"}
    for name in "56789":
        mask, expected = (read_image(folder / f"{name}.png").array for folder in (tmp_path / "out", whole))
        assert np.mean(mask != expected) < 0.01


def test_a_data_set_without_texts_or_ids_has_the_given_text_and_numbered_rows(images, tmp_path):
    dataset = dataset_from_rows([{"id": "a", "image": images[0], "mask": images[0]}]).map(lambda row: row)
    dataset.remove_columns(["text", "id"]).to_parquet(tmp_path / "set.parquet")
    (item,) = items_of_dataset(tmp_path / "set.parquet", "lung")
    assert (item.name, item.text) == ("row_0", "lung")
    assert pickle.loads(pickle.dumps(item)).source() == item.source()


def test_a_data_set_that_has_changed_is_read_and_predicted_again(run, images, tmp_path):
    source = tmp_path / "set.parquet"
    for number, path in enumerate(images[:2]):
        dataset = dataset_from_rows([{"id": "a", "image": path, "mask": path}]).map(lambda row: row)
        dataset.to_parquet(source)
        os.utime(source, (number, number))
        run(tmp_path / "out", job_of([source]), resume=True)
    assert read_image(tmp_path / "out" / "a.png").array.shape == read_image(images[1]).array.shape


def test_a_source_that_is_no_job_is_refused(images, tmp_path):
    (tmp_path / "job.csv").write_text("Image,Description\na.png,x\n")
    with pytest.raises(ValueError, match="holds images and texts itself: give it alone"):
        job_of([tmp_path / "job.csv", images[0]])
    with pytest.raises(ValueError, match=r"No file .*none\.parquet"):
        job_of([tmp_path / "none.parquet"])


# The command, killed


def test_a_killed_command_is_resumed_without_loss(model, images, tmp_path):
    """By signal 9, while it writes."""
    model.save_pretrained(tmp_path / "model")
    tiny_processor().save_pretrained(tmp_path / "model")
    arguments = ["predict", str(tmp_path / "model"), str(images[0].parent), "--text", "left lung", "--batch-size", "2"]
    assert main([*arguments, "--output-dir", str(tmp_path / "whole")]) == 0
    code = (
        "import os, signal, sys\n"
        "from tevia_cli.main import main\n"
        "from tevia_hf.inference.manifest import Manifest\n"
        "usual, calls = Manifest.add, []\n"
        "def add(self, row):\n"
        "    usual(self, row)\n"
        "    calls.append(row)\n"
        "    if len(calls) == 4: os.kill(os.getpid(), signal.SIGKILL)\n"
        "Manifest.add = add\n"
        "main(sys.argv[1:])\n"
    )
    out = ["--output-dir", str(tmp_path / "out")]
    killed = subprocess.run([sys.executable, "-c", code, *arguments, *out], capture_output=True, text=True)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    assert len(rows_in(tmp_path / "out")) == 4 and not (tmp_path / "out" / "predictions.csv").exists()
    assert main([*arguments, *out, "--resume"]) == 0
    assert content(tmp_path / "out") == content(tmp_path / "whole")
    assert len(rows_in(tmp_path / "out")) == COUNT


def test_the_command_merges_and_ends_with_1_where_masks_are_missing(model, images, tmp_path, capsys):
    model.save_pretrained(tmp_path / "model")
    tiny_processor().save_pretrained(tmp_path / "model")
    arguments = ["predict", str(tmp_path / "model"), str(images[0].parent), "--output-dir", str(tmp_path / "out")]
    options = ["--batch-size", "4", "--no-overlays"]
    assert main([*arguments, *options, "--shard", "1/2"]) == 0
    assert main([*arguments, *options, "--merge"]) == 1
    assert "6 masks are missing" in capsys.readouterr().err
    assert main([*arguments, *options, "--shard", "0/2"]) == 0
    assert main([*arguments, *options, "--merge"]) == 0


# Lesions


def test_lesions_are_measured_in_a_table_of_their_own(run, whole, images, tmp_path):
    table = run(tmp_path / "out", items_of(images[:3], TEXTS[:1] * 3), statistics=True)
    lesions = pd.read_csv(tmp_path / "out" / "lesions.csv")
    assert list(lesions)[:5] == ["name", "image", "text", "label", "pixels"] and lesions["area_mm2"].isna().all()
    for row in table.itertuples():
        own = lesions[lesions["image"] == row.image]
        assert (own["pixels"].sum(), len(own)) == (row.pixels, row.lesions)
        assert own["diameter_px"].max() == pytest.approx(row.diameter_px)
    assert table["lesions"].dtype == "Int64" and table["diameter_mm"].isna().all()
    run(tmp_path / "again", items_of(images[:3], TEXTS[:1] * 3), statistics=True, shard=Shard(0, 1))
    assert (tmp_path / "again" / "lesions.csv").read_text() == (tmp_path / "out" / "lesions.csv").read_text()


def test_lesions_of_a_volume_are_measured_in_mm(model, tmp_path):
    path = write_nifti(tmp_path / "scan.nii", np.random.default_rng(0).random((24, 24, 3)), np.diag([2.0, 3, 4, 1]))
    items = items_of([f"{path}#1"], ["left lung"])
    (row,) = as_frame(run_job(model, tiny_processor(), items, tmp_path / "out", statistics=True)).itertuples()
    lesions = pd.read_csv(tmp_path / "out" / "lesions.csv")
    assert row.mm2 == 6 * row.pixels > 0 and row.volume_mm3 == 4 * row.mm2 == lesions["volume_mm3"].sum()


# Found by a review: what an earlier run left must not be taken for the result of this one


@pytest.fixture
def two(tmp_path):
    """Two images of one folder."""
    folder = tmp_path / "two"
    folder.mkdir()
    for name in "ab":
        draw(folder / f"{name}.png", 1)
    return folder


def draw(path, seed):
    Image.fromarray(np.random.default_rng(seed).integers(0, 255, (24, 24), dtype=np.uint8)).save(path)


def test_another_window_or_slice_is_predicted_again(run, tmp_path):
    scan = write_nifti(
        tmp_path / "ct.nii", np.random.default_rng(0).integers(-1000, 1000, (24, 24, 3)).astype(np.int16)
    )
    windows = [(-600.0, 1500.0), (40.0, 400.0)]
    jobs = [[item.with_window(window) for item in items_of([f"{scan}#1"], [""])] for window in windows]
    first, fresh = (run(tmp_path / name, job)["pixels"].item() for name, job in zip("xy", jobs, strict=True))
    assert run(tmp_path / "x", jobs[1], resume=True)["pixels"].item() == fresh != first


def test_the_newest_row_counts_whatever_the_number_of_shards(run, two, tmp_path):
    items = job_of([two])
    run(tmp_path / "out", items, shard=Shard(0, 1))
    draw(two / "a.png", 2)
    (two / "b.png").write_bytes(b"no image")
    assert list(run(tmp_path / "out", items, merge=True)["status"]) == ["missing", "missing"]  # of other images
    for index in range(2):
        run(tmp_path / "out", items, shard=Shard(index, 2), resume=True)
    assert list(run(tmp_path / "out", items, merge=True)["status"]) == ["done", "failed"]
    assert not (tmp_path / "out" / "b.png").exists()  # of the earlier image
    draw(two / "b.png", 3)
    for index in range(3):
        run(tmp_path / "out", items, shard=Shard(index, 3), resume=True)
    merged, fresh = run(tmp_path / "out", items, merge=True), run(tmp_path / "fresh", items)
    assert list(merged["pixels"]) == list(fresh["pixels"]) and set(merged["status"]) == {"done"}


def test_a_merge_leaves_files_alone_that_shards_are_writing(run, tmp_path):
    run(tmp_path / "out", shard=Shard(0, 2))
    (part := tmp_path / "out" / ".part-1.x.png").touch()
    run(tmp_path / "out", merge=True)
    assert part.exists() and not (tmp_path / "out" / "manifest.jsonl").exists()


def test_a_data_set_that_was_saved_again_is_predicted_again(run, two, tmp_path):
    for seed, options in ((1, {}), (2, {"resume": True})):
        draw(two / "a.png", seed)
        row = {
            "image": Image.open(two / "a.png"),
            "mask": Image.open(two / "b.png"),
            "id": "a",
            "text": "",
            "group": "a",
        }
        dataset_from_rows([row]).save_to_disk(tmp_path / "saved")
        table = run(tmp_path / "out", items_of_dataset(tmp_path / "saved"), **options)
    assert table["pixels"].item() == run(tmp_path / "fresh", items_of([two / "a.png"], [""]))["pixels"].item()


def test_a_name_that_is_not_utf8_is_predicted(run, two, tmp_path):
    (two / "a.png").rename(path := two / os.fsdecode(b"caf\xe9.png"))
    table = run(tmp_path / "out", job_of([two]))
    assert list(table["status"]) == ["done", "done"] and (tmp_path / "out" / path.name).exists()
    assert "caf" in (tmp_path / "out" / "predictions.csv").read_text()
    assert list(run(tmp_path / "out", job_of([two]), resume=True)["status"]) == ["done", "done"]


def test_a_table_that_cannot_be_written_is_an_error(run, tmp_path):
    (tmp_path / "out").mkdir()
    run(tmp_path / "out", merge=False)
    (tmp_path / "out" / "predictions.csv").unlink()
    (tmp_path / "out" / "predictions.csv").mkdir()
    with pytest.raises(OSError, match=r"predictions\.csv"):
        run(tmp_path / "out", resume=True)


def test_a_folder_that_is_no_job_is_neither_resumed_nor_divided_into(run, two, tmp_path):
    (two / ".tevia-output").touch()  # as a training leaves it
    with pytest.raises(ValueError, match="already holds files"):
        run(two, shard=Shard(0, 2))
    (two / ".tevia-output").unlink()
    with pytest.raises(ValueError, match="was not written by tevia, so there is nothing to resume"):
        check_output_dir(two, resume=True)
    (tmp_path / "out").mkdir()
    run(tmp_path / "out")
    draw(tmp_path / "out" / "overlays" / "own.png", 1)
    with pytest.raises(ValueError, match="holds the images themselves"):
        run(tmp_path / "out", job_of([tmp_path / "out" / "overlays" / "own.png"]), resume=True)


def test_a_launched_process_with_a_bad_image_does_not_end_the_others(model, two, tmp_path, monkeypatch, capsys):
    model.save_pretrained(tmp_path / "model")
    tiny_processor().save_pretrained(tmp_path / "model")
    (two / "a.png").write_bytes(b"no image")
    command = ["predict", str(tmp_path / "model"), str(two), "--batch-size", "1", "--output-dir", str(tmp_path / "out")]
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert shard_of_process() == Shard(0, 1)  # some machines set one of the variables alone
    for rank in "01":
        monkeypatch.setenv("RANK", rank)
        assert main(command) == 0
    assert "0 of 1 masks of shard 0/2" in capsys.readouterr().out
    monkeypatch.setenv("RANK", "2")
    with pytest.raises(ValueError, match="2/2"):
        shard_of_process()
    monkeypatch.delenv("RANK")
    assert main([*command, "--merge"]) == 1


@pytest.mark.parametrize("line", ["[1]", "{}", '{"settings": {}}\n{"name": "a"}', "3"])
def test_a_manifest_of_another_form_is_named(run, tmp_path, line):
    run(tmp_path / "out", items_of([], []))
    (tmp_path / "out" / "manifest.jsonl").write_text(f"{line}\n")
    with pytest.raises(ValueError, match=r"manifest.jsonl is damaged .*delete it"):
        run(tmp_path / "out", resume=True)


def test_a_vision_only_model_warns_that_it_ignores_texts(items, tmp_path, recwarn):
    vision_only = tiny_reader(use_text=False)
    run_job(vision_only, tiny_processor(), [item._replace(text="") for item in items[:1]], tmp_path / "without")
    assert not recwarn
    with pytest.warns(UserWarning, match="takes no text: texts are ignored"):
        run_job(vision_only, tiny_processor(), items[:1], tmp_path / "with")
