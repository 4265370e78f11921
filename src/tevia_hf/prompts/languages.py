"""The languages of the built-in data sets, each declared once: `LANGUAGES` holds them by name."""

from collections.abc import Sequence

from tevia_hf.prompts.lungs import REGIONS, SIDES, Area, laterality_of, lung_clauses
from tevia_hf.prompts.report_language import LANGUAGES, ReportLanguage
from tevia_hf.prompts.wordings import Phrasing
from tevia_hf.prompts.words import number_word

MAX_AREAS = 12

QATA = ReportLanguage(
    "{Laterality} pulmonary infection, {count_word} infected area{s}, {lungs}.",
    "No pulmonary infection, no infected areas.",
    name="qata",
    less_specific=("Pulmonary infection, {count_word} infected area{s}.", "{Laterality} pulmonary infection, {lungs}."),
    irrelevant=(
        "Heart size is normal.",
        "No pneumothorax.",
        "No pleural effusion.",
        "The trachea is midline.",
        "The bones are intact.",
    ),
    training=Phrasing(
        templates=(
            "{laterality} {disease}, {count_word} {lesion}, {lungs}",
            "There {is} {count_word} {lesion} {lungs}",
            "{disease}: {count_word} {lesion} {lungs}",
            "{count_word} {lesion} {lungs}, in keeping with {disease}",
            "{laterality} {disease} with {count_word} {lesion} {lungs}",
            "{lungs}: {count_word} {lesion}, {laterality} {disease}",
            "{lungs}: there {is} {count_word} {lesion}",
            "{count_word} {lesion}, {lungs}",
            "{lungs}, {count_word} {lesion}",
            "Chest X-ray with {count_word} {lesion} {lungs}",
            "Chest X-ray: {laterality} {disease}, {count_word} {lesion}, {lungs}",
            "{disease} with {count_word} {lesion} {lungs}",
            "Impression: {laterality} {disease}, {count_word} {lesion} {lungs}",
            "{count_word} {lesion} {lungs}; {laterality} {disease}",
            "{count_word} {lesion} due to {disease} {lungs}",
            "{laterality}, {count_word} {lesion}: {lungs}",
            "Signs of {disease} {lungs}, {count_word} {lesion}",
            "Patient with {laterality} {disease}. {count_word} {lesion} {lungs}",
        ),
        empty=("There is no pneumonia.", "Clear lungs.", "No opacity in either lung.", "Lungs without infection."),
    ),
    evaluation=Phrasing(
        templates=(
            "The radiograph shows {count_word} {lesion} {lungs}",
            "{count_word} {lesion} can be seen {lungs}, consistent with {laterality} {disease}",
            "Findings: {laterality} {disease}; {lungs}; {count_word} {lesion}",
            "{disease} {lungs} ({count_word} {lesion})",
            "We note {laterality} {disease}, namely {count_word} {lesion} {lungs}",
            "Site: {lungs}. Finding: {count_word} {lesion}",
        ),
        empty=("The lungs are clear.", "No consolidation is seen.", "Chest radiograph without infiltrates."),
    ),
)
BREAST = ReportLanguage(
    "{Count_word} {size} {shape}-shaped {finding} tumor{s} at the {place} in the breast ultrasound image.",
    "No tumor in the breast ultrasound image.",
    name="breast",
    less_specific=(
        "{Count_word} {size} {shape}-shaped {finding} tumor{s} in the breast ultrasound image.",
        "{Size} {shape}-shaped {finding} tumor tissue at the {place} in the breast ultrasound image.",
    ),
    irrelevant=(
        "The skin is not thickened.",
        "Axillary lymph nodes are of normal size.",
        "The nipple is unremarkable.",
    ),
    training=Phrasing(
        templates=(
            "{count_word} {size} {shape} {finding} {mass} {place}",
            "There {is} {count_word} {size} {finding} {mass} of {shape} shape {place}",
            "Ultrasound of the breast with {count_word} {size} {shape} {finding} {mass} {place}",
            "{place}, {count_word} {size} {shape} {finding} {mass}",
            "Breast ultrasound, {count_word} {finding} {mass}, {size}, {shape}, {place}",
            "Impression: {count_word} {finding} {mass} {place}, {shape}, {size}",
            "{finding} {mass} {place}: {count_word}, {size} and {shape}",
            "{count_word} {shape} {finding} {mass}, {size}, {place}",
            "In this breast, {place}, {count_word} {shape} {finding} {mass}, {size}",
        ),
        empty=("There is no breast mass.", "No lesion on ultrasound.", "Normal breast tissue."),
    ),
    evaluation=Phrasing(
        templates=(
            "The scan shows {count_word} {size} {finding} {mass}, {shape} in outline, {place}",
            "Findings: {count_word} {finding} {mass}, {size}, {shape}; site: {place}",
            "{place} we note {count_word} {size}, {shape} {finding} {mass}",
        ),
        empty=("The breast is unremarkable.", "No nodule is seen in the breast.", "Ultrasound: no focal finding."),
    ),
)
NUCLEI = ReportLanguage(
    "The nuclei {density}.",
    "There are no nuclei.",
    name="nuclei",
    less_specific=("The image shows nuclei.",),
    irrelevant=("The section is stained with hematoxylin and eosin.", "The staining is of usual strength."),
    training=Phrasing(
        templates=(
            "{density}",
            "In this section {density}",
            "Histology: {density}",
            "In this stained tissue {density}",
            "Impression: {density}",
        ),
        empty=("No nuclei.", "A section without nuclei."),
    ),
    evaluation=Phrasing(
        templates=("We note that {density}", "Microscopy shows that {density}", "Findings: {density}"),
        empty=("The image holds no nuclei.", "Nuclei are absent."),
    ),
)
BRAIN = ReportLanguage(
    "MRI displaying a {finding} tumor in the {place} region.",
    "MRI displaying no tumor.",
    name="brain",
    irrelevant=("The ventricles are of normal width.", "The midline is not shifted.", "The orbits are unremarkable."),
    training=Phrasing(
        templates=(
            "Brain MRI with a {finding} {mass} {place}",
            "There is a {finding} {mass} {place}",
            "{place} of the image a {finding} {mass}",
            "MRI: {finding} {mass} {place}",
            "Impression: {finding} {mass} {place}",
            "Patient with a {finding} {mass} {place}",
        ),
        empty=("There is no brain tumor.", "No mass on MRI.", "MRI without a lesion."),
    ),
    evaluation=Phrasing(
        templates=(
            "The scan shows a {finding} {mass} {place}",
            "{finding} {mass} can be seen {place}",
            "Site of the {finding} {mass}: {place}",
        ),
        empty=("The brain is unremarkable.", "No neoplasm is seen on MRI.", "MRI scan, no focal finding."),
    ),
)
LANGUAGES.update({language.name: language for language in (QATA, BREAST, NUCLEI, BRAIN)})


def qata_text(areas: Sequence[Area], count: int | None = None) -> str:
    """A text such as "Bilateral pulmonary infection, two infected areas, upper left lung and lower right lung."

    Args:
        areas: One `Area`, or one for each side, in any order; the left clause is written first.
        count: Number of lesions that the text states, 1 to 12. Default: one per named region.

    Raises `ValueError` for an unknown side or region, no area, two areas on one side, or a count out of range.
    """
    sides = [area.side for area in areas]
    if not areas or len(set(sides)) != len(sides) or not set(sides) <= set(SIDES):
        raise ValueError(f"areas have the sides {sides}: pass one Area for 'left', one for 'right', or both.")
    for _, regions in areas:
        if not regions or not set(regions) <= set(REGIONS) or len(set(regions)) != len(regions):
            raise ValueError(f"regions are {regions}: name each of {REGIONS} at most once, and at least one of them.")
    count = sum(len(area.regions) for area in areas) if count is None else count
    if not 1 <= count <= MAX_AREAS:
        raise ValueError(f"count is {count}, the language has words for 1 to {MAX_AREAS}: pass a count in that range.")
    counted = {"count_word": number_word(count), "s": "s" if count > 1 else ""}
    return QATA.write({"laterality": laterality_of(areas), "lungs": lung_clauses(areas), **counted})
