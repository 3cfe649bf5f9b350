"""What stands where we are asked to write: a file, a link to one, a device, a pipe, or nothing yet.

A regular file is replaced, a link is followed to what it leads to, and into everything else we
write as it is: renaming a file over a device would take the device from the whole machine.
"""

import errno
import os
import re
import stat
import tempfile
import time
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import IO

from wideneck.errors import WideneckError
from wideneck.files.regular import kind_of

READER = 10.0
"""Seconds for which a named pipe may be without its reader when there is something to write."""
READ_IN_FOLDERS = re.compile(
    r"[.](safetensors|bin|pt|gguf|model|npy|jsonl|toml|txt)$"
    r"|(config|token|vocab|index|recipe|result|settings|state|about).*[.]json$"
)
"""Files of a model's or run's folder that are read with it, whatever else lies there."""
LONGEST_NUMBER = 9
"""Digits of a descriptor, which is an int of C."""


def check_writable(path: str | Path, reads: Iterable[object] = ()) -> None:
    """Refuse a place that cannot be written before an hour's work is done for it.

    A temporary file is made beside a file that is to be written, and removed: whatever the system
    has against it is said now.

    Args:
        path: where something will be written.
        reads: what is read for it; a file that is read must not be written over.

    Raises:
        WideneckError: it is a folder, a disk, a socket or a read-only file, its name is too long or
            no UTF-8, its folder is missing or closed, or it is one of `reads` or of the model's or
            run's files in a folder among them.
    """
    path = Path(path)
    for other in reads:
        if not isinstance(other, str | os.PathLike) or not _is_there(other):
            continue
        if same_place(path, other) or _is_part_of(path, Path(other)):
            raise WideneckError(
                f"{path} is read by this command and cannot be written as well: give another name."
            )
    found = _found(path)
    number = stream_number(path)
    if number is not None:
        _check_open(path, number)
        return
    if found is not None and not stat.S_ISREG(found.st_mode):
        _check_stream(path, found.st_mode)
        return
    # The system lets root write where nobody may; whoever made a file read-only wants it kept.
    if found is not None and not (found.st_mode & 0o222 and os.access(path, os.W_OK)):
        raise WideneckError(
            f"{path} is read-only: give another name, or make the file writable first."
        )
    folder = file_at(path).parent
    if not folder.is_dir():
        raise WideneckError(f"{path} cannot be written: there is no folder {folder}.")
    try:
        handle, name = temporary_beside(file_at(path))
        os.close(handle)
        os.unlink(name)
    except PermissionError:
        raise WideneckError(f"{path} cannot be written: no permission in {folder}.") from None
    except OSError as error:
        raise WideneckError(f"{path} cannot be written: {error.strerror}.") from None


def _is_part_of(path: Path, folder: Path) -> bool:
    """Whether it is a file that is read with a folder."""
    return (
        bool(READ_IN_FOLDERS.search(path.name))
        and os.path.exists(path)
        and same_place(path.absolute().parent, folder)
    )


def same_place(one: str | os.PathLike, other: str | os.PathLike) -> bool:
    """Whether two names are of one file, which is there or not, whatever they are called.

    A device such as /dev/null takes what any number of writers give it, and is nobody's place.
    """
    with suppress(OSError, ValueError):
        return os.path.samefile(one, other) and not stat.S_ISCHR(os.stat(one).st_mode)
    with suppress(OSError, ValueError):
        return os.path.realpath(one) == os.path.realpath(other)
    return False


def file_at(path: Path) -> Path:
    """The file that a path names: itself, or what a link, dangling or not, leads to."""
    return Path(os.path.realpath(path)) if path.is_symlink() else path


def temporary_beside(path: Path) -> tuple[int, str]:
    """Descriptor and name of a new private file, hidden, in the folder of `path`.

    Its name starts with that of `path`, by which what a killed process left can be told; not with
    all of a long one, which would be too long.
    """
    return tempfile.mkstemp(dir=path.parent, prefix=f".{path.name[:40]}.")


def opened_stream(path: Path) -> IO[bytes] | None:
    """What is to be written into as it is: a device, a pipe; None for a file, there or not.

    Raises:
        WideneckError: nobody has read from a named pipe for `READER` seconds.
        OSError: it cannot be opened.
    """
    number = stream_number(path)
    if number is not None:
        return os.fdopen(os.dup(number), "wb")
    try:
        mode = os.stat(path).st_mode
    except FileNotFoundError:
        return None
    if stat.S_ISREG(mode):
        return None
    _check_stream(path, mode)
    return os.fdopen(
        _pipe_with_reader(path) if stat.S_ISFIFO(mode) else os.open(path, os.O_WRONLY), "wb"
    )


def stream_number(path: str | os.PathLike) -> int | None:
    """The descriptor of this process that a path means: /dev/stdout, /dev/fd/63, `>(...)`.

    Opening the path would open the file behind it once more, from its start.
    """
    own = {"/dev/fd", f"/proc/{os.getpid()}/fd"}
    path = os.fspath(path)
    for _ in range(8):
        folder, name = os.path.split(path)
        if os.path.realpath(folder) in own and name.isdecimal() and name.isascii():
            return int(name) if len(name) <= LONGEST_NUMBER else None
        if not os.path.islink(path):
            return None
        path = os.path.join(folder, os.readlink(path))
    return None


def _is_there(path: str | os.PathLike) -> bool:
    """An id of the hub is no path, though a file of that name may be asked for."""
    with suppress(ValueError):
        return os.path.lexists(path)
    return False


def _found(path: Path) -> os.stat_result | None:
    """What is there, through links; None for nothing yet."""
    try:
        str(path).encode()
        return os.stat(path)
    except FileNotFoundError:
        return None
    except UnicodeEncodeError:
        said = "its name is no UTF-8"
    except ValueError:
        said = "this is no name of a file"
    except OSError as error:
        said = str(error.strerror)
    raise WideneckError(f"{path} cannot be written: {said}.")


def _check_stream(path: Path, mode: int) -> None:
    if stat.S_ISDIR(mode):
        raise WideneckError(f"{path} is a folder; give the name of a file to write.")
    if not (stat.S_ISCHR(mode) or stat.S_ISFIFO(mode)):  # a disk would lose what it holds
        raise WideneckError(
            f"{path} is {kind_of(mode)} that a report cannot go to; give the name of a file."
        )
    if not os.access(path, os.W_OK):
        raise WideneckError(f"{path} cannot be written: no permission.")


def _check_open(path: Path, number: int) -> None:
    import fcntl  # where descriptors have names, it is there

    try:
        flags = fcntl.fcntl(number, fcntl.F_GETFL)
    except OSError as error:
        raise WideneckError(f"{path} cannot be written: {error.strerror}.") from None
    if flags & os.O_ACCMODE == os.O_RDONLY:
        raise WideneckError(f"{path} cannot be written: it is open for reading only.")


def _pipe_with_reader(path: Path) -> int:
    """A named pipe, open for writing, once somebody reads from it."""
    until = time.monotonic() + READER
    while True:
        try:
            descriptor = os.open(path, os.O_WRONLY | os.O_NONBLOCK)
        except OSError as error:
            if error.errno != errno.ENXIO:
                raise
        else:
            os.set_blocking(descriptor, True)
            return descriptor
        if time.monotonic() > until:
            raise WideneckError(
                f"{path} is a pipe that nobody reads: start its reader first, or give a file."
            )
        time.sleep(0.05)
