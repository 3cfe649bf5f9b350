"""One process at a time in a folder."""

import sys
from pathlib import Path
from typing import TextIO

from wideneck.errors import WideneckError

LOCK = ".lock"


def locked(folder: Path, doing: str) -> TextIO:
    """Keep other processes out until the file is closed; the system does so however ours ends.

    Args:
        folder: must exist; gets an empty file.
        doing: what a process does there, for the error.

    Raises:
        WideneckError: another process has locked it.
        OSError: the folder cannot be written, or its file system has no locks.
    """
    file = (folder / LOCK).open("a+")
    try:
        if sys.platform == "win32":
            import msvcrt

            msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)
        else:
            import fcntl

            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        file.close()
        if not isinstance(error, BlockingIOError | PermissionError):
            raise  # a file system without locks
        raise WideneckError(
            f"Another process {doing} in {folder}; wait for it, or name another folder by --out."
        ) from None
    return file
