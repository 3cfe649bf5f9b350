"""The charts of a comparison."""

from collections.abc import Iterator, Sequence

from wideneck.evaluation.comparison.results import Difference, OfKind, OneModel
from wideneck.report.axes import Axis, linear
from wideneck.report.svg import Chart, Line, Rule

SORTS = {
    "count": ("Difference by count of the target", "times that it stands elsewhere in the text"),
    "position": ("Difference by position", "position in the window"),
}
COLORS = ("c-raw", "c-centred", "c-data", "c-null")


def kinds_charts(found: Difference) -> Iterator[Chart]:
    """The difference over what has an order, with its intervals."""
    for sort, (title, label) in SORTS.items():
        kinds = [kind for kind in found.kinds if kind.sort == sort]
        if len(kinds) > 1:
            yield _by_range(title, label, kinds)


def _by_range(title: str, label: str, kinds: Sequence[OfKind]) -> Chart:
    low = [kind.difference.low for kind in kinds]
    high = [kind.difference.high for kind in kinds]
    value = [kind.difference.value for kind in kinds]
    ends = [x for x in [*low, *high, *value, 0.0] if x is not None]
    ticks = tuple((float(i), _short(kind.name)) for i, kind in enumerate(kinds))
    places = range(len(kinds))
    return Chart(
        title,
        "Loss of this model minus loss of the first, with 95 % intervals; below 0 this model is "
        "the better one.",
        Axis(label, -0.3, len(kinds) - 0.7, ticks=ticks),
        linear("nats", ends),
        [Line("", "c-centred", places, value, low=low, high=high, markers="dot", joined=False)],
        [Rule("equal", 0.0)],
    )


def _short(name: str) -> str:
    return name.replace(" to ", "\N{EN DASH}").replace(" or more", "+")


def calibration_chart(models: Sequence[OneModel]) -> Chart | None:
    """Accuracy over confidence, in tenths of the predictions; None without distributions."""
    drawn = [(i, model.calibration) for i, model in enumerate(models) if model.calibration]
    if not drawn or len(drawn) > len(COLORS):
        return None
    lines = [Line("calibrated", "c-null", [0, 1], [0, 1], dashed=True)]
    lines += [
        Line(
            str(i + 1),
            COLORS[i],
            [one.confidence for one in found.bins],
            [one.accuracy for one in found.bins],
            markers="ring" if i else "dot",
        )
        for i, found in drawn
    ]
    return Chart(
        "Calibration",
        "Share of predictions that come true against the probability of the most probable token, "
        "in tenths of the predictions; models by their place in the table.",
        linear("probability of the most probable token", [0, 1], low=0, high=1),
        linear("share that is right", [0, 1], low=0, high=1),
        lines,
    )
