"""Image and mask folders with a table of sentences, in the shapes in use.

LViT:     {Train,Val,Test}_Folder/{img,labelcol}/   and {Train,Val,Test}_text.xlsx inside or beside that folder
TeViA:    {Train,Val,Test}/{Images,GTs}/            and prompt/{train,val,test}.csv
Kaggle:   {Train,Val,Test} Set/{Images,Ground-truths}/   and a table in any of the places above
packages: {train,val,test}_{images,masks}/          and a table in any of the places above
plain:    images/, masks/                           and one table; its column `split` says train, val or test

Tables are CSV or xlsx with the columns `Image` (the mask's file name, as published, or the image's) and `Description`;
they may have `group`, such as the patient, to whom several images belong, and in the plain shape `split`.
Where there is no folder of its own for val, its files are looked for in the train folder, as in the TeViA shape.
"""

from collections.abc import Callable
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import NamedTuple

import pandas as pd

from tevia_hf.data.example import Example
from tevia_hf.data.features import SPLITS
from tevia_hf.data.listing import Listing, Problem, absolute, merge
from tevia_hf.data.pairing import Pairs, add_file_findings, example_of, examples_of_files, pair_files, unused_files
from tevia_hf.data.tables import OTHER_TABLE_SUFFIXES, TABLE_SUFFIXES, language_beside, open_table, unread_columns
from tevia_hf.io import is_image_file
from tevia_hf.io.address import is_clutter

ANY = "any"
# Images and masks of each shape, and where a table may be; `{title}` stands for Train, `{split}` for train.
SHAPES = (
    ("{title}_Folder/img", "{title}_Folder/labelcol"),
    ("{title}/Images", "{title}/GTs"),
    ("{title} Set/Images", "{title} Set/Ground-truths"),
    ("{split}_images", "{split}_masks"),
)
_TABLE_PLACES = ("{folder}/{title}_text", "{title}_text", "prompt/{split}", "{split}")


class SplitFiles(NamedTuple):
    """Folders of one split, its table, and the places where a table may be."""

    split: str  # `ANY` in the plain shape, where a column of the table tells; without it all rows are "train"
    images: Path
    masks: Path
    table: Path | None
    places: list[Path]


def list_folder(
    data_dir: str | Path,
    group_of: Callable[[str], str] | None = None,
    finding_of: Callable[[str], str | None] = lambda name: None,
    needs_texts: bool = True,
) -> Listing:
    """The examples of all splits of a folder in one of the shapes above; no image is opened.

    Image, mask and row belong together by name, whatever the suffix, and whether or not the name begins in "mask_" or
    ends in "_mask" or "_mask_1"; that name is the example's id. Another beginning or ending that all masks, or all
    images, add to it ("_segmentation", nnU-Net's "_0000") is found, left out and named in a warning. Several masks of
    one image are joined when they are read. A row with an empty Description is an example without text.

    Args:
        group_of: Gives an id's group, such as the patient; by default the table's column `group` says it, or else each
            picture, or volume with all its slices, is its own.
        finding_of: Gives an id's class, where the name tells.
        needs_texts: Whether a missing table is a problem.

    Raises `ValueError` for no such folder, or none of the shapes. Other faults are the listing's problems.
    """
    root = absolute(data_dir)
    shared = [_list_shared(group, needs_texts, group_of is not None) for group in find_splits(root)]
    listing = merge(str(root), shared)
    listing.problems += _half_splits(root)
    listing.examples = [
        replace(example, finding=finding_of(example.id), group=group_of(example.id) if group_of else example.group)
        for example in listing.examples
    ]
    return listing


def list_mixed(folder: Path, finding: str | None, group: str | None = None) -> Listing:
    """The examples of a folder that holds images and masks, which are known by their names."""
    pairs = pair_files(folder, folder, SPLITS)
    examples = [replace(example, finding=finding, group=group or example.group) for example in examples_of_files(pairs)]
    return add_file_findings(Listing(str(folder), examples), pairs)


def find_splits(root: Path) -> list[list[SplitFiles]]:
    """The splits in the first shape that fits; those that share a folder of images in one list.

    Raises ValueError that says which shapes are known and what is there.
    """
    for shape in SHAPES:
        shared: dict[Path, list[SplitFiles]] = {}
        for files in filter(None, (_find_split(root, shape, split) for split in SPLITS)):
            shared.setdefault(files.images, []).append(files)
        if shared:
            return list(shared.values())
    if (root / "images").is_dir() and (root / "masks").is_dir():
        return [[_find_plain(root)]]
    known = "; ".join([*(" + ".join(shape).format(title="Train", split="train") for shape in SHAPES), "images + masks"])
    there = sorted(path.name for path in root.iterdir() if not is_clutter(path))
    raise ValueError(
        f"{root}: no images in a shape that is known. Known shapes: {known}. Found: {there[:20]}. "
        "Give the folder that holds one of these as data_dir."
    )


def _half_splits(root: Path) -> list[Problem]:
    """Splits with a folder of images but none of masks, or the other way round."""
    problems = []
    for split, shape in product(SPLITS, SHAPES):
        parts = [root / part.format(title=split.title(), split=split) for part in shape]
        there, missing = ([path for path in parts if path.is_dir() is found] for found in (True, False))
        if there and missing:
            text = f"{there[0]} is there, but not {missing[0]}: add that folder, or move the other away"
            problems.append(Problem(text, (split,)))
    return problems


def _find_split(root: Path, shape: tuple[str, str], split: str) -> SplitFiles | None:
    for title in (split.title(), "Train") if split == "val" else (split.title(),):
        images, masks = (root / part.format(title=title, split=title.lower()) for part in shape)
        if images.is_dir() and masks.is_dir():
            words = {"folder": images.parent.relative_to(root), "title": split.title(), "split": split}
            places = [root / (place.format(**words) + end) for place, end in product(_TABLE_PLACES, TABLE_SUFFIXES)]
            table = next(filter(None, map(_whatever_capitals, places)), None)
            is_lent = split == "val" and title == "Train"  # the train folder has a val part only if a table says so
            return None if is_lent and table is None else SplitFiles(split, images, masks, table, places)
    return None


def _whatever_capitals(place: Path) -> Path | None:
    """The file of this name, its suffix in capitals or not."""
    alike = (path for path in place.parent.glob("*") if path.stem == place.stem and path.suffix.lower() == place.suffix)
    return place if place.is_file() else next(alike, None)


def _find_plain(root: Path) -> SplitFiles:
    tables = sorted(filter(_is_table, root.iterdir()))
    if len(tables) > 1:
        names = [path.name for path in tables]
        raise ValueError(f"{root}: one CSV or xlsx beside images/ and masks/ is expected, found {names}. Leave one.")
    places = [root / f"table{suffix}" for suffix in TABLE_SUFFIXES]
    return SplitFiles(ANY, root / "images", root / "masks", tables[0] if tables else None, places)


def _list_shared(group: list[SplitFiles], needs_texts: bool, knows_groups: bool) -> Listing:
    """The examples of splits that share a folder of images."""
    splits = SPLITS if group[0].split == ANY else tuple(files.split for files in group)
    pairs = pair_files(group[0].images, group[0].masks, splits)
    listing = Listing(str(group[0].images))
    tables = []
    for files in group:
        try:
            path = _table_path(files)
            (table, notes), language = open_table(path), language_beside(path)
        except ValueError as error:
            of = SPLITS if files.split == ANY else (files.split,)
            listing.problems += [Problem(str(error), of, concerns_texts=True)] if needs_texts else []
            continue
        wanted = [*([] if knows_groups else ["group"]), *(["split"] if files.split == ANY else [])]
        tables.append(table)
        listing.language = listing.language or language
        listing.warnings += [*notes, *(f"{path}: {text}" for text in unread_columns(table, wanted))]
        _add_rows(listing, table, pairs, files)
    listing.problems += _shown_twice(listing.examples)
    if not tables:  # the files speak for themselves
        listing.examples = [replace(example, split=splits[0]) for example in examples_of_files(pairs)]
    elif len(tables) == len(group):
        unused = unused_files(pairs, [name for table in tables for name in table["Image"]])
        listing.problems += [Problem(f"file '{path}' has no row", splits, can_be_skipped=True) for path in unused]
    return add_file_findings(listing, pairs)


def _add_rows(listing: Listing, table: pd.DataFrame, pairs: Pairs, files: SplitFiles) -> None:
    """Adds an example a row; a problem where its column `split` is empty, as others are not, or denies its folder."""
    knows_splits = "split" in table.columns and any(table["split"])
    for row in table.to_dict("records"):
        found, split, place = example_of(row["Image"], pairs), row.get("split"), f"{files.table}: row '{row['Image']}'"
        if files.split == ANY and knows_splits and not split:
            listing.problems.append(Problem(f"{place} has no split"))
        elif files.split != ANY and split not in (None, files.split):
            text = f"{place} says split '{split}', but lies in the folder of '{files.split}'"
            listing.problems.append(Problem(text))
        if files.split != ANY:
            split = files.split
        elif "split" not in table.columns:
            split = "train"
        group = row.get("group") or found.group
        listing.examples.append(replace(found, text=row["Description"], split=split, group=group))


def _table_path(files: SplitFiles) -> Path:
    """The table of a split. Raises `ValueError` without one, with the places where it may be."""
    if files.table is not None:
        return files.table
    places = ", ".join(map(str, files.places))
    names = sorted(path.name for path in files.images.iterdir() if is_image_file(path) and not is_clutter(path))
    row = f", with a row for each image, such as '{names[0]}'" if names else ""
    others = sorted(path for path in files.places[0].parent.iterdir() if _is_table(path, OTHER_TABLE_SUFFIXES))
    unread = "".join(f"; {path} is not read: save it as UTF-8 CSV or xlsx" for path in others)
    raise ValueError(
        f"no table of sentences for the split '{files.split}'. Put one of these there: {places}{row}{unread}"
    )


def _is_table(path: Path, suffixes: tuple[str, ...] = TABLE_SUFFIXES) -> bool:
    return path.suffix.lower() in suffixes and not is_clutter(path)


def _shown_twice(examples: list[Example]) -> list[Problem]:
    """Examples in the tables of several splits, where these share a folder."""
    splits_of: dict[str, set[str]] = {}
    for example in examples:
        splits_of.setdefault(example.id, set()).add(str(example.split))
    return [
        Problem(f"'{name}' is in several splits: {', '.join(sorted(splits))}. Leave its row in one", tuple(splits))
        for name, splits in splits_of.items()
        if len(splits) > 1
    ]
