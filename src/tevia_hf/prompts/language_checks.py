"""Validation of user-defined languages: all of their texts must be readable and follow a flip."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from tevia_hf.prompts.paraphrasing import write
from tevia_hf.prompts.rewriting import sides_in
from tevia_hf.prompts.templates import FINDING, facts_in, fields_of
from tevia_hf.prompts.wordings import WORDINGS, Phrasing

if TYPE_CHECKING:
    from tevia_hf.prompts.report_language import ReportLanguage

TWO_LESIONS = np.diag([1, 1, 0, 0, 0, 0, 0, 0, 1])  # in opposite corners


def texts_of(name: str, given: Any) -> tuple[str, ...]:
    if isinstance(given, str) or not all(isinstance(text, str) for text in given):
        raise ValueError(f"`{name}` is {given!r}: give a sequence of texts, such as [{given!r}].")
    return tuple(given)


def phrasing_of(name: str, given: Any) -> Phrasing:
    """A `Phrasing` from one, or from JSON: a list of both parts, or a mapping."""
    texts_or_parts = (given,) if isinstance(given, str) else given
    parts = Phrasing(**given) if isinstance(given, Mapping) else Phrasing(*texts_or_parts)
    return Phrasing(*(texts_of(f"{name}.{part}", texts) for part, texts in parts._asdict().items()))


def check_fields(language: "ReportLanguage") -> None:
    used = {"less_specific": fields_of(language.less_specific)}
    for name, table in WORDINGS.items():
        used[name] = fields_of(getattr(language, name).templates) - {*table.free_words}
    for name, names in used.items():
        if unknown := names - fields_of([language.template]) - {FINDING}:
            raise ValueError(f"`{name}` has the fields {sorted(unknown)}, which '{language.template}' lacks.")


def check_sides(language: "ReportLanguage") -> None:
    """Raises `ValueError` for a text with sides that a flip swaps, if the text it replaces has no such sides."""
    template, empty = language.template, language.empty
    parts = [(name, template, getattr(language, name).templates) for name in WORDINGS]
    parts += [(f"{name}.empty", empty, getattr(language, name).empty) for name in WORDINGS]
    parts += [("less_specific", template, language.less_specific)]
    parts += [("empty", template, (empty, *language.evaluation.empty))]
    for name, text, others in parts:
        if wrong := [other for other in others if not sides_in(other) <= sides_in(text)]:
            raise ValueError(f"`{name}`: '{text}' does not show whether the sides of '{wrong[0]}' were flipped.")


def check_phrasings(language: "ReportLanguage") -> None:
    """Raises `ValueError` for a phrasing whose facts cannot be read back from the generated text."""
    facts = language.observe(TWO_LESIONS) | {FINDING: "benign"}
    for name, table in WORDINGS.items():
        templates, empty = getattr(language, name)
        for template in (*templates, *empty):
            stated = {field: facts[field] for field in fields_of([template]) & facts.keys()}
            written = write(Phrasing((template,), (template,)), stated, table, {}, np.random.default_rng(0))
            if language.facts(written) != facts_in(stated) or bool(stated) != (template in templates):
                raise ValueError(f"`{name}`: what '{template}' states cannot be read back from '{written}'.")
