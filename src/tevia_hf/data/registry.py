"""Data sets by name: `SOURCES` declares each once, `register_dataset` adds one's own."""

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple, cast

import datasets

from tevia_hf.data.brain import list_brain
from tevia_hf.data.breast import list_breast
from tevia_hf.data.features import FEATURES, SPLITS, check_choice
from tevia_hf.data.folder import list_folder
from tevia_hf.data.listing import Listing, OnError
from tevia_hf.data.lvit import list_monuseg, list_mosmed
from tevia_hf.data.options import SOURCE_OPTIONS, SourceOptions
from tevia_hf.data.origin import UNKNOWN, with_language, with_origin
from tevia_hf.data.qata import list_qata
from tevia_hf.data.synthetic import synthetic_dataset
from tevia_hf.prompts import BRAIN, BREAST, NUCLEI, QATA, ReportLanguage


class Source(NamedTuple):
    """How a data set is had: listed from a folder, or made in memory.

    Options that `load_segmentation_dataset` does not know are handed on to either function.
    """

    list_examples: Callable[..., Listing] | None = None  # `(data_dir)`, of all splits
    language: ReportLanguage | None = None  # of its texts: augmentation, text conditions, prompts and agreement ask it
    make: Callable[..., datasets.Dataset] | None = None  # `(split)`, with the columns of `FEATURES`


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
    """Adds a data set: recipes, `load_segmentation_dataset` and the subcommands of `tevia` then take its name.

    Args:
        list_examples, language, make: as of `Source`; one of the two functions.
        exist_ok: replace a data set of this name.

    Raises `ValueError` for a name that is taken or says something else, and for both functions or none.
    """
    if name == UNKNOWN or not name.strip():
        raise ValueError(f"'{name}' cannot name a data set: give a word such as 'clinic'.")
    if name in SOURCES and not exist_ok:
        raise ValueError(f"There is a data set '{name}': choose another name, or pass exist_ok=True to replace it.")
    if (list_examples is None) == (make is None):
        raise ValueError(f"Give `list_examples` for '{name}' to be read from a folder, or `make`, one of the two.")
    SOURCES[name] = Source(list_examples, language, make)


def names_on_disk() -> list[str]:
    """Data sets that are read from a folder, so that their files can be checked."""
    return [name for name, source in SOURCES.items() if source.list_examples is not None]


def load_segmentation_dataset(
    name: str, data_dir: str | Path | None = None, split: str = "train", on_error: OnError = "raise", **options: Any
) -> datasets.Dataset:
    """A data set with the columns image, mask, text, id, group and spacing_mm; a report on it says which it is.

    Args:
        name: A name of `SOURCES`: "synthetic" (made in memory), "qata", "mosmed", "monuseg", "breast", "brain",
            "folder", or a registered one.
        data_dir: The data set's folder; "synthetic" has none.
        split: "train", "val" or "test".
        on_error: "skip" keeps rows whose image or mask is missing, for reading to skip them, and warns of files without
            a row.
        options: For data sets on disk those of `list_examples`; for "synthetic" `size`, `count`, `seed`, `counterpart`.

    Raises `ValueError` for an unknown name or split, a data_dir or option that is missing or not wanted; and as the
    source does.
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
        if foreign := ", ".join(option for option, value in values.items() if value != defaults.get(option)):
            raise ValueError(f"The data set '{name}' takes no {foreign}: leave {foreign} out.")
        dataset = make(split, **own)
        if missing := set(FEATURES) - set(dataset.column_names):
            raise ValueError(f"'{name}' was made without the columns {', '.join(sorted(missing))}: add them.")
    dataset = with_origin(dataset, name, data_dir, split, values, own)
    return dataset if language is None else with_language(dataset, language)


def list_examples(name: str, data_dir: str | Path | None, **options: Any) -> Listing:
    """The examples of all splits of a data set on disk, and what is wrong with them; no image is opened.

    Args:
        options: Those of `SourceOptions`: `text_table`, a table with the columns `Image` and `Description` whose texts
            take the place of the set's own; `group_split` and `split_seed`, to divide it anew, no group on two sides
            (by default the splits are the published ones, and 0.7, 0.1, 0.2 for a set that has none); `window`,
            (centre, width) that DICOM and NIfTI files are seen through, in place of their own. And the source's own.

    Raises `ValueError` for an unknown name and no data_dir, and as the source does.
    """
    check_choice("name", name, names_on_disk())
    if data_dir is None:
        raise ValueError(f"'{name}' is read from disk. Pass data_dir, the folder that holds it.")
    chosen, own = split_options(options)
    return chosen.applied_to(cast(Callable[..., Listing], SOURCES[name].list_examples)(data_dir, **own))


def rows_of_all_splits(name: str, data_dir: str | Path | None, **options: Any) -> Iterator[dict[str, Any]]:
    """The rows of every split of a set on disk, whose files are not opened; none of a set that is made in memory."""
    if SOURCES[name].list_examples is not None:
        yield from (example.row() for example in list_examples(name, data_dir, **options).examples if example.masks)


def split_options(options: Mapping[str, Any]) -> tuple[SourceOptions, dict[str, Any]]:
    """Those that every data set on disk has, and a source's own."""
    own = {name: value for name, value in options.items() if name not in SOURCE_OPTIONS}
    return SourceOptions(**{name: value for name, value in options.items() if name not in own}), own
