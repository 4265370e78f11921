"""Text conditions: which text each image is evaluated with, its own, another image's, none, or one that is changed.

`TEXT_CONDITIONS` declares each once. Evaluations, reports, model cards and the command line read it;
`register_text_condition` adds one's own.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from ..prompts import contradict_sentence, deny_lesion, flip_sentence, overspecify, paraphrase, underspecify

if TYPE_CHECKING:
    from datasets import Dataset

OWN, ANOTHERS = "correct", "shuffled"  # their difference is the text sensitivity
NO_TEXT_BRANCH = "no text branch"  # the only row of a vision-only network
Choose = Callable[[list[str], int], list[str]]


class TextCondition(NamedTuple):
    """A way to choose the texts.

    Args:
        label: what the model is given, for model cards.
        choose: `(texts, seed) -> texts`, one text an image, "" for none.
        always: measured whatever conditions are asked for.
        by_default: measured where no conditions are asked for.
        rewords: it changes texts of the grammars, and of free text only some: one that changes none is refused.
        denies: its texts say that nothing is there, so that the Dice against the mask is no score.
    """

    label: str
    choose: Choose
    always: bool = False
    by_default: bool = False
    rewords: bool = False
    denies: bool = False


def own_texts(texts: list[str], seed: int) -> list[str]:
    """Each image's own text."""
    return texts


def shuffled_texts(texts: list[str], seed: int) -> list[str]:
    """The text of another image each (which may by chance read the same): a seeded cycle through all rows."""
    order = np.random.default_rng(seed).permutation(len(texts))
    shifted = dict(zip(order.tolist(), np.roll(order, 1).tolist(), strict=True))
    return [texts[shifted[index]] for index in range(len(texts))]


def no_texts(texts: list[str], seed: int) -> list[str]:
    """No text: the learned null text stands in."""
    return [""] * len(texts)


def flipped_texts(texts: list[str], seed: int) -> list[str]:
    """Each image's own text with its sides changed: what is true of the mirrored image."""
    return [flip_sentence(text or "") for text in texts]


def contradictory_texts(texts: list[str], seed: int) -> list[str]:
    """The opposite of each image's own text about whether there is a lesion at all; "" where it has none."""
    return [contradict_sentence(text) if text else "" for text in texts]


def paraphrased_texts(texts: list[str], seed: int) -> list[str]:
    """Each image's own text in other words, of templates that no training text came from; free text as it is."""
    return _each(lambda text, draws: paraphrase(text, draws, templates="evaluation"), texts, seed)


def underspecified_texts(texts: list[str], seed: int) -> list[str]:
    """Each image's own text without its location or without its count."""
    return _each(underspecify, texts, seed)


def overspecified_texts(texts: list[str], seed: int) -> list[str]:
    """Each image's own text and findings that say nothing of its lesion."""
    return _each(overspecify, texts, seed)


def absent_texts(texts: list[str], seed: int) -> list[str]:
    """In several wordings, that nothing is there, whatever the image's own text says; "" where it has none.

    It differs from `contradictory_texts` where the own text says so as well: that one then claims a lesion.
    """
    return _each(deny_lesion, texts, seed)


def _each(change: Callable[[str, np.random.Generator], str], texts: list[str], seed: int) -> list[str]:
    draws = np.random.default_rng(seed)
    return [change(text or "", draws) for text in texts]


TEXT_CONDITIONS: dict[str, TextCondition] = {
    OWN: TextCondition("its own text", own_texts, always=True),
    ANOTHERS: TextCondition("another image's text", shuffled_texts, always=True),
    "none": TextCondition("no text", no_texts, by_default=True),
    "flipped": TextCondition("its text, sides changed", flipped_texts),
    "contradictory": TextCondition("a text that says the opposite", contradictory_texts),
    "paraphrased": TextCondition("its text in other words", paraphrased_texts, by_default=True, rewords=True),
    "underspecified": TextCondition("its text without location or count", underspecified_texts, rewords=True),
    "overspecified": TextCondition("its text and irrelevant findings", overspecified_texts, rewords=True),
    "absent": TextCondition("a text that says that nothing is there", absent_texts, denies=True),
}


def register_text_condition(
    name: str, choose: Choose, *, label: str, always: bool = False, exist_ok: bool = False
) -> None:
    """Adds a text condition to `TEXT_CONDITIONS`; `evaluate_model(text_modes=...)` and `--text` then take its name.

    Args:
        name: without commas, which part names on the command line.
        choose, label, always: as of `TextCondition`.
        exist_ok: replace a condition of this name.

    Raises `ValueError` for a name that is taken, empty or holds a comma.
    """
    if not name.strip() or "," in name or name == NO_TEXT_BRANCH:
        raise ValueError(f"'{name}' cannot name a text condition: give a word such as 'template'.")
    if name in TEXT_CONDITIONS and not exist_ok:
        raise ValueError(f"There is a text condition '{name}': choose another name, or pass exist_ok=True.")
    TEXT_CONDITIONS[name] = TextCondition(label, choose, always)


def conditions_for(text_modes: Sequence[str], uses_text: bool) -> dict[str, TextCondition]:
    """The conditions to measure: those that always are, and those asked for.

    A vision-only network has one, without text. Raises `ValueError` for names that `TEXT_CONDITIONS` lacks.
    """
    if unknown := [name for name in text_modes if name not in TEXT_CONDITIONS]:
        raise ValueError(f"Unknown text conditions {unknown}: choose from {', '.join(TEXT_CONDITIONS)}.")
    if not uses_text:
        return {NO_TEXT_BRANCH: TextCondition(NO_TEXT_BRANCH, no_texts)}
    always = [name for name, condition in TEXT_CONDITIONS.items() if condition.always]
    return {name: TEXT_CONDITIONS[name] for name in dict.fromkeys((*always, *text_modes))}


def default_conditions(texts: Sequence[str | None], seed: int) -> list[str]:
    """The conditions to measure where none are named; of those that reword, the ones that change one of the texts."""
    own = [text or "" for text in texts]
    by_default = {name: condition for name, condition in TEXT_CONDITIONS.items() if condition.by_default}
    return [name for name, way in by_default.items() if not way.rewords or way.choose([*own], seed) != own]


def chosen_texts(
    conditions: Mapping[str, TextCondition], texts: Sequence[str | None], seed: int
) -> dict[str, list[str]]:
    """The texts of each condition, "" for none.

    Raises `ValueError` for a condition that rewords, but changes no text.
    """
    own = [text or "" for text in texts]
    chosen = {name: [text or "" for text in way.choose([*own], seed)] for name, way in conditions.items()}
    changed = changed_texts(conditions, texts, chosen)
    if idle := [name for name, count in changed.items() if not count]:
        raise ValueError(
            f"The text conditions {idle} change none of the {len(texts)} texts, which are in no grammar of `GRAMMARS` "
            "(or there are none): leave them out, or write the texts with `tevia prompts`."
        )
    return chosen


def changed_texts(
    conditions: Mapping[str, TextCondition], texts: Sequence[str | None], chosen: Mapping[str, Sequence[str]]
) -> dict[str, int]:
    """Of the conditions that reword, how many texts each changes."""
    return {
        name: sum((own or "") != text for own, text in zip(texts, chosen[name], strict=True))
        for name, condition in conditions.items()
        if condition.rewords
    }


def check_texts(dataset: "Dataset", uses_text: bool) -> None:
    """Raises `ValueError` where a model with a text encoder would be measured without a single text."""
    if uses_text and not any(dataset["text"]):
        raise ValueError(
            "No example has a text, so that nothing tells whether the model uses it: name a table of texts "
            "(`sentences`, `--sentences`), the one it was trained with or one that `tevia prompts` makes."
        )
