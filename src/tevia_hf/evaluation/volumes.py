"""Scores of whole volumes in an evaluation of their slices."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from datasets import Dataset

from ..data.example import parse_files
from ..data.features import undecoded
from ..intervals import ratio_interval
from ..io.markdown import Block, Table
from ..score_summaries import ImageScores, summarize
from .report_tables import interval_text, number

# A score of a volume -> the metric that pools all pixels of its slices.
SCORES = {"dice_volume": "dice_pooled", "iou_volume": "iou_pooled"}


def volumes_in(dataset: Dataset) -> list[str | None]:
    """The file of the volume of which each image is a slice; None for other images."""
    entries = (row["image"] for row in undecoded(dataset))
    files = [None if entry["bytes"] is not None else parse_files(entry["path"])[0] for entry in entries]
    return [str(file.path) if file is not None and file.number is not None else None for file in files]


def volume_table(scores: Mapping[str, Sequence[ImageScores]], dataset: Dataset) -> pd.DataFrame:
    """One row per volume and text condition: `volume, group, slices, text_mode, dice_volume, iou_volume`.

    Empty if no volume has several slices among the images. A score is that of all evaluated voxels of the volume, a
    mean over the labels in either mask, and 1 without any.
    """
    positions: dict[str, list[int]] = {}
    for position, volume in enumerate(volumes_in(dataset)):
        if volume is not None:
            positions.setdefault(volume, []).append(position)
    groups, rows = list(dataset["group"]), []
    for name, own in scores.items():
        for volume, slices in positions.items():
            pooled = summarize([own[position] for position in slices])
            values = {key: pooled[metric] for key, metric in SCORES.items()}
            row = {"volume": Path(volume).name, "group": groups[slices[0]], "slices": len(slices), "text_mode": name}
            rows.append(row | values)
    table = pd.DataFrame(rows, columns=["volume", "group", "slices", "text_mode", *SCORES])
    return table if (table["slices"] > 1).any() else table.iloc[:0]


def volume_summary(table: pd.DataFrame, seed: int) -> dict[str, dict[str, Any]]:
    """Text condition -> number of volumes, mean of each score over them, and the bootstrap 95 % interval of the Dice.

    Patients are resampled.
    """
    summary = {}
    for name, own in table.groupby("text_mode", sort=False):
        dice = own["dice_volume"].to_numpy()
        interval = ratio_interval(dice, np.ones(len(dice)), list(own["group"]), seed)
        summary[str(name)] = {"volumes": len(own), **own[[*SCORES]].mean().to_dict(), "dice_volume_interval": interval}
    return summary


def volume_blocks(summary: Mapping[str, Mapping[str, Any]]) -> list[Block]:
    """The table of a report."""
    if not summary:
        return []
    rows = [
        [name, number(row["dice_volume"]), interval_text(row["dice_volume_interval"]), number(row["iou_volume"])]
        for name, row in summary.items()
    ]
    count = next(iter(summary.values()))["volumes"]
    return [
        Table(["text", "dice_volume", "95 %", "iou_volume"], rows),
        f"Of {count} volumes, each over all of its evaluated slices; the other tables are per slice. 95 %: bootstrap "
        "interval of `dice_volume`. Distances in three dimensions: `volume_metrics` of the masks that `tevia predict` "
        "writes.",
    ]
