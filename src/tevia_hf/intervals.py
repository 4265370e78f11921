"""Bootstrap confidence intervals of scores, and paired comparisons of runs."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from tevia_hf.extras import needed_for

with needed_for("Estimating intervals"):
    from scipy import stats

Interval = tuple[float, float]
RESAMPLES = 2000
PERMUTATIONS = 9999
LEVEL = 0.95
NUMBERS_AT_ONCE = 2_000_000  # random numbers in memory


class PairedDifference(NamedTuple):
    """Mean of `a`, of `b`, and of a - b with its 95 % interval (`None` with one group) and two-sided p-value."""

    a: float
    b: float
    difference: float
    interval: Interval | None
    p_value: float
    images: int
    groups: int


def ratio_interval(
    numerators: np.ndarray, denominators: np.ndarray, groups: Sequence[str] | None = None, seed: int = 0
) -> Interval | None:
    """Percentile bootstrap 95 % interval of sum(numerators) / sum(denominators); `None` for one group.

    Args:
        numerators: (images,), or (images, labels) for the mean of one ratio per label; the mean of a resample is over
            the labels in it, and a resample without labels scores 1.
        denominators: likewise.
        groups: the patient of each image; patients are resampled. By default each image is a group of its own.
    """
    return ratio_intervals({"": (numerators, denominators)}, groups, seed)[""]


def ratio_intervals(
    sums: Mapping[str, tuple[np.ndarray, np.ndarray]], groups: Sequence[str] | None = None, seed: int = 0
) -> dict[str, Interval | None]:
    """The `ratio_interval` of several scores of the same images, computed on the same resamples.

    Args:
        sums: name -> numerators and denominators.
    """
    columns = [np.asarray(values, float).reshape(len(values), -1) for pair in sums.values() for values in pair]
    by_group = _sums_by_group(np.hstack(columns), groups)
    if len(by_group) < 2:
        return dict.fromkeys(sums)
    ends = np.cumsum([part.shape[1] for part in columns])[:-1]
    resampled = iter(np.split(_resampled_sums(by_group, seed), ends, axis=1))
    return {key: _ratio_quantiles(next(resampled), next(resampled)) for key in sums}


def _resampled_sums(values: np.ndarray, seed: int) -> np.ndarray:
    """(resamples, columns) sums of (groups, columns) values of bootstrap resamples of the groups."""
    rng, groups = np.random.default_rng(seed), len(values)
    block, sums = max(1, NUMBERS_AT_ONCE // groups), []
    for start in range(0, RESAMPLES, block):
        rows = min(block, RESAMPLES - start)
        index = rng.integers(0, groups, (rows, groups)) + groups * np.arange(rows)[:, None]
        times = np.bincount(index.ravel(), minlength=rows * groups).reshape(rows, groups)
        sums.append(times.astype(float) @ values)
    return np.concatenate(sums)


def _ratio_quantiles(tops: np.ndarray, bottoms: np.ndarray) -> Interval | None:
    """The interval of a mean of ratios over labels, from the (resamples, labels) sums; `None` without labels."""
    if not tops.shape[1]:
        return None
    present = (bottoms > 0).sum(1)
    means = np.divide(tops, bottoms, out=np.zeros_like(tops), where=bottoms > 0).sum(1) / np.maximum(present, 1)
    low, high = np.quantile(np.where(present > 0, means, 1.0), [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return float(low), float(high)


def paired_difference(
    a: Sequence[float], b: Sequence[float], groups: Sequence[str] | None = None, seed: int = 0
) -> PairedDifference:
    """The difference between the scores of two runs, `a` - `b`, on the same images.

    Args:
        a: one value per image.
        b: those of the other run, in the same order.
        groups: the patient of each image; resampling and sign flips are by patient.

    The interval is a percentile bootstrap; the p-value is that of a permutation test that flips the signs of patients'
    differences (exact for few patients, else 9,999 permutations).

    Raises `ValueError` if the numbers of values differ, there are none, or a value is missing.
    """
    first, second = np.asarray(a, float), np.asarray(b, float)
    if len(first) != len(second) or not len(first):
        raise ValueError(f"{len(first)} and {len(second)} values: give one of each for every image.")
    if np.isnan(first).any() or np.isnan(second).any():
        raise ValueError("Some values are missing: leave these images out of both runs.")
    difference = first - second
    interval = ratio_interval(difference, np.ones_like(difference), groups, seed)
    sums = _sums_by_group(difference, groups)[:, 0]
    p_value = _sign_flip_p_value(sums, seed)
    return PairedDifference(
        float(first.mean()), float(second.mean()), float(difference.mean()), interval, p_value, len(first), len(sums)
    )


class SeededDifference(NamedTuple):
    """Mean of `a`, of `b`, and of a - b with its 95 % interval over seeds and groups (`None` with one group)."""

    a: float
    b: float
    difference: float
    interval: Interval | None
    seeds: int
    images: int
    groups: int


def paired_difference_of_seeds(
    a: ArrayLike, b: ArrayLike, groups: Sequence[str] | None = None, seed: int = 0
) -> SeededDifference:
    """The difference between two configurations that were trained with the same seeds, on the same images.

    Args:
        a: (seeds, images) values.
        b: those of the other run, in the same order of both.
        groups: the patient of each image; patients are resampled. By default each image is a group of its own.
        seed: of the resampling.

    The interval is a percentile bootstrap that resamples seeds and groups independently, so that it covers other seeds
    and other patients: S - 1 of the S seeds (S would underestimate their variance by that factor), and as many groups
    as there are. With one seed it covers patients only.

    Raises `ValueError` if the shapes differ or are not (seeds, images), or a value is missing.
    """
    first, second = np.asarray(a, float), np.asarray(b, float)
    if first.shape != second.shape or first.ndim != 2 or not first.size:
        raise ValueError(f"Values of shapes {first.shape} and {second.shape}: give (seeds, images) of both runs.")
    if np.isnan(first).any() or np.isnan(second).any():
        raise ValueError("Some values are missing: leave these images out of both runs.")
    difference = first - second
    sums = _sums_by_group(difference.T, groups)  # (groups, seeds)
    sizes = _sums_by_group(np.ones(difference.shape[1]), groups)[:, 0]
    interval = _interval_of_seeds_and_groups(sums, sizes, seed) if len(sums) > 1 else None
    seeds, images = difference.shape
    return SeededDifference(
        float(first.mean()), float(second.mean()), float(difference.mean()), interval, seeds, images, len(sums)
    )


def _interval_of_seeds_and_groups(sums: np.ndarray, sizes: np.ndarray, seed: int) -> Interval:
    """The interval of a mean over images and seeds, from (groups, seeds) sums and (groups,) numbers of images."""
    rng = np.random.default_rng(seed)
    groups, seeds = sums.shape
    seed_counts = rng.multinomial(max(seeds - 1, 1), np.full(seeds, 1 / seeds), RESAMPLES)
    means = []
    for weights in seed_counts / seed_counts.sum(1, keepdims=True):
        resample = rng.integers(0, groups, groups)
        means.append((sums[resample] @ weights).sum() / sizes[resample].sum())
    low, high = np.quantile(means, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return float(low), float(high)


def holm(p_values: Sequence[float]) -> list[float]:
    """The p-values of several tests, corrected by Holm's method so that the chance of any false positive is bounded."""
    corrected, highest = [0.0] * len(p_values), 0.0
    for rank, index in enumerate(np.argsort(p_values, kind="stable")):
        highest = max(highest, (len(p_values) - rank) * p_values[index])
        corrected[index] = min(highest, 1.0)
    return corrected


def _sign_flip_p_value(differences: np.ndarray, seed: int) -> float:
    """Two-sided p-value of the mean, exact for few differences, otherwise from random signs."""
    if len(differences) < 2:  # scipy requires two; with one patient either sign is as extreme
        return 1.0
    if 2 ** len(differences) > PERMUTATIONS:
        return _random_sign_p_value(differences, seed)
    result = stats.permutation_test(
        (differences,), lambda x, axis: x.mean(axis), permutation_type="samples", vectorized=True, batch=500,
        n_resamples=PERMUTATIONS, rng=np.random.default_rng(seed),
    )  # fmt: skip
    return float(result.pvalue)


def _random_sign_p_value(differences: np.ndarray, seed: int) -> float:
    """The p-value of `scipy.stats.permutation_test`, equal to it for a seed, in a fraction of its time and memory."""
    rng, groups = np.random.default_rng(seed), len(differences)
    observed, block, means = differences[None].mean(-1), max(1, NUMBERS_AT_ONCE // groups), []
    for start in range(0, PERMUTATIONS, block):
        bits = rng.integers(0, 2**32, (min(block, PERMUTATIONS - start), groups), dtype=np.uint32)
        means.append(np.where(bits & 1, differences, -differences).mean(-1))
    null, tolerance = np.concatenate(means), np.abs(observed) * 1e-14  # equal means may differ in the last digit
    extreme = min((null <= observed + tolerance).sum(), (null >= observed - tolerance).sum())
    return float(min(1.0, 2 * (extreme + 1) / (PERMUTATIONS + 1)))


def _sums_by_group(values: np.ndarray, groups: Sequence[str] | None) -> np.ndarray:
    """(groups, labels) sums of (images,) or (images, labels) values."""
    values = values.reshape(len(values), -1)
    if groups is None:
        return values
    numbers = np.unique(np.asarray(groups, dtype=str), return_inverse=True)[1]
    sums = np.zeros((numbers.max() + 1, values.shape[1]))
    np.add.at(sums, numbers, values)
    return sums
