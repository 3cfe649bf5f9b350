"""Axes of a chart: where a value lies on the page, and which values get a tick."""

import math
import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from wideneck.report.numbers import MINUS, TIMES, number

SMALLEST = 1e-300
"""Span below which a linear axis has no room for ticks."""

SUPERSCRIPT = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")


@dataclass(frozen=True)
class Axis:
    """One axis.  `zero` is where a logarithmic axis draws the value 0, if it does."""

    label: str
    low: float
    high: float
    log: bool = False
    ticks: tuple[tuple[float, str], ...] = ()
    zero: float | None = None

    def position(self, start: float, end: float) -> Callable[[float], float]:
        """The map from values to coordinates between `start` (low) and `end` (high)."""
        low, high = self._scaled(self.low), self._scaled(self.high)
        span = high - low or 1.0
        return lambda value: start + (self._scaled(value) - low) / span * (end - start)

    def _scaled(self, value: float) -> float:
        if not self.log:
            return value
        return math.log10(value if value > 0 or self.zero is None else self.zero)


def linear(
    label: str,
    values: Iterable[float],
    *,
    low: float | None = None,
    high: float | None = None,
    marks: Sequence[float] | None = None,
) -> Axis:
    """A linear axis over `values` that ends on ticks, unless `low` or `high` say where."""
    values = [x for x in values if math.isfinite(x)] or [0.0]
    bottom = min(values) if low is None else low
    top = max(values) if high is None else high
    if top - bottom < SMALLEST:
        pad = abs(top) * 0.1
        pad = pad if pad > SMALLEST else 1.0
        bottom, top = bottom - pad, top + pad
    step = _nice((top - bottom) / 5)
    if low is None:
        bottom = math.floor(bottom / step + 1e-9) * step
    if high is None:
        top = min(math.ceil(top / step - 1e-9) * step, sys.float_info.max)
    if marks is None:
        first = math.ceil(bottom / step - 1e-9)
        marks = [i * step for i in range(first, math.floor(top / step + 1e-9) + 1)]
    places = max(0, -math.floor(math.log10(step) + 1e-9))
    if places > 6 or max(abs(bottom), abs(top)) >= 1e9:
        ticks = tuple((x, _power(x, 1)) for x in marks)
    else:
        ticks = tuple((x, f"{x:,.{places}f}".replace("-", MINUS)) for x in marks)
    return Axis(label, bottom, top, ticks=ticks)


def logarithmic(
    label: str, values: Iterable[float], *, low: float | None = None, high: float | None = None
) -> Axis:
    """A logarithmic axis over the positive `values`, with a tick a decade, or 1-2-5 if few."""
    positive = [x for x in values if 0 < x < math.inf] or [1.0]
    bottom, top = low or min(positive), high or max(positive)
    if top <= bottom:
        bottom, top = bottom / 2, top * 2
    decades = range(math.floor(math.log10(bottom)), math.ceil(math.log10(top)) + 1)
    candidates = [k * 10.0**e for e in decades if -308 < e < 308 for k in (1, 2, 5)]
    if low is None:
        bottom = max([x for x in candidates if x <= bottom * (1 + 1e-9)] or [bottom])
    if high is None:
        top = min([x for x in candidates if x >= top * (1 - 1e-9)] or [top])
    if math.log10(top / bottom) > 1.6:
        candidates = candidates[::3]
    inside = [x for x in candidates if bottom * (1 - 1e-9) <= x <= top * (1 + 1e-9)]
    every = math.ceil(len(inside) / 7)
    return Axis(label, bottom, top, log=True, ticks=tuple((x, _power(x)) for x in inside[::every]))


def _nice(step: float) -> float:
    """The largest of 1, 2, 5 times a power of ten that is not above `step` x 1.3."""
    power = 10.0 ** math.floor(math.log10(step * 1.3))
    return max(k for k in (1.0, 2.0, 5.0) if k * power <= step * 1.3) * power


def _power(value: float, digits: int = 0) -> str:
    """A power of ten and its factor; `digits` decimals of the factor where they are not 0."""
    if digits:
        if value == 0:
            return "0"
        factor, exponent = f"{value:.{digits}e}".replace("-", MINUS, value < 0).split("e")
        return f"{factor.removesuffix('.0')}{TIMES}10{str(int(exponent)).translate(SUPERSCRIPT)}"
    if 1e-3 <= value * (1 + 1e-9) and value < 1e5:
        return number(round(value)) if value >= 1 else f"{value:.3f}".rstrip("0")
    exponent = math.floor(math.log10(value) + 1e-9)
    leading = round(value / 10.0**exponent)
    times = "" if leading == 1 else f"{leading}{TIMES}"
    return f"{times}10{str(exponent).translate(SUPERSCRIPT)}"
