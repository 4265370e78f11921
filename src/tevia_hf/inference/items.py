"""The masks that a prediction job makes: its images, texts and output names, from files, tables and data sets."""

import os
import re
import warnings
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import groupby
from pathlib import Path
from typing import Any, NamedTuple

from ..data.affixes import find_affixes
from ..data.features import raise_problems
from ..data.pairing import example_id
from ..data.tables import TABLE_SUFFIXES, read_table
from ..extras import needed_for
from ..io import ImageRef, is_image_file, parse_address, stem, supported_suffixes, with_window
from ..io.address import Plane, Window, is_clutter
from ..io.volumes import as_volume

with needed_for("Predicting files"):
    from datasets import Dataset, load_from_disk
    from datasets import Image as ImageColumn

ImagePath = str | Path | ImageRef
NAME_COLUMNS = ("name", "id")  # of the output, in data sets
UNSAFE = re.compile(r'[\\/:*?"<>|\x00-\x1f]')  # in a file name


@dataclass(frozen=True)
class Row:
    """An image in a data set, which is read from there when it is needed.

    Args:
        path: of the data set; other processes open it again.
    """

    dataset: Dataset
    index: int
    path: Path | None = None

    def __reduce__(self) -> Any:
        return (row_of_file, (self.path, self.index)) if self.path else (type(self), (self.dataset, self.index))


def row_of_file(path: Path, index: int) -> Row:
    """The row as another process receives it, which opens the data set once."""
    return Row(_opened_once(path), index, path)


class Item(NamedTuple):
    """A mask to predict.

    Args:
        name: of its files, without suffix; unique in the job.
        image: where its pixels are.
        text: "" for none.
        label: the name of the image in tables and errors.
        slice_texts: of a volume: the numbers of slices with another text, and their texts.
    """

    name: str
    image: ImageRef | Row
    text: str
    label: str
    slice_texts: tuple[tuple[int, str], ...] = ()

    def source(self) -> Any:
        """The image as `load_image` takes it."""
        return self.image.dataset[self.image.index]["image"] if isinstance(self.image, Row) else self.image

    def with_window(self, window: Window) -> "Item":
        """The item whose file is read with a window, unless its address has one or its format supports none."""
        return self if isinstance(self.image, Row) else self._replace(image=with_window(self.image, window))

    @property
    def is_volume(self) -> bool:
        return isinstance(self.image, ImageRef) and self.image.is_volume

    def state(self) -> list[Any] | None:
        """What tells whether the image or how it is read has changed; `None` if its files are unknown or gone.

        Slice, window and series, size and modification time of its files, and the texts of slices.
        """
        files = files_of(self.image)
        if not files:
            return None
        try:
            states = [file.stat() for file in files]
        except OSError:
            return None
        read = [] if isinstance(self.image, Row) else [self.image.fragment, self.image.series]
        times = [sum(state.st_size for state in states), max(state.st_mtime_ns for state in states)]
        return [*read, *times, *map(list, self.slice_texts)]


def files_of(image: ImageRef | Row) -> list[Path]:
    """The files that hold an image; of an image in a data set, its own file or that of the data set."""
    if isinstance(image, Row):
        own = image.dataset[image.index]["image"]
        if own and own["bytes"] is None and own["path"]:
            return [Path(own["path"])]
        if image.path is None:
            return []
        return [image.path / "state.json" if image.path.is_dir() else image.path]
    return list(filter(Path.is_file, image.path.iterdir())) if image.path.is_dir() else [image.path]


def batches(items: Sequence[Item], batch_size: int) -> list[list[Item]]:
    """The items in the batches of their images, `batch_size` images or one volume each.

    They depend on the list alone: a resumed or divided job forms the batches of one that is neither, so that masks are
    equal to the last pixel.
    """
    formed: list[list[Item]] = []
    free = 0  # images that the last batch still takes
    for _, group in groupby(items, key=lambda item: item.image):
        own = list(group)
        if free == 0 or own[0].is_volume:
            formed.append([])
            free = batch_size
        formed[-1] += own
        free = 0 if own[0].is_volume else free - 1
    return formed


def requests_of(items: Sequence[Item]) -> Iterator[tuple[dict[str, Any], list[str]]]:
    """Requests for `Predictor.predictions`: one for each image, with all of its texts."""
    for _, group in groupby(items, key=lambda item: item.image):
        own = list(group)
        yield {"image": own[0].source(), "id": own[0].label, **states_of(own)}, [item.text for item in own]


def states_of(items: Sequence[Item]) -> dict[str, Any]:
    """The items of a request, and the states of their images before these are read."""
    return {"items": items, "states": [item.state() for item in items]}


def job_of(
    sources: Sequence[ImagePath],
    text: str = "",
    text_table: str | Path | None = None,
    plane: Plane | None = None,
    series: str | None = None,
) -> list[Item]:
    """The items of `tevia predict`.

    Args:
        sources: image files and folders of images; or one table (CSV, xlsx), parquet file or folder of a saved data
            set, which has a row for each mask.
        text: of images without another text.
        text_table: CSV or xlsx with the texts of image files, by name: see `items_of_table`.
        plane: of the slices of volumes, see `as_volume`.
        series: to take of folders that hold several, see `as_volume`.
    """
    rows = [source for source in map(Path, sources) if holds_rows(source)]
    if not rows:
        images = list_images(sources, plane, series)
        return items_of_table(text_table, images) if text_table is not None else items_of(images, [text] * len(images))
    if len(sources) > 1 or text_table is not None:
        raise ValueError(f"{rows[0]} holds images and texts itself: give it alone, without other images or a table.")
    is_table = rows[0].suffix.lower() in TABLE_SUFFIXES
    return items_of_listing(rows[0], text, plane, series) if is_table else items_of_dataset(rows[0], text)


def holds_rows(path: Path) -> bool:
    """Whether a path is a table, a parquet file or the folder of a saved data set, and no image or folder of images."""
    of_folder = ("dataset_info.json", "dataset_dict.json")
    is_table = path.suffix.lower() in (*TABLE_SUFFIXES, ".parquet")
    return is_table or any((path / name).is_file() for name in of_folder)


def open_undecoded(path: Path) -> Dataset:
    """The data set in a parquet file, or in the folder that `Dataset.save_to_disk` wrote, with images as stored.

    Raises `ValueError` if there is none, or several splits, or no column `image`.
    """
    if not path.exists():
        raise ValueError(f"No file {path} in {Path.cwd()}: check the path.")
    dataset = load_from_disk(str(path)) if path.is_dir() else Dataset.from_parquet(str(path))
    if not isinstance(dataset, Dataset):
        raise ValueError(f"{path} holds several splits: give the folder of one, e.g. {path / next(iter(dataset))}.")
    if "image" not in dataset.column_names:
        columns = ", ".join(dataset.column_names)
        raise ValueError(f"{path} has no column `image` but {columns}: rename that of the images.")
    return dataset.cast_column("image", ImageColumn(decode=False))


_opened_once = lru_cache(maxsize=1)(open_undecoded)


def items_of(
    images: Sequence[ImagePath], texts: Sequence[str], names: Sequence[str | None] | None = None
) -> list[Item]:
    """One item for each image or volume and text, named as it; the texts of a repeated one are numbered, "scan_2".

    Raises `ValueError` if texts and images differ in number or two outputs have one name.
    """
    if len(images) != len(texts):
        raise ValueError(f"{len(images)} images but {len(texts)} texts: give one text per image, '' for none.")
    files = [as_volume(image) for image in images]
    labels = [str(file.path if file.is_volume else image) for file, image in zip(files, images, strict=True)]
    return named_items(files, texts, labels, [stem(file) for file in files], names)


def named_items(
    images: Sequence[ImageRef | Row],
    texts: Sequence[str],
    labels: Sequence[str],
    stems: Sequence[str],
    names: Sequence[str | None] | None = None,
) -> list[Item]:
    """The items, with all texts of an image in a row.

    Args:
        stems: the names of the images, for outputs without another name.
        names: of the outputs; None for those of the images.
    """
    times, seen = Counter(images), Counter[Any]()
    items: dict[Any, list[Item]] = defaultdict(list)
    for index, (image, text, label, own) in enumerate(zip(images, texts, labels, stems, strict=True)):
        seen[image] += 1
        numbered = f"{own}_{seen[image]}" if times[image] > 1 else own
        name = names[index] if names else None
        items[image].append(Item(name or numbered, image, text or "", label))
    ordered = [item for own in items.values() for item in own]
    check_names(ordered)
    return ordered


def check_names(items: Sequence[Item]) -> None:
    """Raises `ValueError` for names that two items share, on systems that ignore case too."""
    if repeated := sorted(name for name, times in Counter(item.name.casefold() for item in items).items() if times > 1):
        raise ValueError(
            f"Several outputs would be named {repeated[:5]} and overwrite each other: rename the images, predict each "
            "folder into its own output folder, or name the outputs in the column `Name` of a table."
        )


def list_images(paths: Sequence[ImagePath], plane: Plane | None = None, series: str | None = None) -> list[ImagePath]:
    """The given files, and the image files in the given folders, sorted, without hidden files and subfolders.

    A file with several slices, and a folder of a DICOM series, is a volume: see `as_volume`.

    Raises `ValueError` if a path does not exist or a folder holds no image.
    """
    images: list[ImagePath] = []
    has_series = False
    for path in map(Path, paths):
        files = [path]
        if path.is_dir() and not as_volume(path).is_volume:
            files = sorted(file for file in path.iterdir() if is_image_file(file) and not is_clutter(file))
        if not files or not parse_address(path).path.exists():
            suffixes = ", ".join(supported_suffixes())
            raise ValueError(f"No image at {path}: give image files, or folders with {suffixes} files.")
        volumes = [as_volume(file, plane, series) for file in files]
        has_series = has_series or any(volume.is_volume and volume.path.is_dir() for volume in volumes)
        images += [volume if volume.is_volume else file for file, volume in zip(files, volumes, strict=True)]
    if series is not None and not has_series:
        raise ValueError(f"`series` is '{series}', but no input is a folder of a series: leave it out, or name one.")
    return images


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
