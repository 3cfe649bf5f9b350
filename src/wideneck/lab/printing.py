"""How reproductions print: tables below a bold title, paragraphs, an empty line after each.

A column is data: its name, and how a row is written there, as the format string of the row's
fields, and of its `figures` by name, or as a function of the row.  So

    ("", "d = {width}"), ("best", "{best_loss:.3f}"), ("rise", "{rise.mean:.3f}")

are three columns of rows that have a `width`, figures with a `best_loss`, and a `rise`.  What is
None is left empty.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from string import Formatter
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table
from rich.text import Text

Columns = Iterable[tuple[str, str | Callable[[Any], str | Text]]]
"""Name, and format string or function; what has no name is flush left."""


@dataclass(frozen=True)
class Line:
    """A row that is written already, such as one of the paper's."""

    cells: Sequence[str | Text]
    style: str = "dim"


def print_rows(
    title: str,
    rows: Iterable[Any],
    columns: Columns,
    console: Console,
    *,
    gap: int = 1,
    wrapped: Sequence[str] = (),
) -> None:
    """A table below its title.

    Args:
        title: printed bold.
        rows: what the columns are of, or a `Line`.
        columns: what is said of each row.
        console: where to.
        gap: spaces more between columns than the two of the box.
        wrapped: names of columns that may take several lines.
    """
    table = Table(
        box=SIMPLE_HEAD,
        pad_edge=False,
        show_edge=False,
        header_style="bold",
        padding=(0, gap, 0, 0),
    )
    columns = list(columns)
    for name, _ in columns:
        justify = "right" if name else "left"
        table.add_column(name, justify=justify, no_wrap=name not in wrapped)
    for row in rows:
        line = row if isinstance(row, Line) else Line(cells_of(row, columns), style="")
        cells = (Text(cell) if isinstance(cell, str) else cell for cell in line.cells)
        table.add_row(*cells, style=line.style)
    console.print(Text(title, style="bold"))
    console.print(table)
    console.print()


def cells_of(row: Any, columns: Columns) -> list[str | Text]:
    """One row, written."""
    fields = getattr(row, "__dict__", {}) | getattr(row, "figures", {})
    return [
        _ROW.vformat(column, (), fields) if isinstance(column, str) else column(row)
        for _, column in columns
    ]


class _Row(Formatter):
    """Format strings in which None, and whatever is asked of it, is nothing."""

    def get_field(self, field_name: str, args: Any, kwargs: Any) -> tuple[Any, str]:
        if field_name in kwargs:  # some names of figures have a point
            return kwargs[field_name], field_name
        first, *names = field_name.split(".")
        value = kwargs[first]
        for name in names:
            value = None if value is None else getattr(value, name)
        return value, first

    def format_field(self, value: Any, format_spec: str) -> str:
        return "" if value is None else format(value, format_spec)


_ROW = _Row()


def say(text: str, console: Console) -> None:
    """A paragraph."""
    console.print(Text(text))
    console.print()
