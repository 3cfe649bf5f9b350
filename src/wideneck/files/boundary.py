"""The boundary around strangers' files: whatever comes up inside is one sentence outside.

Readers of formats raise what the byte in question leads to: AssertionError, RecursionError,
MemoryError, a panic of Rust.  A list of them has holes, so there is none: everything that is raised
inside `reading` means that the file cannot be read, and says so with the file's name.
"""

import os
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager

from wideneck.errors import WideneckError

LONGEST = 200
"""Characters of another library's message that ours quotes."""
DEBUG = "WIDENECK_DEBUG"
"""The environment variable that asks for tracebacks."""
_OURS = "_wideneck_ours"


def reading(name: object, what: str, mend: str) -> AbstractContextManager[None]:
    """Turn everything that is raised inside, but an interruption, into one WideneckError.

    It stands around the code that touches a stranger's bytes, or runs a stranger's model, and
    around nothing else: a mistake of ours inside it would look like one of the file, except in
    `ours`.

    Args:
        name: what the user calls the file or model.
        what: the part that is read, such as "its header".
        mend: what to do, as the message's last clause.

    Raises:
        WideneckError: as raised inside, or in place of anything else.
    """
    return failing(lambda error: f"{name}: {what} cannot be read ({reason(error)}): {mend}.")


@contextmanager
def ours() -> Iterator[None]:
    """Where a stranger's code calls back into ours: what is raised inside is no failure of theirs.

    It goes through every boundary around the call as it is, but for memory that was not there,
    which is nobody's mistake.
    """
    try:
        yield
    except Exception as error:
        if not isinstance(error, WideneckError) and not out_of_memory(error):
            setattr(error, _OURS, True)
        raise


@contextmanager
def failing(sentence: Callable[[BaseException], str]) -> Iterator[None]:
    """The same boundary where the sentence is another one than that of `reading`.

    Args:
        sentence: gives the message for what came up, which `reason` shortens.

    Raises:
        WideneckError: as raised inside, or in place of anything else but an interruption or what
            `ours` marks.
    """
    try:
        yield
    except WideneckError:
        raise
    except BaseException as error:
        if not is_a_failure(error) or getattr(error, _OURS, False):
            raise
        raise WideneckError(sentence(error)) from error


def is_a_failure(error: BaseException) -> bool:
    """Whether it tells of the work, and not of the user who stops it or of a test that ends.

    A panic of a Rust library (tokenizers, safetensors) is no Exception to Python.
    """
    return isinstance(error, Exception) or type(error).__module__ == "pyo3_runtime"


def reason(error: BaseException) -> str:
    """What another library's error says, in the one short line that ours quote."""
    if out_of_memory(error):
        return "it does not fit the memory of this machine"
    if isinstance(error, RecursionError):
        return "it is nested too deeply"
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    if isinstance(error, KeyError):
        return f"{type(error).__name__}: {error}"
    lines = str(error).strip().splitlines()
    text = lines[0].strip() if lines else ""
    if text.endswith(":") and len(lines) > 1:
        text = f"{text} {lines[1].strip()}"
    if not text:
        return type(error).__name__
    return text if len(text) <= LONGEST else f"{text[: LONGEST - 3]}..."


def out_of_memory(error: BaseException) -> bool:
    """Whether it says that memory was asked for and not there: of Python, numpy, torch, CUDA."""
    return (
        isinstance(error, MemoryError)
        or type(error).__name__ == "OutOfMemoryError"
        or (isinstance(error, RuntimeError) and "can't allocate memory" in str(error))
    )


def asked_for_tracebacks() -> bool:
    """Whether WIDENECK_DEBUG is set to something other than 0."""
    return os.environ.get(DEBUG, "0") not in ("", "0")
