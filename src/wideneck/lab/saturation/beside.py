"""The paper's numbers and statements beside ours, with what may be said of the two."""

from collections.abc import Sequence

from wideneck.lab.published import Published
from wideneck.lab.saturation import verdicts
from wideneck.lab.saturation.arms import Arm
from wideneck.lab.saturation.ngrams import Ngrams
from wideneck.lab.saturation.scaling import Laws
from wideneck.lab.saturation.widths import Width
from wideneck.lab.verdict import Comparison, compared_number, said


def compared(published: Published, ngrams: Sequence[Ngrams], laws: Laws) -> list[Comparison]:
    """The numbers that have a counterpart: the law, and the n-grams of the paper's order."""
    fits = [vars(fit.law) for fit in laws.family[:1]]
    five = [n for n in ngrams[-1].orders if n.order == verdicts.ORDER]
    errors = [(e.d, e.w_error) for n in five for e in n.unweighted.errors if e.w_error is not None]
    found = [
        compared_number(
            published.one(row="fitted", measure=name),
            f"{name} of our family",
            [fit[name] for fit in fits],
            other="another scale",
        )
        for name in ("A", "alpha")
    ]
    for row in published.find(measure="W-error(d)"):
        ours = [error for d, error in errors if f"d = {d}" == row.row]
        other = "another text, far shorter, and tokenizer"
        found.append(compared_number(row, f"W-error({row.row})", ours, other=other))
    return found


def claims(
    published: Published,
    widths: Sequence[Width],
    arms: Sequence[Arm],
    ngrams: Sequence[Ngrams],
    tokens: int,
) -> list[Comparison]:
    """Each statement of the paper, with ours and a verdict.

    Args:
        tokens: that each model of the family was trained on.
    """
    found = {
        "saturation": verdicts.saturation(widths, tokens),
        "entropy": verdicts.entropy(widths),
        "rank": verdicts.rank(arms),
        "w-error": verdicts.w_error(arms),
        "dimensions": verdicts.dimensions(ngrams[-1]),
    }
    return [
        Comparison(
            published=claim,
            ours=found[claim.name][0],
            values=[],
            figure=None,
            verdict=said(found[claim.name][1]),
        )
        for claim in published.claims
    ]
