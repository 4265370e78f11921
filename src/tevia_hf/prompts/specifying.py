"""Texts that state less than a grammar's, more that does not matter, or that nothing is there; and their facts."""

import re

import numpy as np

from tevia_hf.prompts.grammars import GRAMMARS, Grammar, grammar_of
from tevia_hf.prompts.paraphrasing import read_paraphrase
from tevia_hf.prompts.phrases import pick
from tevia_hf.prompts.rewriting import COUNT_WORDS, PLACE_WORDS, drop_claims
from tevia_hf.prompts.wordings import EVALUATION

_LUNGS, _BREAST, _BRAIN = (GRAMMARS[name].empty for name in ("qata", "breast", "brain"))
UNDERSPECIFIED = {  # without the location, and without the count where the grammar has one
    "qata": (
        Grammar("Pulmonary infection, {count_word} infected area{s}.", _LUNGS),
        Grammar("{Laterality} pulmonary infection, {lungs}.", _LUNGS),
    ),
    "breast": (
        Grammar("{Count_word} {size} {shape}-shaped {finding} tumor{s} in the breast ultrasound image.", _BREAST),
        Grammar("{Size} {shape}-shaped {finding} tumor tissue at the {place} in the breast ultrasound image.", _BREAST),
    ),
    "nuclei": (),
    "brain": (Grammar("MRI displaying a {finding} tumor.", _BRAIN),),
}
WITHOUT_DENSITY = "The image shows nuclei."
IRRELEVANT = {  # findings that are usual in a report and say nothing of the lesion
    "qata": (
        "Heart size is normal.",
        "No pneumothorax.",
        "No pleural effusion.",
        "The trachea is midline.",
        "The bones are intact.",
    ),
    "breast": ("The skin is not thickened.", "Axillary lymph nodes are of normal size.", "The nipple is unremarkable."),
    "nuclei": ("The section is stained with hematoxylin and eosin.", "The staining is of usual strength."),
    "brain": ("The ventricles are of normal width.", "The midline is not shifted.", "The orbits are unremarkable."),
}
OF_ANY_IMAGE = ("The examination is complete.", "Image contrast is good.", "The request was read.")
NO_LESION = ("There is no lesion in this image.", "No lesion is seen.", "Nothing abnormal is shown.")
_DENIALS = {denial.lower().removesuffix(".") for denial in NO_LESION}
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


def underspecify(text: str, seed: int | np.random.Generator) -> str:
    """The text without its location or without its count, which of them by the seed.

    Of free text, the clauses that state one of them are left out; a text that has neither, or nothing else, stays.
    """
    draws, grammar = np.random.default_rng(seed), grammar_of(text)
    if grammar is None:
        return drop_claims(text, pick((COUNT_WORDS, PLACE_WORDS), draws)) or text
    if not (values := grammar.read(text)):
        return text
    shorter = UNDERSPECIFIED[_name_of(grammar)]
    return _in_case_of(text, pick(shorter, draws).write(values) if shorter else WITHOUT_DENSITY)


def overspecify(text: str, seed: int | np.random.Generator) -> str:
    """The text followed by two findings that say nothing of its lesion; a text "" stays."""
    if not text.strip():
        return text
    draws, grammar = np.random.default_rng(seed), grammar_of(text)
    findings = IRRELEVANT[_name_of(grammar)] if grammar else OF_ANY_IMAGE
    added = " ".join(findings[index] for index in draws.permutation(len(findings))[:2])
    return f"{text.rstrip().removesuffix('.')}. {_in_case_of(text, added)}"


def deny_lesion(text: str, seed: int | np.random.Generator) -> str:
    """A text, of the kind of this one, that says that nothing is there, its wording by the seed; a text "" stays."""
    if not text.strip():
        return text
    grammar = grammar_of(text)
    wordings = (grammar.empty, *EVALUATION.empty[_name_of(grammar)]) if grammar else NO_LESION
    return _in_case_of(text, pick(wordings, np.random.default_rng(seed)))


def denies_lesion(text: str) -> bool:
    """Whether a text is known to say that nothing is there: one of a grammar, a paraphrase, or of `deny_lesion`.

    Of free text it is `False`, whatever that says: a negation in it may concern anything.
    """
    return stated_facts(text) == {}


def contradict_sentence(text: str) -> str:
    """A text that says the opposite about whether there is a lesion at all.

    A text of one of the grammars becomes that grammar's text of an empty mask, free text a plain "There is no lesion in
    this image."; text that denies a lesion becomes one that claims it. Free text denies it where it begins in a
    negation ("No", "Normal", "Clear", ...) and names no lesion that is not denied.
    """
    if denies_lesion(text) or (_BEGINS_IN_DENIAL.match(text) and not _LESION.search(_DENIED.sub("", text))):
        return "There is a lesion in this image."
    grammar = grammar_of(text)
    return grammar.empty if grammar else NO_LESION[0]


def stated_facts(text: str) -> dict[str, str] | None:
    """The facts of a text of a grammar, a paraphrase, or one that a function of this module made of it.

    By the grammar's fields and in its words; none where the text says that nothing is there, `None` for other texts.
    """
    plain = " ".join(text.split())
    for finding in (*(finding for findings in IRRELEVANT.values() for finding in findings), *OF_ANY_IMAGE):
        plain = re.sub(rf" {re.escape(finding)}", "", plain, flags=re.IGNORECASE)
    if plain.lower().removesuffix(".") in _DENIALS:
        return {}
    if (facts := read_paraphrase(plain)) is not None:
        return facts
    readings = (grammar.read(plain) for grammars in UNDERSPECIFIED.values() for grammar in grammars)
    found = next((values for values in readings if values), None)
    return {name: value for name, value in (found or {}).items() if value and name != "s"} or None


def _name_of(grammar: Grammar) -> str:
    return next(name for name, known in GRAMMARS.items() if known is grammar)


def _in_case_of(text: str, written: str) -> str:
    return written.lower() if text.islower() else written
