"""The charts of one audit."""

import math
from collections.abc import Iterator, Sequence

from wideneck.audits.geometry import Spectra
from wideneck.audits.output import OutputAudit
from wideneck.audits.output.rank_cost import RankLoss
from wideneck.audits.scale import power_for
from wideneck.audits.spectrum import Spectrum
from wideneck.audits.states import LayerAnisotropy
from wideneck.report.axes import Axis, linear, logarithmic
from wideneck.report.svg import Chart, Line, Rule

LOWEST = 1e-3
"""Nats below which a loss is not drawn; intervals that reach further down end here."""


def spectrum_chart(spectra: Spectra) -> Chart:
    """Singular values over their root mean square, so that all matrices share one scale."""
    lines = [
        Line(name, color, range(1, len(y) + 1), y, dashed)
        for name, color, dashed, spectrum in _gauges(spectra)
        for y in [_over_rms(spectrum)]
    ]
    return Chart(
        "Singular values",
        "Singular values in falling order, each divided by the root mean square of its matrix, "
        "on logarithmic axes: raw, centred and a Gaussian matrix of the same shape.",
        logarithmic("i, from the largest", [], low=1, high=spectra.raw.num_columns),
        logarithmic("sᵢ / root mean square", [y for line in lines for y in line.y]),
        lines,
    )


def _over_rms(spectrum: Spectrum) -> list[float]:
    """Singular values over their root mean square; one NaN where there are none."""
    sigma = [s for s in spectrum.singular_values if s > 0]
    if not sigma or not all(map(math.isfinite, spectrum.singular_values)):
        return [math.nan]
    unit = power_for(sigma[0])  # squares of large or small ones leave float64
    rms = math.sqrt(sum((s * unit) ** 2 for s in sigma) / spectrum.num_columns)
    return [s * unit / rms for s in sigma]


def error_chart(spectra: Spectra) -> Chart:
    """W-error(r)."""
    lines = [
        Line(name, color, range(len(y)), y, dashed)
        for name, color, dashed, spectrum in _gauges(spectra)
        for y in [spectrum.w_error or [math.nan]]
    ]
    return Chart(
        "What a best rank-r approximation leaves out",
        "W-error(r), the relative Frobenius error of the best rank-r approximation, against r.",
        rank_axis(spectra.raw.num_columns),
        linear("W-error(r), relative Frobenius error", [0, 1]),
        lines,
        label_at=0.4 * spectra.raw.num_columns,
    )


def _gauges(spectra: Spectra) -> Iterator[tuple[str, str, bool, Spectrum]]:
    """Name, colour and whether dashed, of every spectrum that was measured."""
    for name, color, dashed, spectrum in (
        ("raw", "c-raw", False, spectra.raw),
        ("centred", "c-centred", False, spectra.centred),
        ("Gaussian", "c-null", True, spectra.null),
        ("weighted", "c-data", False, spectra.data_weighted),
        ("its Gaussian", "c-data", True, spectra.data_weighted_null),
    ):
        if spectrum is not None:
            yield name, color, dashed, spectrum


def rank_axis(d: int) -> Axis:
    """Ranks from 0 to d, marked at its quarters where they are whole."""
    quarters = [d * k // 4 for k in range(5)] if d % 4 == 0 else None
    return linear("rank r", [0, d], low=0, high=d, marks=quarters)


def cost_chart(output: OutputAudit, methods: Sequence[str], title: str) -> Chart | None:
    """Nats lost at rank r, measured with its interval and predicted."""
    points = [p for p in output.rank_cost.points if p.method in methods]
    if not points:
        return None
    everything = output.rank_cost.points
    bottom = min([p.measured.value for p in everything if p.measured.value > 0] or [0.1])
    loss = output.loss.nats_per_token.value
    heights = [output.loss.uniform_nats - loss, *(p.measured.value for p in everything)]
    top = max([2 * bottom, *(h for h in heights if math.isfinite(h))])
    rules = [Rule("unigram", output.loss.unigram_nats - loss)]
    if not output.loss.uniform_nats - loss <= 0:
        rules.append(Rule("uniform", output.loss.uniform_nats - loss))
    lines = []
    for method in methods:
        drawn = [p for p in points if p.method == method and not p.measured.value < LOWEST]
        lines += cost_lines(drawn, method)
    return Chart(
        title,
        "Loss of the truncated head minus loss of the head against its rank, on a logarithmic "
        "scale: measured with 95 % intervals, and the second-order prediction.",
        rank_axis(output.hidden_size),
        logarithmic("nats lost per token", [max(bottom, LOWEST), top], high=1.3 * top),
        lines,
        [rule for rule in rules if not rule.at <= 0],
    )


def cost_lines(points: Sequence[RankLoss], method: str) -> list[Line]:
    """What truncations of one method lose: rings as predicted, dots as measured."""
    ranks, color = [p.rank for p in points], f"c-{method}"
    return [
        Line("", color, ranks, [p.predicted for p in points], markers="ring", joined=False),
        Line(
            method,
            color,
            ranks,
            [p.measured.value for p in points],
            low=[p.measured.low for p in points],
            high=[p.measured.high for p in points],
            markers="dot",
        ),
    ]


def log_prob_chart(singular_values: Sequence[float], tolerance: float, bound: int | None) -> Chart:
    """Singular values of the log-probability matrix, with bound and tolerance."""
    y = [s for s in singular_values if not s <= 0] or [math.nan]
    rules = [Rule("tolerance", tolerance)]
    if bound is not None and bound < len(y):
        rules.append(Rule(f"bound {bound:,}", bound, vertical=True))
    return Chart(
        "Singular values of the log-probabilities",
        "Singular values of the matrix of log-probabilities, contexts by vocabulary, with the "
        "bound that the head sets and the tolerance of the numerical rank.",
        linear("i, from the largest", [0, len(singular_values)], low=0),
        logarithmic("singular value", [*y, tolerance]),
        [Line("log p", "c-centred", range(1, len(y) + 1), y)],
        rules,
    )


def anisotropy_chart(layers: Sequence[LayerAnisotropy]) -> Chart:
    """Mean cosine of hidden states by depth; the last point lies behind the final norm."""
    depth = range(len(layers))
    everywhere = [layer.mean_cosine for layer in layers]
    without = [layer.mean_cosine_without_first for layer in layers]
    last = len(layers) - 1
    rules = [Rule("final norm", last - 0.5, vertical=True)] if last else []
    return Chart(
        "Mean cosine of two hidden states",
        "Mean cosine of two hidden states at each depth, with and without the first position of "
        "each window; the last point is what enters the head, after the final norm.",
        depth_axis(len(layers)),
        linear("mean cosine", [0, 1, *everywhere, *without]),
        [
            Line("all", "c-raw", depth, everywhere, markers="dot"),
            Line("not first", "c-centred", depth, without, dashed=True, markers="ring"),
        ],
        rules,
    )


def depth_axis(num_states: int) -> Axis:
    """Places of the states of a model, from the embeddings to what enters the head."""
    last = num_states - 1
    step = max(1, math.ceil(last / 6))
    ticks = [(float(i), str(i) if i else "emb.") for i in range(0, last - step // 2, step)]
    ticks.append((float(last), "head"))
    return Axis("output of layer", 0, max(last, 1), ticks=tuple(ticks))
