"""The charts of a series of checkpoints."""

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from operator import attrgetter

from wideneck.audits.head import HeadAudit
from wideneck.audits.spectrum import Spectrum
from wideneck.report.axes import Axis, linear, logarithmic
from wideneck.report.svg import Chart, Line

Measure = Callable[[HeadAudit], float]
HEAD = "points[].head"


Row = tuple[str, str, str, list[tuple[str, str, Measure]]]


def _gauges(measure: Callable[[Spectrum], float]) -> list[tuple[str, str, Measure]]:
    """The lines of one measure of the spectrum: name, colour, value."""
    return [
        ("raw", "c-raw", lambda h: measure(h.spectrum.raw)),
        ("centred", "c-centred", lambda h: measure(h.spectrum.centred)),
        ("Gaussian", "c-null", lambda h: measure(h.spectrum.null)),
    ]


def _of_spectrum(title: str, label: str, name: str) -> Row:
    return title, label, f"spectrum.raw.{name}", _gauges(attrgetter(name))


def _second(spectrum: Spectrum) -> float:
    sigma = spectrum.singular_values
    if not sigma:
        return math.nan
    return 0.0 if len(sigma) < 2 or sigma[0] == 0 else sigma[1] / sigma[0]


PANELS: tuple[Row, ...] = (
    _of_spectrum("Singular entropy", "KL(p || uniform), nats", "kl_sigma2"),
    (
        "Mean row",
        "share of the largest s²",
        "mean_row_share",
        [
            ("raw", "c-raw", lambda h: h.mean_row_share),
            ("Gaussian", "c-null", lambda h: h.spectrum.null.stable_rank / h.vocab_size),
        ],
    ),
    _of_spectrum("Effective rank", "exp of the entropy of s", "effective_rank"),
    _of_spectrum("Stable rank", "‖W‖² / s₀², Frobenius norm", "stable_rank"),
    _of_spectrum("Participation ratio", "(Σ s²)² / Σ s⁴", "participation_ratio"),
    ("Second singular value", "s₁ / s₀", "spectrum", _gauges(_second)),
    (
        "Anisotropy of the rows",
        "mean cosine of two rows",
        "cosines.anisotropy",
        [
            ("raw", "c-raw", lambda h: h.cosines.anisotropy),
            ("centred", "c-centred", lambda h: h.cosines_centred.anisotropy),
        ],
    ),
    (
        "Superposition",
        "mean squared cosine of two rows",
        "cosines.superposition",
        [
            ("raw", "c-raw", lambda h: h.cosines.superposition),
            ("centred", "c-centred", lambda h: h.cosines_centred.superposition),
            ("random", "c-null", lambda h: h.cosines.superposition_null),
        ],
    ),
    (
        "Median row norm",
        "length of the median row",
        "row_norms",
        [("median", "c-raw", lambda h: h.row_norms.median)],
    ),
)
"""Title, axis, path of the definition below a head, lines."""

LOGARITHMIC = ("Singular entropy",)
"""Panels whose values may span decades."""


def series_charts(
    steps: list[int], heads: Sequence[HeadAudit], hollow: frozenset[int]
) -> list[tuple[Chart, str]]:
    """One chart a measure, with the path of its definition; `hollow` are the identical heads."""
    x, drawn = step_axis(steps)
    found = []
    for title, label, path, measures in PANELS:
        lines = [
            Line(
                name,
                color,
                drawn,
                list(map(measure, heads)),
                dashed=color == "c-null",
                markers="" if color == "c-null" else "dot",
                hollow=hollow,
            )
            for name, color, measure in measures
        ]
        values = [v for line in lines for v in line.y if math.isfinite(v)] or [0.0]
        wide = min(values) > 0 and max(values) > max(1.0, 30 * min(values))
        axis = logarithmic if title in LOGARITHMIC and wide else _from_zero
        described = f"{title} at every checkpoint: {label}."
        found.append((Chart(title, described, x, axis(label, values), lines), f"{HEAD}.{path}"))
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
    return replace(axis, ticks=ticks), [float(s) if s > 0 else zero or 0.0 for s in steps]
