"""Faults of examples, equal ones in one line with their number."""

import re
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from tevia_hf.labels_tevia import ForeignValuesError, is_lesion

SHOWN_ALONE = 3  # this many equal faults are shown as they are
SHOWN_NAMES = 10
SHOWN_PROBLEMS = 10
NAME = re.compile(r"'[^']*'")


class Fault(NamedTuple):
    """Why an example cannot be used; `part` of a run, such as "train"."""

    id: str
    part: str
    reason: str


class Cause(NamedTuple):
    """What equal faults have in common.

    Args:
        reason: the whole message.
        kind: equal for equal faults.
        name: of the example or of its mask file.
        values: the distinct values of the mask, if some are not labels.
    """

    reason: str
    kind: str
    name: str
    values: np.ndarray | None = None


def cause_of(example: Mapping[str, Any], paths: Sequence[Path], error: Exception) -> Cause:
    """The cause of an error in reading an example with these files."""
    name, reason, inner = str(example.get("id")), str(error), error.__cause__
    if isinstance(inner, ForeignValuesError):
        file = next((path.name for path in paths if str(inner).startswith(str(path))), name)
        return Cause(reason, "classes" if inner.is_class_like else inner.advice, file, inner.values)
    kind = reason.replace(f"'{name}'", "''")
    for path in paths:
        kind = kind.replace(str(path), "").replace(path.name, "")
    return Cause(reason, kind, name)


def messages_of(causes: Sequence[Cause], num_labels: int | None, labels: Sequence[float] = ()) -> list[str]:
    """One message for each kind of fault; up to three equal ones are listed, unless they concern the values of masks.

    Args:
        num_labels: of the model.
        labels: those in the other masks, so that the advice suits all masks.
    """
    kinds: dict[str, list[Cause]] = {}
    for cause in causes:
        kinds.setdefault(cause.kind, []).append(cause)
    messages = []
    for kind, equal in kinds.items():
        masks = [(cause.name, cause.values) for cause in equal if cause.values is not None]
        if len(masks) > 1:
            every = np.unique(
                np.concatenate([values for _, values in masks] + [[*labels] if kind == "classes" else []])
            )
            messages.append(str(ForeignValuesError(masks, every, num_labels)))
        else:
            messages += shortened([cause.reason for cause in equal], [f"'{cause.name}'" for cause in equal])
    return messages


def grouped(messages: Sequence[str]) -> list[str]:
    """The messages; more than three that differ only in the name that they quote first become one."""
    kinds: dict[str, list[str]] = {}
    for message in messages:
        kinds.setdefault(NAME.sub("''", message, count=1), []).append(message)
    names = [["".join(NAME.findall(message)[:1]) for message in equal] for equal in kinds.values()]
    groups = map(partial(shortened, most=SHOWN_NAMES), kinds.values(), names)
    return [message for group in groups for message in group]


def shortened(messages: Sequence[str], names: Sequence[str], most: int | None = None) -> list[str]:
    """Equal messages; if there are more than three, the first one with the names of the others, at most so many."""
    if len(messages) <= SHOWN_ALONE or not all(names):
        return list(messages)
    others = ", ".join(names[1:][:most]) + (", ..." if most is not None and len(names) > most + 1 else "")
    return [f"{messages[0].rstrip('.')} (and {len(messages) - 1} more like this: {others})"]


def labels_in(values: Sequence[Sequence[float]]) -> set[float]:
    """The lesion labels among the distinct values of masks."""
    return {float(value) for one in values for value in one if is_lesion(value)}


def raise_problems(
    source: str, problems: Sequence[str], advice: str, shown: int = SHOWN_PROBLEMS, count: int | None = None
) -> None:
    """Raises one `ValueError` with the number of problems, the first ones and advice; does nothing without problems.

    Equal problems are listed once, with their number. `count`: of all problems, if `problems` lists equal ones once.
    """
    if not problems:
        return
    count, problems = count or len(problems), grouped(problems)
    more = [f"... and {len(problems) - shown} more"] if len(problems) > shown else []
    listed = "\n  ".join([*problems[:shown], *more])
    raise ValueError(f"{source}: {count} problem{'s' if count > 1 else ''}:\n  {listed}\n{advice}")


def some_of(names: Sequence[str], most: int = 3) -> str:
    """The first names, and how many more there are."""
    rest = len(names) - most
    return ", ".join(names[:most]) + (f" and {rest} more" if rest > 0 else "")
