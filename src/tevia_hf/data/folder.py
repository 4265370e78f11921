"""Image and mask folders with a table of texts, in the common layouts.

LViT:     {Train,Val,Test}_Folder/{img,labelcol}/   and {Train,Val,Test}_text.xlsx inside or beside that folder
TeViA:    {Train,Val,Test}/{Images,GTs}/            and prompt/{train,val,test}.csv
Kaggle:   {Train,Val,Test} Set/{Images,Ground-truths}/   and a table at any of the paths above
packages: {train,val,test}_{images,masks}/          and a table at any of the paths above
plain:    images/, masks/                           and one table; its column `split` is train, val or test

Tables are CSV or xlsx with the columns `Image` (the mask's file name, as published, or the image's) and `Description`;
optional columns are `group`, such as the patient of several images, and in the plain layout `split`.
If val has no folder of its own, its files are taken from the train folder, as in the TeViA layout.
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
# Images and masks of each layout; `{title}` stands for Train, `{split}` for train.
LAYOUTS = (
    ("{title}_Folder/img", "{title}_Folder/labelcol"),
    ("{title}/Images", "{title}/GTs"),
    ("{title} Set/Images", "{title} Set/Ground-truths"),
    ("{split}_images", "{split}_masks"),
)
_TABLE_PATHS = ("{folder}/{title}_text", "{title}_text", "prompt/{split}", "{split}")


class SplitFiles(NamedTuple):
    """Folders of one split, its table, and the paths where a table may be."""

    split: str  # `ANY` in the plain layout, where the table's column `split` decides; without it all rows are "train"
    images: Path
    masks: Path
    table: Path | None
    table_paths: list[Path]


def list_folder(
    data_dir: str | Path,
    group_of: Callable[[str], str] | None = None,
    finding_of: Callable[[str], str | None] = lambda name: None,
    needs_texts: bool = True,
) -> Listing:
    """The examples of all splits of a folder in one of the layouts above; no image is opened.

    Image, mask and table row are matched by name: without the file suffix, a leading "mask_" and a trailing "_mask" or
    "_mask_1". That name is the example's id. Another prefix or suffix of all masks, or of all images ("_segmentation",
    nnU-Net's "_0000"), is detected, stripped and named in a warning. Several masks of one image are joined when they
    are read. A row with an empty Description is an example without text.

    Args:
        group_of: Returns the group of an id, such as the patient. By default the group is the table's column `group`,
            or else each image, or volume with all its slices, is a group.
        finding_of: Returns the class of an id, or None if the name has none.
        needs_texts: Whether a missing table is a problem.

    Raises `ValueError` if the folder does not exist or has none of the layouts. Other faults become problems of the
    listing.
    """
    root = absolute(data_dir)
    shared = [_list_shared(group, needs_texts, group_of is not None) for group in find_splits(root)]
    listing = merge(str(root), shared)
    listing.problems += _incomplete_splits(root)
    listing.examples = [
        replace(example, finding=finding_of(example.id), group=group_of(example.id) if group_of else example.group)
        for example in listing.examples
    ]
    return listing


def list_mixed(folder: Path, finding: str | None, group: str | None = None) -> Listing:
    """The examples of a folder that holds both images and masks, told apart by their names."""
    pairs = pair_files(folder, folder, SPLITS)
    examples = [replace(example, finding=finding, group=group or example.group) for example in examples_of_files(pairs)]
    return add_file_findings(Listing(str(folder), examples), pairs)


def find_splits(root: Path) -> list[list[SplitFiles]]:
    """The splits in the first layout that fits; splits that share an image folder are in one list.

    Raises `ValueError` that lists the known layouts and the content of the folder if none fits.
    """
    for layout in LAYOUTS:
        shared: dict[Path, list[SplitFiles]] = {}
        for files in filter(None, (_find_split(root, layout, split) for split in SPLITS)):
            shared.setdefault(files.images, []).append(files)
        if shared:
            return list(shared.values())
    if (root / "images").is_dir() and (root / "masks").is_dir():
        return [[_find_plain(root)]]
    known = "; ".join(
        [*(" + ".join(layout).format(title="Train", split="train") for layout in LAYOUTS), "images + masks"]
    )
    names = sorted(path.name for path in root.iterdir() if not is_clutter(path))
    raise ValueError(
        f"{root}: no images in a known layout. Known layouts: {known}. Found: {names[:20]}. "
        "Give the folder that holds one of these as data_dir."
    )


def _incomplete_splits(root: Path) -> list[Problem]:
    """Problems of splits with an image folder but no mask folder, or the reverse."""
    problems = []
    for split, layout in product(SPLITS, LAYOUTS):
        parts = [root / part.format(title=split.title(), split=split) for part in layout]
        present, missing = ([path for path in parts if path.is_dir() is exists] for exists in (True, False))
        if present and missing:
            text = f"{present[0]} exists, but not {missing[0]}: add that folder, or move the other away"
            problems.append(Problem(text, (split,)))
    return problems


def _find_split(root: Path, layout: tuple[str, str], split: str) -> SplitFiles | None:
    for title in (split.title(), "Train") if split == "val" else (split.title(),):
        images, masks = (root / part.format(title=title, split=title.lower()) for part in layout)
        if images.is_dir() and masks.is_dir():
            names = {"folder": images.parent.relative_to(root), "title": split.title(), "split": split}
            paths = [root / (path.format(**names) + end) for path, end in product(_TABLE_PATHS, TABLE_SUFFIXES)]
            table = next(filter(None, map(_ignoring_case, paths)), None)
            is_shared = split == "val" and title == "Train"  # only a table shows which train files belong to val
            return None if is_shared and table is None else SplitFiles(split, images, masks, table, paths)
    return None


def _ignoring_case(path: Path) -> Path | None:
    """The file at this path, where the suffix may be in upper case; None without one."""
    similar = (other for other in path.parent.glob("*") if other.stem == path.stem)
    return path if path.is_file() else next((other for other in similar if other.suffix.lower() == path.suffix), None)


def _find_plain(root: Path) -> SplitFiles:
    tables = sorted(filter(_is_table, root.iterdir()))
    if len(tables) > 1:
        names = [path.name for path in tables]
        raise ValueError(f"{root}: expected one CSV or xlsx beside images/ and masks/, found {names}. Keep one.")
    paths = [root / f"table{suffix}" for suffix in TABLE_SUFFIXES]
    return SplitFiles(ANY, root / "images", root / "masks", tables[0] if tables else None, paths)


def _list_shared(group: list[SplitFiles], needs_texts: bool, knows_groups: bool) -> Listing:
    """The examples of splits that share an image folder."""
    splits = SPLITS if group[0].split == ANY else tuple(files.split for files in group)
    pairs = pair_files(group[0].images, group[0].masks, splits)
    listing = Listing(str(group[0].images))
    tables = []
    for files in group:
        try:
            path = _table_path(files)
            (table, notes), language = open_table(path), language_beside(path)
        except ValueError as error:
            affected = SPLITS if files.split == ANY else (files.split,)
            listing.problems += [Problem(str(error), affected, concerns_texts=True)] if needs_texts else []
            continue
        optional = [*([] if knows_groups else ["group"]), *(["split"] if files.split == ANY else [])]
        tables.append(table)
        listing.language = listing.language or language
        listing.warnings += [*notes, *(f"{path}: {text}" for text in unread_columns(table, optional))]
        _add_rows(listing, table, pairs, files)
    listing.problems += _in_several_splits(listing.examples)
    if not tables:
        listing.examples = [replace(example, split=splits[0]) for example in examples_of_files(pairs)]
    elif len(tables) == len(group):
        unused = unused_files(pairs, [name for table in tables for name in table["Image"]])
        listing.problems += [Problem(f"file '{path}' has no row", splits, can_be_skipped=True) for path in unused]
    return add_file_findings(listing, pairs)


def _add_rows(listing: Listing, table: pd.DataFrame, pairs: Pairs, files: SplitFiles) -> None:
    """Adds one example per row, and a problem if its `split` is missing or contradicts the folder."""
    has_splits = "split" in table.columns and any(table["split"])
    for row in table.to_dict("records"):
        example, split = example_of(row["Image"], pairs), row.get("split")
        place = f"{files.table}: row '{row['Image']}'"
        if files.split == ANY and has_splits and not split:
            listing.problems.append(Problem(f"{place} has no split"))
        elif files.split != ANY and split not in (None, files.split):
            text = f"{place} has the split '{split}', but is in the folder of '{files.split}'"
            listing.problems.append(Problem(text))
        if files.split != ANY:
            split = files.split
        elif "split" not in table.columns:
            split = "train"
        group = row.get("group") or example.group
        listing.examples.append(replace(example, text=row["Description"], split=split, group=group))


def _table_path(files: SplitFiles) -> Path:
    """The table of a split. Raises `ValueError` that lists the possible paths if there is none."""
    if files.table is not None:
        return files.table
    paths = ", ".join(map(str, files.table_paths))
    names = sorted(path.name for path in files.images.iterdir() if is_image_file(path) and not is_clutter(path))
    row = f", with a row for each image, such as '{names[0]}'" if names else ""
    others = sorted(path for path in files.table_paths[0].parent.iterdir() if _is_table(path, OTHER_TABLE_SUFFIXES))
    unread = "".join(f"; {path} is not read: save it as UTF-8 CSV or xlsx" for path in others)
    raise ValueError(f"no table of texts for the split '{files.split}'. Add one of these files: {paths}{row}{unread}")


def _is_table(path: Path, suffixes: tuple[str, ...] = TABLE_SUFFIXES) -> bool:
    return path.suffix.lower() in suffixes and not is_clutter(path)


def _in_several_splits(examples: list[Example]) -> list[Problem]:
    """Problems of examples in the tables of several splits that share a folder."""
    splits_of: dict[str, set[str]] = {}
    for example in examples:
        splits_of.setdefault(example.id, set()).add(str(example.split))
    return [
        Problem(f"'{name}' is in several splits: {', '.join(sorted(splits))}. Keep its row in one", tuple(splits))
        for name, splits in splits_of.items()
        if len(splits) > 1
    ]
