"""Preparation of a user's data set: the columns that every data source has."""

import difflib
from collections.abc import Iterator, Mapping
from io import BytesIO
from typing import Any, TypeAlias
from zlib import crc32

import datasets
import numpy as np
from datasets import ClassLabel, List, Value
from PIL import Image

from tevia_hf.data.faults import raise_problems
from tevia_hf.data.features import FEATURES, ImageFile, MaskFile, repeated_ids

AnyDataset: TypeAlias = datasets.Dataset | datasets.IterableDataset
PARTS = {"image": ImageFile(), "mask": MaskFile()}
NO_EXAMPLE = "The data set has no examples: check its source."
TEXTS = ("string", "large_string", "binary", "large_binary")
NAMES = ("text", "id", "group")
SEVERAL_TEXTS = ("first", "draw")
ALL_TEXTS = "all_texts"  # the column beside `text`, which holds the first
SEVERAL = (
    "The column 'text' holds lists, several texts per image. Take the first of each by "
    "`dataset = dataset.map(lambda row: {'text': (row['text'] or [None])[0]})`, or sample one in each epoch of "
    "training (validation uses the first) by `several_texts: draw` in the recipe, in Python by "
    "`dataset = ready_dataset(dataset, several_texts='draw')`."
)


def ready_dataset(dataset: AnyDataset, uses_text: bool = True, several_texts: str | None = None) -> AnyDataset:
    """A user's data set with the columns image, mask, text, id and group; `ClassLabel` columns become class names.

    Args:
        dataset: a `datasets.Dataset` or `datasets.IterableDataset` with `image` and `mask` (PIL images, arrays, paths,
            or undecoded), `text`, and optionally `id`, `group` and `spacing_mm`. A missing `id` becomes the example's
            number, counted from 0 (for a stream in each data worker), a missing `group` its `id`.
        uses_text: if false, `text` may be missing.
        several_texts: what to do with a list of texts per image; by default lists are rejected. "first" takes the first
            text; "draw" does too, but keeps all as `all_texts`, from which `TextAwareAugmentation` samples one in each
            epoch. An empty list is no text.

    Raises `ValueError` for another type of data set, missing columns, pixels or texts of another type, and a transform
    set by the user, which would not be applied.
    """
    if several_texts not in (None, *SEVERAL_TEXTS):
        raise ValueError(f"`several_texts` is {several_texts!r}: give 'first' or 'draw', or leave it out.")
    if isinstance(dataset, Mapping) and not isinstance(dataset, AnyDataset):
        raise ValueError(
            f"This is a mapping of the splits {sorted(dataset)}: give one of them, such as dataset['train']."
        )
    if not isinstance(dataset, AnyDataset):
        raise ValueError(
            f"A `{type(dataset).__name__}` is no `datasets.Dataset`: make one, e.g. by "
            "`datasets.Dataset.from_list` or, from a torch data set, `datasets.Dataset.from_generator`."
        )
    if isinstance(dataset, datasets.IterableDataset):
        return ready_stream(dataset, uses_text, several_texts)
    if dataset.format["type"] == "custom":
        raise ValueError(
            "The data set has a transform of its own, which would not be applied: apply it by `map`, or train with a "
            "plain `transformers.Trainer`."
        )
    if not len(dataset):
        raise ValueError(NO_EXAMPLE)
    check_columns(dataset.column_names, uses_text)
    kept = [name for name in (*FEATURES, ALL_TEXTS) if name in dataset.column_names]
    dataset = with_names(dataset.with_format(None).select_columns(kept), uses_text, several_texts)
    for part, feature in PARTS.items():
        dataset = as_files(dataset, part, feature)
    return dataset


def check_columns(names: list[str], uses_text: bool) -> None:
    """Raises `ValueError` if a column is missing, with the call that renames a likely column."""
    missing = [name for name in ("image", "mask", *(["text"] if uses_text else [])) if name not in names]
    if not missing:
        return
    others = [name for name in names if name not in FEATURES]
    own = (difflib.get_close_matches(missing[0], others, n=1, cutoff=0.4) or others or ["its name"])[0]
    without = " A vision-only model (`use_text: false` under `config`) needs none." * ("text" in missing)
    raise ValueError(
        f"The data set has the columns {names}, but no {' and no '.join(missing)}: name them, e.g. by "
        f"`dataset.rename_column('{own}', '{missing[0]}')`.{without}"
    )


def as_files(dataset: datasets.Dataset, part: str, feature: datasets.Image) -> datasets.Dataset:
    """The data set with the column as image files in place of arrays or paths."""
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
    """Whether a column holds images (decoded or not), paths or file contents, rather than arrays."""
    is_undecoded = isinstance(feature, dict) and {"bytes", "path"} <= feature.keys()
    return isinstance(feature, datasets.Image) or is_undecoded or getattr(feature, "dtype", None) in TEXTS


def pixel_type(feature: Any, part: str) -> np.dtype:
    """The dtype of a column of arrays. Raises `ValueError` for a column of anything else."""
    inner = feature
    while hasattr(inner, "feature"):
        inner = inner.feature
    if isinstance(feature, Value) or not hasattr(inner, "dtype") or inner.dtype in TEXTS:
        raise ValueError(f"The column '{part}' is of the kind {feature}: give images, arrays or paths.")
    return np.dtype(inner.dtype)


def encoded(pixels: np.ndarray, part: str) -> bytes:
    """The content of a TIFF file with exactly these pixels. Raises `ValueError` for an unsupported shape or dtype."""
    dtype = {"b": np.uint8, "f": np.float32}.get(pixels.dtype.kind, pixels.dtype)
    if part == "mask" and pixels.dtype.kind in "iu" and set(np.unique(pixels)) <= set(range(256)):
        dtype = np.uint8
    try:
        image = Image.fromarray(pixels.astype(dtype))
    except (TypeError, ValueError) as error:
        raise ValueError(
            f"An array of the column '{part}' has shape {pixels.shape} and type {pixels.dtype}: give (height, width) "
            "of uint8, uint16 or float32, or (height, width, 3) of uint8."
        ) from error
    content = BytesIO()
    image.save(content, "TIFF")
    return content.getvalue()


def with_names(dataset: datasets.Dataset, uses_text: bool, several_texts: str | None) -> datasets.Dataset:
    """The data set with text, id and group for every example, as returned by `plain_names`."""
    present = [name for name in NAMES if name in dataset.column_names]
    for name in present:
        kind = dataset.features[name]
        if getattr(kind, "dtype", None) in (*TEXTS, "null"):
            dataset = dataset.cast_column(name, Value("string"))
    kinds, values = {name: dataset.features[name] for name in present}, dataset.select_columns(present)[:]
    rows = [{name: values[name][index] for name in present} for index in range(len(dataset))]
    several_texts = None if kinds.get("text") == Value("string") else several_texts
    rows = [plain_names(row, kinds, uses_text, several_texts) for row in rows]
    numbers = list(map(str, range(len(rows))))
    used = {row[name] for row in rows for name in ("id", "group")}
    prefix = "row-" if used & set(numbers) else ""  # a row without a name must not join another's group
    rows = [numbered(row, prefix + number) for row, number in zip(rows, numbers, strict=True)]
    raise_problems("The data set", repeated_ids(row["id"] for row in rows), "Give every example a unique id.")
    for name in rows[0]:
        column, kind = [row[name] for row in rows], List(Value("string")) if name == ALL_TEXTS else Value("string")
        if name not in present or column != values[name] or kinds[name] != kind:
            dataset = dataset.remove_columns([name] if name in dataset.column_names else [])
            dataset = dataset.add_column(name, column, feature=kind)
    return dataset


def plain_names(
    row: Mapping[str, Any], kinds: Mapping[str, Any], uses_text: bool, several_texts: str | None
) -> dict[str, Any]:
    """Text, id and group of a row, or None: class names in place of class numbers, one of several texts.

    Raises `ValueError` for a text of another type, and for several texts if `several_texts` is not set.
    """
    names = {name: row.get(name) for name in NAMES}
    for name, value in names.items():
        if value is not None and isinstance(kinds.get(name), ClassLabel):
            names[name] = kinds[name].int2str(value) if value >= 0 else None
        elif value is not None and name != "text":
            is_whole = isinstance(value, float) and value.is_integer()  # as pandas reads whole numbers with gaps
            names[name] = str(int(value) if is_whole else value)
    text = names["text"]
    if not uses_text and not isinstance(text, str):
        return names | {"text": None}
    texts = text if isinstance(text, (list, tuple)) else [text]
    if not all(isinstance(one, str | None) for one in texts):
        raise ValueError(
            f"The column 'text' holds {text!r} of the kind {kinds.get('text', type(text).__name__)}: give texts, or "
            "cast class numbers to their names by `dataset.cast_column('text', datasets.ClassLabel(names=[...]))`."
        )
    if texts is text:
        if several_texts is None:
            raise ValueError(SEVERAL)
        texts = [one for one in text if one and one.strip()]
        names["text"] = texts[0] if texts else None
    if several_texts == "draw" and ALL_TEXTS not in row:
        names[ALL_TEXTS] = [one for one in texts if one]
    return names


def numbered(names: dict[str, Any], number: str) -> dict[str, Any]:
    """The names of a row; a missing id becomes the number, a missing group the id."""
    identity = number if names["id"] is None else names["id"]
    return names | {"id": identity, "group": identity if names["group"] is None else names["group"]}


def ready_stream(
    dataset: datasets.IterableDataset, uses_text: bool, several_texts: str | None = None
) -> datasets.IterableDataset:
    """`ready_dataset` for a stream, example by example."""
    first = next(iter(dataset), None)
    if first is None:
        raise ValueError(NO_EXAMPLE)
    check_columns(list(first), uses_text)
    features = dataset.features or {}
    plain_names(first, features, uses_text, several_texts)  # fails before training starts
    types = {}
    for part in PARTS:
        if isinstance(features.get(part), datasets.Image):
            dataset = dataset.cast_column(part, datasets.Image(decode=False))
        elif part in features and not holds_files(features[part]):
            types[part] = pixel_type(features[part], part)

    def name(example: dict[str, Any], index: int) -> dict[str, Any]:
        arrays = {part: np.asarray(example[part], dtype) for part, dtype in types.items()}
        return {**example, **arrays, **numbered(plain_names(example, features, uses_text, several_texts), str(index))}

    return dataset.map(name, with_indices=True)


def with_sampled_text(example: Mapping[str, Any], seed: int, epoch: int) -> dict[str, Any]:
    """The example with one of its `all_texts`, sampled by seed, epoch and id; unchanged if it has none."""
    if not (texts := example.get(ALL_TEXTS)):
        return dict(example)
    rng = np.random.default_rng([seed, epoch, crc32(str(example.get("id")).encode())])
    return {**example, "text": texts[rng.integers(len(texts))]}


def texts_of(dataset: datasets.Dataset) -> Iterator[str]:
    """Every text that the examples of a data set may have."""
    yield from filter(None, dataset["text"])
    for texts in dataset[ALL_TEXTS] if ALL_TEXTS in dataset.column_names else []:
        yield from texts[1:]
