"""Standard output and standard error of a command, where other libraries print as well."""

import faulthandler
import logging
import os
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from wideneck.errors import WideneckError
from wideneck.files.boundary import asked_for_tracebacks
from wideneck.files.printable import printable


def prepare_streams() -> None:
    """Before a command: nothing stops at an encoding, and other libraries keep to themselves.

    Their warnings and log lines are for programmers; with WIDENECK_DEBUG=1 they appear, and so they
    do where Python was told by -W or PYTHONWARNINGS.  Warnings of our own do not go unseen.
    """
    streams: list[Any] = [sys.stdout, sys.stderr]
    for stream in streams:
        if hasattr(stream, "reconfigure"):  # not so where a notebook or a test has put its own
            stream.reconfigure(errors="backslashreplace")
    if asked_for_tracebacks():
        return
    logging.disable(logging.CRITICAL)
    if not sys.warnoptions:
        warnings.simplefilter("ignore")
        warnings.filterwarnings("default", message="wideneck:")
        warnings.showwarning = _show_warning


def _show_warning(message: Warning | str, *_: Any, **_options: Any) -> None:
    """A warning of ours as one line, without the place in our code that gave it."""
    print(printable(str(message)), file=sys.stderr)


@contextmanager
def printing() -> Iterator[None]:
    """Around what prints a result: a full disk behind standard output is one sentence.

    Raises:
        WideneckError: standard output cannot be written.
        BrokenPipeError: whoever read it has read enough.
    """
    try:
        yield
        if sys.stdout is not None:
            sys.stdout.flush()
    except BrokenPipeError:
        raise
    except OSError as error:
        _discard_output()
        raise WideneckError(f"Standard output cannot be written: {error.strerror}.") from error


def print_bytes(content: bytes) -> None:
    """The content, and nothing else, on standard output: JSON is UTF-8 on every system.

    Raises:
        WideneckError: standard output is closed, or cannot be written.
    """
    if sys.stdout is None:
        raise WideneckError("Standard output is closed: give the name of a file.")
    with printing():
        sys.stdout.buffer.write(content)


@contextmanager
def native_output_apart() -> Iterator[None]:
    """While strangers' files are read: what C++ and Rust print on descriptor 2 goes nowhere.

    A panic of Rust writes its own lines there before it becomes the exception that we turn into
    one.  Python's own standard error, with progress and tracebacks, stays where it was.  With
    WIDENECK_DEBUG=1, or where standard error is not the process's own, nothing is redirected.
    """
    before = sys.stderr
    if asked_for_tracebacks() or not _is_standard_error(before):
        yield
        return
    before.flush()
    kept = os.dup(2)
    sys.stderr = os.fdopen(
        kept, "w", encoding=before.encoding, errors=before.errors, buffering=1, closefd=False
    )
    traced = faulthandler.is_enabled()
    faulthandler.enable(sys.stderr)  # a crash of native code must be told somewhere
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 2)
    os.close(nowhere)
    try:
        yield
    finally:
        sys.stderr.flush()
        os.dup2(kept, 2)
        sys.stderr = before
        if traced:
            faulthandler.enable(before)
        else:
            faulthandler.disable()
        os.close(kept)


def _is_standard_error(stream: Any) -> bool:
    try:
        own = stream.fileno() == 2
    except (AttributeError, OSError, ValueError):  # none, one of a test, a closed one
        return False
    return own and stream is sys.__stderr__


def _discard_output() -> None:
    """What stands in the buffer cannot be written; Python would try again when it ends."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 1)
    os.close(nowhere)
