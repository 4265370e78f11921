"""Text conditions: the text that each image is evaluated with, its own, another image's, none, or a changed one.

`TEXT_CONDITIONS` declares them. Evaluations, reports, model cards and the command line read this table;
`register_text_condition` adds custom ones.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple, cast

import numpy as np

from ..prompts import FreeText, ReportLanguage, flip_text, language_of

if TYPE_CHECKING:
    from datasets import Dataset

OWN, SHUFFLED = "correct", "shuffled"  # their difference is the text sensitivity
NO_TEXT_BRANCH = "no text branch"  # the only row of a vision-only network
Choose = Callable[[list[str], int], list[str]]
Change = Callable[[FreeText, str, np.random.Generator], str]


class TextCondition(NamedTuple):
    """A rule for the texts of an evaluation, for all texts at once or for each text.

    Args:
        label: description of the texts, for model cards.
        choose: `(texts, seed) -> texts`, one text per image, "" for none.
        change: `(language, text, rng) -> text`, of one image, in the language of its text.
        always: always evaluated, whichever conditions are requested.
        by_default: evaluated if no conditions are requested.
        rewords: changes texts of known languages, but free text only in some cases; an error if it changes none.
        denies: its texts deny lesions, so that the Dice against the true mask is meaningless.
    """

    label: str
    choose: Choose | None = None
    change: Change | None = None
    always: bool = False
    by_default: bool = False
    rewords: bool = False
    denies: bool = False

    def texts(self, texts: Sequence[str | None], seed: int, language: ReportLanguage | None = None) -> list[str]:
        """The texts of this condition, "" for none; `language` is that of the data set, if known."""
        own = [text or "" for text in texts]
        if self.choose is not None:
            return [text or "" for text in self.choose(own, seed)]
        change, rng = cast(Change, self.change), np.random.default_rng(seed)
        return [change(language_of(text, language), text, rng) for text in own]


def shuffled_texts(texts: list[str], seed: int) -> list[str]:
    """For each image the text of another one (which may be equal): a seeded cycle through all rows."""
    order = np.random.default_rng(seed).permutation(len(texts))
    shifted = dict(zip(order.tolist(), np.roll(order, 1).tolist(), strict=True))
    return [texts[shifted[index]] for index in range(len(texts))]


TEXT_CONDITIONS: dict[str, TextCondition] = {
    OWN: TextCondition("its own text", lambda texts, seed: texts, always=True),
    SHUFFLED: TextCondition("another image's text", shuffled_texts, always=True),
    "none": TextCondition("no text", change=lambda *_: "", by_default=True),
    "flipped": TextCondition("its text, sides changed", change=lambda _, text, rng: flip_text(text)),
    "contradictory": TextCondition(
        "a text that says the opposite", change=lambda language, text, rng: language.contradict(text) if text else ""
    ),
    "paraphrased": TextCondition(  # with templates that are not used for training
        "its text in other words",
        change=lambda language, text, rng: language.paraphrase(text, rng, "evaluation"),
        by_default=True,
        rewords=True,
    ),
    "underspecified": TextCondition(
        "its text without location or count",
        change=lambda language, text, rng: language.underspecify(text, rng),
        rewords=True,
    ),
    "overspecified": TextCondition(
        "its text and irrelevant findings",
        change=lambda language, text, rng: language.overspecify(text, rng),
        rewords=True,
    ),
    "absent": TextCondition(  # even if its own text denies lesions, unlike "contradictory"
        "a text that says that nothing is there",
        change=lambda language, text, rng: language.deny(text, rng),
        denies=True,
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
    """Adds a text condition to `TEXT_CONDITIONS`, for `evaluate_model(text_modes=...)` and `--text-modes`.

    Args:
        name: without commas, which separate names on the command line.
        choose: `(texts, seed) -> texts`, one text per image, "" for none.
        label: description of the texts, for model cards.
        change: `(language, text, rng) -> text`, for one image, in the report language of its text; instead of `choose`.
        fields: `always`, `by_default`, `rewords` and `denies` of `TextCondition`.
        exist_ok: replace a condition of this name.

    Raises `ValueError` if the name is taken, empty or has a comma, or not exactly one function is given.
    """
    if (choose is None) == (change is None):
        raise ValueError(f"Give '{name}' a function `choose` of all texts, or `change` of one.")
    if not name.strip() or "," in name or name == NO_TEXT_BRANCH:
        raise ValueError(f"'{name}' cannot name a text condition: give a word such as 'template'.")
    if name in TEXT_CONDITIONS and not exist_ok:
        raise ValueError(f"There is a text condition '{name}': choose another name, or pass exist_ok=True.")
    TEXT_CONDITIONS[name] = TextCondition(label, choose, change, **fields)


def conditions_for(text_modes: Sequence[str], uses_text: bool) -> dict[str, TextCondition]:
    """The conditions to evaluate: those that always are, and the requested ones.

    A vision-only network has one, without text. Raises `ValueError` for unknown names.
    """
    if unknown := [name for name in text_modes if name not in TEXT_CONDITIONS]:
        raise ValueError(f"Unknown text conditions {unknown}: choose from {', '.join(TEXT_CONDITIONS)}.")
    if not uses_text:
        return {NO_TEXT_BRANCH: TextCondition(NO_TEXT_BRANCH, change=lambda *_: "")}
    always = [name for name, condition in TEXT_CONDITIONS.items() if condition.always]
    return {name: TEXT_CONDITIONS[name] for name in dict.fromkeys((*always, *text_modes))}


def default_conditions(texts: Sequence[str | None], seed: int, language: ReportLanguage | None = None) -> list[str]:
    """The conditions to evaluate by default, without those that reword but change none of the texts."""
    own = [text or "" for text in texts]
    by_default = {name: condition for name, condition in TEXT_CONDITIONS.items() if condition.by_default}
    return [
        name
        for name, condition in by_default.items()
        if not condition.rewords or condition.texts(own, seed, language) != own
    ]


def chosen_texts(
    conditions: Mapping[str, TextCondition],
    texts: Sequence[str | None],
    seed: int,
    language: ReportLanguage | None = None,
) -> dict[str, list[str]]:
    """The texts of each condition, "" for none.

    Raises `ValueError` for a condition that rewords but changes no text.
    """
    chosen = {name: condition.texts(texts, seed, language) for name, condition in conditions.items()}
    changed = changed_texts(conditions, texts, chosen)
    if unchanged := [name for name, count in changed.items() if not count]:
        raise ValueError(
            f"The text conditions {unchanged} change none of the {len(texts)} texts: these are in no known language, "
            "or it has no other words for them (`less_specific`, `evaluation`). Leave the conditions out, or generate "
            "the texts with `tevia prompts`."
        )
    return chosen


def changed_texts(
    conditions: Mapping[str, TextCondition], texts: Sequence[str | None], chosen: Mapping[str, Sequence[str]]
) -> dict[str, int]:
    """The number of texts that each condition changes, for those that reword."""
    return {
        name: sum((own or "") != text for own, text in zip(texts, chosen[name], strict=True))
        for name, condition in conditions.items()
        if condition.rewords
    }


def check_texts(dataset: "Dataset", uses_text: bool) -> None:
    """Raises `ValueError` if a model with a text encoder would be evaluated without a single text."""
    if uses_text and not any(dataset["text"]):
        raise ValueError(
            "No example has a text, so that text sensitivity cannot be measured: give a table of texts "
            "(`text_table`, `--text-table`), the one it was trained with or one that `tevia prompts` makes."
        )
