"""Agreement of masks with the texts given to the model, for statements that can be verified on a mask.

Metrics compare a mask with the true one; these scores compare it with the text, whether that is true or not.
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from ..io.markdown import Table
from ..labels_tevia import IGNORE_INDEX, is_lesion
from ..prompts import SIDES, ReportLanguage, stated_facts
from ..prompts.fields import FIELDS
from ..prompts.lesions import Lesions

MEASURED = ("count_word", "lungs", "place", "density")
NOTHING = {"count_word": "no"}  # the facts of a mask without lesions, and of a text that denies them


class Agreement(NamedTuple):
    """The share of masks that agree with a field of the text, among images whose text states it.

    Args:
        images: number of these images.
        predicted: share of the predicted masks.
        reference: share of the true masks, the maximum for a correct model.
    """

    images: int
    predicted: float
    reference: float


class Absence(NamedTuple):
    """Lesion pixels predicted for images whose text denies lesions, or whose true mask has none.

    Args:
        images: number of these images.
        with_lesion: number of them with a lesion in the true mask, which the text denies.
        marked_pixels: share of pixels predicted as lesion, mean over the images.
        images_marked: share of the images with any such pixel.
    """

    images: int
    with_lesion: int
    marked_pixels: float
    images_marked: float


class TextScores(NamedTuple):
    """The masks of one text condition against its texts.

    Args:
        agreement: "count", "side" (of the lungs), "region" (parts of the lungs, places or density) -> `Agreement`,
            for fields that any text states.
        absence: of the images whose text denies lesions; `None` if there are none.
        healthy: of the images without a lesion in the true mask; `None` if there are none.
        lesions: number of images with a lesion in the true mask.
    """

    agreement: dict[str, Agreement]
    absence: Absence | None
    healthy: Absence | None
    lesions: int

    @property
    def denies_all_lesions(self) -> bool:
        return self.absence is not None and 0 < self.lesions == self.absence.with_lesion

    def as_dict(self) -> dict[str, Any]:
        agreement = {field: scores._asdict() for field, scores in self.agreement.items()}
        return {
            "agreement": agreement,
            "absence": self.absence and self.absence._asdict(),
            "healthy": self.healthy and self.healthy._asdict(),
        }


class MaskAndText(NamedTuple):
    """The comparison of one mask with its text.

    Args:
        agreement: field -> whether the predicted mask agrees with the text, and whether the true one does.
        denies: whether the text denies lesions.
        has_lesion: whether the true mask has one.
        marked: share of pixels predicted as lesion, without ignored ones.
    """

    agreement: dict[str, tuple[bool, bool]]
    denies: bool
    has_lesion: bool
    marked: float


def compare_with_text(
    text: str,
    prediction: np.ndarray,
    reference: np.ndarray,
    language: ReportLanguage | None = None,
    true_lesions: Lesions | None = None,
) -> MaskAndText:
    """Compares label maps (height, width) with a text; left and right are those of the image, ignored pixels excluded.

    Args:
        language: of the text's data set, if known.
        true_lesions: of the reference, for texts that share it; computed by default.
    """
    valid = reference != IGNORE_INDEX
    prediction = np.where(valid, prediction, 0)
    facts = stated_facts(text, language)
    predicted = agreeing_fields(facts, Lesions(prediction))
    true = agreeing_fields(facts, Lesions(reference) if true_lesions is None else true_lesions)
    marked = float(is_lesion(prediction).sum() / max(valid.sum(), 1))
    agreement = {field: (agrees, true[field]) for field, agrees in predicted.items()}
    return MaskAndText(agreement, facts == {}, bool(is_lesion(reference).any()), marked)


def text_scores(rows: Sequence[MaskAndText]) -> TextScores:
    """The scores of a set of masks against their texts."""
    fields = dict.fromkeys(field for row in rows for field in row.agreement)
    pairs = {field: [row.agreement[field] for row in rows if field in row.agreement] for field in fields}
    agreement = {field: Agreement(len(agrees), *map(float, np.mean(agrees, axis=0))) for field, agrees in pairs.items()}
    denied = absence_of([row for row in rows if row.denies])
    healthy = absence_of([row for row in rows if not row.has_lesion])
    return TextScores(agreement, denied, healthy, sum(row.has_lesion for row in rows))


def absence_of(rows: Sequence[MaskAndText]) -> Absence | None:
    """The lesion pixels predicted in these images; `None` if there are none."""
    if not rows:
        return None
    marked = [row.marked for row in rows]
    images_marked = float(np.mean([share > 0 for share in marked]))
    return Absence(len(rows), sum(row.has_lesion for row in rows), float(np.mean(marked)), images_marked)


def agreeing_fields(facts: Mapping[str, str] | None, lesions: Lesions) -> dict[str, bool]:
    """Whether a mask's lesions agree with the facts of a text, for each field it states; empty for free text."""
    if facts is None:
        return {}
    facts = facts or NOTHING
    names = [name for name in MEASURED if name in facts]
    shown = {name: FIELDS[name].value(lesions) for name in names} if lesions.count else NOTHING
    stated, visible = _fields(facts), _fields(shown)
    return {field: visible.get(field) == value for field, value in stated.items()}


def _fields(facts: Mapping[str, str]) -> dict[str, str]:
    sides = [side for side in SIDES if side in facts.get("lungs", "").split()]
    region = next((facts[name] for name in MEASURED[1:] if name in facts), "")
    fields = {"count": facts.get("count_word", ""), "side": " and ".join(sides), "region": region}
    return {field: value for field, value in fields.items() if value}


def text_tables(scores: Mapping[str, TextScores]) -> list[Table]:
    """Agreement with the texts, and lesion pixels predicted where the texts deny a lesion or the true mask has none."""
    agreement = [
        [name, field, agreement.images, f"{agreement.predicted:.3f}", f"{agreement.reference:.3f}"]
        for name, row in scores.items()
        for field, agreement in row.agreement.items()
    ]
    header = ["text", "field", "images", "predicted mask", "true mask"]
    caption = "Agreement with the text: share of masks that show what it states."
    tables = [Table(header, agreement, caption, text_columns=2)]
    for attribute, pixels, caption in (ABSENCE, HEALTHY):
        absences = {name: absence for name, row in scores.items() if (absence := getattr(row, attribute))}
        rows = [
            [name, absence.images, f"{absence.marked_pixels:.4f}", f"{absence.images_marked:.3f}"]
            for name, absence in absences.items()
        ]
        tables.append(Table(["text", "images", pixels, "images with a predicted lesion"], rows, caption))
    return [table for table in tables if table.rows]


ABSENCE = (
    "absence",
    "pixels marked against the text",
    "Where the text says that nothing is there: share of pixels, and of images, that are marked all the same.",
)
HEALTHY = (
    "healthy",
    "false-positive pixels",
    "Images without any lesion: share of pixels, and of images, that are marked all the same.",
)
