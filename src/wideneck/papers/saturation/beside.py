"""The paper's numbers and statements beside ours, with what may be said of the two."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from wideneck.audits.measure import measure
from wideneck.papers.published import Published, PublishedClaim, PublishedResult
from wideneck.papers.saturation.arms import Arm
from wideneck.papers.saturation.laws import Laws
from wideneck.papers.saturation.ngram_run import Ngrams
from wideneck.papers.saturation.ngrams import NgramDimensionality
from wideneck.papers.saturation.widths import Width
from wideneck.papers.spread import Spread
from wideneck.papers.verdict import Verdict, judge

ORDER = 5
"""Of the paper's n-grams."""
NOTICEABLE = 0.05
"""Nats that a head of rank below 1000 must lose for the paper's "noticeably"; ours to say."""


@dataclass(frozen=True, kw_only=True)
class Compared:
    """One published number."""

    published: PublishedResult = measure("as the paper has it")
    ours: Spread | None = measure("the same of ours; none where it is not measured")
    verdict: Verdict = measure("what may be said")


@dataclass(frozen=True, kw_only=True)
class ClaimBeside:
    """One statement of the paper."""

    claim: PublishedClaim = measure("the statement, in our words")
    ours: str = measure("what was measured here")
    verdict: str = measure("what may be said")


def compared(published: Published, ngrams: Sequence[Ngrams], laws: Laws) -> list[Compared]:
    """The numbers that have a counterpart: the law, and the n-grams of the paper's order."""
    found = []
    fit = laws.family[0].law if laws.family else None
    for name in ("A", "alpha"):
        ours = None if fit is None else Spread(mean=getattr(fit, name), std=None)
        found.append(_one(published.one(row="fitted", measure=name), ours, "another scale"))
    words = ngrams[-1]
    five = next((n for n in words.orders if n.order == ORDER), None)
    errors = {} if five is None else {e.d: e.w_error for e in five.unweighted.errors}
    for row in published.find(measure="W-error(d)"):
        error = errors.get(int(row.row.removeprefix("d = ")))
        ours = None if error is None else Spread(mean=error, std=None)
        found.append(_one(row, ours, "another text, far shorter, and tokenizer"))
    return found


def _one(published: PublishedResult, ours: Spread | None, other: str) -> Compared:
    return Compared(published=published, ours=ours, verdict=judge(published, ours, 1, other=other))


def claims(
    published: Published, widths: Sequence[Width], arms: Sequence[Arm], ngrams: Sequence[Ngrams]
) -> list[ClaimBeside]:
    """Each statement of the paper, with ours and a verdict."""
    said = dict(_said(widths, arms, ngrams[-1]))
    return [
        ClaimBeside(claim=claim, ours=said[claim.name][0], verdict=said[claim.name][1])
        for claim in published.claims
    ]


def _said(
    widths: Sequence[Width], arms: Sequence[Arm], ngrams: Ngrams
) -> Iterator[tuple[str, tuple[str, str]]]:
    yield "saturation", _saturation(widths)
    yield "entropy", _entropy(widths)
    yield "rank", _rank(arms)
    yield "w-error", _w_error(arms)
    yield "dimensions", _dimensions(ngrams)


def _saturation(widths: Sequence[Width]) -> tuple[str, str]:
    rising = [w for w in widths if w.rise.low is not None and w.rise.low > 0]
    fitting = [w for w in rising if w.train_fall.low is not None and w.train_fall.low > 0]
    names = ", ".join(f"{w.width}" for w in rising)
    if all(w.rise.low is None for w in widths):
        return "one seed", "one seed, not judged"
    if not rising:
        return "no width whose held-out loss rises over all seeds", "not seen here"
    ours = f"held-out loss rises late at d = {names}"
    if len(fitting) == len(rising):
        return f"{ours}; the training loss goes on falling in all of them", "overfitting, not it"
    lone = ", ".join(f"{w.width}" for w in rising if w not in fitting)
    return f"{ours}; without a falling training loss at d = {lone}", "to be looked into"


def _entropy(widths: Sequence[Width]) -> tuple[str, str]:
    parts = [
        f"{w.width}: {w.figures['kl_sigma2_lowest'].mean:.2f} to {w.figures['kl_sigma2'].mean:.2f}"
        for w in widths
    ]
    ours = f"lowest to final, nats, at d = {'; '.join(parts)}"
    return ours, "another scale: the final value goes with d and with the rate"


def _rank(arms: Sequence[Arm]) -> tuple[str, str]:
    trained = [a for a in arms if a.start == "whitened"]
    losing = [a for a in trained if a.full_gap.low is not None and a.full_gap.low > NOTICEABLE]
    full = next(a for a in arms if a.start == "own")
    if not losing:
        ours = f"no rank below d = {full.rank} loses {NOTICEABLE} nats or more for certain"
        return ours, "not seen here"
    most = max(losing, key=lambda a: a.rank)
    ours = (
        f"the largest rank that loses more than {NOTICEABLE} nats to rank d = {full.rank}, for "
        f"certain: {most.rank}, which loses {most.full_gap.value:.2f}"
    )
    return (
        ours,
        "consistent below d, which is itself below 1000" if full.rank < 1000 else "consistent",
    )


def _w_error(arms: Sequence[Arm]) -> tuple[str, str]:
    below = [a for a in arms if a.start == "whitened" and a.w_error <= 0.6]
    if not below:
        return "no rank here has a W-error of 0.6 or less", "not measured"
    least = max(below, key=lambda a: a.w_error)
    ours = (
        f"at W-error {least.w_error:.2f} ({least.w_error_centred:.2f} without the mean row; r = "
        f"{least.rank}) {least.full_gap.value:+.3f} nats"
    )
    low, high = least.full_gap.low, least.full_gap.high
    if high is not None and high < NOTICEABLE:
        return ours, "consistent"
    if low is not None and low > NOTICEABLE:
        return ours, "the loss suffers before that here"
    return ours, f"not told from {NOTICEABLE} nats"


def _dimensions(ngrams: Ngrams) -> tuple[str, str]:
    five: NgramDimensionality | None = next((n for n in ngrams.orders if n.order == ORDER), None)
    if five is None:
        return "no 5-grams counted", "not measured"
    half, null = five.unweighted.half, five.unweighted.half_null
    ours = f"1/2 at d = {half if half is not None else 'beyond the spectrum'}; the null: {null}"
    if half is not None and null - half <= 0.05 * null:
        return ours, "here the diagonal alone, without what contexts share, says as much"
    return ours, "another text and tokenizer"
