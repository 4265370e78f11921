"""Items of a prediction job from tables and data sets, whose rows name or hold the images."""

import os
import warnings
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ..data.affixes import find_affixes
from ..data.example import example_id
from ..data.faults import raise_problems
from ..data.tables import read_table
from ..io import ImageRef, parse_address
from ..io.address import Plane
from ..io.volumes import as_volume
from .items import UNSAFE, ImagePath, Item, Row, items_of, named_items, open_undecoded

NAME_COLUMNS = ("name", "id")  # of the output, in data sets


def items_of_table(path: str | Path, images: Sequence[ImagePath]) -> list[Item]:
    """The items of image files with the texts of a table, whose rows name the images.

    A CSV or xlsx with the columns `Image`, `Description` (empty for no text) and, if given, `Name` (of the output). An
    image with several rows has several masks; "scan.nii.gz#40" gives the text of one slice of a volume. A suffix or
    prefix that all rows add to the names of the images, such as "_segmentation", is stripped.

    Raises `ValueError` for images without a row and names that several images share; warns about rows without an image.
    """
    files = [parse_address(image) for image in images]
    ids = [example_id(file.path.name if file.is_volume else file.name) for file in files]
    volumes = {own: file.plane for own, file in zip(ids, files, strict=True) if file.is_volume}
    table, slice_texts = without_slice_texts(path, volumes)
    row_ids = [example_id(name) for name in table["Image"]]
    affixes = find_affixes(row_ids, ids)
    rows_of = defaultdict(list)
    for index, name in enumerate(row_ids):
        rows_of[affixes[0].strip(name) if len(affixes) == 1 else name].append(index)
    problems = [f"'{name}' is the name of {times} images" for name, times in Counter(ids).items() if times > 1]
    problems += [f"'{name}' has no row" for name in sorted(set(ids) - set(rows_of))]
    raise_problems(str(path), problems, "Each image needs a row; leave Description empty for an image without text.")
    if others := sorted(set(rows_of) - set(ids)):
        count = sum(len(rows_of[name]) for name in others)
        warnings.warn(f"{path}: {count} rows name none of the images, e.g. '{others[0]}'", UserWarning, stacklevel=2)
    pairs = [(image, row) for image, own in zip(images, ids, strict=True) for row in rows_of[own]]
    names, texts = output_names(table), list(table["Description"])
    items = items_of(
        [image for image, _ in pairs], [texts[row] or "" for _, row in pairs], [names[row] for _, row in pairs]
    )
    return [item._replace(slice_texts=slice_texts.get(example_id(item.image.path.name), ())) for item in items]  # type: ignore[union-attr]  # files


def without_slice_texts(
    path: str | Path, volumes: Mapping[str, Plane]
) -> tuple[Any, dict[str, tuple[tuple[int, str], ...]]]:
    """A table without the rows that name a slice of a volume, and the (number, text) of these for each volume.

    A volume that has such rows alone gets one of its own, without a text.

    Raises `ValueError` for slices in another plane than those of the volume, and several rows for one.
    """
    table, problems = read_table(path), []
    texts = defaultdict[str, list[tuple[int, str]]](list)
    is_kept = []
    for name, text in zip(table["Image"], table["Description"], strict=True):
        file = parse_address(name)
        folder, _, number = str(name).rpartition("#")
        if example_id(folder) in volumes and number.isdecimal():  # of a series
            file = ImageRef(Path(folder), number=int(number))
        own = example_id(file.path.name)
        if own in volumes and isinstance(file.number, int):
            if file.window is not None:
                problems.append(f"'{name}' has a window, but that of the volume holds for all slices: leave it out")
            if file.plane != volumes[own]:
                fix = f"write {file.path.name}#{volumes[own]}:{file.number}"
                problems.append(f"'{name}' is {file.plane}, but the slices of the volume are {volumes[own]}: {fix}")
            problems += [f"'{name}' has several rows"] if file.number in dict(texts[own]) else []
            texts[own].append((file.number, text or ""))
            is_kept.append(False)
        else:
            is_kept.append(True)
    raise_problems(str(path), problems, "Each slice has one text.")
    table = table[is_kept].reset_index(drop=True)
    without = [own for own in texts if own not in set(map(example_id, table["Image"]))]
    table = table.reindex(range(len(table) + len(without)))
    table.loc[len(table) - len(without) :, "Image"] = without
    return table.astype(object).where(table.notna(), None), {own: tuple(sorted(each)) for own, each in texts.items()}


def items_of_listing(path: Path, text: str = "", plane: Plane | None = None, series: str | None = None) -> list[Item]:
    """The items of a table whose column `Image` holds paths, relative to its folder; `text` where a row has none."""
    table = read_table(path)
    images = [as_volume(os.path.join(path.parent, name), plane, series) for name in table["Image"]]
    return items_of(images, [own or text for own in table["Description"]], output_names(table))


def output_names(table: Any) -> list[str | None]:
    """The output names in the column `Name` of a table; all None without it."""
    column = next((name for name in table.columns if name.lower() == "name"), None)
    names = [None] * len(table) if column is None else list(table[column])
    if unsafe := [name for name in names if name and (UNSAFE.search(name) or name.startswith("."))]:
        raise ValueError(f"Outputs cannot be named {unsafe[:5]}: use letters, digits, '-' and '_' in the column Name.")
    return names


def items_of_dataset(path: Path, text: str = "") -> list[Item]:
    """The items of a data set on disk with the columns `image` and, if given, `text` and `name` or `id`.

    Images are read from the data set one by one. `text` is that of rows without one.
    """
    dataset = open_undecoded(path)
    texts = dataset["text"] if "text" in dataset.column_names else [None] * len(dataset)
    column = next((name for name in NAME_COLUMNS if name in dataset.column_names), None)
    names = [f"row_{index}" for index in range(len(dataset))] if column is None else list(map(str, dataset[column]))
    images = [Row(dataset, index, path) for index in range(len(dataset))]
    stems = [UNSAFE.sub("_", name) for name in names]
    return named_items(images, [own or text for own in texts], names, stems)
