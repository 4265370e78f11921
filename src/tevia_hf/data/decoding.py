"""The entries of image and mask columns to arrays; masks become label maps here, before anything else sees them."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from tevia_hf.data.example import ImageRef, parse_files
from tevia_hf.decoding_tevia import CHANNELS, one_page
from tevia_hf.io import read_image
from tevia_hf.labels_tevia import IGNORE_INDEX, WHITE, is_lesion, single_channel, to_labels

# What the image processor must know of decoded examples: 255 is ignored in a label map, and channels come last.
AS_DECODED: dict[str, Any] = {"white_is_lesion": False, "input_data_format": "channels_last"}


def decode_image(example: Mapping[str, Any]) -> np.ndarray:
    """The pixels of an example's "image", (height, width[, channels]).

    It is undecoded ({"path", "bytes"}), a path, an `ImageRef`, a PIL image or an array. Raises ValueError naming the
    example's id and the file.
    """
    with _named(example, "image"):
        return decode(example["image"])


def decode_labels(example: Mapping[str, Any], num_labels: int | None) -> np.ndarray:
    """An example's "labels", or else the labels of its "mask": uint8 (height, width), 255 where they are ignored.

    The mask is what `decode_image` takes, or a tuple of files, whose lesions are joined.

    Args:
        num_labels: of the model; None reads whatever labels there are.

    Raises ValueError naming the example's id, the file and what to do where values are no labels.
    """
    if example.get("labels") is not None:
        return example["labels"]
    with _named(example, "mask"):
        return join_labels(labels_of(entries(example["mask"]), num_labels))


def decode_example(example: Mapping[str, Any], num_labels: int | None) -> dict[str, Any]:
    """The example with its "image" as an array and "labels" in the place of its "mask"."""
    rest = {name: value for name, value in example.items() if name != "mask"}
    return {**rest, "image": decode_image(example), "labels": decode_labels(example, num_labels)}


def stored_masks(example: Mapping[str, Any]) -> list[np.ndarray]:
    """The values of each file of an example's mask, as they are stored."""
    with _named(example, "mask"):
        return [decode(mask, is_mask=True) for mask in entries(example["mask"])]


def decode(value: Any, is_mask: bool = False) -> np.ndarray:
    """The pixels of one entry of a column, as they are stored.

    Raises ValueError for a file that cannot be read.
    """
    if isinstance(value, Mapping):
        content, value = value["bytes"], value["path"]
        if content is not None:
            return _decode_bytes(content, is_mask)
    if value is None:
        raise ValueError("it is missing. Add it, or leave the row out.")
    if isinstance(value, (str, Path, ImageRef)):
        return read_image(value, is_mask).array
    if isinstance(value, Image.Image):
        return one_page(value, "the image", is_mask)
    return channels_last(np.asarray(value))


def channels_last(pixels: np.ndarray) -> np.ndarray:
    """An array (height, width[, channels]); one whose channels can only come first, as in torch, is turned."""
    comes_first = pixels.ndim == 3 and pixels.shape[0] in CHANNELS and pixels.shape[-1] not in CHANNELS
    return np.moveaxis(pixels, 0, -1) if comes_first else pixels


def decode_files(spelling: str, is_mask: bool = False) -> np.ndarray:
    """The pixels of a file by its spelling; of the spelling of several masks the labels they have together."""
    files = parse_files(spelling)
    if len(files) == 1:
        return decode(files[0], is_mask)
    return join_labels(labels_of(files, None))


def labels_of(masks: Sequence[Any], num_labels: int | None) -> list[np.ndarray]:
    """The labels of each mask of one image; a label above 1 in one shows that there are several, and 255 is ignored."""
    names = [str(mask) if isinstance(mask, ImageRef) else "the mask" for mask in masks]
    stored = [np.moveaxis(np.atleast_3d(decode(mask, is_mask=True)), -1, 0) for mask in masks]
    channels = [single_channel(pixels, name) for pixels, name in zip(stored, names, strict=True)]
    is_white = all(np.isin(pixels, (0, 1, WHITE)).all() for pixels in channels)
    return [to_labels(pixels, num_labels, name, is_white) for pixels, name in zip(channels, names, strict=True)]


def join_labels(maps: Sequence[np.ndarray]) -> np.ndarray:
    """One label map of several of one image: what is lesion in any of them, and ignored where one says so and no other
    marks a lesion.

    Raises ValueError where their sizes differ, or two lesions of different labels overlap.
    """
    if len({labels.shape for labels in maps}) > 1:
        sizes = ", ".join(" x ".join(map(str, labels.shape)) for labels in maps)
        raise ValueError(f"its masks are {sizes} pixels, and cannot be joined. Bring them to the size of the image.")
    joined = np.zeros_like(maps[0])
    for labels in maps:
        if (is_lesion(joined) & is_lesion(labels) & (joined != labels)).any():
            raise ValueError("its masks mark the same pixels by different labels. Save one mask of label numbers.")
        joined = np.where(is_lesion(labels) | ((labels == IGNORE_INDEX) & (joined == 0)), labels, joined)
    return joined


def entries(value: Any) -> tuple[Any, ...]:
    """What an entry of a mask column stands for, one for each file."""
    return files_of(value) or (value,)


def files_of(value: Any) -> tuple[ImageRef, ...]:
    """The files of a column's entry; none of one that is held in memory."""
    if isinstance(value, Mapping):
        value = value["path"] if value["bytes"] is None else None
    if isinstance(value, (str, Path)):
        return parse_files(value)
    return value if isinstance(value, tuple) else (value,) if isinstance(value, ImageRef) else ()


@contextmanager
def _named(example: Mapping[str, Any], part: str) -> Iterator[None]:
    try:
        yield
    except (ValueError, OSError) as error:
        raise ValueError(f"{part} of example '{example.get('id')}': {error}") from error


def _decode_bytes(content: bytes, is_mask: bool) -> np.ndarray:
    try:
        image = Image.open(BytesIO(content))
        image.load()
    except Exception as error:  # Pillow's decoders raise nearly anything on damaged bytes
        raise ValueError(f"embedded image is corrupt or cut short ({error}). Build the data set again.") from error
    return one_page(image, "the embedded image", is_mask)
