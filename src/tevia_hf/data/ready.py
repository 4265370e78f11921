"""Data sets that a user made, with the columns that every data source has."""

import difflib
from collections.abc import Mapping
from io import BytesIO
from typing import Any, TypeAlias

import datasets
import numpy as np
from datasets import ClassLabel, List, Value
from PIL import Image

from tevia_hf.data.features import FEATURES, ImageFile, MaskFile, raise_problems, repeated_ids
from tevia_hf.data.several_texts import ALL_TEXTS

AnyDataset: TypeAlias = datasets.Dataset | datasets.IterableDataset
PARTS = {"image": ImageFile(), "mask": MaskFile()}
NO_EXAMPLE = "The data set gives no example: check where it is read from."
TEXTS = ("string", "large_string", "binary", "large_binary")
NAMES = ("text", "id", "group")
SEVERAL_TEXTS = ("first", "draw")


def ready_dataset(dataset: AnyDataset, uses_text: bool = True, several_texts: str | None = None) -> AnyDataset:
    """A user's data set with the columns image, mask, text, id and group; one that has them is hardly touched.

    Of a `ClassLabel` in text, id or group the names are taken.

    Args:
        dataset: a `datasets.Dataset` or `datasets.IterableDataset` with `image` and `mask` (PIL images, arrays, paths,
            or undecoded), `text`, and, where known, `id`, `group` and `spacing_mm`. An `id` that is missing is the
            example's number, counted from 0 (of a stream in each data worker), a missing `group` its `id`.
        uses_text: without it, `text` may be missing.
        several_texts: of a `text` that is a list of texts; without it, lists are refused. "first" takes the first;
            "draw" does too, but keeps all as `all_texts`, of which `TextAwareAugmentation` draws one in each epoch. An
            empty list is no text.

    Raises:
        ValueError: Another kind of data set, columns that are missing, pixels of a kind that no image has, texts of
            another kind, or a transform of the user's own, which the training's would replace.
    """
    if several_texts not in (None, *SEVERAL_TEXTS):
        raise ValueError(f"`several_texts` is {several_texts!r}: give 'first' or 'draw', or leave it out.")
    if isinstance(dataset, Mapping) and not isinstance(dataset, AnyDataset):
        raise ValueError(f"This holds the splits {sorted(dataset)}: give one of them, such as dataset['train'].")
    if not isinstance(dataset, AnyDataset):
        raise ValueError(
            f"A `{type(dataset).__name__}` is no `datasets.Dataset`: make one, e.g. by "
            "`datasets.Dataset.from_list` or, of a torch data set, `datasets.Dataset.from_generator`."
        )
    if isinstance(dataset, datasets.IterableDataset):
        return ready_stream(dataset, uses_text, several_texts)
    if dataset.format["type"] == "custom":
        raise ValueError(
            "The data set has a transform of its own, which the training's would replace: apply it by `map`, or train "
            "by a plain `transformers.Trainer`."
        )
    if not len(dataset):
        raise ValueError(NO_EXAMPLE)
    check_columns(dataset.column_names, uses_text)
    kept = [name for name in (*FEATURES, ALL_TEXTS) if name in dataset.column_names]
    dataset = with_plain_names(dataset.with_format(None).select_columns(kept), uses_text, several_texts)
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


def with_plain_names(dataset: datasets.Dataset, uses_text: bool, several_texts: str | None) -> datasets.Dataset:
    """The data set with its text, id and group as `plain_names` gives them."""
    kinds = {name: dataset.features[name] for name in NAMES if name in dataset.column_names}
    has_texts = getattr(kinds.get("text", Value("null")), "dtype", None) in (*TEXTS, "null")
    if has_texts and not any(isinstance(kind, ClassLabel) for kind in kinds.values()):
        return dataset
    rows = [plain_names(row, kinds, uses_text, several_texts) for row in dataset.select_columns(list(kinds))]
    for name in rows[0]:
        kind = List(Value("string")) if name == ALL_TEXTS else Value("string")
        dataset = dataset.remove_columns([name] if name in dataset.column_names else [])
        dataset = dataset.add_column(name, [row[name] for row in rows], feature=kind)
    return dataset


def plain_names(
    row: Mapping[str, Any], kinds: Mapping[str, Any], uses_text: bool, several_texts: str | None
) -> dict[str, Any]:
    """Text, id and group of a row, names in place of class numbers, one text of several.

    Raises `ValueError` for a text of another kind, and for several where nothing says which.
    """
    found = {name: row[name] for name in NAMES if name in row}
    for name, value in found.items():
        if isinstance(kinds.get(name), ClassLabel):
            found[name] = None if value is None or value < 0 else kinds[name].int2str(value)
        elif name != "text" and value is not None:
            found[name] = str(value)
    text = found.get("text")
    if not uses_text and not isinstance(text, str):
        return found | {"text": None}
    texts = text if isinstance(text, (list, tuple)) else [text]
    if not all(isinstance(one, str | None) for one in texts):
        raise ValueError(
            f"The column 'text' holds {text!r} of the kind {kinds.get('text', type(text).__name__)}: give texts, or "
            "cast numbers of classes to their names by `dataset.cast_column('text', datasets.ClassLabel(names=[...]))`."
        )
    if texts is text:
        if several_texts is None:
            raise ValueError(SEVERAL)
        texts = [one for one in text if one and one.strip()]
        found["text"] = texts[0] if texts else None
    if several_texts == "draw" and ALL_TEXTS not in row:
        found[ALL_TEXTS] = [one for one in texts if one]
    return found


SEVERAL = (
    "The column 'text' holds lists, several texts an image. Take the first of each by "
    "`dataset = dataset.map(lambda row: {'text': (row['text'] or [None])[0]})`, or have one drawn in each epoch of "
    "training (and the first taken in validation) by `several_texts: draw` in the recipe, in Python by "
    "`dataset = ready_dataset(dataset, several_texts='draw')`."
)


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


def ready_stream(
    dataset: datasets.IterableDataset, uses_text: bool, several_texts: str | None = None
) -> datasets.IterableDataset:
    """As `ready_dataset`, example by example as they come."""
    first = next(iter(dataset), None)
    if first is None:
        raise ValueError(NO_EXAMPLE)
    check_columns(list(first), uses_text)
    features = dataset.features or {}
    plain_names(first, features, uses_text, several_texts)  # refuses now what it would refuse in training
    types = {}
    for part in PARTS:
        if isinstance(features.get(part), datasets.Image):
            dataset = dataset.cast_column(part, datasets.Image(decode=False))
        elif part in features and not holds_files(features[part]):
            types[part] = pixel_type(features[part], part)

    def name(example: dict[str, Any], index: int) -> dict[str, Any]:
        example = {**example, **plain_names(example, features, uses_text, several_texts)}
        identity = str(index if example.get("id") is None else example["id"])
        group = identity if example.get("group") is None else str(example["group"])
        arrays = {part: np.asarray(example[part], dtype) for part, dtype in types.items()}
        named = {"text": example.get("text"), "id": identity, "group": group}
        return {**example, **arrays, **named}

    return dataset.map(name, with_indices=True)
