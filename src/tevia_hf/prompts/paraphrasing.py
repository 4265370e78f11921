"""Generation of paraphrases from facts, phrasings and a table of wordings, with typing variation, and their parsing."""

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
SHORTEST = 6  # letters of a word that may get a typo
_WORD = re.compile(r"[A-Za-z]+")
# Probabilities of an added remark without information, a typo, a missing full stop, and lower or upper case.
ASIDE, TYPO, NO_STOP, LOWER, UPPER = 0.15, 0.1, 0.3, 0.3, 0.1


def is_consistent(facts: Mapping[str, str]) -> bool:
    """Whether the laterality follows from the sides, so that a paraphrase may omit it."""
    areas = lung_areas_in(facts.get("lungs", ""))
    is_parsed = lung_clauses(areas) == facts.get("lungs", "")
    return is_parsed and (not areas or facts.get("laterality") in (None, laterality_of(areas)))


def write(
    phrasing: Phrasing, facts: Mapping[str, str], table: Wordings, typos: Mapping[str, str], rng: np.random.Generator
) -> str:
    """A paraphrase of these facts, or of the absence of lesions without facts, with typing variation.

    Args:
        facts: as returned by `read`; the plural `s` is used only without a `count_word`.
        typos: as returned by `typos_of`; words of the facts get none.
    """
    template, stated = pick(phrasing.templates if facts else phrasing.empty, rng), " ".join(facts.values())
    written = _filled(template, facts, table, rng) if facts else template.removesuffix(".")
    possible = {typo: word for typo, word in typos.items() if word not in stated}
    return _as_typed(written[:1].upper() + written[1:], table, possible, rng)


def read(text: str, phrasing: Phrasing, table: Wordings) -> dict[str, str] | None:
    """The facts of a text (lower case, no full stop): empty if it denies a lesion, `None` if it is of another form."""
    core = text
    for aside in table.asides:
        core = core.removeprefix(aside.lower() + " ").removesuffix(f". {aside.lower().removesuffix('.')}")
    if core in (empty.lower().removesuffix(".") for own in phrasing.empty for empty in flips_of(own)):
        return {}
    patterns = (pattern for template in phrasing.templates for pattern in _patterns(template, table))
    match = next(filter(None, (pattern.fullmatch(core) for pattern in patterns)), None)
    return match and {name: _read_fact(name, words, table) for name, words in values_in(match).items() if words}


def _filled(template: str, facts: Mapping[str, str], table: Wordings, rng: np.random.Generator) -> str:
    is_plural = facts["count_word"] != "one" if "count_word" in facts else bool(facts.get("s"))

    def word_of(name: str) -> str:
        if name in table.free_words:
            return pick(table.free_words[name], rng).split("|")[-1 if is_plural else 0]
        if name == "s":
            return "s" if is_plural else ""
        return _write_fact(name, facts.get(name, ""), table, rng)

    return filled(template, word_of).strip()


def _as_typed(text: str, table: Wordings, typos: Mapping[str, str], rng: np.random.Generator) -> str:
    """The text with a remark, a typo, a missing full stop and another case, each at random."""
    chances = rng.random(5)
    if chances[0] < ASIDE:
        aside = pick(table.asides, rng).removesuffix(".")
        text = f"{aside}. {text}" if chances[1] < 0.5 else f"{text}. {aside}"
    if chances[2] < TYPO:
        text = with_typo(text, typos, rng)
    text = text if chances[3] < NO_STOP else f"{text}."
    return text.lower() if chances[4] < LOWER else text.upper() if chances[4] > 1 - UPPER else text


def typos_in(phrasings: Mapping[str, Sequence[Phrasing]]) -> dict[str, str]:
    """Typos of all long words in `WORDINGS` and in the phrasings of each table that carry no fact."""
    free, facts = set[str](), words_in(field.pattern for field in FIELDS.values())
    for name, table in WORDINGS.items():
        own = (text for phrasing in phrasings[name] for part in phrasing for text in part)
        free |= words_in([*own, *table.asides, *chain(*table.free_words.values())])
        facts |= words_in(words for field in (*table.values, "lungs", "place") for words in _wordings(field, table))
    return typos_of(sorted(free - facts))


def typos_of(words: Collection[str]) -> dict[str, str]:
    """Each misspelling by one letter dropped, doubled or swapped with the next -> the correct word.

    The first and last letter are kept. Ambiguous misspellings (another of the words, or a typo of two) are left out.
    """
    corrections: dict[str, str] = {}
    ambiguous = set(words)
    for word in words:
        for typo in _typos(word) if len(word) >= SHORTEST else ():
            ambiguous |= {typo} if corrections.setdefault(typo, word) != word else set()
    return {typo: word for typo, word in corrections.items() if typo not in ambiguous}


def with_typo(text: str, typos: Mapping[str, str], rng: np.random.Generator) -> str:
    """The text with one random word misspelled, if any has a typo in `typos` (misspelling -> word)."""
    spans = [match for match in _WORD.finditer(text) if match[0].lower() in set(typos.values())]
    if not spans:
        return text
    chosen = pick(spans, rng)
    typo = pick(sorted(typo for typo, word in typos.items() if word == chosen[0].lower()), rng)
    return text[: chosen.start()] + chosen[0][0] + typo[1:] + text[chosen.end() :]


def corrected(text: str, typos: Mapping[str, str]) -> str:
    """A lower-case text with its typos corrected."""
    return _WORD.sub(lambda match: typos.get(match[0], match[0]), text)


@cache
def _patterns(template: str, table: Wordings) -> list[re.Pattern[str]]:
    """Patterns of all texts, in lower case, that a template and its flipped versions generate."""
    free = {name: any_of("|".join(words).split("|")) for name, words in table.free_words.items()}
    groups = {name: free.get(name) or named(name, _fact_pattern(name, table)) for name in fields_of([template])}
    return [re.compile(template_pattern(flipped.lower(), groups.__getitem__)) for flipped in flips_of(template)]


def words_written(phrasing: Phrasing, table: Wordings) -> set[str]:
    """The words of its paraphrases in lower case, without values that are written unchanged."""
    values = (words for field in fields_of(phrasing.templates) for words in _wordings(field, table))
    return words_in([*phrasing.templates, *phrasing.empty, *table.asides, *values])


def words_in(texts: Iterable[str]) -> set[str]:
    """The words of texts and templates, without the names of fields."""
    return {word for text in texts for word in re.findall("[a-z]+", re.sub(r"\{\w+\}", "", text.lower()))}


def _wordings(name: str, table: Wordings) -> list[str]:
    """All wordings of a fact or an interchangeable word in the table."""
    if name == "lungs":
        return [*lung_phrases(table), *(wording.between for wording in table.lungs)]
    if name == "place":
        return list(table.place.values())
    return [*table.free_words.get(name, ()), *chain(*table.values.get(name, {}).values())]


def pick(choices, rng: np.random.Generator):
    return choices[int(rng.integers(len(choices)))]


def _write_fact(name: str, value: str, table: Wordings, rng: np.random.Generator) -> str:
    """A random wording of this value."""
    if name == "place":
        return BETWEEN_PLACES.join(table.place[place] for place in value.split(" and the "))
    if name != "lungs":
        return pick(table.values.get(name, {}).get(value, (value,)), rng)
    areas, wording = lung_areas_in(value), pick(table.lungs, rng)
    has_same_regions = len(areas) == 2 and areas[0].regions == areas[1].regions
    if has_same_regions and (both := _phrase(wording, "both", areas[0].regions)):
        return both
    ordered = areas if rng.random() < 0.5 else areas[::-1]
    return wording.between.join(_phrase(wording, area.side, area.regions) for area in ordered)


def _fact_pattern(name: str, table: Wordings) -> str:
    """A regular expression, in lower case, of all wordings of a fact."""
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
    """The canonical value of a wording that `_fact_pattern` matched."""
    if name == "lungs":
        phrases = lung_phrases(table)
        return lung_clauses([area for phrase in re.findall(any_of(phrases), words) for area in phrases[phrase]])
    if name == "place":
        places = {words.lower(): place for place, words in table.place.items()}
        return join_places({places[wording] for wording in re.findall(any_of(places), words)})
    values = table.values.get(name, {}).items()
    return {wording.lower(): value for value, wordings in values for wording in wordings}.get(words, words)


@cache
def lung_phrases(table: Wordings) -> dict[str, list[Area]]:
    """All phrases of the table, in lower case, for a part of one lung or the same part of both -> the areas."""
    subsets = [regions for size in (1, 2, 3) for regions in combinations(REGIONS, size)]
    return {
        phrase.lower(): [Area(each, regions) for each in SIDES if side in (each, "both")]
        for wording in table.lungs
        for side in (*SIDES, "both")
        for regions in subsets
        if (phrase := _phrase(wording, side, regions))
    }


def _phrase(wording: LungWording, side: str, regions: tuple[Region, ...]) -> str:
    """The phrase for these regions; "" if this wording has none for both sides."""
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


def _typos(word: str) -> set[str]:
    inner = range(1, len(word) - 1)
    dropped = {word[:i] + word[i + 1 :] for i in inner}
    doubled = {word[:i] + word[i] + word[i:] for i in inner}
    swapped = {word[:i] + word[i + 1] + word[i] + word[i + 2 :] for i in range(1, len(word) - 2)}
    return (dropped | doubled | swapped) - {word}


def any_of(words: Iterable[str] | Mapping[str, object]) -> str:
    """A pattern that matches any of these, the longest first."""
    return f"(?:{'|'.join(re.escape(word.lower()) for word in sorted(words, key=len, reverse=True))})"
