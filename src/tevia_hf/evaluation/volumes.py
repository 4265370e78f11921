"""Scores of whole volumes in an evaluation of their slices."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple, cast

import numpy as np
import pandas as pd
from datasets import Dataset

from ..data.example import parse_files
from ..data.features import undecoded
from ..intervals import ratio_intervals
from ..io import ImageRef
from ..io.markdown import Block, Table
from ..io.nifti import NiftiVolume
from ..io.parallel import on_all_cores
from ..io.series import DicomVolume
from ..io.volumes import is_nifti
from ..score_summaries import ImageScores, summarize
from ..volume_scores import VolumeSpacing, volume_metrics
from .report_tables import interval_text, number

VolumeScores = list[dict[str, float]]  # for each text condition, the `DISTANCES` of a volume
# A score of a volume -> the metric that pools all pixels of its slices.
SCORES = {"dice_volume": "dice_pooled", "iou_volume": "iou_pooled"}
# A score in three dimensions, of volumes that are evaluated as a whole -> that of `volume_metrics`.
DISTANCES = {"hd95_volume": "hd95", "surface_dice_volume": "surface_dice"}
COLUMNS = [*SCORES, *DISTANCES]


class WholeVolume(NamedTuple):
    """A volume of which every slice is among the images.

    Args:
        positions: of the slices among the images, in their order in the volume.
        spacing_mm: (slice, row, column).
    """

    positions: tuple[int, ...]
    spacing_mm: VolumeSpacing


def volumes_in(dataset: Dataset) -> dict[str, dict[int, ImageRef]]:
    """The file of each volume of which images are slices -> position of the image -> its address."""
    volumes: dict[str, dict[int, ImageRef]] = {}
    for position, row in enumerate(undecoded(dataset)):
        file = None if row["image"]["bytes"] is not None else parse_files(row["image"]["path"])[0]
        if file is not None and isinstance(file.number, int):
            volumes.setdefault(str(file.path), {})[position] = file
    return volumes


def whole_volumes(dataset: Dataset) -> list[WholeVolume]:
    """The volumes of which every slice is among the images, once and in one plane, at known positions."""
    found = []
    for slices in volumes_in(dataset).values():
        first = next(iter(slices.values()))
        try:
            volume = NiftiVolume(first) if is_nifti(first) else DicomVolume(replace(first, number=None))
        except ValueError:  # e.g. frames at one position, which are no volume
            continue
        position_of = {volume.number_of(cast(int, file.number)): position for position, file in slices.items()}
        is_whole = set(position_of) == set(range(volume.count))
        in_one_plane = {file.plane for file in slices.values()} == {first.plane}
        if is_whole and in_one_plane and len(slices) == volume.count and volume.spacing_mm is not None:
            found.append(WholeVolume(tuple(position_of[number] for number in range(volume.count)), volume.spacing_mm))
    return found


class VolumeMasks:
    """The masks of volumes, slice by slice; those of a volume are scored, and leave, once all of them are there.

    Args:
        volumes: to score.
    """

    def __init__(self, volumes: Iterable[WholeVolume]):
        self.of_position = {position: volume for volume in volumes for position in volume.positions}
        self.slices: dict[int, tuple[Sequence[np.ndarray], np.ndarray]] = {}

    def add(self, position: int, masks: Sequence[np.ndarray], reference: np.ndarray) -> VolumeScores | None:
        """Takes the masks of a slice; the scores for each of them, if it is the last one of its volume."""
        volume = self.of_position.get(position)
        if volume is None:
            return None
        self.slices[position] = masks, reference
        if not all(own in self.slices for own in volume.positions):
            return None
        slices = [self.slices.pop(own) for own in volume.positions]
        true = np.stack([own for _, own in slices])

        def scores_of(predicted: np.ndarray) -> dict[str, float]:
            values = volume_metrics(predicted, true, volume.spacing_mm, white_is_lesion=False)
            return {name: values[metric] for name, metric in DISTANCES.items()}

        masks_of = (np.stack(predicted) for predicted in zip(*(own for own, _ in slices), strict=True))
        return [scores for _, scores in on_all_cores(scores_of, masks_of)]


def volume_table(
    scores: Mapping[str, Sequence[ImageScores]], dataset: Dataset, distances: Mapping[int, VolumeScores]
) -> pd.DataFrame:
    """One row per volume and text condition: `volume, group, slices, text_mode`, `SCORES` and `DISTANCES`.

    Empty if no volume has several slices among the images. A Dice or IoU is that of all evaluated voxels of the volume,
    a mean over the labels in either mask, and 1 without any; distances are empty unless all slices are evaluated.

    Args:
        distances: position of the first slice of a volume -> those with each text condition.
    """
    groups, rows = list(dataset["group"]), []
    for index, (name, own) in enumerate(scores.items()):
        for volume, slices in volumes_in(dataset).items():
            pooled = summarize([own[position] for position in slices])
            first = next((position for position in slices if position in distances), None)
            values = {key: pooled[metric] for key, metric in SCORES.items()}
            values |= {} if first is None else distances[first][index]
            row = {"volume": Path(volume).name, "group": groups[min(slices)], "slices": len(slices), "text_mode": name}
            rows.append(row | values)
    table = pd.DataFrame(rows, columns=["volume", "group", "slices", "text_mode", *COLUMNS])
    return table if (table["slices"] > 1).any() else table.iloc[:0]


def volume_summary(table: pd.DataFrame, seed: int) -> dict[str, dict[str, Any]]:
    """Text condition -> number of volumes, mean of each score over them, and its bootstrap 95 % interval.

    Patients are resampled. Distances are there only if all volumes have some.
    """
    known = [name for name in COLUMNS if table[name].notna().all()]
    summary = {}
    for name, own in table.groupby("text_mode", sort=False):
        sums = {f"{score}_interval": (own[score].to_numpy(float), np.ones(len(own))) for score in known}
        intervals = ratio_intervals(sums, list(own["group"]), seed)
        summary[str(name)] = {"volumes": len(own), **own[known].mean().to_dict(), **intervals}
    return summary


def volume_blocks(summary: Mapping[str, Mapping[str, Any]]) -> list[Block]:
    """The table of a report."""
    if not summary:
        return []
    first = next(iter(summary.values()))
    known = [name for name in COLUMNS if name in first]
    rows = [
        [name, *(text for score in known for text in (number(row[score]), interval_text(row[f"{score}_interval"])))]
        for name, row in summary.items()
    ]
    heads = ["text", *(text for score in known for text in (score, "95 %"))]
    distances = (
        "`hd95_volume` (mm) and `surface_dice_volume` are in three dimensions."
        if known[-1] in DISTANCES
        else "There are no distances in three dimensions, as not all slices were evaluated or the size of voxels is "
        "unknown."
    )
    return [
        Table(heads, rows),
        f"Of {first['volumes']} volumes, each over all of its evaluated slices; the other tables are per slice. "
        f"{distances} 95 %: bootstrap interval over patients.",
    ]
