"""Whether a model can tell the texts of a data set apart, once its tokenizer has read them."""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

NO_TEXT = "or train without text (`use_text: false` under `config`)"
_QUOTED = 2


class TextProblems(NamedTuple):
    """Faults, with which no model can learn from the texts, and warnings of texts that say less than they seem to."""

    faults: list[str]
    warnings: list[str]


class ReadTexts(NamedTuple):
    """What a tokenizer makes of each distinct text."""

    tokens: dict[str, tuple[int, ...]]  # as the model reads them, cut and with the special ones
    uncut: dict[str, tuple[int, ...]]  # of the whole text
    unknown: dict[str, float]  # share of the text's own tokens that stand for any unknown word


def text_problems(
    texts: Iterable[str | None], tokenizer: Any = None, max_text_length: int | None = None
) -> TextProblems:
    """What keeps a model from telling the texts of a data set apart, in counts and with two examples.

    Args:
        texts: one an example; None or "" is an example without, which differs from every text.
        tokenizer: of the model; without it, words stand for tokens.
        max_text_length: tokens that the model reads; None for the tokenizer's own `model_max_length`.

    A set of one example has no problems: there is nothing to tell apart.
    """
    given = [text if text and text.strip() else "" for text in texts]
    distinct = [text for text in dict.fromkeys(given) if text]
    if len(given) < 2 or not distinct:
        return TextProblems([], [])
    if len(set(given)) == 1:
        fault = f"all {len(given)} texts are equal: {distinct[0]!r}. Write what each image shows, {NO_TEXT}"
        return TextProblems([fault], [])
    if tokenizer is None:
        return TextProblems([], _same_beginnings(distinct, max_text_length))
    limit = max_text_length or tokenizer.model_max_length
    return _problems_of_tokens(distinct, _read(distinct, tokenizer, limit), limit, lacks_some="" in given)


def check_texts_differ(texts: Iterable[str | None], tokenizer: Any) -> list[str]:
    """Warnings of `text_problems`. Raises `ValueError` for its faults: a model would learn nothing from such texts."""
    problems = text_problems(texts, tokenizer)
    if problems.faults:
        fault = problems.faults[0]
        raise ValueError(f"A model that reads learns nothing from the texts of the training split: {fault}.")
    return problems.warnings


def _same_beginnings(distinct: Sequence[str], limit: int | None) -> list[str]:
    """Texts that are equal up to the last word that a model could read: a token is a word or less."""
    groups = _groups({text: tuple(text.split()[:limit]) for text in distinct})
    if limit is None or not groups:
        return []
    count = sum(map(len, groups))
    return [
        f"{count} of {len(distinct)} different texts begin with the same {limit} words, and a model reads no more: "
        f"{_quoted(groups[0])}. Raise max_text_length ({limit}), or write first what differs"
    ]


def _read(distinct: Sequence[str], tokenizer: Any, limit: int) -> ReadTexts:
    cut = tokenizer(list(distinct), truncation=True, max_length=limit, verbose=False)["input_ids"]
    uncut = tokenizer(list(distinct), verbose=False)["input_ids"]
    names = ("cls_token_id", "sep_token_id", "bos_token_id", "eos_token_id", "pad_token_id")
    special = {getattr(tokenizer, name, None) for name in names}
    unknown = getattr(tokenizer, "unk_token_id", None)  # of some byte-level tokenizers it is also the end of a text
    shares = {}
    for text, tokens in zip(distinct, uncut, strict=True):
        own = [token for token in tokens if token not in special]
        shares[text] = sum(token == unknown for token in own) / len(own) if own else 0.0
    read, whole = (dict(zip(distinct, map(tuple, tokens), strict=True)) for tokens in (cut, uncut))
    return ReadTexts(read, whole, shares)


def _problems_of_tokens(distinct: Sequence[str], read: ReadTexts, limit: int, lacks_some: bool) -> TextProblems:
    groups = sorted(_groups(read.tokens), key=lambda group: group[0].casefold() == group[1].casefold())
    is_silent = all(share == 1 for share in read.unknown.values())
    if not lacks_some and (is_silent or len(set(read.tokens.values())) == 1):
        what = "consist of unknown tokens alone" if is_silent else "become the same tokens"
        fault = f"all {len(distinct)} different texts {what}: {_quoted(distinct)}"
        return TextProblems([f"{fault}. {_way_out(distinct, read, limit)}, {NO_TEXT}"], [])
    found = []
    if groups:
        count = sum(map(len, groups))
        found.append(
            f"{count} of {len(distinct)} different texts become the same tokens as another, so that the model cannot "
            f"tell them apart: {_quoted(groups[0])}. {_way_out(groups[0], read, limit)}"
        )
    if foreign := sorted((text for text in distinct if read.unknown[text] > 0.5), key=lambda text: -read.unknown[text]):
        found.append(
            f"{len(foreign)} of {len(distinct)} different texts consist mostly of unknown tokens: {_quoted(foreign)}. "
            "Take a text encoder (`text_model`) that knows their words"
        )
    return TextProblems([], found)


def _way_out(texts: Sequence[str], read: ReadTexts, limit: int) -> str:
    """What would make these texts differ."""
    if len({read.uncut[text] for text in texts}) > 1 and len({read.tokens[text] for text in texts}) == 1:
        return f"Raise max_text_length ({limit}), or write first what differs"
    if any(read.unknown[text] for text in texts):
        return "Take another text encoder (`text_model`), which knows their words"
    return "Write what differs in words rather than in case or marks"


def _groups(keys: dict[str, tuple]) -> list[list[str]]:
    """The texts that share a key with another, by key."""
    by_key = defaultdict(list)
    for text, key in keys.items():
        by_key[key].append(text)
    return [texts for texts in by_key.values() if len(texts) > 1]


def _quoted(texts: Sequence[str]) -> str:
    return " and ".join(map(repr, texts[:_QUOTED]))
