"""Data sets by name."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import datasets

from tevia_hf.data.brain import list_brain
from tevia_hf.data.breast import list_breast
from tevia_hf.data.features import SPLITS, check_choice
from tevia_hf.data.folder import list_folder
from tevia_hf.data.listing import Listing
from tevia_hf.data.monuseg import list_monuseg
from tevia_hf.data.mosmed import list_mosmed
from tevia_hf.data.qata import list_qata
from tevia_hf.data.splits import DEFAULT_FRACTIONS, resplit
from tevia_hf.data.synthetic import synthetic_dataset
from tevia_hf.data.tables import sentences_for


class Source(NamedTuple):
    """How a data set on disk is listed, and the grammar (of `prompts.GRAMMARS`) that its sentences follow."""

    list_examples: Callable[[str | Path], Listing]
    grammar: str | None


ON_DISK = {
    "qata": Source(list_qata, "qata"),
    "mosmed": Source(list_mosmed, "qata"),
    "monuseg": Source(list_monuseg, "nuclei"),
    "breast": Source(list_breast, "breast"),
    "brain": Source(list_brain, "brain"),
    "folder": Source(list_folder, None),
}
NAMES = ("synthetic", *ON_DISK)


def load_segmentation_dataset(
    name: str, data_dir: str | Path | None = None, split: str = "train", **options: Any
) -> datasets.Dataset:
    """A data set with the columns image, mask, text, id, group and spacing_mm.

    Args:
        name: "synthetic" (made in memory), "qata", "mosmed", "monuseg", "breast", "brain" or "folder".
        data_dir: The data set's folder; "synthetic" has none.
        split: "train", "val" or "test".
        options: For data sets on disk `group_split`, `split_seed`, `sentences` and `window` of `list_examples`; for
            "synthetic" its own, such as `size`, `count`, `seed` and `counterpart`.

    Raises:
        ValueError: Unknown name or split, or a data_dir that is missing or not wanted; and what the source raises.
    """
    check_choice("name", name, NAMES)
    check_choice("split", split, SPLITS)
    if name == "synthetic":
        if data_dir is not None:
            raise ValueError(f"data_dir is '{data_dir}', but 'synthetic' is made in memory. Leave data_dir out.")
        return synthetic_dataset(split=split, **options)
    return list_examples(name, data_dir, **options).dataset(split)


def list_examples(
    name: str,
    data_dir: str | Path | None,
    group_split: Sequence[float] | None = None,
    split_seed: int = 0,
    sentences: str | Path | None = None,
    window: tuple[float, float] | None = None,
) -> Listing:
    """The examples of all splits of a data set on disk, and what is wrong with them; no image is opened.

    Args:
        name: A name of `ON_DISK`.
        data_dir: The data set's folder.
        group_split: Shares of train, val and test to divide the set anew, no group on two sides; by default the splits
            are the published ones, and 0.7, 0.1, 0.2 for a set that has none.
        split_seed: Draws the groups of each split.
        sentences: A table with the columns `Image` and `Description`, whose sentences take the place of the set's own.
        window: (centre, width) that DICOM and NIfTI files are seen through, in place of their own.

    Raises:
        ValueError: Unknown name, no data_dir; and what the source raises.
    """
    check_choice("name", name, ON_DISK)
    if data_dir is None:
        raise ValueError(f"'{name}' is read from disk. Pass data_dir, the folder that holds it.")
    listing = ON_DISK[name].list_examples(data_dir)
    if sentences is not None:
        listing = listing.with_sentences(sentences_for(sentences, [example.id for example in listing.examples]))
    if group_split or not listing.splits:
        listing = resplit(listing, group_split or DEFAULT_FRACTIONS, split_seed)
    return listing if window is None else listing.with_window(window)
