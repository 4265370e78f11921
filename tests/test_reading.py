"""Results of reading a file are cached until the file changes."""

import json
import os
import time

import datasets
import pytest
from layouts import LAYOUTS
from PIL import Image
from test_survey import rows, square
from tiny import tiny_config, tiny_processor

from tevia_hf import TeViAForSegmentation, load_segmentation_dataset
from tevia_hf.data.check import check_dataset
from tevia_hf.data.features import undecoded
from tevia_hf.data.reading import remembered
from tevia_hf.data.registry import list_examples
from tevia_hf.data.survey import Survey, white_is_lesion_in
from tevia_hf.io import parse_address, readers
from tevia_hf.training.arguments import TeViATrainingArguments
from tevia_hf.training.trainer import build_trainer


@pytest.fixture
def cache(tmp_path, monkeypatch):
    """The folder of the cache, empty."""
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    return tmp_path / "cache" / "tevia_hf"


@pytest.fixture
def examples(tmp_path, cache):
    """Two examples, whose files were written a minute ago."""
    examples = rows(tmp_path, a=square(255), b=square(0))
    for path in tmp_path.glob("*.png"):
        age(path)
    return examples


@pytest.fixture
def decoded(monkeypatch):
    """The names of the files that are decoded."""
    names, usual = [], readers.read_image

    def read(path, *args):
        names.append(path.path.name)
        return usual(path, *args)

    monkeypatch.setattr(readers, "read_image", read)
    return names


def age(path):
    os.utime(path, (time.time() - 60,) * 2)


def survey_of(examples, **settings):
    survey = Survey(tiny_processor().image_processor, **settings)
    list(survey.read(examples))
    return survey


def test_a_second_reading_gives_the_same_and_opens_no_file(examples, decoded):
    first = survey_of(examples)
    assert sorted(decoded) == ["a.image.png", "a.png", "b.image.png", "b.png"]
    decoded.clear()
    again = survey_of(examples)
    assert decoded == [] and again.white == first.white
    assert json.dumps(again.findings) == json.dumps(first.findings)
    survey_of(examples, cache=False)
    assert len(decoded) == 4
    decoded.clear()
    for held, names in ((True, ["a.png", "b.png"]), (True, []), (False, ["a.png", "b.png"])):
        white_is_lesion_in(examples, 1, cache=held)
        assert sorted(decoded) == names
        decoded.clear()


def test_what_an_image_processor_of_ones_own_makes_of_files_is_not_kept(examples, decoded):
    usual = tiny_processor().image_processor
    survey = Survey(type("Own", (type(usual),), {"__module__": "clinic"})(num_labels=1))
    for _ in range(2):
        list(survey.read(examples))
    assert len(decoded) == 8


@pytest.mark.parametrize(
    "settings", [{"white_is_lesion": True}, {"white_is_lesion": False}], ids=["declared", "ignored"]
)
def test_inputs_of_the_result_other_than_files_are_part_of_the_key(examples, decoded, settings):
    shares = survey_of(examples).lesion_shares()
    decoded.clear()
    assert (survey_of(examples, **settings).lesion_shares() == shares) is settings["white_is_lesion"]
    assert len(decoded) == 4


def test_a_file_that_changed_in_content_or_time_is_read_anew(examples, decoded, tmp_path):
    shares = survey_of(examples).lesion_shares()
    decoded.clear()
    Image.fromarray(square(255, border=255)).save(tmp_path / "a.png")
    assert survey_of(examples).lesion_shares()[0] > shares[0] and sorted(decoded) == ["a.image.png", "a.png"]
    decoded.clear()
    age(tmp_path / "b.image.png")
    survey_of(examples)
    assert "b.image.png" in decoded


def test_a_file_just_written_is_not_kept_as_it_may_change_within_its_time(examples, decoded, cache, tmp_path):
    os.utime(tmp_path / "a.png")
    survey_of(examples)
    assert len(list(cache.iterdir())) == 1


def test_a_deleted_file_and_a_damaged_one_are_faults_every_time(examples, tmp_path):
    survey_of(examples)
    (tmp_path / "a.png").unlink()
    (tmp_path / "b.png").write_bytes((tmp_path / "b.png").read_bytes()[:40])
    age(tmp_path / "b.png")
    for _ in range(2):
        missing, damaged = (fault.reason for fault in survey_of(examples).faults)
        assert "no such file" in missing and "corrupt or cut short" in damaged


@pytest.mark.parametrize("content", [b"", b"\n", b"\xff\xfe", b"x\n[[], []]", None], ids=str)
def test_a_damaged_or_foreign_entry_is_written_anew(examples, decoded, cache, content):
    shares = survey_of(examples).lesion_shares()
    for entry in cache.iterdir():
        held = entry.read_bytes()
        entry.write_bytes(held.replace(b"0.", b"0.9", 1) if content is None else content)
    decoded.clear()
    assert survey_of(examples).lesion_shares() == shares and len(decoded) == 4
    assert survey_of(examples).lesion_shares() == shares and len(decoded) == 4


def test_a_cache_that_cannot_be_written_costs_nothing_but_time(examples, cache):
    cache.parent.mkdir()
    cache.touch()
    assert len(survey_of(examples).findings) == 2


def test_files_of_a_reader_of_ones_own_and_pixels_in_memory_are_read_every_time(tmp_path, cache, monkeypatch):
    monkeypatch.setitem(readers._READERS, ".png", lambda *args: None)
    path = tmp_path / "a.png"
    path.touch()
    age(path)
    for files in ([parse_address(path)], []):
        assert [remembered(["what"], files, lambda held=held: held) for held in (1, 2)] == [1, 2]


def test_masks_consulted_for_255_alone_are_kept_too_and_those_that_were_read_are_left_out(examples, decoded):
    survey = survey_of(examples[:1])
    decoded.clear()
    survey.consult(examples)
    assert decoded == ["b.png"] and survey.white.without_labels == [str(examples[0]["mask"][0].path)]
    survey_of(examples[:1]).consult(examples)
    assert decoded == ["b.png"]


def test_a_data_set_of_rows_shares_the_cache_with_the_check(tmp_path, cache, decoded):
    LAYOUTS["qata"][1](tmp_path)
    for path in tmp_path.rglob("*.*"):
        age(path)
    check_dataset(list_examples("qata", tmp_path), tiny_processor())
    decoded.clear()
    survey_of(undecoded(load_segmentation_dataset("qata", tmp_path)))
    assert decoded == []


def test_a_trainer_reads_masks_anew_where_nothing_is_to_be_kept(tmp_path, cache, decoded):
    LAYOUTS["qata"][1](tmp_path)
    for path in tmp_path.rglob("*.*"):
        age(path)
    train_dataset = load_segmentation_dataset("qata", tmp_path)
    args = TeViATrainingArguments(
        output_dir=str(tmp_path / "run"), eval_strategy="no", load_best_model_at_end=False, use_cpu=True
    )
    model, opened = TeViAForSegmentation(tiny_config(use_text=False)), []
    for held in (True, True, False):
        build_trainer(model, tiny_processor(), args, train_dataset, cache=held)
        opened.append(len(decoded))
        decoded.clear()
    assert opened == [len(train_dataset), 0, len(train_dataset)]
