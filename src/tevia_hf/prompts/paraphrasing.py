"""Texts in other words: a grammar's text as another person writes it, and the facts read back from it."""

import re
from collections.abc import Iterable, Mapping
from functools import cache
from string import Formatter

import numpy as np

from tevia_hf.prompts.fields import FIELDS
from tevia_hf.prompts.grammars import FINDING, GRAMMARS
from tevia_hf.prompts.lungs import lung_clauses
from tevia_hf.prompts.phrases import fact_pattern, lung_areas_in, lung_phrases, pick, read_fact, write_fact
from tevia_hf.prompts.slips import corrected, slips_of, with_slip
from tevia_hf.prompts.wordings import WORDINGS, Wordings

NO_FACTS = {"s"}  # fields that follow from others
# How often a paraphrase has a sentence that says nothing of the image, a slip of the keyboard, no full stop, and is
# written in lower or upper case.
ASIDE, SLIP, NO_STOP, LOWER, UPPER = 0.15, 0.1, 0.3, 0.3, 0.1


def paraphrase(text: str, seed: int | np.random.Generator, templates: str = "training") -> str:
    """A text that states the same facts in other words; a text that no grammar reads comes back as it is.

    Clauses that follow from others may be missing ("bilateral" from the sides), and a sentence that says nothing of the
    image may be added; case, full stop and the spelling of words that carry no fact vary. "Left" stays "left".

    Args:
        seed: the same one gives the same text; or a generator to take the choices from.
        templates: a table of `WORDINGS`, "training" or "evaluation", which have no text in common but for its facts.
    """
    found = _in_grammar(text)
    if found is None or not _is_consistent(found[1]):
        return text
    name, facts = found
    table, draws = WORDINGS[templates], np.random.default_rng(seed)
    if facts:
        written = _written(pick(table.templates[name], draws), facts, table, draws)
    else:
        written = pick(table.empty[name], draws).removesuffix(".")
    return _as_typed(written[:1].upper() + written[1:], " ".join(facts.values()), table, draws)


def read_paraphrase(text: str) -> dict[str, str] | None:
    """The facts that a text of a grammar or of `paraphrase` states, by the grammar's fields and in its words.

    A text that says that nothing is there has none; `None` for other texts.
    """
    plain = " ".join(text.lower().split()).removesuffix(".")
    for wording in (plain, corrected(plain, known_slips())):
        for table in WORDINGS.values():
            core = _without_aside(wording, table)
            if (facts := _read_templates(core, table)) is not None:
                return facts
    found = _in_grammar(plain)
    return found[1] if found else None


def words_of_paraphrases(text: str, templates: str = "training") -> set[str]:
    """The words, in lower case, that paraphrases of a grammar's texts are made of; none for a text of no grammar."""
    if (found := _in_grammar(text)) is None:
        return set()
    name, table = found[0], WORDINGS[templates]
    used = {field for template in table.templates[name] for _, field, _, _ in Formatter().parse(template) if field}
    texts = [*_literals(table.templates[name]), *table.empty[name], *table.asides]
    texts += [words for field in used for words in table.free_words.get(field, ())]
    texts += [words for field in used for wordings in table.values.get(field, {}).values() for words in wordings]
    texts += [*lung_phrases(table), *(lung.between for lung in table.lungs)] if "lungs" in used else ()
    return _words(texts + [*(table.place.values() if "place" in used else ())])


def _in_grammar(text: str) -> tuple[str, dict[str, str]] | None:
    """The name of the grammar that a text is in, and the facts it states."""
    for name, grammar in GRAMMARS.items():
        if (values := grammar.read(text)) is not None:
            return name, {field: value for field, value in values.items() if value and field not in NO_FACTS}
    return None


def _is_consistent(facts: Mapping[str, str]) -> bool:
    """Whether the laterality follows from the sides, so that a paraphrase may leave it out."""
    if "lungs" not in facts:
        return True
    areas = lung_areas_in(facts["lungs"])
    laterality = "bilateral" if len({area.side for area in areas}) == 2 else "unilateral"
    return lung_clauses(areas) == facts["lungs"] and laterality == facts["laterality"]


def _written(template: str, facts: Mapping[str, str], table: Wordings, draws: np.random.Generator) -> str:
    number = 0 if facts.get("count_word", "one") == "one" else -1
    parts: list[str] = []
    for literal, name, _, _ in Formatter().parse(template):
        parts.append(literal)
        if name and name in table.free_words:
            parts.append(pick(table.free_words[name], draws).split("|")[number])
        elif name:
            parts.append(write_fact(name, facts.get(name, ""), table, draws))
    return re.sub(" {2,}", " ", "".join(parts)).strip()


def _as_typed(text: str, facts: str, table: Wordings, draws: np.random.Generator) -> str:
    """With what people add, leave out and mistype."""
    chances = draws.random(5)
    if chances[0] < ASIDE:
        aside = pick(table.asides, draws).removesuffix(".")
        text = f"{aside}. {text}" if chances[1] < 0.5 else f"{text}. {aside}"
    if chances[2] < SLIP:
        text = with_slip(text, {slip: word for slip, word in known_slips().items() if word not in facts}, draws)
    text = text if chances[3] < NO_STOP else f"{text}."
    return text.lower() if chances[4] < LOWER else text.upper() if chances[4] > 1 - UPPER else text


def _without_aside(text: str, table: Wordings) -> str:
    for aside in table.asides:
        text = text.removeprefix(aside.lower() + " ").removesuffix(f". {aside.lower().removesuffix('.')}")
    return text


def _read_templates(text: str, table: Wordings) -> dict[str, str] | None:
    """The facts of a text in lower case, without its full stop; `None` where the table does not write it."""
    if text in {wording.lower().removesuffix(".") for wordings in table.empty.values() for wording in wordings}:
        return {}
    matches = (pattern.fullmatch(text) for pattern in _patterns(table))
    match = next(filter(None, matches), None)
    if match is None:
        return None
    return {name: read_fact(name, words, table) for name, words in match.groupdict().items() if words}


@cache
def _patterns(table: Wordings) -> list[re.Pattern[str]]:
    return [re.compile(_pattern(template, table)) for templates in table.templates.values() for template in templates]


def _pattern(template: str, table: Wordings) -> str:
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


@cache
def known_slips() -> dict[str, str]:
    """The slips of all long words that carry no fact."""
    return slips_of(sorted(_free_vocabulary() - _fact_vocabulary()))


def _free_vocabulary() -> set[str]:
    texts: list[str] = []
    for table in WORDINGS.values():
        for group in (*table.templates.values(), *table.empty.values(), table.asides, *table.free_words.values()):
            texts += _literals(group)
    return _words(texts)


def _fact_vocabulary() -> set[str]:
    texts = [field.pattern for field in FIELDS.values()]
    for table in WORDINGS.values():
        texts += [words for values in table.values.values() for wordings in values.values() for words in wordings]
        texts += [*lung_phrases(table), *table.place.values()]
    return _words(texts)


def _literals(texts: Iterable[str]) -> list[str]:
    """The templates without their facts and free words."""
    return [re.sub(r"\{\w+\}", "", text) for text in texts]


def _words(texts: Iterable[str]) -> set[str]:
    return {word for text in texts for word in re.findall("[a-z]+", text.lower())}
