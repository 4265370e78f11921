"""Where infection lies in the lungs, in the words of QaTa-COV19."""

from collections.abc import Sequence
from typing import Literal, NamedTuple

import numpy as np

from tevia_hf.prompts.lesions import Lesions
from tevia_hf.prompts.words import number_word

Side = Literal["left", "right"]
Region = Literal["upper", "middle", "lower"]

SIDES: tuple[Side, ...] = ("left", "right")
REGIONS: tuple[Region, ...] = ("upper", "middle", "lower")
MOST_AREAS = 12
# Rows where a lung's upper third ends and its lower third begins, shares of the height. The lungs' own outlines are not
# known; these two agree best with QaTa's published sentences (`benchmarks/prompt_agreement.py`).
UPPER_ENDS, LOWER_BEGINS = 0.268, 0.375
SMALLEST_SHARE_OF_REGION = 0.02  # of the infected pixels of its side, for a region to be named
SMALLEST_SHARE_OF_SIDE = 0.2  # of a lesion's pixels, for its side to be named


class Area(NamedTuple):
    """The part of one lung that a sentence speaks of: a side of the picture and one to three regions."""

    side: Side
    regions: tuple[Region, ...]


def qata_sentence(areas: Sequence[Area], count: int | None = None) -> str:
    """A sentence such as "Bilateral pulmonary infection, two infected areas, upper left lung and lower right lung."

    Args:
        areas: One `Area`, or one for each side, in any order; the left clause is written first.
        count: Number of lesions the sentence states, 1 to 12. Default: one per named region.

    Raises:
        ValueError: Unknown side or region, no area, two areas on one side, or a count out of range.
    """
    _check_areas(areas)
    count = sum(len(area.regions) for area in areas) if count is None else count
    if not 1 <= count <= MOST_AREAS:
        raise ValueError(f"count is {count}, the language has words for 1 to {MOST_AREAS}: pass a count in that range.")
    laterality = "Bilateral" if len(areas) == 2 else "Unilateral"
    number = f"{number_word(count)} infected area{'s' if count > 1 else ''}"
    return f"{laterality} pulmonary infection, {number}, {lung_clauses(areas)}."


def lung_clauses(areas: Sequence[Area]) -> str:
    """Such as "upper left lung and all right lung"."""
    return " and ".join(_clause(area) for area in sorted(areas, key=lambda area: SIDES.index(area.side)))


def lung_areas(lesions: Lesions) -> list[Area]:
    """The sides and regions that the lesions lie in. One lesion over the midline may name both sides."""
    width = lesions.mask.shape[1]
    halves = dict(zip(SIDES, (slice(0, width // 2), slice(width - width // 2, width)), strict=True))
    within = {side: lesions.areas_within((slice(None), half)) for side, half in halves.items()}
    named = [side for side in SIDES if (within[side] >= SMALLEST_SHARE_OF_SIDE * lesions.areas).any()]
    return [Area(side, _regions(lesions.mask[:, halves[side]])) for side in named or SIDES]


def _regions(half: np.ndarray) -> tuple[Region, ...]:
    height = len(half)
    bands = np.split(half.sum(1), [round(UPPER_ENDS * height), round(LOWER_BEGINS * height)])
    pixels = [int(band.sum()) for band in bands]
    smallest = max(1.0, SMALLEST_SHARE_OF_REGION * sum(pixels))
    return tuple(region for region, inside in zip(REGIONS, pixels, strict=True) if inside >= smallest) or REGIONS


def _check_areas(areas: Sequence[Area]) -> None:
    sides = [area.side for area in areas]
    if not areas or len(set(sides)) != len(sides) or not set(sides) <= set(SIDES):
        raise ValueError(f"areas have the sides {sides}: pass one Area for 'left', one for 'right', or both.")
    for area in areas:
        if not area.regions or not set(area.regions) <= set(REGIONS) or len(set(area.regions)) != len(area.regions):
            raise ValueError(
                f"regions are {area.regions}: name each of {REGIONS} at most once, and at least one of them."
            )


def _clause(area: Area) -> str:
    ordered = [region for region in REGIONS if region in area.regions]
    return f"{'all' if len(ordered) == len(REGIONS) else ' '.join(ordered)} {area.side} lung"
