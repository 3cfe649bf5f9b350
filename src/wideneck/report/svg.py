"""A line chart as inline SVG: labels on the lines, colours from the page's variables.

One size, made for half of a wide page and for the whole of a phone.
"""

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

from markupsafe import Markup, escape

from wideneck.report.axes import Axis
from wideneck.report.numbers import UNMEASURED

WIDTH, HEIGHT = 440, 330
TOP, BOTTOM = 34, 52
LETTER = 8.0
"""Mean width of a letter at 13 units, so that labels get the margin they need."""

LINE = 16
POINTS = 150
"""Most points drawn of one line."""

SHAPES = {"dot": ("dot", 3.0), "ring": ("ring", 5.0)}
"""Marker -> (class, radius): a ring leaves a dot visible that it agrees with."""

NAME = 40.0
"""Points closer than this along x have names that may touch."""

HALF = 11.0
"""Half of a box's width."""

Place = Callable[[float], float]


@dataclass(frozen=True)
class Line:
    """One series; `color` names a variable of the page's palette."""

    name: str
    color: str
    x: Sequence[float]
    y: Sequence[float]
    dashed: bool = False
    low: Sequence[float | None] = ()
    high: Sequence[float | None] = ()
    markers: str = ""
    """A key of SHAPES, or nothing."""
    joined: bool = True
    hollow: frozenset[int] = frozenset()
    """Points that are drawn empty instead."""
    shift: float = 0.0
    named: Sequence[str] = ()
    """What stands beside each point."""
    band: bool = False
    """Whether `low` and `high` are the edges of an area, not whiskers."""


@dataclass(frozen=True)
class Rule:
    """A straight reference line at one value."""

    name: str
    at: float
    vertical: bool = False


@dataclass(frozen=True)
class Box:
    """Five ascending numbers standing at `at`; whiskers reach to the smallest and the largest."""

    at: float
    numbers: tuple[float, float, float, float, float]
    color: str


@dataclass(frozen=True)
class Chart:
    """What a chart shows, in words and in lines."""

    title: str
    description: str
    x: Axis
    y: Axis
    lines: Sequence[Line]
    rules: Sequence[Rule] = field(default=())
    label_at: float | None = None
    """Where along x the labels stand inside the frame; None for the right end."""
    boxes: Sequence[Box] = field(default=())

    def svg(self) -> Markup:
        """The drawing."""
        shown = [line for line in self.lines if line.name]
        names = [line.name for line in shown] + [r.name for r in self.rules if not r.vertical]
        left = 12 + LETTER * max(len(text) for _, text in self.y.ticks)
        margin = LETTER * max(map(len, names), default=0) if self.label_at is None else 8
        right = WIDTH - 10 - margin
        x, y = self.x.position(left, right), self.y.position(HEIGHT - BOTTOM, TOP)
        parts = [*self._frame(left, right, x, y)]
        rules = [rule for rule in self.rules if math.isfinite(rule.at)]
        labels = [(y(r.at), r.name, "muted") for r in rules if not r.vertical]
        for rule in rules:
            parts += _rule(rule, left, right, x, y)
        for box in self.boxes:
            if all(map(math.isfinite, box.numbers)):
                parts += _box(box, x, y)
        for line in self.lines:
            parts += _draw(line, self, x, y)
            drawn = [(a, b) for a, b in zip(line.x, line.y, strict=True) if math.isfinite(b)]
            if line.name and drawn:
                end = drawn[-1][1] if self.label_at is None else _at(drawn, self.label_at)
                labels.append((y(_inside(end, self.y)), line.name, line.color))
        parts += self._names(x, y)
        if self.label_at is None:
            places = _spread([label[0] for label in labels])
            for place, (_, name, color) in zip(places, labels, strict=True):
                parts.append(text_at(right + 8, place + 4, name, f"label {color}"))
        else:
            parts += _along(sorted(labels), x(self.label_at) + 6, right)
        for i, said in enumerate(self._missing()):
            parts.append(text_at(left + 6, TOP + 12 + LINE * i, said, "label halo muted"))
        return drawing(self, HEIGHT, parts)

    def _names(self, x: Place, y: Place) -> Iterator[str]:
        """What stands beside points, moved apart where points stand nearly over each other."""
        named = [
            (x(a), y(_inside(b, self.y)), text, line.color)
            for line in self.lines
            for a, b, text in zip(line.x, line.y, line.named or [""] * len(line.x), strict=True)
            if text and math.isfinite(b)
        ]
        groups: list[list[tuple[float, float, str, str]]] = []
        for one in sorted(named):
            if not groups or one[0] - groups[-1][0][0] > NAME:
                groups.append([])
            groups[-1].append(one)
        for group in groups:
            places = _spread([height for _, height, _, _ in group])
            for place, (at, _, text, color) in zip(places, group, strict=True):
                yield text_at(at + 7, place + 4, text, f"label halo {color}")

    def _missing(self) -> Iterator[str]:
        """What is not drawn because it could not be measured."""
        for line in self.lines:
            count = sum(not math.isfinite(b) for b in line.y)
            if count:
                many = "" if count == len(line.y) else f"{count:,} of {len(line.y):,} points "
                yield f"{line.name or 'one line'}: {many}{UNMEASURED}"
        for rule in self.rules:
            if not math.isfinite(rule.at):
                yield f"{rule.name}: {UNMEASURED}"
        for box in self.boxes:
            if not all(map(math.isfinite, box.numbers)):
                yield f"box at {box.at:g}: {UNMEASURED}"

    def _frame(self, left: float, right: float, x: Place, y: Place):
        yield text_at(0, 13, self.y.label, "axis")
        for value, text in self.y.ticks:
            yield _path("grid", f"M{left:.1f} {y(value):.1f}H{right:.1f}")
            yield text_at(left - 7, y(value) + 4.5, text, "tick end")
        foot = HEIGHT - BOTTOM
        yield _path("base", f"M{left:.1f} {foot}H{right:.1f}")
        for value, text in self.x.ticks:
            yield _path("base", f"M{x(value):.1f} {foot}v5")
            yield text_at(x(value), foot + 19, text, "tick middle")
        yield text_at((left + right) / 2, HEIGHT - 6, self.x.label, "axis middle")


def drawing(shown: Any, height: float, parts: Iterable[str]) -> Markup:
    """The parts as one drawing, with the title and the description of what it shows."""
    return Markup(
        f'<svg viewBox="0 0 {WIDTH} {height:.0f}" role="img" class="chart">'
        f"<title>{escape(shown.title)}</title><desc>{escape(shown.description)}</desc>"
        f"{''.join(parts)}</svg>"
    )


def _draw(line: Line, chart: Chart, x: Place, y: Place):
    runs: list[list[tuple[int, float, float]]] = [[]]
    for i, (a, b) in enumerate(zip(line.x, line.y, strict=True)):
        if not math.isfinite(b):
            runs.append([])  # no line across what could not be measured
        elif b > 0 or not chart.y.log:
            runs[-1].append((i, x(a) + line.shift, y(_inside(b, chart.y))))
    if line.band:
        yield _band(line, chart, x, y)
    for i, low in enumerate(() if line.band else line.low):
        high = line.high[i]
        if low is None or high is None or not math.isfinite(low + high):
            continue
        if high > 0 or not chart.y.log:
            ends = [y(_inside(end, chart.y)) for end in (low, high)]
            yield _path(
                f"whisker {line.color}",
                f"M{x(line.x[i]) + line.shift:.1f} {ends[0]:.1f}V{ends[1]:.1f}",
            )
    if line.joined:
        css = f"line {line.color}{' dashed' if line.dashed else ''}"
        for points in runs if len(runs) == 1 else filter(None, runs):
            yield _path(css, "M" + "L".join(f"{a:.1f} {b:.1f}" for _, a, b in thin(points)))
    if line.markers:
        for i, a, b in (point for points in runs for point in points):
            shape, radius = ("hollow", 4.5) if i in line.hollow else SHAPES[line.markers]
            yield (f'<circle class="{shape} {line.color}" cx="{a:.1f}" cy="{b:.1f}" r="{radius}"/>')


def _band(line: Line, chart: Chart, x: Place, y: Place) -> str:
    """The area between `low` and `high`: there along the top, back along the bottom."""
    there, back = (
        [
            f"{x(a):.1f} {y(_inside(b, chart.y)):.1f}"
            for a, b in zip(line.x, edge, strict=True)
            if b is not None and math.isfinite(b)
        ]
        for edge in (line.high, line.low)
    )
    return _path(f"band {line.color}", f"M{'L'.join([*there, *reversed(back)])}Z")


def _rule(rule: Rule, left: float, right: float, x: Place, y: Place):
    if not rule.vertical:
        yield _path("rule", f"M{left:.1f} {y(rule.at):.1f}H{right:.1f}")
        return
    at = x(rule.at)
    yield _path("rule", f"M{at:.1f} {TOP}V{HEIGHT - BOTTOM}")
    side = "end" if at > (left + right) / 2 else ""
    yield text_at(at + (-6 if side else 6), TOP + 12, rule.name, f"label muted {side}")


def _box(box: Box, x: Place, y: Place):
    center = x(box.at)
    lowest, quarter, median, three_quarters, highest = (f"{y(value):.1f}" for value in box.numbers)
    left, right = f"{center - HALF:.1f}", f"{center + HALF:.1f}"
    whiskers = f"M{center:.1f} {lowest}V{quarter}M{center:.1f} {three_quarters}V{highest}"
    yield _path(f"whisker {box.color}", whiskers)
    yield _path(f"box {box.color}", f"M{left} {quarter}V{three_quarters}H{right}V{quarter}Z")
    yield _path(f"median {box.color}", f"M{left} {median}H{right}")


def _along(labels: list[tuple[float, str, str]], left: float, right: float):
    """Labels above their falling lines, the last below; stacked in the empty corner if crowded."""
    heights = [height - 5 for height, _, _ in labels]
    if len(heights) > 1:
        heights[-1] += 21
    crowded = any(b - a < LINE for a, b in pairwise(heights))
    for i, (height, (_, name, color)) in enumerate(zip(heights, labels, strict=True)):
        if crowded:
            yield text_at(right, TOP + 8 + LINE * i, name, f"label end {color}")
        else:
            yield text_at(left, height, name, f"label halo {color}")


def _at(points: list[tuple[float, float]], at: float) -> float:
    """The height of the point nearest to `at`."""
    return min(points, key=lambda point: abs(point[0] - at))[1]


def thin(points: list, most: int = POINTS) -> list:
    """At most about `most` of the points, dense at both ends, where spectra bend."""
    if len(points) <= most:
        return points
    last, third = len(points) - 1, most // 3
    near = {round(last ** (k / third)) for k in range(third + 1)} | {0}
    kept = near | {last - i for i in near} | {round(last * k / third) for k in range(third + 1)}
    return [points[i] for i in sorted(kept)]


def _inside(value: float, axis: Axis) -> float:
    """A value pulled to the frame, for whiskers and labels that would leave it."""
    return min(max(value, axis.low), axis.high)


def _spread(places: list[float]) -> list[float]:
    """The same places moved apart until no two labels touch, in their order."""
    order = sorted(range(len(places)), key=places.__getitem__)
    moved = [min(max(places[i], TOP), HEIGHT - BOTTOM) for i in order]
    for _ in range(200):
        for i in range(1, len(moved)):
            overlap = LINE - (moved[i] - moved[i - 1])
            if overlap > 0.1:
                moved[i - 1] -= overlap / 2
                moved[i] += overlap / 2
        if moved:
            shift = max(0.0, moved[-1] - (HEIGHT - BOTTOM + 6)) or min(0.0, moved[0] - TOP)
            moved = [m - shift for m in moved]
    return [moved[order.index(i)] for i in range(len(places))]


def _path(css: str, d: str) -> str:
    return f'<path class="{css}" d="{d}"/>'


def text_at(x: float, y: float, text: str, css: str) -> str:
    return f'<text class="{css}" x="{x:.1f}" y="{y:.1f}">{escape(text)}</text>'
