"""Cost of our mixture of softmaxes against N, K and V, one at a time.

Forward and backward pass in float32, the shortest of three, over sizes from 1 to 16 times the
smallest; the line is the one of least squared relative deviation.  At scale 1 the figure goes
to docs/bench-heads.svg.
"""

from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np

from bench.cases import OURS, Case
from bench.figure import write_figure
from bench.parts import report, seconds
from bench.peers import IMPLEMENTATIONS, Batch, step
from wideneck.report.axes import linear
from wideneck.report.svg import Chart, Line

FIGURE = Path(__file__).parents[1] / "docs" / "bench-heads.svg"
MULTIPLES = (1, 2, 4, 8, 16)
# The smallest case of each line; they differ so that the three lines do not cover each other.
STARTS = {
    "N": Case(N=256, K=2, D=256, V=10_000, limit=0, rows={}),
    "K": Case(N=256, K=1, D=256, V=10_000, limit=0, rows={}),
    "V": Case(N=768, K=2, D=256, V=5_000, limit=0, rows={}),
}
COLORS = {"N": "c-raw", "K": "c-centred", "V": "c-data"}


class Fit(NamedTuple):
    """Seconds at each size, and their line."""

    sizes: np.ndarray
    times: np.ndarray
    line: np.ndarray
    at_zero: float
    slope: float


def sweep(scale: float) -> None:
    fits = {name: _sweep(name, start.scaled(scale)) for name, start in STARTS.items()}
    print("mixture of softmaxes, forward and backward pass, one size varied.\n")
    for name, fit in fits.items():
        deviations = 100 * (fit.times / fit.line - 1)
        rows = [
            [f"{size:,}", f"{t:.4f}", f"{f:.4f}", f"{deviation:+.1f} %"]
            for size, t, f, deviation in zip(*fit[:3], deviations, strict=True)
        ]
        header = (name, "seconds", "line", "deviation")
        report(f"From {STARTS[name].scaled(scale)}:", header, rows)
        print(
            f"Line: {fit.at_zero:.4f} s + {1000 * fit.slope:.4g} ms for each; "
            f"largest deviation {abs(deviations).max():.1f} %.\n"
        )
    if scale == 1:
        write_figure(FIGURE, _chart(fits))


def _sweep(name: str, start: Case) -> Fit:
    sizes = getattr(start, name) * np.array(MULTIPLES)
    times = []
    for size in sizes.tolist():
        batch = Batch.make(replace(start, **{name: size}))
        run = partial(step, batch, IMPLEMENTATIONS[OURS](batch))
        run()
        times.append(min(seconds(run) for _ in range(3)))
    slope, at_zero = np.polyfit(sizes, times, 1, w=1 / np.array(times))
    return Fit(sizes, np.array(times), at_zero + slope * sizes, at_zero, slope)


def _chart(fits: dict[str, Fit]) -> Chart:
    lines = []
    for name, fit in fits.items():
        label = f"{name} from {fit.sizes[0]:,}"
        lines.append(Line(label, COLORS[name], MULTIPLES, fit.line.tolist()))
        lines.append(
            Line("", COLORS[name], MULTIPLES, fit.times.tolist(), markers="dot", joined=False)
        )
    return Chart(
        "Cost of a mixture of softmaxes",
        "Seconds of a forward and a backward pass against N, K and V, each as a multiple of its "
        "smallest value: measured points and the straight line through them.",
        linear("size, as a multiple of the smallest", MULTIPLES, low=0, high=16, marks=MULTIPLES),
        linear("seconds", [0, *(t for fit in fits.values() for t in (*fit.times, *fit.line))]),
        lines,
    )
