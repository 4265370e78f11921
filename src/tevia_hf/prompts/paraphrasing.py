"""A phrasing written with the facts of a text and the words of a table, typed as people type, and read back."""

import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from functools import cache
from itertools import chain, combinations

import numpy as np

from tevia_hf.prompts.fields import FIELDS
from tevia_hf.prompts.lungs import REGIONS, SIDES, Area, Region, laterality_of, lung_areas_in, lung_clauses
from tevia_hf.prompts.rewriting import flips_of
from tevia_hf.prompts.templates import FINDING, FINDING_PATTERN, fields_of, filled, named, template_pattern, values_in
from tevia_hf.prompts.wordings import WORDINGS, LungWording, Phrasing, Wordings
from tevia_hf.prompts.words import join_places

BETWEEN_PLACES = " and "
SHORTEST = 6  # letters of a word that is mistyped
_WORD = re.compile(r"[A-Za-z]+")
# How often a paraphrase has a text that says nothing of the image, a slip of the keyboard, no full stop, and is
# written in lower or upper case.
ASIDE, SLIP, NO_STOP, LOWER, UPPER = 0.15, 0.1, 0.3, 0.3, 0.1


def is_consistent(facts: Mapping[str, str]) -> bool:
    """Whether the laterality follows from the sides, so that a paraphrase may leave it out."""
    areas = lung_areas_in(facts.get("lungs", ""))
    is_read = lung_clauses(areas) == facts.get("lungs", "")
    return is_read and (not areas or facts.get("laterality") in (None, laterality_of(areas)))


def write(
    phrasing: Phrasing, facts: Mapping[str, str], table: Wordings, slips: Mapping[str, str], draws: np.random.Generator
) -> str:
    """These facts in other words, or without facts that nothing is there, typed as people type.

    Args:
        facts: as `read` gives them; `s`, the plural, counts only where there is no `count_word`.
        slips: as of `slips_of`; none of a word of the facts is made.
    """
    template, stated = pick(phrasing.templates if facts else phrasing.empty, draws), " ".join(facts.values())
    written = _filled(template, facts, table, draws) if facts else template.removesuffix(".")
    possible = {slip: word for slip, word in slips.items() if word not in stated}
    return _as_typed(written[:1].upper() + written[1:], table, possible, draws)


def read(text: str, phrasing: Phrasing, table: Wordings) -> dict[str, str] | None:
    """The facts of a text in lower case, without its full stop; none where it denies them, `None` of another form."""
    core = text
    for aside in table.asides:
        core = core.removeprefix(aside.lower() + " ").removesuffix(f". {aside.lower().removesuffix('.')}")
    if core in (empty.lower().removesuffix(".") for own in phrasing.empty for empty in flips_of(own)):
        return {}
    patterns = (pattern for template in phrasing.templates for pattern in _patterns(template, table))
    match = next(filter(None, (pattern.fullmatch(core) for pattern in patterns)), None)
    return match and {name: _read_fact(name, words, table) for name, words in values_in(match).items() if words}


def _filled(template: str, facts: Mapping[str, str], table: Wordings, draws: np.random.Generator) -> str:
    is_plural = facts["count_word"] != "one" if "count_word" in facts else bool(facts.get("s"))

    def word_of(name: str) -> str:
        if name in table.free_words:
            return pick(table.free_words[name], draws).split("|")[-1 if is_plural else 0]
        if name == "s":
            return "s" if is_plural else ""
        return _write_fact(name, facts.get(name, ""), table, draws)

    return filled(template, word_of).strip()


def _as_typed(text: str, table: Wordings, slips: Mapping[str, str], draws: np.random.Generator) -> str:
    """With what people add, leave out and mistype."""
    chances = draws.random(5)
    if chances[0] < ASIDE:
        aside = pick(table.asides, draws).removesuffix(".")
        text = f"{aside}. {text}" if chances[1] < 0.5 else f"{text}. {aside}"
    if chances[2] < SLIP:
        text = with_slip(text, slips, draws)
    text = text if chances[3] < NO_STOP else f"{text}."
    return text.lower() if chances[4] < LOWER else text.upper() if chances[4] > 1 - UPPER else text


def slips_in(phrasings: Mapping[str, Sequence[Phrasing]]) -> dict[str, str]:
    """The slips of all long words of `WORDINGS`, and of the phrasings of each table, that carry no fact."""
    free, facts = set[str](), words_in(field.pattern for field in FIELDS.values())
    for name, table in WORDINGS.items():
        own = (text for phrasing in phrasings[name] for part in phrasing for text in part)
        free |= words_in([*own, *table.asides, *chain(*table.free_words.values())])
        facts |= words_in(words for field in (*table.values, "lungs", "place") for words in _wordings(field, table))
    return slips_of(sorted(free - facts))


def slips_of(words: Collection[str]) -> dict[str, str]:
    """Each misspelling by one letter dropped, doubled or exchanged with the next, and the word that was meant.

    The first and last letter stay. What is another of the words, or a slip of two of them, is left out.
    """
    meant: dict[str, str] = {}
    doubtful = set(words)
    for word in words:
        for slip in _slips(word) if len(word) >= SHORTEST else ():
            doubtful |= {slip} if meant.setdefault(slip, word) != word else set()
    return {slip: word for slip, word in meant.items() if slip not in doubtful}


def with_slip(text: str, slips: Mapping[str, str], draws: np.random.Generator) -> str:
    """The text with a slip in one of the words that have one, if there is any."""
    spans = [match for match in _WORD.finditer(text) if match[0].lower() in set(slips.values())]
    if not spans:
        return text
    chosen = pick(spans, draws)
    slip = pick(sorted(slip for slip, word in slips.items() if word == chosen[0].lower()), draws)
    return text[: chosen.start()] + chosen[0][0] + slip[1:] + text[chosen.end() :]


def corrected(text: str, slips: Mapping[str, str]) -> str:
    """The text, in lower case, as it was meant."""
    return _WORD.sub(lambda match: slips.get(match[0], match[0]), text)


@cache
def _patterns(template: str, table: Wordings) -> list[re.Pattern[str]]:
    """Of all that a template writes, in lower case, and of what flips make of its own words."""
    free = {name: any_of("|".join(words).split("|")) for name, words in table.free_words.items()}
    groups = {name: free.get(name) or named(name, _fact_pattern(name, table)) for name in fields_of([template])}
    return [re.compile(template_pattern(flipped.lower(), groups.__getitem__)) for flipped in flips_of(template)]


def words_written(phrasing: Phrasing, table: Wordings) -> set[str]:
    """The words, in lower case, that its paraphrases are made of, but for values that are written as they are."""
    values = (words for field in fields_of(phrasing.templates) for words in _wordings(field, table))
    return words_in([*phrasing.templates, *phrasing.empty, *table.asides, *values])


def words_in(texts: Iterable[str]) -> set[str]:
    """The words of texts and templates, without the names of fields."""
    return {word for text in texts for word in re.findall("[a-z]+", re.sub(r"\{\w+\}", "", text.lower()))}


def _wordings(name: str, table: Wordings) -> list[str]:
    """All that the table has for a fact or an interchangeable word."""
    if name == "lungs":
        return [*lung_phrases(table), *(wording.between for wording in table.lungs)]
    if name == "place":
        return list(table.place.values())
    return [*table.free_words.get(name, ()), *chain(*table.values.get(name, {}).values())]


def pick(choices, draws: np.random.Generator):
    return choices[int(draws.integers(len(choices)))]


def _write_fact(name: str, value: str, table: Wordings, draws: np.random.Generator) -> str:
    """One of the ways in which the table writes this value."""
    if name == "place":
        return BETWEEN_PLACES.join(table.place[place] for place in value.split(" and the "))
    if name != "lungs":
        return pick(table.values.get(name, {}).get(value, (value,)), draws)
    areas, wording = lung_areas_in(value), pick(table.lungs, draws)
    is_alike = len(areas) == 2 and areas[0].regions == areas[1].regions
    if is_alike and (both := _phrase(wording, "both", areas[0].regions)):
        return both
    turned = areas if draws.random() < 0.5 else areas[::-1]
    return wording.between.join(_phrase(wording, area.side, area.regions) for area in turned)


def _fact_pattern(name: str, table: Wordings) -> str:
    """A regular expression, in lower case, of all that the table writes for a fact."""
    if name == FINDING:
        return FINDING_PATTERN
    if name == "lungs":
        phrase, joints = any_of(lung_phrases(table)), any_of(wording.between for wording in table.lungs)
        return f"{phrase}(?:{joints}{phrase})?"
    if name == "place":
        place = any_of(table.place.values())
        return f"{place}(?:{BETWEEN_PLACES}{place})*"
    own = _wordings(name, table)
    return f"(?:{any_of(own)}|{FIELDS[name].pattern})" if own else FIELDS[name].pattern


def _read_fact(name: str, words: str, table: Wordings) -> str:
    """The value, in the template's words, of what `_fact_pattern` found."""
    if name == "lungs":
        phrases = lung_phrases(table)
        return lung_clauses([area for phrase in re.findall(any_of(phrases), words) for area in phrases[phrase]])
    if name == "place":
        places = {words.lower(): place for place, words in table.place.items()}
        return join_places({places[found] for found in re.findall(any_of(places), words)})
    values = table.values.get(name, {}).items()
    return {wording.lower(): value for value, wordings in values for wording in wordings}.get(words, words)


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


def _slips(word: str) -> set[str]:
    inner = range(1, len(word) - 1)
    dropped = {word[:i] + word[i + 1 :] for i in inner}
    doubled = {word[:i] + word[i] + word[i:] for i in inner}
    exchanged = {word[:i] + word[i + 1] + word[i] + word[i + 2 :] for i in range(1, len(word) - 2)}
    return (dropped | doubled | exchanged) - {word}


def any_of(words: Iterable[str] | Mapping[str, object]) -> str:
    """A pattern of any of these, the longest first."""
    return f"(?:{'|'.join(re.escape(word.lower()) for word in sorted(words, key=len, reverse=True))})"
