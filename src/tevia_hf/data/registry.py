"""Data sets by name: `SOURCES` declares each once, `register_dataset` adds one's own."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import datasets

from tevia_hf.data.brain import list_brain
from tevia_hf.data.breast import list_breast
from tevia_hf.data.features import SPLITS, check_choice
from tevia_hf.data.folder import list_folder
from tevia_hf.data.listing import Listing, merge
from tevia_hf.data.monuseg import list_monuseg
from tevia_hf.data.mosmed import list_mosmed
from tevia_hf.data.origin import with_origin
from tevia_hf.data.qata import list_qata
from tevia_hf.data.splits import DEFAULT_FRACTIONS, resplit
from tevia_hf.data.synthetic import list_synthetic
from tevia_hf.data.tables import sentences_for
from tevia_hf.io import with_window
from tevia_hf.prompts import Grammar


class Source(NamedTuple):
    """How a data set's examples are found.

    Args:
        list_examples: `(data_dir) -> Listing` of all splits; of a set that is made in memory, `(split) -> Listing`.
            Options that `load_segmentation_dataset` does not know are handed on to it.
        grammar: that its texts follow: a name of `prompts.GRAMMARS`, or a `Grammar`.
        in_memory: made without a folder, a split at a time.
    """

    list_examples: Callable[..., Listing]
    grammar: str | Grammar | None = None
    in_memory: bool = False

    def listing(self, name: str, data_dir: str | Path | None, splits: Sequence[str], **options: Any) -> Listing:
        """The examples of these splits, and of others where the folder holds them.

        Raises `ValueError` for a data_dir that is missing or not wanted.
        """
        if self.in_memory and data_dir is not None:
            raise ValueError(f"data_dir is '{data_dir}', but '{name}' is made in memory. Leave data_dir out.")
        if self.in_memory:
            return merge(name, [self.list_examples(split, **options) for split in splits])
        if data_dir is None:
            raise ValueError(f"'{name}' is read from disk. Pass data_dir, the folder that holds it.")
        return self.list_examples(data_dir, **options)


SOURCES: dict[str, Source] = {
    "synthetic": Source(list_synthetic, "qata", in_memory=True),
    "qata": Source(list_qata, "qata"),
    "mosmed": Source(list_mosmed, "qata"),
    "monuseg": Source(list_monuseg, "nuclei"),
    "breast": Source(list_breast, "breast"),
    "brain": Source(list_brain, "brain"),
    "folder": Source(list_folder),
}


def register_dataset(
    name: str,
    list_examples: Callable[..., Listing],
    grammar: str | Grammar | None = None,
    *,
    in_memory: bool = False,
    exist_ok: bool = False,
) -> None:
    """Adds a data set: recipes, `load_segmentation_dataset` and the subcommands of `tevia` then take its name.

    Args:
        list_examples, grammar, in_memory: as of `Source`.
        exist_ok: replace a data set of this name.

    Raises `ValueError` for a name that is taken.
    """
    if name in SOURCES and not exist_ok:
        raise ValueError(f"There is a data set '{name}': choose another name, or pass exist_ok=True to replace it.")
    SOURCES[name] = Source(list_examples, grammar, in_memory)


def load_segmentation_dataset(
    name: str, data_dir: str | Path | None = None, split: str = "train", **options: Any
) -> datasets.Dataset:
    """A data set with the columns image, mask, text, id, group and spacing_mm; a report on it says that it is this.

    Args:
        name: A name of `SOURCES`: "synthetic" (made in memory), "qata", "mosmed", "monuseg", "breast", "brain",
            "folder", or one's own.
        data_dir: The data set's folder; "synthetic" has none.
        split: "train", "val" or "test".
        options: `group_split`, `split_seed`, `sentences` and `window` of `list_examples`; and the source's own, for
            "synthetic" `size`, `count`, `seed` and `counterpart`.

    Raises:
        ValueError: Unknown name or split, or a data_dir that is missing or not wanted; and what the source raises.
    """
    check_choice("name", name, SOURCES)
    check_choice("split", split, SPLITS)
    is_drawn_from_all = options.get("group_split") is not None or options.get("sentences") is not None
    listing = list_examples(name, data_dir, splits=SPLITS if is_drawn_from_all else (split,), **options)
    return with_origin(listing.dataset(split), name, data_dir, split, options)


def list_examples(
    name: str,
    data_dir: str | Path | None = None,
    group_split: Sequence[float] | None = None,
    split_seed: int = 0,
    sentences: str | Path | None = None,
    window: tuple[float, float] | None = None,
    splits: Sequence[str] = SPLITS,
    **options: Any,
) -> Listing:
    """The examples of all splits of a data set, and what is wrong with them; no image is opened.

    Args:
        name: A name of `SOURCES`.
        data_dir: The data set's folder.
        group_split: Shares of train, val and test to divide the set anew, no group on two sides; by default the splits
            are the published ones, and 0.7, 0.1, 0.2 for a set that has none.
        split_seed: Draws the groups of each split.
        sentences: A table with the columns `Image` and `Description`, whose texts take the place of the set's own.
        window: (centre, width) that DICOM and NIfTI files are seen through, in place of their own.
        splits: Those to make of a set that is made in memory.
        options: The source's own.

    Raises:
        ValueError: Unknown name, a data_dir that is missing or not wanted; and what the source raises.
    """
    check_choice("name", name, SOURCES)
    listing = SOURCES[name].listing(name, data_dir, splits, **options)
    if sentences is not None:
        listing = listing.with_sentences(sentences_for(sentences, [row["id"] for row in listing.rows]))
    if group_split or all(row["split"] is None for row in listing.rows):
        listing = resplit(listing, group_split or DEFAULT_FRACTIONS, split_seed)
    if window is not None and SOURCES[name].in_memory:
        raise ValueError(f"The data set '{name}' takes no window, which is for DICOM and NIfTI files: leave it out.")
    if window is not None:
        for row in listing.rows:
            row["image"] = row["image"] and with_window(row["image"], window)
    return listing
