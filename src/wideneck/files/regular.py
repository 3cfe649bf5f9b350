"""Which files are read at all: regular ones, whose size is known before the first byte."""

import os
import stat
from pathlib import Path

from wideneck.errors import WideneckError


def size_of_regular(path: str | os.PathLike, kind: str) -> int:
    """The size in bytes of a regular file, or of the one that a link leads to.

    Args:
        path: a file.
        kind: what it should hold, such as "a text" or "a weights file", for the message.

    Raises:
        WideneckError: it is missing, a folder, a pipe, a socket or a device.
    """
    try:
        found = os.stat(path)
    except (OSError, ValueError) as error:
        said = getattr(error, "strerror", None) or "no name of a file"
        raise WideneckError(f"{path} cannot be read as {kind}: {said}.") from None
    if stat.S_ISREG(found.st_mode):
        return found.st_size
    raise WideneckError(
        f"{path} is {kind_of(found.st_mode)}, and {kind} must be a regular file: give its path."
    )


def kind_of(mode: int) -> str:
    """What `os.stat` says that a path is, in words."""
    names = (
        (stat.S_ISDIR, "a folder"),
        (stat.S_ISFIFO, "a pipe"),
        (stat.S_ISSOCK, "a socket"),
        (stat.S_ISCHR, "a device"),
        (stat.S_ISBLK, "a device"),
    )
    return next((name for holds, name in names if holds(mode)), "a regular file")


def inside(folder: Path, name: str) -> Path:
    """The path of a file that a stranger's index names, in the folder of that index.

    A link inside the folder may lead to a file anywhere (the hub's cache is made of them); a name
    that leaves the folder may not.

    Raises:
        WideneckError: the name is absolute, or leaves the folder.
    """
    parts = Path(name).parts
    if not parts or Path(name).is_absolute() or ".." in parts or "\0" in name or "\\" in name:
        raise WideneckError(
            f"{name!r} is no name of a file inside {folder}: an index may only name files of its "
            "own folder."
        )
    return folder / name
