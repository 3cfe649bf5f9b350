"""A published number beside ours: the gap, and what may be said of it.

Two means are told apart by an interval of 95 % for their difference, Student's t over the runs.
With spread and seeds on both sides it is Welch's; with those of one side only, the other number
counts as one run of the same spread, which makes the interval wide.

At another scale, model or text our number is another experiment: the gap is shown and not judged.
What can still be compared there is the difference between two rows, by its sign.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

from wideneck.audits.measure import measure
from wideneck.lab.published import PublishedClaim, PublishedResult
from wideneck.lab.spread import Paired, Spread, spread_of_all, t95

RECALLED = "recalled, not checked"
MARKS = {
    "verified": "",
    "secondary": " (second-hand)",
    "figure": " (read off a figure)",
    "recalled": f" ({RECALLED})",
}
"""What follows a published number, by its status."""

CONSISTENT = "consistent"
CONTRADICTED = "contradicted"
UNDECIDED = "undecided"
NOT_MEASURED = "not measured"
DESCRIBED = "described, not judged"
"""How the verdict on a statement of a paper begins.  Described: it has no criterion, or stands on a
formula that is DERIVED, rebuilt by us and not read in the paper."""


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """What may be said of our number beside a published one."""

    gap: float | None = measure(
        "ours minus the published number; none where either is missing", default=None
    )
    low: float | None = measure(
        "lower end of the 95 % interval of the gap; none without a spread", default=None
    )
    high: float | None = measure("upper end of it", default=None)
    words: str = measure(
        "what may be said of the gap; of a statement, whether it holds: in every seed, in how "
        "many, which is undecided, or not; not measured; or described, not judged",
        caution="of the rows, heads and seeds that were measured",
    )


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """A number or a statement of a paper, and ours."""

    published: PublishedResult | PublishedClaim = measure("the number or the statement")
    ours: str = measure("what ours is, or what was measured here")
    values: list[float | None] = measure("our figure, seed by seed; none where there is none")
    figure: Spread | None = measure("the same over seeds; none where a seed has none")
    low: float | None = measure("a statement holds where the figure is at least this", default=None)
    high: float | None = measure("and at most this", default=None)
    derived: str = measure(
        "the formula that our figure stands on, where it is DERIVED, rebuilt by us from the "
        "paper's prose, or ours altogether: such a figure is described and not judged; else empty",
        default="",
    )
    verdict: Verdict = measure("what may be said")

    @property
    def words(self) -> str:
        """What may be said."""
        return self.verdict.words


def published_cell(result: PublishedResult) -> str:
    """The number as printed, with its spread, and with how it was read if not in the source."""
    return result.printed + MARKS[result.status]


def judge(
    published: PublishedResult, ours: Spread | None, seeds: int, *, other: str = ""
) -> Verdict:
    """Compare a published number with ours.

    Args:
        published: a recalled one is never compared.
        ours: over `seeds` runs; None where it was not measured.
        seeds: at least 1.
        other: what is not as in the paper, such as "another scale", where the numbers themselves do
            not compare.
    """
    if published.recalled:
        return Verdict(words=RECALLED)
    if ours is None or not math.isfinite(ours.mean):
        return Verdict(words=NOT_MEASURED)
    gap = ours.mean - published.value
    half = _half_width((ours.std, seeds), (published.spread, published.seeds))
    if other:
        words = f"not comparable: {other}"
    elif half is None:
        words = "no spread to judge by"
    elif abs(gap) <= half:
        words = "within the spreads"
    else:
        words = f"outside, {'above' if gap > 0 else 'below'}"
    return _verdict(gap, half, words)


def _verdict(gap: float, half: float | None, words: str) -> Verdict:
    """With its interval, from half of the width."""
    ends = {} if half is None else {"low": gap - half, "high": gap + half}
    return Verdict(gap=gap, **ends, words=words)


def compared_number(
    published: PublishedResult,
    ours: str,
    values: Sequence[float | None],
    *,
    other: str = "",
    derived: str = "",
) -> Comparison:
    """A published number beside ours of each seed, or of the only fit that there is.

    Args:
        published: the number.
        ours: what ours is.
        values: ours; empty where it was not measured.
        other: as for `judge`.
        derived: the formula that ours stands on, where it is DERIVED.
    """
    figure = spread_of_all(values)
    if values and figure is None:
        missing = sum(value is None for value in values)
        found = f"none in {missing} of {len(values)} seeds"
        verdict = Verdict(words=f"not comparable: {other}" if other else found)
    else:
        verdict = judge(published, figure, len(values), other=other)
    if derived:
        verdict = replace(verdict, words=DESCRIBED)
    return Comparison(
        published=published,
        ours=ours,
        values=list(values),
        figure=figure,
        derived=derived,
        verdict=verdict,
    )


def judge_difference(more: PublishedResult, less: PublishedResult, ours: Paired | None) -> Verdict:
    """Compare the sign of a published difference, `more` minus `less`, with that of ours.

    Valid at another scale too.  A difference has a sign where its interval leaves 0 out; a
    published one without spreads is taken as it is printed.

    Args:
        more, less: two rows of one measure; a recalled one is never compared.
        ours: the differences between runs of equal seed; None where they were not measured.

    Returns:
        What may be said of the two signs; its gap and interval are those of the paper's difference.
    """
    if more.recalled or less.recalled:
        return Verdict(words=RECALLED)
    gap = more.value - less.value
    half = _half_width((more.spread, more.seeds), (less.spread, less.seeds))
    theirs = _sign(gap, half or 0.0)
    if ours is None or not math.isfinite(ours.mean):
        words = NOT_MEASURED
    elif ours.low is None or ours.high is None:
        words = "one seed, not judged"
    else:
        here = 0 if ours.low <= 0 <= ours.high else _sign(ours.mean, 0.0)
        if here == theirs:
            words = "same sign" if here else "no difference in either"
        elif here == 0:
            words = "not seen here"
        else:
            words = "opposite sign" if theirs else "seen here only"
    return _verdict(gap, half, words)


def _sign(value: float, within: float) -> int:
    return 0 if abs(value) <= within else 1 if value > 0 else -1


def _half_width(*sides: tuple[float | None, int | None]) -> float | None:
    """Half of the 95 % interval for the difference of two means; None without any spread.

    Args:
        sides: deviation and number of runs of each.
    """
    known = [(std**2, num) for std, num in sides if std is not None and num is not None and num > 1]
    if not known:
        return None
    if len(known) == 1:
        ((variance, num),) = known
        return t95(num - 1) * math.sqrt(variance * (1 + 1 / num))
    parts = [variance / num for variance, num in known]
    if sum(parts) == 0:
        return 0.0
    freedom = sum(parts) ** 2 / sum(p**2 / (n - 1) for p, (_, n) in zip(parts, known, strict=True))
    return t95(freedom) * math.sqrt(sum(parts))
