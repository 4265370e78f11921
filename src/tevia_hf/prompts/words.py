"""Words of the templates, and their counterparts after a flip."""

import re

NUMBERS = ("no", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve")


def _both_ways(pairs: str) -> dict[str, str]:
    one_way = dict(pair.split("/") for pair in pairs.split(", "))
    return one_way | {second: first for first, second in one_way.items()}


MIRRORED = {
    "horizontal": _both_ways(
        "left/right, lt/rt, l lung/r lung, lul/rul, lml/rml, lll/rll, luz/ruz, lmz/rmz, llz/rlz, luq/ruq, llq/rlq, "
        "leftward/rightward, leftwards/rightwards, leftmost/rightmost, leftsided/rightsided"
    ),
    "vertical": {
        "bibasilar": "biapical",
        **_both_ways(
            "upper/lower, top/bottom, superior/inferior, lul/lll, rul/rll, luz/llz, ruz/rlz, luq/llq, ruq/rlq, "
            "uppermost/lowermost, upward/downward, bibasal/biapical"
        ),
    },
}
PLACES = ("upper left", "upper", "upper right", "left", "center", "right", "lower left", "lower", "lower right")
_ANY_PLACE = "(?:" + "|".join(sorted(PLACES, key=len, reverse=True)) + ")"
PLACE_LIST = rf"{_ANY_PLACE}(?: and the {_ANY_PLACE})*"
BEGIN, END = r"(?<![^\W_])", r"(?![^\W_])"  # word boundaries, at which an underscore is no letter ("left_lung")


def number_word(count: int) -> str:
    """The count as a word up to twelve, else in digits."""
    return NUMBERS[count] if count < len(NUMBERS) else str(count)


def join_places(places: set[str]) -> str:
    """The places in reading order, such as "upper left and the right"."""
    return " and the ".join(sorted(places, key=PLACES.index))


def swap_words(text: str, opposite: dict[str, str]) -> str:
    """Whole words replaced by their opposite, case kept."""
    pattern = rf"{BEGIN}({'|'.join(opposite)}){END}"
    return re.sub(pattern, lambda match: like(match[0], opposite[match[0].lower()]), text, flags=re.IGNORECASE)


def like(pattern: str, word: str) -> str:
    """`word` in the case of `pattern`."""
    if pattern.isupper():
        return word.upper()
    return word[:1].upper() + word[1:] if pattern[:1].isupper() else word
