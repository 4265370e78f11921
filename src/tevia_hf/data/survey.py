"""A data set read once as training will read it: what is wrong with it, and what its masks mean together."""

import warnings
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from typing import Any, NamedTuple, get_args

import numpy as np
from datasets.utils import tqdm

from tevia_hf.data.decoding import files_of, labels_of, load, load_masks, name_of, named
from tevia_hf.data.features import check_choice, raise_problems
from tevia_hf.data.listing import OnError
from tevia_hf.io import MedicalImage
from tevia_hf.io.grid import grid_fault, turn_note
from tevia_hf.labels_tevia import WhiteReading, is_foreign, is_lesion, refusal, values_of
from tevia_hf.metrics import Spacing

MOST_COVERED = 0.5  # share of the image that few lesions have
SHOWN = 3


class Examined(NamedTuple):
    """An example whose files have been read and compared."""

    id: str
    image: MedicalImage
    masks: list[MedicalImage]
    spacing_mm: Spacing | None
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


class MaskFacts(NamedTuple):
    """What an example shows; `lesion` and `corners` with 255 read as ignored and as the lesion.

    Args:
        lesion: share of the image.
        corners: whether all four corners are lesion.
        is_flat: whether all pixels of the image are equal.
    """

    id: str
    lesion: tuple[float, float]
    corners: tuple[bool, bool]
    is_flat: bool
    note: str | None


def examine(example: Mapping[str, Any], image_processor: Any) -> Examined:
    """An example's image and masks, read and compared as training needs them.

    Raises `ValueError` that names the example, and says what to do, for what cannot be read, a mask that does not lie
    over its image, and values that are no labels of `image_processor.num_labels`.
    """
    with named(example, "image"):
        image = load(example["image"])
        image_processor.read_image(image.array, input_data_format="channels_last")
    with named(example, "mask"):
        masks = load_masks(example)
        for mask in masks:
            if fault := grid_fault(image, mask):
                raise ValueError(f"{name_of(mask)}: {fault}.")
            if is_foreign(values := values_of(mask.array), image_processor.num_labels).any():
                raise ValueError(refusal(name_of(mask), values, image_processor.num_labels))
        note = next(filter(None, (turn_note(image, mask) for mask in masks)), None)
    spacing = tuple(map(float, example["spacing_mm"])) if example.get("spacing_mm") else image.spacing_mm
    return Examined(str(example.get("id")), image, masks, spacing, note)  # type: ignore[arg-type]  # a pair


def reference_labels(
    example: Mapping[str, Any], image_processor: Any, white_is_lesion: bool | None = None
) -> np.ndarray:
    """An example's true labels (height, width) at the image's own size; errors as of `examine`."""
    return examine(example, image_processor).labels(image_processor.num_labels, white_is_lesion)


class Survey:
    """Collects what reading example after example tells of a whole set.

    Args:
        image_processor: of the model, which decides what can be read.
        white_is_lesion: what 255 means, where the user declared it.
    """

    def __init__(self, image_processor: Any, white_is_lesion: bool | None = None) -> None:
        self.image_processor = image_processor
        self.white = WhiteReading(image_processor.num_labels, white_is_lesion)
        self.facts: list[MaskFacts] = []
        self.faults: list[Fault] = []
        self.has_stream = False  # a part that is not read beforehand

    def read_all(
        self,
        examples: Iterable[Mapping[str, Any]],
        on_error: OnError = "raise",
        keep: Callable[[Examined], Any] = lambda _: None,
        part: str = "",
    ) -> tuple[list[int], list[Any]]:
        """The positions of the examples that can be used, and what `keep` gives of each; their pixels are not held.

        Args:
            on_error: "skip" takes note of what cannot be used; "raise" names all of it in one `ValueError`.
            part: of the run, such as "train", for the list of what was skipped.

        Raises `ValueError` too where no example can be used.
        """
        check_choice("on_error", on_error, get_args(OnError))
        positions, kept, known = [], [], len(self.faults)
        for position, example in enumerate(tqdm(examples, desc="Reading images and masks")):
            if (examined := self.read(example, part)) is not None:
                positions.append(position)
                kept.append(keep(examined))
        if on_error == "raise" or not positions:
            reasons = [fault.reason for fault in self.faults[known:]]
            skip = ", or skip them by `on_error: skip` (`--on-error skip`)" if on_error == "raise" else ""
            advice = f"Replace these files, leave the rows out{skip}."
            raise_problems("The data set", reasons, advice, shown=len(reasons))
        return positions, kept

    def read(self, example: Mapping[str, Any], part: str = "") -> Examined | None:
        """The example, taken note of; `None` where it is at fault."""
        try:
            examined = examine(example, self.image_processor)
            self.facts.append(self._facts_of(examined))
        except (ValueError, OSError) as error:
            self.faults.append(Fault(str(example.get("id")), part, str(error)))
            return None
        _take_note(self.white, example, examined.masks)
        return examined

    def consult(self, examples: Iterable[Mapping[str, Any]]) -> None:
        """Lets the masks of further examples of the set tell what 255 means, where those that were read do not."""
        for example in examples:
            if not self.white.is_open:
                return
            with suppress(ValueError):  # what is not used may be damaged
                _take_note(self.white, example, load_masks(example))

    def _facts_of(self, examined: Examined) -> MaskFacts:
        own = WhiteReading(self.white.num_labels)
        for mask in examined.masks:
            own.add(name_of(mask), values_of(mask.array))
        maps = [is_lesion(examined.labels(own.num_labels, self.white.declared or False))]
        if own.is_open and own.without_white is None:
            maps.append(is_lesion(examined.labels(own.num_labels, True)))
        shares, corners = ((how(maps[0]), how(maps[-1])) for how in (_share, _touches_all_corners))
        pixels = examined.image.array
        is_flat = bool((pixels == pixels[:1, :1]).all())
        return MaskFacts(examined.id, shares, corners, is_flat, examined.note)  # type: ignore[arg-type]  # pairs

    def white_is_lesion(self) -> bool | None:
        """What 255 means in the set; where a part of it is a stream, or nothing was read, what was declared.

        Raises `ValueError` that names two masks which disagree.
        """
        is_known = bool(self.facts) and not self.has_stream
        return self.white.white_is_lesion() if is_known else self.white.declared

    def skipped(self) -> list[dict[str, str]]:
        """What cannot be used, as a report lists it."""
        return [{"id": fault.id, "reason": fault.reason} for fault in self.faults]

    def lesion_shares(self) -> list[float]:
        """The lesion's share of each image; with 255 read as ignored where the masks disagree about it."""
        reading = self._reading()
        return [facts.lesion[reading] for facts in self.facts]

    def warnings(self) -> list[str]:
        """What looks as no data set should, though nothing proves it wrong."""
        reading = self._reading()
        shares = [facts.lesion[reading] for facts in self.facts if facts.lesion[reading]]
        in_corners = [facts.id for facts in self.facts if facts.corners[reading]]
        flat = [facts.id for facts in self.facts if facts.is_flat]
        notes = [f"'{facts.id}': {facts.note}" for facts in self.facts if facts.note]
        found = []
        if warning := self.white.warning():
            found.append(warning)
        if shares and np.median(shares) > MOST_COVERED:
            found.append(
                f"half of the masks mark {100 * np.median(shares):.0f} % of the image and more: look whether lesion "
                "and background are exchanged"
            )
        if len(in_corners) > len(shares) / 2:
            found.append(
                f"{len(in_corners)} of {len(shares)} masks mark all four corners of the image ({_some(in_corners)}): "
                "look whether lesion and background are exchanged"
            )
        if flat:
            found.append(f"{len(flat)} images hold one value only ({_some(flat)}): look at their files and windows")
        if notes:
            found.append(f"{len(notes)} examples are turned by EXIF on one side: {_some(notes)}")
        return found

    def _reading(self) -> int:
        try:
            return int(bool(self.white_is_lesion()))
        except ValueError:
            return 0


def white_is_lesion_in(
    examples: Iterable[Mapping[str, Any]],
    num_labels: int | None,
    declared: bool | None = None,
    on_error: OnError = "raise",
) -> bool:
    """Whether 255 is the lesion in a set, by all its masks; the images are not read.

    Warns where another mask decides that 255 is ignored in masks without a label.
    Raises `ValueError` that names two masks which disagree, and unless these are skipped, masks that cannot be read.
    """
    reading = WhiteReading(num_labels, declared)
    if declared is not None or num_labels not in (None, 1):
        return reading.white_is_lesion()
    for example in examples:
        if example.get("labels") is not None or example.get("mask") is None:
            continue
        with suppress(*(ValueError,) if on_error == "skip" else ()), named(example, "mask"):
            _take_note(reading, example, load_masks(example))
    if warning := reading.warning():
        warnings.warn(warning, UserWarning, stacklevel=2)
    return reading.white_is_lesion()


def _take_note(reading: WhiteReading, example: Mapping[str, Any], masks: Iterable[MedicalImage]) -> None:
    """Adds an example's masks to a reading, by their files where they have some."""
    for mask in masks:
        name = name_of(mask) if files_of(example.get("mask")) else f"the mask of '{example.get('id')}'"
        reading.add(name, values_of(mask.array))


def _share(lesion: np.ndarray) -> float:
    return float(lesion.mean())


def _touches_all_corners(lesion: np.ndarray) -> bool:
    return bool(lesion[[0, 0, -1, -1], [0, -1, 0, -1]].all())


def _some(names: list[str]) -> str:
    return ", ".join(names[:SHOWN]) + (", ..." if len(names) > SHOWN else "")
