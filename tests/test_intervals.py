"""Bootstrap intervals and paired comparisons, against known values."""

import numpy as np
import pytest
from scipy import stats

from tevia_hf.intervals import holm, paired_difference, paired_difference_of_seeds, ratio_interval, ratio_intervals


def test_the_interval_of_a_mean_is_that_of_the_normal_law():
    values = np.random.default_rng(0).normal(0.7, 0.1, 400)
    expected = stats.norm.interval(0.95, values.mean(), values.std() / 20)
    assert ratio_interval(values, np.ones(400)) == pytest.approx(expected, abs=0.002)


def test_equal_seeds_give_equal_intervals_and_others_do_not():
    values = np.random.default_rng(0).random(50)
    first, again, other = (ratio_interval(values, np.ones(50), seed=seed) for seed in (1, 1, 2))
    assert first == again != other


def test_a_constant_has_an_interval_of_no_width():
    assert ratio_interval(np.full(9, 0.5), np.ones(9)) == (0.5, 0.5)


def test_one_image_has_no_interval():
    assert ratio_interval(np.array([0.5]), np.ones(1)) is None


def test_nothing_to_count_scores_1():
    assert ratio_interval(np.zeros(4), np.zeros(4)) == (1.0, 1.0)


def test_a_difference_is_that_of_the_means_and_its_sign_that_of_the_first():
    result = paired_difference([0.9, 0.8, 0.7, 0.9], [0.5, 0.6, 0.4, 0.8])
    assert (result.a, result.b, result.difference) == pytest.approx((0.825, 0.575, 0.25))
    assert result.interval[0] > 0
    assert (result.images, result.groups) == (4, 4)


def test_few_pairs_have_the_exact_p_value():
    # all of four differences are positive: 1 of 16 signs is as high, 1 as low
    assert paired_difference([1, 2, 3, 4], [0, 0, 0, 0]).p_value == pytest.approx(2 / 16)


def test_equal_runs_differ_in_nothing():
    result = paired_difference([0.5, 0.7, 0.9], [0.5, 0.7, 0.9])
    assert (result.difference, result.p_value, result.interval) == (0.0, 1.0, (0.0, 0.0))


def test_images_of_one_patient_count_as_one_observation():
    a, b = np.full(8, 0.9), np.full(8, 0.5)
    assert paired_difference(a, b).p_value == pytest.approx(2 / 256)
    assert paired_difference(a, b, groups=list("aabbccdd")).p_value == pytest.approx(2 / 16)
    single = paired_difference(a, b, groups=["a"] * 8)
    assert (single.p_value, single.interval, single.groups) == (1.0, None, 1)


def test_noise_is_no_difference():
    rng = np.random.default_rng(0)
    assert paired_difference(rng.random(200), rng.random(200)).p_value > 0.05


@pytest.mark.parametrize(
    ("a", "b", "message"), [([1], [1, 2], "1 and 2 values"), ([], [], "0 and 0"), ([1], [np.nan], "missing")]
)
def test_values_that_make_no_pairs_are_refused(a, b, message):
    with pytest.raises(ValueError, match=message):
        paired_difference(a, b)


# Seeds and images


def width(result) -> float:
    return result.interval[1] - result.interval[0]


def runs(seeds=20, images=300, of_seeds=0.0, of_images=0.0, gain=0.05, shared=0.0):
    """Dice-like values of two configurations: deviations of their difference, and a common one per seed."""
    rng = np.random.default_rng(0)
    noise = of_seeds * rng.standard_normal((seeds, 1)) + of_images * rng.standard_normal(images)
    both = 0.5 + shared * rng.standard_normal((seeds, 1)) + 0.1 * rng.standard_normal(images)
    return both + gain + noise, both, gain + noise


def test_an_interval_over_seeds_and_images_is_that_of_both_variances():
    a, b, difference = runs(of_seeds=0.02, of_images=0.1)
    result = paired_difference_of_seeds(a, b)
    by_seed, by_image = difference.mean(1), difference.mean(0)
    deviation = np.sqrt(by_seed.var(ddof=1) / 20 + by_image.var(ddof=1) / 300)
    expected = stats.norm.interval(0.95, difference.mean(), deviation)
    assert result.interval == pytest.approx(expected, abs=0.1 * deviation)
    assert result.difference == pytest.approx(difference.mean()) == pytest.approx(result.a - result.b)
    assert (result.seeds, result.images, result.groups) == (20, 300, 300)


def test_the_interval_covers_the_true_difference_as_often_as_it_says():
    rng, held = np.random.default_rng(1), 0
    for _ in range(200):
        a = 0.05 + 0.01 * rng.standard_normal((8, 1)) + 0.1 * rng.standard_normal(100)
        low, high = paired_difference_of_seeds(a, np.zeros_like(a)).interval
        held += low <= 0.05 <= high
    assert 0.90 <= held / 200 <= 0.99


def test_seeds_that_differ_make_the_interval_wider_than_images_alone():
    a, b, _ = runs(seeds=3, of_seeds=0.05, of_images=0.1)
    over_both = paired_difference_of_seeds(a, b)
    images_alone = paired_difference(a.mean(0), b.mean(0))
    assert width(over_both) > 1.5 * width(images_alone)
    a, b, _ = runs(seeds=3, of_images=0.1)
    assert width(paired_difference_of_seeds(a, b)) == pytest.approx(
        width(paired_difference(a.mean(0), b.mean(0))), rel=0.1
    )


@pytest.mark.parametrize("seeds", [2, 3, 5])
def test_the_variance_of_few_seeds_is_not_underestimated(seeds):
    a = np.random.default_rng(0).standard_normal((seeds, 1)) + np.zeros((seeds, 4))
    weights = np.random.default_rng(0).multinomial(seeds - 1, np.full(seeds, 1 / seeds), 20000) / (seeds - 1)
    assert (weights @ a[:, 0]).std() == pytest.approx(a[:, 0].std(ddof=1) / np.sqrt(seeds), rel=0.03)
    low, high = paired_difference_of_seeds(a, np.zeros_like(a)).interval
    assert (low, high) == pytest.approx(tuple(np.quantile(weights @ a[:, 0], [0.025, 0.975])), abs=0.1)


def test_what_both_runs_share_by_seed_and_image_cancels():
    a, b, _ = runs(shared=0.2)
    assert width(paired_difference_of_seeds(a, b)) == pytest.approx(0, abs=1e-9)
    assert width(paired_difference_of_seeds(a[::-1], b)) > 0.05  # seed paired with another seed
    assert width(paired_difference_of_seeds(a[:, ::-1], b)) > 0.01  # image paired with another image


def test_images_of_one_patient_are_resampled_together():
    a, b, _ = runs(seeds=3, images=40, of_images=0.1)
    a, b = np.repeat(a, 5, axis=1), np.repeat(b, 5, axis=1)
    groups = [str(index // 5) for index in range(200)]
    by_patient = paired_difference_of_seeds(a, b, groups)
    assert width(by_patient) == pytest.approx(np.sqrt(5) * width(paired_difference_of_seeds(a, b)), rel=0.1)
    assert (by_patient.images, by_patient.groups) == (200, 40)


def test_resampling_of_seeded_differences_depends_on_the_seed():
    a, b, _ = runs(seeds=3, images=20, of_seeds=0.1, of_images=0.1)
    first, again, other = (paired_difference_of_seeds(a, b, seed=seed).interval for seed in (1, 1, 2))
    assert first == again != other


def test_one_patient_has_no_interval_and_one_seed_that_of_the_images():
    a, b, _ = runs(seeds=1, images=200, of_images=0.1)
    assert paired_difference_of_seeds(a, b, ["a"] * 200).interval is None
    assert width(paired_difference_of_seeds(a, b)) == pytest.approx(width(paired_difference(a[0], b[0])), rel=0.1)


@pytest.mark.parametrize(
    ("a", "b", "message"),
    [
        (np.ones((2, 3)), np.ones((3, 3)), r"shapes \(2, 3\) and \(3, 3\)"),
        (np.ones(3), np.ones(3), "give \\(seeds, images\\)"),
        (np.full((1, 2), np.nan), np.ones((1, 2)), "missing"),
    ],
)
def test_values_that_make_no_pairs_of_seeds_are_refused(a, b, message):
    with pytest.raises(ValueError, match=message):
        paired_difference_of_seeds(a, b)


def scipy_interval(values, seed):
    """The interval of the mean by scipy itself."""
    result = stats.bootstrap(
        (values,), lambda sample, axis: sample.mean(axis), n_resamples=2000, batch=100, method="percentile",
        rng=np.random.default_rng(seed), vectorized=True,
    )  # fmt: skip
    return tuple(result.confidence_interval)


@pytest.mark.parametrize("block", [1, 700, 10**7])
def test_intervals_are_those_of_scipy_however_much_is_in_memory(block, monkeypatch):
    monkeypatch.setattr("tevia_hf.intervals.NUMBERS_AT_ONCE", block)
    values = np.random.default_rng(0).random(130)
    assert ratio_interval(values, np.ones(130), seed=3) == pytest.approx(scipy_interval(values, 3), abs=1e-12)


def test_scores_of_the_same_images_share_their_resamples():
    rng = np.random.default_rng(0)
    sums = {"mean": (rng.random(40), np.ones(40)), "ratio": (rng.random((40, 2)), rng.random((40, 2)) + 1)}
    groups = [str(index // 2) for index in range(40)]
    together = ratio_intervals(sums, groups, seed=1)
    assert together == {key: pytest.approx(ratio_interval(*pair, groups, 1), abs=1e-12) for key, pair in sums.items()}
    assert ratio_intervals(sums, ["p"] * 40) == {"mean": None, "ratio": None}


@pytest.mark.parametrize("ties", [False, True])
@pytest.mark.parametrize("block", [1, 10**6])
def test_p_values_of_many_pairs_are_those_of_scipy(ties, block, monkeypatch):
    monkeypatch.setattr("tevia_hf.intervals.NUMBERS_AT_ONCE", block)
    values = np.random.default_rng(0).normal(0.2, 1, 60)
    if ties:
        values[6:] = 0  # many sign flips give the same mean
    expected = stats.permutation_test(
        (values,), lambda x, axis: x.mean(axis), permutation_type="samples", vectorized=True, batch=500,
        n_resamples=9999, rng=np.random.default_rng(5),
    ).pvalue  # fmt: skip
    assert paired_difference(values, np.zeros(60), seed=5).p_value == pytest.approx(expected, abs=1e-12)


def test_holm_corrects_the_smallest_p_value_most_and_keeps_the_order():
    assert holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert holm([0.9, 0.5]) == [1.0, 1.0] and holm([0.2]) == [0.2] and holm([]) == []
