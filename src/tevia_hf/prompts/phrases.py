"""The words of one fact: written from its value by a table of wordings, and found in a text again."""

import re
from collections.abc import Iterable, Mapping
from functools import cache
from itertools import combinations

import numpy as np

from tevia_hf.prompts.fields import FIELDS
from tevia_hf.prompts.lungs import REGIONS, SIDES, Area, Region, lung_clauses
from tevia_hf.prompts.templates import FINDING, FINDING_PATTERN
from tevia_hf.prompts.wordings import LungWording, Wordings
from tevia_hf.prompts.words import join_places

BETWEEN_PLACES = " and "
_LUNG_CLAUSE = re.compile(r"([a-z ]+) (left|right) lung")


def pick(choices, draws: np.random.Generator):
    return choices[int(draws.integers(len(choices)))]


def write_fact(name: str, value: str, table: Wordings, draws: np.random.Generator) -> str:
    """One of the ways in which the table writes this value."""
    if name == "lungs":
        return _write_lungs(lung_areas_in(value), pick(table.lungs, draws), draws)
    if name == "place":
        return BETWEEN_PLACES.join(table.place[place] for place in value.split(" and the "))
    return pick(table.values.get(name, {}).get(value, (value,)), draws)


def fact_pattern(name: str, table: Wordings) -> str:
    """A regular expression, in lower case, of all that the table writes for a fact."""
    if name == FINDING:
        return FINDING_PATTERN
    if name == "lungs":
        phrase, joints = _any_of(lung_phrases(table)), _any_of(wording.between for wording in table.lungs)
        return f"{phrase}(?:{joints}{phrase})?"
    if name == "place":
        place = _any_of(table.place.values())
        return f"{place}(?:{BETWEEN_PLACES}{place})*"
    own = [wording for wordings in table.values.get(name, {}).values() for wording in wordings]
    return f"(?:{_any_of(own)}|{FIELDS[name].pattern})" if own else FIELDS[name].pattern


def read_fact(name: str, words: str, table: Wordings) -> str:
    """The value, in the grammar's words, of what `fact_pattern` found."""
    if name == "lungs":
        phrases = lung_phrases(table)
        found = re.findall(_any_of(phrases), words)
        return lung_clauses([area for phrase in found for area in phrases[phrase]])
    if name == "place":
        places = {words.lower(): place for place, words in table.place.items()}
        return join_places({places[found] for found in re.findall(_any_of(places), words)})
    values = table.values.get(name, {})
    return next((value for value, wordings in values.items() if words in map(str.lower, wordings)), words)


def lung_areas_in(clauses: str) -> list[Area]:
    """The areas of the grammar's words, such as "all left lung and lower right lung"."""
    found = [_LUNG_CLAUSE.fullmatch(clause) for clause in clauses.split(" and ")]
    return [Area(match[2], _regions(match[1])) for match in found if match]  # type: ignore[arg-type]  # a side


@cache
def lung_phrases(table: Wordings) -> dict[str, list[Area]]:
    """Everything the table calls a part of one lung, or of both alike, in lower case."""
    subsets = [regions for size in (1, 2, 3) for regions in combinations(REGIONS, size)]
    return {
        phrase.lower(): [Area(each, regions) for each in SIDES if side in (each, "both")]
        for wording in table.lungs
        for side in (*SIDES, "both")
        for regions in subsets
        if (phrase := _phrase(wording, side, regions))
    }


def _write_lungs(areas: list[Area], wording: LungWording, draws: np.random.Generator) -> str:
    is_alike = len(areas) == 2 and areas[0].regions == areas[1].regions
    if is_alike and (both := _phrase(wording, "both", areas[0].regions)):
        return both
    turned = areas if draws.random() < 0.5 else areas[::-1]
    return wording.between.join(_phrase(wording, area.side, area.regions) for area in turned)


def _phrase(wording: LungWording, side: str, regions: tuple[Region, ...]) -> str:
    """ "" where this wording has no word for both sides."""
    codes = [wording.codes[side, region] for region in regions if (side, region) in wording.codes]
    if len(codes) == len(regions) < len(REGIONS):
        return "/".join(codes)
    if side not in wording.sides:
        return ""
    if len(regions) == len(REGIONS):
        return wording.whole.format(side=wording.sides[side])
    names = " and ".join(wording.regions[region] for region in regions)
    plural = "s" if len(regions) > 1 or side == "both" else ""
    return wording.part.format(regions=names, side=wording.sides[side], s=plural)


def _regions(words: str) -> tuple[Region, ...]:
    return REGIONS if words == "all" else tuple(region for region in REGIONS if region in words.split())


def _any_of(words: Iterable[str] | Mapping[str, object]) -> str:
    """A pattern of any of these, the longest first."""
    return f"(?:{'|'.join(re.escape(word.lower()) for word in sorted(words, key=len, reverse=True))})"
