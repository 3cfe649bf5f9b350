"""A figure of ours for each of the paper's statements, and where it must lie for them to hold.

The paper's words give no such range; each of these is ours.  A figure that stands on a formula
which is DERIVED, rebuilt by us from the paper's prose and not read there, judges nothing: a bound
of ours that is loose or broken says nothing of the paper's.  It has no range and is described.
"""

import math
from dataclasses import dataclass

from wideneck.papers.attention import figures
from wideneck.papers.attention.figures import Figure

INFINITY = float("inf")
TOGETHER = 1.1
"""Curves no farther apart than this fall together.  Every step draws its own directions, which
alone moves a curve by some 10 % with 128 queries, so a little more than this says nothing."""


@dataclass(frozen=True, kw_only=True)
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
        claim="distance_linear",
        ours="exponent of L, N = 5",
        figure=figures.length_exponent("distance"),
        low=0.8,
        high=1.2,
    ),
    Check(
        claim="expectation_linear",
        ours="exponent of L, Monte Carlo",
        figure=figures.length_exponent("expected_monte_carlo"),
        low=0.8,
        high=1.2,
    ),
    Check(
        claim="bound_holds",
        ours="mean bound / distance, least of N",
        figure=figures.smallest_bound_ratio,
        derived="theorem 1's bracket",
    ),
    Check(
        claim="bound_conservative",
        ours="mean bound / distance, N = 5",
        figure=figures.bound_ratio,
        derived="theorem 1's bracket",
    ),
    Check(
        claim="diminishing_returns",
        ours="distance at N = 100 / at 20",
        figure=figures.distance_ratio(100, 20),
        low=0.9,
        high=1.1,
    ),
    Check(
        claim="convergence",
        ours="distance / expectation, N = 100",
        figure=figures.distance_over_expectation(100),
        low=0.9,
        high=1.1,
    ),
    Check(
        claim="separability_falls",
        ours="largest ratio to the N before",
        figure=figures.largest_step_of_separability,
        high=math.nextafter(1.0, 0.0),  # what stays the same does not fall
    ),
    Check(
        claim="separability_plateau",
        ours="lowest median over heads",
        figure=figures.separability_past_bend(min),
        low=0.70,
    ),
    Check(
        claim="separability_plateau",
        ours="highest median over heads",
        figure=figures.separability_past_bend(max),
        high=0.85,
    ),
    Check(
        claim="upper_tracks",
        ours="largest distance from it, N > 1",
        figure=figures.upper_distance,
        derived="theorem 2",
    ),
    Check(
        claim="lower_loose",
        ours="median N_s / N minus it, smallest",
        figure=figures.lower_distance,
        derived="theorem 2",
    ),
    Check(
        claim="inverse_temperature",
        ours="exponent of T, T on q k",
        figure=figures.cold_exponent(scaled=False),
        low=-1.2,
        high=-0.8,
    ),
    Check(
        claim="inverse_temperature",
        ours="exponent of T, T on scaled q k",
        figure=figures.cold_exponent(scaled=True),
        low=-1.2,
        high=-0.8,
    ),
    Check(
        claim="smaller_steps",
        ours="step 0.001 / step 10, T = 0.1",
        figure=figures.step_ratio,
        low=TOGETHER,
    ),
    Check(
        claim="collapse",
        ours="largest ratio of two steps",
        figure=figures.step_spread,
        high=TOGETHER,
    ),
    Check(
        claim="two_orders",
        ours="largest over T / at T = 1",
        figure=figures.drop,
        low=30,
        high=300,
    ),
    Check(
        claim="corollary_3",
        ours="exact norm / bound, largest row",
        figure=figures.largest_norm_ratio,
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
