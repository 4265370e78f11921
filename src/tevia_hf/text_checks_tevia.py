"""Warnings about texts: of unfamiliar words, and truncated."""

import re
import warnings
from collections.abc import Collection, Mapping, Sequence

FUNCTION_WORDS = frozenset(  # in any text, therefore no evidence that a text is familiar
    "a an and are as at be been by for from has have here i in into is it its my no not of on or our that the their "
    "there these this those to was we were which with without you your".split()
)
MAX_QUOTED = 3


def words_of(text: str) -> list[str]:
    """The words of a text in lower case, without digits and punctuation."""
    return re.findall(r"[^\W\d_]+", text.lower())


def unfamiliar_words(text: str, known_words: Collection[str] | None) -> list[str]:
    """The words of a text that are not among the known ones, if they are more than half of its words; else none."""
    if known_words is None:
        return []
    words, known = [word for word in words_of(text) if word not in FUNCTION_WORDS], set(known_words)
    unknown = [word for word in words if word not in known]
    return list(dict.fromkeys(unknown)) if 2 * len(unknown) > len(words) else []


def warn_of_unfamiliar(texts: Sequence[str], known_words: Collection[str] | None) -> None:
    """Issues one warning for all texts, since all texts of a data set may be unfamiliar."""
    unfamiliar = {text: words for text in dict.fromkeys(texts) if (words := unfamiliar_words(text, known_words))}
    if unfamiliar:
        quoted = [f"{text!r} ({', '.join(words)})" for text, words in [*unfamiliar.items()][:MAX_QUOTED]]
        more = f" and {len(unfamiliar) - MAX_QUOTED} more" if len(unfamiliar) > MAX_QUOTED else ""
        warnings.warn(
            f"Most words of a text were in no text that the model was trained on, so its mask may mean "
            f"little: {'; '.join(quoted)}{more}. Write as the training texts do.",
            UserWarning,
            stacklevel=4,
        )


def warn_of_truncation(counts: Mapping[str, int], limit: int, longest: int) -> None:
    """Issues a warning for each text, of this number of tokens, that is longer than the limit.

    Args:
        counts: text -> its number of tokens.
        limit: of this call.
        longest: limit of the tokenizer.
    """
    advice = "tokenizer.model_max_length up to the limit of the text encoder"
    if limit < longest:
        advice = f"`max_length`, to {longest} at most"
    for text, count in counts.items():
        if count > limit:
            warnings.warn(
                f"Text of {count} tokens truncated to the limit of {limit}: {text!r}. Shorten it, or raise {advice}.",
                UserWarning,
                stacklevel=4,
            )


__all__ = ["unfamiliar_words", "warn_of_truncation", "warn_of_unfamiliar", "words_of"]
