"""The curves of a watched run."""

import math
from collections.abc import Sequence

from wideneck.report.axes import Axis, linear, logarithmic
from wideneck.report.svg import Chart, Line
from wideneck.watching.quantities import Watched

STEPS = "steps[]"
"""Path of one step in a report."""
WIDE = 30.0
"""Ratio from which positive values get a logarithmic axis."""

PANELS: tuple[tuple[str, str, tuple[tuple[str, str, str], ...]], ...] = (
    ("Loss", "nats", (("training", "c-raw", "loss"), ("held out", "c-data", "valid_loss"))),
    (
        "Largest score",
        "mean over tokens",
        (("|z|", "c-raw", "largest_score"), ("above mean", "c-centred", "largest_above_mean")),
    ),
    ("Mean score", "mean of z", (("", "c-raw", "mean_score"),)),
    ("Log-normalizer", "mean over tokens", (("", "c-raw", "log_normalizer"),)),
    (
        "Variance of the log-normalizer",
        "variance over tokens",
        (("", "c-raw", "log_normalizer_variance"),),
    ),
    ("Entropy of the predictions", "nats", (("", "c-centred", "entropy"),)),
    (
        "How sure, how right",
        "mean over tokens",
        (
            ("largest p", "c-centred", "top_prob"),
            ("Σ p²", "c-null", "sum_sq_prob"),
            ("first", "c-data", "top1"),
        ),
    ),
    ("Mean row", "share of ‖W‖²", (("", "c-raw", "mean_row_share"),)),
    (
        "Lengths of the rows",
        "‖w‖",
        (
            ("longest", "c-raw", "row_norm_maximum"),
            ("95 %", "c-null", "row_norm_p95"),
            ("median", "c-centred", "row_norm_median"),
            ("5 %", "c-null", "row_norm_p05"),
        ),
    ),
    (
        "Stable rank",
        "‖W‖² / s₀², Frobenius norm",
        (("raw", "c-raw", "stable_rank"), ("centred", "c-centred", "stable_rank_centred")),
    ),
    ("Singular entropy, centred", "nats", (("", "c-centred", "singular_entropy"),)),
    (
        "Effective rank of the states",
        "exp of the entropy of s",
        (("", "c-data", "effective_rank"),),
    ),
    ("Length of the states", "root mean square of ‖h‖", (("", "c-data", "state_norm"),)),
    (
        "Gradient",
        "share of the squared norm",
        (("in W", "c-raw", "head_gradient_share"), ("kept", "c-centred", "gradient_kept")),
    ),
)
"""Title, axis, and the lines: name, colour, quantity."""


def charts(steps: Sequence[Watched]) -> list[tuple[Chart, str]]:
    """A chart for each panel that has two points, with the path of its first line's definition."""
    x = _step_axis([step.step for step in steps])
    found = []
    for title, label, lines in PANELS:
        drawn = [_line(steps, *line) for line in lines]
        drawn = [line for line in drawn if line.y]
        if max((len(line.y) for line in drawn), default=0) < 2:
            continue
        path = f"{STEPS}.{next(q for _, _, q in lines if any(_values(steps, q)))}"
        values = [value for line in drawn for value in line.y]
        chart = Chart(
            title,
            f"{title} at every step that was looked at: {label}.",
            x,
            _y(label, values),
            drawn,
        )
        found.append((chart, path))
    return found


def _values(steps: Sequence[Watched], quantity: str) -> list[tuple[int, float]]:
    known = ((step.step, getattr(step, quantity)) for step in steps)
    return [(at, float(value)) for at, value in known if value is not None]


def _line(steps: Sequence[Watched], name: str, color: str, quantity: str) -> Line:
    points = _values(steps, quantity)
    few = len(points) <= 20
    return Line(
        name, color, [at for at, _ in points], [y for _, y in points], markers="dot" if few else ""
    )


def _step_axis(steps: Sequence[int]) -> Axis:
    return linear(
        "training step", [float(s) for s in steps], low=float(steps[0]), high=float(steps[-1])
    )


def _y(label: str, values: Sequence[float]) -> Axis:
    finite = [value for value in values if math.isfinite(value)] or [0.0]
    if min(finite) > 0 and max(finite) > WIDE * min(finite):
        return logarithmic(label, finite)
    return linear(label, finite)
