"""Two arms over the same seeds: the mean difference, and the seeds it would take to see it."""

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from wideneck.audits.measure import measure

POWER = 1.959964 + 0.841621
"""Normal quantiles of a two-sided test at 5 % that finds the effect in 80 % of cases."""


@dataclass(frozen=True, kw_only=True)
class Paired:
    """Of runs of equal seed."""

    mean: float = measure("mean over seeds")
    std: float | None = measure("standard deviation over seeds, n - 1; none for one seed")
    low: float | None = measure("lower end of the 95 % interval of the mean (Student's t)")
    high: float | None = measure("upper end")
    num_seeds: int = measure("seeds, n")
    seeds_to_see: int | None = measure(
        "seeds with which an effect of this size would be seen at 5 % in 80 % of repetitions, "
        "(2.8 std / mean)^2, at least 2; none for one seed",
        caution="a normal approximation from a deviation that is itself estimated from few seeds",
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
    return max(2, math.ceil((POWER * std / effect) ** 2))
