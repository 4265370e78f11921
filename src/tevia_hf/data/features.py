"""The columns that every data source has, and the checks of its rows."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import datasets
from datasets import Features, List, Value
from PIL import Image

from tevia_hf.data.decoding import decode as decode
from tevia_hf.data.decoding import labels_of, load_masks
from tevia_hf.data.example import parse_files, spell_files
from tevia_hf.data.faults import raise_problems
from tevia_hf.io import ImageRef

SPLITS = ("train", "val", "test")


class ImageFile(datasets.Image):
    """`datasets.Image` whose files are read by `read_image`.

    `map` turns its values into plain images that hold the pixels. `save_to_disk` and `push_to_hub` need this for slices
    and for several masks of one image (`dataset.map(lambda row: {"mask": row["mask"]})`).
    """

    is_mask = False

    def decode_example(self, value: dict, token_per_repo_id: dict | None = None) -> Image.Image:
        if isinstance(value, dict) and value["bytes"] is None and value["path"]:
            files = parse_files(value["path"])
            several = len(files) > 1  # masks of one image, returned as their joint labels
            pixels = labels_of(load_masks({"mask": files}), None) if several else decode(files[0], self.is_mask)
            return Image.fromarray(pixels)
        return super().decode_example(value, token_per_repo_id)


class MaskFile(ImageFile):
    """`ImageFile` for masks: a single mask as stored, several as their joint labels."""

    is_mask = True


FEATURES = Features(
    {
        "image": ImageFile(),
        "mask": MaskFile(),
        "text": Value("string"),
        "id": Value("string"),
        "group": Value("string"),  # examples of one group, such as a patient, belong in one split
        "spacing_mm": List(Value("float32"), length=2),
    }
)


def dataset_from_rows(
    rows: Sequence[Mapping[str, Any]],
    source: str = "the data set",
    problems: Sequence[str] = (),
    may_lack_files: bool = False,
) -> datasets.Dataset:
    """A `datasets.Dataset` with the columns of `FEATURES`.

    Args:
        rows: One mapping per example with `image` and `mask` (a path, an `ImageRef`, for a mask also a tuple of them,
            or a PIL image; None if it is missing) and `id`; `text`, `group` and `spacing_mm` (row, column) are
            optional. No file is opened.
        source: Name of the source, for the error message.
        problems: Its other problems, for the error message.
        may_lack_files: Keep rows without image or mask, so that reading can skip them.

    Raises one `ValueError` for all problems: no rows, rows without image or mask, equal ids, and `problems`.
    """
    all_problems = [*problems, *(repeated_ids([row["id"] for row in rows]) if may_lack_files else row_problems(rows))]
    raise_problems(source, all_problems, "Add missing files and rows, and remove those without a counterpart.")
    if not rows:
        raise ValueError(f"{source} has no rows. Check that it is the right one, and that it has at least one example.")
    columns = {name: [row.get(name) for row in rows] for name in FEATURES}
    for name in ("image", "mask"):
        columns[name] = [spell_files(one) if isinstance(one, (ImageRef, tuple, Path)) else one for one in columns[name]]
    return datasets.Dataset.from_dict(columns, features=FEATURES)


def row_problems(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """Messages for rows without image or mask, and for ids that appear several times."""
    problems = [f"row '{row['id']}' has no {part}" for row in rows for part in ("image", "mask") if row[part] is None]
    return problems + repeated_ids([row["id"] for row in rows])


def repeated_ids(ids: Iterable[str]) -> list[str]:
    times = Counter(map(str, ids))
    return [f"row '{name}' appears {times[name]} times" for name in sorted(times) if times[name] > 1]


def undecoded(dataset: datasets.Dataset) -> datasets.Dataset:
    """The data set with images and masks as path or bytes, decoded later by `decoding`, whose errors name the file.

    A streamed data set is returned unchanged.
    """
    if isinstance(dataset, datasets.IterableDataset):
        return dataset
    return dataset.cast_column("image", datasets.Image(decode=False)).cast_column("mask", datasets.Image(decode=False))
