"""Where a command puts its numbers: into a file, or on standard output in place of its table."""

from collections.abc import Callable, Iterable
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


def check_apart(html: Destination | None, json: Destination | None) -> None:
    """Refuse one place for two files.

    Raises:
        WideneckError: both options name it, whatever they call it.
    """
    if html is None or json is None:
        return
    if (html.on_stdout and json.on_stdout) or same_place(html.path, json.path):
        also = "" if html.path == json.path else f", which {json.path} is too"
        raise WideneckError(
            f"--html and --json both name {html.path}{also}; give each a file of its own."
        )


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
