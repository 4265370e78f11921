"""Languages of texts about masks: the facts that a text states, and rewriting that preserves or changes them.

`FREE_TEXT` handles any English text, a `ReportLanguage` texts of a template; both have the same methods. A data set
declares its language; for other texts, `language_of` looks for a language among `LANGUAGES`.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields
from functools import cache, cached_property
from typing import Any

import numpy as np

from tevia_hf.prompts.language_checks import check_fields, check_phrasings, check_sides, phrasing_of, texts_of
from tevia_hf.prompts.lesions import Lesions
from tevia_hf.prompts.paraphrasing import (
    any_of,
    corrected,
    is_consistent,
    pick,
    read,
    typos_in,
    words_written,
    write,
)
from tevia_hf.prompts.rewriting import (
    AXES,
    COUNT_WORDS,
    PLACE_WORDS,
    Axis,
    drop_claims,
    flip_on,
    flip_text,
    outdated_words,
    sides_in,
)
from tevia_hf.prompts.templates import FINDING, Template, facts_in, fields_of, without_location
from tevia_hf.prompts.unknown_sides import is_moved, may_hold_unknown_side
from tevia_hf.prompts.wordings import WORDINGS, Phrasing

Seed = int | np.random.Generator  # an integer makes the result reproducible; a generator is advanced

OF_ANY_IMAGE = ("The examination is complete.", "Image contrast is good.", "The request was read.")
NO_LESION = ("There is no lesion in this image.", "No lesion is seen.", "Nothing abnormal is shown.")
_BEGINS_IN_DENIAL = re.compile(
    r"\s*(?:no|none|nothing|not|without|normal|clear|unremarkable|negative|healthy|absent)\b", re.IGNORECASE
)
_DENIED = re.compile(  # up to the end of the clause, or of a list that ends in "or"
    r"\b(?:no|none|nothing|not|without|negative|absent)\b[^,;.]*?(?=[,;.]|\bbut\b|$)(?:(?:,[^,;.]*)*\bn?or\b[^,;.]*)?",
    re.IGNORECASE,
)
_LESION = re.compile(
    r"\b(?:lesion|opaci|consolidat|infiltrat|nodul|mass(?:es)?\b|tumou?r|infect|pneumoni|neoplas|foc(?:us|i|al)\b|scar|cyst"
    r"|carcinom|metasta|abnormal|shadow)",
    re.IGNORECASE,
)


class FreeText:
    """Operations on any English text, of no known form."""

    irrelevant: Sequence[str] = OF_ANY_IMAGE

    def denials(self, text: str) -> Sequence[str]:
        """Texts in the style of this one that deny any lesion."""
        return NO_LESION

    def facts(self, text: str) -> dict[str, str] | None:
        """The facts that a text states, by the fields of `FIELDS`: empty if it denies a lesion, `None` if unknown.

        Free text denies a lesion only in the wording of `deny`: other negations may concern anything.
        """
        return {} if self._core(text).lower().removesuffix(".") in (text.lower()[:-1] for text in NO_LESION) else None

    def can_follow(self, text: str, before: np.ndarray, after: np.ndarray) -> bool:
        """Whether `follow` keeps a text true; with an unknown side only if number, size and place are unchanged."""
        return not (any(may_hold_unknown_side(text, axis) for axis in AXES) and is_moved(before, after))

    def follow(self, text: str, before: np.ndarray, after: np.ndarray, patient_sides: bool = False) -> str:
        """The text updated after a zoom or rotation of its image.

        Claims about properties that are equal in the two masks (height, width) are kept. Others are rewritten from the
        new mask; in free text, their clauses are dropped.
        """
        return drop_claims(text, outdated_words(Lesions(before), Lesions(after)))

    def flip(self, text: str, axis: Axis, before: np.ndarray, after: np.ndarray, patient_sides: bool = False) -> str:
        """The flipped text, in which values measured on the old mask are replaced by those of the new mask.

        `flip_text` alone swaps words, but the thirds of a lung are not symmetric.
        """
        return flip_text(text, axis)

    def underspecify(self, text: str, seed: Seed) -> str:
        """The text without its location or without its count, chosen by the seed.

        In free text, the clauses that state it are removed; a text with neither, or nothing else, is unchanged.
        """
        return drop_claims(text, pick((COUNT_WORDS, PLACE_WORDS), np.random.default_rng(seed))) or text

    def overspecify(self, text: str, seed: Seed) -> str:
        """The text followed by two findings that are irrelevant to its lesion; "" is unchanged."""
        if not text.strip():
            return text
        order = np.random.default_rng(seed).permutation(len(self.irrelevant))
        added = " ".join(self.irrelevant[index] for index in order[:2])
        return f"{text.rstrip().removesuffix('.')}. {_in_case_of(text, added)}"

    def deny(self, text: str, seed: Seed) -> str:
        """A text in the style of this one that denies any lesion, its wording chosen by the seed; "" is unchanged."""
        return _in_case_of(text, pick(self.denials(text), np.random.default_rng(seed))) if text.strip() else text

    def contradict(self, text: str) -> str:
        """A text that states the opposite about the presence of a lesion.

        A text that denies a lesion becomes one that claims it, any other the first of `denials`. Free text denies a
        lesion if it begins with a negation ("No", "Normal", "Clear", ...) and names no lesion that is not denied.
        """
        if (facts := self.facts(text)) is None:
            facts = stated_facts(text)
        is_denied = _BEGINS_IN_DENIAL.match(text) and not _LESION.search(_DENIED.sub("", text))
        if facts == {} or (facts is None and is_denied):
            return "There is a lesion in this image."
        return self.denials(text)[0]

    def paraphrase(self, text: str, seed: Seed, table: str = "training") -> str:
        """A text that states the same facts in other words; a text in another language is unchanged.

        Clauses that follow from others may be omitted ("bilateral" from the sides), and a remark without information
        may be added; case, full stop and the spelling of words that carry no fact vary. "Left" stays "left".

        Args:
            table: of `WORDINGS`, "training" or "evaluation", which share no wording except for the facts.
        """
        return text

    def paraphrase_words(self, table: str = "training") -> set[str]:
        """The words of all paraphrases, in lower case."""
        return set()

    def _core(self, text: str) -> str:
        """The text without the findings that `overspecify` adds."""
        return self._additions.sub("", " ".join(text.split()))

    @cached_property
    def _additions(self) -> re.Pattern[str]:
        return re.compile(any_of(f" {finding}" for finding in (*self.irrelevant, *OF_ANY_IMAGE)), re.IGNORECASE)


@dataclass(frozen=True)
class ReportLanguage(Template, FreeText):
    """Texts of one template, with their variants and paraphrases.

    Args:
        template: see `Template`.
        empty: see `Template`.
        name: key in `LANGUAGES`.
        less_specific: templates without the location, or without the count; by default the template without its
            location. Without any, texts cannot be underspecified.
        irrelevant: findings that are common in such a report and irrelevant to the lesion.
        training: phrasings for the paraphrases of training; without them texts are not paraphrased.
        evaluation: phrasings for those of evaluation.

    Raises `ValueError` for a field that does not exist or that the template lacks, for phrasings that cannot be read
    back, and for left, right, upper or lower in variants of a text without sides, which would not follow a flip.
    """

    name: str = ""
    less_specific: Sequence[str] = ()
    irrelevant: Sequence[str] = OF_ANY_IMAGE
    training: Phrasing = Phrasing()
    evaluation: Phrasing = Phrasing()

    def __post_init__(self) -> None:
        super().__post_init__()
        if not fields_of([self.template]) - {FINDING}:
            raise ValueError(f"'{self.template}' has no field that is measured on a mask: add one such as {{size}}.")
        for name in ("less_specific", "irrelevant"):
            object.__setattr__(self, name, texts_of(name, getattr(self, name)))
        for name in WORDINGS:
            object.__setattr__(self, name, phrasing_of(name, getattr(self, name)))
        check_fields(self)
        check_sides(self)
        if LANGUAGES:  # the built-in ones are checked by tests, as compiling their patterns takes most of a second
            check_phrasings(self)

    def denials(self, text: str) -> Sequence[str]:
        denials, axes = (self.empty, *(self.evaluation.empty or NO_LESION)), self.axes_of(text)
        if axes is None:  # it is unknown how the text was flipped
            return [denial for denial in denials if not sides_in(denial)] or NO_LESION
        return [flip_on(denial, axes) for denial in denials]

    def facts(self, text: str) -> dict[str, str] | None:
        """The facts of a text of the language, of a paraphrase, or of a text that another method derived from them."""
        core = self._core(text)
        plain = core.lower().removesuffix(".")
        for wording in (plain, corrected(plain, known_typos())):
            for name, table in WORDINGS.items():
                if (facts := read(wording, getattr(self, name), table)) is not None:
                    return facts_in(facts)
        if (values := self.read(plain)) is not None:
            return facts_in(values)
        readings = (facts_in(shorter.read(core) or {}) for shorter in self._shorter)
        return next(filter(None, readings), super().facts(text))

    def can_follow(self, text: str, before: np.ndarray, after: np.ndarray) -> bool:
        return self.read(text) is not None or super().can_follow(text, before, after)

    def follow(self, text: str, before: np.ndarray, after: np.ndarray, patient_sides: bool = False) -> str:
        if (stated := self.read(text)) is None:
            return super().follow(text, before, after, patient_sides)
        old, new = (self.observe(mask, patient_sides) for mask in (before, after))
        if not stated or (old and not new):
            return self.denials(text)[0] if stated else text
        changed = {name: value for name, value in new.items() if old.get(name) != value}
        if not changed.keys() & {"count", "count_word"}:  # values that were not measured by our rules are kept
            changed = {name: value for name, value in changed.items() if stated.get(name) == old.get(name)}
        return self.replace(text, changed)

    def flip(self, text: str, axis: Axis, before: np.ndarray, after: np.ndarray, patient_sides: bool = False) -> str:
        flipped, stated = flip_text(text, axis), self.read(text)
        if not (stated and self.read(flipped)):
            return flipped
        old, new = (self.observe(mask, patient_sides) for mask in (before, after))
        return self.replace(flipped, {name: value for name, value in new.items() if stated[name] == old.get(name)})

    def underspecify(self, text: str, seed: Seed) -> str:
        if (values := self.read(text)) is None:
            return super().underspecify(text, seed)
        if not (values and self._shorter):
            return text
        shorter = pick(self._shorter, np.random.default_rng(seed))
        return _in_case_of(text, shorter.write(values, self.axes_of(text) or ()))

    def paraphrase(self, text: str, seed: Seed, table: str = "training") -> str:
        values, axes = self.read(text), self.axes_of(text) or ()
        facts = facts_in(values or {})
        phrasing = Phrasing(*([flip_on(phrase, axes) for phrase in part] for part in getattr(self, table)))
        if values is None or not (phrasing.templates if facts else phrasing.empty) or not is_consistent(facts):
            return text
        stated = {**facts, "s": values["s"]} if facts and "s" in values else facts
        return write(phrasing, stated, WORDINGS[table], known_typos(), np.random.default_rng(seed))

    def paraphrase_words(self, table: str = "training") -> set[str]:
        phrasing = getattr(self, table)
        return words_written(phrasing, WORDINGS[table]) if any(phrasing) else set()

    @cached_property
    def _shorter(self) -> list[Template]:
        return [Template(template, self.empty) for template in self.less_specific or without_location(self.template)]


FREE_TEXT = FreeText()
LANGUAGES: dict[str, ReportLanguage] = {}  # filled by `languages`


def language_of(text: str, own: ReportLanguage | None = None) -> FreeText:
    """The language of a text: its data set's own, else one of `LANGUAGES`, else `FREE_TEXT`.

    Paraphrases in the data set's own language count as that language.
    """
    fallback = own if own and own.facts(text) is not None else FREE_TEXT
    return next((language for language in _known(own) if language.read(text) is not None), fallback)


def stated_facts(text: str, own: ReportLanguage | None = None) -> dict[str, str] | None:
    """The facts of a text in the data set's own language or one of `LANGUAGES`; `None` if they are unknown."""
    readings = (language.facts(text) for language in (*_known(own), FREE_TEXT))
    return next((facts for facts in readings if facts is not None), None)


def denies_lesion(text: str, own: ReportLanguage | None = None) -> bool:
    """Whether a text is known to deny any lesion; false for other free text."""
    return stated_facts(text, own) == {}


def as_record(language: ReportLanguage) -> str | dict[str, Any]:
    """A language for JSON: its name if `LANGUAGES` has it, else the fields that differ from the defaults."""
    given = {part.name: own for part in fields(language) if (own := getattr(language, part.name)) != part.default}
    return language.name if LANGUAGES.get(language.name) == language else given


def from_record(record: str | dict[str, Any]) -> ReportLanguage:
    """The language of an `as_record` value. Raises `ValueError` for an unknown name or unknown fields."""
    try:
        return LANGUAGES[record] if isinstance(record, str) else ReportLanguage(**record)
    except (KeyError, TypeError) as error:
        known = ", ".join(LANGUAGES)
        raise ValueError(f"{record!r} is no language: give one of {known}, or at least a `template`.") from error


@cache
def known_typos() -> dict[str, str]:
    """Typos of all long words in `LANGUAGES` and tables that carry no fact -> the correct word."""
    return typos_in({name: [getattr(language, name) for language in LANGUAGES.values()] for name in WORDINGS})


def _known(own: ReportLanguage | None) -> Iterator[ReportLanguage]:
    yield from [own] if own else []
    yield from (language for language in LANGUAGES.values() if language is not own)


def _in_case_of(text: str, written: str) -> str:
    return written.lower() if text.islower() else written
