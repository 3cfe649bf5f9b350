"""The tables of the attention section."""

from wideneck.audits.attention.results import AttentionAudit, HeadMeasures
from wideneck.report.attention_charts import expectation_name
from wideneck.report.numbers import hundredths, interval, known, number, share, value
from wideneck.report.tables import Table

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
    heads = by_ablation(audit)[:STRONGEST]
    if not heads:
        return None
    base = "attention.heads[]"
    rows = []
    for head in heads:
        assert head.ablation is not None
        cells = [
            value(head.ablation),
            interval(head.ablation),
            number(float(head.effective_keys)),
            share(head.first_key),
            share(head.mass),
            number(float(head.separability)),
        ]
        rows.append((f"layer {head.layer}, head {head.head}", "", cells))
    return Table(
        "Largest losses by ablation, nats per token",
        [
            ("loss", f"{base}.ablation"),
            ("95 % interval", f"{base}.ablation"),
            ("effective keys", f"{base}.effective_keys"),
            ("first key", f"{base}.first_key"),
            (f"mass of {audit.reference_size}", f"{base}.mass"),
            ("N_s / N", f"{base}.separability"),
        ],
        rows,
    )


def link_table(audit: AttentionAudit) -> Table | None:
    """Rank correlations of the heads' measures with the loss of ablation."""
    if not audit.links:
        return None
    base = "attention.links[]"
    rows = [
        (
            LINKED.get(link.measure, link.measure),
            f"attention.heads[].{link.measure}" if link.measure in LINKED else "",
            [
                "-" if x is None else hundredths(x)
                for x in (link.spearman, link.spearman_without_depth)
            ],
        )
        for link in audit.links
    ]
    return Table(
        "Rank correlation with the loss of ablation",
        [
            ("Spearman", f"{base}.spearman"),
            ("without depth", f"{base}.spearman_without_depth"),
        ],
        rows,
    )


def comparison_table(audit: AttentionAudit) -> Table | None:
    """One row a normalizer."""
    if not audit.comparison:
        return None
    base = "attention.comparison[]"
    columns = (
        ("loss", "loss"),
        ("change", "change"),
        ("95 % interval", "change.low"),
        ("keys", "effective_keys"),
        ("zeros", "zeros"),
        ("row sum", "row_sum"),
        ("N_s / N", "separability"),
        ("Jacobian", "jacobian_spectral"),
    )
    rows = []
    for point in audit.comparison:
        jacobian = point.jacobian_spectral
        cells = [
            value(point.loss),
            value(point.change),
            interval(point.change),
            number(float(point.effective_keys)),
            share(point.zeros),
            number(float(point.row_sum)),
            number(float(point.separability)),
            "none" if jacobian is None else number(float(jacobian)),
        ]
        rows.append((point.normalizer, "", cells))
    return Table(
        "The same weights under other normalizers",
        [(text, f"{base}.{path}") for text, path in columns],
        rows,
    )


def distance_table(audit: AttentionAudit) -> Table | None:
    """Every reading of the distance and everything it is read against, by N."""
    columns = (
        ("distance", "distance"),
        ("derived bound", "bound"),
        ("tighter bound, ours", "bound_tight"),
        ("derived main term", "expected_paper"),
        ("Monte Carlo", "expected_monte_carlo"),
        ("upper, ours", "expected_upper"),
        ("net", "distance_net"),
        ("summed", "distance_summed"),
    )
    return _by_size(audit, "Distances by N", columns)


def separability_table(audit: AttentionAudit) -> Table | None:
    """Mass and separability by N."""
    if not audit.by_size:
        return None
    base = "attention.by_size[]"
    rows = []
    for point in audit.by_size:
        s = point.separability
        five = (s.lowest, s.quarter, s.median, s.three_quarters, s.highest)
        bounds = (point.separability_lower, point.separability_upper)
        cells = [
            number(point.num_queries),
            number(point.num_excluded),
            share(point.mass),
            *("-" if x is None else number(float(x)) for x in (*five, *bounds)),
        ]
        rows.append((number(point.size), "", cells))
    return Table(
        "Mass and N_s / N by N",
        [
            ("queries", f"{base}.num_queries"),
            ("left out", f"{base}.num_excluded"),
            ("mass", f"{base}.mass"),
            ("smallest", f"{base}.separability"),
            ("quarter", f"{base}.separability"),
            ("median", f"{base}.separability"),
            ("three quarters", f"{base}.separability"),
            ("largest", f"{base}.separability"),
            ("derived lower bound", f"{base}.separability_lower"),
            ("derived upper bound", f"{base}.separability_upper"),
        ],
        rows,
    )


def length_table(audit: AttentionAudit) -> Table | None:
    """The curves over the context length."""
    if not audit.by_length:
        return None
    base = "attention.by_length[]"
    columns = (
        ("distance", "distance"),
        ("derived bound", "bound"),
        ("derived main term", "expected_paper"),
        ("Monte Carlo", "expected_monte_carlo"),
    )
    rows = []
    for point in audit.by_length:
        s = point.effective_keys
        known = [getattr(point, field) for _, field in columns]
        cells = [number(float(x)) for x in (s.quarter, s.median, s.three_quarters)]
        cells += ["none" if x is None else number(float(x)) for x in known]
        rows.append((number(point.length), "", cells))
    return Table(
        "By context length",
        [
            ("effective keys, quarter", f"{base}.effective_keys"),
            ("median", f"{base}.effective_keys"),
            ("three quarters", f"{base}.effective_keys"),
            *((text, f"{base}.{field}") for text, field in columns),
        ],
        rows,
    )


def critical_table(audit: AttentionAudit) -> Table | None:
    """What the scan found for each expectation."""
    if not audit.critical:
        return None
    base = "attention.critical[]"
    rows = []
    for scan in audit.critical:
        cells = [f"none up to {len(scan.statistics):,}", "", "", ""]
        if scan.size is not None:
            cells = [
                number(scan.size),
                "" if scan.share is None else share(scan.share),
                number(scan.statistics[scan.size - 1]),
                number(scan.p_values[scan.size - 1]),
            ]
        rows.append((expectation_name(scan), "", cells))
    return Table(
        "Critical N",
        [
            ("N", f"{base}.size"),
            ("of the context", f"{base}.share"),
            ("statistic there", f"{base}.statistics"),
            ("p-value", f"{base}.p_values"),
        ],
        rows,
    )


def _by_size(
    audit: AttentionAudit, caption: str, columns: tuple[tuple[str, str], ...]
) -> Table | None:
    if not audit.by_size:
        return None
    return Table(
        caption,
        [(text, f"attention.by_size[].{field}") for text, field in columns],
        [
            (number(p.size), "", [number(float(getattr(p, field))) for _, field in columns])
            for p in audit.by_size
        ],
    )
