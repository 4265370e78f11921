"""Fields of a text that are measured on a mask: the value of each, and the pattern that matches it in a text."""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from tevia_hf.prompts.lesions import Lesions
from tevia_hf.prompts.lungs import REGION_LIST, laterality_of, lung_areas, lung_clauses
from tevia_hf.prompts.words import NUMBERS, PLACE_LIST, join_places, number_word

SMALL, LARGE = 0.02, 0.10  # shares of the image between which a lesion is "medium"
IRREGULAR_BELOW = 0.85  # solidity
TRIANGULAR_BELOW, RECTANGULAR_ABOVE = 0.62, 0.90  # fill
OVAL_ABOVE = 1.4  # elongation
SPARSE_BELOW = 0.15  # share of the image covered by nuclei
DENSER_BY = 1.15  # ratio of a part's share of nuclei to their mean from which the part is named
_LUNG = f"{REGION_LIST} (?:left|right) lung"
PARTS = ("upper left", "upper right", "lower left", "lower right", "upper", "lower", "left", "right")


class Field(NamedTuple):
    """A function from lesions (at least one) to a word or clause, and a regular expression of all its values."""

    value: Callable[[Lesions], str]
    pattern: str


def size(lesions: Lesions) -> str:
    """Size of the largest lesion: small below 2 % of the image, large from 10 %."""
    share = lesions.areas.max() / lesions.mask.size
    return "small" if share < SMALL else "medium" if share < LARGE else "large"


def shape(lesions: Lesions) -> str:
    """Shape of the largest lesion."""
    elongation, fill, solidity = lesions.largest_shape()
    if solidity < IRREGULAR_BELOW:
        return "irregular"
    if fill < TRIANGULAR_BELOW:
        return "triangular"
    if fill > RECTANGULAR_ABOVE:
        return "rectangular"
    return "oval" if elongation > OVAL_ABOVE else "round"


def places(lesions: Lesions) -> str:
    """The cells of a 3 x 3 grid over the image that contain the lesions' centres."""
    thirds = [
        (("upper", "", "lower")[_third(row)], ("left", "", "right")[_third(col)]) for row, col in lesions.centres()
    ]
    return join_places({" ".join(filter(None, names)) or "center" for names in thirds})


def density(lesions: Lesions) -> str:
    """The quarter or half with the highest density of nuclei; "evenly" or "irregularly" if there is none."""
    if lesions.mask.mean() < SPARSE_BELOW:
        return "are sparsely distributed"
    # (2, 2), one share per quarter; the middle row and column of an odd size are left out
    rows, columns = ((slice(None, size // 2), slice(-(size // 2), None)) for size in lesions.mask.shape)
    shares = np.array([[lesions.mask[row, column].mean() for column in columns] for row in rows])
    dense = np.argwhere(shares.round(9) >= DENSER_BY * shares.mean().round(9))
    if not len(dense):
        return "are evenly distributed"
    halves = zip(_HALVES, map(np.unique, dense.T), strict=True)
    part = [names[indices[0]] for names, indices in halves if len(indices) == 1]
    return f"density in the {' '.join(part)} is high" if part else "are irregularly distributed"


_HALVES = (("upper", "lower"), ("left", "right"))

FIELDS: dict[str, Field] = {
    "count": Field(lambda lesions: str(lesions.count), r"\d+"),
    "count_word": Field(lambda lesions: number_word(lesions.count), rf"(?:{'|'.join(NUMBERS[1:])}|\d+)"),
    "s": Field(lambda lesions: "" if lesions.count == 1 else "s", "s?"),
    "laterality": Field(lambda lesions: laterality_of(lung_areas(lesions)), "(?:bilateral|unilateral)"),
    "lungs": Field(lambda lesions: lung_clauses(lung_areas(lesions)), f"{_LUNG}(?: and {_LUNG})?"),
    "size": Field(size, "(?:small|medium|large)"),
    "shape": Field(shape, "(?:irregular|triangular|rectangular|oval|round)"),
    "place": Field(places, PLACE_LIST),
    "density": Field(
        density, rf"(?:are (?:sparsely|evenly|irregularly) distributed|density in the (?:{'|'.join(PARTS)}) is high)"
    ),
    "percent": Field(lambda lesions: f"{100 * lesions.mask.mean():.1f}", r"\d+\.\d"),
}


def _third(position: float) -> int:
    """0, 1 or 2; symmetric under flips."""
    return int(round(position, 9) >= 1 / 3) + int(round(1 - position, 9) < 1 / 3)
