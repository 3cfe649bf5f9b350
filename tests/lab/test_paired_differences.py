import math

import numpy as np
import pytest
from scipy import stats

from wideneck.lab.spread import Spread, _power, over_seeds, paired, seeds_to_see, spread


def test_the_interval_is_that_of_a_paired_t_test():
    values = [0.1, -0.3, 0.25, 0.4, 0.05]

    found = paired(values)

    interval = stats.ttest_1samp(values, 0.0).confidence_interval(0.95)
    assert found.mean == pytest.approx(np.mean(values))
    assert found.std == pytest.approx(np.std(values, ddof=1))
    assert (found.low, found.high) == pytest.approx((interval.low, interval.high))


def test_the_seeds_it_takes_are_those_of_the_mean_and_the_deviation():
    values = [0.1, -0.3, 0.25, 0.4, 0.05]

    found = paired(values)

    assert found.seeds_to_see == seeds_to_see(np.mean(values), np.std(values, ddof=1))
    # 7.85 (0.262 / 0.1)^2 = 54.0 were the deviation known, and two more for Student's t.
    assert found.seeds_to_see == 56


def test_a_spread_is_a_mean_and_the_deviation_with_n_minus_1():
    assert spread([1.0, 2.0, 6.0]) == Spread(mean=3.0, std=pytest.approx(math.sqrt(14 / 2)))
    assert spread([1.0, 2.0]).std == pytest.approx(math.sqrt(0.5))
    assert spread([4.0]) == Spread(mean=4.0, std=None)


def test_a_figure_that_a_seed_lacks_has_no_mean_over_seeds():
    lacks = [{"a": 1.0, "b": 1.0, "c": None}, {"a": 3.0, "c": 1.0}]
    for runs in (lacks, lacks[::-1]):
        found = over_seeds(runs)
        assert list(found) == ["a"]
        assert found["a"].mean == 2.0


def test_one_seed_has_no_interval():
    found = paired([0.2])

    assert (found.mean, found.num_seeds) == (0.2, 1)
    assert found.std is found.low is found.high is found.seeds_to_see is None


def power(size, n):
    """Over all deviations that n differences may have, of the mean being far enough from 0."""
    deviation = stats.chi(n - 1, scale=(n - 1) ** -0.5)
    some = np.linspace(deviation.ppf(1e-10), deviation.isf(1e-10), 20_001)
    needed = stats.t.ppf(0.975, n - 1) * some
    mean = stats.norm(size * math.sqrt(n))
    return np.trapezoid(deviation.pdf(some) * (mean.sf(needed) + mean.cdf(-needed)), some)


@pytest.mark.parametrize("size", [0.02, 0.1, 0.5, 1.0, 2.0, 4.0, 7.0, 20.0])
def test_an_effect_is_seen_with_the_power_that_is_promised_and_no_seed_more(size):
    n = seeds_to_see(-size * 0.2, 0.2)
    assert n is not None
    assert power(size, n) >= 0.8
    assert n == 2 or power(size, n - 1) < 0.8


@pytest.mark.parametrize("n", [3, 4, 9])
@pytest.mark.parametrize("size", [0.3, 1.0, 2.5])
def test_the_power_is_that_of_a_paired_t_test(size, n):
    assert _power(size, n) == pytest.approx(power(size, n), abs=1e-6)


def test_no_effect_is_never_seen_and_a_sure_one_needs_two():
    assert seeds_to_see(0.0, 0.1) is None
    assert seeds_to_see(1.0, 1e-6) == 2
    assert seeds_to_see(1.0, 0.0) == 2
