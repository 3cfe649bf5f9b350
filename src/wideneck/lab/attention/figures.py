"""Figures of one audit that the paper's statements are about: functions of an `AttentionAudit`.

None where a model does not give one, such as finite differences of what is no softmax, or where a
ratio or a logarithm of 0 would be asked for: a point left out could be the one that denies it.
"""

import math
import statistics
from collections.abc import Callable, Iterable, Sequence
from itertools import pairwise

from wideneck.audits.attention.results import AttentionAudit, SizePoint, StepPoint

Figure = Callable[[AttentionAudit], float | None]

BEND = 16
"""N where the paper's Figure 3 stops falling."""
COLD = 0.1
"""T below which the paper's Figure 4 goes as 1 / T."""


def length_exponent(field: str) -> Figure:
    """B of the least-squares line log y = a + b log L; 1 is linear growth."""

    def figure(audit: AttentionAudit) -> float | None:
        values = [(point.length, getattr(point, field)) for point in audit.by_length]
        return _exponent((x, y) for x, y in values if y is not None)

    return figure


def distance_ratio(over: int, under: int) -> Figure:
    """The distance at N = `over` by that at N = `under`."""
    return lambda audit: _ratio([p.distance for n in (over, under) for p in _at(audit, n)])


def distance_over_expectation(size: int) -> Figure:
    """Distance by its Monte Carlo expectation."""
    return lambda audit: _ratio(
        [x for p in _at(audit, size) for x in (p.distance, p.expected_monte_carlo)]
    )


def smallest_bound_ratio(audit: AttentionAudit) -> float | None:
    """Mean bound of theorem 1, whose bracket is DERIVED, by the mean distance; smallest over N.

    Of means: at 1 or more it says nothing of a single query.
    """
    return min([p.bound / p.distance for p in audit.by_size if p.distance], default=None)


def bound_ratio(audit: AttentionAudit) -> float | None:
    """The same at the reference size."""
    return _ratio([x for p in _at(audit, audit.reference_size) for x in (p.bound, p.distance)])


def largest_step_of_separability(audit: AttentionAudit) -> float | None:
    """Largest ratio of the median N_s / N at one N to that at the N before, up to `BEND`."""
    medians = [p.separability.median for p in audit.by_size if p.size <= BEND]
    if not all(medians[:-1]):
        return None
    return max([b / a for a, b in pairwise(medians)], default=None)


def separability_past_bend(best: Callable[..., float | None]) -> Figure:
    """Smallest or largest of the median N_s / N at the N above `BEND`."""
    return lambda audit: best(
        [p.separability.median for p in audit.by_size if p.size > BEND], default=None
    )


def best_head(audit: AttentionAudit) -> float | None:
    """N_s / N of the head where it is largest, over the N from `BEND` on."""
    return max([p.separability.highest for p in audit.by_size if p.size >= BEND], default=None)


def upper_distance(audit: AttentionAudit) -> float | None:
    """Largest difference of theorem 2's upper bound (DERIVED) and the largest N_s / N, N > 1."""
    points = [p for p in audit.by_size if p.size > 1]
    return max([abs(p.separability_upper - p.separability.highest) for p in points], default=None)


def lower_distance(audit: AttentionAudit) -> float | None:
    """Smallest difference of the median N_s / N and theorem 2's lower bound (DERIVED), N > 1."""
    pairs = [
        (p.separability.median, p.separability_lower)
        for p in audit.by_size
        if p.size > 1 and p.separability_lower is not None
    ]
    return min([median - lower for median, lower in pairs], default=None)


def cold_exponent(*, scaled: bool) -> Figure:
    """B of log g = a + b log T for T up to `COLD`, the smallest step; -1 is 1 / T.

    Args:
        scaled: T in units of the model's own, for scores that are divided by it already.
    """

    def figure(audit: AttentionAudit) -> float | None:
        limit = COLD * (audit.temperature if scaled else 1.0)
        points = _curve(audit, min)
        return _exponent((p.temperature, p.largest_head) for p in points if p.temperature <= limit)

    return figure


def step_ratio(audit: AttentionAudit) -> float | None:
    """Finite difference of the smallest step by that of the largest, at T = `COLD`."""
    both = [p.largest_head for best in (min, max) for p in _curve(audit, best) if _near(p, COLD)]
    return _ratio(both)


def step_spread(audit: AttentionAudit) -> float | None:
    """Largest ratio of two steps' finite differences at one T, over T >= 1."""
    warm: dict[float, list[float]] = {}
    for point in audit.by_step:
        if point.temperature >= 1:
            warm.setdefault(point.temperature, []).append(point.largest_head)
    if not all(min(values) for values in warm.values()):
        return None
    return max([max(values) / min(values) for values in warm.values()], default=None)


def drop(audit: AttentionAudit) -> float | None:
    """Largest finite difference over T by that at T = 1, smallest step."""
    points = _curve(audit, min)
    largest = max([p.largest_head for p in points], default=None)
    return _ratio([x for p in points if _near(p, 1.0) for x in (largest, p.largest_head)])


def largest_norm_ratio(audit: AttentionAudit) -> float | None:
    """Exact spectral norm of the row where it is largest by the paper's bound, largest over T.

    Above 1 some row exceeds the bound; at 1 or less no row that was measured does.
    """
    return max([p.spectral_highest / p.paper_bound for p in audit.by_step], default=None)


def critical_share(expectation: str, level: float) -> Figure:
    """N / L of the first N whose test does not reject at `level`; None where every one does."""

    def figure(audit: AttentionAudit) -> float | None:
        (found,) = (point for point in audit.critical if point.expectation == expectation)
        sizes = (n for n, p in enumerate(found.p_values, 1) if p > level)
        size = next(sizes, None)
        return None if size is None else size / audit.context

    return figure


def _at(audit: AttentionAudit, size: int) -> list[SizePoint]:
    return [point for point in audit.by_size if point.size == size]


def _curve(audit: AttentionAudit, best: Callable[[Sequence[float]], float]) -> list[StepPoint]:
    """The points of the smallest or the largest step."""
    steps = [point.step for point in audit.by_step]
    return [point for point in audit.by_step if point.step == best(steps)]


def _near(point: StepPoint, temperature: float) -> bool:
    return math.isclose(point.temperature, temperature)


def _ratio(both: Sequence[float | None]) -> float | None:
    if len(both) != 2 or both[0] is None or not both[1]:
        return None
    return both[0] / both[1]


def _exponent(points: Iterable[tuple[float, float]]) -> float | None:
    found = list(points)
    if len(found) < 2 or not all(y > 0 for _, y in found):
        return None
    logs = [(math.log(x), math.log(y)) for x, y in found]
    return statistics.linear_regression(*zip(*logs, strict=True)).slope
