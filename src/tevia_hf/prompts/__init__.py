"""Sentences about masks: written from them, checked against them, and kept true when a picture is changed.

"Left" is the left of the *picture*, as in QaTa's own annotations, not the patient's, unless `patient_sides` is said.
A sentence drawn from a mask carries part of the answer: a score with it needs one without it beside it.
"""

from tevia_hf.prompts.grammars import BRAIN, BREAST, GRAMMARS, NUCLEI, QATA, Grammar, grammar_of
from tevia_hf.prompts.lungs import REGIONS, SIDES, Area, Side, qata_sentence
from tevia_hf.prompts.paraphrasing import paraphrase, read_paraphrase, words_of_paraphrases
from tevia_hf.prompts.rewriting import drop_claims, flip_sentence, flip_with_mask, follow_mask
from tevia_hf.prompts.specifying import (
    contradict_sentence,
    denies_lesion,
    deny_lesion,
    overspecify,
    stated_facts,
    underspecify,
)
from tevia_hf.prompts.unknown_sides import can_follow_mask, may_hold_unknown_side, unknown_sides_warning

__all__ = [
    "BRAIN",
    "BREAST",
    "GRAMMARS",
    "NUCLEI",
    "QATA",
    "REGIONS",
    "SIDES",
    "Area",
    "Grammar",
    "Side",
    "can_follow_mask",
    "contradict_sentence",
    "denies_lesion",
    "deny_lesion",
    "drop_claims",
    "flip_sentence",
    "flip_with_mask",
    "follow_mask",
    "grammar_of",
    "may_hold_unknown_side",
    "overspecify",
    "paraphrase",
    "qata_sentence",
    "read_paraphrase",
    "stated_facts",
    "underspecify",
    "unknown_sides_warning",
    "words_of_paraphrases",
]
