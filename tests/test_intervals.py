"""Bootstrap intervals and paired comparison, against figures known in advance."""

import numpy as np
import pytest
from scipy import stats

from tevia_hf.intervals import paired_difference, ratio_interval


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
    found = paired_difference([0.9, 0.8, 0.7, 0.9], [0.5, 0.6, 0.4, 0.8])
    assert (found.a, found.b, found.difference) == pytest.approx((0.825, 0.575, 0.25))
    assert found.interval[0] > 0
    assert (found.images, found.groups) == (4, 4)


def test_few_pairs_have_the_exact_p_value():
    # all of four differences are positive: 1 of 16 signs is as high, 1 as low
    assert paired_difference([1, 2, 3, 4], [0, 0, 0, 0]).p_value == pytest.approx(2 / 16)


def test_equal_runs_differ_in_nothing():
    found = paired_difference([0.5, 0.7, 0.9], [0.5, 0.7, 0.9])
    assert (found.difference, found.p_value, found.interval) == (0.0, 1.0, (0.0, 0.0))


def test_images_of_one_patient_are_one_piece_of_evidence():
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
