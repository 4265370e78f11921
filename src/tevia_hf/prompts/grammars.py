"""Sentence patterns that are written from a mask, read back, and compared with it."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from string import Formatter

import numpy as np

from tevia_hf.prompts.fields import FIELDS
from tevia_hf.prompts.lesions import Lesions
from tevia_hf.prompts.words import like, number_word

FINDING = "finding"
_NO_DENIAL = r"(?!(?:no|not|without)(?![\w-]))"  # "no tumor" is no class of tumor
FINDING_PATTERN = rf"{_NO_DENIAL}[\w-]+?(?: {_NO_DENIAL}[\w-]+?)*?"


@dataclass(frozen=True)
class Grammar:
    """A template language: `{field}` stands for a word or clause measured on the mask.

    Args:
        template: Sentence for a mask with lesions, such as "{Count_word} {size} {finding}{s} at the {place}.". Fields
            are those of `FIELDS` and `finding`, a class the mask does not know; a field that begins in a capital
            is written with one.
        empty: Sentence for a mask without lesions; it takes no field.

    Raises `ValueError` for an unknown field.
    """

    template: str
    empty: str

    def __post_init__(self) -> None:
        if unknown := {field.lower() for field in self._names} - {*FIELDS, FINDING}:
            raise ValueError(f"The template has no fields {sorted(unknown)}: use {', '.join([*FIELDS, FINDING])}.")

    def describe(self, mask: np.ndarray, finding: str | None = None, patient_sides: bool = False) -> str:
        """The sentence that is true of a mask (height, width).

        Args:
            finding: The class, such as "malignant"; left out of the sentence where it is not known.
            patient_sides: "Left" is the patient's left, who faces the viewer, and so the right of the picture.
        """
        return self.write(self.observe(mask, patient_sides) | {FINDING: finding or ""})

    def observe(self, mask: np.ndarray, patient_sides: bool = False) -> dict[str, str]:
        """The value of each field for this mask; none for an empty one."""
        lesions = Lesions(np.asarray(mask)[:, ::-1] if patient_sides else mask)
        names = [name for name in map(str.lower, self._names) if name != FINDING] if lesions.count else []
        return {name: FIELDS[name].value(lesions) for name in names}

    def write(self, values: Mapping[str, str]) -> str:
        """A sentence of these values; `empty` where they hold nothing but a finding."""
        if not set(values) - {FINDING}:
            return self.empty
        words = {name: like(name, values.get(name.lower(), "")) for name in self._names}
        return re.sub(r" {2,}", " ", self.template.format_map(words))

    def read(self, sentence: str) -> dict[str, str] | None:
        """The values that a sentence states, in lower case; none for `empty`, `None` for another language."""
        text = sentence.strip().lower().rstrip(".")
        if text == self.empty.lower().rstrip("."):
            return {}
        match = self._pattern.fullmatch(text)
        return {name: _plain(name, value or "") for name, value in match.groupdict().items()} if match else None

    def disagreements(
        self, sentence: str, mask: np.ndarray, patient_sides: bool = False
    ) -> dict[str, tuple[str, str]] | None:
        """Fields in which sentence and mask differ, each as (said, seen); `None` for another language."""
        said, seen = self.read(sentence), self.observe(mask, patient_sides)
        if said is None:
            return None
        names = (said.keys() | seen.keys()) - {FINDING}
        pairs = {name: (said.get(name, ""), seen.get(name, "")) for name in sorted(names)}
        return {name: pair for name, pair in pairs.items() if pair[0] != pair[1]}

    def replace(self, sentence: str, values: Mapping[str, str]) -> str:
        """The sentence with other values in these fields; all else in it stays as it is."""
        start = len(sentence) - len(sentence.lstrip())
        match = self._pattern.fullmatch(sentence.rstrip().rstrip("."), start)
        if match is None:
            raise ValueError(f"'{sentence}' is not of the form '{self.template}'.")
        spans = sorted((match.span(name), value) for name, value in values.items())
        for (start, end), value in reversed(spans):
            sentence = sentence[:start] + like(sentence[start:end], value) + sentence[end:]
        return sentence

    @cached_property
    def _names(self) -> list[str]:
        return [name for _, name, _, _ in Formatter().parse(self.template) if name is not None]

    @cached_property
    def _pattern(self) -> re.Pattern[str]:
        """The template with each field as a named group; spaces around a missing finding may be missing."""
        parts: list[str] = []
        for literal, name, _, _ in Formatter().parse(self.template.rstrip(".")):
            parts.append(re.sub(r"(\\ )+", r"\\s*", re.escape(literal)))
            parts.append(_group((name or "").lower(), is_repeated=f"(?P<{(name or '').lower()}>" in "".join(parts)))
        return re.compile("".join(parts), re.IGNORECASE)


def _group(name: str, is_repeated: bool) -> str:
    if not name or is_repeated:
        return f"(?P={name})" if name else ""
    return f"(?P<{FINDING}>{FINDING_PATTERN})?" if name == FINDING else f"(?P<{name}>{FIELDS[name].pattern})"


def _plain(name: str, value: str) -> str:
    if name == "count_word" and value.isdecimal():
        return number_word(int(value))
    return value.replace("upper middle lower", "all")  # two ways to name the whole lung in QaTa


QATA = Grammar(
    "{Laterality} pulmonary infection, {count_word} infected area{s}, {lungs}.",
    "No pulmonary infection, no infected areas.",
)
BREAST = Grammar(
    "{Count_word} {size} {shape}-shaped {finding} tumor{s} at the {place} in the breast ultrasound image.",
    "No tumor in the breast ultrasound image.",
)
NUCLEI = Grammar("The nuclei {density}.", "There are no nuclei.")
BRAIN = Grammar("MRI displaying a {finding} tumor in the {place} region.", "MRI displaying no tumor.")
GRAMMARS = {"qata": QATA, "breast": BREAST, "nuclei": NUCLEI, "brain": BRAIN}


def grammar_of(sentence: str) -> Grammar | None:
    """The grammar that a sentence is in, if any."""
    return next((grammar for grammar in GRAMMARS.values() if grammar.read(sentence) is not None), None)
