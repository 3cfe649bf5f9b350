"""How reproductions print: tables below a bold title, paragraphs, an empty line after each."""

from collections.abc import Iterable

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table
from rich.text import Text


def numbers_table(names: Iterable[str], *, labels: bool = True, gap: int = 1) -> Table:
    """An empty table of numbers.

    Args:
        names: of the columns; one that ends in "sign" may take two lines.
        labels: whether a column without a name comes before them.
        gap: spaces more between columns than the two of the box.
    """
    table = Table(
        box=SIMPLE_HEAD,
        pad_edge=False,
        show_edge=False,
        header_style="bold",
        padding=(0, gap, 0, 0),
    )
    if labels:
        table.add_column("", no_wrap=True)
    for name in names:
        table.add_column(name, justify="right", no_wrap=not name.endswith("sign"))
    return table


def print_table(title: str, table: Table, console: Console) -> None:
    """The table below its title."""
    console.print(Text(title, style="bold"))
    console.print(table)
    console.print()


def say(text: str, console: Console) -> None:
    """A paragraph."""
    console.print(Text(text))
    console.print()
