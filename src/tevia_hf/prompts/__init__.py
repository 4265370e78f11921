"""Texts about masks: written from them, checked against them, and kept true when an image is changed.

"Left" is the left of the *image*, as in QaTa's own annotations, not the patient's, unless `patient_sides` is set.
A text written from a mask carries part of the answer: a score with it needs one without it beside it.
"""

from tevia_hf.prompts.languages import BRAIN, BREAST, NUCLEI, QATA
from tevia_hf.prompts.lungs import REGIONS, SIDES, Area, Side, qata_sentence
from tevia_hf.prompts.report_language import (
    FREE_TEXT,
    LANGUAGES,
    FreeText,
    ReportLanguage,
    as_record,
    denies_lesion,
    from_record,
    language_of,
    stated_facts,
)
from tevia_hf.prompts.rewriting import drop_claims, flip_sentence
from tevia_hf.prompts.unknown_sides import may_hold_unknown_side, unknown_sides_warning
from tevia_hf.prompts.wordings import Phrasing

__all__ = [
    "BRAIN",
    "BREAST",
    "FREE_TEXT",
    "LANGUAGES",
    "NUCLEI",
    "QATA",
    "REGIONS",
    "SIDES",
    "Area",
    "FreeText",
    "Phrasing",
    "ReportLanguage",
    "Side",
    "as_record",
    "denies_lesion",
    "drop_claims",
    "flip_sentence",
    "from_record",
    "language_of",
    "may_hold_unknown_side",
    "qata_sentence",
    "stated_facts",
    "unknown_sides_warning",
]
