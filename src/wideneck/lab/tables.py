"""Tables of reproductions, whose columns are data.

A column is its name, and how a row is written there: the format string of the row's fields, and of
its `figures` by name, or a function of the row.  The first column has the labels.  So

    ("", "d = {width}"), ("best", "{best_loss:.3f}"), ("rise", "{rise.mean:.3f}")

are three columns of rows that have a `width`, figures with a `best_loss`, and a `rise`.  What is
None is left empty.  The head of a column leads to the definition of the field, or of the figures.
"""

from collections.abc import Callable, Collection, Container, Iterable, Sequence
from dataclasses import dataclass
from string import Formatter
from typing import Any

from wideneck.report.parts import BOTH, Column, Table

Cell = str | Callable[[Any], str]
Columns = Iterable[tuple[str, Cell] | tuple[str, Cell, str]]
"""Name, and format string, or function and perhaps the name of the field that it writes."""


@dataclass(frozen=True)
class Line:
    """A row that is written already; that of a label alone goes over all columns."""

    cells: Sequence[str]
    beside: bool = True
    """Whether it is not ours, and so set back."""


def table(
    caption: str,
    rows: Iterable[Any],
    columns: Columns,
    fields: str = "",
    known: Container[str] = (),
    *,
    gap: int = 1,
    words: Collection[str] = (),
) -> Table:
    """A table below its caption.

    Args:
        caption: what it shows.
        rows: what the columns are of, or a `Line`.
        columns: what is said of each row.
        fields: path of the rows in the document, such as "widths[]".
        known: paths that have a definition (a `Reference`).
        gap: spaces more between columns than one, in the terminal.
        words: names of columns that stand left.
    """
    columns = list(columns)
    lines = [
        row if isinstance(row, Line) else Line([_cell(row, c[1]) for c in columns], beside=False)
        for row in rows
    ]
    return Table(
        caption,
        [Column(c[0], _path(c, fields, known), c[0] in words) for c in columns[1:]],
        [(line.cells[0], "", line.cells[1:]) for line in lines],
        first=columns[0][0],
        titled=True,
        beside=[place for place, line in enumerate(lines) if line.beside],
        gap=gap,
        face=BOTH,
    )


def _cell(row: Any, cell: Cell) -> str:
    if not isinstance(cell, str):
        return cell(row)
    return _ROW.vformat(cell, (row,), getattr(row, "figures", {}))


def _path(column: Sequence[Any], fields: str, known: Container[str]) -> str:
    """Of the first field that a column names, or of the figures that it is one of."""
    _, cell, *names = column
    if isinstance(cell, str):
        names = [name for _, name, *_ in _ROW.parse(cell) if name]
    places = [f"{fields}.{place}" for name in names[:1] for place in (name, "figures")]
    return next((place for place in places if place in known), "")


class _Row(Formatter):
    """Format strings in which None, and whatever is asked of it, is nothing."""

    def get_field(self, field_name: str, args: Any, kwargs: Any) -> tuple[Any, str]:
        if field_name in kwargs:  # some names of figures have a point
            return kwargs[field_name], field_name
        first, *names = field_name.split(".")
        value = kwargs[first] if first in kwargs else getattr(args[0], first)
        for name in names:
            value = None if value is None else getattr(value, name)
        return value, first

    def format_field(self, value: Any, format_spec: str) -> str:
        return "" if value is None else format(value, format_spec)


_ROW = _Row()
