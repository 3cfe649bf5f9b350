"""The paper's statements and numbers, and what ours say of them.

A statement about trained heads is judged on any model, a number only on the paper's own.  Neither
is judged by a formula that is DERIVED, rebuilt by us from the paper's prose.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from wideneck.audits.attention.results import AttentionAudit
from wideneck.audits.measure import measure
from wideneck.papers.attention import figures
from wideneck.papers.attention.checks import CHECKS, INFINITY, Check
from wideneck.papers.attention.figures import Figure
from wideneck.papers.published import Published, PublishedClaim, PublishedResult
from wideneck.papers.spread import Spread, spread
from wideneck.papers.verdict import DESCRIBED, NOT_MEASURED, Verdict, judge

LEVELS = (0.01, 0.05)
"""Of the Kolmogorov-Smirnov test: the paper's text, and its algorithm."""
EXPECTATIONS = {
    "monte_carlo": ("Monte Carlo", ""),
    "paper": ("derived main term", "theorem 1.2"),
    "upper": ("our upper bound", "an upper bound of ours"),
}
"""What an expectation is called, and the formula that it stands on, where it is DERIVED or ours:
random sets are drawn by the paper's definition alone."""
DERIVED = (
    "the formula that our figure stands on, where it is DERIVED, rebuilt by us from the paper's "
    "prose, or ours altogether: such a figure is described and not judged; else empty"
)


@dataclass(frozen=True, kw_only=True)
class ClaimVerdict:
    """One statement and a figure of ours."""

    claim: PublishedClaim = measure("the statement")
    ours: str = measure("what our figure is")
    values: list[float | None] = measure("the figure, seed by seed; none where there is none")
    figure: Spread | None = measure("the same over seeds; none where a seed has none")
    low: float | None = measure("the statement holds where the figure is at least this")
    high: float | None = measure("and at most this")
    derived: str = measure(DERIVED)
    words: str = measure(
        "holds, in every seed; does not hold; in how many seeds, which is undecided; not measured; "
        "or described, not judged",
        caution="of the rows, heads and seeds that were measured",
    )


@dataclass(frozen=True, kw_only=True)
class NumberVerdict:
    """One published number and ours."""

    published: PublishedResult = measure("the number")
    ours: str = measure("what ours is")
    values: list[float | None] = measure("ours, seed by seed; none where no N was found")
    figure: Spread | None = measure("the same over seeds; none where a seed has none")
    derived: str = measure(DERIVED)
    verdict: Verdict = measure("what may be said")


def judged_claims(published: Published, audits: Sequence[AttentionAudit]) -> list[ClaimVerdict]:
    """Every check, in the order of `CHECKS`."""
    return [_judged(check, published.claim(check.claim), audits) for check in CHECKS]


def judged_numbers(
    published: Published, audits: Sequence[AttentionAudit], other: str
) -> list[NumberVerdict]:
    """The critical N by every expectation and level, and the plateau of the separability.

    Args:
        other: what is not as in the paper; empty where the numbers compare.
    """
    critical = published.one(measure="critical N over L, about")
    found = [
        _number(
            critical,
            f"{title}, level {level:g}",
            figures.critical_share(name, level),
            audits,
            other,
            derived,
        )
        for name, (title, derived) in EXPECTATIONS.items()
        for level in LEVELS
    ]
    for side, best in (("lowest", min), ("highest", max)):
        result = published.one(measure=f"{side} N_s / N past N of about 16")
        figure = figures.separability_past_bend(best)
        found.append(_number(result, f"{side} median over heads", figure, audits, other))
    result = published.one(row="one head")
    return [*found, _number(result, "best head, N >= 16", figures.best_head, audits, other)]


def _judged(check: Check, claim: PublishedClaim, audits: Sequence[AttentionAudit]) -> ClaimVerdict:
    values = [check.figure(audit) for audit in audits]
    known = [value for value in values if value is not None]
    return ClaimVerdict(
        claim=claim,
        ours=check.ours,
        values=values,
        figure=spread(known) if len(known) == len(values) else None,
        low=_finite(check.low),
        high=_finite(check.high),
        derived=check.derived,
        words=claim_words(check, values),
    )


def claim_words(check: Check, values: Sequence[float | None]) -> str:
    """What may be said of a statement, given the figure of each seed."""
    known = [value for value in values if value is not None]
    holding = sum(check.low <= value <= check.high for value in known)
    if not known:
        return NOT_MEASURED
    if check.derived:
        return DESCRIBED
    if check.every_row and holding < len(known):
        return "does not hold"
    if holding in (0, len(values)):
        return "holds" if holding else "does not hold"
    return f"{holding} of {len(values)} seeds"


def _number(
    published: PublishedResult,
    ours: str,
    figure: Figure,
    audits: Sequence[AttentionAudit],
    other: str,
    derived: str = "",
) -> NumberVerdict:
    values = [figure(audit) for audit in audits]
    known = [value for value in values if value is not None]
    over_seeds = spread(known) if len(known) == len(values) else None
    if over_seeds is None:
        found = f"none in {len(values) - len(known)} of {len(values)} seeds"
        words = f"not comparable: {other}" if other else found
        verdict = Verdict(gap=None, low=None, high=None, words=words)
    else:
        verdict = judge(published, over_seeds, len(audits), other=other)
    if derived:
        verdict = replace(verdict, words=DESCRIBED)
    return NumberVerdict(
        published=published,
        ours=ours,
        values=values,
        figure=over_seeds,
        derived=derived,
        verdict=verdict,
    )


def _finite(value: float) -> float | None:
    return value if abs(value) < INFINITY else None
