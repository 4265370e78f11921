"""The origin of a `datasets.Dataset`, recorded in its info so that reports can name it."""

import json
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar
from zlib import crc32

import datasets

from tevia_hf.data.ready import AnyDataset
from tevia_hf.prompts import ReportLanguage, as_record, from_record

T = TypeVar("T", bound=AnyDataset)

UNKNOWN = "unknown"


def with_origin(
    dataset: datasets.Dataset,
    name: str,
    data_dir: str | Path | None,
    split: str,
    options: Mapping[str, Any],
    own: Mapping[str, Any],
) -> datasets.Dataset:
    """The data set with a record of how it was loaded; `select`, `shuffle` and `save_to_disk` keep it.

    `options` are those of `SourceOptions`, `own` those of the source.
    """
    source_settings, source_options = (
        {key: as_text(value) for key, value in given.items() if value is not None} for given in (options, own)
    )
    if "group_split" not in source_settings and not source_settings.get("split_seed"):
        source_settings.pop("split_seed", None)  # the default of a published split
    origin = {"data_dir": data_dir and str(data_dir), "split": split, **source_settings}
    origin |= {"options": source_options} if source_options else {}
    dataset.info.dataset_name = name
    return _noted(dataset, origin=origin, examples=checksums(dataset))


def with_choice(dataset: datasets.Dataset, **choice: Any) -> datasets.Dataset:
    """A subset of a data set with a record of how it was chosen."""
    if (record := recorded(dataset)) is not None:
        _noted(dataset, origin=record["origin"] | choice, examples=checksums(dataset))
    return dataset


def with_language(dataset: T, language: ReportLanguage) -> T:
    """The data set with a record of the language of its texts, which augmentation and evaluation use."""
    return _noted(dataset, language=as_record(language))


def language_in(dataset: AnyDataset) -> ReportLanguage | None:
    """The language recorded with a data set, or None."""
    language = _notes(dataset).get("language")
    return None if language is None else from_record(language)


def origin_of(dataset: datasets.Dataset) -> dict[str, Any]:
    """The report settings that identify the evaluated examples.

    These are `dataset`, `data_dir` and `split` as given to `load_segmentation_dataset`, its options, the choices
    recorded by `with_choice`, and `max_samples` if only a part of the examples is left. The data set is "unknown" if it
    was not loaded by that function or contains an id or text that was not loaded; `builder` is then its own name, if it
    has one.
    """
    record = recorded(dataset)
    if record is None or Counter(checksums(dataset)) - Counter(record["examples"]):
        split, builder = dataset.split or UNKNOWN, dataset.info.dataset_name or dataset.info.builder_name
        return {"dataset": UNKNOWN, "data_dir": None, "split": str(split)} | ({"builder": builder} if builder else {})
    limit = {"max_samples": len(dataset)} if len(dataset) < len(record["examples"]) else {}
    return {"dataset": dataset.info.dataset_name, **record["origin"], **limit}


def checksums(dataset: datasets.Dataset) -> list[int]:
    """A checksum of the id and text of each example."""
    return [crc32(f"{name}\n{text}".encode()) for name, text in zip(dataset["id"], dataset["text"], strict=True)]


def recorded(dataset: datasets.Dataset) -> dict[str, Any] | None:
    """The record written by `with_origin`; `None` without one, or if data sets of several origins were joined."""
    record = _notes(dataset)
    return record if {"origin", "examples"} <= set(record) else None


def _notes(dataset: AnyDataset) -> dict[str, Any]:
    try:
        notes = json.loads(dataset.info.config_name or "")
    except ValueError:
        return {}
    return notes if isinstance(notes, dict) else {}


def _noted(dataset: T, **notes: Any) -> T:
    dataset.info.config_name = json.dumps(_notes(dataset) | notes, default=str)
    return dataset


def as_text(value: Any) -> Any:
    """The text form of an option in a report: (0.7, 0.1, 0.2) as "0.7,0.1,0.2", a path as text."""
    if isinstance(value, (tuple, list)):
        return ",".join(map(str, value))
    return str(value) if isinstance(value, Path) else value
