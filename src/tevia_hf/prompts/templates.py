"""Texts with places for what a mask shows: written from it, read back, and compared with it."""

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from string import Formatter

import numpy as np

from tevia_hf.prompts.fields import FIELDS
from tevia_hf.prompts.lesions import Lesions
from tevia_hf.prompts.rewriting import AXES, flip_sentence
from tevia_hf.prompts.words import like, number_word

FINDING = "finding"
_AGAIN = "__"  # in the name of the group of a field that a template repeats
LOCATION = ("laterality", "lungs", "place", "density")
_BEFORE_PLACE, _AFTER_PLACE = "at|in|on|of|over|near|within|the|a|an", "region|part|area|zone|quadrant|side|third|field"
_NO_DENIAL = r"(?!(?:no|not|without)(?![\w-]))"  # "no tumor" is no class of tumor
FINDING_PATTERN = rf"{_NO_DENIAL}[\w-]+?(?: {_NO_DENIAL}[\w-]+?)*?"


@dataclass(frozen=True)
class Template:
    """A text in which `{field}` stands for a word or clause measured on the mask.

    Args:
        template: for a mask with lesions, such as "{Count_word} {size} {finding}{s} at the {place}.". Fields are those
            of `FIELDS` and `finding`, a class the mask does not know; a field that begins in a capital is written with
            one.
        empty: for a mask without lesions; it takes no field.

    Raises `ValueError` for an unknown field.
    """

    template: str
    empty: str = "No lesion."

    def __post_init__(self) -> None:
        if unknown := fields_of([self.template]) - {*FIELDS, FINDING}:
            raise ValueError(f"The template has no fields {sorted(unknown)}: use {', '.join([*FIELDS, FINDING])}.")

    def describe(self, mask: np.ndarray, finding: str | None = None, patient_sides: bool = False) -> str:
        """The text that is true of a mask (height, width).

        Args:
            finding: The class, such as "malignant"; left out of the text where it is not known.
            patient_sides: "Left" is the patient's left, who faces the viewer, and so the right of the image.
        """
        return self.write(self.observe(mask, patient_sides) | {FINDING: finding or ""})

    def observe(self, mask: np.ndarray, patient_sides: bool = False) -> dict[str, str]:
        """The value of each field for this mask; none for an empty one."""
        lesions = Lesions(np.asarray(mask)[:, ::-1] if patient_sides else mask)
        names = fields_of([self.template]) - {FINDING} if lesions.count else ()
        return {name: FIELDS[name].value(lesions) for name in names}

    def write(self, values: Mapping[str, str]) -> str:
        """A text of these values; `empty` where they hold nothing but a finding."""
        if not set(values) - {FINDING}:
            return self.empty
        words = {
            name: like(name, values.get(name.lower(), "")) for _, name, _, _ in Formatter().parse(self.template) if name
        }
        return re.sub(r" {2,}", " ", self.template.format_map(words))

    def read(self, text: str) -> dict[str, str] | None:
        """The values that a text states, in lower case; none for `empty`, `None` for a text of another form."""
        plain = text.strip().lower().rstrip(".")
        if plain in self._empties:
            return {}
        match = self._match(plain)
        return match and {name: _plain(name, value or "") for name, value in values_in(match).items()}

    def disagreements(self, text: str, seen: Mapping[str, str]) -> dict[str, tuple[str, str]] | None:
        """Fields in which a text differs from what `observe` saw, each as (stated, seen); `None` for another form."""
        if (stated := self.read(text)) is None:
            return None
        names = (stated.keys() | seen.keys()) - {FINDING}
        pairs = {name: (stated.get(name, ""), seen.get(name, "")) for name in sorted(names)}
        return {name: pair for name, pair in pairs.items() if pair[0] != pair[1]}

    def replace(self, text: str, values: Mapping[str, str]) -> str:
        """The text with other values in these fields; all else in it stays as it is."""
        match = self._match(text.rstrip().rstrip("."), len(text) - len(text.lstrip()))
        if match is None:
            raise ValueError(f"'{text}' is not of the form '{self.template}'.")
        groups = ((group, group.partition(_AGAIN)[0]) for group in match.re.groupindex)
        spans = [(match.span(group), values[name]) for group, name in groups if name in values]
        for (start, end), value in sorted(spans, reverse=True):
            text = text[:start] + like(text[start:end], value) + text[end:]
        return text

    def _match(self, text: str, start: int = 0) -> re.Match[str] | None:
        return next(filter(None, (pattern.fullmatch(text, start) for pattern in self._patterns)), None)

    @cached_property
    def _patterns(self) -> list[re.Pattern[str]]:
        """The template, and what flips make of its own words ("the left breast")."""
        patterns = {FINDING: FINDING_PATTERN} | {name: field.pattern for name, field in FIELDS.items()}
        templates = (template.rstrip(".") for template in _mirrored(self.template))
        found = (template_pattern(template, lambda name: named(name, patterns[name])) for template in templates)
        return [re.compile(pattern, re.IGNORECASE) for pattern in found]

    @cached_property
    def _empties(self) -> set[str]:
        return {empty.lower().rstrip(".") for empty in _mirrored(self.empty)}


def fields_of(templates: Iterable[str]) -> set[str]:
    """The fields of templates, in lower case."""
    parsed = (part for template in templates for part in Formatter().parse(template))
    return {name.lower() for _, name, _, _ in parsed if name is not None}


def template_pattern(template: str, group_of: Callable[[str], str]) -> str:
    """A regular expression of a template and of the group of each field; spaces about a missing one may be missing."""
    parts: list[str] = []
    for literal, field, _, _ in Formatter().parse(template):
        parts.append(re.sub(r"(\\ )+", r"\\s*", re.escape(literal)))
        if name := (field or "").lower():
            is_repeated = f"(?P<{name}>" in "".join(parts)
            parts.append(f"(?P<{name}{_AGAIN}{len(parts)}>(?P={name}))" if is_repeated else group_of(name))
    return "".join(parts)


def named(name: str, pattern: str) -> str:
    return f"(?P<{name}>{pattern}){'?' if name == FINDING else ''}"


def values_in(match: re.Match[str]) -> dict[str, str]:
    return {name: value or "" for name, value in match.groupdict().items() if _AGAIN not in name}


def without_location(template: str) -> list[str]:
    """The template without the clauses of its location; none where it has no location, or nothing else."""
    location = rf"[\s,;:]*(?:\b(?:{_BEFORE_PLACE})\s+)*\{{(?:{'|'.join(LOCATION)})\}}(?:\s+(?:{_AFTER_PLACE})s?\b)?"
    shorter = re.sub(location, "", template, flags=re.IGNORECASE).replace(" ()", "").lstrip(" ,;:.")
    if shorter == template or not re.search(r"\w", shorter):
        return []
    return [re.sub(r"^\{?\w", lambda match: match[0].upper(), shorter)]


def _mirrored(text: str) -> list[str]:
    """The text itself, and as it reads after a flip on one axis or both."""
    sideways, down = (flip_sentence(text, axis) for axis in AXES)
    return list(dict.fromkeys((text, sideways, down, flip_sentence(sideways, AXES[1]))))


def _plain(name: str, value: str) -> str:
    if name == "count_word" and value.isdecimal():
        return number_word(int(value))
    return value.replace("upper middle lower", "all")  # two ways to name the whole lung in QaTa
