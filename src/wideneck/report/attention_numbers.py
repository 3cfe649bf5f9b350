"""The numbers of the attention section: the most telling ones, and its tables.

Each of the first stands beside what it is read against.  "Uniform" is what weights of 1 / n on all
n visible keys would give: at position n of a window a query sees n keys.
"""

from collections.abc import Callable, Iterator, Sequence
from statistics import median, quantiles

from wideneck.audits.attention.results import (
    AttentionAudit,
    CriticalN,
    HeadMeasures,
    SizePoint,
    Spread,
)
from wideneck.report.attention_charts import expectation_name
from wideneck.report.numbers import (
    UNMEASURED,
    counted,
    hundredths,
    interval,
    known,
    number,
    optional,
    share,
    value,
    with_name,
)
from wideneck.report.parts import BOTH, Column, Measure, Number, Table, by_item

SINK = 0.3
"""Importance of the first key above which `sink_share` counts a window (Gu et al. 2024)."""
STRONGEST = 12
LINKS = 3
"""Rank correlations that are shown, those farthest from 0."""

HEADS = "attention.heads[]"
LINKED = {
    "entropy": "entropy",
    "effective_keys": "effective keys",
    "spread": "entropy / log n",
    "first_key": "first key's weight",
    "sink_share": "sink share",
    "mass": "mass of N keys",
    "distance": "distance",
    "separability": "N_s / N",
    "jacobian_spectral": "Jacobian, spectral",
    "jacobian_frobenius": "Jacobian, Frobenius",
}
"""Names of the heads' fields for readers."""


def attention_numbers(audit: AttentionAudit) -> Iterator[Number]:
    """Loss, weights, selection, sensitivity, ablation."""
    read = (f"{counted(audit.num_windows, 'window')} of {audit.context:,}",)
    yield Number.of("nats per token", audit.loss, read, "attention.loss")
    if audit.heads:
        yield from _weights(audit)
        yield from _selection(audit)
        yield from _ablation(audit)
    for scan in audit.critical:
        yield Number(
            f"critical N, {expectation_name(scan)}",
            optional("none")(scan.size),
            ("6 % in the paper",),
            "attention.critical[].size",
            f"up to {len(scan.statistics):,}"
            if scan.size is None or scan.share is None
            else f"{share(scan.share)} of {audit.context:,}",
        )
    yield from _links(audit)


def _weights(audit: AttentionAudit) -> Iterator[Number]:
    context, heads = audit.context, audit.heads
    harmonic = sum(1 / n for n in range(1, context + 1))
    told = [head.sink_share for head in heads if known(head.sink_share)]
    sinks = sum(sink_share > 0.5 for sink_share in told)
    first = (harmonic - 1) / max(1, context - 1)
    visible = f"{number((context + 1) / 2)} visible, mean"
    yield _over_heads("effective keys", heads, "effective_keys", visible)
    yield _over_heads("entropy / log n", heads, "spread", "1 uniform", "0 one key")
    yield _over_heads("first key's weight", heads, "first_key", f"{number(first)} uniform")
    yield Number(
        "heads, sink in most windows",
        share(sinks / len(told)) if told else UNMEASURED,
        ("0 % uniform",) if harmonic / context < SINK else (),
        f"{HEADS}.sink_share",
        f"{sinks:,} of {len(told):,}",
    )


def _selection(audit: AttentionAudit) -> Iterator[Number]:
    n, context = audit.reference_size, audit.context
    uniform = sum(n / seen for seen in range(n + 1, context + 1)) / max(1, context - n)
    about = f"about {number(uniform)} uniform"
    yield _over_heads(f"mass of {n:,} keys", audit.heads, "mass", about)
    for point in audit.by_size:
        if point.size == n:
            yield from _geometry(point)
    heads = [h for h in audit.heads if h.jacobian_spectral is not None]
    if heads:
        limit = audit.jacobian_limit
        most = () if limit is None else (f"{number(limit)} max",)
        yield _over_heads("Jacobian norm", heads, "jacobian_spectral", *most)


def _geometry(point: SizePoint) -> Iterator[Number]:
    s, base = point.separability, "attention.by_size[]"
    low, high = point.separability_lower, point.separability_upper
    lower = "below 0" if low is None or low < 0 else number(low)
    yield Number(
        f"N_s / N, N = {point.size:,}, median",
        number(s.median),
        (f"{lower} to {number(high)} derived bounds",),
        f"{base}.separability",
        f"{number(s.quarter, 2)} to {number(s.three_quarters, 2)}",
        means=f"{HEADS}.separability",
        caution=f"{HEADS}.separability",
    )
    expected = with_name(number(point.expected_monte_carlo), "expected")
    yield Number(
        f"distance, N = {point.size:,}, mean",
        number(point.distance),
        (expected, with_name(number(point.bound), "derived bound")),
        f"{base}.distance",
        caution=f"{HEADS}.distance",
    )


def _ablation(audit: AttentionAudit) -> Iterator[Number]:
    heads, path = by_ablation(audit), f"{HEADS}.ablation"
    losses = [head.ablation for head in heads if head.ablation is not None]
    if not losses:
        return
    middle = number(median(loss.value for loss in losses))
    strongest = (f"layer {heads[0].layer}, head {heads[0].head}",)
    yield Number.of("ablation, largest loss", losses[0], strongest, path)
    yield Number("ablation, median head", middle, ("0 without effect",), path)
    lows = [loss.low for loss in losses if loss.low is not None]
    if lows:
        # Of intervals around no effect, one in forty lies above 0.
        chance = (f"about {number(0.025 * len(lows), 2)} by chance",)
        above, of = number(sum(low > 0 for low in lows)), f"of {len(lows):,} heads"
        yield Number("ablation, interval above 0", above, chance, path, of)


def _links(audit: AttentionAudit) -> Iterator[Number]:
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
        yield Number(f"Spearman, {name}", found, beside, "attention.links[].spearman")


def _over_heads(label: str, heads: Sequence[HeadMeasures], field: str, *baselines: str) -> Number:
    """Median over heads, with the quartiles between which half of the heads lie."""
    every = [getattr(head, field) for head in heads]
    values = [x for x in every if known(x)]
    if values and len(values) < len(every):
        baselines = (*baselines, f"{len(every) - len(values):,} heads {UNMEASURED}")
    detail = ""
    if len(values) > 1:
        low, _, high = quantiles(values, n=4, method="inclusive")
        detail = f"{number(low, 2)} to {number(high, 2)}"
    middle = number(median(values)) if values else UNMEASURED
    return Number(f"{label}, median", middle, baselines, f"{HEADS}.{field}", detail)


def by_ablation(audit: AttentionAudit) -> list[HeadMeasures]:
    """The heads with an ablation that is known, the largest loss first."""
    measured = [
        (head.ablation.value, head)
        for head in audit.heads
        if head.ablation is not None and known(head.ablation.value)
    ]
    return [head for _, head in sorted(measured, key=lambda pair: -pair[0])]


def strongest_table(audit: AttentionAudit) -> Table | None:
    """The heads whose ablation costs most."""
    return by_item(
        "Largest losses by ablation, nats per token",
        by_ablation(audit)[:STRONGEST],
        lambda h: f"layer {h.layer}, head {h.head}",
        [
            ("loss", "ablation", value),
            ("95 % interval", "ablation", interval),
            ("effective keys", "effective_keys", number),
            ("first key", "first_key", share),
            (f"mass of {audit.reference_size}", "mass", share),
            ("N_s / N", "separability", number),
        ],
        HEADS,
    )


def link_table(audit: AttentionAudit) -> Table | None:
    """Rank correlations of the heads' measures with the loss of ablation."""
    return by_item(
        "Rank correlation with the loss of ablation",
        audit.links,
        lambda link: LINKED.get(link.measure, link.measure),
        [
            ("Spearman", "spearman", hundredths),
            ("without depth", "spearman_without_depth", optional("-", hundredths)),
        ],
        "attention.links[]",
        at=lambda link: f"{HEADS}.{link.measure}" if link.measure in LINKED else "",
        first="measure of the head",
    )


def comparison_table(audit: AttentionAudit) -> Table | None:
    """The model under every normalizer."""
    return by_item(
        "The same weights under other normalizers",
        audit.comparison,
        lambda p: p.normalizer,
        [
            ("loss", "loss", value),
            ("change", "change", value),
            ("95 % interval", "change.low", interval),
            ("keys", "effective_keys", number),
            ("zeros", "zeros", share),
            ("sum", "row_sum", number),
            ("N_s/N", "separability", number),
            ("Jacobian", "jacobian_spectral", optional("none")),
        ],
        "attention.comparison[]",
        first="normalizer",
        captioned=False,
        face=BOTH,
        note="The same weights under each normalizer, without training for it: a loss that rises "
        "here says nothing on a model that was trained so.",
    )


def _part(name: str) -> Callable[[Spread], str]:
    """A way to write one number of a spread, whose definition is that of the spread."""
    return lambda spread: number(getattr(spread, name))


EXPECTED: Sequence[Measure] = (
    ("derived main term", "expected_paper", optional("none")),
    ("Monte Carlo", "expected_monte_carlo", optional("none")),
)
BY_SIZE: Sequence[tuple[str, Sequence[Measure]]] = (
    (
        "Distances by N",
        (
            ("distance", "distance", number),
            ("derived bound", "bound", number),
            ("tighter bound, ours", "bound_tight", number),
            *EXPECTED,
            ("upper, ours", "expected_upper", number),
            ("net", "distance_net", number),
            ("summed", "distance_summed", number),
        ),
    ),
    (
        "Mass and N_s / N by N",
        (
            ("queries", "num_queries", number),
            ("left out", "num_excluded", number),
            ("mass", "mass", share),
            ("smallest", "separability", _part("lowest")),
            ("quarter", "separability", _part("quarter")),
            ("median", "separability", _part("median")),
            ("three quarters", "separability", _part("three_quarters")),
            ("largest", "separability", _part("highest")),
            ("derived lower bound", "separability_lower", optional("-")),
            ("derived upper bound", "separability_upper", optional("-")),
        ),
    ),
)
BY_LENGTH: Sequence[Measure] = (
    ("effective keys, quarter", "effective_keys", _part("quarter")),
    ("median", "effective_keys", _part("median")),
    ("three quarters", "effective_keys", _part("three_quarters")),
    ("distance", "distance", optional("none")),
    ("derived bound", "bound", optional("none")),
    *EXPECTED,
)


def curve_tables(audit: AttentionAudit) -> list[Table | None]:
    """The curves over the context length, and all that is measured for every N."""
    base = "attention.by_size[]"
    return [
        by_item(
            "By context length",
            audit.by_length,
            lambda p: number(p.length),
            BY_LENGTH,
            "attention.by_length[]",
            first="tokens",
        ),
        *(
            by_item(caption, audit.by_size, lambda p: number(p.size), measures, base, first="N")
            for caption, measures in BY_SIZE
        ),
    ]


def critical_table(audit: AttentionAudit) -> Table | None:
    """What the scan found for each expectation."""
    base = "attention.critical[]"
    columns = [
        Column("N", f"{base}.size"),
        Column("of the context", f"{base}.share"),
        Column("statistic there", f"{base}.statistics"),
        Column("p-value", f"{base}.p_values"),
    ]
    rows = [(expectation_name(scan), "", _found(scan)) for scan in audit.critical]
    return Table("Critical N", columns, rows, first="expectation") if rows else None


def _found(scan: CriticalN) -> list[str]:
    if scan.size is None:
        return [f"none up to {len(scan.statistics):,}", "", "", ""]
    at = scan.size - 1
    there = number(scan.statistics[at]), number(scan.p_values[at])
    return [number(scan.size), optional("", share)(scan.share), *there]
