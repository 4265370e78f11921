"""One pass over a data set before training: unusable examples, warnings, and the meaning of 255 in its masks."""

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
from tevia_hf.data.faults import Cause, Fault, cause_of, labels_in, messages_of, raise_problems, some_of
from tevia_hf.data.listing import OnError
from tevia_hf.data.reading import remembered
from tevia_hf.io import ImageRef, MedicalImage, load_image
from tevia_hf.io.grid import grid_fault, turn_note
from tevia_hf.io.parallel import on_all_cores
from tevia_hf.labels_tevia import ForeignValuesError, WhiteReading, is_foreign, is_lesion, values_of
from tevia_hf.mask_scores import Spacing
from tevia_hf.option_checks_tevia import check_choice

THUMBNAIL = 32  # pixels per side
LARGE_LESION = 0.5  # share of the image above which the median lesion is suspicious


class Examined(NamedTuple):
    """An example whose files have been read and compared; `values` are the distinct ones of each mask."""

    id: str
    image: MedicalImage
    masks: list[MedicalImage]
    values: list[np.ndarray]
    note: str | None

    def labels(self, num_labels: int | None, white_is_lesion: bool | None = None) -> np.ndarray:
        """The label map (height, width), 255 = ignored; by default the meaning of 255 is inferred from its masks."""
        with named({"id": self.id}, "mask"):
            return labels_of(self.masks, num_labels, white_is_lesion)


class Findings(NamedTuple):
    """Properties of an example without its pixels; `lesion` and `corners` with 255 as ignored, and as the lesion."""

    size: tuple[int, int]  # (height, width) of the image
    values: list[list[float]]  # the distinct values of each mask
    lesion: tuple[float, float]  # share of the image
    corners: tuple[bool, bool]  # whether all four corners are lesion
    is_flat: bool  # whether all pixels of the image are equal
    spacing_mm: Spacing | None  # (row, column), if the image file has it
    note: str | None
    fingerprint: str
    thumbnail: str  # bytes in hexadecimal


def examine(example: Mapping[str, Any], image_processor: Any) -> Examined:
    """Reads an example's image and masks, and checks that they fit together.

    Raises `ValueError` with the example's id and the fix for a file that cannot be read, a mask on another grid than
    its image, and values that are not labels of `image_processor.num_labels`.
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
                raise ForeignValuesError(name_of(mask), values[-1], image_processor.num_labels)
        note = next(filter(None, (turn_note(image, mask) for mask in masks)), None)
    return Examined(str(example.get("id")), image, masks, values, note)


def reference_labels(
    example: Mapping[str, Any], image_processor: Any, white_is_lesion: bool | None = None
) -> np.ndarray:
    """An example's reference labels (height, width) at the original image size. Raises the errors of `examine`."""
    return examine(example, image_processor).labels(image_processor.num_labels, white_is_lesion)


def findings_of(examined: Examined, num_labels: int, declared: bool | None) -> Findings:
    """The properties of an example for a model with `num_labels`; `declared` is the meaning of 255 set by the user."""
    own_reading = WhiteReading(num_labels)
    for mask, values in zip(examined.masks, examined.values, strict=True):
        own_reading.add(name_of(mask), values)
    maps = [is_lesion(examined.labels(num_labels, declared or False))]
    if own_reading.is_open and own_reading.without_white is None:
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
    """A hash of pixels, shape and dtype."""
    return hashlib.sha1(f"{pixels.shape}{pixels.dtype}".encode() + np.ascontiguousarray(pixels).tobytes()).hexdigest()


def thumbnail(pixels: np.ndarray) -> np.ndarray:
    """The image (height, width[, channels]) as 32 x 32 grey values of mean 0 and length 1, (1024,) float32."""
    grey = pixels[..., :3].mean(-1) if pixels.ndim == 3 else pixels
    small = Image.fromarray(grey.astype(np.float32)).resize((THUMBNAIL, THUMBNAIL), Image.Resampling.BOX)
    values = np.asarray(small, np.float64).ravel()
    values = values - values.mean()
    return (values / (np.linalg.norm(values) or 1.0)).astype(np.float32)


class Survey:
    """Collects findings and faults of a whole data set, example by example.

    The image processor of the model decides which examples are usable; with `cache`, unchanged files are not read
    again.
    """

    def __init__(self, image_processor: Any, white_is_lesion: bool | None = None, cache: bool = True) -> None:
        self.image_processor = image_processor
        self.white = WhiteReading(image_processor.num_labels, white_is_lesion)
        self.cache = cache
        self.findings: list[tuple[str, Findings]] = []  # with the example's id
        self.spacings: list[Spacing | None] = []  # of the same examples, from the column or else the image file
        self.faults: list[Fault] = []
        self._causes: list[Cause] = []  # of the same faults
        self.has_stream = False  # whether a part of the data is a stream, which cannot be read beforehand
        self._masks_read: set[tuple[ImageRef, ...]] = set()

    def read_all(self, examples: Iterable[Mapping[str, Any]], on_error: OnError = "raise", part: str = "") -> list[int]:
        """The positions of the usable examples; pixels are not kept in memory.

        Args:
            on_error: "skip" records unusable examples; "raise" raises one `ValueError` that names all of them.
            part: of the run, such as "train", for the list of skipped examples.

        Also raises `ValueError` if no example is usable.
        """
        check_choice("on_error", on_error, get_args(OnError))
        known = len(self.faults)
        positions = [position for position, _ in self.read(examples, part)]
        if on_error == "raise" or not positions:
            reasons = self.problems(known)
            skip = ", or skip them by `on_error: skip` (`--on-error skip`)" if on_error == "raise" else ""
            advice = f"Replace these files, leave the rows out{skip}."
            raise_problems("The data set", reasons, advice, len(reasons), len(self.faults) - known)
        return positions

    def read(self, examples: Iterable[Mapping[str, Any]], part: str = "") -> Iterator[tuple[int, Findings]]:
        """Position and findings of each usable example; faults of the others are recorded."""
        total = len(examples) if isinstance(examples, Sized) else None
        results = on_all_cores(self._result, examples)
        for position, (example, result) in enumerate(tqdm(results, "Reading images and masks", total)):
            if isinstance(result, Exception):
                self.faults.append(Fault(str(example.get("id")), part, str(result)))
                paths = [file.path for file in (*_files_of(example, "image"), *_files_of(example, "mask"))]
                self._causes.append(cause_of(example, paths, result))
                continue
            self.findings.append((str(example.get("id")), result))
            spacing = example.get("spacing_mm") or result.spacing_mm
            self.spacings.append(spacing and (float(spacing[0]), float(spacing[1])))
            self._masks_read |= {files for files in [files_of(example["mask"])] if files}
            _add_values(self.white, example, result.values)
            yield position, result

    def problems(self, known: int = 0) -> list[str]:
        """The faults but for the first `known` ones; equal faults of several examples in one message."""
        labels = {label for _, findings in self.findings for label in labels_in(findings.values)}
        return messages_of(self._causes[known:], self.image_processor.num_labels, sorted(labels))

    def _result(self, example: Mapping[str, Any]) -> Findings | Exception:
        """The findings of an example, or the error that makes it unusable."""
        processor, declared = self.image_processor, self.white.declared
        reader = f"{type(processor).__module__}.{type(processor).__qualname__}"
        try:
            findings = remembered(
                ["findings", reader, processor.num_labels, declared],
                _files_of(example, "image", "mask"),
                lambda: findings_of(examine(example, processor), processor.num_labels, declared),
                self.cache and reader.startswith("tevia_hf."),  # user-defined code may change unnoticed
            )
        except (ValueError, OSError) as error:
            return error
        return Findings(*findings)

    def consult(self, examples: Iterable[Mapping[str, Any]]) -> None:
        """Reads masks of further examples until the meaning of 255 is known, if the examples read leave it open."""
        if not self.white.is_open:
            return
        others = (example for example in examples if _files_of(example, "mask") not in self._masks_read)
        for example, values in on_all_cores(partial(_values_in, cache=self.cache), others):
            if not self.white.is_open:
                return
            if not isinstance(values, Exception):  # examples that are not used may be damaged
                _add_values(self.white, example, values)

    def white_is_lesion(self) -> bool | None:
        """Whether 255 is the lesion in this set; the declared value if nothing was read or a part is a stream.

        Raises `ValueError` that names two masks which disagree.
        """
        is_known = bool(self.findings) and not self.has_stream
        return self.white.white_is_lesion() if is_known else self.white.declared

    def skipped(self) -> list[dict[str, str]]:
        """The unusable examples, as listed in a report."""
        return [{"id": fault.id, "reason": fault.reason} for fault in self.faults]

    def _reading(self) -> int:
        """Index of the meaning of 255 in `Findings.lesion`: ignored (0) if the masks disagree."""
        with suppress(ValueError):
            return int(bool(self.white_is_lesion()))
        return 0

    def lesion_shares(self) -> list[float]:
        """The share of each image that is lesion; 255 is ignored if the masks disagree about it."""
        reading = self._reading()
        return [findings.lesion[reading] for _, findings in self.findings]

    def warnings(self) -> list[str]:
        """Warnings about unusual findings, which need not be errors."""
        reading, advice = self._reading(), "check whether lesion and background are swapped"
        shares = [share for share in self.lesion_shares() if share]
        in_corners = [name for name, findings in self.findings if findings.corners[reading]]
        flat = [name for name, findings in self.findings if findings.is_flat]
        notes = [f"'{name}': {findings.note}" for name, findings in self.findings if findings.note]
        warned = [warning] if (warning := self.white.warning()) else []
        if shares and np.median(shares) > LARGE_LESION:
            warned.append(f"half of the masks mark {100 * np.median(shares):.0f} % of the image or more: {advice}")
        if len(in_corners) > len(shares) / 2:
            count = f"{len(in_corners)} of {len(shares)} masks"
            warned.append(f"{count} mark all four corners of the image ({some_of(in_corners)}): {advice}")
        if flat:
            warned.append(f"{len(flat)} images hold one value only ({some_of(flat)}): check their files and windows")
        if notes:
            warned.append(f"{len(notes)} examples have an EXIF rotation of image or mask alone: {some_of(notes)}")
        return warned


def white_is_lesion_in(
    examples: Iterable[Mapping[str, Any]],
    num_labels: int | None,
    declared: bool | None = None,
    on_error: OnError = "raise",
    cache: bool = True,
) -> bool:
    """Whether 255 is the lesion in a set, inferred from all its masks; images are not read. For `cache` see `Survey`.

    Warns if 255 is ignored in a mask without any label because of another mask.
    Raises `ValueError` that names two masks which disagree and, unless `on_error` is "skip", masks that cannot be read.
    """
    reading = WhiteReading(num_labels, declared)
    if declared is not None or num_labels not in (None, 1):
        return reading.white_is_lesion()
    masked = (row for row in examples if row.get("labels") is None and row.get("mask") is not None)
    for example, values in on_all_cores(partial(_values_in, cache=cache), masked):
        if not isinstance(values, Exception):
            _add_values(reading, example, values)
        elif on_error == "raise":
            raise values
    if warning := reading.warning():
        warnings.warn(warning, UserWarning, stacklevel=2)
    return reading.white_is_lesion()


def _values_in(example: Mapping[str, Any], cache: bool) -> list[list[float]] | ValueError:
    """The distinct values of each of an example's masks, or the error if they cannot be read."""
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


def _add_values(reading: WhiteReading, example: Mapping[str, Any], values: Iterable[list[float]]) -> None:
    """Adds the values of an example's masks to a reading, named by file if they have one."""
    names = map(str, (file.path for file in files_of(example.get("mask"))))
    for mask_values in values:
        reading.add(next(names, f"the mask of '{example.get('id')}'"), np.asarray(mask_values))


def _files_of(example: Mapping[str, Any], *parts: str) -> tuple[ImageRef, ...]:
    """The files of an example; empty if one of these parts is in memory or its address is invalid."""
    try:
        files = [files_of(example.get(part)) for part in parts]
    except ValueError:  # reading raises it again with the example's id
        return ()
    return tuple(chain(*files)) if all(files) else ()
