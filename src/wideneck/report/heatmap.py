"""A heat map as inline SVG: one cell per head, layers along, heads down.

One hue from the page to full, so that it reads in light, in dark and in grey; two hues around 0.
The colour is an opacity of the page's variables, which every browser that draws SVG can mix.
"""

import math
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from markupsafe import Markup, escape

from wideneck.report.axes import SUPERSCRIPT, logarithmic
from wideneck.report.numbers import MINUS, TIMES
from wideneck.report.svg import LETTER, WIDTH, drawing, text_at

LEFT, RIGHT, TOP, FOOT = 40.0, 8.0, 56.0, 46.0
LARGEST, TALLEST = 26.0, 300.0
"""Largest side of a cell, and the height that the cells of one column share."""

FAINTEST = 0.1
"""Opacity of the smallest value, so that it is told from no value."""

NAMED = 2500
"""Cells up to which each carries its value; above, the file would be megabytes."""

SWATCH, NUM_SWATCHES = 15.0, 9
ALONG, DOWN = 20.0, 16.0
"""Least distance of two ticks, of layers and of heads."""


@dataclass(frozen=True)
class Scale:
    """From values to the strength of a colour: 0 to 1, and down to -1 where 0 is the middle."""

    low: float
    high: float
    low_text: str
    high_text: str
    log: bool = False
    diverging: bool = False

    def strength(self, value: float) -> float:
        """How strong the colour of a value is; beyond the ends, as strong as at the end."""
        if self.diverging:
            return min(1.0, max(-1.0, value / self.high))
        low, high, at = self.low, self.high, min(max(value, self.low), self.high)
        if self.log:
            low, high, at = math.log(low), math.log(high), math.log(at)
        return (at - low) / (high - low) if high > low else 1.0


def between(low: float, high: float) -> Scale:
    """A linear scale with fixed ends."""
    return Scale(low, high, _set(f"{low:g}"), _set(f"{high:g}"))


def decades(values: Iterable[float]) -> Scale:
    """A logarithmic scale over the positive values, between round ends a decade apart or more.

    What is not positive counts as the smallest.
    """
    axis = logarithmic("", values)
    low, high = axis.low, max(axis.high, 10 * axis.low)
    return Scale(low, high, _set(f"{low:g}"), _set(f"{high:g}"), log=True)


def around_zero(values: Iterable[float], unit: str = "") -> Scale:
    """A linear scale around 0 that at most one value in twenty leaves.

    One head in a hundred may matter a hundred times as much as the others; a scale up to it would
    show the others as nothing.
    """
    values = [value for value in values if math.isfinite(value)]
    sizes = sorted(abs(value) for value in values)
    # A value among the inner nineteen of twenty, written with two digits and rounded up.
    limit = sizes[math.ceil(0.95 * len(sizes)) - 1] if sizes else 0.0
    limit = _up(limit or max(sizes, default=0.0) or 1.0)
    text = f"{limit:g}"
    below, above = (any(side * value > limit for value in values) for side in (-1, 1))
    return Scale(
        -limit,
        limit,
        _set(f"{'≤ ' if below else ''}-{text}"),
        _set(f"{'≥ ' if above else ''}{text} {unit}".strip()),
        diverging=True,
    )


@dataclass(frozen=True)
class Cell:
    """One head; `text` is its value as words, and says why where there is none."""

    layer: int
    head: int
    value: float | None
    text: str


@dataclass(frozen=True)
class HeatMap:
    """What a heat map shows, in words and in cells.  Heads that are not there stay empty."""

    title: str
    description: str
    scale: Scale
    cells: Sequence[Cell]

    def svg(self) -> Markup:
        """The drawing."""
        layers = sorted({cell.layer for cell in self.cells})
        column = {layer: i for i, layer in enumerate(layers)}
        num_heads = max((cell.head for cell in self.cells), default=0)
        wide = min(LARGEST, (WIDTH - LEFT - RIGHT) / max(1, len(layers)))
        high = min(LARGEST, wide * 1.6, TALLEST / max(1, num_heads))
        foot = TOP + high * num_heads
        parts = [*self._key(), text_at(0, TOP - 10, "head", "axis")]
        parts += self._heads(column, wide, high)
        for i in _ticks(num_heads, DOWN / high):
            parts.append(text_at(LEFT - 7, TOP + (i + 0.5) * high + 4.5, f"{i + 1}", "tick end"))
        for i in _ticks(len(layers), ALONG / wide):
            parts.append(text_at(LEFT + (i + 0.5) * wide, foot + 17, f"{layers[i]}", "tick middle"))
        parts.append(text_at(LEFT + len(layers) * wide / 2, foot + 38, "layer", "axis middle"))
        return drawing(self, foot + FOOT, parts)

    def _heads(self, column: dict[int, int], wide: float, high: float):
        """The cells, each with its name and value unless there are too many."""
        named, gap = len(self.cells) <= NAMED, 1.0 if min(wide, high) > 6 else 0.0
        yield '<g class="heat">'
        for cell in self.cells:
            left, top = LEFT + column[cell.layer] * wide, TOP + (cell.head - 1) * high
            name = f"layer {cell.layer}, head {cell.head}: {cell.text}" if named else ""
            strength = None if cell.value is None else self.scale.strength(cell.value)
            yield _cell(left, top, wide - gap, high - gap, strength, name)
        yield "</g>"

    def _key(self):
        """The scale: swatches between the two ends, and what an empty cell is."""
        scale, start = self.scale, 1.1 * LETTER * len(self.scale.low_text) + 7
        yield text_at(0, 13, scale.low_text, "tick")
        yield '<g class="heat">'
        for i in range(NUM_SWATCHES):
            share = i / (NUM_SWATCHES - 1)
            strength = 2 * share - 1 if scale.diverging else share
            yield _cell(start + i * SWATCH, 2, SWATCH, 13, strength, "")
        yield "</g>"
        end = start + NUM_SWATCHES * SWATCH + 8
        note = f"{scale.high_text}{' (logarithmic)' if scale.log else ''}"
        yield text_at(end, 13, note, "tick")
        texts = {cell.text for cell in self.cells if cell.value is None}
        for name in sorted(texts, reverse=True)[:1]:  # "not measurable" before "none"
            place = WIDTH - RIGHT - 30 - LETTER * len(name)
            yield '<g class="heat">' + _cell(place, 2, SWATCH, 13, None, "") + "</g>"
            yield text_at(WIDTH - RIGHT, 13, name, "tick end")


def _cell(left: float, top: float, wide: float, high: float, strength: float | None, name: str):
    title = f"<title>{escape(name)}</title>" if name else ""
    route = f"M{left:.1f} {top:.1f}h{wide:.1f}v{high:.1f}h{-wide:.1f}z"
    if strength is None:
        crossed = f"M{left:.1f} {top + high:.1f}l{wide:.1f} {-high:.1f}"
        return f'<path class="missing" d="{crossed}{route}">{title}</path>'
    css = ' class="cold"' if strength < 0 else ""
    opacity = f' fill-opacity="{FAINTEST + (1 - FAINTEST) * abs(strength):.2f}"'
    return f'<path{css}{opacity} d="{route}">{title}</path>'


def _ticks(count: int, least: float) -> range:
    """Which of `count` places are named: every one, or every second, fifth ... if `least` asks."""
    return range(0, count, next((n for n in (1, 2, 4, 5, 10, 20, 50) if n >= least), 100))


def _up(value: float) -> float:
    """The value rounded up to two digits."""
    unit = 10.0 ** (math.floor(math.log10(value)) - 1)
    return float(f"{math.ceil(value / unit - 1e-9) * unit:.1e}")


def _set(text: str) -> str:
    """A number as a sign, digits and a power of ten, for text that knows no markup."""
    text = re.sub(
        r"e([+-]?)0*(\d+)",
        lambda m: f" {TIMES} 10{(m[1] + m[2]).strip('+').translate(SUPERSCRIPT)}",
        text,
    )
    return text.replace("-", MINUS)
