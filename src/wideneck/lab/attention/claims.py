"""The paper's statements and numbers, and what ours say of them.

Each statement has a figure of ours, and where it must lie for the statement to hold.  The paper's
words give no such range; each of these is ours.  A statement about trained heads is judged on any
model, a number only on the paper's own.  A figure that stands on a formula which is DERIVED,
rebuilt by us from the paper's prose and not read there, judges neither: a bound of ours that is
loose or broken says nothing of the paper's.  It has no range and is described.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from wideneck.audits.attention.results import AttentionAudit
from wideneck.lab.attention import figures as of
from wideneck.lab.attention.figures import Figure
from wideneck.lab.published import Published
from wideneck.lab.spread import spread_of_all
from wideneck.lab.verdict import DESCRIBED, NOT_MEASURED, Comparison, Verdict, compared_number

LEVELS = (0.01, 0.05)
"""Of the Kolmogorov-Smirnov test: the paper's text, and its algorithm."""
EXPECTATIONS = {
    "monte_carlo": ("Monte Carlo", ""),
    "paper": ("derived main term", "theorem 1.2"),
    "upper": ("our upper bound", "an upper bound of ours"),
}
"""What an expectation is called, and the formula that it stands on, where it is DERIVED or ours:
random sets are drawn by the paper's definition alone."""
TOGETHER = 1.1
"""Curves no farther apart than this fall together.  Every step draws its own directions, which
alone moves a curve by some 10 % with 128 queries, so a little more than this says nothing."""
BELOW_1 = math.nextafter(1.0, 0.0)
"""What stays the same does not fall."""
DERIVED_BRACKET, DERIVED_BOUNDS = "theorem 1's bracket", "theorem 2"
"""What figures stand on that is not read in the paper."""


@dataclass(frozen=True)
class Check:
    """A figure, and where it must lie for a statement to hold."""

    claim: str
    ours: str
    """What the figure is."""
    figure: Figure
    low: float | None = None
    high: float | None = None
    derived: str = ""
    """The formula that the figure stands on, where it is DERIVED."""
    every_row: bool = False
    """The statement is about each row, and one seed in which a row breaks it contradicts it."""

    def holds(self, value: float) -> bool:
        """Whether a figure lies in the range, whose ends belong to it."""
        return (self.low is None or self.low <= value) and (self.high is None or value <= self.high)


LINEAR, COLD = (0.8, 1.2), (-1.2, -0.8)
"""Ranges of exponents: of what grows linearly, of what goes as 1 / T."""
CHECKS = (
    Check("distance_linear", "exponent of L, N = 5", of.length_exponent("distance"), *LINEAR),
    Check(
        "expectation_linear",
        "exponent of L, Monte Carlo",
        of.length_exponent("expected_monte_carlo"),
        *LINEAR,
    ),
    Check(
        "bound_holds",
        "mean bound / distance, least of N",
        of.smallest_bound_ratio,
        derived=DERIVED_BRACKET,
    ),
    Check(
        "bound_conservative",
        "mean bound / distance, N = 5",
        of.bound_ratio,
        derived=DERIVED_BRACKET,
    ),
    Check(
        "diminishing_returns", "distance at N = 100 / at 20", of.distance_ratio(100, 20), 0.9, 1.1
    ),
    Check(
        "convergence",
        "distance / expectation, N = 100",
        of.distance_over_expectation(100),
        0.9,
        1.1,
    ),
    Check(
        "separability_falls",
        "largest ratio to the N before",
        of.largest_step_of_separability,
        high=BELOW_1,
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
        "upper_tracks", "largest distance from it, N > 1", of.upper_distance, derived=DERIVED_BOUNDS
    ),
    Check(
        "lower_loose",
        "median N_s / N minus it, smallest",
        of.lower_distance,
        derived=DERIVED_BOUNDS,
    ),
    Check("inverse_temperature", "exponent of T, T on q k", of.cold_exponent(scaled=False), *COLD),
    Check(
        "inverse_temperature",
        "exponent of T, T on scaled q k",
        of.cold_exponent(scaled=True),
        *COLD,
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


def judged_claims(published: Published, audits: Sequence[AttentionAudit]) -> list[Comparison]:
    """Every check, in the order of `CHECKS`."""
    measured = [(check, [check.figure(audit) for audit in audits]) for check in CHECKS]
    return [
        Comparison(
            published=published.claim(check.claim),
            ours=check.ours,
            values=values,
            figure=spread_of_all(values),
            low=check.low,
            high=check.high,
            derived=check.derived,
            verdict=Verdict(words=claim_words(check, values)),
        )
        for check, values in measured
    ]


def claim_words(check: Check, values: Sequence[float | None]) -> str:
    """What may be said of a statement, given the figure of each seed."""
    known = [value for value in values if value is not None]
    if not known:
        return NOT_MEASURED
    if check.derived:
        return DESCRIBED
    holding = sum(map(check.holds, known))
    if holding == 0 or (check.every_row and holding < len(known)):
        return "does not hold"
    return "holds" if holding == len(values) else f"{holding} of {len(values)} seeds"


def judged_numbers(
    published: Published, audits: Sequence[AttentionAudit], other: str
) -> list[Comparison]:
    """The critical N by every expectation and level, and the plateau of the separability.

    Args:
        published: the paper's.
        audits: ours, one for each seed.
        other: what is not as in the paper; empty where the numbers compare.
    """
    critical = published.one(measure="critical N over L, about")
    lowest, highest = (
        published.one(measure=f"{side} N_s / N past N of about 16")
        for side in ("lowest", "highest")
    )
    wanted = [
        (critical, f"{title}, level {level:g}", of.critical_share(name, level), derived)
        for name, (title, derived) in EXPECTATIONS.items()
        for level in LEVELS
    ]
    wanted += [
        (lowest, "lowest median over heads", of.separability_past_bend(min), ""),
        (highest, "highest median over heads", of.separability_past_bend(max), ""),
        (published.one(row="one head"), "best head, N >= 16", of.best_head, ""),
    ]
    return [
        compared_number(result, ours, list(map(figure, audits)), other=other, derived=derived)
        for result, ours, figure, derived in wanted
    ]
