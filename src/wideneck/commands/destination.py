"""Where a command puts its numbers: into a file, or on standard output in place of its table."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from wideneck.commands.streams import print_bytes, printing
from wideneck.errors import WideneckError
from wideneck.files.place import check_writable, same_place, stream_number
from wideneck.files.writing import write_text

STDOUT = 1


@dataclass(frozen=True)
class Destination:
    """What an option such as --json names."""

    path: Path
    on_stdout: bool
    """Whether it is printed, in place of the table."""

    @classmethod
    def of(cls, path: Path | None, reads: Iterable[object] = ()) -> "Destination | None":
        """What the option says, or None where it was not given; checked before the work.

        Args:
            path: a file; "-" or a name of standard output, such as /dev/stdout, prints.
            reads: models and files that the command reads.

        Raises:
            WideneckError: it cannot be written, or is one of `reads`.
        """
        if path is None:
            return None
        if str(path) == "-":
            return cls(path, True)
        check_writable(path, reads)
        return cls(path, stream_number(path) == STDOUT)

    def write(self, content: str) -> None:
        """The content, whole.

        Raises:
            WideneckError: it could not be written.
        """
        if self.on_stdout:
            print_bytes(content.encode())
        else:
            write_text(self.path, content)


def html_and_json(
    html: Path | None, json: Path | None, reads: Sequence[object] = ()
) -> tuple[Destination | None, Destination | None]:
    """What --html and --json say, checked before the work, each as by `Destination.of`.

    Raises:
        WideneckError: one cannot be written or is one of `reads`, or both name one place, whatever
            they call it.
    """
    as_html, as_json = Destination.of(html, reads), Destination.of(json, reads)
    if as_html is None or as_json is None:
        return as_html, as_json
    if (as_html.on_stdout and as_json.on_stdout) or same_place(as_html.path, as_json.path):
        also = "" if html == json else f", which {json} is too"
        raise WideneckError(
            f"--html and --json both name {html}{also}; give each a file of its own."
        )
    return as_html, as_json


def deliver(
    show: Callable[[], object], *files: tuple[Destination | None, Callable[[], str]]
) -> None:
    """The files, and the table where none of them went to standard output in its place.

    Args:
        show: prints the table.
        files: where each goes, None for nowhere, and what makes its content.

    Raises:
        WideneckError: one could not be written; the table is printed nevertheless.
    """
    wanted = [(place, content) for place, content in files if place is not None]
    try:
        for place, content in wanted:
            place.write(content())
    finally:  # a file that could not be written takes no numbers from the terminal
        if not any(place.on_stdout for place, _ in wanted):
            with printing():
                show()
