"""Data sets that a user made, with the columns that every data source has."""

import difflib
from collections.abc import Mapping
from io import BytesIO
from typing import Any, TypeAlias

import datasets
import numpy as np
from datasets import Value
from PIL import Image

from tevia_hf.data.features import FEATURES, ImageFile, MaskFile, raise_problems, repeated_ids

AnyDataset: TypeAlias = datasets.Dataset | datasets.IterableDataset
PARTS = {"image": ImageFile(), "mask": MaskFile()}
NO_EXAMPLE = "The data set gives no example: check where it is read from."
TEXTS = ("string", "large_string", "binary", "large_binary")


def ready_dataset(dataset: AnyDataset, uses_text: bool = True) -> AnyDataset:
    """A user's data set with the columns image, mask, text, id and group; one that has them is hardly touched.

    Args:
        dataset: a `datasets.Dataset` or `datasets.IterableDataset` with `image` and `mask` (PIL images, arrays, paths,
            or undecoded), `text`, and, where known, `id`, `group` and `spacing_mm`. An `id` that is missing is the
            example's number, counted from 0 (of a stream in each data worker), a missing `group` its `id`.
        uses_text: without it, `text` may be missing.

    Raises:
        ValueError: Another kind of data set, columns that are missing, pixels of a kind that no image has, or a
            transform of the user's own, which the training's would replace.
    """
    if isinstance(dataset, Mapping) and not isinstance(dataset, AnyDataset):
        raise ValueError(f"This holds the splits {sorted(dataset)}: give one of them, such as dataset['train'].")
    if not isinstance(dataset, AnyDataset):
        raise ValueError(
            f"A `{type(dataset).__name__}` is no `datasets.Dataset`: make one, e.g. by "
            "`datasets.Dataset.from_list` or, of a torch data set, `datasets.Dataset.from_generator`."
        )
    if isinstance(dataset, datasets.IterableDataset):
        return ready_stream(dataset, uses_text)
    if dataset.format["type"] == "custom":
        raise ValueError(
            "The data set has a transform of its own, which the training's would replace: apply it by `map`, or train "
            "by a plain `transformers.Trainer`."
        )
    if not len(dataset):
        raise ValueError(NO_EXAMPLE)
    check_columns(dataset.column_names, uses_text)
    dataset = dataset.with_format(None).select_columns([name for name in FEATURES if name in dataset.column_names])
    for part, feature in PARTS.items():
        dataset = as_files(dataset, part, feature)
    return with_names(dataset)


def check_columns(names: list[str], uses_text: bool) -> None:
    """Raises `ValueError` where a column is missing, with the call that gives one of the data set's own its name."""
    missing = [name for name in ("image", "mask", *(["text"] if uses_text else [])) if name not in names]
    if not missing:
        return
    others = [name for name in names if name not in FEATURES]
    own = (difflib.get_close_matches(missing[0], others, n=1, cutoff=0.4) or others or ["its name"])[0]
    without = (
        " A network that reads no text (`use_text: false` under `config`) needs none." if "text" in missing else ""
    )
    raise ValueError(
        f"The data set has the columns {names}, but no {' and no '.join(missing)}: name them, e.g. by "
        f"`dataset.rename_column('{own}', '{missing[0]}')`.{without}"
    )


def as_files(dataset: datasets.Dataset, part: str, feature: datasets.Image) -> datasets.Dataset:
    """The data set with a column of files in place of arrays or paths."""
    kind = dataset.features[part]
    if isinstance(kind, type(feature)):
        return dataset
    if holds_files(kind):
        return dataset.cast_column(part, feature)
    dtype = pixel_type(kind, part)

    def encode(example: dict[str, Any]) -> dict[str, Any]:
        if example[part] is None:
            return {part: None}
        return {part: {"bytes": encoded(np.asarray(example[part], dtype), part), "path": None}}

    return dataset.map(encode, features=datasets.Features({**dataset.features, part: feature}))


def holds_files(feature: Any) -> bool:
    """Whether a column holds images, decoded or not, paths or the bytes of files, rather than arrays."""
    is_undecoded = isinstance(feature, dict) and {"bytes", "path"} <= feature.keys()
    return isinstance(feature, datasets.Image) or is_undecoded or getattr(feature, "dtype", None) in TEXTS


def pixel_type(feature: Any, part: str) -> np.dtype:
    """The number type of a column of arrays. Raises `ValueError` where it holds something else."""
    inner = feature
    while hasattr(inner, "feature"):
        inner = inner.feature
    if isinstance(feature, Value) or not hasattr(inner, "dtype") or inner.dtype in TEXTS:
        raise ValueError(f"The column '{part}' is of the kind {feature}: give images, arrays or paths.")
    return np.dtype(inner.dtype)


def encoded(pixels: np.ndarray, part: str) -> bytes:
    """A file with exactly these pixels. Raises `ValueError` for shapes and number types that no file holds."""
    plain = {"b": np.uint8, "f": np.float32}.get(pixels.dtype.kind, pixels.dtype)
    if part == "mask" and pixels.dtype.kind in "iu" and set(np.unique(pixels)) <= set(range(256)):
        plain = np.uint8
    try:
        image = Image.fromarray(pixels.astype(plain))
    except (TypeError, ValueError) as error:
        raise ValueError(
            f"An array of the column '{part}' has shape {pixels.shape} and type {pixels.dtype}: give (height, width) "
            "of uint8, uint16 or float32, or (height, width, 3) of uint8."
        ) from error
    content = BytesIO()
    image.save(content, "TIFF")
    return content.getvalue()


def with_names(dataset: datasets.Dataset) -> datasets.Dataset:
    """With text, id and group for every example."""
    count = len(dataset)
    if "text" not in dataset.column_names:
        dataset = dataset.add_column("text", [None] * count)
    numbers = [str(index) for index in range(count)]
    if "id" in dataset.column_names and set(numbers) & set(map(str, dataset["id"])):
        numbers = [f"row-{number}" for number in numbers]  # which no other row is called
    dataset = filled(dataset, "id", numbers)
    raise_problems("The data set", repeated_ids(dataset["id"]), "Give every example an id of its own.")
    dataset = filled(dataset, "group", list(dataset["id"]))
    for name in ("text", "id", "group"):
        if dataset.features[name] != Value("string"):
            dataset = dataset.cast_column(name, Value("string"))
    return dataset


def filled(dataset: datasets.Dataset, name: str, defaults: list[str]) -> datasets.Dataset:
    """With a value in every row of a column."""
    if name not in dataset.column_names:
        return dataset.add_column(name, defaults)
    held = list(dataset[name])
    if None not in held:
        return dataset
    values = [default if value is None else str(value) for value, default in zip(held, defaults, strict=True)]
    return dataset.remove_columns(name).add_column(name, values)


def ready_stream(dataset: datasets.IterableDataset, uses_text: bool) -> datasets.IterableDataset:
    """As `ready_dataset`, example by example as they come."""
    first = next(iter(dataset), None)
    if first is None:
        raise ValueError(NO_EXAMPLE)
    check_columns(list(first), uses_text)
    features = dataset.features or {}
    types = {}
    for part in PARTS:
        if isinstance(features.get(part), datasets.Image):
            dataset = dataset.cast_column(part, datasets.Image(decode=False))
        elif part in features and not holds_files(features[part]):
            types[part] = pixel_type(features[part], part)

    def name(example: dict[str, Any], index: int) -> dict[str, Any]:
        identity = str(index if example.get("id") is None else example["id"])
        group = identity if example.get("group") is None else str(example["group"])
        arrays = {part: np.asarray(example[part], dtype) for part, dtype in types.items()}
        named = {"text": example.get("text"), "id": identity, "group": group}
        return {**example, **arrays, **named}

    return dataset.map(name, with_indices=True)
