"""KL against d for each head, with ranks beside: tables of 80 columns, and a chart."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from statistics import fmean
from typing import Any

from wideneck.lab.published import prose
from wideneck.lab.sigsoftmax.charts import kl_chart
from wideneck.lab.sigsoftmax.known_rank.contenders import CONTENDERS
from wideneck.lab.sigsoftmax.known_rank.fit import Fit
from wideneck.lab.tables import Line, table
from wideneck.report.parts import Pair, Panel, paragraph

ROUNDING = 1e-12
"""Nats: a KL below is nothing but rounding."""

Row = tuple[str, Callable[[list[Fit]], str]]
"""Name, and what is told of the fits of one width."""


def blocks(fits: Sequence[Fit]) -> Iterator[Any]:
    """KL and ranks of every language, and how to read them."""
    languages = dict.fromkeys(fit.language for fit in fits)
    by_language = [[fit for fit in fits if fit.language == language] for language in languages]
    for some in by_language:
        columns = [("", ""), *((f"d = {d}", "") for d in sorted({fit.width for fit in some}))]
        rank = f'"{some[0].language}", log-probabilities of rank {some[0].true_rank}'
        for says, rows in TABLES.items():
            yield table(f"{rank}: {says}", _lines(some, *rows), columns)
    yield Pair([Panel(kl_chart(some)) for some in by_language])
    yield from (paragraph(text.format(fit=fits[0])) for text in prose("sigsoftmax")["known_rank"])


def _lines(fits: Sequence[Fit], of_language: Row, of_head: Row, *below: Row) -> Iterator[Line]:
    """What a width allows, then of each head a line, and those `below` it that say something."""
    widths = sorted({fit.width for fit in fits})

    def line(row: Row, some: Sequence[Fit], *, beside: bool = False) -> Line:
        name, cell = row
        cells = (cell([fit for fit in some if fit.width == width]) for width in widths)
        return Line([name.format(some[0].head), *cells], beside)

    yield line(of_language, fits)
    for head in CONTENDERS:
        if own := [fit for fit in fits if fit.head == head]:
            yield line(of_head, own)
            more = (line(row, own, beside=True) for row in below)
            yield from (each for each in more if any(each.cells[1:]))


def below_bound(fits: Iterable[Fit]) -> bool:
    """Whether every fit is below what its hidden size allows a softmax."""
    return all(fit.kl < fit.bound for fit in fits)


def _kl(cell: list[Fit]) -> str:
    return "*" * below_bound(cell) + _short(fmean(fit.kl for fit in cell))


def _range(cell: list[Fit]) -> str:
    values = [fit.kl for fit in cell]
    low, high = _short(min(values)), _short(max(values))
    return "" if low == high else f"{low}\N{EN DASH}{high}"


def _rank(cell: list[Fit]) -> str:
    return f"{fmean(f.rank for f in cell):.0f} ({fmean(f.rank_float64 for f in cell):.0f})"


def _wider(cell: list[Fit], told: str) -> str:
    """Of the matched softmax, which is wider than its column and whose bound is lower."""
    return told if cell[0].hidden_size > cell[0].width else ""


def _short(value: float) -> str:
    """`2.3e-3`, or 0."""
    if value < ROUNDING:
        return "0"
    digits, exponent = f"{value:.1e}".split("e")
    return f"{digits}e{int(exponent)}"


TABLES: dict[str, Sequence[Row]] = {
    "KL in nats, mean and range over seeds": (
        ("softmax's bound", lambda cell: _short(max(fit.bound for fit in cell))),
        ("{}", _kl),
        ("", _range),
        ("  its d", lambda cell: _wider(cell, str(cell[0].hidden_size))),
        ("  its bound", lambda cell: _wider(cell, _short(cell[0].bound))),
    ),
    "ranks that were fitted, Press (float64)": (
        ("the language", lambda cell: f"{cell[0].true_rank_press} ({cell[0].true_rank})"),
        ("{}", _rank),
    ),
}
"""What the table shows: a line of the language, one of each head, and those below it."""
