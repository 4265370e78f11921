"""The measurements of an evaluation, image by image, recorded so that it can be resumed."""

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from datasets import Dataset

from ..data.decoding import decode_labels
from ..data.example import parse_files
from ..data.features import undecoded
from ..inference.manifest import Manifest, Record
from ..inference.predict import masks_of_each
from ..inference.predictor import Predictor
from ..io.parallel import on_all_cores
from ..mask_scores import Spacing
from ..prompts import ReportLanguage
from ..score_summaries import ImageScores
from .results import ConditionResults, Measurement, measure_masks
from .text_agreement import MaskAndText
from .text_conditions import TextCondition
from .volumes import VolumeMasks, VolumeScores, whole_volumes
from .worst_cases import WorstMasks


@dataclass(frozen=True)
class Examination:
    """What is measured: images, the texts of each condition, and how masks are read and compared.

    Args:
        texts: text condition -> one text for each image.
        classes: label -> name, of a model with several.
        shown: positions of the images in the figure.
    """

    dataset: Dataset
    conditions: Mapping[str, TextCondition]
    texts: Mapping[str, Sequence[str]]
    spacings: Sequence[Spacing | None]
    language: ReportLanguage | None
    classes: Mapping[int, str]
    num_labels: int
    white_is_lesion: bool | None
    shown: Sequence[int]

    def digest(self) -> str:
        """A hash of the examples and texts, which tells whether recorded measurements are of the same ones.

        Images and masks are identified by path, size and modification time, or by their content in memory.
        """
        content: list[Any] = [
            list(self.dataset["id"]),
            list(self.dataset["text"]),
            dict(self.texts),
            self.white_is_lesion,
        ]
        content += [list(self.spacings), self.num_labels, repr(self.language)]
        content += [identity(row[column]) for row in undecoded(self.dataset) for column in ("image", "mask")]
        return hashlib.sha256(json.dumps(content).encode()).hexdigest()


def identity(entry: Mapping[str, Any]) -> Any:
    """What tells an undecoded image or mask from another one."""
    if entry["bytes"] is not None:
        return hashlib.sha256(entry["bytes"]).hexdigest()
    states = [(str(file), file.path.stat()) for file in parse_files(entry["path"])]
    return [[address, state.st_size, state.st_mtime_ns] for address, state in states]


class Measurements:
    """The measurements of all images; masks only of those to show."""

    def __init__(self, examination: Examination):
        self.examination = examination
        self.of_volumes: dict[int, VolumeScores] = {}  # by the position of their first slice
        self.of_images: list[list[Measurement] | None] = [None] * len(examination.dataset)
        self.worst = WorstMasks()
        self.shown_masks: dict[int, list[np.ndarray]] = {}
        self.shown_references: dict[int, np.ndarray] = {}

    def add(
        self,
        position: int,
        measured: list[Measurement],
        masks: Sequence[np.ndarray] | None = None,
        reference: np.ndarray | None = None,
    ) -> None:
        """Adds an image; without masks, if these were measured by an earlier, interrupted run."""
        self.of_images[position] = measured
        own = None if masks is None else masks[0]
        self.worst.add(position, measured[0].scores, own, reference)
        if masks is not None and reference is not None and position in self.examination.shown:
            self.shown_masks[position], self.shown_references[position] = list(masks), reference

    def without_masks(self) -> set[int]:
        """The positions of images to show whose masks are not in memory."""
        return {*self.worst.without_masks(), *(set(self.examination.shown) - set(self.shown_masks))}

    def by_condition(self) -> dict[str, ConditionResults]:
        """The results of each text condition, in the order of the images."""
        results = {}
        for index, (name, condition) in enumerate(self.examination.conditions.items()):
            own = [measured[index] for measured in self.of_images if measured is not None]
            results[name] = ConditionResults(
                condition,
                self.examination.texts[name],
                [measured.scores for measured in own],
                [measured.against_text for measured in own],
                {position: masks[index] for position, masks in self.shown_masks.items()},
            )
        return results

    def references(self) -> dict[int, np.ndarray]:
        """The reference masks of the images in the figure, by position."""
        return {position: self.shown_references[position] for position in self.examination.shown}


def measure(examination: Examination, predictor: Predictor, manifest: Manifest | None = None) -> Measurements:
    """The measurements of all images, those in the manifest without predicting them again.

    An image is recorded as soon as it is measured, and a volume as soon as its slices are; the slices of a volume that
    was interrupted are predicted again. Batches are those of an uninterrupted evaluation, so that masks and scores are
    the same.
    """
    measurements, count = Measurements(examination), len(examination.dataset)
    rows = {} if manifest is None else manifest.rows
    measurements.of_volumes = {int(row["volume"]): row["scores"] for row in rows.values() if "volume" in row}
    recorded = {int(name): row for name, row in rows.items() if "volume" not in row}
    for position, row in recorded.items():
        measurements.add(position, measurements_in(row))
    volumes = whole_volumes(examination.dataset)
    unscored = [volume for volume in volumes if volume.positions[0] not in measurements.of_volumes]
    volume_masks = VolumeMasks(unscored)
    starts = range(0, count, predictor.batch_size)
    batches = [range(start, min(start + predictor.batch_size, count)) for start in starts]

    def positions_of(wanted: set[int]) -> list[int]:
        return [position for batch in batches if wanted.intersection(batch) for position in batch]

    missing = set(range(count)) - set(recorded)
    wanted = missing.union(*(volume.positions for volume in unscored))
    for position, masks, reference, measured in measured_images(examination, predictor, positions_of(wanted)):
        measurements.add(position, measured, masks, reference)
        if manifest is not None and position in missing:
            manifest.add(record_of(position, measured))
        if (scores := volume_masks.add(position, masks, reference)) is not None:
            first = volume_masks.of_position[position].positions[0]
            measurements.of_volumes[first] = scores
            if manifest is not None:
                manifest.add({"name": f"volume of slice {first}", "volume": first, "scores": scores})
    unseen = measurements.without_masks()
    for position, masks, reference, measured in measured_images(examination, predictor, positions_of(unseen)):
        measurements.add(position, measured, masks, reference)
    return measurements


def measured_images(
    examination: Examination, predictor: Predictor, positions: Sequence[int]
) -> Iterator[tuple[int, list[np.ndarray], np.ndarray, list[Measurement]]]:
    """Position, masks, reference and measurements of images; measured in other threads than the network's."""
    if not positions:
        return
    texts = list(zip(*examination.texts.values(), strict=True))
    examples = undecoded(examination.dataset.select(positions))
    requests = zip(examples, [texts[position] for position in positions], strict=True)
    predicted = masks_of_each(predictor, requests, len(positions))

    def measured(item: tuple[int, tuple[Mapping[str, Any], list[np.ndarray]]]) -> tuple[np.ndarray, list[Measurement]]:
        position, (example, masks) = item
        reference = decode_labels(example, examination.num_labels, examination.white_is_lesion)
        spacing, classes = examination.spacings[position], examination.classes
        return reference, measure_masks(texts[position], masks, reference, spacing, examination.language, classes)

    pairs = zip(positions, predicted, strict=True)
    for (position, (_, masks)), (reference, scores) in on_all_cores(measured, pairs, ahead=predictor.batch_size):
        yield position, masks, reference, scores


def record_of(position: int, measured: Sequence[Measurement]) -> Record:
    """The line of an image in a manifest."""
    masks = [{"scores": scores_record(one.scores), "text": one.against_text._asdict()} for one in measured]
    return {"name": str(position), "masks": masks}


def scores_record(scores: ImageScores) -> Record:
    return scores._asdict() | {"classes": {label: scores_record(own) for label, own in scores.classes.items()}}


def measurements_in(row: Record) -> list[Measurement]:
    """The measurements in a line that `record_of` made."""
    return [Measurement(scores_in(one["scores"]), against_text_in(one["text"])) for one in row["masks"]]


def scores_in(record: Record) -> ImageScores:
    sums = {
        key: {int(label): (float(one), float(other)) for label, (one, other) in own.items()}
        for key, own in record["sums"].items()
    }
    classes = {int(label): scores_in(own) for label, own in record["classes"].items()}
    return ImageScores(record["values"], sums, record["predicted_pixels"], record["true_pixels"], classes)


def against_text_in(record: Record) -> MaskAndText:
    agreement = {field: (bool(own), bool(true)) for field, (own, true) in record["agreement"].items()}
    return MaskAndText(**{**record, "agreement": agreement})
