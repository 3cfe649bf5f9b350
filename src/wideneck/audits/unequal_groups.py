"""The 95 % interval of a mean over groups of unequal size, and how many groups it rests on.

The mean M = sum_g w_g m_g of group means m_g, w_g the group's share of all values, has the variance

    V = sum_g w_g^2 (m_g - M)^2 / (1 - 2 w_g + sum_h w_h^2)

which is unbiased where the m_g are independent and have one variance, whatever the sizes: the
correction CR2 of Bell & McCaffrey (Survey Methodology 28, 2002) for a mean and that variance.  A
large group draws M to itself and leaves a small residual, so without the denominator V is far too
small.

|M - mean| / sqrt(V) has no t distribution where sizes differ: how often a factor is exceeded is
computed for normal m_g.  Their variance may be the same for all, as of documents that differ, or
fall as 1 / size, as of tokens that differ, or lie between, and a few groups do not say which.  So
the factor lies in the middle: of five such cases, the worst misses the mean as much more often than
once in twenty as the best does less often.  Where that is more than `SLACK`, small groups make up V
in one case and hardly add to it in another.  Then their residuals count for less, by a power of
their size, or, beside a single large group, for more; where neither helps there is no interval.
Groups of one size give the factor of Student's t exactly.

Groups are taken to be drawn independently.  Skewed group means make every such interval too short,
of equal groups too: `python -m bench intervals` measures by how much.
"""

import math
from functools import lru_cache

import numpy as np
from scipy.optimize import root_scalar

LEAST = 1.5
"""Groups of equal size that a mean must be worth to have an interval.  Below it one group holds
more than two thirds of all values, and only the others would say how much such a group varies."""

LEVEL = 0.05
"""Share of means that lie outside."""

SLACK = 0.018
"""How far from `LEVEL` that share may be in the worst and in the best of the cases, which are not
all that there can be: 2 points are promised."""

POWERS = (0.0, 0.25, 0.5, 0.75, 1.0)
"""The variance of a group's mean falls with its size by one of these powers."""

DAMPINGS = (0.0, 0.5, -0.15)
"""A group's squared residual is weighted by its share of the largest size to one of these powers:
the first that brings all cases within `SLACK`."""

_NODES, _WEIGHTS = np.polynomial.legendre.leggauss(128)
_INVERSE = np.sin(np.pi * (_NODES + 1) / 4) ** -2


def effective_number(sizes: np.ndarray) -> float:
    """Groups of equal size with a mean as sure: (sum n)^2 / sum n^2 (Kish, Survey Sampling, 1965).

    Args:
        sizes: (G,), values in each group, at least one of them positive.
    """
    return float(sizes.sum() ** 2 / np.square(sizes).sum())


def half_width(sums: np.ndarray, sizes: np.ndarray) -> np.ndarray | None:
    """Half of the 95 % interval of sum(sums) / sum(sizes); None where there is no `rule` for it.

    Cost: about half a second for 2,000 groups of sizes not seen before, then O(G).

    Args:
        sums: (..., G), float64, of the values in each group.
        sizes: (G,), how many those are; a group of none changes nothing.

    Returns:
        (...), a half width for each row of sums.
    """
    sums, sizes = sums[..., sizes > 0], sizes[sizes > 0]
    found = rule(tuple(sizes.tolist()))
    if found is None:
        return None
    factor, damping = found
    mean = sums.sum(-1, keepdims=True) / sizes.sum()
    variance = np.square(sums / sizes - mean) @ _weights(sizes, damping)
    return factor * np.sqrt(variance)


@lru_cache(maxsize=256)
def rule(sizes: tuple[float, ...]) -> tuple[float, float] | None:
    """The factor and the damping of V with which |M - mean| <= factor sqrt(V) in 95 % +- `SLACK`.

    Returns:
        Those of the first of `DAMPINGS` that does; None where none does, or below `LEAST`.
    """
    n = np.array(sizes, dtype=np.float64)
    if effective_number(n) < LEAST:
        return None
    powers = POWERS[:1] if (n == n[0]).all() else POWERS
    variances = [(n / n.mean()) ** -power for power in powers]
    for damping in DAMPINGS:
        factor = _factor(n / n.sum(), _weights(n, damping), variances)
        if factor is not None:
            return factor, damping
    return None


def _factor(w: np.ndarray, weights: np.ndarray, variances: list[np.ndarray]) -> float | None:
    """With the worst and the best case as far from `LEVEL`; None where that is beyond `SLACK`."""

    def misses(log: float) -> list[float]:
        return [_exceeding(math.exp(log), w, weights, each) for each in variances]

    def off(log: float) -> float:
        found = misses(log)
        return (max(found) + min(found)) / 2 - LEVEL

    log = root_scalar(off, bracket=(-4.0, 12.0), xtol=1e-8).root
    return math.exp(log / 2) if max(misses(log)) <= LEVEL + SLACK else None


def _weights(sizes: np.ndarray, damping: float) -> np.ndarray:
    """(G,): of the squared residuals in V."""
    w = sizes / sizes.sum()
    return (w / w.max()) ** damping * w**2 / (1 - 2 * w + (w**2).sum())


def _exceeding(k: float, w: np.ndarray, weights: np.ndarray, variances: np.ndarray) -> float:
    r"""P(M^2 > k V) for group means of mean 0 and these variances, normal and independent.

    With z standard normal, M^2 - k V = z^T A z; A has one positive eigenvalue l_0, for V >= 0.
    With Craig's form of the normal tail, 2 Q(x) = 2/pi int_0^{pi/2} exp(-x^2 / (2 sin^2 t)) dt,

        P(l_0 z_0^2 > sum_j |l_j| z_j^2) = 2/pi int prod_j (1 + |l_j| / (l_0 sin^2 t))^{-1/2} dt

    and the product is det(I - s A / l_0) / (1 - s), s = 1 / sin^2 t.  A is a diagonal matrix and
    one of rank 2, so a determinant costs O(G).
    """
    deviations = np.sqrt(variances)
    a, b, q = w * deviations, weights * deviations, k * weights * variances
    a_a, a_b, b_b = a * a, a * b, b * b
    corner = 1 - k * weights.sum()

    def determinant(t: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """det(I - t A), (T,): the logarithm of its diagonal part, and its factor of rank 2."""
        diagonal = 1 + t[:, None] * q
        aa, ab, bb = ((part / diagonal).sum(1) for part in (a_a, a_b, b_b))
        first = (1 - t * (corner * aa + k * ab)) * (1 - t * k * ab)
        second = t**2 * (corner * ab + k * bb) * k * aa
        return np.log(diagonal).sum(1), first - second

    # 1 / l_0 lies between 1 / |a|^2 and sum(1 / variances): V only takes away, and M of 1 is 1.
    ends = 0.5 / a_a.sum(), 2 * (1 / variances).sum()
    at = root_scalar(lambda t: determinant(np.array([t]))[1][0], bracket=ends, xtol=1e-30).root
    logs, ranks = determinant(_INVERSE * at)
    inside = np.exp(-logs / 2) * np.sqrt((1 - _INVERSE) / ranks)
    return float((_WEIGHTS * inside).sum() / 2)
