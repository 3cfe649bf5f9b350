"""The figures of docs/results.md, from what `wideneck reproduce PAPER --json FILE` wrote.

    python -m bench results sigsoftmax lstm FILE.json
    python -m bench results saturation small FILE.json

Each figure goes to docs/results-*.svg.
"""

import json
import sys
from pathlib import Path
from statistics import fmean
from typing import Any

from bench.figure import write_figure
from wideneck.report.axes import linear, logarithmic
from wideneck.report.svg import Chart, Line

DOCS = Path(__file__).parents[1] / "docs"
COLORS = ("c-raw", "c-centred", "c-data", "c-fisher", "c-null")
SHOWN = ("softmax", "sigsoftmax", "GSS", "MoS", "MoSS")
"""Heads whose spectra are drawn."""
KNOWN = ("softmax", "sigsoftmax", "PLIF", "MoS", "MoSS")
"""Heads whose KL is drawn."""


def main(arguments: list[str]) -> None:
    if len(arguments) != 3 or arguments[0] not in PAPERS:
        sys.exit(__doc__)
    paper, name, file = arguments
    found = json.loads(Path(file).read_text("utf-8"))
    for part, chart in PAPERS[paper](found).items():
        write_figure(DOCS / f"results-{paper}-{name}-{part}.svg", chart)
    for language, chart in known_rank(found.get("known_rank", [])).items():
        write_figure(DOCS / f"results-known-rank-{language}.svg", chart)


def sigsoftmax(found: dict[str, Any]) -> dict[str, Chart]:
    """Rank against loss, and spectra."""
    return {"rank": _rank_and_loss(found), "spectra": _spectra(found)}


def known_rank(fits: list[dict[str, Any]]) -> dict[str, Chart]:
    """KL against d on each language of known rank."""
    languages = dict.fromkeys(fit["language"] for fit in fits)
    return {name: _known_rank([f for f in fits if f["language"] == name]) for name in languages}


def _rank_and_loss(found: dict[str, Any]) -> Chart:
    arms = [
        arm
        for arm in found["arms"]
        # One that did not train would flatten the rest; the table has it.
        if arm["against_softmax"] is None or abs(arm["against_softmax"]["mean"]) < 0.5
    ]
    lines = []
    for number, arm in enumerate(sorted(arms, key=lambda arm: _mean(arm, "rank"))):
        ours = arm["against_softmax"] or {"mean": 0.0, "low": 0.0, "high": 0.0}
        lines.append(
            Line(
                # Colors repeat; labels come in the order of losses, and this is the other axis.
                f"{arm['name']}, {_mean(arm, 'rank'):.0f}",
                COLORS[number % len(COLORS)],
                [_mean(arm, "rank")],
                [ours["mean"]],
                low=[ours["low"]],
                high=[ours["high"]],
                markers="dot",
                joined=False,
            )
        )
    ranks = [_mean(arm, "rank") for arm in arms]
    ends = [value for line in lines for value in (*line.low, *line.high) if value is not None]
    return Chart(
        "Rank and loss",
        "Test loss minus that of the softmax against the numerical rank of the log-probabilities, "
        "one point a head, 95 % intervals over seeds.",
        logarithmic("rank (Press)", ranks),
        linear("test loss minus softmax, nats", ends),
        lines,
    )


def _spectra(found: dict[str, Any]) -> Chart:
    lines, values = [], []
    for color, name in zip(COLORS, SHOWN, strict=True):
        run = next(run for run in found["runs"] if (run["arm"], run["seed"]) == (name, 0))
        shares = [s / run["singular_values"][0] for s in run["singular_values"]]
        shares = [s for s in shares if s > 1e-8]
        values += shares
        lines.append(Line(name, color, range(1, len(shares) + 1), shares))
    longest = max(len(line.x) for line in lines)
    return Chart(
        "Spectra of the log-probabilities",
        "Singular values of the matrix of log-probabilities, as shares of the largest, seed 0.",
        logarithmic("number", [1, longest]),
        logarithmic("singular value, of the largest", values),
        lines,
    )


def _known_rank(fits: list[dict[str, Any]]) -> Chart:
    widths = sorted({fit["width"] for fit in fits})
    floor = 1e-7

    def curve(head: str, figure: str) -> list[float]:
        return [
            max(floor, fmean(f[figure] for f in fits if (f["head"], f["width"]) == (head, width)))
            for width in widths
        ]

    lines = [
        Line(head, color, widths, curve(head, "kl"), markers="dot")
        for color, head in zip(COLORS, KNOWN, strict=True)
    ]
    lines.append(Line("bound", "c-raw", widths, curve("softmax", "bound"), dashed=True))
    return Chart(
        f'KL on the language "{fits[0]["language"]}"',
        "Mean KL over seeds against the hidden size d, and what no softmax of that d is below; "
        "less than 1e-7 is drawn there.",
        logarithmic("hidden size d", widths, low=widths[0], high=widths[-1]),
        logarithmic("KL, nats", [value for line in lines for value in line.y]),
        lines,
    )


def _mean(arm: dict[str, Any], figure: str) -> float:
    return arm["figures"][figure]["mean"]


def saturation(found: dict[str, Any]) -> dict[str, Chart]:
    """Losses and the output layer over steps for each width, and heads of every rank."""
    return {
        "loss": _over_steps(found, "loss", "held-out loss, nats"),
        "entropy": _over_steps(found, "kl_sigma2", "singular entropy, nats"),
        "rank": _heads(found),
    }


def _over_steps(found: dict[str, Any], figure: str, label: str) -> Chart:
    lines = []
    for color, width in zip(COLORS, sorted({run["width"] for run in found["family"]}), strict=True):
        courses = [run["measured"] for run in found["family"] if run["width"] == width]
        steps = [one["checkpoint"]["step"] for one in courses[0]]
        means = [
            fmean(course[i]["checkpoint"][figure] for course in courses) for i in range(len(steps))
        ]
        # Step 0 has no place on a logarithmic axis.
        lines.append(Line(f"d = {width}", color, steps[1:], means[1:], markers="dot"))
    return Chart(
        f"{label.split(',')[0].capitalize()} over training",
        "Mean over seeds for each width, against the optimizer's steps.",
        logarithmic("step", [step for line in lines for step in line.x]),
        linear(label, [value for line in lines for value in line.y]),
        lines,
    )


def _heads(found: dict[str, Any]) -> Chart:
    arms = [arm for arm in found["arms"] if arm["start"] == "whitened"]
    cut = [arm for arm in arms if arm["whitened"] is not None]
    ranks = [arm["rank"] for arm in arms]
    lines = [
        Line(
            "trained",
            "c-centred",
            ranks,
            [arm["trained_gap"]["value"] for arm in arms],
            low=[arm["trained_gap"]["low"] for arm in arms],
            high=[arm["trained_gap"]["high"] for arm in arms],
            markers="dot",
        ),
        Line(
            "truncated",
            "c-raw",
            [arm["rank"] for arm in cut],
            [arm["whitened"]["measured"]["value"] for arm in cut],
            markers="dot",
        ),
        Line(
            "predicted",
            "c-data",
            [arm["rank"] for arm in cut],
            [arm["whitened"]["predicted"] for arm in cut],
            dashed=True,
        ),
    ]
    values = [value for line in lines for value in line.y]
    return Chart(
        "Heads of rank r",
        "Loss minus that of the untouched output layer: whitened truncation, measured and as the "
        "audit predicts it, and after training, with 95 % intervals.",
        logarithmic("rank r", ranks),
        linear("loss minus the untouched head's, nats", values, high=min(max(values), 6.0)),
        lines,
    )


PAPERS = {"sigsoftmax": sigsoftmax, "saturation": saturation}

if __name__ == "__main__":
    main(sys.argv[1:])
