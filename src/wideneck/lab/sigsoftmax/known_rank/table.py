"""KL against d for each head, with ranks beside: tables of 80 columns, and a chart."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from statistics import fmean
from typing import Any

from wideneck.lab.sigsoftmax.known_rank.contenders import CONTENDERS
from wideneck.lab.sigsoftmax.known_rank.fit import Fit
from wideneck.lab.sigsoftmax.settings import MATCHED
from wideneck.lab.tables import Line, table
from wideneck.report import svg
from wideneck.report.axes import logarithmic
from wideneck.report.parts import Pair, Panel, paragraph

ROUNDING = 1e-12
"""Nats: a KL below is nothing but rounding."""
BELOW = "*"
DASH = "\N{EN DASH}"
DRAWN = {
    "softmax": "c-raw",
    "sigsoftmax": "c-centred",
    "PLIF": "c-data",
    "MoS": "c-fisher",
    "MoSS": "c-null",
}
"""Heads whose KL is drawn, and in which color."""
LEAST = 1e-7
"""Nats at which less is drawn."""


def blocks(fits: Sequence[Fit]) -> Iterator[Any]:
    """KL and ranks of every language, and how to read them."""
    languages = dict.fromkeys(fit.language for fit in fits)
    by_language = [[fit for fit in fits if fit.language == language] for language in languages]
    for some in by_language:
        columns = [("", ""), *((f"d = {width}", "") for width in _widths(some))]
        rank = f'"{some[0].language}", log-probabilities of rank {some[0].true_rank}'
        yield table(f"{rank}: KL in nats, mean and range over seeds", kl_rows(some), columns)
        yield table(f"{rank}: ranks that were fitted, Press (float64)", rank_rows(some), columns)
    yield Pair([Panel(kl_chart(some)) for some in by_language])
    yield from map(paragraph, reading(fits))


def kl_rows(fits: Sequence[Fit]) -> Iterable[Line]:
    """Rows of heads, columns of widths; the fits of one language."""
    yield _line("softmax's bound", _of_their_width(fits), lambda cell: _short(cell[0].bound))
    for head in _heads(fits):
        own = [fit for fit in fits if fit.head == head]
        yield _line(head, own, _kl)
        ranges = _line("", own, _range, beside=True)
        if any(ranges.cells):
            yield ranges
        if head == MATCHED:
            yield _line("  its d", own, lambda cell: str(cell[0].hidden_size), beside=True)
            yield _line("  its bound", own, lambda cell: _short(cell[0].bound), beside=True)


def rank_rows(fits: Sequence[Fit]) -> Iterable[Line]:
    """The same for numerical ranks, as means over seeds."""
    yield _line("the language", fits, lambda c: f"{c[0].true_rank_press} ({c[0].true_rank})")
    for head in _heads(fits):
        yield _line(head, [fit for fit in fits if fit.head == head], _rank)


def kl_chart(fits: Sequence[Fit]) -> svg.Chart:
    """KL against d, of one language."""
    widths = _widths(fits)

    def line(name: str, color: str, figure: str, some: Sequence[Fit], **more: Any) -> svg.Line:
        cells = [[getattr(fit, figure) for fit in some if fit.width == d] for d in widths]
        return svg.Line(name, color, widths, [max(LEAST, fmean(c)) for c in cells], **more)

    lines = [
        line(head, DRAWN[head], "kl", [fit for fit in fits if fit.head == head], markers="dot")
        for head in _heads(fits)
        if head in DRAWN
    ]
    lines.append(line("bound", "c-raw", "bound", _of_their_width(fits), dashed=True))
    return svg.Chart(
        f'KL on the language "{fits[0].language}"',
        "Mean KL over seeds against the hidden size d, and what no softmax of that d is below; "
        f"less than {LEAST:g} nats is drawn there.",
        logarithmic("hidden size d", widths, low=widths[0], high=widths[-1]),
        logarithmic("KL, nats", [value for line in lines for value in line.y]),
        lines,
    )


def reading(fits: Sequence[Fit]) -> Iterable[str]:
    """What the tables say and do not say."""
    yield (
        "Each context has a free vector of d numbers, fitted with the head, so that only the head "
        'limits the KL. Contexts of "softmax" differ in 16 numbers, and a head of smaller d is '
        'short of numbers, however bent. Those of "topics" differ in 3, yet their '
        "log-probabilities have full rank: from d = 3 on, only the shape of a head is short."
    )
    yield (
        "Bound: proved; no softmax of this d is below it, whatever its weights. "
        f"{BELOW}: every seed is below it. The softmax's own KL is only what was found, no bound; "
        "it lies above the bound by however much the proof gives away."
    )
    yield (
        f"{MATCHED}: as wide as gives it the parameters of the MoS; its contexts are wider too, "
        "and uncounted. Any KL may be a limit of the head or of its training "
        f"({fits[0].num_steps:,} steps of Adam, one learning rate for all). Press counts singular "
        "values above sqrt(C + V + 1)/2 s_0 2^-23."
    )


def _of_their_width(fits: Sequence[Fit]) -> Sequence[Fit]:
    """Those whose bound is that of the column, where there are any."""
    return [fit for fit in fits if fit.head != MATCHED] or fits


def below_bound(fits: Iterable[Fit]) -> bool:
    """Whether every fit is below what its hidden size allows a softmax."""
    return all(fit.kl < fit.bound for fit in fits)


def _kl(cell: list[Fit]) -> str:
    mean = _short(fmean(fit.kl for fit in cell))
    return BELOW + mean if below_bound(cell) else mean


def _range(cell: list[Fit]) -> str:
    values = [fit.kl for fit in cell]
    low, high = _short(min(values)), _short(max(values))
    return "" if low == high else f"{low}{DASH}{high}"


def _rank(cell: list[Fit]) -> str:
    return f"{fmean(f.rank for f in cell):.0f} ({fmean(f.rank_float64 for f in cell):.0f})"


def _short(value: float) -> str:
    """`2.3e-3`, or 0."""
    if value < ROUNDING:
        return "0"
    digits, exponent = f"{value:.1e}".split("e")
    return f"{digits}e{int(exponent)}"


def _heads(fits: Sequence[Fit]) -> list[str]:
    """Heads that were fitted, in the order of `CONTENDERS`."""
    found = {fit.head for fit in fits}
    return [head for head in CONTENDERS if head in found]


def _widths(fits: Sequence[Fit]) -> list[int]:
    return sorted({fit.width for fit in fits})


def _line(
    name: str, fits: Sequence[Fit], cell: Callable[[list[Fit]], str], *, beside: bool = False
) -> Line:
    """A cell for each width."""
    cells = [[fit for fit in fits if fit.width == width] for width in _widths(fits)]
    return Line([name, *map(cell, cells)], beside)
