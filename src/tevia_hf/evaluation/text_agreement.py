"""How far masks agree with the texts that the model was given, where these state something that a mask can answer to.

Metrics compare a mask with the true one; these compare it with the text, whether that is true or not.
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from ..labels_tevia import IGNORE_INDEX, is_lesion
from ..prompts import SIDES, ReportLanguage, stated_facts
from ..prompts.fields import FIELDS
from ..prompts.lesions import Lesions

MEASURED = ("count_word", "lungs", "place", "density")
NOTHING = {"count_word": "no"}  # what a mask without lesions shows, and a text that denies them states


class Agreement(NamedTuple):
    """Of the images whose text states a field, the share of masks that agree with it.

    Args:
        images: whose text states it.
        predicted: share of the model's masks.
        reference: share of the true masks, the ceiling for a model that is right.
    """

    images: int
    predicted: float
    reference: float


class Absence(NamedTuple):
    """What is marked where the text says that nothing is there, or the true mask shows it.

    Args:
        images: with such a text or mask.
        with_lesion: how many of them have a lesion in the true mask, which the text denies.
        marked_pixels: share of the pixels that are marked all the same, mean over the images.
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
            for fields that some text states.
        absence: `None` where no text says that nothing is there.
        healthy: of the images without any lesion in the true mask; `None` where there are none.
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
        agreement = {field: found._asdict() for field, found in self.agreement.items()}
        return {
            "agreement": agreement,
            "absence": self.absence and self.absence._asdict(),
            "healthy": self.healthy and self.healthy._asdict(),
        }


class MaskAndText(NamedTuple):
    """What one mask is against its text.

    Args:
        agreement: field -> whether the predicted mask agrees with the text, and whether the true one does.
        denies: whether the text says that nothing is there.
        has_lesion: whether the true mask has one.
        marked: share of the pixels that count which are marked.
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
    """Label maps (height, width) against a text; left and right are the image's, pixels that are ignored count nowhere.

    Args:
        language: of the text's data set, if it names one.
        true_lesions: of the reference, for texts that share it; by default they are found.
    """
    counted = reference != IGNORE_INDEX
    prediction = np.where(counted, prediction, 0)
    facts = stated_facts(text, language)
    predicted = agreeing_fields(facts, Lesions(prediction))
    true = agreeing_fields(facts, Lesions(reference) if true_lesions is None else true_lesions)
    marked = float(is_lesion(prediction).sum() / max(counted.sum(), 1))
    agreement = {field: (agrees, true[field]) for field, agrees in predicted.items()}
    return MaskAndText(agreement, facts == {}, bool(is_lesion(reference).any()), marked)


def text_scores(rows: Sequence[MaskAndText]) -> TextScores:
    """The scores of a set of masks against their texts."""
    fields = dict.fromkeys(field for row in rows for field in row.agreement)
    pairs = {field: [row.agreement[field] for row in rows if field in row.agreement] for field in fields}
    agreement = {field: Agreement(len(found), *map(float, np.mean(found, axis=0))) for field, found in pairs.items()}
    denied = absence_of([row for row in rows if row.denies])
    healthy = absence_of([row for row in rows if not row.has_lesion])
    return TextScores(agreement, denied, healthy, sum(row.has_lesion for row in rows))


def absence_of(rows: Sequence[MaskAndText]) -> Absence | None:
    """Of images of which a lesion is denied, by the share of pixels marked in each; `None` of none."""
    if not rows:
        return None
    marked = [row.marked for row in rows]
    images_marked = float(np.mean([share > 0 for share in marked]))
    return Absence(len(rows), sum(row.has_lesion for row in rows), float(np.mean(marked)), images_marked)


def agreeing_fields(facts: Mapping[str, str] | None, lesions: Lesions) -> dict[str, bool]:
    """Whether a mask's lesions show the facts of a text, for each field it states; none for free text."""
    if facts is None:
        return {}
    facts = facts or NOTHING
    names = [name for name in MEASURED if name in facts]
    shown = {name: FIELDS[name].value(lesions) for name in names} if lesions.count else NOTHING
    stated, seen = _fields(facts), _fields(shown)
    return {field: seen.get(field) == value for field, value in stated.items()}


def _fields(facts: Mapping[str, str]) -> dict[str, str]:
    sides = [side for side in SIDES if side in facts.get("lungs", "").split()]
    region = next((facts[name] for name in MEASURED[1:] if name in facts), "")
    fields = {"count": facts.get("count_word", ""), "side": " and ".join(sides), "region": region}
    return {field: value for field, value in fields.items() if value}


def text_tables(scores: Mapping[str, TextScores]) -> list[str]:
    """Markdown lines: what agrees with the texts, and what is marked where they deny a lesion."""
    tables = {
        _AGREEMENT: [
            f"| {name} | {field} | {found.images} | {found.predicted:.3f} | {found.reference:.3f} |"
            for name, row in scores.items()
            for field, found in row.agreement.items()
        ]
    }
    for head, part in ((_ABSENCE, "absence"), (_HEALTHY, "healthy")):
        marked = [(name, found) for name, row in scores.items() if (found := getattr(row, part))]
        line = "| {} | {.images} | {.marked_pixels:.4f} | {.images_marked:.3f} |"
        tables[head] = [line.format(name, found, found, found) for name, found in marked]
    return [line for (title, *names), rows in tables.items() if rows for line in ("", title, "", *names, *rows)]


_AGREEMENT = (
    "Agreement with the text: share of masks that show what it states.",
    "| text | field | images | predicted mask | true mask |",
    "|---|---|---|---|---|",
)
_ABSENCE = (
    "Where the text says that nothing is there: share of pixels, and of images, that are marked all the same.",
    "| text | images | pixels marked against the text | images with a predicted lesion |",
    "|---|---|---|---|",
)
_HEALTHY = (
    "Images without any lesion: share of pixels, and of images, that are marked all the same.",
    "| text | images | false-positive pixels | images with a predicted lesion |",
    "|---|---|---|---|",
)
