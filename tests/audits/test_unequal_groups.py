"""The interval of a mean over unequal groups against eigenvalues, Student's t and simulation."""

import math

import numpy as np
import pytest
from scipy.integrate import quad
from scipy.special import stdtrit

from wideneck.audits.unequal_groups import (
    LEAST,
    LEVEL,
    POWERS,
    effective_number,
    factor,
    half_width,
)

SHAPES = {
    "as an evaluation": [259, 2571, 1186, 80],
    "half in one": [5000, *[500] * 10],
    "half in one of 101": [10_000, *[100] * 100],
    "long ones": [4000, 2000, 1000, 500, 500],
    "two large": [3000, 3000, *[90] * 20],
    "two and a word": [700, 650, 1],
}


@pytest.mark.parametrize("num_groups", [2, 3, 4, 10, 100, 1000])
def test_groups_of_one_size_have_the_factor_of_student_s_t(num_groups):
    found = factor((512.0,) * num_groups)
    assert found == pytest.approx(stdtrit(num_groups - 1, 0.975), rel=1e-8)


def test_groups_of_one_size_have_the_t_interval_of_their_means():
    means = np.array([1.0, 2.0, 4.0, 5.0])
    half = stdtrit(3, 0.975) * means.std(ddof=1) / 2
    assert half_width(7 * means, np.full(4, 7.0)) == pytest.approx(half)


def variance_weights(sizes):
    """Of the squared residuals, by the residuals' covariance where all means have variance 1."""
    w = np.array(sizes) / np.sum(sizes)
    residual = np.eye(len(w)) - w  # row g: m_g - M
    return [w[g] ** 2 / (residual[g] @ residual[g]) for g in range(len(w))]


def exceeding(t, sizes, variances):
    """P(|M| > t sqrt(V)) by all eigenvalues of M^2 - t^2 V, one after the other."""
    w = np.array(sizes) / np.sum(sizes)
    residual = np.eye(len(w)) - w
    form = np.outer(w, w) - t**2 * residual.T @ np.diag(variance_weights(sizes)) @ residual
    scale = np.sqrt(variances)
    eigenvalues = np.linalg.eigvalsh(form * scale * scale[:, None])
    against = np.maximum(-eigenvalues[:-1] / eigenvalues[-1], 0)

    def inside(angle):
        return math.exp(-0.5 * np.log1p(against / math.sin(angle) ** 2).sum())

    return 2 / math.pi * quad(inside, 0, math.pi / 2, epsabs=1e-9, limit=200)[0]


@pytest.mark.parametrize("shape", SHAPES)
def test_the_factor_is_exceeded_once_in_twenty_in_the_worst_case_and_less_in_others(shape):
    sizes = np.array(SHAPES[shape], dtype=float)
    found = factor(tuple(sizes))
    each = [exceeding(found, sizes, sizes**-power) for power in POWERS]
    assert max(each) == pytest.approx(LEVEL, abs=1e-6)
    assert min(each) > LEVEL / 5


@pytest.mark.parametrize("shape", SHAPES)
def test_the_variance_is_that_of_the_mean_where_all_groups_vary_alike(shape):
    """Half widths of group means, squared, against the variance of their weighted mean."""
    sizes = np.array(SHAPES[shape], dtype=float)
    means = np.random.default_rng(0).normal(2.0, 3.0, (200, len(sizes)))
    w = sizes / sizes.sum()
    squared = [half_width(row * sizes, sizes) ** 2 for row in means]
    residuals = means - (means @ w)[:, None]
    slow = (np.array(variance_weights(sizes)) * residuals**2).sum(1)
    np.testing.assert_allclose(squared, factor(tuple(sizes)) ** 2 * slow, rtol=1e-9)
    # Of a quadratic form the expectation is that of its values at one mean of 1 and others of 0.
    expected = sum(half_width(mean * sizes, sizes) ** 2 for mean in np.eye(len(sizes)))
    assert expected == pytest.approx(factor(tuple(sizes)) ** 2 * (w**2).sum(), rel=1e-9)


@pytest.mark.parametrize("kind", ["between", "within", "both"])
@pytest.mark.parametrize("shape", SHAPES)
def test_intervals_cover_as_often_as_they_say_whatever_varies(shape, kind):
    """Between documents, as 1 / length within, or both: Student's t covers 0.6 to 0.93."""
    sizes = np.array(SHAPES[shape], dtype=float)
    within = np.median(sizes) / sizes
    variances = {"between": np.ones(len(sizes)), "within": within, "both": 0.2 + 0.8 * within}
    draws = np.random.default_rng(1).normal(0, np.sqrt(variances[kind]), (4000, len(sizes)))
    w = sizes / sizes.sum()
    hits = [abs(row @ w) <= half_width(row * sizes, sizes) for row in draws]
    assert 0.938 <= np.mean(hits) <= 0.995


def test_the_effective_number_is_that_of_equal_groups_with_a_mean_as_sure():
    assert effective_number(np.full(7, 30.0)) == pytest.approx(7)
    assert effective_number(np.array([5.0, 0.0, 5.0])) == pytest.approx(2)
    sizes = SHAPES["as an evaluation"]
    share = [size / sum(sizes) for size in sizes]
    assert effective_number(np.array(sizes, dtype=float)) == pytest.approx(
        1 / sum(part * part for part in share)
    )


def test_one_group_among_small_ones_has_no_interval():
    """Thirty windows beside three of one: Student's t covers 0.23 where it says 0.95."""
    for sizes in ([15_360.0, 512, 512, 512], [10.0], [10.0, 0.0, 0.0]):
        sizes = np.array(sizes)
        assert effective_number(sizes) < LEAST
        assert half_width(np.arange(len(sizes)) * sizes, sizes) is None
    assert half_width(np.array([300.0, 0.0]), np.array([300.0, 100.0])) is not None


def test_neither_order_scale_nor_groups_without_values_matter():
    sizes, means = np.array([40.0, 300, 120, 90]), np.array([0.3, -1.0, 0.7, 2.0])
    found = half_width(means * sizes, sizes)
    order = [2, 0, 3, 1]
    assert half_width((means * sizes)[order], sizes[order]) == pytest.approx(found)
    assert half_width(7 * means * sizes, 7 * sizes) == pytest.approx(found)
    assert half_width((means + 50) * sizes, sizes) == pytest.approx(found)
    assert half_width(-3 * means * sizes, sizes) == pytest.approx(3 * found)
    assert half_width(np.append(means * sizes, 0.0), np.append(sizes, 0.0)) == pytest.approx(found)
