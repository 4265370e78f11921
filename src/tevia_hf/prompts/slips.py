"""Slips of the keyboard in long words, and the words that were meant."""

import re
from collections.abc import Collection, Mapping

import numpy as np

SHORTEST = 6  # letters of a word that is mistyped
_WORD = re.compile(r"[A-Za-z]+")


def slips_of(words: Collection[str]) -> dict[str, str]:
    """Each misspelling by one letter dropped, doubled or exchanged with the next, and the word that was meant.

    The first and last letter stay. What is another of the words, or a slip of two of them, is left out.
    """
    meant: dict[str, str] = {}
    doubtful = set(words)
    for word in words:
        for slip in _slips(word) if len(word) >= SHORTEST else ():
            doubtful |= {slip} if meant.setdefault(slip, word) != word else set()
    return {slip: word for slip, word in meant.items() if slip not in doubtful}


def with_slip(text: str, slips: Mapping[str, str], draws: np.random.Generator) -> str:
    """The text with a slip in one of the words that have one, if there is any."""
    spans = [match for match in _WORD.finditer(text) if match[0].lower() in set(slips.values())]
    if not spans:
        return text
    chosen = spans[int(draws.integers(len(spans)))]
    misspellings = sorted(slip for slip, word in slips.items() if word == chosen[0].lower())
    slip = misspellings[int(draws.integers(len(misspellings)))]
    return text[: chosen.start()] + chosen[0][0] + slip[1:] + text[chosen.end() :]


def corrected(text: str, slips: Mapping[str, str]) -> str:
    """The text, in lower case, as it was meant."""
    return _WORD.sub(lambda match: slips.get(match[0], match[0]), text)


def _slips(word: str) -> set[str]:
    inner = range(1, len(word) - 1)
    dropped = {word[:i] + word[i + 1 :] for i in inner}
    doubled = {word[:i] + word[i] + word[i:] for i in inner}
    exchanged = {word[:i] + word[i + 1] + word[i] + word[i + 2 :] for i in range(1, len(word) - 2)}
    return (dropped | doubled | exchanged) - {word}
