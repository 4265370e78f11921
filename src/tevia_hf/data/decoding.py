"""Decoding of image and mask columns to arrays; this is where masks become label maps."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from tevia_hf.data.example import ImageRef, parse_files
from tevia_hf.io import MedicalImage, load_image
from tevia_hf.labels_tevia import IGNORE_INDEX, WhiteReading, is_lesion, single_channel, to_labels, values_of

# Arguments of the image processor for decoded examples: 255 in a label map is ignored, and channels come last.
AS_DECODED: dict[str, Any] = {"white_is_lesion": False, "input_data_format": "channels_last"}


def decode_image(example: Mapping[str, Any]) -> np.ndarray:
    """The pixels of an example's "image" (any input of `load_image`), (height, width[, channels]).

    Raises `ValueError` that names the example's id and the file.
    """
    with named(example, "image"):
        return decode(example["image"])


def decode_labels(
    example: Mapping[str, Any], num_labels: int | None, white_is_lesion: bool | None = None
) -> np.ndarray:
    """An example's "labels", or else the labels of its "mask": uint8 (height, width), 255 = ignored.

    The mask is any input of `load_image`, or a tuple of files, whose lesions are joined.

    Args:
        num_labels: of the model; None accepts all labels.
        white_is_lesion: what 255 means in the example's data set; by default inferred from this mask alone.

    Raises `ValueError` that names the example's id, the file and the fix if values are not labels.
    """
    if example.get("labels") is not None:
        return example["labels"]
    with named(example, "mask"):
        return labels_of(load_masks(example), num_labels, white_is_lesion)


def decode_example(
    example: Mapping[str, Any], num_labels: int | None, white_is_lesion: bool | None = None
) -> dict[str, Any]:
    """The example with its "image" as an array and "labels" in place of its "mask"."""
    rest = {name: value for name, value in example.items() if name != "mask"}
    labels = decode_labels(example, num_labels, white_is_lesion)
    return {**rest, "image": decode_image(example), "labels": labels}


def load_masks(example: Mapping[str, Any]) -> list[MedicalImage]:
    """Each file of an example's mask, (height, width), values as stored. Raises the errors of `load_image`."""
    loaded = [load_image(mask, is_mask=True) for mask in files_of(example["mask"]) or (example["mask"],)]
    channels = [np.moveaxis(np.atleast_3d(mask.array), -1, 0) for mask in loaded]
    return [
        mask._replace(array=np.ascontiguousarray(single_channel(pixels, name_of(mask))))
        for mask, pixels in zip(loaded, channels, strict=True)
    ]


def decode(value: Any, is_mask: bool = False) -> np.ndarray:
    """The pixels of one entry of a column. Raises the errors of `load_image`."""
    return load_image(value, is_mask).array


def name_of(mask: MedicalImage) -> str:
    return "the mask" if mask.source is None else str(mask.source.path)


def labels_of(masks: Sequence[MedicalImage], num_labels: int | None, white_is_lesion: bool | None = None) -> np.ndarray:
    """The joint label map of all masks of one image; without `white_is_lesion`, they define what 255 means."""
    if white_is_lesion is None:
        reading = WhiteReading(num_labels)
        for mask in masks:
            reading.add(name_of(mask), values_of(mask.array))
        white_is_lesion = reading.white_is_lesion()
    return join_labels([to_labels(mask.array, num_labels, name_of(mask), white_is_lesion) for mask in masks])


def join_labels(maps: Sequence[np.ndarray]) -> np.ndarray:
    """The label maps of one image as one: lesion if any map has a lesion, else ignored if any map ignores the pixel.

    Raises `ValueError` if their sizes differ, or if lesions of different labels overlap.
    """
    if len({labels.shape for labels in maps}) > 1:
        sizes = ", ".join(" x ".join(map(str, labels.shape)) for labels in maps)
        raise ValueError(f"its masks are {sizes} pixels, and cannot be joined. Resize them to the image.")
    joined = maps[0]
    for labels in maps[1:]:
        if (is_lesion(joined) & is_lesion(labels) & (joined != labels)).any():
            raise ValueError("its masks mark the same pixels with different labels. Save one mask of label numbers.")
        joined = np.where(is_lesion(labels) | ((labels == IGNORE_INDEX) & (joined == 0)), labels, joined)
    return joined


def files_of(value: Any) -> tuple[ImageRef, ...]:
    """The files of a column entry; empty for an entry in memory."""
    if isinstance(value, Mapping):
        value = value["path"] if value["bytes"] is None else None
    if isinstance(value, (str, Path)):
        return parse_files(value)
    return value if isinstance(value, tuple) else (value,) if isinstance(value, ImageRef) else ()


@contextmanager
def named(example: Mapping[str, Any], part: str) -> Iterator[None]:
    try:
        yield
    except (ValueError, OSError) as error:
        raise ValueError(f"{part} of example '{example.get('id')}': {error}") from error
