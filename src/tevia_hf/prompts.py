"""Sentences about where lesions are, in the closed grammar of QaTa-COV19.

"Left" is the left of the *picture*, as in QaTa's own annotations, not the patient's.
"""

import re
from collections.abc import Sequence
from typing import Literal, NamedTuple

Side = Literal["left", "right"]
Region = Literal["upper", "middle", "lower"]

SIDES: tuple[Side, ...] = ("left", "right")
REGIONS: tuple[Region, ...] = ("upper", "middle", "lower")
_NUMBERS = ("one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve")
_OPPOSITE = {"left": "right", "right": "left"}
_PLACE = r"((?:all|upper|middle|lower)(?: (?:upper|middle|lower))*)"
_TWO_CLAUSES = re.compile(rf"\b{_PLACE} (left|right) lung and {_PLACE} (left|right) lung\b", re.IGNORECASE)


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
    if not 1 <= count <= len(_NUMBERS):
        raise ValueError(
            f"count is {count}, the grammar has words for 1 to {len(_NUMBERS)}: pass a count in that range."
        )
    laterality = "Bilateral" if len(areas) == 2 else "Unilateral"
    number = f"{_NUMBERS[count - 1]} infected area{'s' if count > 1 else ''}"
    clauses = " and ".join(_clause(area) for area in sorted(areas, key=lambda area: SIDES.index(area.side)))
    return f"{laterality} pulmonary infection, {number}, {clauses}."


def flip_sentence(text: str) -> str:
    """The sentence that is true of the picture mirrored left to right.

    Whole words "left" and "right" change places, their case kept. In "<regions> left lung and <regions> right lung" the
    regions change places instead: the left clause stays first, so the sentence stays in QaTa's closed grammar.
    Applied twice it gives the original, whatever the text.
    """
    match = _TWO_CLAUSES.search(text)
    if match is None or match[2].lower() == match[4].lower():
        return _swap_words(text)
    clauses = f"{match[3]} {match[2]} lung and {match[1]} {match[4]} lung"
    return _swap_words(text[: match.start()]) + clauses + _swap_words(text[match.end() :])


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


def _swap_words(text: str) -> str:
    return re.sub(
        r"\b(left|right)\b", lambda match: _like(match[0], _OPPOSITE[match[0].lower()]), text, flags=re.IGNORECASE
    )


def _like(pattern: str, word: str) -> str:
    """`word` in the case of `pattern`."""
    if pattern.isupper():
        return word.upper()
    return word.capitalize() if pattern[0].isupper() else word
