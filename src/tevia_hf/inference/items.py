"""The masks that a prediction job makes: its images, texts and output names, from files, tables and data sets."""

import re
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from ..extras import needed_for
from ..io import ImageRef, is_image_file, parse_address, stem, supported_suffixes, with_window
from ..io.address import Plane, Window, is_clutter
from ..io.volumes import as_volume

if TYPE_CHECKING:
    from datasets import Dataset

ImagePath = str | Path | ImageRef
UNSAFE = re.compile(r'[\\/:*?"<>|\x00-\x1f]')  # in a file name


@dataclass(frozen=True)
class Row:
    """An image in a data set, which is read from there when it is needed.

    Args:
        path: of the data set; other processes open it again.
    """

    dataset: "Dataset"
    index: int
    path: Path | None = None

    def __reduce__(self) -> Any:
        return (row_of_file, (self.path, self.index)) if self.path else (type(self), (self.dataset, self.index))


def open_undecoded(path: Path) -> "Dataset":
    """The data set in a parquet file, or in the folder that `Dataset.save_to_disk` wrote, with images as stored.

    Raises `ValueError` if there is none, or several splits, or no column `image`.
    """
    if not path.exists():
        raise ValueError(f"No file {path} in {Path.cwd()}: check the path.")
    with needed_for(f"Reading {path}"):
        from datasets import Dataset, load_from_disk
        from datasets import Image as ImageColumn
    dataset = load_from_disk(str(path)) if path.is_dir() else Dataset.from_parquet(str(path))
    if not isinstance(dataset, Dataset):
        raise ValueError(f"{path} holds several splits: give the folder of one, e.g. {path / next(iter(dataset))}.")
    if "image" not in dataset.column_names:
        columns = ", ".join(dataset.column_names)
        raise ValueError(f"{path} has no column `image` but {columns}: rename that of the images.")
    return dataset.cast_column("image", ImageColumn(decode=False))


opened_once = lru_cache(maxsize=1)(open_undecoded)


def row_of_file(path: Path, index: int) -> Row:
    """The row as another process receives it, which opens the data set once."""
    return Row(opened_once(path), index, path)


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
