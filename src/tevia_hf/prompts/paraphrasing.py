"""A phrasing written with the facts of a text and the words of a table, typed as people type, and read back."""

import re
from collections.abc import Iterable, Mapping, Sequence
from string import Formatter

import numpy as np

from tevia_hf.prompts.lungs import lung_clauses
from tevia_hf.prompts.phrases import fact_pattern, lung_areas_in, lung_phrases, pick, read_fact, write_fact
from tevia_hf.prompts.slips import with_slip
from tevia_hf.prompts.templates import FINDING
from tevia_hf.prompts.wordings import Phrasing, Wordings

# How often a paraphrase has a text that says nothing of the image, a slip of the keyboard, no full stop, and is
# written in lower or upper case.
ASIDE, SLIP, NO_STOP, LOWER, UPPER = 0.15, 0.1, 0.3, 0.3, 0.1


def is_consistent(facts: Mapping[str, str]) -> bool:
    """Whether the laterality follows from the sides, so that a paraphrase may leave it out."""
    if "lungs" not in facts:
        return True
    areas = lung_areas_in(facts["lungs"])
    laterality = "bilateral" if len({area.side for area in areas}) == 2 else "unilateral"
    return lung_clauses(areas) == facts["lungs"] and laterality == facts.get("laterality", laterality)


def write_phrasing(template: str, facts: Mapping[str, str], table: Wordings, draws: np.random.Generator) -> str:
    number = 0 if facts.get("count_word", facts.get("count", "one")) in ("one", "1") else -1
    parts: list[str] = []
    for literal, name, _, _ in Formatter().parse(template):
        parts.append(literal)
        if name and name in table.free_words:
            parts.append(pick(table.free_words[name], draws).split("|")[number])
        elif name:
            parts.append(write_fact(name, facts.get(name, ""), table, draws))
    return re.sub(" {2,}", " ", "".join(parts)).strip()


def as_typed(text: str, table: Wordings, slips: Mapping[str, str], draws: np.random.Generator) -> str:
    """With what people add, leave out and mistype."""
    chances = draws.random(5)
    if chances[0] < ASIDE:
        aside = pick(table.asides, draws).removesuffix(".")
        text = f"{aside}. {text}" if chances[1] < 0.5 else f"{text}. {aside}"
    if chances[2] < SLIP:
        text = with_slip(text, slips, draws)
    text = text if chances[3] < NO_STOP else f"{text}."
    return text.lower() if chances[4] < LOWER else text.upper() if chances[4] > 1 - UPPER else text


def without_aside(text: str, table: Wordings) -> str:
    for aside in table.asides:
        text = text.removeprefix(aside.lower() + " ").removesuffix(f". {aside.lower().removesuffix('.')}")
    return text


def phrasing_pattern(template: str, table: Wordings) -> str:
    """The template in lower case, each fact a named group; spaces around a missing finding may be missing."""
    parts: list[str] = []
    for literal, name, _, _ in Formatter().parse(template):
        parts.append(re.sub(r"(\\ )+", r"\\s*", re.escape(literal.lower())))
        if name and name in table.free_words:
            forms = [form.lower() for words in table.free_words[name] for form in words.split("|")]
            parts.append(f"(?:{'|'.join(sorted(map(re.escape, forms), key=len, reverse=True))})")
        elif name:
            parts.append(f"(?P<{name}>{fact_pattern(name, table)}){'?' if name == FINDING else ''}")
    return "".join(parts)


def facts_of_phrasing(match: re.Match[str], table: Wordings) -> dict[str, str]:
    return {name: read_fact(name, words, table) for name, words in match.groupdict().items() if words}


def fields_of(templates: Iterable[str]) -> set[str]:
    return {field for template in templates for _, field, _, _ in Formatter().parse(template) if field}


def words_written(phrasing: Phrasing, table: Wordings) -> set[str]:
    """The words, in lower case, that its paraphrases are made of, but for values that are written as they are."""
    used = fields_of(phrasing.templates)
    texts = [*free_words(phrasing.templates), *phrasing.empty, *table.asides]
    texts += [words for field in used for words in table.free_words.get(field, ())]
    texts += [words for field in used for wordings in table.values.get(field, {}).values() for words in wordings]
    texts += [*lung_phrases(table), *(lung.between for lung in table.lungs)] if "lungs" in used else ()
    return words_in(texts + [*(table.place.values() if "place" in used else ())])


def fact_words(table: Wordings) -> set[str]:
    texts = [words for values in table.values.values() for wordings in values.values() for words in wordings]
    return words_in([*texts, *lung_phrases(table), *table.place.values()])


def free_words(texts: Sequence[str]) -> set[str]:
    """The words of templates without their facts and interchangeable words."""
    return words_in(re.sub(r"\{\w+\}", "", text) for text in texts)


def words_in(texts: Iterable[str]) -> set[str]:
    return {word for text in texts for word in re.findall("[a-z]+", text.lower())}
