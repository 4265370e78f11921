"""Data sets by name: `SOURCES` declares each once, `register_dataset` adds user-defined ones."""

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple, cast

import datasets

from tevia_hf.data.brain import list_brain
from tevia_hf.data.breast import list_breast
from tevia_hf.data.features import FEATURES, SPLITS
from tevia_hf.data.folder import list_folder
from tevia_hf.data.listing import Listing, OnError
from tevia_hf.data.lvit import list_monuseg, list_mosmed
from tevia_hf.data.options import SOURCE_OPTIONS, SourceOptions
from tevia_hf.data.origin import UNKNOWN, with_language, with_origin
from tevia_hf.data.qata import list_qata
from tevia_hf.data.synthetic import synthetic_dataset
from tevia_hf.option_checks_tevia import check_choice
from tevia_hf.prompts import BRAIN, BREAST, NUCLEI, QATA, ReportLanguage


class Source(NamedTuple):
    """How a data set is loaded: listed from a folder, or made in memory.

    Options that `load_segmentation_dataset` does not know are passed on to the function.
    """

    list_examples: Callable[..., Listing] | None = None  # `(data_dir)` -> examples of all splits
    language: ReportLanguage | None = None  # of its texts; used by augmentation, text conditions, prompts, agreement
    make: Callable[..., datasets.Dataset] | None = None  # `(split)` -> data set with the columns of `FEATURES`


SOURCES: dict[str, Source] = {
    "synthetic": Source(language=QATA, make=synthetic_dataset),
    "qata": Source(list_qata, QATA),
    "mosmed": Source(list_mosmed, QATA),
    "monuseg": Source(list_monuseg, NUCLEI),
    "breast": Source(list_breast, BREAST),
    "brain": Source(list_brain, BRAIN),
    "folder": Source(list_folder),
}


def register_dataset(
    name: str,
    list_examples: Callable[..., Listing] | None = None,
    language: ReportLanguage | None = None,
    *,
    make: Callable[..., datasets.Dataset] | None = None,
    exist_ok: bool = False,
) -> None:
    """Adds a data set, whose name recipes, `load_segmentation_dataset` and the subcommands of `tevia` then accept.

    Args:
        name: its name.
        list_examples: `(data_dir)` -> a `Listing` of the examples of all splits, for a data set on disk.
        language: report language of its texts, used by augmentation, text conditions and `tevia prompts`.
        make: `(split)` -> a `datasets.Dataset` with the columns image, mask, text, id, group and spacing_mm, instead of
            `list_examples`.
        exist_ok: replace an existing data set of this name.

    Raises `ValueError` for a blank, reserved or existing name, and unless exactly one function is given.
    """
    if name == UNKNOWN or not name.strip():
        raise ValueError(f"'{name}' cannot name a data set: give a word such as 'clinic'.")
    if name in SOURCES and not exist_ok:
        raise ValueError(
            f"There is already a data set '{name}': choose another name, or pass exist_ok=True to replace it."
        )
    if (list_examples is None) == (make is None):
        raise ValueError(f"Give either `list_examples`, to read '{name}' from a folder, or `make`.")
    SOURCES[name] = Source(list_examples, language, make)


def names_on_disk() -> list[str]:
    """Names of the data sets that are read from a folder."""
    return [name for name, source in SOURCES.items() if source.list_examples is not None]


def load_segmentation_dataset(
    name: str, data_dir: str | Path | None = None, split: str = "train", on_error: OnError = "raise", **options: Any
) -> datasets.Dataset:
    """A data set with the columns image, mask, text, id, group and spacing_mm, and a record of its origin.

    Args:
        name: A name of `SOURCES`: "synthetic" (made in memory), "qata", "mosmed", "monuseg", "breast", "brain",
            "folder", or a registered one.
        data_dir: The data set's folder; not for "synthetic".
        split: "train", "val" or "test".
        on_error: "skip" keeps rows whose image or mask is missing, so that reading can skip them, and warns about files
            without a row.
        options: For data sets on disk `text_table` (texts in place of its own), `group_split` and `split_seed` (a split
            by patient), `window`, and `slices` of volumes ("all", "lesion", or n for every n-th); for "synthetic"
            `size`, `count`, `seed` and `counterpart`.

    Raises `ValueError` for an unknown name or split, a missing or unexpected data_dir or option, and the errors of the
    source.
    """
    check_choice("name", name, SOURCES)
    check_choice("split", split, SPLITS)
    chosen, own = split_options(options)
    values, defaults = chosen.source_options(), SourceOptions().source_options()
    make, language = SOURCES[name].make, SOURCES[name].language
    if make is None:
        listing = list_examples(name, data_dir, **options)
        dataset, language = listing.dataset(split, on_error), listing.language or language
    else:
        if data_dir is not None:
            raise ValueError(f"data_dir is '{data_dir}', but '{name}' is made in memory. Leave data_dir out.")
        if unsupported := ", ".join(option for option, value in values.items() if value != defaults.get(option)):
            raise ValueError(f"The data set '{name}' takes no {unsupported}: leave {unsupported} out.")
        dataset = make(split, **own)
        if missing := set(FEATURES) - set(dataset.column_names):
            raise ValueError(f"'{name}' was made without the columns {', '.join(sorted(missing))}: add them.")
    dataset = with_origin(dataset, name, data_dir, split, values, own)
    return dataset if language is None else with_language(dataset, language)


def list_examples(name: str, data_dir: str | Path | None, **options: Any) -> Listing:
    """The examples of all splits of a data set on disk, and their problems; no image is opened.

    Args:
        options: Those of `SourceOptions`: `text_table`, a table with the columns `Image` and `Description` whose texts
            replace those of the data set; `group_split` and `split_seed`, to split it so that no group is in two splits
            (by default the published splits, or 0.7, 0.1, 0.2 for a set without splits); `window`, (centre, width) of
            DICOM and NIfTI files, in place of their own; `slices` of NIfTI volumes with label volumes: "all", "lesion"
            for those with a label, or n for every n-th. Options of the source are accepted too.

    Raises `ValueError` for an unknown name or a missing data_dir, and the errors of the source.
    """
    check_choice("name", name, names_on_disk())
    if data_dir is None:
        raise ValueError(f"'{name}' is read from disk. Pass data_dir, the folder that holds it.")
    chosen, own = split_options(options)
    return chosen.applied_to(cast(Callable[..., Listing], SOURCES[name].list_examples)(data_dir, **own))


def rows_of_all_splits(name: str, data_dir: str | Path | None, **options: Any) -> Iterator[dict[str, Any]]:
    """The rows of all splits of a data set on disk, without opening files; none for a set made in memory."""
    if SOURCES[name].list_examples is not None:
        yield from (example.row() for example in list_examples(name, data_dir, **options).examples if example.masks)


def split_options(options: Mapping[str, Any]) -> tuple[SourceOptions, dict[str, Any]]:
    """Options common to all data sets on disk, and options of the source."""
    own = {name: value for name, value in options.items() if name not in SOURCE_OPTIONS}
    return SourceOptions(**{name: value for name, value in options.items() if name not in own}), own
