"""The most telling numbers of the attention section, each with what it is read against.

"Uniform" is what weights of 1 / n on all n visible keys would give: at position n of a window a
query sees n keys.
"""

from collections.abc import Callable, Sequence
from statistics import median, quantiles

from wideneck.audits.attention.results import AttentionAudit, HeadMeasures, Link, SizePoint
from wideneck.report.attention_charts import expectation_name
from wideneck.report.attention_tables import LINKED, by_ablation
from wideneck.report.figures import Figure
from wideneck.report.numbers import (
    UNMEASURED,
    hundredths,
    interval,
    known,
    number,
    share,
    value,
    with_name,
)

SINK = 0.3
"""Importance of the first key above which `sink_share` counts a window (Gu et al. 2024)."""

LINKS = 3
"""Rank correlations that are shown, those farthest from 0."""

HEADS = "attention.heads[]"


def attention_figures(audit: AttentionAudit) -> list[Figure]:
    """Loss, weights, selection, sensitivity, ablation."""
    windows = "window" if audit.num_windows == 1 else "windows"
    figures = [
        Figure(
            "nats per token",
            value(audit.loss),
            (f"{audit.num_windows:,} {windows} of {audit.context:,}",),
            "attention.loss",
            interval(audit.loss),
        )
    ]
    if audit.heads:
        figures += [*_weights(audit), *_selection(audit), *_ablation(audit)]
    return [*figures, *_critical(audit), *_links(audit)]


def _weights(audit: AttentionAudit) -> list[Figure]:
    context = audit.context
    harmonic = sum(1 / n for n in range(1, context + 1))
    told = [head.sink_share for head in audit.heads if known(head.sink_share)]
    sinks = sum(sink_share > 0.5 for sink_share in told)
    first = (harmonic - 1) / max(1, context - 1)
    return [
        _over_heads(
            "effective keys",
            audit.heads,
            "effective_keys",
            lambda h: h.effective_keys,
            (f"{number((context + 1) / 2)} visible, mean",),
        ),
        _over_heads(
            "entropy / log n", audit.heads, "spread", lambda h: h.spread, ("1 uniform", "0 one key")
        ),
        _over_heads(
            "first key's weight",
            audit.heads,
            "first_key",
            lambda h: h.first_key,
            (f"{number(first)} uniform",),
        ),
        Figure(
            "heads, sink in most windows",
            share(sinks / len(told)) if told else UNMEASURED,
            ("0 % uniform",) if harmonic / context < SINK else (),
            f"{HEADS}.sink_share",
            f"{sinks:,} of {len(told):,}",
        ),
    ]


def _selection(audit: AttentionAudit) -> list[Figure]:
    n, context = audit.reference_size, audit.context
    uniform = sum(n / seen for seen in range(n + 1, context + 1)) / max(1, context - n)
    figures = [
        _over_heads(
            f"mass of {n:,} keys",
            audit.heads,
            "mass",
            lambda h: h.mass,
            (f"about {number(uniform)} uniform",),
        )
    ]
    point = next((p for p in audit.by_size if p.size == n), None)
    if point is not None:
        figures += _geometry(point)
    jacobians = [h for h in audit.heads if h.jacobian_spectral is not None]
    if jacobians:
        figures.append(
            _over_heads(
                "Jacobian norm",
                jacobians,
                "jacobian_spectral",
                lambda h: 0.0 if h.jacobian_spectral is None else h.jacobian_spectral,
                () if audit.jacobian_limit is None else (f"{number(audit.jacobian_limit)} max",),
            )
        )
    return figures


def _without_depth(link: Link) -> tuple[str, ...]:
    value = link.spearman_without_depth
    return () if value is None else (with_name(hundredths(value), "without depth"),)


def _geometry(point: SizePoint) -> list[Figure]:
    s, base = point.separability, "attention.by_size[]"
    low, high = point.separability_lower, point.separability_upper
    lower = "below 0" if low is None or low < 0 else number(float(low))
    return [
        Figure(
            f"N_s / N, N = {point.size:,}, median",
            number(float(s.median)),
            (f"{lower} to {number(float(high))} derived bounds",),
            f"{base}.separability",
            f"{number(float(s.quarter), 2)} to {number(float(s.three_quarters), 2)}",
            means=f"{HEADS}.separability",
            caution=f"{HEADS}.separability",
        ),
        Figure(
            f"distance, N = {point.size:,}, mean",
            number(float(point.distance)),
            (
                with_name(number(float(point.expected_monte_carlo)), "expected"),
                with_name(number(float(point.bound)), "derived bound"),
            ),
            f"{base}.distance",
            caution=f"{HEADS}.distance",
        ),
    ]


def _ablation(audit: AttentionAudit) -> list[Figure]:
    heads = by_ablation(audit)
    if not heads:
        return []
    losses = [head.ablation for head in heads if head.ablation is not None]
    path = f"{HEADS}.ablation"
    figures = [
        Figure(
            "ablation, largest loss",
            value(losses[0]),
            (f"layer {heads[0].layer}, head {heads[0].head}",),
            path,
            interval(losses[0]),
        ),
        Figure(
            "ablation, median head",
            number(float(median(loss.value for loss in losses))),
            ("0 without effect",),
            path,
        ),
    ]
    lows = [loss.low for loss in losses if loss.low is not None]
    if lows:
        above = sum(low > 0 for low in lows)
        figures.append(
            Figure(
                "ablation, interval above 0",
                number(above),
                # Of intervals around no effect, one in forty lies above 0.
                (f"about {number(0.025 * len(lows), 2)} by chance",),
                path,
                f"of {len(lows):,} heads",
            )
        )
    return figures


def _critical(audit: AttentionAudit) -> list[Figure]:
    return [
        Figure(
            f"critical N, {expectation_name(scan)}",
            "none" if scan.size is None else number(scan.size),
            ("6 % in the paper",),
            "attention.critical[].size",
            f"up to {len(scan.statistics):,}"
            if scan.size is None or scan.share is None
            else f"{share(scan.share)} of {audit.context:,}",
        )
        for scan in audit.critical
    ]


def _links(audit: AttentionAudit) -> list[Figure]:
    strongest = sorted(
        audit.links, key=lambda link: -abs(link.spearman) if known(link.spearman) else 0.0
    )[:LINKS]
    num_heads = sum(head.ablation is not None for head in audit.heads)
    chance = (
        (f"up to {number(1.96 / (num_heads - 1) ** 0.5, 2)} by chance",) if num_heads > 2 else ()
    )
    return [
        Figure(
            f"Spearman, {LINKED.get(link.measure, link.measure)}",
            hundredths(link.spearman),
            (*_without_depth(link), *chance),
            "attention.links[].spearman",
        )
        for link in strongest
    ]


def _over_heads(
    label: str,
    heads: Sequence[HeadMeasures],
    field: str,
    measure: Callable[[HeadMeasures], float],
    baselines: tuple[str, ...],
) -> Figure:
    """Median over heads, with the quartiles between which half of the heads lie."""
    every = [float(measure(head)) for head in heads]
    values = [x for x in every if known(x)]
    if not values:
        return Figure(f"{label}, median", UNMEASURED, baselines, f"{HEADS}.{field}")
    if len(values) < len(every):
        baselines = (*baselines, f"{len(every) - len(values):,} heads {UNMEASURED}")
    detail = ""
    if len(values) > 1:
        low, _, high = quantiles(values, n=4, method="inclusive")
        detail = f"{number(low, 2)} to {number(high, 2)}"
    return Figure(f"{label}, median", number(median(values)), baselines, f"{HEADS}.{field}", detail)
