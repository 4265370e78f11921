"""Rewriting of texts after flips and other changes of their image."""

import re
from collections.abc import Iterable
from functools import cache, reduce
from typing import Literal

from tevia_hf.prompts.fields import FIELDS
from tevia_hf.prompts.lesions import Lesions
from tevia_hf.prompts.lungs import REGION_LIST
from tevia_hf.prompts.words import BEGIN, END, MIRRORED, NUMBERS, PLACE_LIST, join_places, like, number_word, swap_words

Axis = Literal["horizontal", "vertical"]
AXES: tuple[Axis, ...] = ("horizontal", "vertical")

_TWO_CLAUSES = re.compile(rf"({REGION_LIST}) (left|right) lung and ({REGION_LIST}) (left|right) lung", re.IGNORECASE)
_SEVERAL_PLACES = re.compile(PLACE_LIST.removesuffix("*") + "+", re.IGNORECASE)
_SEVERAL_REGIONS = re.compile("(?:upper|middle|lower)(?: (?:upper|middle|lower))+", re.IGNORECASE)
_MIRRORED_WORDS = [word for pairs in MIRRORED.values() for word in pairs]
_CLAIM = re.compile(
    rf"{BEGIN}(?:{_TWO_CLAUSES.pattern}|{_SEVERAL_PLACES.pattern}|{_SEVERAL_REGIONS.pattern}|{'|'.join(_MIRRORED_WORDS)})"
    rf"{END}",
    re.IGNORECASE,
)
_HOUR = rf"(?:{'|'.join(sorted(NUMBERS[1:], key=len, reverse=True))}|1[0-2]|0?[1-9])(?:[:.][0-5]\d)?"
_CLOCK = re.compile(  # numbers before it may be hours or something else: such a list is left unchanged
    rf"(?P<before>(?:\d|\b(?:{'|'.join(NUMBERS[1:])}))\s?[,/]\s?|\d\s[-\u2013]\s|[\d:.][-\u2013.:])??"
    rf"\b(?P<hours>{_HOUR}(?:(?:[-\u2013]| and | to | or ){_HOUR})*)(?P<unit>[-\s]?o\W?clock\b)",
    re.IGNORECASE,
)
_A_NUMBER = r"\d+(?! ?(?:mm|cm|%|percent|o'clock)|[.,]\d)"
COUNT_WORDS = {*NUMBERS[1:], "single", "several", "multiple", "many", "few", "both", "pair", _A_NUMBER}
_MEASURED_WORDS = {  # of user-defined templates, whose texts are free text here
    "size": {"small", "medium", "large"},
    "shape": {"irregular", "triangular", "rectangular", "oval", "round"},
    "density": {"sparsely", "evenly", "irregularly", "density"},
    "percent": {r"\d+\.\d ?(?:%|percent)"},
}
PLACE_WORDS = {*_MIRRORED_WORDS, r"o\W?clock", "middle", "center", "central", "all", "both", "bilateral", "unilateral"}


def flip_text(text: str, axis: Axis = "horizontal") -> str:
    """The text for the image flipped left to right, or with "vertical" top to bottom.

    The words "left" and "right" ("upper" and "lower", "top" and "bottom", "superior" and "inferior") are swapped with
    their case; so are abbreviations ("LUL" and "RUL", "lt." and "rt.", "L lung" and "R lung") and clock positions ("2
    o'clock" and "10 o'clock", vertically "4 o'clock"; "10-11 o'clock" and "1-2 o'clock").
    Lists keep their order: in "<regions> left lung and <regions> right lung" the regions are swapped instead, "middle
    lower" becomes "upper middle", and several places stay in reading order.
    Two flips give the original, unless it named its places in another order.
    """
    text = _CLAIM.sub(lambda match: _mirrored(match[0], axis), text)
    return _CLOCK.sub(lambda match: _mirrored_clock(match, axis) or match[0], text)


def flip_on(text: str, axes: Iterable[Axis]) -> str:
    """The text flipped on each of these axes."""
    return reduce(flip_text, axes, text)


@cache
def flips_of(text: str) -> dict[str, tuple[Axis, ...]]:
    """The text and its flips on one axis or both -> the axes."""
    flipped: dict[str, tuple[Axis, ...]] = {}
    for axes in ((), AXES[:1], AXES[1:], AXES):
        flipped.setdefault(flip_on(text, axes), axes)
    return flipped


def sides_in(text: str) -> set[Axis]:
    """The axes on which a flip changes more than the word order of a text."""
    words = {flipped: sorted(re.findall(r"\w+", flipped.lower())) for flipped in flips_of(text)}
    return {axis for axis in AXES if words[flip_text(text, axis)] != words[text]}


def without_known_sides(text: str, axis: Axis) -> str:
    """The text without the words and clock positions that `flip_text` rewrites on this axis."""
    text = _CLOCK.sub(lambda match: "" if _mirrored_clock(match, axis) else match[0], text)
    return re.sub(rf"{BEGIN}(?:{'|'.join(MIRRORED[axis])}){END}", "", text, flags=re.IGNORECASE)


def drop_claims(text: str, words: Iterable[str]) -> str:
    """The text without the clauses (ended by comma, semicolon or full stop) that contain one of these words."""
    pattern = re.compile(rf"{BEGIN}(?:{'|'.join(words) or '(?!)'}){END}", re.IGNORECASE)
    kept = [clause for clause in re.split(r"(?<=[,;.])\s+", text) if not pattern.search(clause)]
    return re.sub(r"[,;]$", ".", " ".join(kept))


def outdated_words(before: Lesions, after: Lesions) -> set[str]:
    """Words of free text that may no longer be correct."""
    if not (before.count and after.count):
        return COUNT_WORDS | PLACE_WORDS if before.count != after.count else set()
    changed = {name for name in FIELDS if FIELDS[name].value(before) != FIELDS[name].value(after)}
    outdated = COUNT_WORDS if before.count != after.count else set()
    outdated = outdated | (PLACE_WORDS if changed & {"lungs", "place"} else set())
    return outdated.union(*(words for name, words in _MEASURED_WORDS.items() if name in changed))


def _mirrored(claim: str, axis: Axis) -> str:
    """One word or list matched by `_CLAIM`, flipped."""
    clauses = _TWO_CLAUSES.fullmatch(claim)
    if clauses and axis == "horizontal" and clauses[2].lower() != clauses[4].lower():
        return f"{clauses[3]} {clauses[2]} lung and {clauses[1]} {clauses[4]} lung"
    if _SEVERAL_PLACES.fullmatch(claim):
        places = swap_words(claim.lower(), MIRRORED[axis]).split(" and the ")
        return like(claim, join_places(set(places)))
    if axis == "vertical":
        claim = _SEVERAL_REGIONS.sub(lambda match: _reversed_words(match[0]), claim)
    return swap_words(claim, MIRRORED[axis])


def _mirrored_clock(match: re.Match[str], axis: Axis) -> str | None:
    """ "1-2 o'clock" for "10-11 o'clock", in clockwise order; `None` for a list that may not be hours."""
    hours = re.findall(_HOUR, match["hours"], re.IGNORECASE)
    joints = re.split(_HOUR, match["hours"], flags=re.IGNORECASE)
    if match["before"] or (len(hours) > 2 and not {*joints[1:-1]} <= {" and ", " or "}):
        return None
    turned = [_mirrored_hour(hour, axis) for hour in reversed(hours)]
    return "".join(map("".join, zip(joints, [*turned, ""], strict=True))) + match["unit"]


def _mirrored_hour(hour: str, axis: Axis) -> str:
    hours, mark, minutes = re.fullmatch(r"(\w+)([:.]?)(\d*)", hour).groups()  # type: ignore[union-attr]  # as `_HOUR`
    number = int(hours) if hours.isdecimal() else NUMBERS.index(hours.lower())
    around = (12 if axis == "horizontal" else 6) * 60 - (number * 60 + int(minutes or 0))
    number, late = around // 60 % 12 or 12, around % 60
    text = str(number) if hours.isdecimal() else like(hours, number_word(number))
    return f"{text}{mark}{late:02}" if mark else text


def _reversed_words(text: str) -> str:
    words = text.split(" ")
    return " ".join(like(here, word.lower()) for here, word in zip(words, reversed(words), strict=True))
