"""Location of infection in the lungs, in the wording of QaTa-COV19."""

import re
from collections.abc import Sequence
from typing import Literal, NamedTuple

import numpy as np

from tevia_hf.prompts.lesions import Lesions

Side = Literal["left", "right"]
Region = Literal["upper", "middle", "lower"]

SIDES: tuple[Side, ...] = ("left", "right")
REGIONS: tuple[Region, ...] = ("upper", "middle", "lower")
REGION_LIST = "(?:all|upper|middle|lower)(?: (?:upper|middle|lower))*"
_CLAUSE = re.compile(f"({REGION_LIST}) (left|right) lung")
# Rows where a lung's upper third ends and its lower third begins, as shares of the height. The boundaries of the lungs
# are unknown; these values agree best with QaTa's published texts (`benchmarks/prompt_agreement.py`).
UPPER_ENDS, LOWER_BEGINS = 0.268, 0.375
SMALLEST_SHARE_OF_REGION = 0.02  # of the infected pixels of a side, from which a region is named
SMALLEST_SHARE_OF_SIDE = 0.2  # of a lesion's pixels, from which its side is named


class Area(NamedTuple):
    """The part of one lung that a text names: a side of the image and one to three regions."""

    side: Side
    regions: tuple[Region, ...]


def laterality_of(areas: Sequence[Area]) -> str:
    return "bilateral" if len({area.side for area in areas}) == 2 else "unilateral"


def lung_clauses(areas: Sequence[Area]) -> str:
    """The areas as text, such as "upper left lung and all right lung"."""
    clauses = []
    for side, regions in sorted(areas, key=lambda area: SIDES.index(area.side)):
        ordered = [region for region in REGIONS if region in regions]
        clauses.append(f"{'all' if len(ordered) == len(REGIONS) else ' '.join(ordered)} {side} lung")
    return " and ".join(clauses)


def lung_areas_in(clauses: str) -> list[Area]:
    """The areas of a text written by `lung_clauses`."""
    matches = [_CLAUSE.fullmatch(clause) for clause in clauses.split(" and ")]
    areas = [(match[2], REGIONS if match[1] == "all" else match[1].split()) for match in matches if match]
    return [Area(side, tuple(region for region in REGIONS if region in names)) for side, names in areas]  # type: ignore[arg-type]  # a side


def lung_areas(lesions: Lesions) -> list[Area]:
    """The sides and regions that contain the lesions. A lesion across the midline may be in both sides."""
    width = lesions.mask.shape[1]
    halves = dict(zip(SIDES, (slice(0, width // 2), slice(width - width // 2, width)), strict=True))
    parts = {side: lesions.components[:, half].ravel() for side, half in halves.items()}
    pixels = {side: np.bincount(part, minlength=lesions.count + 1)[1:] for side, part in parts.items()}  # per lesion
    named = [side for side in SIDES if (pixels[side] >= SMALLEST_SHARE_OF_SIDE * lesions.areas).any()]
    return [Area(side, _regions(lesions.mask[:, halves[side]])) for side in named or SIDES]


def _regions(half: np.ndarray) -> tuple[Region, ...]:
    height = len(half)
    bands = np.split(half.sum(1), [round(UPPER_ENDS * height), round(LOWER_BEGINS * height)])
    pixels = [int(band.sum()) for band in bands]
    smallest = max(1.0, SMALLEST_SHARE_OF_REGION * sum(pixels))
    return tuple(region for region, inside in zip(REGIONS, pixels, strict=True) if inside >= smallest) or REGIONS
