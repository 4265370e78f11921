"""Alternative wordings of the languages: one table for training, and another for evaluation.

A template combines facts (`{lungs}`, `{count_word}`, ...), which are those of the text, and free words (`{disease}`,
`{lesion}`, ...), which are interchangeable. The count selects the form of a free word "opacity|opacities". The two
tables share no wording except for the facts, so that models are evaluated on templates that training never used.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from tevia_hf.prompts.fields import PARTS
from tevia_hf.prompts.words import NUMBERS, PLACES


class Phrasing(NamedTuple):
    """Alternative phrasings of a language for one table.

    Args:
        templates: of texts with facts: `{lungs}`, `{count_word}`, ... are those of the text, `{disease}`, `{lesion}`,
            `{mass}` and `{is}` are interchangeable words of the table.
        empty: complete texts that deny any lesion.
    """

    templates: Sequence[str] = ()
    empty: Sequence[str] = ()


class LungWording(NamedTuple):
    """One way to name parts of the lungs, including the preposition."""

    whole: str  # for all regions of `{side}`
    part: str  # for some `{regions}` of `{side}`; `{s}` is the plural of more than one
    sides: Mapping[str, str]  # of "left" and "right", and of "both" for two sides with the same regions
    regions: Mapping[str, str]  # names of "upper", "middle" and "lower"
    codes: Mapping[tuple[str, str], str] = {}  # of (side, region), used if each named region has one
    between: str = " and "  # joins two sides


@dataclass(frozen=True, eq=False)
class Wordings:
    """The wordings of one table, shared by the phrasings of all languages."""

    asides: Sequence[str]  # remarks without information on the image, placed before or after
    free_words: Mapping[str, Sequence[str]]  # name -> interchangeable words
    values: Mapping[str, Mapping[str, Sequence[str]]]  # fact -> value -> alternative wordings, if any
    lungs: Sequence[LungWording]  # wordings of the fact `lungs`
    place: Mapping[str, str]  # place -> its wording


def _several(texts: str) -> tuple[str, ...]:
    return tuple(texts.split("; "))


_SIDES = {side: side for side in ("left", "right")}
_OWN = {name: name for name in ("upper", "middle", "lower")}
_MID = _OWN | {"middle": "mid"}
_BOTH = {"left": "the left lung", "right": "the right lung", "both": "both lungs"}
_PORTION = {region: f"{word} portion" for region, word in _MID.items()}
_DIGITS = {word: (word, str(number)) for number, word in enumerate(NUMBERS)}
_LOBES = {
    **{("left", "upper"): "LUL", ("left", "lower"): "LLL", ("both", "lower"): "bibasal"},  # a left lung has two lobes
    **{("right", region): f"R{region[0].upper()}L" for region in _OWN},
}
_ZONES = {(side, part): f"{side[0]}{part[0]}Z".upper() for side in _SIDES for part in _OWN}  # "RUZ": right upper zone
_TOP_BOTTOM = {place: place.replace("upper", "top").replace("lower", "bottom") for place in PLACES} | {
    "center": "centre"
}

TRAINING = Wordings(
    asides=_several(
        "Compared with the prior study, no change can be judged.; Single view.; Clinical correlation is advised.; "
        "Known patient.; Please correlate with the history.; Please see the request.; Second reading.; "
        "Copy for the file."
    ),
    free_words={
        "disease": _several(
            "pulmonary infection; pneumonia; lung infection; infectious disease; chest infection; infection"
        ),
        "lesion": _several(
            "infected area|infected areas; opacity|opacities; lesion|lesions; focus|foci; opacification|opacifications"
            "; patch|patches; abnormality|abnormalities; area of shadowing|areas of shadowing"
        ),
        "mass": ("tumor|tumors", "mass|masses", "lesion|lesions", "growth|growths"),
        "is": ("is|are",),
    },
    values={
        "laterality": {
            "bilateral": ("bilateral", "bilat.", "double-sided"),
            "unilateral": ("unilateral", "one-sided", "unilat."),
        },
        "count_word": _DIGITS | {"one": ("one", "1", "a single")},
        "size": {
            "small": ("small", "small-sized"),
            "medium": ("medium-sized", "intermediate-sized"),
            "large": ("large", "large-sized", "sizeable"),
        },
        "shape": {"round": ("round", "rounded"), "oval": ("oval", "ovoid")},
        "density": {
            "are sparsely distributed": ("nuclei cover little of the section", "nuclei are sparse"),
            "are evenly distributed": ("nuclei are spread evenly", "the nuclei are equally dense everywhere"),
            "are irregularly distributed": ("nuclei are spread irregularly", "the nuclei are unevenly dense"),
        }
        | {
            f"density in the {part} is high": (f"nuclei are dense in the {part}", f"the {part} is rich in nuclei")
            for part in PARTS
        },
    },
    lungs=(
        LungWording("all {side} lung", "{regions} {side} lung", _SIDES, _OWN),
        LungWording("in the whole of {side}", "in the {regions} zone{s} of {side}", _BOTH, _OWN),
        LungWording("in the entire {side} lung", "in the {side} {regions} lung", _SIDES, _MID),
        LungWording("all of {side}", "{side}, {regions} zone{s}", {"left": "L lung", "right": "R lung"}, _MID, _LOBES),
        LungWording("all parts of the {side} lung", "{side} lung, {regions} part{s}", _SIDES, _OWN, between="; "),
        LungWording("on the whole {side} side", "{side}-sided, {regions}", _SIDES, _MID, between=" & "),
        LungWording("all zones of the {side} lung", "", _SIDES, _OWN, _ZONES, " & "),  # a code for every part
        LungWording("over the full height of {side}", "over the {regions} of {side}", _BOTH, _PORTION),
        LungWording(
            "complete {side} lung",
            "{regions} {side} lung area{s}",
            _SIDES | {"both": "left and right"},
            _MID,
            between=" plus ",
        ),
        LungWording(
            "{side} in full",
            "{side}, {regions} portion{s}",
            {"left": "the lung on the left", "right": "the lung on the right", "both": "the lungs on both sides"},
            {"upper": "superior", "middle": "middle", "lower": "inferior"},
            between=", as well as ",
        ),
    ),
    place={place: f"in the {place} part" for place in PLACES} | {"center": "in the middle part"},
)

EVALUATION = Wordings(
    asides=_several(
        "An earlier examination is not at hand.; Image quality is sufficient.; Follow-up is recommended.; "
        "The request gives no further details."
    ),
    free_words={
        "disease": ("pneumonitis", "pneumonic disease", "infectious consolidation", "pneumonic infiltration"),
        "lesion": ("infiltrate|infiltrates", "consolidation|consolidations", "infected region|infected regions"),
        "mass": ("nodule|nodules", "neoplasm|neoplasms", "focal finding|focal findings"),
    },
    values={
        "laterality": {"bilateral": ("two-sided", "both-sided"), "unilateral": ("single-sided",)},
        "count_word": _DIGITS | {"one": ("one", "1", "a solitary"), "two": ("two", "2", "a pair of")},
        "size": {"small": ("little",), "medium": ("mid-sized", "moderate-sized"), "large": ("big",)},
        "shape": {"round": ("circular",), "oval": ("elliptical",), "irregular": ("ill-shaped",)},
        "density": {
            "are sparsely distributed": ("the nuclei lie far apart", "only a small share is covered by nuclei"),
            "are evenly distributed": ("the nuclei show a uniform distribution", "nuclei lie alike in all parts"),
            "are irregularly distributed": ("the nuclei show a patchy distribution",),
        }
        | {
            f"density in the {part} is high": (
                f"the nuclei crowd in the {part}",
                f"nuclei are denser in the {part} than elsewhere",
            )
            for part in PARTS
        },
    },
    lungs=(
        LungWording(
            "throughout the {side}",
            "within the {regions} field{s} of the {side}",
            {"left": "left lung", "right": "right lung", "both": "two lungs"},
            _MID,
        ),
        LungWording("all over the {side} lung", "at the {side}, {regions} third{s}", _SIDES, _OWN),
        LungWording(
            "entire {side} lung",
            "{side} lung {regions}",
            {"left": "lt.", "right": "rt."},
            _OWN,
            {("both", "lower"): "bibasilar"},
            " + ",
        ),
    ),
    place={place: f"at the {_TOP_BOTTOM[place]} of the view" for place in PLACES},
)

WORDINGS = {"training": TRAINING, "evaluation": EVALUATION}
