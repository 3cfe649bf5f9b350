"""The terminal as reports, lists and reproductions print on it.  Imports no torch."""

from collections.abc import Iterable

from rich.console import Console, ConsoleOptions, RenderableType
from rich.segment import Segment
from rich.text import Text

from wideneck.files.printable import printable, shortened

LONGEST = 2000
"""Characters of a paragraph; ours have a quarter of them."""


class PlainConsole(Console):
    """A console on which no string is markup, and nothing but its own styles is a control code.

    Whatever a table or text holds passes through `render`, so no name of a stranger's file can
    reach the terminal unescaped, nor stop the printing where the encoding lacks a character.
    Names that may hold newlines, or that are long, are made fit before (`printable`).
    """

    def __init__(self, **options):
        super().__init__(markup=False, emoji=False, highlight=False, **options)

    def render(
        self, renderable: RenderableType, options: ConsoleOptions | None = None
    ) -> Iterable[Segment]:
        """The segments of anything, with what does not print as escapes."""
        for segment in super().render(renderable, options):
            yield segment if segment.control else segment._replace(text=self._plain(segment.text))

    def _plain(self, text: str) -> str:
        return encodable(printable(text, keep="\n"), self)


def say(text: str, console: Console, style: str = "") -> None:
    """A paragraph, with a newline of a name inside it as an escape; a long name leaves its ends."""
    safe = encodable(printable(shortened(text, LONGEST)), console)
    console.print(Text(safe, style=style, overflow="fold"))


def encodable(text: str, console: Console) -> str:
    """The text with what the terminal's encoding lacks written as escapes."""
    encoding = console.encoding or "ascii"
    return text.encode(encoding, "backslashreplace").decode(encoding)
