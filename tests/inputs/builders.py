"""Builders of small data sets and files, and the results or errors of reading them."""

import logging
import re
import struct
import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple

import numpy as np
from PIL import Image

from tevia_hf import TeViAImageProcessor, load_segmentation_dataset
from tevia_hf.data.check import DataReport, check_dataset
from tevia_hf.data.decoding import decode
from tevia_hf.data.registry import list_examples

SIZE = (64, 64)
PLACES = ("upper left", "lower left", "upper right", "lower right", "middle left", "middle right")


# Pixels


def noise(height: int = SIZE[0], width: int = SIZE[1], seed: int = 0, channels: int | None = None) -> np.ndarray:
    shape = (height, width) if channels is None else (height, width, channels)
    return np.random.default_rng(seed).integers(0, 255, shape).astype(np.uint8)


def lesion(height: int = SIZE[0], width: int = SIZE[1], value: int = 255) -> np.ndarray:
    """A rectangle that every flip, rotation or transposition moves."""
    mask = np.zeros((height, width), np.uint8)
    mask[height // 8 : 3 * height // 8, width // 6 : width // 2] = value
    return mask


def drawn() -> np.ndarray:
    return lesion() > 0


def half_drawn() -> np.ndarray:
    """The left half of the lesion: its Dice against the whole is 2/3 or near it."""
    half = lesion(value=1)
    half[:, 21:] = 0
    return half


# Folders


def folder(root: Path) -> Path:
    for part in ("images", "masks"):
        (root / part).mkdir(parents=True, exist_ok=True)
    return root


def text_of(number: int) -> str:
    """One of the texts that a model can tell apart."""
    return f"{PLACES[number % len(PLACES)]} lung, {['one', 'two', 'three'][number // len(PLACES) % 3]} infected areas."


def put(path: Path, content: Any) -> None:
    """Writes an array or PIL image, or calls a function with the path."""
    if callable(content):
        content(path)
    else:
        (Image.fromarray(content) if isinstance(content, np.ndarray) else content).save(path)


def table(root: Path, names: Sequence[str], texts: Sequence[str] | None = None, **columns: Sequence[str]) -> None:
    """`table.csv` with every cell in quotation marks."""
    texts = [text_of(number) for number in range(len(names))] if texts is None else texts
    held = {"Image": names, "Description": texts, "split": ["train"] * len(names), **columns}
    lines = [",".join(f'"{cell}"' for cell in row) for row in (list(held), *zip(*held.values(), strict=True))]
    (root / "table.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")


def data_set(
    root: Path,
    masks: Mapping[str, Any],
    images: Mapping[str, Any] | None = None,
    texts: Sequence[str] | None = None,
    suffix: str = ".png",
    image_suffix: str | None = None,
    **columns: Sequence[str],
) -> Path:
    """`images/`, `masks/` and a table of an example for each mask; images are noise where none is given."""
    folder(root)
    for number, (name, mask) in enumerate(masks.items()):
        put(root / "images" / f"{name}{image_suffix or suffix}", (images or {}).get(name, noise(seed=number)))
        put(root / "masks" / f"{name}{suffix}", mask)
    table(root, list(masks), texts, **columns)
    return root


def pair(root: Path, mask: Any, image: Any = None, mask_suffix: str = ".png", image_suffix: str = ".png") -> Path:
    """A data set of the example "a", and a plain one beside it, so that texts differ."""
    folder(root)
    put(root / "images" / f"a{image_suffix}", noise() if image is None else image)
    put(root / "masks" / f"a{mask_suffix}", mask)
    put(root / "images" / "plain.png", noise(seed=99))
    put(root / "masks" / "plain.png", drawn())  # of one bit, which says nothing of 255
    table(root, ["a", "plain"])
    return root


# What the package answers


class Answer(NamedTuple):
    """The result of a call or its error message, and its warnings by `warnings` or `logging`."""

    value: Any
    error: str | None
    warned: list[str]

    def names(self, *words: str) -> bool:
        """Whether the refusal or a warning holds one of the words."""
        return mentions([self.error or "", *self.warned], *words)


class _Heard(logging.Handler):
    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(record.getMessage())


def answer(action: Callable[[], Any], *refusals: type[Exception]) -> Answer:
    """Calls; a `ValueError` (or one of `refusals`) is an answer, any other exception is not caught."""
    heard, value, error = _Heard(), None, None
    loggers = [logging.getLogger(), logging.getLogger("transformers"), logging.getLogger("tevia_hf")]
    for logger in loggers:
        logger.addHandler(heard)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            value = action()
        except (ValueError, *refusals) as problem:
            error = str(problem)
        finally:
            for logger in loggers:
                logger.removeHandler(heard)
    return Answer(value, error, [str(warning.message) for warning in caught] + heard.lines)


def mentions(lines: Sequence[str], *words: str) -> bool:
    """Whether a line holds one of the words, other than in the name of the test's own folder."""
    plain = [re.sub(r"\S*pytest-\S*/", "", line).lower() for line in lines]
    return any(word.lower() in line for line in plain for word in words)


def examined(root: Path, num_labels: int = 1, **options: Any) -> DataReport:
    """The report of `tevia check-data folder ROOT`."""
    processor = SimpleNamespace(image_processor=TeViAImageProcessor(num_labels=num_labels))
    return check_dataset(list_examples("folder", root), processor, **options)


def refusal_or_report(root: Path, num_labels: int = 1, **options: Any) -> tuple[list[str], list[str]]:
    """(faults, warnings) of check-data; an error for the whole set is its only fault."""
    given = answer(lambda: examined(root, num_labels, **options))
    if given.error is not None:
        return [given.error], []
    return given.value.faults, given.value.warnings


def spoken_of(root: Path, num_labels: int = 1, **options: Any) -> list[str]:
    """All faults and warnings of check-data for a set."""
    faults, warned = refusal_or_report(root, num_labels, **options)
    return [*faults, *warned]


def faults_of(root: Path, num_labels: int = 1, **options: Any) -> list[str]:
    return refusal_or_report(root, num_labels, **options)[0]


def labels_of(root: Path, name: str = "a", num_labels: int = 1, split: str = "train") -> np.ndarray:
    """The label map that the image processor returns for a mask of the data set."""
    rows = {row["id"]: row for row in load_segmentation_dataset("folder", root, split=split)}
    row = rows[name]
    processor = TeViAImageProcessor(num_labels=num_labels)
    return processor(row["image"], row["mask"], do_resize=False)["labels"][0].numpy()


def read_mask(path: Path, num_labels: int = 1) -> np.ndarray:
    """The label map of a mask file by its path."""
    pixels = decode(str(path), is_mask=True)
    image = noise(*pixels.shape[:2])
    return TeViAImageProcessor(num_labels=num_labels)(image, pixels, do_resize=False)["labels"][0].numpy()


def same_order(read: np.ndarray, truth: np.ndarray) -> bool:
    """Whether brighter pixels are brighter, whatever the scale."""
    if read.ndim == 3 and truth.ndim == 2 and (read == read[..., :1]).all():
        read = read[..., 0]  # grey in colour
    read, truth = np.asarray(read, float).ravel(), np.asarray(truth, float).ravel()
    return read.shape == truth.shape and bool(read.std() > 0) and np.corrcoef(read, truth)[0, 1] > 0.99


# Files


def write_tiff(
    path: Path,
    raw: bytes,
    size: tuple[int, int],
    bits: int,
    photometric: int = 1,
    samples: int = 1,
    planar: int = 1,
    sample_format: int = 1,
) -> Path:
    """An uncompressed little-endian TIFF of one strip, or of one strip a plane."""
    planes = samples if planar == 2 else 1
    numbers = {
        256: ("H", [size[1]]),
        257: ("H", [size[0]]),
        258: ("H", [bits] * samples),
        259: ("H", [1]),
        262: ("H", [photometric]),
        273: ("I", [0] * planes),
        277: ("H", [samples]),
        278: ("H", [size[0]]),
        279: ("I", [len(raw) // planes] * planes),
        284: ("H", [planar]),
        339: ("H", [sample_format] * samples),
    }
    beside = 8 + 2 + 12 * len(numbers) + 4
    start = beside + 128
    numbers[273] = ("I", [start + plane * (len(raw) // planes) for plane in range(planes)])
    entries, extra = b"", b""
    for tag, (kind, values) in sorted(numbers.items()):
        packed = struct.pack(f"<{len(values)}{kind}", *values)
        if len(packed) > 4:
            packed, extra = struct.pack("<I", beside + len(extra)), extra + packed
        entries += struct.pack("<HHI", tag, {"H": 3, "I": 4}[kind], len(values)) + packed.ljust(4, b"\0")
    head = b"II*\0" + struct.pack("<IH", 8, len(numbers)) + entries + bytes(4) + extra
    path.write_bytes(head.ljust(start, b"\0") + raw)
    return path


def tiff_of(pixels: np.ndarray, photometric: int = 1) -> Callable[[Path], Path]:
    """A function that writes grey pixels of any numpy type, its sample format that of the type."""
    kind = {"u": 1, "i": 2, "f": 3, "c": 6}[pixels.dtype.kind]

    def write(path: Path) -> Path:
        little = pixels.astype(pixels.dtype.newbyteorder("<"))
        bits = 8 * pixels.itemsize
        return write_tiff(path, little.tobytes(), pixels.shape[:2], bits, photometric, sample_format=kind)

    return write


def bits_tiff(mask: np.ndarray, photometric: int) -> Callable[[Path], Path]:
    """A function that writes booleans as 1 bit a pixel."""
    packed = np.packbits(mask.astype(bool), axis=1).tobytes()
    return lambda path: write_tiff(path, packed, mask.shape, 1, photometric)


def turned(orientation: int, pixels: np.ndarray, **options: Any) -> Callable[[Path], None]:
    """A function that writes the pixels with an EXIF orientation."""
    exif = Image.Exif()
    exif[0x0112] = orientation
    return lambda path: Image.fromarray(pixels).save(path, exif=exif, **options)
