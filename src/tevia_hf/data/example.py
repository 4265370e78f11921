"""One example of a data set as listed by a source, before any file is opened."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from tevia_hf.io import ImageRef, parse_address, with_window

_BETWEEN_MASKS = "\n"  # does not occur in practical file names


@dataclass(frozen=True)
class Example:
    """An image with its masks and its text."""

    id: str  # the name that image, masks and table row share
    group: str  # such as the patient; examples of one group belong in one split
    image: ImageRef | None = None  # None if it is missing
    masks: tuple[ImageRef, ...] = ()  # several masks are joined when they are read
    text: str | None = None
    split: str | None = None  # "train", "val" or "test"; None in layouts without splits
    finding: str | None = None  # the class, if the layout gives one
    volume: str | None = None  # the id of the volume of which the image is a slice

    def row(self) -> dict[str, Any]:
        """A row of the data set with the keys `image, mask, text, id, group`; files are `ImageRef`s."""
        return {"image": self.image, "mask": self.masks or None, "text": self.text, "id": self.id, "group": self.group}

    def with_window(self, window: tuple[float, float]) -> "Example":
        """The example with its image windowed (centre, width), unless it has a window or its format supports none."""
        return self if self.image is None else replace(self, image=with_window(self.image, window))


def spell_files(files: ImageRef | Path | tuple[ImageRef, ...]) -> str:
    """One file or several as the text stored in a column of a `datasets.Dataset`."""
    return _BETWEEN_MASKS.join(map(str, files if isinstance(files, tuple) else (files,)))


def parse_files(text: str | Path) -> tuple[ImageRef, ...]:
    """The files of a text written by `spell_files`, or of one path."""
    return tuple(map(parse_address, str(text).split(_BETWEEN_MASKS)))


__all__ = ["Example", "ImageRef", "parse_files", "spell_files"]
