"""A figure over seeds: mean and standard deviation."""

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from wideneck.audits.measure import measure

PLUS_MINUS = "\N{PLUS-MINUS SIGN}"


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


def spread(values: Sequence[float]) -> Spread:
    """Mean and deviation."""
    return Spread(
        mean=statistics.fmean(values), std=statistics.stdev(values) if len(values) > 1 else None
    )


def over_seeds(runs: Sequence[Mapping[str, float | None]]) -> dict[str, Spread]:
    """The spread of each figure that every run has, by name."""
    found = {}
    for name in runs[0]:
        values = [value for run in runs if (value := run[name]) is not None]
        if len(values) == len(runs):
            found[name] = spread(values)
    return found


def cell(spread: Spread, digits: int = 1, *, sign: bool = False) -> str:
    """Mean and deviation: `63.5 +- 1.2`."""
    return f"{spread:{'+' if sign else ''}.{digits}f {PLUS_MINUS} }"
