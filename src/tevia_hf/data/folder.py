"""Image and mask folders with a table of sentences, in the shapes in use.

LViT:    {Train,Val,Test}_Folder/{img,labelcol}/   and {Train,Val,Test}_text.xlsx inside or beside that folder
TeViA:   {Train,Val,Test}/{Images,GTs}/            and prompt/{train,val,test}.csv
Kaggle:  {Train,Val,Test} Set/{Images,Ground-truths}/   and a table in any of the places above
plain:   images/, masks/                           and one table; its column `split` says train, val or test

Tables are CSV or xlsx with the columns `Image` (the mask's file name, as published, or the image's) and `Description`.
Where there is no folder of its own for val, its files are looked for in the train folder, as in the TeViA shape.
"""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import datasets
import pandas as pd

from tevia_hf.data.features import SPLITS, check_choice, dataset_from_rows, raise_problems
from tevia_hf.io import SUFFIXES

COLUMNS = ("Image", "Description")
TABLE_SUFFIXES = (".csv", ".xlsx")
_TABLE_PLACES = ("{folder}/{title}_text", "{title}_text", "prompt/{split}", "{split}")


class Shape(NamedTuple):
    """Names of one way to lay a data set out; `{title}` stands for Train, Val or Test."""

    folder: str
    images: str
    masks: str


SHAPES = (
    Shape("{title}_Folder", "img", "labelcol"),
    Shape("{title}", "Images", "GTs"),
    Shape("{title} Set", "Images", "Ground-truths"),
)


class Location(NamedTuple):
    """Where the files of one split lie; `others` are tables that speak of the same folders."""

    images: Path
    masks: Path
    table: Path
    others: tuple[Path, ...] = ()


def folder_dataset(
    data_dir: str | Path, split: str = "train", group_of: Callable[[str], str] = str
) -> datasets.Dataset:
    """The examples of one split; the data set holds paths, no file is opened but the table.

    Image, mask and row belong together by name, whatever the suffix, and whether or not the name begins in "mask_" or
    ends in "_mask". That name is the example's id. A row with an empty Description is an example without text.

    Args:
        data_dir: A folder in one of the shapes above.
        split: "train", "val" or "test".
        group_of: Gives an id's group, such as the patient; by default each example is its own.

    Raises:
        ValueError: No such folder, shape, table or column; or rows and files that do not match, all in one error.
    """
    check_choice("split", split, SPLITS)
    location = find_location(Path(data_dir).absolute(), split)
    table = read_table(location.table)
    images, masks = _files_by_id(location.images), _files_by_id(location.masks)
    ids = [example_id(name) for name in table["Image"]]
    mentioned = {*ids, *(example_id(name) for other in location.others for name in read_table(other)["Image"])}
    without_row = [str(files[name]) for files in (images, masks) for name in files if name not in mentioned]
    chosen = _in_split(table, split, location.table)
    rows = [
        {"id": name, "group": group_of(name), "image": images.get(name), "mask": masks.get(name), "text": text}
        for name, text, wanted in zip(ids, table["Description"], chosen, strict=True)
        if wanted
    ]
    return dataset_from_rows(rows, source=str(location.table), without_row=without_row)


def example_id(file_name: str) -> str:
    """What the image, the mask and the row of an example share: "covid_1" of "mask_covid_1.png" and "covid_1.jpg"."""
    name = Path(file_name.strip()).name
    stem = Path(name).stem if Path(name).suffix.lower() in SUFFIXES else name
    return stem.removeprefix("mask_").removesuffix("_mask")


def find_location(root: Path, split: str) -> Location:
    """Folders and table of a split. Raises ValueError that says which shapes are known and what is there."""
    for shape in SHAPES:
        folder = _split_folder(root, shape, split)
        if folder is not None:
            table = _require_table(root, shape, folder, split)
            others = tuple(_tables_on(root, shape, folder, besides=split))
            return Location(folder / shape.images, folder / shape.masks, table, others)
    if (root / "images").is_dir() and (root / "masks").is_dir():
        return Location(root / "images", root / "masks", _only_table(root))
    shapes = [f"{shape.folder.format(title=split.title())}/{{{shape.images},{shape.masks}}}" for shape in SHAPES]
    known = "; ".join([*shapes, "{images,masks}"])
    there = sorted(path.name for path in root.iterdir()) if root.is_dir() else "no such folder"
    raise ValueError(
        f"{root}: no images of the split '{split}'. Known shapes: {known}. Found: {there}. "
        "Give the folder that holds one of these as data_dir."
    )


def read_table(path: Path) -> pd.DataFrame:
    """A table with the text columns `Image` and `Description` (None where empty) and, if given, `split`.

    Raises ValueError where the file cannot be read, is empty, or lacks a column or a file name.
    """
    try:
        table = pd.read_csv(path, dtype=str) if path.suffix == ".csv" else pd.read_excel(path, dtype=str)
    except Exception as error:  # pandas and openpyxl have no common class for a damaged table
        raise ValueError(
            f"{path}: not readable as a table ({error}). "
            f"Save it as UTF-8 CSV or xlsx with the columns {', '.join(COLUMNS)}."
        ) from error
    table.columns = table.columns.str.strip()
    missing = [column for column in COLUMNS if column not in table.columns]
    if missing:
        raise ValueError(
            f"{path}: no column {' and '.join(missing)}; it has {list(table.columns)}. "
            f"Rename the columns to {', '.join(COLUMNS)}."
        )
    nameless = [f"row {index + 2} has no file name" for index in table.index[table["Image"].isna()]]
    raise_problems(str(path), nameless, "Fill the column Image, or delete these rows.")
    return table.astype(object).where(table.notna(), None)


def _split_folder(root: Path, shape: Shape, split: str) -> Path | None:
    for title in (split.title(), "Train") if split == "val" else (split.title(),):
        folder = root / shape.folder.format(title=title)
        if (folder / shape.images).is_dir() and (folder / shape.masks).is_dir():
            return folder
    return None


def _table_candidates(root: Path, folder: Path, split: str) -> list[Path]:
    places = [place.format(folder=folder.name, title=split.title(), split=split) for place in _TABLE_PLACES]
    return [root / f"{place}{suffix}" for place in places for suffix in TABLE_SUFFIXES]


def _require_table(root: Path, shape: Shape, folder: Path, split: str) -> Path:
    candidates = _table_candidates(root, folder, split)
    found = [path for path in candidates if path.is_file()]
    if not found:
        places = ", ".join(str(path.relative_to(root)) for path in candidates)
        raise ValueError(f"{root}: no table of sentences for the split '{split}'. Put one of these there: {places}.")
    return found[0]


def _tables_on(root: Path, shape: Shape, folder: Path, besides: str) -> Iterator[Path]:
    for split in SPLITS:
        if split != besides and _split_folder(root, shape, split) == folder:
            yield from [path for path in _table_candidates(root, folder, split) if path.is_file()][:1]


def _only_table(root: Path) -> Path:
    tables = sorted(path for path in root.iterdir() if path.suffix in TABLE_SUFFIXES)
    if len(tables) != 1:
        names = [path.name for path in tables]
        raise ValueError(
            f"{root}: one CSV or xlsx beside images/ and masks/ is expected, found {names}. Leave exactly one."
        )
    return tables[0]


def _in_split(table: pd.DataFrame, split: str, path: Path) -> list[bool]:
    """Which rows belong to the split. Without a column `split`, every row of the split's own table does."""
    if "split" in table.columns:
        chosen = [value == split for value in table["split"]]
        if not any(chosen):
            values = sorted({str(value) for value in table["split"]})
            raise ValueError(
                f"{path}: no row of the split '{split}', the column split holds {values}. Use train, val, test."
            )
        return chosen
    if split != "train" and (path.parent / "images").is_dir():
        raise ValueError(
            f"{path}: no column split, so all rows are 'train', not '{split}'. Add the column, or ask for train."
        )
    return [True] * len(table)


def _files_by_id(folder: Path) -> dict[str, Path]:
    files: dict[str, Path] = {}
    twins = []
    for path in sorted(path for path in folder.iterdir() if path.suffix.lower() in SUFFIXES):
        first = files.setdefault(example_id(path.name), path)
        if first is not path:
            twins.append(f"'{first.name}' and '{path.name}' belong to the same example")
    raise_problems(str(folder), twins, "Keep one file of each.")
    return files
