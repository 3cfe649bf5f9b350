"""How a command ends: in a result, in one sentence, or in the traceback of a mistake of ours."""

import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager

from wideneck.errors import WideneckError
from wideneck.files.boundary import asked_for_tracebacks, is_a_failure, out_of_memory
from wideneck.files.printable import printable, shortened

INTERRUPTED = 130
"""Typer's exit code for Ctrl-C, which it catches before we could."""
LONGEST = 2000
"""Characters of a message; a stranger's file may hold a name of a megabyte."""


@contextmanager
def ending() -> Iterator[None]:
    """The user's mistake is one line and exit code 1, a wrong usage 2, as typer says.

    Raises:
        SystemExit: in place of whatever ends the command but its result.
    """
    try:
        yield
    except SystemExit as exit:
        if exit.code != INTERRUPTED:
            raise
        sys.exit("wideneck: interrupted; reports of earlier runs are as they were.")
    except BaseException as error:
        if not is_a_failure(error):
            raise
        said = _sentence(error)
        if said is None or asked_for_tracebacks():
            for line in traceback.format_exc().splitlines():
                print(printable(line), file=sys.stderr)
        sys.exit(1 if said is None else said)


def _sentence(error: BaseException) -> str | None:
    """The one line that the user gets, or None for a mistake of ours, which shows its traceback."""
    if isinstance(error, WideneckError):
        return shortened(printable(f"wideneck: {error}"), LONGEST)  # names may be a stranger's
    if out_of_memory(error):
        return (
            "wideneck: This machine's memory is too small for it: give fewer --tokens or a smaller "
            "model, or set WIDENECK_DEBUG=1 to see where it ended."
        )
    return None
