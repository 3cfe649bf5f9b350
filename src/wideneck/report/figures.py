"""The most telling numbers of the sections "head" and "output", with what they are read against."""

import math
from collections.abc import Callable

from wideneck.audits.head import HeadAudit
from wideneck.audits.output import OutputAudit
from wideneck.audits.output.rank_cost import RankLoss
from wideneck.report.numbers import in_unit, known, number, share, with_name
from wideneck.report.parts import Figure


def head_figures(head: HeadAudit) -> list[Figure]:
    """Geometry of the rows."""
    spectra, d = head.spectrum, head.hidden_size
    centred, null, path = spectra.centred, spectra.null, "head.spectrum.centred"
    # A Gaussian matrix has V E||mu||^2 = ||W||_F^2 / V, so the share is stable rank / V.
    gaussian = with_name(share(null.stable_rank / head.vocab_size), "Gaussian")
    figures = [
        Figure(
            "mean row, share of s_0^2",
            share(head.mean_row_share),
            [gaussian],
            "head.mean_row_share",
        ),
        _entropy("singular entropy, raw", "raw", head),
        _entropy("singular entropy, centred", "centred", head),
    ]
    if spectra.data_weighted is not None and spectra.data_weighted_null is not None:
        figures.append(_entropy("singular entropy, weighted", "data_weighted", head))
    for name in ("effective_rank", "stable_rank", "participation_ratio"):
        label, found = f"{name.replace('_', ' ')}, centred", number(getattr(centred, name))
        beside = [with_name(number(getattr(null, name)), "Gaussian"), f"{d:,} max"]
        figures.append(Figure(label, found, beside, f"{path}.{name}"))
    most = f"{min(d, head.vocab_size - 1):,} max"
    chance = f"{number(head.cosines_centred.superposition_null)} at random"
    for label, found, beside, at in (
        ("numerical rank, centred", centred.numerical_rank, most, f"{path}.numerical_rank"),
        (
            "mean cosine of rows, raw",
            head.cosines.anisotropy,
            "about 0 Gaussian",
            "head.cosines.anisotropy",
        ),
        (
            "mean squared cosine, centred",
            head.cosines_centred.superposition,
            chance,
            "head.cosines_centred.superposition",
        ),
    ):
        figures.append(Figure(label, number(found), [beside], at))
    return figures


def _entropy(label: str, name: str, head: HeadAudit) -> Figure:
    """Defined once, at the raw matrix; the others say what they change."""
    gauge, entropy = f"head.spectrum.{name}", f"head.spectrum.{name}.kl_sigma2"
    spectrum, weighted = getattr(head.spectrum, name), name == "data_weighted"
    null = head.spectrum.data_weighted_null if weighted else head.spectrum.null
    assert null is not None
    return Figure(
        label,
        in_unit(number(spectrum.kl_sigma2), "nats"),
        [with_name(number(null.kl_sigma2), f"Gaussian{' weighted' if weighted else ''}")],
        entropy,
        detail=in_unit(share(spectrum.kl_sigma2_share), "of log d"),
        means=entropy if name == "raw" else gauge,
        caution=entropy if name == "centred" else gauge,
    )


def output_figures(output: OutputAudit) -> list[Figure]:
    """Loss, nats lost, ranks, gradient."""
    loss, rank, gradient = output.loss, output.rank, output.gradient
    nats, base = loss.nats_per_token, "output.loss"
    per_byte = loss.bits_per_byte.value / nats.value if nats.value else 0.0
    uniform = round(math.exp(loss.uniform_nats)) if known(loss.uniform_nats) else None

    def beside(function: Callable[[float], float]) -> list[str]:
        pairs = (("uniform", loss.uniform_nats), ("unigram", loss.unigram_nats))
        return [with_name(number(float(function(x))), name) for name, x in pairs]

    perplexities = [with_name(number(uniform), "uniform"), beside(math.exp)[1]]
    bound = [] if rank.bound is None else [f"{rank.bound:,} max"]
    by_chance = with_name(share(gradient.energy_baseline), "at random")
    cosine = number(output.anisotropy[-1].mean_cosine)
    return [
        Figure.of("nats per token", nats, beside(lambda x: x), f"{base}.nats_per_token"),
        Figure.of(
            "bits per byte",
            loss.bits_per_byte,
            beside(lambda x: x * per_byte),
            f"{base}.bits_per_byte",
        ),
        Figure.of("perplexity", loss.perplexity, perplexities, f"{base}.perplexity"),
        *map(_lost, half_rank(output)),
        Figure("rank of log p (Press)", number(rank.press), bound, "output.rank.press"),
        Figure(
            "rank of log p, 99.9 %", number(rank.effective_1e3), bound, "output.rank.effective_1e3"
        ),
        Figure.part(
            "logit gradient kept",
            gradient.energy_share,
            [by_chance],
            "output.gradient.energy_share",
        ),
        Figure(
            "mean cosine into the head",
            cosine,
            ["about 0 at random"],
            "output.anisotropy[].mean_cosine",
        ),
        Figure("logit spread", number(output.logits.spread), [], "output.logits.spread"),
    ]


def _lost(point: RankLoss) -> Figure:
    points = "output.rank_cost.points[]"
    return Figure.of(
        f"nats lost, r = {point.rank:,}, {point.method}",
        point.measured,
        [with_name(number(point.predicted), "predicted")],
        f"{points}.measured",
        caution=f"{points}.predicted",
    )


def half_rank(output: OutputAudit) -> list[RankLoss]:
    """The data-aware truncations at the rank nearest to half: fisher first, then whitened.

    Plain truncation is left out: it says nothing about capacity.
    """
    points = [p for p in output.rank_cost.points if p.method in ("fisher", "whitened")]
    if not points:
        return []
    rank = min((p.rank for p in points), key=lambda r: (abs(r - output.hidden_size / 2), r))
    return sorted((p for p in points if p.rank == rank), key=lambda p: p.method)
