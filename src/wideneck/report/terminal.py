"""A document in the terminal: its short sentences, its numbers, and the tables that fit.

Plain text without markup: names come from strangers' files, so what does not print is spelt out,
and what the terminal cannot encode as well.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import compress
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.cells import cell_len
from rich.console import Console, RenderableType
from rich.padding import Padding
from rich.table import Table as Grid
from rich.text import Text

from wideneck.files.printable import printable, shortened
from wideneck.report import parts
from wideneck.report.console import LONGEST, encodable
from wideneck.report.document import Document
from wideneck.report.reference import Reference
from wideneck.report.tokens import named

LABEL, VALUE, DETAIL, BESIDE = 28, 10, 16, 23
COLUMNS = LABEL + VALUE + DETAIL + BESIDE + 3
GROUPS, MEMBERS, NAME, LINES, INDENT = 10, 4, 60, 5, 2
"""Most that is shown of a list of tokens: groups, tokens of one, characters of a token, and lines
but for a first group that takes more.  The HTML page has all of it."""


def show(document: Document, console: Console) -> None:
    """Print what a document opens with, its sections, and where its numbers come from.

    The notes of a section end it, and lists of tokens follow the last one.
    """
    page = document.page(Reference(document))
    print_blocks([parts.line(page.title, style="bold"), *_in_order(page)], console)


def print_blocks(blocks: Iterable[Any], console: Console) -> None:
    """What is for the terminal, with blank lines between all but paragraphs."""
    before = None
    for block in parts.flat(blocks):
        if isinstance(block, parts.Prose | parts.Table) and block.face == parts.HTML:
            continue
        drawn = list(DRAW[block.kind](block, console)) if block.kind in DRAW else []
        tight = block.kind == before == "prose" and not block.apart
        if drawn and before and not tight:
            console.print()
        for one in drawn:
            console.print(one)
        before = block.kind if drawn else before


def _in_order(page: parts.Page) -> Iterator[Any]:
    ends = parts.Notes, parts.Tokens
    sections = [list(parts.flat(section)) for section in page.sections]
    yield from page.opening
    for section in sections:
        yield from (block for block in section if not isinstance(block, ends))
        yield from (block for block in section if isinstance(block, parts.Notes))
    yield from (block for blocks in sections for block in blocks if isinstance(block, parts.Tokens))
    yield from page.source


def _prose(block: parts.Prose, console: Console) -> Iterator[RenderableType]:
    text = Text(style=block.style, overflow="fold")
    for piece in block.pieces:
        words = piece if isinstance(piece, str) else piece.text
        style = "bold yellow" if isinstance(piece, parts.Strong) else ""
        text.append(encodable(printable(shortened(words, LONGEST)), console), style)
    yield text


def _notes(block: parts.Notes, console: Console) -> Iterator[RenderableType]:
    for text in block.notes:
        yield from _prose(parts.line(text), console)


def _numbers(block: parts.Numbers, console: Console) -> Iterator[RenderableType]:
    table = _grid()
    # Fixed widths, so that the tables of a report stand under each other; where the terminal is
    # narrower, whatever folds into it.
    for name, columns, justify in (
        (block.title, LABEL, "left"),
        ("value", VALUE, "right"),
        ("", DETAIL, "left"),
        ("beside", BESIDE, "left"),
    ):
        width = columns if console.width >= COLUMNS else None
        table.add_column(name, justify=justify, width=width, overflow="fold")
    for row in block.rows:
        beside = ", ".join(row.baselines)
        if len(beside) > BESIDE:
            beside = ",\n".join(row.baselines)
        table.add_row(
            Text(row.label), Text(row.value, style="bold"), Text(row.detail), Text(beside)
        )
    yield table


def _table(block: parts.Table, console: Console) -> Iterator[RenderableType]:
    def written(cells: Iterable[str]) -> list[str]:
        return [encodable(printable(cell), console) for cell in cells]

    shown = [column for column in block.columns if not column.wide]
    kept = [not column.wide for column in block.columns]
    captioned = block.captioned and not block.titled
    heads = written([block.first or (block.caption if captioned else ""), *(c.text for c in shown)])
    rows = [written([label, *compress(cells, kept)]) for label, _, cells in block.rows]
    whole = [row for row in rows if len(row) == len(heads)]
    room = console.width - (1 + block.gap) * len(shown)
    layout = _layout(heads, whole, room, parted=len(whole) < len(rows))

    def grid(*, header: bool) -> Grid:
        found = _grid(padding=(0, block.gap, 0, 0), show_header=header)
        lefts = [True, *(column.words or column.verbatim for column in shown)]
        for head, left, how in zip(heads, lefts, layout, strict=True):
            found.add_column(head, justify="left" if left else "right", overflow="fold", **how)
        return found

    if block.titled:
        yield Text(*written([block.caption]), style="bold")
    table = grid(header=True)
    for place, row in enumerate(rows):
        style = "dim" if place in block.beside else ""
        if len(row) == len(heads):
            table.add_row(*map(Text, row), style=style)
            continue
        if table.row_count or table.show_header:
            yield table
        yield Text(*row, style=style, overflow="fold")
        table = grid(header=False)
    yield table
    if block.note:
        yield from _prose(parts.line(block.note), console)


def _layout(
    heads: Sequence[str], rows: Sequence[Sequence[str]], room: int, *, parted: bool
) -> list[dict[str, Any]]:
    """How each column gives way where the room is short: heads first, if that is enough.

    Where rows over all columns part a table, its widths are fixed, so that its parts stand in
    line, and what is too wide folds in the last column.
    """
    columns = list(zip(heads, *rows, strict=True))
    of_cells = [max(map(cell_len, cells), default=0) for _, *cells in columns]
    if parted:
        *widths, last = [max(map(cell_len, column)) for column in columns]
        widths.append(max(1, min(last, room - sum(widths))))
        return [{"width": width} for width in widths]
    words = [max(map(cell_len, head.split()), default=0) for head in heads]
    enough = sum(map(max, words, of_cells)) <= room
    pairs = zip(heads, of_cells, strict=True)
    return [{"no_wrap": enough and cells >= cell_len(head)} for head, cells in pairs]


def _tokens(block: parts.Tokens, console: Console) -> Iterator[RenderableType]:
    groups = [_group(group, console) for group in block.groups[:GROUPS]]
    width, shown = console.width - INDENT, len(groups)
    while True:
        left = len(block.groups) - shown
        more = f", and {left:,} more" if left else ""
        body = Text(", ".join(groups[:shown]) + more, overflow="fold")
        if shown == 1 or len(body.wrap(console, width)) <= LINES:
            break
        shown -= 1
    yield Text(f"{block.title.lower()}{block.hint}:", style="bold")
    yield Padding(body, (0, 0, 0, INDENT))


def _group(group: Sequence[tuple[int, str | None]], console: Console) -> str:
    names = [encodable(named(*token, NAME), console) for token in group[:MEMBERS]]
    more = [f"{len(group) - MEMBERS:,} more"] if len(group) > MEMBERS else []
    return " = ".join([*names, *more])


def _grid(**more: Any) -> Grid:
    look: dict[str, Any] = {"pad_edge": False, "show_edge": False, "padding": 0} | more
    return Grid(box=SIMPLE_HEAD, header_style="bold", **look)


DRAW: dict[str, Callable[[Any, Console], Iterator[RenderableType]]] = {
    "prose": _prose,
    "notes": _notes,
    "numbers": _numbers,
    "table": _table,
    "tokens": _tokens,
}
"""What the terminal has room for."""
