"""The curves of the attention section: over context length, over N, over temperature.

After the figures of Mudarisov et al. 2025 (arXiv:2508.17821), for the model at hand.
"""

import math
from collections.abc import Sequence
from dataclasses import astuple, replace

from wideneck.audits.attention.results import AttentionAudit, CriticalN, LengthPoint, SizePoint
from wideneck.report.axes import Axis, linear, logarithmic
from wideneck.report.numbers import known, number, share
from wideneck.report.parts import Panel
from wideneck.report.svg import Box, Chart, Line, Rule

DECADES = 1e8
"""How far below its largest value a logarithmic axis reaches; a softmax underflows far below."""

STEP_COLORS = ("c-centred", "c-fisher", "c-data")
DISTANCE = "attention.heads[].distance"
"""Path of the caution under every distance."""

EXPECTATIONS = {
    "monte_carlo": ("Monte Carlo", "c-raw", False),
    "paper": ("derived main term", "c-raw", True),
    "upper": ("upper", "c-data", False),
}
"""Name, colour and whether dashed, as in the charts of the distance."""


def length_charts(audit: AttentionAudit) -> list[Panel]:
    """Effective keys and distance over the context length."""
    points = audit.by_length
    if not points:
        return []
    x = _marked("context length L, tokens", [point.length for point in points])
    panels = [_effective_keys(points, x)]
    known = [point for point in points if point.distance is not None]
    if known:
        distance = _chart(
            f"Distance over context length, N = {audit.reference_size}",
            "Distance of the selected keys to the others, its bound and its expectation for random "
            "keys against the context length, on logarithmic axes.",
            x,
            "sum of distances",
            _distances([point.length for point in known], known),
        )
        about = (
            "Mean over heads and over queries up to L. Expected: as many random keys; main term: "
            "an approximation of that, from below. It and the bound are forms of theorem 1 that "
            "are DERIVED, rebuilt by us from the paper's prose. Where weights outside are small, "
            "each key outside adds about the length of s, so the sum grows with L by itself."
        )
        panels.append(Panel(distance, about, DISTANCE))
    return panels


def _effective_keys(points: Sequence[LengthPoint], x: Axis) -> Panel:
    lengths = [point.length for point in points]
    spreads = [point.effective_keys for point in points]
    uniform = [(length // 2 + 1 + length) / 2 for length in lengths]
    median, low, high = (
        [getattr(s, name) for s in spreads] for name in ("median", "quarter", "three_quarters")
    )
    chart = Chart(
        "Effective keys over context length",
        "Median and quartiles over heads of the effective number of keys against the context "
        "length, beside that of uniform weights, on logarithmic axes.",
        x,
        logarithmic("effective keys", [*uniform, *median, *low, *high]),
        [
            *_line("uniform", "c-null", lengths, uniform, dashed=True),
            Line("median", "c-centred", lengths, median, False, low, high, "dot", band=True),
        ],
    )
    return Panel(
        chart,
        "Exp of the entropy for queries that see L/2 to L keys: the median head, and the band "
        "that holds half of the heads. Uniform weights would use every visible key.",
    )


def size_charts(audit: AttentionAudit) -> list[Panel]:
    """Distance and separability over N."""
    points = audit.by_size
    if not points:
        return []
    sizes = [point.size for point in points]
    distance = _chart(
        "Distance over N",
        "Distance of the N heaviest keys to the others, its bound and its expectation for N "
        "random keys against N, on logarithmic axes.",
        _marked("N, selected keys", sizes),
        "sum of distances",
        _distances(sizes, points),
    )
    about = (
        "Mean over heads and over queries that see more than N keys. Where the two curves meet, "
        "the heaviest keys lie no farther from the rest than random ones; whether the head needs "
        "them is another question."
    )
    return [Panel(distance, about, DISTANCE), _separability(points)]


def _separability(points: Sequence[SizePoint]) -> Panel:
    places = [float(i) for i in range(len(points))]
    # None: no query has a finite one, so it is below 0 as well.
    lower = [-1.0 if p.separability_lower is None else p.separability_lower for p in points]
    upper = [point.separability_upper for point in points]
    below = frozenset(i for i, value in enumerate(lower) if value < 0)  # False of NaN
    boxes = [
        Box(at, astuple(point.separability), "c-centred")
        for at, point in zip(places, points, strict=True)
    ]
    drawn = [0.0 if i in below else value for i, value in enumerate(lower)]
    lines = [
        Line("upper", "c-raw", places, upper, dashed=True, markers="dot"),
        Line("lower", "c-data", places, drawn, dashed=True, markers="dot", hollow=below),
    ]
    about = "Boxes: N_s / N over heads, whiskers to the smallest and the largest. "
    about += "Dashed: the two bounds of theorem 2, DERIVED by us from its prose, means over heads."
    if below:
        named = ", ".join(f"{points[i].size:,}" for i in sorted(below))
        about += (
            f" The lower bound is below 0 at N = {named} "
            f"(down to {number(min(lower[i] for i in below))}), says nothing there, and "
            "is drawn at 0 (empty dots)."
        )
    ticks = tuple((at, f"{point.size:,}") for at, point in zip(places, points, strict=True))
    chart = Chart(
        "Separability over N",
        "Box plots over heads of N_s / N for each N, with derived bounds of theorem 2.",
        Axis("N, selected keys", -0.5, len(points) - 0.5, ticks=ticks),
        linear("Nₛ / N", [0, 1], low=0, high=1),
        lines,
        boxes=boxes,
    )
    return Panel(chart, about, "attention.by_size[].separability_upper")


def step_chart(audit: AttentionAudit) -> Panel | None:
    """Finite differences of the softmax over temperature."""
    points = [p for p in audit.by_step if known(p.temperature) and known(p.step)]
    if not points:
        return None
    lines: list[Line] = []
    for i, step in enumerate(sorted({point.step for point in points})):
        color = STEP_COLORS[i % len(STEP_COLORS)]
        mine = sorted((p for p in points if p.step == step), key=lambda p: p.temperature)
        x = [p.temperature for p in mine]
        lines += _line(f"ε = {step:g}", color, x, [p.largest_head for p in mine], markers="dot")
        lines += _line("", color, x, [p.bound for p in mine], dashed=True)
    any_step = {p.temperature: p for p in points}
    x = sorted(any_step)
    lines += _line("spectral", "c-raw", x, [any_step[t].spectral for t in x])
    lines += _line("paper", "c-null", x, [any_step[t].paper_bound for t in x], dashed=True)
    own = audit.temperature
    inside = min(x) <= own <= max(x)
    rules = [Rule(f"own T = {own:.3g}", own, vertical=True)] if inside else []
    chart = _chart(
        "Sensitivity over temperature",
        "Largest finite difference of the softmax over heads against the temperature, for each "
        "step, with bounds and the exact spectral norm, on logarithmic axes.",
        _widened(logarithmic("temperature T", x, low=min(x), high=max(x))),
        "change of weights / step",
        lines,
        rules,
    )
    return Panel(
        chart,
        "Dots: random steps of length ε, the head where they move the weights most; dashed in "
        "the same colour: a bound that holds. Spectral: the exact norm of the derivative, its "
        "largest head. Paper: its corollary 3, no bound of the spectral norm.",
        "attention.by_step[].largest_head",
    )


def critical_chart(audit: AttentionAudit) -> Panel | None:
    """The scan for the critical N."""
    scans = [scan for scan in audit.critical if scan.statistics]
    if not scans:
        return None
    lines = []
    for scan in scans:
        name, color, dashed = EXPECTATIONS[scan.expectation]
        sizes = range(1, len(scan.statistics) + 1)
        lines.append(Line(name, color, sizes, scan.statistics, dashed))
        if scan.size is not None:
            at = scan.statistics[scan.size - 1]
            lines.append(Line("", color, [scan.size], [at], markers="dot", joined=False))
    last = max(len(scan.statistics) for scan in scans)
    chart = Chart(
        "Scan for the critical N",
        "Kolmogorov-Smirnov statistic between distances and expectations over heads, against N.",
        linear("N, selected keys", [1, last], low=1 if last > 1 else 0, high=last),
        linear("Kolmogorov-Smirnov statistic", [0, 1], low=0, high=1),
        lines,
    )
    return Panel(
        chart,
        "How far the heads' distances and their expectations lie apart, 1 for not overlapping. "
        f"Dots: the first N not told apart: {'; '.join(map(_found, scans))}.",
        "attention.critical[].size",
    )


def expectation_name(scan: CriticalN) -> str:
    """The name of the expectation, for readers."""
    return EXPECTATIONS[scan.expectation][0]


def _found(scan: CriticalN) -> str:
    name = expectation_name(scan)
    if scan.size is None:
        return f"{name} none up to {len(scan.statistics):,}"
    part = "" if scan.share is None else f" ({share(scan.share)} of the context)"
    return f"{name} {scan.size:,}{part}"


def _distances(x: Sequence[int], points: Sequence[LengthPoint] | Sequence[SizePoint]) -> list[Line]:
    return [
        *_line("derived bound", "c-null", x, [p.bound for p in points], dashed=True),
        *_line("distance", "c-centred", x, [p.distance for p in points], markers="dot"),
        *_line("expected", "c-raw", x, [p.expected_monte_carlo for p in points], markers="dot"),
        *_line("derived main term", "c-raw", x, [p.expected_paper for p in points], dashed=True),
    ]


def _line(
    name: str,
    color: str,
    x: Sequence[float],
    y: Sequence[float | None],
    *,
    dashed: bool = False,
    markers: str = "",
) -> list[Line]:
    """A line through what a logarithmic axis can show; none if that is nothing.

    NaN stays: the chart says of it that it is not measurable.
    """
    pairs = [(a, b) for a, b in zip(x, y, strict=True) if b is not None and not b <= 0]
    if not pairs:
        return []
    # A single point is no line, and would leave its name beside nothing.
    markers = markers or ("ring" if len(pairs) == 1 else "")
    drawn_x, drawn_y = [a for a, _ in pairs], [b for _, b in pairs]
    return [Line(name, color, drawn_x, drawn_y, dashed, markers=markers)]


def _chart(
    title: str,
    description: str,
    x: Axis,
    label: str,
    lines: Sequence[Line],
    rules: Sequence[Rule] = (),
) -> Chart:
    """With a logarithmic axis of values, cut where they become nothing."""
    values = [value for line in lines for value in line.y if math.isfinite(value)]
    least = max(values, default=0.0) / DECADES
    low = least if values and min(values) < least else None
    return Chart(title, description, x, logarithmic(label, values, low=low), lines, rules)


def _marked(label: str, values: Sequence[int]) -> Axis:
    """A logarithmic axis with a tick at the values themselves, every second if they are many."""
    every = -(-len(values) // 8)
    ticks = tuple((float(v), f"{v:,}") for v in list(values)[::-1][::every][::-1])
    return _widened(Axis(label, min(values), max(values), True, ticks))


def _widened(axis: Axis) -> Axis:
    """Room for a single value, which would else stand on the axis."""
    if axis.low < axis.high:
        return axis
    return replace(axis, low=axis.low / 2, high=axis.high * 2)
