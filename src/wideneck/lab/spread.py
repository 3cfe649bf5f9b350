"""A figure over seeds, and the differences of two arms over the same seeds.

The interval of their mean is Student's t, which takes the differences as independent and normal:
over two or three seeds it is wide, and of skewed ones it holds the truth less often than it says
(`python -m bench intervals`).
"""

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from scipy.optimize import root_scalar
from scipy.special import ncfdtr, stdtrit

from wideneck.audits.measure import measure

PLUS_MINUS = "\N{PLUS-MINUS SIGN}"
POWER = 0.8
"""Chance that a test at 5 % is to have of seeing an effect that is there."""
LEAST = (1.959964 + 0.841621) ** 2
"""Seeds times (effect / deviation)^2, were the deviation known; with Student's t they are more."""


@dataclass(frozen=True, kw_only=True)
class Spread:
    """A figure over seeds."""

    mean: float = measure("mean over seeds")
    std: float | None = measure("standard deviation over seeds, n - 1; none for one seed")

    def __format__(self, spec: str) -> str:
        """The mean as a number has it; after `+-`, with or without spaces, the deviation too.

        f"{s:+.1f}" is "+63.5", and with the sign and its spaces behind it "+63.5 +- 1.2".
        """
        number = spec.rstrip(f" {PLUS_MINUS}")
        between = spec.removeprefix(number)
        if not between or self.std is None:
            return f"{self.mean:{number}}"
        return f"{self.mean:{number}}{between}{self.std:{number.removeprefix('+')}}"

    @property
    def percent(self) -> "Spread":
        """That of a share, in percent."""
        std = None if self.std is None else 100 * self.std
        return Spread(mean=100 * self.mean, std=std)


@dataclass(frozen=True, kw_only=True)
class Paired(Spread):
    """The differences of two arms, between runs of equal seed."""

    low: float | None = measure("lower end of the 95 % interval of the mean (Student's t)")
    high: float | None = measure("upper end")
    num_seeds: int = measure("seeds, n")
    seeds_to_see: int | None = measure(
        "seeds with which a paired t-test at 5 % would see an effect of this size in 80 % of "
        "repetitions; none for one seed",
        caution="from a mean and a deviation that are themselves estimated from few seeds",
    )

    @property
    def visible(self) -> float | None:
        """The effect that as many seeds would see in 80 % of repetitions; None for one seed."""
        if self.std is None:
            return None
        found = root_scalar(lambda size: _power(size, self.num_seeds) - POWER, bracket=(1e-3, 1e3))
        return float(found.root) * self.std


def spread(values: Sequence[float]) -> Spread:
    """Mean and deviation."""
    return Spread(
        mean=statistics.fmean(values), std=statistics.stdev(values) if len(values) > 1 else None
    )


def spread_of_all(values: Sequence[float | None]) -> Spread | None:
    """The same; None where a seed has no value, or there is no seed."""
    known = [value for value in values if value is not None]
    return spread(known) if known and len(known) == len(values) else None


def over_seeds(runs: Sequence[Mapping[str, float | None]]) -> dict[str, Spread]:
    """The spread of each figure that every run has, by name."""
    found = {name: spread_of_all([run.get(name) for run in runs]) for name in runs[0]}
    return {name: figure for name, figure in found.items() if figure is not None}


def cell(spread: Spread, digits: int = 1, *, sign: bool = False) -> str:
    """Mean and deviation: `63.5 +- 1.2`."""
    return f"{spread:{'+' if sign else ''}.{digits}f {PLUS_MINUS} }"


def paired(values: Sequence[float]) -> Paired:
    """The summary of differences between two arms, one for each seed."""
    found, n = spread(values), len(values)
    mean, std = found.mean, found.std
    half = None if std is None else t95(n - 1) * std / math.sqrt(n)
    return Paired(
        mean=mean,
        std=std,
        low=None if half is None else mean - half,
        high=None if half is None else mean + half,
        num_seeds=n,
        seeds_to_see=None if std is None else seeds_to_see(mean, std),
    )


def t95(freedom: float) -> float:
    """Deviations of the mean that half of a 95 % interval is wide, by Student's t."""
    return float(stdtrit(freedom, 0.975))


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
    """Of the two-sided test at 5 % of n differences, for an effect of `size` deviations."""
    # The square of a noncentral t has a noncentral F distribution.
    return 1 - float(ncfdtr(1, n - 1, n * size**2, t95(n - 1) ** 2))


def in_words(num_seeds: int) -> str:
    """What figures are taken over, as a page says it."""
    return f"{num_seeds} seeds, mean and standard deviation" if num_seeds > 1 else "one seed"
