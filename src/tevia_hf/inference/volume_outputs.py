"""Prediction of volumes: requests for their slices, and their masks, overlays and rows."""

import math
from collections.abc import Collection, Iterator, Sequence
from typing import Any

import numpy as np
from PIL import Image

from ..io.output_dir import part_of, whole_file
from ..io.volume import Volume, VolumeMask, VolumeSlice
from ..io.volumes import open_volume
from ..visualization import contact_sheet, overlay
from .answers import ClassStatistics, Prediction, pooled
from .items import Item, requests_of, states_of
from .manifest import Record
from .outputs import (
    JPEG_QUALITY,
    MASK,
    OVERLAY,
    OVERLAYS,
    OutputError,
    Outputs,
    by_class,
    error_text,
    new_row,
    stop_if_fatal,
)

VOLUME = "volume_mm3"  # the column of the volume
VOLUME_SUFFIX = ".nii.gz"  # of masks, unless they have another one of NIfTI
TILES, COLUMNS, TILE = 12, 4, 512  # slices in the overlay of a volume, and the longest side of each in pixels


class VolumeOutput:
    """The outputs of a volume with a text, while its slices are predicted.

    Args:
        item: the volume.
        state: of its files before they were read.
        volume: it, opened.
        outputs: what is written.
        is_last: whether the volume can be closed after it.
    """

    def __init__(self, item: Item, state: list[Any] | None, volume: Volume, outputs: Outputs, is_last: bool = True):
        self.item, self.volume, self.outputs, self.is_last = item, volume, outputs, is_last
        self.base = new_row(item, state)
        with stop_if_fatal(outputs.folder):
            self.mask = VolumeMask(volume.grid, part_of(outputs.folder / f"{item.name}.mask"))
        self.statistics: list[dict[str, ClassStatistics]] = [{}] * volume.count
        self.error: Exception | None = None

    def add(self, prediction: Prediction, index: int) -> None:
        """Takes the answer with this index for the slice of the prediction."""
        number = prediction.example["image"].number
        if prediction.error is not None:
            self.error = self.error or prediction.error
            return
        answer = prediction.answers[index]
        with stop_if_fatal(self.outputs.folder):
            self.mask.add(number, answer.mask)
        self.statistics[number] = answer.statistics

    def row(self) -> Record:
        """Writes mask and overlay, once all slices are there, and returns the row of the volume; deletes the rest."""
        try:
            return self._written()
        except OutputError:
            raise
        except Exception as error:  # the libraries that write medical files raise errors of any kind
            return self.base | {"error": error_text(self.item.label, error)}
        finally:
            self.mask.close()
            if self.is_last:
                self.volume.close()

    def _written(self) -> Record:
        item, row = self.item, dict(self.base)
        if self.error is not None:
            return self.outputs.failed(row, self.error)
        suffix = VOLUME_SUFFIX if self.outputs.mask_suffix == ".png" else self.outputs.mask_suffix
        row |= {MASK: f"{item.name}{suffix}"} | self._measures()
        with stop_if_fatal(self.outputs.folder):
            self.mask.save(self.outputs.folder / row[MASK])
            if self.outputs.overlays:
                row[OVERLAY] = f"{OVERLAYS}/{item.name}.jpg"
                with whole_file(self.outputs.folder / row[OVERLAY]) as part:
                    self._overlay().save(part, quality=JPEG_QUALITY)
        return row | {"error": ""}

    def _measures(self) -> Record:
        """Voxels (`pixels`), volume and mean probability of each class, and the share of the volume."""
        names, values, lesion_voxels = list(self.outputs.classes.values()), [], 0
        for name in names:
            whole = pooled([one[name] for one in self.statistics])
            volume = None if self.volume.voxel_mm3 is None else whole.pixels * self.volume.voxel_mm3
            values += [whole.pixels, whole.probability, volume]
            lesion_voxels += whole.pixels
        measures = zip(by_class(("pixels", "probability", VOLUME), names), values, strict=True)
        return {"foreground": lesion_voxels / math.prod(self.volume.grid.shape), **dict(measures)}

    def _overlay(self) -> Image.Image:
        """A grid of slices with the mask over them: of those with a lesion, or else of all, evenly spaced."""
        has_lesion = [n for n, one in enumerate(self.statistics) if any(each.pixels for each in one.values())]
        numbers = has_lesion or range(self.volume.count)
        chosen = [numbers[index] for index in sorted({*np.linspace(0, len(numbers) - 1, TILES).round().astype(int)})]
        tiles = [overlay(self.volume.slice(n).array, self.mask.slice(n), longest_side=TILE) for n in chosen]
        starts = range(0, len(tiles), COLUMNS)
        rows = [tiles[start : start + COLUMNS] for start in starts]
        captions = [[f"slice {number}" for number in chosen[start : start + COLUMNS]] for start in starts]
        return contact_sheet(rows, captions, self.item.text or None, self.outputs.classes)


def requests_for(
    batches: Sequence[Sequence[Item]], outputs: Outputs, done: Collection[str]
) -> Iterator[tuple[dict[str, Any], list[str]]]:
    """Requests for `Predictor.predictions`: one for each image or slice, with all of its texts.

    The network gets these batches, or those of a volume's slices, whatever the other ones are.
    """
    for items in batches:
        requests = requests_of_slices(items, outputs, done) if items[0].is_volume else requests_of(items)
        last = next(requests)
        for request in requests:
            yield last
            last = request
        yield {**last[0], "ends_batch": True}, last[1]


def requests_of_slices(
    items: Sequence[Item], outputs: Outputs, done: Collection[str]
) -> Iterator[tuple[dict[str, Any], list[str]]]:
    """One request for each slice of a volume; under "volumes" a `VolumeOutput` for each item that is not done.

    A volume that cannot be opened has a single request, which fails with the reason.
    """
    states = states_of(items)
    try:
        with stop_if_fatal(outputs.folder):
            volume = open_volume(items[0].image, outputs.folder)  # type: ignore[arg-type]  # a volume is no row
        check_slice_texts(items, volume)
    except OutputError:
        raise
    except (ValueError, OSError) as error:
        yield {"image": VolumeSlice(error), "id": items[0].label, **states}, [item.text for item in items]
        return
    pending = [item for item in items if item.name not in done]
    volumes = [
        VolumeOutput(item, state, volume, outputs, item is pending[-1]) if item in pending else None
        for item, state in zip(items, states["states"], strict=True)
    ]
    own_texts = [{volume.number_of(number): text for number, text in item.slice_texts} for item in items]
    for number in range(volume.count):
        example = {"image": VolumeSlice(volume, number), "id": f"{items[0].label}: slice {number}"}
        texts = [own.get(number, item.text) for own, item in zip(own_texts, items, strict=True)]
        yield {**example, **states, "volumes": volumes, "is_last": number == volume.count - 1}, texts


def check_slice_texts(items: Sequence[Item], volume: Volume) -> None:
    """Raises `ValueError` for texts of slices that the volume does not have."""
    numbers = {number for item in items for number, _ in item.slice_texts if volume.number_of(number) is None}
    if numbers:
        raise ValueError(
            f"{items[0].label}: the table has texts for the slices {sorted(numbers)[:5]}, but the volume has "
            f"the slices 0 to {volume.count - 1}: correct the numbers in the table; they are counted from 0."
        )
