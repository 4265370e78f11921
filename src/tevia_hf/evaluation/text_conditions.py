"""Text conditions: which text each image is evaluated with, its own, another image's, none, or one that is changed.

`TEXT_CONDITIONS` declares each once. Evaluations, reports, model cards and the command line read it;
`register_text_condition` adds one's own.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple, cast

import numpy as np

from ..prompts import FreeText, ReportLanguage, flip_text, language_of

if TYPE_CHECKING:
    from datasets import Dataset

OWN, ANOTHERS = "correct", "shuffled"  # their difference is the text sensitivity
NO_TEXT_BRANCH = "no text branch"  # the only row of a vision-only network
Choose = Callable[[list[str], int], list[str]]
Change = Callable[[FreeText, str, np.random.Generator], str]


class TextCondition(NamedTuple):
    """A way to choose the texts, all at once or each alone.

    Args:
        label: what the model is given, for model cards.
        choose: `(texts, seed) -> texts`, one text an image, "" for none.
        change: `(language, text, draws) -> text`, of one image, in the language of its text.
        always: measured whatever conditions are asked for.
        by_default: measured where no conditions are asked for.
        rewords: it changes texts of known languages, and of free text only some: one that changes none is refused.
        denies: its texts say that nothing is there, so that the Dice against the mask is no score.
    """

    label: str
    choose: Choose | None = None
    change: Change | None = None
    always: bool = False
    by_default: bool = False
    rewords: bool = False
    denies: bool = False

    def texts(self, texts: Sequence[str | None], seed: int, language: ReportLanguage | None = None) -> list[str]:
        """The texts of this condition, "" for none; `language` is that of the data set, if it names one."""
        own = [text or "" for text in texts]
        if self.choose is not None:
            return [text or "" for text in self.choose(own, seed)]
        change, draws = cast(Change, self.change), np.random.default_rng(seed)
        return [change(language_of(text, language), text, draws) for text in own]


def shuffled_texts(texts: list[str], seed: int) -> list[str]:
    """The text of another image each (which may by chance read the same): a seeded cycle through all rows."""
    order = np.random.default_rng(seed).permutation(len(texts))
    shifted = dict(zip(order.tolist(), np.roll(order, 1).tolist(), strict=True))
    return [texts[shifted[index]] for index in range(len(texts))]


TEXT_CONDITIONS: dict[str, TextCondition] = {
    OWN: TextCondition("its own text", lambda texts, seed: texts, always=True),
    ANOTHERS: TextCondition("another image's text", shuffled_texts, always=True),
    "none": TextCondition("no text", change=lambda *_: "", by_default=True),
    "flipped": TextCondition("its text, sides changed", change=lambda _, text, draws: flip_text(text)),
    "contradictory": TextCondition(
        "a text that says the opposite", change=lambda own, text, draws: own.contradict(text) if text else ""
    ),
    "paraphrased": TextCondition(  # of templates that no training text came from
        "its text in other words",
        change=lambda own, text, draws: own.paraphrase(text, draws, "evaluation"),
        by_default=True,
        rewords=True,
    ),
    "underspecified": TextCondition(
        "its text without location or count", change=lambda own, *text: own.underspecify(*text), rewords=True
    ),
    "overspecified": TextCondition(
        "its text and irrelevant findings", change=lambda own, *text: own.overspecify(*text), rewords=True
    ),
    "absent": TextCondition(  # even where its own text says so, unlike "contradictory"
        "a text that says that nothing is there", change=lambda own, *text: own.deny(*text), denies=True
    ),
}


def register_text_condition(
    name: str,
    choose: Choose | None = None,
    *,
    label: str,
    change: Change | None = None,
    exist_ok: bool = False,
    **fields: bool,
) -> None:
    """Adds a text condition to `TEXT_CONDITIONS`; `evaluate_model(text_modes=...)` and `--text` then take its name.

    Args:
        name: without commas, which part names on the command line.
        choose, change, label, fields: as of `TextCondition`; one of the two functions.
        exist_ok: replace a condition of this name.

    Raises `ValueError` for a name that is taken, empty or holds a comma, and for both functions or none.
    """
    if (choose is None) == (change is None):
        raise ValueError(f"Give '{name}' a function `choose` of all texts, or `change` of one.")
    if not name.strip() or "," in name or name == NO_TEXT_BRANCH:
        raise ValueError(f"'{name}' cannot name a text condition: give a word such as 'template'.")
    if name in TEXT_CONDITIONS and not exist_ok:
        raise ValueError(f"There is a text condition '{name}': choose another name, or pass exist_ok=True.")
    TEXT_CONDITIONS[name] = TextCondition(label, choose, change, **fields)


def conditions_for(text_modes: Sequence[str], uses_text: bool) -> dict[str, TextCondition]:
    """The conditions to measure: those that always are, and those asked for.

    A vision-only network has one, without text. Raises `ValueError` for names that `TEXT_CONDITIONS` lacks.
    """
    if unknown := [name for name in text_modes if name not in TEXT_CONDITIONS]:
        raise ValueError(f"Unknown text conditions {unknown}: choose from {', '.join(TEXT_CONDITIONS)}.")
    if not uses_text:
        return {NO_TEXT_BRANCH: TextCondition(NO_TEXT_BRANCH, change=lambda *_: "")}
    always = [name for name, condition in TEXT_CONDITIONS.items() if condition.always]
    return {name: TEXT_CONDITIONS[name] for name in dict.fromkeys((*always, *text_modes))}


def default_conditions(texts: Sequence[str | None], seed: int, language: ReportLanguage | None = None) -> list[str]:
    """The conditions to measure where none are named; of those that reword, the ones that change one of the texts."""
    own = [text or "" for text in texts]
    by_default = {name: condition for name, condition in TEXT_CONDITIONS.items() if condition.by_default}
    return [name for name, way in by_default.items() if not way.rewords or way.texts(own, seed, language) != own]


def chosen_texts(
    conditions: Mapping[str, TextCondition],
    texts: Sequence[str | None],
    seed: int,
    language: ReportLanguage | None = None,
) -> dict[str, list[str]]:
    """The texts of each condition, "" for none.

    Raises `ValueError` for a condition that rewords, but changes no text.
    """
    chosen = {name: way.texts(texts, seed, language) for name, way in conditions.items()}
    changed = changed_texts(conditions, texts, chosen)
    if idle := [name for name, count in changed.items() if not count]:
        raise ValueError(
            f"The text conditions {idle} change none of the {len(texts)} texts: these are in no known language, or it "
            "has no other words for them (`less_specific`, `evaluation`). Leave the conditions out, or write the texts "
            "with `tevia prompts`."
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
            "(`text_table`, `--text-table`), the one it was trained with or one that `tevia prompts` makes."
        )
