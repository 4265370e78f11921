"""Splits in which no patient, study or subject is on two sides."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from tevia_hf.data.features import SPLITS
from tevia_hf.data.listing import Listing

DEFAULT_FRACTIONS = (0.7, 0.1, 0.2)


def split_by_group(groups: Sequence[str], fractions: Sequence[float] = DEFAULT_FRACTIONS, seed: int = 0) -> list[str]:
    """The split of each example, "train", "val" or "test"; examples of one group share theirs.

    Groups are taken in an order drawn by `seed` and go, one after another, to the split that lacks most examples.

    Args:
        groups: The group of each example.
        fractions: Wanted shares of examples in train, val and test, which add up to 1; a share of 0 leaves a split out.

    Raises:
        ValueError: Fractions that are no such shares, or fewer groups than splits.
    """
    check_fractions(fractions)
    sizes = Counter(groups)
    wanted = {split: share * len(groups) for split, share in zip(SPLITS, fractions, strict=True) if share > 0}
    if len(sizes) < len(wanted):
        raise ValueError(f"{len(sizes)} groups cannot fill the splits {list(wanted)}: give a share of 0 to some.")
    order = np.random.default_rng(seed).permutation(sorted(sizes)).tolist()
    missing, chosen = dict(wanted), {}
    for group in order:
        chosen[group] = max(missing, key=lambda split: missing[split] / wanted[split])
        missing[chosen[group]] -= sizes[group]
    return [chosen[group] for group in groups]


def check_fractions(fractions: Sequence[float]) -> None:
    """Raises `ValueError` unless these are shares of train, val and test."""
    if len(fractions) != len(SPLITS) or not (min(fractions) >= 0 and abs(sum(fractions) - 1) <= 1e-6):
        raise ValueError(
            f"group_split is {tuple(fractions)}: give the shares of {', '.join(SPLITS)}, e.g. 0.7,0.1,0.2."
        )


def parse_fractions(text: str) -> tuple[float, ...]:
    """Shares from text such as "0.7,0.1,0.2". Raises `ValueError` for other text."""
    try:
        fractions = tuple(float(part) for part in text.split(","))
    except ValueError:
        fractions = ()
    if not fractions:
        raise ValueError(f"group_split is '{text}': give the shares of train, val and test, e.g. 0.7,0.1,0.2.")
    check_fractions(fractions)
    return fractions


def resplit(listing: Listing, fractions: Sequence[float], seed: int) -> Listing:
    """The same examples in splits by group, whatever splits they came in."""
    splits = split_by_group([row["group"] for row in listing.rows], fractions, seed)
    rows = [{**row, "split": split} for row, split in zip(listing.rows, splits, strict=True)]
    return replace(listing, rows=rows, problems=[problem._replace(splits=SPLITS) for problem in listing.problems])
