"""How a number is written: one rule for the terminal, the HTML file and the charts.

Everything here is plain ASCII; `pretty` turns it into typography for HTML.
"""

import math
import re
from collections.abc import Callable
from typing import Any, TypeGuard

from markupsafe import Markup, escape

from wideneck.audits.estimate import Estimate
from wideneck.files.printable import LONGEST, printable, shortened

UNMEASURED = "not measurable"
"""What stands in the place of a number that is not there."""

MINUS, TIMES = "\N{MINUS SIGN}", "\N{MULTIPLICATION SIGN}"


def known(x: float | None) -> TypeGuard[float]:
    """Whether there is a number: NaN stands for what could not be measured."""
    return x is not None and math.isfinite(x)


def number(x: float | None, digits: int = 3) -> str:
    """Three significant digits, thousands separated; whole numbers in full."""
    if not known(x):
        return UNMEASURED
    if isinstance(x, int):
        return f"{x:,}"
    mantissa, exponent = f"{x:.{digits - 1}e}".split("e")
    size = int(exponent)
    if x == 0:
        return "0"
    if size < -3 or size > 6:
        return f"{mantissa}e{size}"
    return f"{float(f'{mantissa}e{size}'):,.{max(0, digits - 1 - size)}f}"


def hundredths(x: float | None) -> str:
    """Two decimals, for what lies between -1 and 1."""
    return f"{x:.2f}" if known(x) else UNMEASURED


def optional(without: str, write: Callable[[Any], str] = number) -> Callable[[Any], str]:
    """A way to write what may be None, in whose place `without` stands."""
    return lambda x: without if x is None else write(x)


def counted(count: int, name: str) -> str:
    """A count of things: `1 token`, `2,000 tokens`."""
    return f"{count:,} {name}{'' if count == 1 else 's'}"


def with_name(text: str, name: str) -> str:
    """A written number and what it is: `0.36 Gaussian`."""
    return f"{name}: {text}" if text == UNMEASURED else f"{text} {name}"


def in_unit(text: str, unit: str) -> str:
    """A written number and its unit: `0.36 nats`."""
    return text if text == UNMEASURED else f"{text} {unit}"


def share(x: float | None, digits: int = 3) -> str:
    """A part of one as a percentage."""
    return in_unit(number(100.0 * x, digits), "%") if known(x) else UNMEASURED


def percentage(e: Estimate) -> str:
    """The value of an estimated part of one, as a percentage."""
    return in_unit(value(_percent(e)), "%")


def percent_interval(e: Estimate) -> str:
    """The interval of an estimated part of one, in percent."""
    return interval(_percent(e))


def _percent(e: Estimate) -> Estimate:
    return e.map(lambda x: 100.0 * x)


def value(e: Estimate) -> str:
    """The value of an estimate, to the precision that its interval grants."""
    return _fixed(e.value, _places(e))


def interval(e: Estimate) -> str:
    """The 95 % interval of an estimate; empty where there is none."""
    if e.low is None or e.high is None or not math.isfinite(e.low + e.high):
        return ""
    return f"[{_fixed(e.low, _places(e))}, {_fixed(e.high, _places(e))}]"


def estimate(e: Estimate) -> str:
    """Value and interval: `2.46 [2.03, 2.90]`."""
    return f"{value(e)} {interval(e)}".rstrip()


def basis(e: Estimate) -> str:
    """What the intervals are over, or why there is none."""
    groups = e.over if e.num_groups != 1 else e.over.removesuffix("s")
    worth = f"{e.effective_groups:,.1f}"
    if float(worth.replace(",", "")) == e.num_groups:
        words = f"{e.num_groups:,} {groups}"
    else:
        words = f"{e.num_groups:,} {groups}, worth {worth} of equal length"
    if e.low is not None:
        return f"95 % intervals over {words}"
    if e.num_groups == 1:
        return f"no 95 % interval: {words} is one sample"
    return f"no 95 % interval: {words}, are too unequal for one"


def _places(e: Estimate) -> int | None:
    """Decimals that leave two significant digits in half the interval."""
    if e.low is None or e.high is None or not 0 < e.high - e.low < math.inf:
        return None
    return min(6, max(0, 1 - math.floor(math.log10((e.high - e.low) / 2))))


def _fixed(x: float, places: int | None) -> str:
    if places is None or not math.isfinite(x):
        return number(float(x))
    text = f"{x:,.{places}f}"
    return text.removeprefix("-") if float(text.replace(",", "")) == 0 else text


def pretty(text: str) -> Markup:
    """Escape, then set minus signs, powers of ten, times signs and non-breaking spaces."""
    html = str(escape(text))
    html = html.replace("&gt;=", "≥").replace("&lt;=", "≤")
    html = re.sub(
        r"(?<![\w.])(\d+(?:\.\d+)?)e(-?)(\d+)(?!\w)",
        lambda m: f"{m[1]} {TIMES} 10<sup>{MINUS if m[2] else ''}{int(m[3])}</sup>",
        html,
    )
    html = html.replace(" - ", f" {MINUS} ")
    html = re.sub(r"\^(-?)(\d+|[TF])(?!\w)", r"^\1{\2}", html)
    html = re.sub(r"(?<![\w.^])-(?=\d)", MINUS, html)
    # An index stands at a letter or a norm; at a digit it is part of a name, such as Q4_1.
    html = re.sub(r"(?<=[^\W\d_]|\|)_([A-Za-z0-9])(?![A-Za-z0-9_])", r"<sub>\1</sub>", html)
    html = re.sub(r"_\{([^}]*)\}", r"<sub>\1</sub>", html)
    html = re.sub(r"\^(-?)\{(\w+)\}", lambda m: f"<sup>{MINUS if m[1] else ''}{m[2]}</sup>", html)
    html = re.sub(r"(?<=\d) x (?=\d)", f"\u00a0{TIMES}\u00a0", html)
    return Markup(re.sub(rf"(?<=\d) (?=[%(\[{TIMES}]|nats?\b)", "\u00a0", html))


def visible(string: str | None, most: int = LONGEST) -> str:
    """A token's string, or a tensor's name, as it is shown.

    Everything that does not print, or turns text around, is spelt out, and a long one is shortened:
    the JSON file holds all of it.
    """
    if string is None:
        return ""
    return shortened(printable(shortened(string, most)), most)
