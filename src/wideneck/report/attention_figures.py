"""The most telling numbers of the attention section, each with what it is read against.

"Uniform" is what weights of 1 / n on all n visible keys would give: at position n of a window a
query sees n keys.
"""

from collections.abc import Iterator, Sequence
from statistics import median, quantiles

from wideneck.audits.attention.results import AttentionAudit, HeadMeasures, SizePoint
from wideneck.report.attention_charts import expectation_name
from wideneck.report.attention_tables import LINKED, by_ablation
from wideneck.report.numbers import UNMEASURED, hundredths, known, number, share, with_name
from wideneck.report.parts import Figure

SINK = 0.3
"""Importance of the first key above which `sink_share` counts a window (Gu et al. 2024)."""

LINKS = 3
"""Rank correlations that are shown, those farthest from 0."""

HEADS = "attention.heads[]"


def attention_figures(audit: AttentionAudit) -> list[Figure]:
    """Loss, weights, selection, sensitivity, ablation."""
    windows = "window" if audit.num_windows == 1 else "windows"
    read = (f"{audit.num_windows:,} {windows} of {audit.context:,}",)
    figures = [Figure.of("nats per token", audit.loss, read, "attention.loss")]
    if audit.heads:
        figures += [*_weights(audit), *_selection(audit), *_ablation(audit)]
    return [*figures, *_critical(audit), *_links(audit)]


def _weights(audit: AttentionAudit) -> Iterator[Figure]:
    context, heads = audit.context, audit.heads
    harmonic = sum(1 / n for n in range(1, context + 1))
    told = [head.sink_share for head in heads if known(head.sink_share)]
    sinks = sum(sink_share > 0.5 for sink_share in told)
    first = (harmonic - 1) / max(1, context - 1)
    visible = f"{number((context + 1) / 2)} visible, mean"
    yield _over_heads("effective keys", heads, "effective_keys", visible)
    yield _over_heads("entropy / log n", heads, "spread", "1 uniform", "0 one key")
    yield _over_heads("first key's weight", heads, "first_key", f"{number(first)} uniform")
    yield Figure(
        "heads, sink in most windows",
        share(sinks / len(told)) if told else UNMEASURED,
        ("0 % uniform",) if harmonic / context < SINK else (),
        f"{HEADS}.sink_share",
        f"{sinks:,} of {len(told):,}",
    )


def _selection(audit: AttentionAudit) -> Iterator[Figure]:
    n, context = audit.reference_size, audit.context
    uniform = sum(n / seen for seen in range(n + 1, context + 1)) / max(1, context - n)
    about = f"about {number(uniform)} uniform"
    yield _over_heads(f"mass of {n:,} keys", audit.heads, "mass", about)
    point = next((p for p in audit.by_size if p.size == n), None)
    if point is not None:
        yield from _geometry(point)
    heads = [h for h in audit.heads if h.jacobian_spectral is not None]
    if heads:
        limit = audit.jacobian_limit
        most = () if limit is None else (f"{number(limit)} max",)
        yield _over_heads("Jacobian norm", heads, "jacobian_spectral", *most)


def _geometry(point: SizePoint) -> Iterator[Figure]:
    s, base = point.separability, "attention.by_size[]"
    low, high = point.separability_lower, point.separability_upper
    lower = "below 0" if low is None or low < 0 else number(float(low))
    yield Figure(
        f"N_s / N, N = {point.size:,}, median",
        number(float(s.median)),
        (f"{lower} to {number(float(high))} derived bounds",),
        f"{base}.separability",
        f"{number(float(s.quarter), 2)} to {number(float(s.three_quarters), 2)}",
        means=f"{HEADS}.separability",
        caution=f"{HEADS}.separability",
    )
    yield Figure(
        f"distance, N = {point.size:,}, mean",
        number(float(point.distance)),
        (
            with_name(number(float(point.expected_monte_carlo)), "expected"),
            with_name(number(float(point.bound)), "derived bound"),
        ),
        f"{base}.distance",
        caution=f"{HEADS}.distance",
    )


def _ablation(audit: AttentionAudit) -> Iterator[Figure]:
    heads, path = by_ablation(audit), f"{HEADS}.ablation"
    losses = [head.ablation for head in heads if head.ablation is not None]
    if not losses:
        return
    middle = number(float(median(loss.value for loss in losses)))
    strongest = (f"layer {heads[0].layer}, head {heads[0].head}",)
    yield Figure.of("ablation, largest loss", losses[0], strongest, path)
    yield Figure("ablation, median head", middle, ("0 without effect",), path)
    lows = [loss.low for loss in losses if loss.low is not None]
    if lows:
        # Of intervals around no effect, one in forty lies above 0.
        chance = (f"about {number(0.025 * len(lows), 2)} by chance",)
        above, of = number(sum(low > 0 for low in lows)), f"of {len(lows):,} heads"
        yield Figure("ablation, interval above 0", above, chance, path, of)


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


def _links(audit: AttentionAudit) -> Iterator[Figure]:
    strongest = sorted(
        audit.links, key=lambda link: -abs(link.spearman) if known(link.spearman) else 0.0
    )
    num_heads = sum(head.ablation is not None for head in audit.heads)
    by_chance = number(1.96 / (num_heads - 1) ** 0.5, 2) if num_heads > 2 else ""
    for link in strongest[:LINKS]:
        rest, beside = link.spearman_without_depth, []
        if rest is not None:
            beside.append(with_name(hundredths(rest), "without depth"))
        if by_chance:
            beside.append(f"up to {by_chance} by chance")
        name = LINKED.get(link.measure, link.measure)
        found = hundredths(link.spearman)
        yield Figure(f"Spearman, {name}", found, beside, "attention.links[].spearman")


def _over_heads(label: str, heads: Sequence[HeadMeasures], field: str, *baselines: str) -> Figure:
    """Median over heads, with the quartiles between which half of the heads lie."""
    every = [float(getattr(head, field)) for head in heads]
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
