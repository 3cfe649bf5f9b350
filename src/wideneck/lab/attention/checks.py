"""A figure of ours for each of the paper's statements, and where it must lie for them to hold.

The paper's words give no such range; each of these is ours.  A figure that stands on a formula
which is DERIVED, rebuilt by us from the paper's prose and not read there, judges nothing: a bound
of ours that is loose or broken says nothing of the paper's.  It has no range and is described.
"""

import math
from dataclasses import dataclass

from wideneck.lab.attention import figures as of
from wideneck.lab.attention.figures import Figure

INFINITY = float("inf")
TOGETHER = 1.1
"""Curves no farther apart than this fall together.  Every step draws its own directions, which
alone moves a curve by some 10 % with 128 queries, so a little more than this says nothing."""


@dataclass(frozen=True)
class Check:
    """A figure, and where it must lie for a statement to hold."""

    claim: str
    ours: str
    """What the figure is."""
    figure: Figure
    low: float = -INFINITY
    high: float = INFINITY
    derived: str = ""
    """The formula that the figure stands on, where it is DERIVED."""
    every_row: bool = False
    """The statement is about each row, and one seed in which a row breaks it contradicts it."""


CHECKS = (
    Check(
        "distance_linear", "exponent of L, N = 5", of.length_exponent("distance"), low=0.8, high=1.2
    ),
    Check(
        "expectation_linear",
        "exponent of L, Monte Carlo",
        of.length_exponent("expected_monte_carlo"),
        low=0.8,
        high=1.2,
    ),
    Check(
        "bound_holds",
        "mean bound / distance, least of N",
        of.smallest_bound_ratio,
        derived="theorem 1's bracket",
    ),
    Check(
        "bound_conservative",
        "mean bound / distance, N = 5",
        of.bound_ratio,
        derived="theorem 1's bracket",
    ),
    Check(
        "diminishing_returns",
        "distance at N = 100 / at 20",
        of.distance_ratio(100, 20),
        low=0.9,
        high=1.1,
    ),
    Check(
        "convergence",
        "distance / expectation, N = 100",
        of.distance_over_expectation(100),
        low=0.9,
        high=1.1,
    ),
    # What stays the same does not fall.
    Check(
        "separability_falls",
        "largest ratio to the N before",
        of.largest_step_of_separability,
        high=math.nextafter(1.0, 0.0),
    ),
    Check(
        "separability_plateau", "lowest median over heads", of.separability_past_bend(min), low=0.70
    ),
    Check(
        "separability_plateau",
        "highest median over heads",
        of.separability_past_bend(max),
        high=0.85,
    ),
    Check(
        "upper_tracks", "largest distance from it, N > 1", of.upper_distance, derived="theorem 2"
    ),
    Check(
        "lower_loose", "median N_s / N minus it, smallest", of.lower_distance, derived="theorem 2"
    ),
    Check(
        "inverse_temperature",
        "exponent of T, T on q k",
        of.cold_exponent(scaled=False),
        low=-1.2,
        high=-0.8,
    ),
    Check(
        "inverse_temperature",
        "exponent of T, T on scaled q k",
        of.cold_exponent(scaled=True),
        low=-1.2,
        high=-0.8,
    ),
    Check("smaller_steps", "step 0.001 / step 10, T = 0.1", of.step_ratio, low=TOGETHER),
    Check("collapse", "largest ratio of two steps", of.step_spread, high=TOGETHER),
    Check("two_orders", "largest over T / at T = 1", of.drop, low=30, high=300),
    Check(
        "corollary_3",
        "exact norm / bound, largest row",
        of.largest_norm_ratio,
        high=1.0,
        every_row=True,
    ),
)

NOT_COMPARED = {
    "critical_sublinear": "One context length is measured.",
    "vanishing_weights": "It needs no trial: it holds for all scores in a range, the constants "
    "growing with the range. Effective keys over L are above.",
    "general_gradient": "The formula was not at hand, and a softmax is all that is run.",
    "several_heads": "One head at a time is measured; this is arithmetic from independence.",
    "larger_models": "One model is measured; --model names another.",
}
"""Statements without a figure, and why."""
