"""The charts and the table of a series of checkpoints."""

import math
from collections.abc import Callable

from wideneck.audits.head import HeadAudit
from wideneck.report.axes import Axis, linear, logarithmic
from wideneck.report.numbers import number, share
from wideneck.report.series import SeriesReport
from wideneck.report.svg import Chart, Line
from wideneck.report.tables import Table

Measure = Callable[[HeadAudit], float]

HEAD = "points[].head"
PANELS: tuple[tuple[str, str, str, tuple[tuple[str, str, Measure], ...]], ...] = (
    (
        "Singular entropy",
        "KL(p || uniform), nats",
        f"{HEAD}.spectrum.raw.kl_sigma2",
        (
            ("raw", "c-raw", lambda h: h.spectrum.raw.kl_sigma2),
            ("centred", "c-centred", lambda h: h.spectrum.centred.kl_sigma2),
            ("Gaussian", "c-null", lambda h: h.spectrum.null.kl_sigma2),
        ),
    ),
    (
        "Mean row",
        "share of the largest s²",
        f"{HEAD}.mean_row_share",
        (
            ("raw", "c-raw", lambda h: h.mean_row_share),
            ("Gaussian", "c-null", lambda h: h.spectrum.null.stable_rank / h.vocab_size),
        ),
    ),
    (
        "Effective rank",
        "exp of the entropy of s",
        f"{HEAD}.spectrum.raw.effective_rank",
        (
            ("raw", "c-raw", lambda h: h.spectrum.raw.effective_rank),
            ("centred", "c-centred", lambda h: h.spectrum.centred.effective_rank),
            ("Gaussian", "c-null", lambda h: h.spectrum.null.effective_rank),
        ),
    ),
    (
        "Stable rank",
        "‖W‖² / s₀², Frobenius norm",
        f"{HEAD}.spectrum.raw.stable_rank",
        (
            ("raw", "c-raw", lambda h: h.spectrum.raw.stable_rank),
            ("centred", "c-centred", lambda h: h.spectrum.centred.stable_rank),
            ("Gaussian", "c-null", lambda h: h.spectrum.null.stable_rank),
        ),
    ),
    (
        "Participation ratio",
        "(Σ s²)² / Σ s⁴",
        f"{HEAD}.spectrum.raw.participation_ratio",
        (
            ("raw", "c-raw", lambda h: h.spectrum.raw.participation_ratio),
            ("centred", "c-centred", lambda h: h.spectrum.centred.participation_ratio),
            ("Gaussian", "c-null", lambda h: h.spectrum.null.participation_ratio),
        ),
    ),
    (
        "Second singular value",
        "s₁ / s₀",
        f"{HEAD}.spectrum",
        (
            ("raw", "c-raw", lambda h: _second(h.spectrum.raw.singular_values)),
            ("centred", "c-centred", lambda h: _second(h.spectrum.centred.singular_values)),
            ("Gaussian", "c-null", lambda h: _second(h.spectrum.null.singular_values)),
        ),
    ),
    (
        "Anisotropy of the rows",
        "mean cosine of two rows",
        f"{HEAD}.cosines.anisotropy",
        (
            ("raw", "c-raw", lambda h: h.cosines.anisotropy),
            ("centred", "c-centred", lambda h: h.cosines_centred.anisotropy),
        ),
    ),
    (
        "Superposition",
        "mean squared cosine of two rows",
        f"{HEAD}.cosines.superposition",
        (
            ("raw", "c-raw", lambda h: h.cosines.superposition),
            ("centred", "c-centred", lambda h: h.cosines_centred.superposition),
            ("random", "c-null", lambda h: h.cosines.superposition_null),
        ),
    ),
    (
        "Median row norm",
        "length of the median row",
        f"{HEAD}.row_norms",
        (("median", "c-raw", lambda h: h.row_norms.median),),
    ),
)

LOGARITHMIC = ("Singular entropy",)
"""Panels whose values may span decades."""


def series_charts(report: SeriesReport) -> list[tuple[Chart, str]]:
    """One chart a measure, with the path of its definition."""
    steps = [point.step for point in report.points]
    names = [point.name for point in report.points]
    again = {name for group in report.identical for name in group}
    hollow = frozenset(i for i, name in enumerate(names) if name in again)
    x, drawn = step_axis(steps)
    found = []
    for title, label, path, measures in PANELS:
        lines = [
            Line(
                name,
                color,
                drawn,
                [measure(point.head) for point in report.points],
                dashed=color == "c-null",
                markers="" if color == "c-null" else "dot",
                hollow=hollow,
            )
            for name, color, measure in measures
        ]
        values = [v for line in lines for v in line.y if math.isfinite(v)] or [0.0]
        wide = min(values) > 0 and max(values) > max(1.0, 30 * min(values))
        y = (
            logarithmic(label, values)
            if title in LOGARITHMIC and wide
            else _from_zero(label, values)
        )
        found.append((Chart(title, f"{title} at every checkpoint: {label}.", x, y, lines), path))
    return found


def _from_zero(label: str, values: list[float]) -> Axis:
    """A linear axis that holds 0, and goes below it only for what would be seen there."""
    low = 0.0 if min(values) > -0.02 * max(values) else None
    return linear(label, [0.0, *values], low=low)


def step_axis(steps: list[int]) -> tuple[Axis, list[float]]:
    """The axis of steps and where they stand: logarithmic over more than a factor of 100.

    Step 0 then stands a third of the first step left of it, under its own name.
    """
    if steps == list(range(len(steps))):
        step = max(1, -(-len(steps) // 8))
        marks = tuple((float(i), f"{i:,}") for i in range(0, len(steps), step))
        return Axis("checkpoint, in order", 0, max(steps), ticks=marks), [float(i) for i in steps]
    positive = [step for step in steps if step > 0]
    if max(positive) <= 100 * min(positive):
        # Ends at the data: the last checkpoint belongs at the edge, not short of a round number.
        axis = linear("training step", steps, low=float(min(steps)), high=float(max(steps)))
        return axis, [float(s) for s in steps]
    zero = min(positive) / 3 if min(steps) <= 0 else None
    axis = logarithmic(
        "training step", positive, low=zero or float(min(positive)), high=float(max(positive))
    )
    ticks = axis.ticks
    if zero is not None:
        ticks = ((zero, "0"), *(tick for tick in ticks if tick[0] >= min(positive)))
    return (
        Axis(axis.label, axis.low, axis.high, True, ticks),
        [float(s) if s > 0 else zero or 0.0 for s in steps],
    )


def series_table(report: SeriesReport) -> Table:
    """The checkpoints with their hashes and the main numbers."""
    columns = [
        ("head", f"{HEAD}.sha256"),
        ("entropy, raw", f"{HEAD}.spectrum.raw.kl_sigma2"),
        ("centred", f"{HEAD}.spectrum.centred.kl_sigma2"),
        ("eff. rank, centred", f"{HEAD}.spectrum.centred.effective_rank"),
        ("stable rank, centred", f"{HEAD}.spectrum.centred.stable_rank"),
        ("mean row", f"{HEAD}.mean_row_share"),
        ("median norm", f"{HEAD}.row_norms.median"),
    ]
    searched = any(point.head.argmaxable is not None for point in report.points)
    if searched:
        columns.append(("never first", f"{HEAD}.argmaxable"))
    rows = [
        (
            f"{point.step:,}",
            "",
            [
                point.head.sha256[:10],
                number(point.head.spectrum.raw.kl_sigma2),
                number(point.head.spectrum.centred.kl_sigma2),
                number(point.head.spectrum.centred.effective_rank),
                number(point.head.spectrum.centred.stable_rank),
                share(point.head.mean_row_share),
                number(point.head.row_norms.median),
                *_unreachable(point.head, searched),
                point.name,
            ],
        )
        for point in report.points
    ]
    columns.append(("checkpoint", "points[].name"))
    return Table("Checkpoints", columns, rows, verbatim=frozenset({0, len(columns) - 1}))


def _unreachable(head: HeadAudit, searched: bool) -> list[str]:
    if not searched:
        return []
    return [number(None if head.argmaxable is None else len(head.argmaxable.unargmaxable))]


def _second(singular_values: list[float]) -> float:
    if not singular_values:
        return math.nan
    if len(singular_values) < 2 or singular_values[0] == 0:
        return 0.0
    return singular_values[1] / singular_values[0]
