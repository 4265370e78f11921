"""The items of a prediction job from whatever is given: files and folders, a table, or a data set."""

from collections.abc import Sequence
from pathlib import Path

from ..extras import needed_for
from ..io.address import TABLE_SUFFIXES, Plane
from .items import ImagePath, Item, items_of, list_images


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
        if text_table is None:
            return items_of(images, [text] * len(images))
        with needed_for(f"Reading {text_table}"):
            from .item_tables import items_of_table
        return items_of_table(text_table, images)
    if len(sources) > 1 or text_table is not None:
        raise ValueError(f"{rows[0]} holds images and texts itself: give it alone, without other images or a table.")
    with needed_for(f"Reading {rows[0]}"):
        from .item_tables import items_of_dataset, items_of_listing
    is_table = rows[0].suffix.lower() in TABLE_SUFFIXES
    return items_of_listing(rows[0], text, plane, series) if is_table else items_of_dataset(rows[0], text)


def holds_rows(path: Path) -> bool:
    """Whether a path is a table, a parquet file or the folder of a saved data set, and no image or folder of images."""
    of_folder = ("dataset_info.json", "dataset_dict.json")
    is_table = path.suffix.lower() in (*TABLE_SUFFIXES, ".parquet")
    return is_table or any((path / name).is_file() for name in of_folder)
