"""The interval of a mean over unequal groups against eigenvalues, Student's t and simulation."""

import math

import numpy as np
import pytest
from scipy.integrate import quad
from scipy.special import stdtrit

from wideneck.audits.unequal_groups import LEAST, POWERS, effective_number, half_width, rule

SHAPES = {
    "as an evaluation": [259, 2571, 1186, 80],
    "half in one": [5000, *[500] * 10],
    "half in one of 101": [10_000, *[100] * 100],
    "long ones": [4000, 2000, 1000, 500, 500],
    "two large": [3000, 3000, *[90] * 20],
    "two and a word": [700, 650, 1],
    "books and notes": [90e3, 120e3, 70e3, 150e3, 100e3, *[800.0] * 50],
}

DAMPED = {
    "half in one of 101": -0.15,
    "two large": 0.5,
}
"""Where plain weights leave the cases too far apart; 0 elsewhere."""

TOO_UNEQUAL = {
    "thirty windows beside three": [15_360, 512, 512, 512],
    "one": [10],
    "one and empty ones": [10, 0, 0],
    "half in one of 301": [300, *[1] * 300],
    "four fifths in one of 31": [120, *[1] * 30],
}


@pytest.mark.parametrize("num_groups", [2, 3, 4, 10, 100, 1000])
def test_groups_of_one_size_have_the_factor_of_student_s_t(num_groups):
    factor, _ = rule((512.0,) * num_groups)
    half = half_width(np.arange(num_groups) * 512.0, np.full(num_groups, 512.0))
    student = stdtrit(num_groups - 1, 0.975)
    assert factor == pytest.approx(student, rel=1e-8)
    assert half == pytest.approx(
        student * np.arange(num_groups).std(ddof=1) / math.sqrt(num_groups), rel=1e-8
    )


def test_groups_of_one_size_have_the_t_interval_of_their_means():
    means = np.array([1.0, 2.0, 4.0, 5.0])
    half = stdtrit(3, 0.975) * means.std(ddof=1) / 2
    assert half_width(7 * means, np.full(4, 7.0)) == pytest.approx(half)


def variance_weights(sizes, damping=0.0):
    """Of the squared residuals, by the residuals' covariance where all means have variance 1."""
    w = np.array(sizes) / np.sum(sizes)
    residual = np.eye(len(w)) - w  # row g: m_g - M
    damped = (w / w.max()) ** damping
    return [damped[g] * w[g] ** 2 / (residual[g] @ residual[g]) for g in range(len(w))]


def exceeding(rule, sizes, variances):
    """P(|M| > t sqrt(V)) by all eigenvalues of M^2 - t^2 V, one after the other."""
    t, damping = rule
    w = np.array(sizes) / np.sum(sizes)
    residual = np.eye(len(w)) - w
    form = np.outer(w, w) - t**2 * residual.T @ np.diag(variance_weights(sizes, damping)) @ residual
    scale = np.sqrt(variances)
    eigenvalues = np.linalg.eigvalsh(form * scale * scale[:, None])
    against = np.maximum(-eigenvalues[:-1] / eigenvalues[-1], 0)

    def inside(angle):
        return math.exp(-0.5 * np.log1p(against / math.sin(angle) ** 2).sum())

    return 2 / math.pi * quad(inside, 0, math.pi / 2, epsabs=1e-9, limit=200)[0]


@pytest.mark.parametrize("shape", SHAPES)
def test_the_worst_case_misses_as_much_more_than_once_in_twenty_as_the_best_less(shape):
    sizes = np.array(SHAPES[shape], dtype=float)
    found = rule(tuple(sizes))
    assert found[1] == DAMPED.get(shape, 0)
    each = [exceeding(found, sizes, sizes**-power) for power in POWERS]
    assert max(each) + min(each) == pytest.approx(0.1, abs=1e-6)
    assert 0.03 <= min(each) <= max(each) <= 0.07


@pytest.mark.parametrize("shape", DAMPED)
def test_weights_are_damped_only_where_plain_ones_leave_more_than_the_slack(shape):
    """At any factor of plain weights, some case is outside of 3 to 7 %."""
    sizes = np.array(SHAPES[shape], dtype=float)
    for factor in np.geomspace(1, 20, 40):
        each = [exceeding((factor, 0.0), sizes, sizes**-power) for power in POWERS]
        assert min(each) < 0.03 or max(each) > 0.07


@pytest.mark.parametrize("shape", SHAPES)
def test_between_the_cases_nothing_is_worse(shape):
    """A part that differs between groups and one that falls as 1 / size, in any proportion."""
    sizes = np.array(SHAPES[shape], dtype=float)
    found = rule(tuple(sizes))
    for part in np.geomspace(sizes.min() / 10, sizes.max() * 10, 12):
        assert 0.029 <= exceeding(found, sizes, 1 + part / sizes) <= 0.071


@pytest.mark.parametrize("shape", SHAPES)
def test_the_variance_is_that_of_the_mean_where_all_groups_vary_alike(shape):
    """Half widths of group means, squared, against the variance of their weighted mean."""
    sizes = np.array(SHAPES[shape], dtype=float)
    means = np.random.default_rng(0).normal(2.0, 3.0, (200, len(sizes)))
    w = sizes / sizes.sum()
    factor, damping = rule(tuple(sizes))
    residuals = means - (means @ w)[:, None]
    slow = (np.array(variance_weights(sizes, damping)) * residuals**2).sum(1)
    np.testing.assert_allclose(half_width(means * sizes, sizes) ** 2, factor**2 * slow, rtol=1e-9)
    if damping == 0:
        # A quadratic form's expectation is the sum of its values at one mean of 1, the others 0.
        expected = (half_width(np.eye(len(sizes)) * sizes, sizes) ** 2).sum()
        assert expected == pytest.approx(factor**2 * (w**2).sum(), rel=1e-9)


@pytest.mark.parametrize("kind", ["between", "within", "both", "heavy tails"])
@pytest.mark.parametrize("shape", SHAPES)
def test_intervals_cover_as_often_as_they_say_whatever_varies(shape, kind):
    """Between documents, as 1 / length within, or both: Student's t covers 0.6 to 0.93."""
    sizes = np.array(SHAPES[shape], dtype=float)
    within = np.median(sizes) / sizes
    rng = np.random.default_rng(1)
    if kind == "heavy tails":
        draws = rng.standard_t(3, (20_000, len(sizes)))
    else:
        variances = {"between": 1, "within": within, "both": 0.2 + 0.8 * within}
        draws = rng.normal(0, np.sqrt(variances[kind]), (20_000, len(sizes)))
    hits = abs(draws @ sizes / sizes.sum()) <= half_width(draws * sizes, sizes)
    assert 0.93 - 0.004 <= hits.mean() <= 0.97 + 0.004  # 0.004: twice the standard error


def test_the_effective_number_is_that_of_equal_groups_with_a_mean_as_sure():
    assert effective_number(np.full(7, 30.0)) == pytest.approx(7)
    assert effective_number(np.array([5.0, 0.0, 5.0])) == pytest.approx(2)
    sizes = SHAPES["as an evaluation"]
    share = [size / sum(sizes) for size in sizes]
    assert effective_number(np.array(sizes, dtype=float)) == pytest.approx(
        1 / sum(part * part for part in share)
    )


@pytest.mark.parametrize("shape", TOO_UNEQUAL)
def test_groups_too_unequal_have_no_interval(shape):
    """Thirty windows beside three of one: Student's t covers 0.23 where it says 0.95."""
    sizes = np.array(TOO_UNEQUAL[shape], dtype=float)
    assert half_width(np.arange(len(sizes)) * sizes, sizes) is None


def test_below_three_halves_of_a_group_there_is_no_interval():
    """Two groups are worth 1.5 where one has 2 + sqrt(3) times the other."""
    for ratio, has in ((2 + math.sqrt(3) - 1e-3, True), (2 + math.sqrt(3) + 1e-3, False)):
        sizes = np.array([ratio, 1.0])
        assert (effective_number(sizes) >= LEAST) is has
        assert (half_width(sizes * [1, 2], sizes) is not None) is has
    assert half_width(np.array([300.0, 0.0]), np.array([300.0, 100.0])) is not None


def test_a_large_group_among_small_ones_loses_its_interval_where_no_factor_fits():
    """One with half of all: the more others, the further apart are the cases."""
    fits = [rule((float(num), *[1.0] * num)) is not None for num in (3, 30, 100, 300)]
    assert fits == sorted(fits, reverse=True)
    assert fits[0]
    assert not fits[-1]


def test_rows_of_sums_have_the_half_width_of_each():
    sizes = np.array([40.0, 300, 0, 120, 90])
    sums = np.random.default_rng(2).normal(size=(3, 2, 5)) * sizes
    found = half_width(sums, sizes)
    assert found.shape == (3, 2)
    for at in np.ndindex(3, 2):
        assert half_width(sums[at], sizes) == pytest.approx(found[at])


def test_neither_order_scale_nor_groups_without_values_matter():
    sizes, means = np.array([40.0, 300, 120, 90]), np.array([0.3, -1.0, 0.7, 2.0])
    found = half_width(means * sizes, sizes)
    order = [2, 0, 3, 1]
    assert half_width((means * sizes)[order], sizes[order]) == pytest.approx(found)
    assert half_width(7 * means * sizes, 7 * sizes) == pytest.approx(found)
    assert half_width((means + 50) * sizes, sizes) == pytest.approx(found)
    assert half_width(-3 * means * sizes, sizes) == pytest.approx(3 * found)
    assert half_width(np.append(means * sizes, 0.0), np.append(sizes, 0.0)) == pytest.approx(found)
