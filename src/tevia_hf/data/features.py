"""The one set of columns every data source yields, and the checks an example passes on its way in."""

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
from tevia_hf.io import ImageRef

SPLITS = ("train", "val", "test")


class ImageFile(datasets.Image):
    """`datasets.Image` whose files `read_image` reads.

    What `map` makes of a value is a plain one, which holds the pixels: `save_to_disk` and `push_to_hub` need that of
    slices, and of several masks of one image (`dataset.map(lambda row: {"mask": row["mask"]})`).
    """

    is_mask = False

    def decode_example(self, value: dict, token_per_repo_id: dict | None = None) -> Image.Image:
        if isinstance(value, dict) and value["bytes"] is None and value["path"]:
            files = parse_files(value["path"])
            several = len(files) > 1  # masks of one image, which are shown as the labels they have together
            pixels = labels_of(load_masks({"mask": files}), None) if several else decode(files[0], self.is_mask)
            return Image.fromarray(pixels)
        return super().decode_example(value, token_per_repo_id)


class MaskFile(ImageFile):
    """As `ImageFile`, for masks: one as stored, several joined to their labels."""

    is_mask = True


FEATURES = Features(
    {
        "image": ImageFile(),
        "mask": MaskFile(),
        "text": Value("string"),
        "id": Value("string"),
        "group": Value("string"),  # examples of one group, such as a patient, belong into one split
        "spacing_mm": List(Value("float32"), length=2),
    }
)
_SHOWN = 10


def dataset_from_rows(
    rows: Sequence[Mapping[str, Any]],
    source: str = "the data set",
    problems: Sequence[str] = (),
    may_lack_files: bool = False,
) -> datasets.Dataset:
    """A `datasets.Dataset` with the columns of `FEATURES`.

    Args:
        rows: One mapping for each example with `image` and `mask` (a path, an `ImageRef`, for a mask several, or a PIL
            image; None where it is missing) and `id`; `text`, `group` and `spacing_mm` (row, column) may be left out.
            Files stay paths: none is opened.
        source, problems: What the rows come from, and what else is wrong with them, for the error.
        may_lack_files: Keep rows without image or mask, for reading to skip them.

    Raises one `ValueError` for all that is wrong: no rows, rows without image or mask, equal ids, other problems.
    """
    found = [*problems, *(repeated_ids([row["id"] for row in rows]) if may_lack_files else row_problems(rows))]
    raise_problems(source, found, "Add what is missing, and take out rows and files that have no partner.")
    if not rows:
        raise ValueError(f"{source} has no rows. Check that it is the right one, and that it has at least one example.")
    columns = {name: [row.get(name) for row in rows] for name in FEATURES}
    for name in ("image", "mask"):
        columns[name] = [spell_files(one) if isinstance(one, (ImageRef, tuple, Path)) else one for one in columns[name]]
    return datasets.Dataset.from_dict(columns, features=FEATURES)


def row_problems(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """Rows without image or mask, and rows of one id."""
    problems = [f"row '{row['id']}' has no {part}" for row in rows for part in ("image", "mask") if row[part] is None]
    return problems + repeated_ids([row["id"] for row in rows])


def repeated_ids(ids: Iterable[str]) -> list[str]:
    times = Counter(map(str, ids))
    return [f"row '{name}' appears {times[name]} times" for name in sorted(times) if times[name] > 1]


def undecoded(dataset: datasets.Dataset) -> datasets.Dataset:
    """The same data set, its images and masks left as path or bytes for `decoding`, whose errors name the file.

    A stream without known columns stays as it is.
    """
    if isinstance(dataset, datasets.IterableDataset):
        return dataset
    return dataset.cast_column("image", datasets.Image(decode=False)).cast_column("mask", datasets.Image(decode=False))


def check_choice(what: str, value: str, choices: Iterable[str]) -> None:
    """Raises ValueError with the choices where `value` is none of them."""
    if value not in choices:
        raise ValueError(f"{what} is '{value}'. Choose one of: {', '.join(choices)}.")


def raise_problems(source: str, problems: Sequence[str], advice: str, shown: int = _SHOWN) -> None:
    """Raises one ValueError that counts the problems, lists the first and ends in advice; none without problems."""
    if not problems:
        return
    more = [f"... and {len(problems) - shown} more"] if len(problems) > shown else []
    listed = "\n  ".join([*problems[:shown], *more])
    raise ValueError(f"{source}: {len(problems)} problem{'s' if len(problems) > 1 else ''}:\n  {listed}\n{advice}")


def some_of(names: Sequence[str], most: int = 3) -> str:
    """The first names, and how many more there are."""
    rest = len(names) - most
    return ", ".join(names[:most]) + (f" and {rest} more" if rest > 0 else "")
