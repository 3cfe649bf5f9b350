"""Two arms over the same seeds: the mean difference, and the seeds it would take to see it.

The interval is Student's t, which takes the differences as independent and normal: over two or
three seeds it is wide, and of skewed ones it holds the truth less often than it says
(`python -m bench intervals`).
"""

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from wideneck.audits.measure import measure

POWER = 0.8
"""Chance that a test at 5 % is to have of seeing an effect that is there."""
LEAST = (1.959964 + 0.841621) ** 2
"""Seeds times (effect / deviation)^2, were the deviation known; with Student's t they are more."""


@dataclass(frozen=True, kw_only=True)
class Paired:
    """Of runs of equal seed."""

    mean: float = measure("mean over seeds")
    std: float | None = measure("standard deviation over seeds, n - 1; none for one seed")
    low: float | None = measure("lower end of the 95 % interval of the mean (Student's t)")
    high: float | None = measure("upper end")
    num_seeds: int = measure("seeds, n")
    seeds_to_see: int | None = measure(
        "seeds with which a paired t-test at 5 % would see an effect of this size in 80 % of "
        "repetitions; none for one seed",
        caution="from a mean and a deviation that are themselves estimated from few seeds",
    )


def paired(values: Sequence[float]) -> Paired:
    """The summary of differences between two arms, one a seed."""
    mean, n = statistics.fmean(values), len(values)
    if n == 1:
        return Paired(mean=mean, std=None, low=None, high=None, num_seeds=1, seeds_to_see=None)
    from scipy.special import stdtrit

    std = statistics.stdev(values)
    half = float(stdtrit(n - 1, 0.975)) * std / math.sqrt(n)
    return Paired(
        mean=mean,
        std=std,
        low=mean - half,
        high=mean + half,
        num_seeds=n,
        seeds_to_see=seeds_to_see(mean, std),
    )


def seeds_to_see(effect: float, std: float) -> int | None:
    """Paired seeds that show an effect of this size; None for no effect."""
    if effect == 0:
        return None
    if std == 0:
        return 2
    size = abs(effect) / std
    n = max(2, math.ceil(LEAST / size**2))
    while _power(size, n) < POWER:
        n += 1
    return n


def _power(size: float, n: int) -> float:
    """Of the two-sided test at 5 % of n differences, for an effect of so many deviations."""
    from scipy.special import ncfdtr, stdtrit

    # The square of a noncentral t has a noncentral F distribution.
    return 1 - float(ncfdtr(1, n - 1, n * size**2, stdtrit(n - 1, 0.975) ** 2))
