import math

import numpy as np
import pytest
from scipy import stats

from wideneck.papers.paired import paired, seeds_to_see


def test_the_interval_is_that_of_a_paired_t_test():
    values = [0.1, -0.3, 0.25, 0.4, 0.05]

    found = paired(values)

    interval = stats.ttest_1samp(values, 0.0).confidence_interval(0.95)
    assert found.mean == pytest.approx(np.mean(values))
    assert found.std == pytest.approx(np.std(values, ddof=1))
    assert (found.low, found.high) == pytest.approx((interval.low, interval.high))


def test_one_seed_has_no_interval():
    found = paired([0.2])

    assert (found.mean, found.num_seeds) == (0.2, 1)
    assert found.std is found.low is found.high is found.seeds_to_see is None


def test_an_effect_is_seen_with_the_power_that_is_promised():
    """The normal approximation is slightly short of 80 % where few seeds make the t wide."""
    effect, std = 0.1, 0.2
    n = seeds_to_see(effect, std)
    assert n is not None
    noncentrality = effect / std * math.sqrt(n)
    critical = stats.t.ppf(0.975, n - 1)

    power = 1 - stats.nct.cdf(critical, n - 1, noncentrality)

    assert 0.75 < power < 0.85


def test_no_effect_is_never_seen_and_a_sure_one_needs_two():
    assert seeds_to_see(0.0, 0.1) is None
    assert seeds_to_see(1.0, 1e-6) == 2
