"""One example of a data set as listed by a source, before any file is opened."""

import re
import unicodedata
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from tevia_hf.io import ImageRef, is_image_file, parse_address, stem, with_window

MASK_NAME = re.compile(r"^mask_|_mask(_\d+)?$", re.IGNORECASE)
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


def example_id(file_name: str) -> str:
    """The name shared by image, mask and row of an example: "covid_1" of "mask_covid_1.png" and "covid_1.jpg".

    Slice 40, "scan.nii.gz#40", gives "scan_40", and "benign (1)_mask_2.png" gives "benign (1)". The id is in Unicode
    normalization form NFC, so that accents match in every spelling.
    """
    name = unicodedata.normalize("NFC", file_name.strip().replace("\\", "/").rsplit("/", 1)[-1])
    if not is_image_file(image := parse_address(name)):
        return MASK_NAME.sub("", name)
    file_stem = stem(ImageRef(image.path))
    return MASK_NAME.sub("", file_stem) + stem(image).removeprefix(file_stem)


__all__ = ["MASK_NAME", "Example", "ImageRef", "example_id", "parse_files", "spell_files"]
