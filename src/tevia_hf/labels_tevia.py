"""The meaning of mask values.

A *mask* is an image as stored: booleans, 0/1, 0/255 with the lesion in white, or label numbers. A *label map*, or
`labels`, is a decoded mask: uint8 `(height, width)`, 0 the background, 1 the lesion (or, with several labels, 1 to
`num_labels - 1`), and 255 ignored pixels. All rules about these values are in this module.

Whether 255 is the lesion or ignored cannot be told from a mask of 0 and 255 alone: `WhiteReading` decides it once for
all masks of a data set.

Any module of the package may import this one. It is uploaded to the Hub with a model's code.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from PIL import Image

IGNORE_INDEX = 255
WHITE = 255  # the lesion, in a mask without label numbers
MAX_LABELS = 32  # a mask with more values holds grey levels
_DARK, _BRIGHT = 32, 223  # a lossy file of black and white has no greys between these
_MAX_SHOWN, _MAX_NAMED = 10, 4


def is_lesion(labels: Any) -> Any:
    """True where a label map, an array or tensor of any shape, holds any lesion label."""
    return (labels > 0) & (labels != IGNORE_INDEX)


def highest_label(num_labels: int) -> int:
    """The highest label value of a model; 1, the lesion, with one label."""
    return max(num_labels, 2) - 1


def class_names(id2label: Mapping[Any, str] | None) -> dict[int, str]:
    """The labels of a model's masks and their names, from `config.id2label`: {1: "lesion"} with one label.

    Raises `ValueError` if the labels are not 0 (the background, unless there is one label), 1, 2, ..., if two have the
    same name, or one has a "/", which separates metric and class.
    """
    names = {int(label): name for label, name in (id2label or {0: "lesion"}).items()}
    if sorted(names) != list(range(len(names))):
        raise ValueError(f"`id2label` is {names}: number the labels 0, 1, 2, ..., with `0: background`.")
    foreground = {1: names[0]} if len(names) == 1 else {label: name for label, name in names.items() if label}
    if len(set(foreground.values())) < len(foreground) or any("/" in name for name in foreground.values()):
        raise ValueError(f"`id2label` is {names}: give each label its own name, without '/'.")
    return foreground


def values_of(mask: np.ndarray) -> np.ndarray:
    """The distinct values of a mask, sorted."""
    if mask.dtype == np.uint8 and mask.ndim > 1 and mask.size:  # many times faster than sorting or `bincount`
        return np.flatnonzero(Image.fromarray(mask.reshape(len(mask), -1)).histogram())
    return np.unique(mask)


@dataclass
class WhiteReading:
    """Decides whether 255 is the lesion or ignored in a set of masks, from the values of all of them.

    Args:
        num_labels: of the model; with several, 255 is always ignored. None accepts any labels.
        declared: the user's setting, or None.
        beside_labels: the first mask that holds 255 and a label, or a label above 1 if `num_labels` is not known.
        without_labels: the masks that hold 255 but no label.
        without_white: the first mask that holds labels but not 255.
    """

    num_labels: int | None = None
    declared: bool | None = None
    beside_labels: str | None = None
    without_labels: list[str] = field(default_factory=list)
    without_white: str | None = None

    def __post_init__(self) -> None:
        if self.declared is not None and not isinstance(self.declared, bool):
            raise ValueError(f"`white_is_lesion` is {self.declared!r}: give true or false, or leave it out.")
        if self.declared and self.num_labels is not None and self.num_labels > 1:
            raise ValueError(f"With num_labels={self.num_labels} 255 is always ignored: leave `white_is_lesion` out.")

    def add(self, name: str, values: np.ndarray) -> None:
        """Adds a mask with these distinct values; booleans and grey levels carry no information about 255."""
        if values.dtype == bool or is_foreign(values, self.num_labels).any() or _is_lossy(values):
            return
        labels = np.asarray(values)[is_lesion(np.asarray(values))]
        has_white, has_label = WHITE in values, len(labels) > 0
        has_several = self.num_labels is None and has_label and labels.max() > 1
        if has_several or (has_white and has_label):
            self.beside_labels = self.beside_labels or name
        elif has_white:
            self.without_labels.append(name)
        elif has_label:
            self.without_white = self.without_white or name

    def white_is_lesion(self) -> bool:
        """Whether 255 is the lesion in all masks that were added; otherwise it is ignored.

        Raises `ValueError` if two masks disagree.
        """
        if self.num_labels is not None and self.num_labels > 1:
            return False
        if self.declared:
            if self.beside_labels:
                raise ValueError(
                    f"{self.beside_labels} holds labels beside 255, but `white_is_lesion` is true: set it to false "
                    "if 255 is ignored, or write the lesion as one value."
                )
            return True
        if self.declared is None and self.without_labels and self.without_white and not self.beside_labels:
            raise ValueError(
                f"{self.without_labels[0]} holds 255 and no label, {self.without_white} labels and no 255: set "
                "`white_is_lesion` to true if 255 is the lesion, or to false if it is ignored."
            )
        return self.declared is None and self.beside_labels is None

    @property
    def is_open(self) -> bool:
        """Whether the meaning of 255 is undecided: masks hold it, but no mask and no setting defines it."""
        is_undeclared = self.declared is None and self.num_labels in (None, 1)
        return is_undeclared and bool(self.without_labels) and self.beside_labels is None

    def warning(self) -> str | None:
        """A warning if 255 is ignored in masks without a label because of another mask; `None` otherwise."""
        if not self.is_inferred:
            return None
        shown = ", ".join(self.without_labels[:3]) + (", ..." if len(self.without_labels) > 3 else "")
        return (
            f"255 is ignored in {len(self.without_labels)} masks that hold no label ({shown}), since "
            f"{self.beside_labels} holds labels beside 255: set `white_is_lesion` if it is the lesion"
        )

    @property
    def is_inferred(self) -> bool:
        """Whether 255 is ignored in masks without a label because of another mask of the set, not of a setting."""
        return bool(
            self.declared is None and self.num_labels in (None, 1) and self.beside_labels and self.without_labels
        )


def to_labels(
    mask: np.ndarray, num_labels: int | None = None, name: str = "the mask", white_is_lesion: bool | None = None
) -> np.ndarray:
    """The label map of a mask `(height, width)`, uint8.

    Args:
        mask: booleans or numbers.
        num_labels: of the model; None accepts any labels. With several, 255 is ignored.
        name: of the mask, for the error.
        white_is_lesion: True reads 255 as the lesion, False as ignored; None infers it from this mask alone: 255 is the
            lesion unless the mask holds labels as well. `WhiteReading` decides for a whole set.

    Raises `ForeignValuesError`, a `ValueError`, for values that are not labels.
    """
    if mask.dtype == bool:
        return mask.astype(np.uint8)
    values = values_of(mask)
    if is_foreign(values, num_labels).any():
        raise ForeignValuesError(name, values, num_labels, white_is_lesion is not False)
    reading = WhiteReading(num_labels, white_is_lesion)
    reading.add(name, values)
    if WHITE in values and reading.white_is_lesion() and np.isin(values, (0, 1, WHITE)).all():
        return (mask > 0).astype(np.uint8)
    return mask.astype(np.uint8)


def single_channel(channels: np.ndarray, name: str = "the mask") -> np.ndarray:
    """The labels `(height, width)` of a mask `(channels, height, width)`.

    The alpha channel of an opaque mask is dropped; if the colour is constant, the alpha channel is the mask.

    Raises `ValueError` for other shapes, if colours differ, and if colour and alpha mark different pixels.
    """
    if channels.ndim != 3 or not 1 <= len(channels) <= 4:
        raise ValueError(f"{name} has shape {channels.shape}: give a mask (height, width), or with 1 to 4 channels.")
    colours = channels[: 3 if len(channels) > 2 else 1]
    if ((colours[1:] != colours[:1]) & (colours[1:] == colours[1:])).any():  # NaN is refused as a value
        raise ValueError(
            f"{name} has {len(colours)} channels that differ: a coloured mask has no labels; save it as one channel "
            "of label numbers."
        )
    return _visible_labels(colours[0], channels[-1], name) if len(channels) in (2, 4) else colours[0]


def _visible_labels(mask: np.ndarray, alpha: np.ndarray, name: str) -> np.ndarray:
    """The labels of a mask with an alpha channel."""
    if (alpha == alpha.flat[0]).all():
        return mask
    if (mask == mask.flat[0]).all():
        return alpha
    if (mask[alpha == 0] == 0).all():  # transparent pixels are background anyway
        return mask
    raise ValueError(
        f"{name} marks other pixels by its colour than by its alpha channel: save it as one channel of label numbers."
    )


def is_foreign(values: np.ndarray, num_labels: int | None = None) -> np.ndarray:
    """Which of the distinct values of a mask are not labels; with `num_labels=None`, all of them if they are greys."""
    highest = IGNORE_INDEX - 1 if num_labels is None else highest_label(num_labels)
    foreign = ~np.isin(values, [*range(highest + 1), IGNORE_INDEX])
    return foreign | (num_labels is None and len(values) > MAX_LABELS)


class ForeignValuesError(ValueError):
    """Raised for values that are not labels: which they are, which are allowed, and the fix.

    Args:
        name: of the mask, or the names of several with the distinct values of each.
        values: the distinct ones of these masks.
    """

    def __init__(
        self,
        name: str | Sequence[tuple[str, np.ndarray]],
        values: np.ndarray,
        num_labels: int | None = None,
        white_is_lesion: bool = True,
    ):
        self.values, self.advice = values, _advice(values, num_labels)
        self.is_class_like = num_labels is not None and _highest_class(values) is not None
        foreign = values[is_foreign(values, num_labels)]
        masks = [] if isinstance(name, str) else name
        shown = ", ".join(f"{value:g}{_rare_in(masks, value)}" for value in foreign[:_MAX_SHOWN])
        shown += ", ..." if len(foreign) > _MAX_SHOWN else ""
        if isinstance(name, str):
            subject = f"{name} holds {len(foreign)} values that are not labels ({shown})"
        else:
            subject = f"{len(masks)} masks hold values that are not labels ({shown}), e.g. {_quoted(masks)}"
        super().__init__(f"{subject}; {_allowed(num_labels, white_is_lesion)}: {self.advice}.")


def _rare_in(masks: Sequence[tuple[str, np.ndarray]], value: float) -> str:
    """The masks that hold a value, if they are few of them: one stray mask is easily overlooked."""
    holders = [mask for mask in masks if value in mask[1]]
    return f" only in {_quoted(holders)}" if 0 < len(holders) <= _MAX_NAMED and 4 * len(holders) < len(masks) else ""


def _quoted(masks: Sequence[tuple[str, np.ndarray]]) -> str:
    return ", ".join(f"'{name}'" for name, _ in masks[:3]) + (", ..." if len(masks) > 3 else "")


def _allowed(num_labels: int | None, white_is_lesion: bool) -> str:
    if num_labels == 1:
        return "num_labels=1 allows " + ("0/1, 0/255 or 0/1/255" if white_is_lesion else "0, 1 and 255 (ignored)")
    if num_labels:
        return f"num_labels={num_labels} allows 0 to {num_labels - 1} and 255 (ignored)"
    return f"allowed are at most {MAX_LABELS} values, of 0 to 254 and 255 (ignored)"


def _advice(values: np.ndarray, num_labels: int | None) -> str:
    """A fix for masks with these distinct values that neither loses nor adds lesions, and keeps classes apart."""
    if not np.isfinite(values).all():
        return "replace NaN and infinite values by 0 or, where nothing was annotated, 255"
    if (values < 0).any():
        return "write 0 for the background, 1 and more for lesions, and 255 for what is ignored"
    if (values % 1 != 0).any():
        at_half = 0 < (values > 0.5).sum() < len(values) and values.max() <= 1
        return f"threshold the probabilities{' (mask > 0.5)' if at_half and num_labels in (None, 1) else ''}"
    if num_labels is not None and num_labels > 1:
        return _advice_for_several(values, num_labels)
    if _is_lossy(values):
        return "these are the greys of a lossy file: binarise it (mask > 127)"
    if len(values) > MAX_LABELS:
        return "these are greys, or numbers of many lesions: binarise it where lesions begin, and look at the result"
    highest = None if num_labels is None else _highest_class(values)
    keep = "number the classes from 1 and set num_labels" if highest is None else _keep_classes(highest)
    if 0 not in values or IGNORE_INDEX in values:  # which value is the lesion is unknown
        write = "write 0 for the background, 1 for lesions, and 255 for what is ignored"
        return write if highest is None else f"if they are classes, {keep}; if not, {write}"
    if len(values) == 2 and highest is None:
        return f"write the lesion as 1 (mask > 0), unless other masks mark other classes by other values: then {keep}"
    return f"if they are classes, {keep}; if all are lesions of one class, write 1 for all (mask > 0)"


def _is_lossy(values: np.ndarray) -> bool:
    """Whether these are the values of a black and white mask in a lossy file."""
    dark, bright = (values <= _DARK).sum(), (values >= _BRIGHT).sum()
    return bool(dark > 1 and bright > 1 and dark + bright == len(values) > 4)


def _advice_for_several(values: np.ndarray, num_labels: int) -> str:
    if len(values) > MAX_LABELS:
        return "these are greys: save label numbers, in a file without loss such as PNG"
    highest = _highest_class(values)
    keep = "number the classes from 1 and set num_labels" if highest is None else _keep_classes(highest)
    return f"map them to 0 to {num_labels - 1}, or, if they are further classes, {keep}"


def _highest_class(values: np.ndarray) -> int | None:
    """The highest label of masks whose values may be the numbers of classes; None for values of another kind."""
    if not np.isfinite(values).all() or (values < 0).any() or (values % 1 != 0).any():
        return None
    highest = max((int(value) for value in values if value != IGNORE_INDEX), default=0)
    return highest if highest < MAX_LABELS else None


def _keep_classes(highest: int) -> str:
    """How to read masks with labels up to the highest one, for each way to read them."""
    names = ", ".join(["0: background", *(f"{label}: name{label}" for label in range(1, highest + 1))])
    named = f", or with names `config: {{id2label: {{{names}}}}}`" if highest <= _MAX_NAMED else ""
    return (
        f"keep them by num_labels={highest + 1} (`--num-labels {highest + 1}` of `tevia check-data`, `config: "
        f"{{num_labels: {highest + 1}}}` of a recipe{named})"
    )


__all__ = [
    "ForeignValuesError",
    "IGNORE_INDEX",
    "WHITE",
    "WhiteReading",
    "class_names",
    "highest_label",
    "is_foreign",
    "is_lesion",
    "single_channel",
    "to_labels",
    "values_of",
]
