"""Which files are read at all: regular ones, whose size is known before the first byte."""

import os
import stat
from contextlib import suppress
from pathlib import Path

from wideneck.errors import WideneckError
from wideneck.files.boundary import reading

POINTER = b"version https://git-lfs.github.com/spec/"
"""How the note begins that Git LFS leaves in place of a large file."""
LONGEST_POINTER = 1024
"""Bytes, which by its specification it stays below."""


def size_of_regular(path: str | os.PathLike, kind: str) -> int:
    """The size in bytes of a regular file, or of the one that a link leads to.

    Args:
        path: a file.
        kind: what it should hold, such as "a text" or "a weights file", for the message.

    Raises:
        WideneckError: it is missing, a folder, a pipe, a socket, a device, or a pointer of Git LFS.
    """
    try:
        found = os.stat(path)
    except (OSError, ValueError) as error:
        said = getattr(error, "strerror", None) or "no name of a file"
        raise WideneckError(f"{path} cannot be read as {kind}: {said}.") from None
    if stat.S_ISREG(found.st_mode):
        refuse_pointer(path, found.st_size)
        return found.st_size
    raise WideneckError(
        f"{path} is {kind_of(found.st_mode)}, and {kind} must be a regular file: give its path."
    )


def refuse_pointer(path: str | os.PathLike, size: int) -> None:
    """Refuse a regular file of `size` bytes that only names the one which Git LFS would fetch.

    It is what `git clone` leaves without LFS, and a text of three lines to whoever reads it as one.

    Raises:
        WideneckError: it is such a pointer.
    """
    if not len(POINTER) < size < LONGEST_POINTER:
        return
    with (
        suppress(OSError),
        open(path, "rb") as file,
    ):  # its reader says what the system has against it
        if file.read(len(POINTER)) == POINTER:
            raise WideneckError(
                f"{path} is a pointer of Git LFS and not the file itself: run `git lfs pull` where "
                "it lies, or download the file again."
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


def check_name(name: str, title: str) -> None:
    """Refuse a name of a stranger's index that leads out of the folder of that index.

    Args:
        name: what the index names.
        title: what messages call the index.

    Raises:
        WideneckError: the name is absolute, or leaves the folder.
    """
    # Plain strings, as an index may name a million.
    leaves = os.path.isabs(name) or ".." in name.split("/") or "\\" in name
    if leaves or "\0" in name or name in ("", "."):
        raise WideneckError(
            f"{title} names {name!r}, which is no file inside its folder, and an index may only "
            "name those: download the model again."
        )


def inside(folder: Path, name: str) -> Path:
    """The path of a file that a stranger's index names, in the folder of that index.

    A link may lead to another place in the folder, or to a blob of the hub's cache, whose
    snapshots are folders of such links.

    Raises:
        WideneckError: the name or a link leaves the folder.
    """
    check_name(name, str(folder))
    path = folder / name
    with reading(path, "the link", "copy the file into its folder"):
        target = path.resolve(strict=True)
        if not target.is_relative_to(folder.resolve()) and not _in_hub_cache(target):
            raise WideneckError(
                f"{path} is a link to {target}, outside its folder, and an index may only lead to "
                "files of its own folder: copy the file there."
            )
    return path


def _in_hub_cache(path: Path) -> bool:
    """Whether it is models--org--name/blobs/hash, the layout of huggingface_hub."""
    return path.parent.name == "blobs" and path.parent.parent.name.startswith("models--")
