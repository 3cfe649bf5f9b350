"""What a document shows, as objects: the terminal and the HTML page draw the same ones.

A text is made of pieces: plain words, which HTML sets as formulas (`numbers.pretty`), and what is
more than words.  A string that a stranger's file gave is `Verbatim`, so no rule for formulas
touches it.
"""

from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from operator import attrgetter
from typing import Any

from wideneck.audits.estimate import Estimate
from wideneck.files.printable import LONGEST
from wideneck.report import numbers

HTML, TERMINAL, BOTH = "html", "terminal", "both"


class Part:
    """Anything that is drawn."""

    @property
    def kind(self) -> str:
        """How it is drawn: its class's name."""
        return type(self).__name__.lower()


@dataclass(frozen=True)
class Link(Part):
    """Words that lead to the definition at a path, or to "#" and the anchor of a heading."""

    text: str
    path: str


@dataclass(frozen=True)
class Verbatim(Part):
    """A name, spelt out where it does not print, and shortened."""

    text: str
    code: bool = False
    most: int = LONGEST


@dataclass(frozen=True)
class Strong(Part):
    """Words that are not to be missed."""

    text: str


@dataclass(frozen=True)
class Caution(Part):
    """What a reader may be tempted to conclude and should not; nothing if empty."""

    text: str


Piece = str | Link | Verbatim | Strong | Caution


@dataclass(frozen=True)
class Heading(Part):
    """A heading of the page; `nav` is its name in the list at the top, if it stands there."""

    text: str
    anchor: str = ""
    nav: str = ""
    level: int = 2


@dataclass(frozen=True)
class Prose(Part):
    """A paragraph: "lede", "facts", "note" or "flag" on the page; `style` is the terminal's."""

    pieces: Sequence[Piece]
    css: str = "note"
    face: str = HTML
    style: str = ""
    apart: bool = False
    """Whether the terminal leaves an empty line before it, even behind another paragraph."""


def note(*pieces: Piece, css: str = "note", face: str = HTML) -> Prose:
    """A paragraph of the page."""
    return Prose(pieces, css, face)


def line(*pieces: Piece, style: str = "") -> Prose:
    """A paragraph of the terminal."""
    return Prose(pieces, "", TERMINAL, style)


def lede(*pieces: Piece) -> Prose:
    """One of the paragraphs that a document opens with."""
    return Prose(pieces, "lede", BOTH)


def paragraph(*pieces: Piece) -> Prose:
    """One of several that stand apart, on the page and in the terminal."""
    return Prose(pieces, face=BOTH, apart=True)


@dataclass(frozen=True)
class Notes(Part):
    """What a section could not measure; the terminal prints them at the section's end."""

    notes: Sequence[str]


@dataclass(frozen=True)
class Number:
    """A measured number, what it is read against, and the path of its definition."""

    label: str
    value: str
    baselines: Sequence[str]
    path: str
    detail: str = ""
    """What belongs to the value: its interval, or its share of a ceiling."""
    means: str = ""
    """Path of the definition to print beside the number, if another tells more."""
    caution: str = ""
    """Path of the caution, likewise."""

    @classmethod
    def of(
        cls, label: str, found: Estimate, baselines: Sequence[str], path: str, **more: str
    ) -> "Number":
        """An estimate with its interval."""
        text, inside = numbers.value(found), numbers.interval(found)
        return cls(label, text, baselines, path, inside, **more)

    @classmethod
    def part(cls, label: str, found: Estimate, baselines: Sequence[str], path: str) -> "Number":
        """An estimated part of one, in percent, with its interval."""
        text, inside = numbers.percentage(found), numbers.percent_interval(found)
        return cls(label, text, baselines, path, inside)


@dataclass(frozen=True)
class Numbers(Part):
    """The most telling numbers of a section."""

    title: str
    rows: Sequence[Number]


@dataclass(frozen=True)
class Column:
    """The head of a column, and the path of its definition."""

    text: str
    path: str = ""
    words: bool = False
    """Words stand left, numbers right."""
    verbatim: bool = False
    """Names and hashes, which are no numbers to be set."""
    wide: bool = False
    """Left out of the terminal, which has no room for it."""


@dataclass(frozen=True)
class Table(Part):
    """Rows of text: (label, path of its definition or "", one cell per column).

    The label of a row without cells goes over all columns.
    """

    caption: str
    columns: Sequence[Column]
    rows: Sequence[tuple[str, str, Sequence[str]]]
    first: str = ""
    """Head of the labels."""
    captioned: bool = True
    """Whether the caption is printed, or a heading above says as much."""
    titled: bool = False
    """Whether the terminal prints the caption above, as a title, not at the head of the labels."""
    beside: Collection[int] = ()
    """Rows that are not ours but stand beside ours, such as a paper's; they are set back."""
    gap: int = 0
    """Spaces more between the terminal's columns."""
    note: str = ""
    face: str = HTML


Measure = tuple[str, str, Callable[[Any], str]]
"""Its head in a table, an attribute of the item, which is its path below the item's too, and how it
is written.  An interval is defined at its low end, so "change.low" is written from `change`."""


def cells(item: Any, measures: Iterable[Measure]) -> list[str]:
    """Each measure of one item, written."""
    return [write(attrgetter(path.removesuffix(".low"))(item)) for _, path, write in measures]


def by_item(
    caption: str,
    items: Iterable[Any],
    label: Callable[[Any], str],
    measures: Sequence[Measure],
    base: str,
    *,
    at: Callable[[Any], str] = lambda _: "",
    wide: Collection[str] = (),
    **more: Any,
) -> Table | None:
    """A row for each item, a column for each measure; None without items.

    `base` is the path of an item, `at` gives that of a label's definition, `wide` has the heads of
    columns that the terminal leaves out, `more` is what else a table has.
    """
    rows = [(label(item), at(item), cells(item, measures)) for item in items]
    heads = [Column(text, f"{base}.{path}", wide=text in wide) for text, path, _ in measures]
    return Table(caption, heads, rows, **more) if rows else None


def by_measure(
    caption: str,
    columns: Sequence[tuple[str, str, Any]],
    measures: Sequence[Measure],
    base: str,
) -> Table:
    """A column for each item: (head, path, item); a row for each measure, defined below `base`."""
    rows = [
        (measure[0], f"{base}.{measure[1]}", [*(cells(item, [measure])[0] for *_, item in columns)])
        for measure in measures
    ]
    return Table(caption, [Column(text, path) for text, path, _ in columns], rows)


@dataclass(frozen=True)
class Panel(Part):
    """A drawing (`title`, `svg()`), what it shows, and the path of what it does not.

    What a chart shows is its `description`, where `about` says nothing else.
    """

    chart: Any
    about: str | Sequence[Piece] = ""
    caution: str = ""


@dataclass(frozen=True)
class Tokens(Part):
    """Groups of tokens that share a row (of one token, mostly): each its id and its text.

    The terminal, without room for the definition, says `hint`.
    """

    title: str
    path: str
    groups: Sequence[Sequence[tuple[int, str | None]]]
    hint: str = ""


@dataclass(frozen=True)
class Terms(Part):
    """Names with what they stand for."""

    pairs: Sequence[tuple[str, Sequence[Piece]]]


@dataclass(frozen=True)
class Pair(Part):
    """Blocks beside each other, where the page is wide; a list of several shares a place."""

    blocks: Sequence[Any]


@dataclass(frozen=True)
class Details(Part):
    """Blocks that a reader opens."""

    summary: Sequence[Piece]
    blocks: Sequence[Any]


@dataclass(frozen=True)
class Page:
    """A document, ready to be drawn.  A block that is None is not there."""

    kicker: str
    title: str
    opening: Sequence[Prose]
    sections: Sequence[Sequence[Any]]
    source: Sequence[Any]
    """Where the numbers come from: the last section."""
    headings: dict[str, str]
    """Prefix of a path -> the heading of its definitions."""
    symbols: Sequence[str] = ()
    """What the letters in the definitions stand for."""

    def nav(self) -> list[Heading]:
        """The headings that the list at the top names."""
        blocks = flat([*self.sections, self.source])
        return [block for block in blocks if isinstance(block, Heading) and block.nav]


def flat(blocks: Iterable[Any]) -> Iterator[Any]:
    """The blocks in their order, with what a block holds in its place."""
    for block in blocks:
        inside = block if isinstance(block, list | tuple) else getattr(block, "blocks", None)
        if inside is not None:
            yield from flat(inside)
        elif block is not None:
            yield block
