"""Tables of reproductions, whose columns are data.

A column is its name, and how a row is written there: the format string of the row's fields, and of
its `figures` by name, or a function of the row.  The first column has the labels.  So

    ("", "d = {width}"), ("best", "{best_loss:.3f}"), ("rise", "{rise.mean:.3f}")

are three columns of rows that have a `width`, figures with a `best_loss`, and a `rise`.  What is
None is left empty.  The head of a column leads to the definition of the field, or of the figures.
"""

from collections.abc import Callable, Collection, Container, Iterable, Mapping, Sequence
from dataclasses import dataclass
from string import Formatter
from typing import Any

from wideneck.report.parts import BOTH, Column, Table

Cell = str | Callable[[Any], str]
Columns = Iterable[tuple[str, Cell] | tuple[str, Cell, str]]
"""Name, format string or function, and perhaps the name of the field that it writes, if it is
another than the first in the string."""


@dataclass(frozen=True)
class Line:
    """A row that is written already; that of a label alone goes over all columns."""

    cells: Sequence[str]
    beside: bool = True
    """Whether it is not ours, and so set back."""


@dataclass(frozen=True)
class Theirs:
    """A paper's row below ours: where no column writes any of its fields, it is left out."""

    label: str
    cells: Mapping[str, str]
    """By the name of the field that a column writes of ours."""


def table(
    caption: str,
    rows: Iterable[Any],
    columns: Columns,
    fields: str = "",
    known: Container[str] = (),
    *,
    gap: int = 1,
    words: Collection[str] = (),
    none: str = "",
) -> Table:
    """A table below its caption.

    Args:
        caption: what it shows.
        rows: what the columns are of, a `Line`, or the paper's, `Theirs`.
        columns: what is said of each row.
        fields: path of the rows in the document, such as "widths[]".
        known: paths that have a definition (a `Reference`).
        gap: spaces more between columns than one, in the terminal.
        words: names of columns that stand left.
        none: stands for None; if not empty, also for a figure that a row does not have.
    """
    columns, written = list(columns), _Row(none)
    lines = [line for row in rows for line in _lines(row, columns, written)]
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


def _lines(row: Any, columns: Sequence[Sequence[Any]], written: "_Row") -> Iterable[Line]:
    """The line of a row, or none."""
    if isinstance(row, Line):
        return [row]
    if not isinstance(row, Theirs):
        return [Line([_cell(row, column[1], written) for column in columns], beside=False)]
    cells = [row.cells.get(_field(column), "") for column in columns[1:]]
    return [Line([row.label, *cells])] if any(cells) else []


def _cell(row: Any, cell: Cell, written: "_Row") -> str:
    if not isinstance(cell, str):
        return cell(row)
    return written.vformat(cell, (row,), getattr(row, "figures", {}))


def _path(column: Sequence[Any], fields: str, known: Container[str]) -> str:
    """Of the field that a column writes, or of the figures that it is one of."""
    name = _field(column)
    places = [f"{fields}.{place}" for place in (name, "figures") if name]
    return next((place for place in places if place in known), "")


def _field(column: Sequence[Any]) -> str:
    """The name that a column gives, or the first in its format string; empty for none."""
    _, cell, *names = column
    if isinstance(cell, str) and not names:
        names = [name for _, name, *_ in Formatter().parse(cell) if name]
    return next(iter(names), "")


class _Row(Formatter):
    """Format strings in which None, and whatever is asked of it, is `none`."""

    def __init__(self, none: str):
        self.none = none

    def get_field(self, field_name: str, args: Any, kwargs: Any) -> tuple[Any, str]:
        if field_name in kwargs:  # some names of figures have a point
            return kwargs[field_name], field_name
        first, *names = field_name.split(".")
        lacking = (None,) if self.none else ()
        value = kwargs[first] if first in kwargs else getattr(args[0], first, *lacking)
        for name in names:
            value = None if value is None else getattr(value, name)
        return value, first

    def format_field(self, value: Any, format_spec: str) -> str:
        return self.none if value is None else format(value, format_spec)
