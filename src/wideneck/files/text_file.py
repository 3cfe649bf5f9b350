"""A stranger's text: read once, up to a cap, and unpacked in steps where it is gzip.

Cost of reading it whole: its bytes, and then its characters, 1 to 4 bytes each; of reading it by
lines: the longest line, and `STEP`.  A pipe, which may be gzip too, is kept whole besides.
"""

import codecs
import gzip
import io
import os
import re
import select
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import IO

from wideneck.errors import WideneckError
from wideneck.files.boundary import reading, reason
from wideneck.files.regular import kind_of, refuse_pointer

LARGEST = 2_000_000_000
"""Bytes of a text where nobody says otherwise."""
STEP = 2**20
"""Bytes that are read or unpacked at a time."""
PATIENCE = 5.0
"""Seconds in which something must come out of a pipe that nobody has opened for writing."""
GZIP = b"\x1f\x8b"
"""What every gzip file begins with; no text in UTF-8 does."""
WIDE = (codecs.BOM_UTF32_LE, codecs.BOM_UTF32_BE, codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)
"""Byte order marks of what is not UTF-8; the longer ones first, which begin with the shorter."""
LOOKED_AT = 8000
"""Bytes that show whether a file without a mark is UTF-16."""
SIZE = re.compile(r"(\d{1,18}(?:\.\d{1,18})?)\s*([kmgt]?)b?", re.IGNORECASE)
UNITS = ("", "K", "M", "G", "T")

_most: ContextVar[int] = ContextVar("most bytes of a text", default=LARGEST)


@contextmanager
def texts_up_to(size: int) -> Iterator[None]:
    """Inside, texts of up to `size` bytes are read, unpacked, and larger ones refused."""
    token = _most.set(size)
    try:
        yield
    finally:
        _most.reset(token)


def size_in_bytes(text: str, option: str = "--max-text") -> int:
    """What is meant by 500MB, 2GB, 1.5 GB or a number of bytes; the units are powers of 1000.

    Raises:
        WideneckError: nothing, or no size.
    """
    found = SIZE.fullmatch(text.strip())
    size = int(float(found[1]) * 1000 ** UNITS.index(found[2].upper())) if found else 0
    if size < 1:
        raise WideneckError(
            f"{option} is a size such as 500MB, 2GB or a number of bytes, got '{text}'."
        )
    return size


def check_size(
    name: object, size: int, most: int | None = None, *, unpacked: str | None = None
) -> None:
    """Refuse a text that is too large.

    Args:
        name: what messages call it.
        size: its bytes.
        most: how many it may have; None for what `texts_up_to` says.
        unpacked: said behind the limit, of a text that is not yet read to its end.

    Raises:
        WideneckError: it is.
    """
    limit = _most.get() if most is None else most
    if size <= limit:
        return
    found = f"{size:,} bytes" if unpacked is None else f"more than {limit:,} bytes{unpacked}"
    if most is None:
        raise WideneckError(
            f"{name} has {found}, and at most {limit:,} bytes of a text are read: give a smaller "
            "one, or raise --max-text."
        )
    raise WideneckError(f"{name} has {found}, and it may have {limit:,}: give a smaller one.")


def read_text_file(
    path: str | os.PathLike, kind: str = "text file", most: int | None = None
) -> str:
    """The text of a file in UTF-8, with the line ends of Unix and without a byte order mark.

    What begins as gzip does is unpacked.  A pipe is read to its end, once.

    Args:
        path: a regular file, a pipe, or a link to one of them.
        kind: what messages call it.
        most: bytes that it may have, unpacked or not; None for what `texts_up_to` says.

    Raises:
        WideneckError: it is missing, a folder or a device, a pipe that nobody writes into, too
            large, not UTF-8, damaged gzip, or a pointer of Git LFS.
    """
    with reading(path, f"the {kind}", "give another one"):
        content = bytearray()
        for piece in _pieces(path, kind, most):
            content += piece
        return _decoded(content, path).replace("\r\n", "\n")


def file_lines(
    path: str | os.PathLike, kind: str = "text file", most: int | None = None
) -> Iterator[bytes]:
    """The lines of a file without their ends, one at a time: a line of data is read where it is.

    Args:
        path, kind, most: as for `read_text_file`.

    Raises:
        WideneckError: as `read_text_file`, but that the bytes of a line may be any.
    """
    begun: list[bytes] = []  # a line that has no end yet: joined once, however long it becomes
    for piece in _pieces(path, kind, most):
        first, *others = piece.split(b"\n")
        begun.append(first)
        if others:
            yield b"".join(begun)
            yield from others[:-1]
            begun = [others[-1]]
    if any(begun):
        yield b"".join(begun)


def _pieces(path: str | os.PathLike, kind: str, most: int | None) -> Iterator[bytes]:
    """All bytes of a file, unpacked, `STEP` at a time."""
    found = _found(path, kind)
    if stat.S_ISREG(found.st_mode):
        check_size(path, found.st_size, most)
        refuse_pointer(path, found.st_size)
    with (
        reading(path, f"the {kind}", "give another one"),
        _opened(path, found.st_mode, most) as file,
    ):
        yield from _unpacked(file, path, most)


def _found(path: str | os.PathLike, kind: str) -> os.stat_result:
    """What stands at `path`; nothing is opened, because opening alone can move a device."""
    try:
        found = os.stat(path)
    except FileNotFoundError:
        raise WideneckError(f"There is no {kind} {path}; check the path.") from None
    except (OSError, ValueError) as error:
        said = getattr(error, "strerror", None) or "no name of a file"
        raise WideneckError(f"{path} cannot be read: {said}.") from None
    if not (stat.S_ISREG(found.st_mode) or stat.S_ISFIFO(found.st_mode)):
        raise WideneckError(
            f"{path} is {kind_of(found.st_mode)} and no {kind}: give the path of a regular file or "
            "of a pipe."
        )
    return found


def _opened(path: str | os.PathLike, mode: int, most: int | None) -> IO[bytes]:
    """The file, or all that comes out of the pipe; a pipe without a writer does not hang."""
    handle = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
    file = os.fdopen(handle, "rb", buffering=0)
    if not stat.S_ISFIFO(mode):
        return io.BufferedReader(file)
    with file:
        first = _first_bytes(handle, path)
        os.set_blocking(handle, True)
        return io.BytesIO(b"".join(_steps(file, path, most, first=first)))


def _first_bytes(handle: int, path: str | os.PathLike) -> bytes:
    """What a pipe gives at once, perhaps nothing, as long as somebody writes into it.

    Raises:
        WideneckError: nobody did within `PATIENCE`.
    """
    poll = select.poll()
    poll.register(handle, select.POLLIN)
    came = poll.poll(PATIENCE * 1000)
    try:
        first = os.read(handle, STEP)
    except BlockingIOError:
        return b""  # somebody holds the other end, and may take any time
    if not first and not came:
        raise WideneckError(
            f"Nothing came out of the pipe {path} in {PATIENCE:g} seconds, and nobody is writing "
            "into it: start the writer first, or give a file."
        )
    return first


def _unpacked(file: IO[bytes], path: str | os.PathLike, most: int | None) -> Iterator[bytes]:
    """All bytes of a file; a step at a time, so that what is too large ends early."""
    packed = file.read(len(GZIP)) == GZIP
    file.seek(0)
    if not packed:
        if os.fspath(path).endswith(".gz"):
            raise WideneckError(
                f"{path} cannot be unpacked: its name says gzip, but it is something else."
            )
        yield from _steps(file, path, most)
        return
    try:
        yield from _steps(gzip.GzipFile(fileobj=file), path, most, " once it is unpacked")
    except (WideneckError, MemoryError):
        raise
    except Exception as error:  # an end too early, a wrong sum, bytes behind the end
        raise WideneckError(
            f"{path} cannot be unpacked ({reason(error)}): it is a damaged gzip file; fetch it "
            "again, or unpack it yourself."
        ) from None


def _steps(
    file: IO[bytes] | gzip.GzipFile,
    path: str | os.PathLike,
    most: int | None,
    unpacked: str = "",
    first: bytes = b"",
) -> Iterator[bytes]:
    size = len(first)
    yield first
    while step := file.read(STEP):
        size += len(step)
        check_size(path, size, most, unpacked=unpacked)
        yield step


def _decoded(content: bytearray, path: str | os.PathLike) -> str:
    mark = next((mark for mark in WIDE if content.startswith(mark)), None)
    start = content[:LOOKED_AT]
    if mark is not None or start.count(0) * 4 > len(start):
        kind = "UTF-32" if len(mark or b"") == 4 else "UTF-16"
        said = f"is {kind}" if mark else "holds NUL bytes, as UTF-16 does"
        raise WideneckError(f"{path} is not UTF-8 text: it {said}; convert it to UTF-8.")
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise WideneckError(
            f"{path} is not UTF-8 text (byte {error.start}, in line {line}, cannot be read); "
            "convert it, or unpack it if it is compressed in another way than gzip."
        ) from None
