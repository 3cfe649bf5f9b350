"""Losses and the output layer over the steps for each width, and heads of every rank."""

from statistics import fmean

from wideneck.lab.saturation.reproduction import Reproduction
from wideneck.report.axes import linear, logarithmic
from wideneck.report.charts import cost_lines
from wideneck.report.svg import Chart, Line

COLORS = ("c-raw", "c-centred", "c-data", "c-fisher", "c-null")
HIGHEST = 6.0
"""Nats beyond which a truncated head is not drawn."""


def over_steps(found: Reproduction, figure: str, label: str) -> Chart:
    """A field of the checkpoints, as a mean over seeds.

    Args:
        found: the reproduction.
        figure: name of the field.
        label: what it is, and its unit behind a comma.
    """
    lines = []
    for place, width in enumerate(width.width for width in found.widths):
        courses = [run.measured for run in found.family if run.width == width]
        # Step 0 has no place on a logarithmic axis.
        at = [[one.checkpoint for one in several] for several in zip(*courses, strict=True)][1:]
        lines.append(
            Line(
                f"d = {width}",
                COLORS[place % len(COLORS)],
                [same[0].step for same in at],
                [fmean(getattr(one, figure) for one in same) for same in at],
                markers="dot",
            )
        )
    return Chart(
        f"{label.split(',')[0].capitalize()} over training",
        "Mean over seeds for each width, against the optimizer's steps.",
        logarithmic("step", [step for line in lines for step in line.x]),
        linear(label, [value for line in lines for value in line.y]),
        lines,
    )


def heads_of_rank(found: Reproduction) -> Chart:
    """What a cut to rank r loses, as measured and as predicted, and what training gives back."""
    arms = [arm for arm in found.arms if arm.start == "whitened"]
    ranks, gaps = [arm.rank for arm in arms], [arm.trained_gap for arm in arms]
    trained = Line(
        "trained",
        "c-centred",
        ranks,
        [gap.value for gap in gaps],
        low=[gap.low for gap in gaps],
        high=[gap.high for gap in gaps],
        markers="dot",
    )
    cut = [arm.whitened for arm in arms if arm.whitened is not None]
    lines = [trained, *cost_lines(cut, "whitened")]
    values = [value for line in lines for value in line.y]
    return Chart(
        "Heads of rank r",
        "Loss minus that of the untouched output layer: whitened truncation, measured (dots) and "
        "as the audit predicts it (rings), and after training, with 95 % intervals.",
        logarithmic("rank r", ranks),
        linear("loss minus the untouched head's, nats", values, high=min(max(values), HIGHEST)),
        lines,
    )
