"""Texts about masks: generated from masks, checked against them, and updated when an image is augmented.

"Left" is the left of the *image*, as in QaTa's own annotations, not the patient's, unless `patient_sides` is set.
A text generated from a mask carries part of the answer: report scores with it beside scores without it.
"""

from tevia_hf.prompts.languages import BRAIN as BRAIN
from tevia_hf.prompts.languages import BREAST as BREAST
from tevia_hf.prompts.languages import NUCLEI as NUCLEI
from tevia_hf.prompts.languages import QATA as QATA
from tevia_hf.prompts.languages import qata_text as qata_text
from tevia_hf.prompts.lungs import REGIONS as REGIONS
from tevia_hf.prompts.lungs import SIDES as SIDES
from tevia_hf.prompts.lungs import Area as Area
from tevia_hf.prompts.lungs import Side as Side
from tevia_hf.prompts.report_language import FREE_TEXT as FREE_TEXT
from tevia_hf.prompts.report_language import LANGUAGES as LANGUAGES
from tevia_hf.prompts.report_language import FreeText as FreeText
from tevia_hf.prompts.report_language import ReportLanguage as ReportLanguage
from tevia_hf.prompts.report_language import as_record as as_record
from tevia_hf.prompts.report_language import denies_lesion as denies_lesion
from tevia_hf.prompts.report_language import from_record as from_record
from tevia_hf.prompts.report_language import language_of as language_of
from tevia_hf.prompts.report_language import stated_facts as stated_facts
from tevia_hf.prompts.rewriting import flip_text as flip_text
from tevia_hf.prompts.unknown_sides import may_hold_unknown_side as may_hold_unknown_side
from tevia_hf.prompts.unknown_sides import unknown_sides_warning as unknown_sides_warning
from tevia_hf.prompts.wordings import Phrasing as Phrasing
