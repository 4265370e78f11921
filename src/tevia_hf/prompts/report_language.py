"""The languages of texts about masks: what a text states, and how it is rewritten truthfully.

`FREE_TEXT` knows least, a `ReportLanguage` more; both have the same methods. A data set names its language; where a
text is not in that one, `language_of` finds it among `LANGUAGES`.
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
    slips_in,
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

Seed = int | np.random.Generator  # the same number gives the same text; a generator has the choices taken from it

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
    """Texts of no known form, and what can be done with any English text."""

    irrelevant: Sequence[str] = OF_ANY_IMAGE

    def denials(self, text: str) -> Sequence[str]:
        """Texts, of the kind of this one, that say that nothing is there."""
        return NO_LESION

    def facts(self, text: str) -> dict[str, str] | None:
        """What a text is known to state, by the fields of `FIELDS`: nothing where it denies a lesion, `None` unknown.

        Free text is known to deny a lesion only in the words of `deny`: a negation in it may concern anything.
        """
        return {} if self._core(text).lower().removesuffix(".") in (text.lower()[:-1] for text in NO_LESION) else None

    def can_follow(self, text: str, before: np.ndarray, after: np.ndarray) -> bool:
        """Whether `follow` keeps a text true; one of an unknown side only where number, size and place stay."""
        return not (any(may_hold_unknown_side(text, axis) for axis in AXES) and is_moved(before, after))

    def follow(self, text: str, before: np.ndarray, after: np.ndarray, patient_sides: bool = False) -> str:
        """The text after its image was changed by more than a flip, such as a zoom or a rotation.

        Claims that the two masks (height, width) do not differ in stay as they are. Others are written anew from the
        mask; of free text, the clauses that make them are dropped.
        """
        return drop_claims(text, outdated_words(Lesions(before), Lesions(after)))

    def flip(self, text: str, axis: Axis, before: np.ndarray, after: np.ndarray, patient_sides: bool = False) -> str:
        """The flipped text, in which what was measured on the mask before is what is measured after.

        `flip_text` alone swaps words, but the thirds of a lung are not where their mirror images are.
        """
        return flip_text(text, axis)

    def underspecify(self, text: str, seed: Seed) -> str:
        """The text without its location or without its count, which of them by the seed.

        Of free text, the clauses that state one of them are left out; a text that has neither, or nothing else, stays.
        """
        return drop_claims(text, pick((COUNT_WORDS, PLACE_WORDS), np.random.default_rng(seed))) or text

    def overspecify(self, text: str, seed: Seed) -> str:
        """The text followed by two findings that say nothing of its lesion; a text "" stays."""
        if not text.strip():
            return text
        order = np.random.default_rng(seed).permutation(len(self.irrelevant))
        added = " ".join(self.irrelevant[index] for index in order[:2])
        return f"{text.rstrip().removesuffix('.')}. {_in_case_of(text, added)}"

    def deny(self, text: str, seed: Seed) -> str:
        """A text, of the kind of this one, that says that nothing is there, its wording by the seed; "" stays."""
        return _in_case_of(text, pick(self.denials(text), np.random.default_rng(seed))) if text.strip() else text

    def contradict(self, text: str) -> str:
        """A text that says the opposite about whether there is a lesion at all.

        A text that denies a lesion becomes one that claims it, any other the first of `denials`. Free text denies it
        where it begins in a negation ("No", "Normal", "Clear", ...) and names no lesion that is not denied.
        """
        if (facts := self.facts(text)) is None:
            facts = stated_facts(text)
        is_denied = _BEGINS_IN_DENIAL.match(text) and not _LESION.search(_DENIED.sub("", text))
        if facts == {} or (facts is None and is_denied):
            return "There is a lesion in this image."
        return self.denials(text)[0]

    def paraphrase(self, text: str, seed: Seed, table: str = "training") -> str:
        """A text that states the same facts in other words; one that is not in the language comes back as it is.

        Clauses that follow from others may be missing ("bilateral" from the sides), and a text that says nothing of
        the image may be added; case, full stop and the spelling of words that carry no fact vary. "Left" stays "left".

        Args:
            table: of `WORDINGS`, "training" or "evaluation", which have no text in common but for its facts.
        """
        return text

    def paraphrase_words(self, table: str = "training") -> set[str]:
        """The words, in lower case, that paraphrases are made of."""
        return set()

    def _core(self, text: str) -> str:
        """The text without what `overspecify` adds."""
        return self._additions.sub("", " ".join(text.split()))

    @cached_property
    def _additions(self) -> re.Pattern[str]:
        return re.compile(any_of(f" {finding}" for finding in (*self.irrelevant, *OF_ANY_IMAGE)), re.IGNORECASE)


@dataclass(frozen=True)
class ReportLanguage(Template, FreeText):
    """Texts of one template, with all that is known of how they are written.

    Args:
        template, empty: as of `Template`.
        name: by which `LANGUAGES` has it.
        less_specific: templates without the location, or without the count; by default the template without its
            location. Without any, nothing is underspecified.
        irrelevant: findings that are usual in such a report and say nothing of the lesion.
        training, evaluation: other words, of the tables of `WORDINGS`; without them nothing is paraphrased.

    Raises `ValueError` for a field that does not exist or that the template lacks, for words that cannot be read back
    once they are written, and for left, right, upper or lower in words whose text would not tell how it was flipped.
    """

    name: str = ""
    less_specific: Sequence[str] = ()
    irrelevant: Sequence[str] = OF_ANY_IMAGE
    training: Phrasing = Phrasing()
    evaluation: Phrasing = Phrasing()

    def __post_init__(self) -> None:
        super().__post_init__()
        if not fields_of([self.template]) - {FINDING}:
            raise ValueError(f"'{self.template}' holds nothing that a mask shows: add a field such as {{size}}.")
        for name in ("less_specific", "irrelevant"):
            object.__setattr__(self, name, texts_of(name, getattr(self, name)))
        for name in WORDINGS:
            object.__setattr__(self, name, phrasing_of(name, getattr(self, name)))
        check_fields(self)
        check_sides(self)
        if LANGUAGES:  # the built-in ones are read back by tests: their patterns take most of a second
            check_phrasings(self)

    def denials(self, text: str) -> Sequence[str]:
        denials, axes = (self.empty, *(self.evaluation.empty or NO_LESION)), self.axes_of(text)
        if axes is None:  # nothing tells how the text was flipped
            return [denial for denial in denials if not sides_in(denial)] or NO_LESION
        return [flip_on(denial, axes) for denial in denials]

    def facts(self, text: str) -> dict[str, str] | None:
        """Of a text of the language, a paraphrase, or one that another method made of them."""
        core = self._core(text)
        plain = core.lower().removesuffix(".")
        for wording in (plain, corrected(plain, known_slips())):
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
        seen, now = (self.observe(mask, patient_sides) for mask in (before, after))
        if not stated or (seen and not now):
            return self.denials(text)[0] if stated else text
        changed = {name: value for name, value in now.items() if seen.get(name) != value}
        if not changed.keys() & {"count", "count_word"}:  # else words by another rule than ours stay
            changed = {name: value for name, value in changed.items() if stated.get(name) == seen.get(name)}
        return self.replace(text, changed)

    def flip(self, text: str, axis: Axis, before: np.ndarray, after: np.ndarray, patient_sides: bool = False) -> str:
        flipped, stated = flip_text(text, axis), self.read(text)
        if not (stated and self.read(flipped)):
            return flipped
        seen, now = (self.observe(mask, patient_sides) for mask in (before, after))
        return self.replace(flipped, {name: value for name, value in now.items() if stated[name] == seen.get(name)})

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
        own = Phrasing(*([flip_on(words, axes) for words in part] for part in getattr(self, table)))
        if values is None or not (own.templates if facts else own.empty) or not is_consistent(facts):
            return text
        stated = {**facts, "s": values["s"]} if facts and "s" in values else facts
        return write(own, stated, WORDINGS[table], known_slips(), np.random.default_rng(seed))

    def paraphrase_words(self, table: str = "training") -> set[str]:
        phrasing = getattr(self, table)
        return words_written(phrasing, WORDINGS[table]) if any(phrasing) else set()

    @cached_property
    def _shorter(self) -> list[Template]:
        return [Template(template, self.empty) for template in self.less_specific or without_location(self.template)]


FREE_TEXT = FreeText()
LANGUAGES: dict[str, ReportLanguage] = {}  # filled by `languages`


def language_of(text: str, own: ReportLanguage | None = None) -> FreeText:
    """The language that a text is in: its data set's own, else one of `LANGUAGES`, else `FREE_TEXT`.

    What its data set's own language states in other words is in it as well.
    """
    otherwise = own if own and own.facts(text) is not None else FREE_TEXT
    return next((language for language in _known(own) if language.read(text) is not None), otherwise)


def stated_facts(text: str, own: ReportLanguage | None = None) -> dict[str, str] | None:
    """The facts of a text of the data set's own language or of `LANGUAGES`; `None` where they are not known."""
    readings = (language.facts(text) for language in (*_known(own), FREE_TEXT))
    return next((facts for facts in readings if facts is not None), None)


def denies_lesion(text: str, own: ReportLanguage | None = None) -> bool:
    """Whether a text is known to say that nothing is there; never of free text, whatever that says."""
    return stated_facts(text, own) == {}


def as_record(language: ReportLanguage) -> str | dict[str, Any]:
    """The name of a language of `LANGUAGES`, or what another sets, for JSON."""
    given = {part.name: own for part in fields(language) if (own := getattr(language, part.name)) != part.default}
    return language.name if LANGUAGES.get(language.name) == language else given


def from_record(record: str | dict[str, Any]) -> ReportLanguage:
    """Raises `ValueError` for a name that `LANGUAGES` lacks, and for fields that no language has."""
    try:
        return LANGUAGES[record] if isinstance(record, str) else ReportLanguage(**record)
    except (KeyError, TypeError) as error:
        known = ", ".join(LANGUAGES)
        raise ValueError(f"{record!r} is no language: give one of {known}, or at least a `template`.") from error


@cache
def known_slips() -> dict[str, str]:
    """The slips of all long words of `LANGUAGES` and tables that carry no fact."""
    return slips_in({name: [getattr(language, name) for language in LANGUAGES.values()] for name in WORDINGS})


def _known(own: ReportLanguage | None) -> Iterator[ReportLanguage]:
    yield from [own] if own else []
    yield from (language for language in LANGUAGES.values() if language is not own)


def _in_case_of(text: str, written: str) -> str:
    return written.lower() if text.islower() else written
