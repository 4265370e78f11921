"""An evaluation that was interrupted and resumed gives the report of an uninterrupted one."""

import json
import os

import numpy as np
import pandas as pd
import pytest
from killing import Killed, kill_after
from PIL import Image
from tiny import tiny_config, tiny_processor

from tevia_hf import TeViAForSegmentation
from tevia_hf.evaluation.evaluate import evaluate_dataset
from tevia_hf.evaluation.measuring import measurements_in, record_of
from tevia_hf.evaluation.results import measure_masks
from tevia_hf.inference.manifest import read_records
from tevia_hf.inference.predictor import Predictor
from tevia_hf.prompts import QATA

COUNT = 14
FILES = (*(f"evaluation.{suffix}" for suffix in ("json", "md", "html", "csv", "png")), "worst_cases.jpg")


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    """A folder of images with masks of three classes, some of them empty."""
    root, rng = tmp_path_factory.mktemp("data"), np.random.default_rng(0)
    rows = []
    for part in ("images", "masks"):
        (root / part).mkdir()
    for index in range(COUNT):
        mask = np.zeros((32, 32), np.uint8)
        mask[4 : 4 + index, 6:12] = index % 3
        Image.fromarray(mask).save(root / "masks" / f"{index}.png")
        Image.fromarray(rng.integers(0, 255, (32, 32), dtype=np.uint8)).save(root / "images" / f"{index}.png")
        rows.append((f"{index}.png", ["left lung", "", "upper right lung"][index % 3], "test", f"patient {index // 2}"))
    table = pd.DataFrame(rows, columns=["Image", "Description", "split", "group"])
    table.to_csv(root / "texts.csv", index=False)
    return root


@pytest.fixture(scope="module")
def model_dir(tmp_path_factory):
    folder = tmp_path_factory.mktemp("model")
    model = TeViAForSegmentation(tiny_config(num_labels=3)).eval()
    model.decode_head.classifier.bias.data.zero_()
    model.save_pretrained(folder)
    tiny_processor(num_labels=3).save_pretrained(folder)
    return str(folder)


@pytest.fixture(scope="module")
def evaluate(source, model_dir):
    def evaluate(folder, **options):
        return evaluate_dataset(model_dir, "folder", source, "test", folder, batch_size=4, **options)

    return evaluate


@pytest.fixture(scope="module")
def whole(evaluate, tmp_path_factory):
    folder = tmp_path_factory.mktemp("whole") / "out"
    evaluate(folder)
    return folder


def content(folder):
    names = [
        "evaluation.json",
        "evaluation.md",
        "evaluation.html",
        "evaluation.csv",
        "evaluation.png",
        "worst_cases.jpg",
    ]
    return {name: (folder / name).read_bytes() for name in names}


@pytest.mark.parametrize("at", [0, 1, 6, COUNT - 1])
def test_the_report_of_a_resumed_evaluation_is_that_of_an_unbroken_one(evaluate, whole, tmp_path, monkeypatch, at):
    with monkeypatch.context() as patch, pytest.raises(Killed):
        names = kill_after(patch, at)
        evaluate(tmp_path / "out")
    assert [row["name"] for row in read_records(tmp_path / "out" / "manifest.jsonl")[1:]] == names
    evaluate(tmp_path / "out", resume=True)
    assert content(tmp_path / "out") == content(whole)
    lines = [row["name"] for row in read_records(tmp_path / "out" / "manifest.jsonl")[1:]]
    assert sorted(lines, key=int) == list(map(str, range(COUNT)))


def test_measured_images_are_not_predicted_again_but_for_those_that_are_shown(evaluate, whole, monkeypatch):
    calls, usual = [], Predictor.encode
    monkeypatch.setattr(Predictor, "encode", lambda self, images: calls.append(len(images)) or usual(self, images))
    before = content(whole)
    evaluate(whole, resume=True)
    assert content(whole) == before and 0 < sum(calls) <= COUNT


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"threshold": 0.3}, "threshold"),
        ({"seed": 4}, "texts"),
        ({"text_modes": []}, "texts"),
        ({"max_samples": 5}, "texts"),
    ],
)
def test_an_evaluation_with_other_settings_is_not_resumed(evaluate, whole, change, message):
    before = content(whole)
    with pytest.raises(ValueError, match=f"outputs of another job.*{message}"):
        evaluate(whole, resume=True, **change)
    assert content(whole) == before


def test_an_evaluation_whose_masks_have_changed_is_not_resumed(evaluate, source, tmp_path):
    evaluate(tmp_path / "out")
    state, path = (source / "masks" / "3.png").stat(), source / "masks" / "3.png"
    os.utime(path, ns=(state.st_atime_ns, state.st_mtime_ns + 10**9))
    with pytest.raises(ValueError, match="outputs of another job.*examples and texts"):
        evaluate(tmp_path / "out", resume=True)
    os.utime(path, ns=(state.st_atime_ns, state.st_mtime_ns))


def test_an_earlier_evaluation_is_kept_until_inputs_are_checked(evaluate, whole, source, tmp_path):
    evaluate(tmp_path / "out")
    before = content(tmp_path / "out")
    with pytest.raises(ValueError, match="Unknown text conditions"):
        evaluate(tmp_path / "out", overwrite=True, text_modes=["no such"])
    assert content(tmp_path / "out") == before
    evaluate(tmp_path / "out", overwrite=True)
    assert len(read_records(tmp_path / "out" / "manifest.jsonl")) == COUNT + 1


def test_measurements_survive_a_manifest_exactly():
    rng = np.random.default_rng(1)
    masks, reference = rng.integers(0, 3, (2, 30, 40)).astype(np.uint8), rng.integers(0, 3, (30, 40)).astype(np.uint8)
    reference[:2] = 255
    texts = ["Unilateral pulmonary infection, one infected area, middle left lung.", ""]
    measured = measure_masks(texts, masks, reference, (0.7, 1.3), QATA, [1, 2])
    assert measured[0].against_text.agreement
    assert measurements_in(json.loads(json.dumps(record_of(3, measured)))) == measured
