"""The paper's statements and numbers, and what ours say of them.

A statement about trained heads is judged on any model, a number only on the paper's own.  Neither
is judged by a formula that is DERIVED, rebuilt by us from the paper's prose.
"""

from collections.abc import Sequence

from wideneck.audits.attention.results import AttentionAudit
from wideneck.lab.attention import figures
from wideneck.lab.attention.checks import CHECKS, INFINITY, Check
from wideneck.lab.published import Published
from wideneck.lab.spread import spread
from wideneck.lab.verdict import (
    DESCRIBED,
    NOT_MEASURED,
    Comparison,
    compared_number,
    said,
)

LEVELS = (0.01, 0.05)
"""Of the Kolmogorov-Smirnov test: the paper's text, and its algorithm."""
EXPECTATIONS = {
    "monte_carlo": ("Monte Carlo", ""),
    "paper": ("derived main term", "theorem 1.2"),
    "upper": ("our upper bound", "an upper bound of ours"),
}
"""What an expectation is called, and the formula that it stands on, where it is DERIVED or ours:
random sets are drawn by the paper's definition alone."""


def judged_claims(published: Published, audits: Sequence[AttentionAudit]) -> list[Comparison]:
    """Every check, in the order of `CHECKS`."""
    found = []
    for check in CHECKS:
        values = [check.figure(audit) for audit in audits]
        known = [value for value in values if value is not None]
        found.append(
            Comparison(
                published=published.claim(check.claim),
                ours=check.ours,
                values=values,
                figure=spread(known) if len(known) == len(values) else None,
                low=_finite(check.low),
                high=_finite(check.high),
                derived=check.derived,
                verdict=said(claim_words(check, values)),
            )
        )
    return found


def judged_numbers(
    published: Published, audits: Sequence[AttentionAudit], other: str
) -> list[Comparison]:
    """The critical N by every expectation and level, and the plateau of the separability.

    Args:
        other: what is not as in the paper; empty where the numbers compare.
    """
    critical = published.one(measure="critical N over L, about")
    lowest, highest = (
        published.one(measure=f"{side} N_s / N past N of about 16")
        for side in ("lowest", "highest")
    )
    wanted = [
        (critical, f"{title}, level {level:g}", figures.critical_share(name, level), derived)
        for name, (title, derived) in EXPECTATIONS.items()
        for level in LEVELS
    ]
    wanted += [
        (lowest, "lowest median over heads", figures.separability_past_bend(min), ""),
        (highest, "highest median over heads", figures.separability_past_bend(max), ""),
        (published.one(row="one head"), "best head, N >= 16", figures.best_head, ""),
    ]
    return [
        compared_number(result, ours, list(map(figure, audits)), other=other, derived=derived)
        for result, ours, figure, derived in wanted
    ]


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


def _finite(value: float) -> float | None:
    return value if abs(value) < INFINITY else None
