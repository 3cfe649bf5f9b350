"""The most telling numbers, each with what it should be read against.

One list for both faces: the terminal prints label, value and baseline; HTML adds the definition
and the caution that the field at `path` carries.
"""

import math
from dataclasses import dataclass

from wideneck.audits.head import HeadAudit
from wideneck.audits.output import OutputAudit
from wideneck.audits.output.rank_cost import RankLoss
from wideneck.report.numbers import (
    in_unit,
    interval,
    known,
    number,
    percent,
    percentage,
    share,
    value,
    with_name,
)


@dataclass(frozen=True)
class Figure:
    """A number, what it is read against, and the path of its definition."""

    label: str
    value: str
    baselines: tuple[str, ...]
    path: str
    detail: str = ""
    """What belongs to the value: its interval, or its share of a ceiling."""
    means: str = ""
    """Path of the definition to print beside the number, if another tells more."""
    caution: str = ""
    """Path of the caution, likewise."""


def head_figures(head: HeadAudit) -> list[Figure]:
    """Geometry of the rows."""
    spectra = head.spectrum
    centred, null, d = spectra.centred, spectra.null, head.hidden_size
    figures = [
        Figure(
            "mean row, share of s_0^2",
            share(head.mean_row_share),
            # A Gaussian matrix has V E||mu||^2 = ||W||_F^2 / V, so the share is stable rank / V.
            (with_name(share(null.stable_rank / head.vocab_size), "Gaussian"),),
            "head.mean_row_share",
        ),
        _entropy("singular entropy, raw", "raw", head),
        _entropy("singular entropy, centred", "centred", head),
    ]
    if spectra.data_weighted is not None and spectra.data_weighted_null is not None:
        figures.append(_entropy("singular entropy, weighted", "data_weighted", head))
    for label, name in (
        ("effective rank, centred", "effective_rank"),
        ("stable rank, centred", "stable_rank"),
        ("participation ratio, centred", "participation_ratio"),
    ):
        figures.append(
            Figure(
                label,
                number(getattr(centred, name)),
                (with_name(number(getattr(null, name)), "Gaussian"), f"{d:,} max"),
                f"head.spectrum.centred.{name}",
            )
        )
    return [
        *figures,
        Figure(
            "numerical rank, centred",
            number(centred.numerical_rank),
            (f"{min(d, head.vocab_size - 1):,} max",),
            "head.spectrum.centred.numerical_rank",
        ),
        Figure(
            "mean cosine of rows, raw",
            number(head.cosines.anisotropy),
            ("about 0 Gaussian",),
            "head.cosines.anisotropy",
        ),
        Figure(
            "mean squared cosine, centred",
            number(head.cosines_centred.superposition),
            (f"{number(head.cosines_centred.superposition_null)} at random",),
            "head.cosines_centred.superposition",
        ),
    ]


def _entropy(label: str, name: str, head: HeadAudit) -> Figure:
    """Defined once, at the raw matrix; the others say what they change."""
    gauge, entropy = f"head.spectrum.{name}", f"head.spectrum.{name}.kl_sigma2"
    spectrum = getattr(head.spectrum, name)
    null = head.spectrum.data_weighted_null if name == "data_weighted" else head.spectrum.null
    assert null is not None
    return Figure(
        label,
        in_unit(number(spectrum.kl_sigma2), "nats"),
        (
            with_name(
                number(null.kl_sigma2),
                f"Gaussian{' weighted' if name == 'data_weighted' else ''}",
            ),
        ),
        entropy,
        detail=in_unit(share(spectrum.kl_sigma2_share), "of log d"),
        means=entropy if name == "raw" else gauge,
        caution=entropy if name == "centred" else gauge,
    )


def token_figures(head: HeadAudit) -> list[Figure]:
    """Tokens that the head cannot tell apart, cannot reach or was not taught."""
    rows, verdicts, of = head.rows, head.argmaxable, (f"of {head.vocab_size:,} tokens",)
    figures, groups = [], len(rows.duplicates)
    grouped = (f"in {groups:,} group{'' if groups == 1 else 's'}",) if groups else ()
    if verdicts is not None:
        figures = [
            Figure(
                "never the most probable",
                number(len(verdicts.unargmaxable)),
                of,
                "head.argmaxable.unargmaxable",
            ),
            Figure("undecided", number(len(verdicts.undecided)), of, "head.argmaxable.undecided"),
        ]
    figures.append(
        Figure(
            "with a row like another's",
            number(sum(map(len, rows.duplicates))),
            (*grouped, *of),
            "head.rows.duplicates",
        )
    )
    for label, found, path in (
        ("never trained, by place", rows.never_trained, "head.rows.never_trained"),
        ("beyond the tokenizer", rows.beyond_tokenizer, "head.rows.beyond_tokenizer"),
    ):
        if found is not None:
            figures.append(Figure(label, number(len(found)), of, path))
    return figures


def output_figures(output: OutputAudit) -> list[Figure]:
    """Loss, nats lost, ranks, gradient."""
    loss, rank, gradient = output.loss, output.rank, output.gradient
    nats, kept = loss.nats_per_token, gradient.energy_share
    per_byte = loss.bits_per_byte.value / nats.value if nats.value else 0.0
    uniform = round(math.exp(loss.uniform_nats)) if known(loss.uniform_nats) else None
    baselines = {"uniform": loss.uniform_nats, "unigram": loss.unigram_nats}

    def beside(function) -> tuple[str, ...]:
        return tuple(with_name(number(float(function(x))), name) for name, x in baselines.items())

    bound = () if rank.bound is None else (f"{rank.bound:,} max",)
    return [
        Figure(
            "nats per token",
            value(nats),
            beside(lambda x: x),
            "output.loss.nats_per_token",
            interval(nats),
        ),
        Figure(
            "bits per byte",
            value(loss.bits_per_byte),
            beside(lambda x: x * per_byte),
            "output.loss.bits_per_byte",
            interval(loss.bits_per_byte),
        ),
        Figure(
            "perplexity",
            value(loss.perplexity),
            (with_name(number(uniform), "uniform"), beside(math.exp)[1]),
            "output.loss.perplexity",
            interval(loss.perplexity),
        ),
        *(
            Figure(
                f"nats lost, r = {point.rank:,}, {point.method}",
                value(point.measured),
                (with_name(number(point.predicted), "predicted"),),
                "output.rank_cost.points[].measured",
                interval(point.measured),
                caution="output.rank_cost.points[].predicted",
            )
            for point in half_rank(output)
        ),
        Figure("rank of log p (Press)", number(rank.press), bound, "output.rank.press"),
        Figure(
            "rank of log p, 99.9 %",
            number(rank.effective_1e3),
            bound,
            "output.rank.effective_1e3",
        ),
        Figure(
            "logit gradient kept",
            percentage(kept),
            (with_name(share(gradient.energy_baseline), "at random"),),
            "output.gradient.energy_share",
            interval(percent(kept)),
        ),
        Figure(
            "mean cosine into the head",
            number(output.anisotropy[-1].mean_cosine),
            ("about 0 at random",),
            "output.anisotropy[].mean_cosine",
        ),
        Figure("logit spread", number(output.logits.spread), (), "output.logits.spread"),
    ]


def half_rank(output: OutputAudit) -> list[RankLoss]:
    """The data-aware truncations at the rank nearest to half: fisher first, then whitened.

    Plain truncation is left out: it says nothing about capacity.
    """
    points = [p for p in output.rank_cost.points if p.method in ("fisher", "whitened")]
    if not points:
        return []
    rank = min((p.rank for p in points), key=lambda r: (abs(r - output.hidden_size / 2), r))
    return sorted((p for p in points if p.rank == rank), key=lambda p: p.method)
