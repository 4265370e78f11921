"""One example of a data set as a source finds it, before any file is opened."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from tevia_hf.io import ImageRef, parse_address, with_window

_BETWEEN_MASKS = "\n"  # in no file's name that anybody gives


@dataclass(frozen=True)
class Example:
    """An image with its masks and its text."""

    id: str  # what the image, the masks and the row of a table share
    group: str  # such as the patient, whose examples belong into one split
    image: ImageRef | None = None  # None where it is missing
    masks: tuple[ImageRef, ...] = ()  # several are joined when they are read
    text: str | None = None
    split: str | None = None  # "train", "val" or "test"; None in layouts without splits
    finding: str | None = None  # the class, where the layout tells

    def row(self) -> dict[str, Any]:
        """As a row of the data set, its files not yet spelled: the keys `image, mask, text, id, group`."""
        return {"image": self.image, "mask": self.masks or None, "text": self.text, "id": self.id, "group": self.group}

    def with_window(self, window: tuple[float, float]) -> "Example":
        """Its image seen through a window (centre, width), unless it names one or its file knows none."""
        return self if self.image is None else replace(self, image=with_window(self.image, window))


def spell_files(files: ImageRef | Path | tuple[ImageRef, ...]) -> str:
    """The text by which a column of a `datasets.Dataset` holds one file or several."""
    return _BETWEEN_MASKS.join(map(str, files if isinstance(files, tuple) else (files,)))


def parse_files(text: str | Path) -> tuple[ImageRef, ...]:
    """The files that `spell_files` spelled, or of one path."""
    return tuple(map(parse_address, str(text).split(_BETWEEN_MASKS)))


__all__ = ["Example", "ImageRef", "parse_files", "spell_files"]
