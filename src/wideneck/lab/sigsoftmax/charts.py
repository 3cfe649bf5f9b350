"""Rank against loss, spectra of the log-probabilities, and the KL on a known language."""

from collections.abc import Sequence
from statistics import fmean
from typing import Any

from wideneck.lab.sigsoftmax.known_rank.fit import Fit
from wideneck.lab.sigsoftmax.reproduction import Reproduction
from wideneck.lab.spread import paired
from wideneck.report.axes import linear, logarithmic
from wideneck.report.svg import Chart, Line

COLORS = ("c-raw", "c-centred", "c-data", "c-fisher", "c-null")
SHOWN = ("softmax", "sigsoftmax", "GSS", "MoS", "MoSS")
"""Heads whose spectra are drawn."""
FITTED = ("softmax", "sigsoftmax", "PLIF", "MoS", "MoSS")
"""Heads whose KL is drawn."""
LEAST = 1e-7
"""Nats at which less is drawn."""
UNTRAINED = 0.5
"""Nats from the softmax beyond which a head would flatten the rest; the table has it."""


def rank_and_loss(found: Reproduction) -> Chart:
    """One point for each head: its rank, and its loss less that of the softmax."""
    arms = sorted(found.arms, key=lambda arm: arm.figures["rank"].mean)
    points = [
        (arm.name, arm.figures["rank"].mean, arm.against_softmax or paired([0.0] * 2))
        for arm in arms
    ]
    points = [point for point in points if abs(point[2].mean) < UNTRAINED]
    lines = [
        # Colors repeat; labels come in the order of losses, and this is the other axis.
        Line(
            f"{name}, {rank:.0f}",
            COLORS[number % len(COLORS)],
            [rank],
            [ours.mean],
            low=[ours.low],
            high=[ours.high],
            markers="dot",
            joined=False,
        )
        for number, (name, rank, ours) in enumerate(points)
    ]
    ends = [end for _, _, ours in points for end in (ours.mean, ours.low, ours.high)]
    return Chart(
        "Rank and loss",
        "Test loss minus that of the softmax against the numerical rank of the log-probabilities, "
        "one point for each head, 95 % intervals over seeds.",
        logarithmic("rank (Press)", [rank for _, rank, _ in points]),
        linear("test loss minus softmax, nats", [end for end in ends if end is not None]),
        lines,
    )


def spectra(found: Reproduction) -> Chart:
    """Singular values of the first seed, as shares of the largest."""
    first = {run.arm: run.singular_values for run in reversed(found.runs)}
    lines = []
    for color, name in zip(COLORS, SHOWN, strict=True):
        shares = [s / first[name][0] for s in first.get(name, ())]
        shares = [share for share in shares if share > 1e-8]
        lines.append(Line(name, color, range(1, len(shares) + 1), shares))
    return Chart(
        "Spectra of the log-probabilities",
        "Singular values of the matrix of log-probabilities, as shares of the largest, seed 0.",
        logarithmic("number", [1, max(len(line.x) for line in lines)]),
        logarithmic("singular value, of the largest", [y for line in lines for y in line.y]),
        lines,
    )


def kl_chart(fits: Sequence[Fit]) -> Chart:
    """KL against d, of one language."""
    widths = sorted({fit.width for fit in fits})

    def line(name: str, color: str, figure: str, some: Sequence[Fit], **more: Any) -> Line:
        cells = [[getattr(fit, figure) for fit in some if fit.width == d] for d in widths]
        return Line(name, color, widths, [max(LEAST, fmean(c)) for c in cells], **more)

    by_head = {head: [fit for fit in fits if fit.head == head] for head in FITTED}
    lines = [
        line(head, color, "kl", own, markers="dot")
        for color, (head, own) in zip(COLORS, by_head.items(), strict=True)
        if own
    ]
    # Not the matched softmax's, which is wider than its column.
    of_width = [fit for fit in fits if fit.hidden_size == fit.width] or fits
    lines.append(line("bound", COLORS[0], "bound", of_width, dashed=True))
    return Chart(
        f'KL on the language "{fits[0].language}"',
        "Mean KL over seeds against the hidden size d, and what no softmax of that d is below; "
        f"less than {LEAST:g} nats is drawn there.",
        logarithmic("hidden size d", widths, low=widths[0], high=widths[-1]),
        logarithmic("KL, nats", [value for line in lines for value in line.y]),
        lines,
    )
