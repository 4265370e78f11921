"""Text templates with fields measured on a mask: generated from it, parsed, and compared with it."""

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from string import Formatter

import numpy as np

from tevia_hf.prompts.fields import FIELDS
from tevia_hf.prompts.lesions import Lesions
from tevia_hf.prompts.rewriting import Axis, flip_on, flips_of
from tevia_hf.prompts.words import like, number_word

FINDING = "finding"
_REPEATED = "__"  # in the group name of a field that a template repeats
LOCATION = ("laterality", "lungs", "place", "density")
_WITHIN, _PART = r"(?:at|in|on|of|over|near|within)\s+", "region|part|area|zone|quadrant|side|third|field"
_PLACE = rf"(?:(?:the|an?)\s+)?\{{(?:{'|'.join(LOCATION)})\}}(?:\s+(?:{_PART})s?\b)?"
# The word before a phrase is kept, so it must not require one ("located", "is"); nor must the following words.
_COMPLETE = r"(\{\w+\}|\b(?!(?:\w+(?:ed|ing)|is|are|was|were|lies?|sits?|found|extends?|and|or|from|to)\b)\w+)"
_LOCATIONS = (
    (rf"\s*\((?:{_WITHIN})?{_PLACE}\)", ""),
    (rf"^(?:{_WITHIN})?{_PLACE}\s*[,;:]\s*", ""),
    (rf"\s*[,;]\s*(?:{_WITHIN})?{_PLACE}(?=\s*(?:[,;.)]|$))", ""),
    (rf"{_COMPLETE}\s+{_WITHIN}{_PLACE}(?=\s*(?:[,;:.)]|$)|\s+(?:in|on|at|with)\b)", r"\1"),
)
_NO_DENIAL = r"(?!(?:no|not|without)(?![\w-]))"  # "no tumor" does not name a class of tumor
FINDING_PATTERN = rf"{_NO_DENIAL}[\w-]+?(?: {_NO_DENIAL}[\w-]+?)*?"


@dataclass(frozen=True)
class Template:
    """A text in which `{field}` stands for a word or clause measured on the mask.

    Args:
        template: for a mask with lesions, such as "{Count_word} {size} {finding}{s} at the {place}.". Fields are those
            of `FIELDS` and `finding`, a class that is not in the mask; a capitalized field name gives a capitalized
            value.
        empty: for a mask without lesions; it has no fields.

    Raises `ValueError` for an unknown field, and for a blank `empty`.
    """

    template: str
    empty: str = "No lesion."

    def __post_init__(self) -> None:
        if unknown := fields_of([self.template]) - {*FIELDS, FINDING}:
            raise ValueError(f"Unknown template fields {sorted(unknown)}: use {', '.join([*FIELDS, FINDING])}.")
        if not self.empty.strip(" ."):
            raise ValueError("`empty` is blank, which means that there is no text: give one such as 'No lesion.'")

    def describe(self, mask: np.ndarray, finding: str | None = None, patient_sides: bool = False) -> str:
        """The text that describes a mask (height, width).

        Args:
            finding: The class, such as "malignant"; omitted from the text if it is unknown.
            patient_sides: "Left" is the patient's left, which is the right of the image (the patient faces the viewer).
        """
        return self.write(self.observe(mask, patient_sides) | {FINDING: finding or ""})

    def observe(self, mask: np.ndarray, patient_sides: bool = False) -> dict[str, str]:
        """The value of each field measured on this mask; no values for an empty mask."""
        lesions = Lesions(np.asarray(mask)[:, ::-1] if patient_sides else mask)
        names = fields_of([self.template]) - {FINDING} if lesions.count else ()
        return {name: FIELDS[name].value(lesions) for name in names}

    def write(self, values: Mapping[str, str], axes: Sequence[Axis] = ()) -> str:
        """The text of these values, the template flipped on `axes`; `empty` if there is no value but a finding."""
        if not set(values) - {FINDING}:
            return flip_on(self.empty, axes)
        return filled(flip_on(self.template, axes), lambda name: values.get(name, ""))

    def read(self, text: str) -> dict[str, str] | None:
        """The values that a text states, in lower case; no values for `empty`, `None` for a text of another form."""
        plain = _plain(text)
        if plain in self._empties:
            return {}
        match = self._match(plain)
        return match and {name: _read(name, value) for name, value in values_in(match).items()}

    def axes_of(self, text: str) -> tuple[Axis, ...] | None:
        """The axes on which the template ("the left breast") is flipped in a text; `None` for another form."""
        plain = _plain(text)
        axes = (axes for pattern, axes in self._patterns.items() if pattern.fullmatch(plain))
        return self._empties.get(plain, next(axes, None))

    def disagreements(self, text: str, observed: Mapping[str, str]) -> dict[str, tuple[str, str]] | None:
        """Fields whose stated value differs from that of `observe`, as (stated, observed); `None` for another form."""
        if (stated := self.read(text)) is None:
            return None
        names = (stated.keys() | observed.keys()) - {FINDING}
        pairs = {name: (stated.get(name, ""), observed.get(name, "")) for name in sorted(names)}
        return {name: pair for name, pair in pairs.items() if pair[0] != pair[1]}

    def replace(self, text: str, values: Mapping[str, str]) -> str:
        """The text with other values in these fields and otherwise unchanged."""
        match = self._match(text.rstrip().rstrip("."), len(text) - len(text.lstrip()))
        if match is None:
            raise ValueError(f"'{text}' is not of the form '{self.template}'.")
        groups = ((group, group.partition(_REPEATED)[0]) for group in match.re.groupindex)
        spans = [(match.span(group), values[name]) for group, name in groups if name in values]
        for (start, end), value in sorted(spans, reverse=True):
            text = text[:start] + like(text[start:end], value) + text[end:]
        return text

    def _match(self, text: str, start: int = 0) -> re.Match[str] | None:
        return next(filter(None, (pattern.fullmatch(text, start) for pattern in self._patterns)), None)

    @cached_property
    def _patterns(self) -> dict[re.Pattern[str], tuple[Axis, ...]]:
        """Patterns of the template and of its flips ("the left breast") -> the axes."""
        patterns = {FINDING: FINDING_PATTERN} | {name: field.pattern for name, field in FIELDS.items()}
        sources = {
            template_pattern(template.rstrip("."), lambda name: named(name, patterns[name])): axes
            for template, axes in flips_of(self.template).items()
        }
        return {re.compile(pattern, re.IGNORECASE): axes for pattern, axes in sources.items()}

    @cached_property
    def _empties(self) -> dict[str, tuple[Axis, ...]]:
        return {_plain(empty): axes for empty, axes in flips_of(self.empty).items()}


def fields_of(templates: Iterable[str]) -> set[str]:
    """The fields of templates, in lower case. Raises `ValueError` for one with a format or conversion."""
    parsed = [(template, *part) for template in templates for part in Formatter().parse(template)]
    for template, _, name, spec, conversion in parsed:
        if spec or conversion:
            raise ValueError(f"The template '{template}' has a format in one of its fields: write {{{name}}} alone.")
    return {name.lower() for _, _, name, _, _ in parsed if name is not None}


def filled(template: str, word_of: Callable[[str], str]) -> str:
    """A template with its fields replaced, in the case of the field name; repeated spaces are reduced to one."""
    fields = ((literal, name or "") for literal, name, _, _ in Formatter().parse(template))
    text = "".join(literal + (like(name, word_of(name.lower())) if name else "") for literal, name in fields)
    return re.sub(r" {2,}", " ", text)


def template_pattern(template: str, group_of: Callable[[str], str]) -> str:
    """A regular expression of a template with a group for each field; spaces are optional."""
    parts: list[str] = []
    for literal, field, _, _ in Formatter().parse(template):
        parts.append(re.sub(r"(\\ )+", r"\\s*", re.escape(literal)))
        if name := (field or "").lower():
            is_repeated = f"(?P<{name}>" in "".join(parts)
            parts.append(f"(?P<{name}{_REPEATED}{len(parts)}>(?P={name}))" if is_repeated else group_of(name))
    return "".join(parts)


def named(name: str, pattern: str) -> str:
    return f"(?P<{name}>{pattern}){'?' if name == FINDING else ''}"


def values_in(match: re.Match[str]) -> dict[str, str]:
    return {name: value or "" for name, value in match.groupdict().items() if _REPEATED not in name}


def facts_in(values: Mapping[str, str]) -> dict[str, str]:
    """The values without the plural, which follows from the count; a count in digits is added as a word."""
    word = {"count_word": number_word(int(values["count"]))} if values.get("count") else {}
    return word | {name: value for name, value in values.items() if value and name != "s"}


def without_location(template: str) -> list[str]:
    """The template without its location clauses and phrases ("at the {place}"), in a list.

    The list is empty if a location cannot be removed, or if the template has no location or nothing else.
    """
    shorter = template
    for pattern, kept in _LOCATIONS:
        shorter = re.sub(pattern, kept, shorter, flags=re.IGNORECASE)
    if shorter == template or fields_of([shorter]) & {*LOCATION} or not re.search(r"\w", shorter):
        return []
    return [re.sub(r"^\{?\w", lambda match: match[0].upper(), shorter)]


def _plain(text: str) -> str:
    return text.strip().lower().rstrip(".")


def _read(name: str, value: str) -> str:
    if name == "count_word" and value.isdecimal():
        return number_word(int(value))
    return value.replace("upper middle lower", "all")  # QaTa has two names for the whole lung
