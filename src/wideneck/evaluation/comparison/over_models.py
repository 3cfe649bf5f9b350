"""Two groups of models on one text: a difference with an interval over models (Welch's t).

Seeds of two recipes are not paired: a seed draws other numbers in a model of another shape.
"""

import math
import statistics
from collections.abc import Sequence

from scipy.special import stdtrit

from wideneck.evaluation.comparison.results import OverSeeds

BOTH = 1.959964 + 0.841621
"""Standard errors by which a mean is off 0 where a test at 5 % sees it in 80 % of repetitions."""


def over_models(name: str, first: Sequence[float], other: Sequence[float]) -> OverSeeds:
    """Compare the mean losses of models.

    Args:
        name: the tokens that they are over.
        first, other: one for each model.
    """
    means = statistics.fmean(first), statistics.fmean(other)
    difference = means[1] - means[0]
    half = more = None
    if len(first) > 1 and len(other) > 1:
        parts = [statistics.variance(group) / len(group) for group in (first, other)]
        variance = sum(parts)
        half = 0.0
        if variance > 0:
            freedom = variance**2 / sum(
                part**2 / (len(group) - 1)
                for part, group in zip(parts, (first, other), strict=True)
            )
            half = float(stdtrit(freedom, 0.975)) * math.sqrt(variance)
        if difference:
            spread = sum(statistics.variance(group) for group in (first, other))
            more = max(2, math.ceil(spread * (BOTH / difference) ** 2))
    return OverSeeds(
        name=name,
        first=means[0],
        other=means[1],
        difference=difference,
        low=None if half is None else difference - half,
        high=None if half is None else difference + half,
        models_to_see=more,
    )
