"""Checks whether a model can distinguish the texts of a data set after tokenisation."""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

NO_TEXT = "or train without text (`use_text: false` under `config`)"
_MAX_QUOTED = 2


class TextProblems(NamedTuple):
    """Faults, which prevent learning from the texts, and warnings about texts that carry little information."""

    faults: list[str]
    warnings: list[str]


class TokenizedTexts(NamedTuple):
    """The tokens of each distinct text."""

    tokens: dict[str, tuple[int, ...]]  # as the model reads them, truncated and with special tokens
    untruncated: dict[str, tuple[int, ...]]  # of the whole text
    unknown: dict[str, float]  # share of unknown tokens, without special ones


def text_problems(
    texts: Iterable[str | None], tokenizer: Any = None, max_text_length: int | None = None
) -> TextProblems:
    """The reasons why a model cannot distinguish the texts of a data set, with counts and two examples.

    Args:
        texts: one per example; None or "" is an example without text, which differs from every text.
        tokenizer: of the model; without it, words are used instead of tokens.
        max_text_length: of the model, in tokens; None for the tokenizer's `model_max_length`.

    A set of one example has no problems, as there is nothing to distinguish.
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
    tokenized = _tokenize(distinct, tokenizer, limit)
    return _problems_of_tokens(distinct, tokenized, limit, has_missing="" in given)


def check_texts_differ(texts: Iterable[str | None], tokenizer: Any) -> list[str]:
    """The warnings of `text_problems`. Raises `ValueError` for faults, with which the texts are useless to a model."""
    problems = text_problems(texts, tokenizer)
    if problems.faults:
        fault = problems.faults[0]
        raise ValueError(f"A model can learn nothing from the texts of the training split: {fault}.")
    return problems.warnings


def _same_beginnings(distinct: Sequence[str], limit: int | None) -> list[str]:
    """Warns about texts that are equal up to the last word that a model can read, as a token is at most a word."""
    groups = _groups({text: tuple(text.split()[:limit]) for text in distinct})
    if limit is None or not groups:
        return []
    count = sum(map(len, groups))
    return [
        f"{count} of {len(distinct)} different texts begin with the same {limit} words, and a model reads no more: "
        f"{_quoted(groups[0])}. Raise max_text_length ({limit}), or write first what differs"
    ]


def _tokenize(distinct: Sequence[str], tokenizer: Any, limit: int) -> TokenizedTexts:
    truncated = tokenizer(list(distinct), truncation=True, max_length=limit, verbose=False)["input_ids"]
    untruncated = tokenizer(list(distinct), verbose=False)["input_ids"]
    names = ("cls_token_id", "sep_token_id", "bos_token_id", "eos_token_id", "pad_token_id")
    special = {getattr(tokenizer, name, None) for name in names}
    unknown = getattr(tokenizer, "unk_token_id", None)  # for some byte-level tokenizers also the end of a text
    shares = {}
    for text, ids in zip(distinct, untruncated, strict=True):
        own = [token for token in ids if token not in special]
        shares[text] = sum(token == unknown for token in own) / len(own) if own else 0.0
    tokens, whole = (dict(zip(distinct, map(tuple, ids), strict=True)) for ids in (truncated, untruncated))
    return TokenizedTexts(tokens, whole, shares)


def _problems_of_tokens(
    distinct: Sequence[str], tokenized: TokenizedTexts, limit: int, has_missing: bool
) -> TextProblems:
    groups = sorted(_groups(tokenized.tokens), key=lambda group: group[0].casefold() == group[1].casefold())
    all_unknown = all(share == 1 for share in tokenized.unknown.values())
    if not has_missing and (all_unknown or len(set(tokenized.tokens.values())) == 1):
        cause = "consist of unknown tokens alone" if all_unknown else "become the same tokens"
        fault = f"all {len(distinct)} different texts {cause}: {_quoted(distinct)}"
        return TextProblems([f"{fault}. {_advice(distinct, tokenized, limit)}, {NO_TEXT}"], [])
    warnings = []
    if groups:
        count = sum(map(len, groups))
        warnings.append(
            f"{count} of {len(distinct)} different texts become the same tokens as another, so that the model cannot "
            f"tell them apart: {_quoted(groups[0])}. {_advice(groups[0], tokenized, limit)}"
        )
    mostly_unknown = {text: share for text, share in tokenized.unknown.items() if share > 0.5}
    if foreign := sorted(mostly_unknown, key=lambda text: -mostly_unknown[text]):
        warnings.append(
            f"{len(foreign)} of {len(distinct)} different texts consist mostly of unknown tokens: {_quoted(foreign)}. "
            "Take a text encoder (`text_model`) that knows their words"
        )
    return TextProblems([], warnings)


def _advice(texts: Sequence[str], tokenized: TokenizedTexts, limit: int) -> str:
    """How to make these texts differ."""
    differ_in_full = len({tokenized.untruncated[text] for text in texts}) > 1
    if differ_in_full and len({tokenized.tokens[text] for text in texts}) == 1:
        return f"Raise max_text_length ({limit}), or write first what differs"
    if any(tokenized.unknown[text] for text in texts):
        return "Take another text encoder (`text_model`), which knows their words"
    return "Write what differs in words rather than in case or marks"


def _groups(keys: dict[str, tuple]) -> list[list[str]]:
    """The groups of texts with equal keys, of two or more."""
    by_key = defaultdict(list)
    for text, key in keys.items():
        by_key[key].append(text)
    return [texts for texts in by_key.values() if len(texts) > 1]


def _quoted(texts: Sequence[str]) -> str:
    return " and ".join(map(repr, texts[:_MAX_QUOTED]))
