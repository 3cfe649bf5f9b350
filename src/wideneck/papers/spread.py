"""A figure over seeds: mean and standard deviation."""

import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from wideneck.audits.measure import measure


@dataclass(frozen=True, kw_only=True)
class Spread:
    """A figure over seeds."""

    mean: float = measure("mean over seeds")
    std: float | None = measure("standard deviation over seeds, n - 1; none for one seed")


def spread(values: Sequence[float]) -> Spread:
    """Mean and deviation."""
    return Spread(
        mean=statistics.fmean(values), std=statistics.stdev(values) if len(values) > 1 else None
    )


def cell(spread: Spread, digits: int = 1, *, sign: bool = False) -> str:
    """Mean and deviation: `63.5 +- 1.2`."""
    plus = "+" if sign else ""
    mean = f"{spread.mean:{plus}.{digits}f}"
    return mean if spread.std is None else f"{mean} \N{PLUS-MINUS SIGN} {spread.std:.{digits}f}"
