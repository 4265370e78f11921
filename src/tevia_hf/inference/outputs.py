"""The files of one prediction: mask, overlay, probabilities; and its row in the table."""

import errno
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from ..io import MASK_SUFFIXES, MedicalImage, write_mask
from ..io.output_dir import whole_file
from ..labels_tevia import is_lesion
from ..logits_tevia import NonFiniteLogitsError
from ..visualization import overlay
from .answers import ClassStatistics, Prediction
from .items import Item
from .manifest import Record

OVERLAYS, PROBABILITIES = "overlays", "probabilities"  # folders
MASK, OVERLAY, PROBABILITY_MAP = "mask", "overlay", "probabilities"  # columns with the names of files
LESIONS = "lesion_list"  # in a row: the measurements of each lesion
SIZES = ("lesions", "volume_mm3", "diameter_px", "diameter_mm")  # of a class, see `class_statistics`
NOT_FINITE = "not_finite"  # in the row of an image whose logits are not
JPEG_QUALITY = 90
OVERLAY_SIDE = 4096  # pixels of the longest side, at most
# Errors of the disk or folder, which every further file would have.
FATAL = {errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM, errno.EIO}


class OutputError(OSError):
    """The output folder cannot be written to, so that the job stops."""


class Outputs(NamedTuple):
    """What is written for each item, beside its row."""

    folder: Path
    mask_suffix: str = ".png"
    overlays: bool = True
    probabilities: bool = False
    statistics: bool = False
    classes: Mapping[int, str] = {}
    num_labels: int = 1

    def write(self, item: Item, prediction: Prediction, index: int) -> Record:
        """Writes the files of an item, whose answer has this index, and returns its row.

        The row has the error if the image could not be used, or its files not be written. Raises `OutputError` if no
        file could be.
        """
        row: Record = new_row(item, prediction.example["states"][index])
        if prediction.error is not None:
            kind = {NOT_FINITE: True} if isinstance(prediction.error, NonFiniteLogitsError) else {}
            return self.failed(row, prediction.error) | kind
        try:
            with stop_if_fatal(self.folder):
                self._write_files(row, item.name, prediction, index)
        except OutputError:
            raise
        except Exception as error:  # the libraries that write medical files raise errors of any kind
            return row | {"error": error_text(item.label, error)}
        return row | {"error": ""}

    def failed(self, row: Record, error: Exception) -> Record:
        """The row of an item without a mask; its files from an earlier run, when its image was another, are deleted."""
        name = row["name"]
        masks = [f"{name}{suffix}" for suffix in MASK_SUFFIXES]
        with stop_if_fatal(self.folder):
            for file_name in (*masks, f"{OVERLAYS}/{name}.jpg", f"{PROBABILITIES}/{name}.npy"):
                if (self.folder / file_name).is_file():
                    (self.folder / file_name).unlink()
        return row | {"error": error_text(row["image"], error)}

    def columns(self) -> list[str]:
        """The columns of measures in the table."""
        names = self.classes.values()
        return by_class(ClassStatistics._fields, names) + (by_class(SIZES, names) if self.statistics else [])

    def _lesions(self, mask: np.ndarray, image: MedicalImage) -> Record:
        """The measurements of each lesion, under `LESIONS`, and those of the classes."""
        from ..lesion_measures import class_statistics, lesion_statistics  # needs the extra `metrics`

        thickness = image.source.slice_spacing_mm if image.source else None
        lesions = lesion_statistics(mask, self.classes, image.spacing_mm, thickness)
        sizes = class_statistics(lesions, self.classes.values())
        values = [one[field] for one in sizes.values() for field in SIZES]
        measures = dict(zip(by_class(SIZES, sizes), values, strict=True))
        return {LESIONS: [lesion._asdict() for lesion in lesions], **measures}

    def _write_files(self, row: Record, name: str, prediction: Prediction, index: int) -> None:
        """Writes the files, and adds their names and the measures to the row."""
        mask, statistics, probabilities = prediction.answers[index]
        file_name = f"{name}{self.mask_suffix}"
        write_mask(self.folder / file_name, mask, self.num_labels, like=prediction.image)
        values = [value for one in statistics.values() for value in one]
        row |= {MASK: file_name, "foreground": float(is_lesion(mask).mean())}
        row |= zip(by_class(ClassStatistics._fields, statistics), values, strict=True)
        if self.statistics:
            row |= self._lesions(mask, prediction.image)  # type: ignore[arg-type]  # set if there is no error
        if self.overlays:
            file_name = f"{OVERLAYS}/{name}.jpg"
            pixels = prediction.image.array  # type: ignore[union-attr]  # set if there is no error
            step = math.ceil(max(mask.shape) / OVERLAY_SIDE)  # so that an image in parts is never whole in memory
            with whole_file(self.folder / file_name) as part:
                shown = overlay(np.asarray(pixels[::step, ::step]), mask[::step, ::step])
                shown.save(part, quality=JPEG_QUALITY, subsampling=0)
            row[OVERLAY] = file_name
        if probabilities is not None:
            file_name = f"{PROBABILITIES}/{name}.npy"
            with whole_file(self.folder / file_name) as part, part.open("wb") as file:
                np.save(file, probabilities[0] if len(probabilities) == 1 else probabilities)
            row[PROBABILITY_MAP] = file_name


def new_row(item: Item, state: list[Any] | None) -> Record:
    return {"name": item.name, "image": item.label, "text": item.text, "state": state}


@contextmanager
def stop_if_fatal(folder: Path) -> Iterator[None]:
    """Context in which an error that every further file would have becomes an `OutputError`."""
    try:
        yield
    except OSError as error:
        if error.errno not in FATAL:
            raise
        raise OutputError(
            f"{folder} cannot be written to ({error.strerror}): finished masks are kept. Free the disk or the folder, "
            "and repeat the command with `--resume`."
        ) from error


def by_class(fields: Sequence[str], names: Iterable[str]) -> list[str]:
    """The columns of these fields of each class, such as "pixels/benign"; with one class, without its name."""
    names = list(names)
    return [field if len(names) == 1 else f"{field}/{name}" for name in names for field in fields]


def error_text(image: str, error: Exception) -> str:
    """The message of an error, with the file's name, which some messages lack."""
    if isinstance(error, (ValueError, OSError)):
        return str(error) if Path(image).name in str(error) else f"{image}: {error}"
    return f"{image}: {type(error).__name__}: {' '.join(str(error).split())}"
