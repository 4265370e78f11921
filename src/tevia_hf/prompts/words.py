"""Words of the templates, and how they answer to a mirror."""

import re

NUMBERS = ("no", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve")
MIRRORED = {
    "horizontal": {
        **{"left": "right", "right": "left", "lt": "rt", "rt": "lt", "l lung": "r lung", "r lung": "l lung"},
        **{"lul": "rul", "rul": "lul", "lml": "rml", "rml": "lml", "lll": "rll", "rll": "lll"},
        **{"luz": "ruz", "ruz": "luz", "lmz": "rmz", "rmz": "lmz", "llz": "rlz", "rlz": "llz"},
        **{"luq": "ruq", "ruq": "luq", "llq": "rlq", "rlq": "llq"},  # quadrants of the abdomen
        **{"leftward": "rightward", "rightward": "leftward", "leftwards": "rightwards", "rightwards": "leftwards"},
        **{"leftmost": "rightmost", "rightmost": "leftmost", "leftsided": "rightsided", "rightsided": "leftsided"},
    },
    "vertical": {
        **{"upper": "lower", "lower": "upper", "top": "bottom", "bottom": "top"},
        **{"superior": "inferior", "inferior": "superior"},
        **{"lul": "lll", "lll": "lul", "rul": "rll", "rll": "rul"},
        **{"luz": "llz", "llz": "luz", "ruz": "rlz", "rlz": "ruz"},
        **{"luq": "llq", "llq": "luq", "ruq": "rlq", "rlq": "ruq"},
        **{"uppermost": "lowermost", "lowermost": "uppermost", "upward": "downward", "downward": "upward"},
        **{"bibasal": "biapical", "biapical": "bibasal", "bibasilar": "biapical"},
    },
}
PLACES = ("upper left", "upper", "upper right", "left", "center", "right", "lower left", "lower", "lower right")
_ANY_PLACE = "(?:" + "|".join(sorted(PLACES, key=len, reverse=True)) + ")"
PLACE_LIST = rf"{_ANY_PLACE}(?: and the {_ANY_PLACE})*"
BEGIN, END = r"(?<![^\W_])", r"(?![^\W_])"  # of a word, which an underscore ends ("left_lung")


def number_word(count: int) -> str:
    """Up to twelve a word, then digits."""
    return NUMBERS[count] if count < len(NUMBERS) else str(count)


def join_places(places: set[str]) -> str:
    """Such as "upper left and the right", in reading order."""
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
