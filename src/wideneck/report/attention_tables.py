"""The tables of the attention section."""

from collections.abc import Callable
from typing import Any

from wideneck.audits.attention.results import AttentionAudit, CriticalN, HeadMeasures, Link
from wideneck.report.attention_charts import expectation_name
from wideneck.report.numbers import hundredths, interval, known, number, share, value
from wideneck.report.parts import BOTH, Column, Table, by_item

STRONGEST = 12

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

Measure = tuple[str, str, Callable[[Any], str]]

EXPECTED = (
    ("distance", "distance"),
    ("derived bound", "bound"),
    ("derived main term", "expected_paper"),
    ("Monte Carlo", "expected_monte_carlo"),
)


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
            ("loss", "ablation", lambda h: value(h.ablation)),
            ("95 % interval", "ablation", lambda h: interval(h.ablation)),
            _number("effective keys", "effective_keys"),
            ("first key", "first_key", lambda h: share(h.first_key)),
            (f"mass of {audit.reference_size}", "mass", lambda h: share(h.mass)),
            _number("N_s / N", "separability"),
        ],
        "attention.heads[]",
    )


def link_table(audit: AttentionAudit) -> Table | None:
    """Rank correlations of the heads' measures with the loss of ablation."""
    base = "attention.links[]"

    def row(link: Link) -> tuple[str, str, list[str]]:
        path = f"attention.heads[].{link.measure}" if link.measure in LINKED else ""
        found = (link.spearman, link.spearman_without_depth)
        cells = ["-" if x is None else hundredths(x) for x in found]
        return LINKED.get(link.measure, link.measure), path, cells

    heads = [
        Column("Spearman", f"{base}.spearman"),
        Column("without depth", f"{base}.spearman_without_depth"),
    ]
    rows = [row(link) for link in audit.links]
    title = "Rank correlation with the loss of ablation"
    return Table(title, heads, rows, first="measure of the head") if rows else None


def comparison_table(audit: AttentionAudit) -> Table | None:
    """One row a normalizer."""
    return by_item(
        "The same weights under other normalizers",
        audit.comparison,
        lambda p: p.normalizer,
        [
            ("loss", "loss", lambda p: value(p.loss)),
            ("change", "change", lambda p: value(p.change)),
            ("95 % interval", "change.low", lambda p: interval(p.change)),
            _number("keys", "effective_keys"),
            ("zeros", "zeros", lambda p: share(p.zeros)),
            _number("sum", "row_sum"),
            _number("N_s/N", "separability"),
            _number("Jacobian", "jacobian_spectral", "none"),
        ],
        "attention.comparison[]",
        first="normalizer",
        captioned=False,
        face=BOTH,
        note="The same weights under each normalizer, without training for it: a loss that rises "
        "here says nothing on a model that was trained so.",
    )


def distance_table(audit: AttentionAudit) -> Table | None:
    """Every reading of the distance and everything it is read against, by N."""
    distance, bound, *expected = (_number(*pair) for pair in EXPECTED)
    tighter = _number("tighter bound, ours", "bound_tight")
    others = (
        ("upper, ours", "expected_upper"),
        ("net", "distance_net"),
        ("summed", "distance_summed"),
    )
    columns = [distance, bound, tighter, *expected, *(_number(*pair) for pair in others)]
    return _by_size("Distances by N", audit, columns)


def separability_table(audit: AttentionAudit) -> Table | None:
    """Mass and separability by N."""
    columns = [
        ("queries", "num_queries", lambda p: number(p.num_queries)),
        ("left out", "num_excluded", lambda p: number(p.num_excluded)),
        ("mass", "mass", lambda p: share(p.mass)),
        _of_spread("smallest", "separability", "lowest"),
        _of_spread("quarter", "separability", "quarter"),
        _of_spread("median", "separability", "median"),
        _of_spread("three quarters", "separability", "three_quarters"),
        _of_spread("largest", "separability", "highest"),
        _number("derived lower bound", "separability_lower", "-"),
        _number("derived upper bound", "separability_upper", "-"),
    ]
    return _by_size("Mass and N_s / N by N", audit, columns)


def length_table(audit: AttentionAudit) -> Table | None:
    """The curves over the context length."""
    columns = [
        _of_spread("effective keys, quarter", "effective_keys", "quarter"),
        _of_spread("median", "effective_keys", "median"),
        _of_spread("three quarters", "effective_keys", "three_quarters"),
        *(_number(*pair, "none") for pair in EXPECTED),
    ]
    return by_item(
        "By context length",
        audit.by_length,
        lambda p: number(p.length),
        columns,
        "attention.by_length[]",
        first="tokens",
    )


def critical_table(audit: AttentionAudit) -> Table | None:
    """What the scan found for each expectation."""

    def at(scan: CriticalN, numbers: list[float]) -> str:
        return "" if scan.size is None else number(numbers[scan.size - 1])

    return by_item(
        "Critical N",
        audit.critical,
        expectation_name,
        [
            (
                "N",
                "size",
                lambda s: number(s.size) if s.size else f"none up to {len(s.statistics):,}",
            ),
            ("of the context", "share", lambda s: "" if s.share is None else share(s.share)),
            ("statistic there", "statistics", lambda s: at(s, s.statistics)),
            ("p-value", "p_values", lambda s: at(s, s.p_values)),
        ],
        "attention.critical[]",
        first="expectation",
    )


def _by_size(caption: str, audit: AttentionAudit, columns: list[Measure]) -> Table | None:
    sizes, base = audit.by_size, "attention.by_size[]"
    return by_item(caption, sizes, lambda p: number(p.size), columns, base, first="N")


def _number(text: str, name: str, without: str = "") -> Measure:
    """The column of one field; `without` stands where it is None."""

    def write(item: Any) -> str:
        x = getattr(item, name)
        return without if x is None else number(float(x))

    return text, name, write


def _of_spread(text: str, name: str, part: str) -> Measure:
    return text, name, lambda item: number(float(getattr(getattr(item, name), part)))
