"""Splits in which each patient, study or subject is in one split only."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
from datasets import Dataset

from tevia_hf.data.features import SPLITS
from tevia_hf.data.listing import Listing
from tevia_hf.data.origin import with_choice
from tevia_hf.option_checks_tevia import check_count

DEFAULT_FRACTIONS = (0.7, 0.1, 0.2)
SPLITS_FILE = "_splits.csv"  # beside a trained model; the Trainer does not upload files with a leading _


def split_by_group(groups: Sequence[str], fractions: Sequence[float] = DEFAULT_FRACTIONS, seed: int = 0) -> list[str]:
    """The split of each example, "train", "val" or "test"; examples of one group are in the same split.

    Groups are shuffled by `seed` and assigned one after another to the split with the largest relative deficit.

    `fractions` are the target shares of examples in train, val and test, which must sum to 1; 0 omits a split.

    Raises `ValueError` for invalid fractions, and for fewer groups than splits.
    """
    check_fractions(fractions)
    sizes = Counter(groups)
    targets = {split: share * len(groups) for split, share in zip(SPLITS, fractions, strict=True) if share > 0}
    if len(sizes) < len(targets):
        raise ValueError(f"{len(sizes)} groups cannot fill the splits {list(targets)}: give a share of 0 to some.")
    order = np.random.default_rng(seed).permutation(sorted(sizes)).tolist()
    missing, chosen = dict(targets), {}
    for group in order:
        chosen[group] = max(missing, key=lambda split: missing[split] / targets[split])
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
        raise ValueError(
            f"group_split is '{text}': give the shares of train, val and test, e.g. 0.7,0.1,0.2."
        ) from None
    check_fractions(fractions)
    return fractions


def resplit(listing: Listing, fractions: Sequence[float], seed: int) -> Listing:
    """The same examples in new splits by group."""
    splits = split_by_group([example.group for example in listing.examples], fractions, seed)
    examples = [replace(example, split=split) for example, split in zip(listing.examples, splits, strict=True)]
    problems = [problem._replace(splits=SPLITS) for problem in listing.problems]
    return replace(listing, examples=examples, problems=problems)


def sample(dataset: Dataset, max_samples: int | None, seed: int) -> Dataset:
    """`max_samples` examples sampled without replacement; all of them if no limit is set."""
    if max_samples is not None:
        check_count("max_samples", max_samples)
    if max_samples is None or max_samples >= len(dataset):
        return dataset
    chosen = np.random.default_rng(seed).permutation(len(dataset))[:max_samples]
    return dataset.select(sorted(chosen.tolist()))


def split_table(**datasets: Dataset) -> pd.DataFrame:
    """The part of a run that each example belongs to, as a table `id, group, part`."""
    columns = ({"id": part["id"][:], "group": part["group"][:], "part": name} for name, part in datasets.items())
    return pd.concat(map(pd.DataFrame, columns), ignore_index=True)


def groups_seen_in_training(model_dir: str | Path, dataset: Dataset) -> list[str] | None:
    """The groups of a data set that a model was trained on; `None` if its folder has no `_splits.csv`."""
    if (table := read_splits(model_dir)) is None:
        return None
    return sorted(set(table.loc[table["part"] == "train", "group"]) & set(dataset["group"]))


def held_out(dataset: Dataset, model_dir: str | Path) -> Dataset:
    """The examples that were not used in a training: their ids and groups are not in its `_splits.csv`.

    Examples without a known group are compared by id alone. Data of earlier trainings of the model is not in that
    file.

    Raises `ValueError` if the folder has no such file, or if no example is left.
    """
    if (table := read_splits(model_dir)) is None:
        raise ValueError(
            f"{model_dir} has no {SPLITS_FILE}, so the examples that the model was trained and selected on are "
            "unknown: give the folder that `tevia train` wrote, or leave `held_out` out."
        )
    ids, groups = set(table["id"]), set(table["group"]) - {""}
    pairs = enumerate(zip(dataset["id"], dataset["group"], strict=True))
    left = [index for index, (name, group) in pairs if name not in ids and group not in groups]
    if not left:
        raise ValueError(
            f"All {len(dataset)} examples, or others of their groups, were used in the training of {model_dir}: "
            "evaluate on another split, or train and validate on fewer samples."
        )
    return with_choice(dataset.select(left), held_out=True, left_out=len(dataset) - len(left))


def read_splits(model_dir: str | Path) -> pd.DataFrame | None:
    """The `split_table` saved beside a trained model; `None` without one."""
    path = Path(model_dir) / SPLITS_FILE
    return pd.read_csv(path, dtype=str, keep_default_na=False) if path.is_file() else None
