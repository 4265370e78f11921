"""The one set of columns every data source yields, and the checks an example passes on its way in."""

from collections.abc import Iterable, Mapping, Sequence
from io import BytesIO
from pathlib import Path
from typing import Any

import datasets
import numpy as np
from datasets import Features, List, Value
from datasets.utils import tqdm
from PIL import Image

from tevia_hf.io import is_medical, read_image, to_array
from tevia_hf.metrics import IGNORE_LABEL, Spacing

SPLITS = ("train", "val", "test")
MOST_LABELS = 32  # values of a mask beyond which they are greys


class ImageFile(datasets.Image):
    """`datasets.Image` that reads medical files too; what `map` makes of it is a plain one again."""

    is_mask = False

    def decode_example(self, value: dict, token_per_repo_id: dict | None = None) -> Image.Image:
        if value["bytes"] is None and value["path"] and is_medical(value["path"]):
            return Image.fromarray(read_image(value["path"], self.is_mask).array)
        return super().decode_example(value, token_per_repo_id)


class MaskFile(ImageFile):
    """As `ImageFile`, for labels."""

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
    rows: Sequence[Mapping[str, Any]], source: str = "the data set", problems: Sequence[str] = ()
) -> datasets.Dataset:
    """A `datasets.Dataset` with the columns of `FEATURES`.

    Args:
        rows: One mapping for each example with `image` and `mask` (a path or a PIL image; None where it is missing) and
            `id`; `text`, `group` and `spacing_mm` (row, column) may be left out. Paths stay paths: no file is opened.
        source: What the rows come from, for the error.
        problems: What else is wrong with them.

    Raises:
        ValueError: No rows, rows without image or mask, equal ids, other problems: one error for all of them.
    """
    found = [*problems, *row_problems(rows)]
    raise_problems(source, found, "Add what is missing, and take out rows and files that have no partner.")
    if not rows:
        raise ValueError(f"{source} has no rows. Check that it is the right one, and that it has at least one example.")
    columns = {name: [_plain(row.get(name)) for row in rows] for name in FEATURES}
    return datasets.Dataset.from_dict(columns, features=FEATURES)


def row_problems(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """Rows without image or mask, and rows of one id."""
    problems = [f"row '{row['id']}' has no {part}" for row in rows for part in ("image", "mask") if row[part] is None]
    return problems + [f"row '{name}' appears {times} times" for name, times in _repeated([row["id"] for row in rows])]


def verify_examples(dataset: datasets.Dataset, processor: Any) -> None:
    """Reads every image and mask as training will, with a progress bar, so that no bad file costs a run later.

    Raises:
        ValueError: Names every example whose image or mask is missing, corrupt, cut short or of other values than the
            processor takes, or whose two sizes differ.
    """
    found = (_fault(example, processor) for example in tqdm(undecoded(dataset), desc="Checking images and masks"))
    problems = [fault for fault in found if fault]
    raise_problems("The data set", problems, "Replace these files, or leave the rows out.", shown=len(problems))


def reference_labels(example: Mapping[str, Any], processor: Any) -> np.ndarray:
    """An example's true labels (height, width) at the image's own size, read and checked as in training.

    Raises ValueError naming the example and its mask where the processor refuses them.
    """
    image, mask = decode_part(example, "image"), decode_part(example, "mask")
    try:
        inputs = processor.image_processor(image, mask, do_resize=False, swap_axes=False)
    except ValueError as error:
        path = example["mask"].get("path") if isinstance(example["mask"], Mapping) else None
        raise ValueError(f"example '{example.get('id')}'{f' ({path})' if path else ''}: {error}") from error
    return inputs["labels"][0].numpy()


def undecoded(dataset: datasets.Dataset) -> datasets.Dataset:
    """The same data set, its images and masks left as path or bytes for `decode`, whose errors name the file.

    A stream without known columns stays as it is.
    """
    if isinstance(dataset, datasets.IterableDataset):
        return dataset
    return dataset.cast_column("image", datasets.Image(decode=False)).cast_column("mask", datasets.Image(decode=False))


def decode(value: Any, is_mask: bool = False) -> np.ndarray:
    """The pixels of an image column's entry: undecoded ({"path", "bytes"}), path, PIL image or array.

    Returns (height, width) or (height, width, channels). Raises ValueError for a file that cannot be read.
    """
    if isinstance(value, (str, Path)):
        return read_image(value, is_mask).array
    if isinstance(value, Mapping):
        content, path = value["bytes"], value["path"]
        return read_image(path, is_mask).array if content is None else _decode_bytes(content, is_mask)
    return to_array(value, is_mask) if isinstance(value, Image.Image) else np.asarray(value)


def decode_part(example: Mapping[str, Any], part: str) -> np.ndarray:
    """The pixels of an example's "image" or "mask". Raises ValueError naming the example's id and the file."""
    try:
        return decode(example[part], is_mask=part == "mask")
    except (ValueError, OSError) as error:
        raise ValueError(f"{part} of example '{example.get('id')}': {error}") from error


def spacing_of(example: Mapping[str, Any]) -> Spacing | None:
    """The (row, column) size of an example's pixels in mm: its own `spacing_mm`, else what its image file says."""
    if example.get("spacing_mm"):
        row, column = example["spacing_mm"]
        return float(row), float(column)
    path = example["image"].get("path") if isinstance(example["image"], Mapping) else None
    return read_image(path).spacing_mm if path and is_medical(path) else None


def lesion_pixels(mask: np.ndarray, coded_as: np.ndarray | None = None) -> np.ndarray:
    """Where a mask as on disk, (height, width[, channels]), marks a lesion: 255 beside 0 alone, else every label.

    Args:
        coded_as: The mask that tells whether 255 is the lesion or "do not count"; by default the mask itself, which no
            longer tells once its labels were moved out of the picture.
    """
    labels, coding = (one_channel(array) for array in (mask, mask if coded_as is None else coded_as))
    if labels.dtype == bool or not np.isin(coding, (0, IGNORE_LABEL)).all():
        return (labels > 0) & (labels != IGNORE_LABEL)
    return labels == IGNORE_LABEL


def check_labels(mask: np.ndarray) -> None:
    """Raises `ValueError` where a mask as on disk holds grey values rather than labels."""
    values = len(np.unique(one_channel(mask)))
    if values > MOST_LABELS:
        raise ValueError(f"the mask has {values} values, which are no labels: binarise it (mask > 127)")


def one_channel(mask: np.ndarray) -> np.ndarray:
    return mask[..., :3].max(-1) if mask.ndim == 3 else mask


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


def _repeated(names: Sequence[str]) -> list[tuple[str, int]]:
    values, counts = np.unique(np.asarray(names, dtype=str), return_counts=True)
    return [(str(value), int(count)) for value, count in zip(values, counts, strict=True) if count > 1]


def _plain(value: Any) -> Any:
    return str(value) if isinstance(value, Path) else value


def _decode_bytes(content: bytes, is_mask: bool) -> np.ndarray:
    try:
        return to_array(Image.open(BytesIO(content)), is_mask)
    except Exception as error:  # Pillow's decoders raise nearly anything on damaged bytes
        raise ValueError(f"embedded picture is corrupt or cut short ({error}). Build the data set again.") from error


def _fault(example: Mapping[str, Any], processor: Any) -> str | None:
    try:
        reference_labels(example, processor)
    except ValueError as error:
        return str(error)
    return None
