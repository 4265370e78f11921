"""Which text each image is evaluated with: its own, another image's, none, or one that is changed."""

from collections.abc import Callable

import numpy as np
from datasets import Dataset

from ..prompts import contradict_sentence, flip_sentence


def correct_sentences(texts: list[str], seed: int) -> list[str]:
    """Each image's own sentence."""
    return texts


def shuffled_sentences(texts: list[str], seed: int) -> list[str]:
    """The sentence of another image each (which may by chance read the same): a seeded cycle through all rows."""
    order = np.random.default_rng(seed).permutation(len(texts))
    shifted = dict(zip(order.tolist(), np.roll(order, 1).tolist(), strict=True))
    return [texts[shifted[index]] for index in range(len(texts))]


def no_sentences(texts: list[str], seed: int) -> list[str]:
    """No sentence: the learned null text stands in."""
    return [""] * len(texts)


def flipped_sentences(texts: list[str], seed: int) -> list[str]:
    """Each image's own sentence with its sides changed: what is true of the mirrored picture."""
    return [flip_sentence(text or "") for text in texts]


def contradictory_sentences(texts: list[str], seed: int) -> list[str]:
    """The opposite of each image's own sentence about whether there is a lesion at all; "" where it has none."""
    return [contradict_sentence(text) if text else "" for text in texts]


TEXT_MODES: dict[str, Callable[[list[str], int], list[str]]] = {
    "correct": correct_sentences,
    "shuffled": shuffled_sentences,
    "none": no_sentences,
    "flipped": flipped_sentences,
    "contradictory": contradictory_sentences,
}


def check_text_modes(text_modes: tuple[str, ...]) -> None:
    """Raises `ValueError` for kinds of text that do not exist."""
    if unknown := [mode for mode in text_modes if mode not in TEXT_MODES]:
        raise ValueError(f"Unknown text modes {unknown}: choose of {list(TEXT_MODES)}.")


def check_texts(dataset: Dataset, uses_text: bool) -> None:
    """Raises `ValueError` where a model that reads would be measured without a single sentence."""
    if uses_text and not any(dataset["text"]):
        raise ValueError(
            "No example has a sentence, so that nothing tells whether the model reads: name a table of sentences "
            "(`sentences`, `--sentences`), the one it was trained with or one that `tevia prompts` makes."
        )
