"""The images with the worst scores of an evaluation, kept while it runs, and a sheet of them."""

import heapq
import textwrap
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from datasets import Dataset
from PIL import Image

from ..data.decoding import decode_image
from ..data.features import undecoded
from ..metric_table import METRICS, PRIMARY, primary_name
from ..score_summaries import ImageScores
from ..visualization import contact_sheet, overlay

WORST_CASES = 8
TILE_SIDE = 512  # pixels of the longer side
TEXT_LENGTH = 200  # characters of a text on the sheet


class ScoredMasks(NamedTuple):
    """The predicted and reference mask (label maps) of one image, its position in the data set and its score.

    Masks are `None` until they are predicted again, if an earlier, interrupted run measured them.
    """

    position: int
    score: float
    mask: np.ndarray | None
    reference: np.ndarray | None


class WorstMasks:
    """The masks of the images with the worst primary score; of equal ones, of those with more true lesion pixels.

    It holds at most `WORST_CASES` of any number of images.
    """

    def __init__(self) -> None:
        self.heap: list[tuple[tuple[float, int, int], ScoredMasks]] = []  # the least bad first

    def add(
        self,
        position: int,
        scores: ImageScores,
        mask: np.ndarray | None = None,
        reference: np.ndarray | None = None,
    ) -> None:
        """Adds an image, or drops it if enough others are worse; one that is here already gets its masks."""
        score = scores.values[PRIMARY]
        badness = -score if METRICS[PRIMARY].higher_is_better else score
        entry = (badness, scores.true_pixels, -position), ScoredMasks(position, score, mask, reference)
        keys = [key for key, _ in self.heap]
        if entry[0] in keys:
            self.heap[keys.index(entry[0])] = entry
        elif len(self.heap) < WORST_CASES:
            heapq.heappush(self.heap, entry)
        else:
            heapq.heappushpop(self.heap, entry)

    def without_masks(self) -> list[int]:
        """The positions of images whose masks are missing."""
        return [masks.position for _, masks in self.heap if masks.mask is None]

    def ordered(self) -> list[ScoredMasks]:
        """The masks, the worst first."""
        return [masks for _, masks in sorted(self.heap, key=lambda entry: entry[0], reverse=True)]


class WorstCase(NamedTuple):
    """An image with a bad score.

    Args:
        id: of the example.
        text: its own, "" for none.
        score: its primary score with this text.
        image: the image alone.
        reference: with the boundary of the reference.
        prediction: with the predicted areas too.
    """

    id: str
    text: str
    score: float
    image: Image.Image
    reference: Image.Image
    prediction: Image.Image


def worst_cases(worst: WorstMasks, dataset: Dataset, texts: Sequence[str]) -> list[WorstCase]:
    """The cases to show, the worst first; `texts` are those of all images."""
    all_masks = worst.ordered()
    examples = undecoded(dataset.select([masks.position for masks in all_masks]))
    cases = []
    for example, (position, score, mask, reference) in zip(examples, all_masks, strict=True):
        assert mask is not None and reference is not None
        image, empty = decode_image(example), np.zeros_like(mask)
        tiles = [
            overlay(image, areas, lines, longest_side=TILE_SIDE)
            for areas, lines in ((empty, None), (empty, reference), (mask, reference))
        ]
        cases.append(WorstCase(str(example["id"]), texts[position], score, *tiles))
    return cases


def worst_cases_sheet(cases: Sequence[WorstCase], classes: Mapping[int, str]) -> Image.Image:
    """A row for each case: the image with its text, the reference, and the prediction with its score.

    Args:
        classes: label -> name, for the legend.
    """
    captions = [
        [
            textwrap.shorten(f"{case.id}: {case.text or 'no text'}", TEXT_LENGTH, placeholder=" ..."),
            "reference",
            f"prediction: {primary_name()} {case.score:.3f}",
        ]
        for case in cases
    ]
    rows = [[case.image, case.reference, case.prediction] for case in cases]
    order = "lowest" if METRICS[PRIMARY].higher_is_better else "highest"
    title = f"Images with the {order} {primary_name()}"
    return contact_sheet(rows, captions, title, classes, with_reference=True)
