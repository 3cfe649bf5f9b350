"""The paper's numbers and statements beside ours, with what may be said of the two."""

from collections.abc import Sequence
from dataclasses import dataclass

from wideneck.audits.measure import measure
from wideneck.papers.published import Published, PublishedClaim, PublishedResult
from wideneck.papers.saturation import verdicts
from wideneck.papers.saturation.arms import Arm
from wideneck.papers.saturation.laws import Laws
from wideneck.papers.saturation.ngram_run import Ngrams
from wideneck.papers.saturation.widths import Width
from wideneck.papers.spread import Spread
from wideneck.papers.verdict import Verdict, judge


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
    verdict: str = measure(
        "consistent, contradicted, undecided, not measured, or described, not judged; the reason "
        "after a colon"
    )


def compared(published: Published, ngrams: Sequence[Ngrams], laws: Laws) -> list[Compared]:
    """The numbers that have a counterpart: the law, and the n-grams of the paper's order."""
    found = []
    fit = laws.family[0].law if laws.family else None
    for name in ("A", "alpha"):
        ours = None if fit is None else Spread(mean=getattr(fit, name), std=None)
        found.append(_one(published.one(row="fitted", measure=name), ours, "another scale"))
    words = ngrams[-1]
    five = next((n for n in words.orders if n.order == verdicts.ORDER), None)
    errors = {} if five is None else {e.d: e.w_error for e in five.unweighted.errors}
    for row in published.find(measure="W-error(d)"):
        error = errors.get(int(row.row.removeprefix("d = ")))
        ours = None if error is None else Spread(mean=error, std=None)
        found.append(_one(row, ours, "another text, far shorter, and tokenizer"))
    return found


def _one(published: PublishedResult, ours: Spread | None, other: str) -> Compared:
    return Compared(published=published, ours=ours, verdict=judge(published, ours, 1, other=other))


def claims(
    published: Published,
    widths: Sequence[Width],
    arms: Sequence[Arm],
    ngrams: Sequence[Ngrams],
    tokens: int,
) -> list[ClaimBeside]:
    """Each statement of the paper, with ours and a verdict.

    Args:
        tokens: that each model of the family was trained on.
    """
    said = {
        "saturation": verdicts.saturation(widths, tokens),
        "entropy": verdicts.entropy(widths),
        "rank": verdicts.rank(arms),
        "w-error": verdicts.w_error(arms),
        "dimensions": verdicts.dimensions(ngrams[-1]),
    }
    return [
        ClaimBeside(claim=claim, ours=said[claim.name][0], verdict=said[claim.name][1])
        for claim in published.claims
    ]
