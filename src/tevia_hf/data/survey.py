"""A data set read once as training will read it: what is wrong with it, and what its masks mean together."""

import hashlib
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sized
from contextlib import suppress
from functools import partial
from itertools import chain
from typing import Any, NamedTuple, get_args

import numpy as np
from datasets.utils import tqdm
from PIL import Image

from tevia_hf.data.decoding import files_of, labels_of, load_masks, name_of, named
from tevia_hf.data.features import check_choice, raise_problems, some_of
from tevia_hf.data.listing import OnError
from tevia_hf.data.reading import on_all_cores, remembered
from tevia_hf.io import ImageRef, MedicalImage, load_image
from tevia_hf.io.grid import grid_fault, turn_note
from tevia_hf.labels_tevia import WhiteReading, is_foreign, is_lesion, refusal, values_of
from tevia_hf.metrics import Spacing

THUMBNAIL = 32  # pixels a side
MOST_COVERED = 0.5  # share of the image that few lesions have


class Examined(NamedTuple):
    """An example whose files have been read and compared; `values` are the distinct ones of each mask."""

    id: str
    image: MedicalImage
    masks: list[MedicalImage]
    values: list[np.ndarray]
    note: str | None

    def labels(self, num_labels: int | None, white_is_lesion: bool | None = None) -> np.ndarray:
        """The label map (height, width), 255 where it is ignored; by default its masks tell what 255 means."""
        with named({"id": self.id}, "mask"):
            return labels_of(self.masks, num_labels, white_is_lesion)


class Fault(NamedTuple):
    """Why an example cannot be used; `part` of a run, such as "train"."""

    id: str
    part: str
    reason: str


class Findings(NamedTuple):
    """What an example shows, without its pixels; `lesion` and `corners` with 255 read as ignored and as the lesion."""

    size: tuple[int, int]  # (height, width) of the image
    values: list[list[float]]  # the distinct ones of each mask
    lesion: tuple[float, float]  # share of the image
    corners: tuple[bool, bool]  # whether all four are lesion
    is_flat: bool  # whether all pixels of the image are equal
    spacing_mm: Spacing | None  # (row, column), where the image's file names it
    note: str | None
    fingerprint: str
    thumbnail: str  # its bytes in hexadecimal


def examine(example: Mapping[str, Any], image_processor: Any) -> Examined:
    """An example's image and masks, read and compared as training needs them.

    Raises `ValueError` that names the example, and says what to do, for what cannot be read, a mask that does not lie
    over its image, and values that are no labels of `image_processor.num_labels`.
    """
    with named(example, "image"):
        image = load_image(example["image"])
        image_processor.read_image(image.array, input_data_format="channels_last")
    with named(example, "mask"):
        masks, values = load_masks(example), []
        for mask in masks:
            if fault := grid_fault(image, mask):
                raise ValueError(f"{name_of(mask)}: {fault}.")
            values.append(values_of(mask.array))
            if is_foreign(values[-1], image_processor.num_labels).any():
                raise ValueError(refusal(name_of(mask), values[-1], image_processor.num_labels))
        note = next(filter(None, (turn_note(image, mask) for mask in masks)), None)
    return Examined(str(example.get("id")), image, masks, values, note)


def reference_labels(
    example: Mapping[str, Any], image_processor: Any, white_is_lesion: bool | None = None
) -> np.ndarray:
    """An example's true labels (height, width) at the image's own size; errors as of `examine`."""
    return examine(example, image_processor).labels(image_processor.num_labels, white_is_lesion)


def findings_of(examined: Examined, num_labels: int, declared: bool | None) -> Findings:
    """What an examined example shows; `declared` is what the user set 255 to mean."""
    own = WhiteReading(num_labels)
    for mask, values in zip(examined.masks, examined.values, strict=True):
        own.add(name_of(mask), values)
    maps = [is_lesion(examined.labels(num_labels, declared or False))]
    if own.is_open and own.without_white is None:
        maps.append(is_lesion(examined.labels(num_labels, True)))
    shares = [float(lesion.mean()) for lesion in maps]
    corners = [bool(lesion[[0, 0, -1, -1], [0, -1, 0, -1]].all()) for lesion in maps]
    pixels = examined.image.array
    return Findings(
        size=pixels.shape[:2],
        values=[values.tolist() for values in examined.values],
        lesion=(shares[0], shares[-1]),
        corners=(corners[0], corners[-1]),
        is_flat=bool((pixels == pixels[:1, :1]).all()),
        spacing_mm=examined.image.spacing_mm,
        note=examined.note,
        fingerprint=fingerprint(pixels),
        thumbnail=thumbnail(pixels).tobytes().hex(),
    )


def fingerprint(pixels: np.ndarray) -> str:
    """Equal for images with equal pixels."""
    return hashlib.sha1(f"{pixels.shape}{pixels.dtype}".encode() + np.ascontiguousarray(pixels).tobytes()).hexdigest()


def thumbnail(pixels: np.ndarray) -> np.ndarray:
    """The image (height, width[, channels]) as 32 x 32 grey values of mean 0 and length 1, (1024,) float32."""
    grey = pixels[..., :3].mean(-1) if pixels.ndim == 3 else pixels
    small = Image.fromarray(grey.astype(np.float32)).resize((THUMBNAIL, THUMBNAIL), Image.Resampling.BOX)
    values = np.asarray(small, np.float64).ravel()
    values = values - values.mean()
    return (values / (np.linalg.norm(values) or 1.0)).astype(np.float32)


class Survey:
    """Collects what reading example after example tells of a whole set.

    The image processor of the model decides what can be read; with `cache`, files that were read before are read only
    where they have changed.
    """

    def __init__(self, image_processor: Any, white_is_lesion: bool | None = None, cache: bool = True) -> None:
        self.image_processor = image_processor
        self.white = WhiteReading(image_processor.num_labels, white_is_lesion)
        self.cache = cache
        self.findings: list[tuple[str, Findings]] = []  # with the example's id
        self.spacings: list[Spacing | None] = []  # of the same examples: their own, or else their image's
        self.faults: list[Fault] = []
        self.has_stream = False  # a part that is not read beforehand
        self._masks_read: set[tuple[ImageRef, ...]] = set()

    def read_all(self, examples: Iterable[Mapping[str, Any]], on_error: OnError = "raise", part: str = "") -> list[int]:
        """The positions of the examples that can be used; their pixels are not held.

        Args:
            on_error: "skip" takes note of what cannot be used; "raise" names all of it in one `ValueError`.
            part: of the run, such as "train", for the list of what was skipped.

        Raises `ValueError` too where no example can be used.
        """
        check_choice("on_error", on_error, get_args(OnError))
        known = len(self.faults)
        positions = [position for position, _ in self.read(examples, part)]
        if on_error == "raise" or not positions:
            reasons = [fault.reason for fault in self.faults[known:]]
            skip = ", or skip them by `on_error: skip` (`--on-error skip`)" if on_error == "raise" else ""
            raise_problems("The data set", reasons, f"Replace these files, leave the rows out{skip}.", len(reasons))
        return positions

    def read(self, examples: Iterable[Mapping[str, Any]], part: str = "") -> Iterator[tuple[int, Findings]]:
        """Position and findings of each example that can be used; note is taken of all of them."""
        total = len(examples) if isinstance(examples, Sized) else None
        results = on_all_cores(self._result, examples)
        for position, (example, result) in enumerate(tqdm(results, "Reading images and masks", total)):
            if isinstance(result, str):
                self.faults.append(Fault(str(example.get("id")), part, result))
                continue
            self.findings.append((str(example.get("id")), result))
            spacing = example.get("spacing_mm") or result.spacing_mm
            self.spacings.append(spacing and (float(spacing[0]), float(spacing[1])))
            self._masks_read |= {files for files in [files_of(example["mask"])] if files}
            _take_note(self.white, example, result.values)
            yield position, result

    def _result(self, example: Mapping[str, Any]) -> Findings | str:
        """What an example shows, or the reason why it cannot be used."""
        processor, declared = self.image_processor, self.white.declared
        reader = f"{type(processor).__module__}.{type(processor).__qualname__}"
        try:
            found = remembered(
                ["findings", reader, processor.num_labels, declared],
                _files_of(example, "image", "mask"),
                lambda: findings_of(examine(example, processor), processor.num_labels, declared),
                self.cache and reader.startswith("tevia_hf."),  # of others nobody knows when they change
            )
        except (ValueError, OSError) as error:
            return str(error)
        return Findings(*found)

    def consult(self, examples: Iterable[Mapping[str, Any]]) -> None:
        """Lets the masks of further examples of the set tell what 255 means, where those that were read do not."""
        if not self.white.is_open:
            return
        others = (example for example in examples if _files_of(example, "mask") not in self._masks_read)
        for example, values in on_all_cores(partial(_values_in, cache=self.cache), others):
            if not self.white.is_open:
                return
            if not isinstance(values, Exception):  # what is not used may be damaged
                _take_note(self.white, example, values)

    def white_is_lesion(self) -> bool | None:
        """What 255 means in the set; where a part of it is a stream, or nothing was read, what was declared.

        Raises `ValueError` that names two masks which disagree.
        """
        is_known = bool(self.findings) and not self.has_stream
        return self.white.white_is_lesion() if is_known else self.white.declared

    def skipped(self) -> list[dict[str, str]]:
        """What cannot be used, as a report lists it."""
        return [{"id": fault.id, "reason": fault.reason} for fault in self.faults]

    def _reading(self) -> int:
        """Which of the two readings of 255 holds: as ignored where the masks disagree about it."""
        with suppress(ValueError):
            return int(bool(self.white_is_lesion()))
        return 0

    def lesion_shares(self) -> list[float]:
        """The lesion's share of each image; with 255 read as ignored where the masks disagree about it."""
        reading = self._reading()
        return [findings.lesion[reading] for _, findings in self.findings]

    def warnings(self) -> list[str]:
        """What looks as no data set should, though nothing proves it wrong."""
        reading, exchanged = self._reading(), "look whether lesion and background are exchanged"
        shares = [share for share in self.lesion_shares() if share]
        in_corners = [name for name, findings in self.findings if findings.corners[reading]]
        flat = [name for name, findings in self.findings if findings.is_flat]
        notes = [f"'{name}': {findings.note}" for name, findings in self.findings if findings.note]
        warned = [warning] if (warning := self.white.warning()) else []
        if shares and np.median(shares) > MOST_COVERED:
            warned.append(f"half of the masks mark {100 * np.median(shares):.0f} % of the image and more: {exchanged}")
        if len(in_corners) > len(shares) / 2:
            count = f"{len(in_corners)} of {len(shares)} masks"
            warned.append(f"{count} mark all four corners of the image ({some_of(in_corners)}): {exchanged}")
        if flat:
            warned.append(f"{len(flat)} images hold one value only ({some_of(flat)}): look at their files and windows")
        if notes:
            warned.append(f"{len(notes)} examples are turned by EXIF on one side: {some_of(notes)}")
        return warned


def white_is_lesion_in(
    examples: Iterable[Mapping[str, Any]],
    num_labels: int | None,
    declared: bool | None = None,
    on_error: OnError = "raise",
    cache: bool = True,
) -> bool:
    """Whether 255 is the lesion in a set, by all its masks; the images are not read. `cache` is as of `Survey`.

    Warns where another mask decides that 255 is ignored in masks without a label.
    Raises `ValueError` that names two masks which disagree, and unless these are skipped, masks that cannot be read.
    """
    reading = WhiteReading(num_labels, declared)
    if declared is not None or num_labels not in (None, 1):
        return reading.white_is_lesion()
    masked = (row for row in examples if row.get("labels") is None and row.get("mask") is not None)
    for example, values in on_all_cores(partial(_values_in, cache=cache), masked):
        if not isinstance(values, Exception):
            _take_note(reading, example, values)
        elif on_error == "raise":
            raise values
    if warning := reading.warning():
        warnings.warn(warning, UserWarning, stacklevel=2)
    return reading.white_is_lesion()


def _values_in(example: Mapping[str, Any], cache: bool) -> list[list[float]] | ValueError:
    """The distinct values of each of an example's masks; the error where they cannot be read."""
    try:
        with named(example, "mask"):
            return remembered(
                ["values"],
                _files_of(example, "mask"),
                lambda: [values_of(mask.array).tolist() for mask in load_masks(example)],
                cache,
            )
    except ValueError as error:
        return error


def _take_note(reading: WhiteReading, example: Mapping[str, Any], values: Iterable[list[float]]) -> None:
    """Adds an example's masks to a reading, by their files where they have some."""
    names = map(str, (file.path for file in files_of(example.get("mask"))))
    for held in values:
        reading.add(next(names, f"the mask of '{example.get('id')}'"), np.asarray(held))


def _files_of(example: Mapping[str, Any], *parts: str) -> tuple[ImageRef, ...]:
    """The files of an example; none where one of these parts is held in memory, or spelled as no file is."""
    try:
        files = [files_of(example.get(part)) for part in parts]
    except ValueError:  # reading it says so, with the example's name
        return ()
    return tuple(chain(*files)) if all(files) else ()
