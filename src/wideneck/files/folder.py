"""Folders of resumable work: of one setting, told by a file in it, and of one process at a time."""

import sys
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TextIO, final

from wideneck.errors import WideneckError
from wideneck.files.boundary import reason
from wideneck.files.json_object import read_object
from wideneck.files.writing import remove

LOCK = ".lock"


@final
@dataclass(frozen=True, kw_only=True)
class FolderKind:
    """What a folder holds, and what is said where it holds something else."""

    settings: str
    """Name of the file that tells what the folder is for."""
    of: str
    """Whose file that is."""
    others: str
    """A sentence's beginning for a folder {} of other settings."""
    doing: str
    """What a process does there."""
    half: Callable[[str], bool]
    """Whether a name is that of a file that is still being written."""
    mend: str
    """What to do where a file is damaged."""

    def names(self, path: Path) -> set[str]:
        """What is in the folder, which is made if it is missing.

        Raises:
            WideneckError: it cannot be made or read.
        """
        try:
            path.mkdir(parents=True, exist_ok=True)
            return {file.name for file in path.iterdir() if not self.half(file.name)} - {LOCK}
        except OSError as error:
            raise unusable(path, error) from None

    def alone(self, path: Path) -> TextIO:
        """Keep other processes out until the file is closed.

        Raises:
            WideneckError: another process has the folder.
            OSError: it cannot be written.
        """
        lock = locked(path, self.doing)
        try:
            for file in list(path.iterdir()):
                if self.half(file.name):
                    remove(file)  # of a process that was killed while it wrote
        except BaseException:
            lock.close()
            raise
        return lock

    def give_up(self, path: Path) -> None:
        """Remove a folder that is ours alone and holds nothing but its lock."""
        with suppress(OSError):  # somebody's file came, or the system keeps open ones
            (path / LOCK).unlink(missing_ok=True)
            path.rmdir()

    def check(self, path: Path, asked: dict[str, Any]) -> None:
        """Refuse a folder of other settings, or a stranger's."""
        if not (path / self.settings).is_file():
            raise self.strangers(path)
        wrong = difference(renamed(asked), renamed(self.read(path / self.settings)))
        if wrong:
            raise WideneckError(
                f"{self.others.format(path)} ({wrong}); name another folder by --out."
            )

    def strangers(self, path: Path) -> WideneckError:
        """What to say of a folder of something else."""
        return WideneckError(
            f"{path} holds files, but not the {self.settings} of {self.of}; name another folder by "
            "--out."
        )

    def read(self, path: Path) -> dict[str, Any]:
        """A JSON file of ours.

        Raises:
            WideneckError: it is missing or damaged.
        """
        return read_object(path, str(path), self.mend, finite=True)


def unusable(path: Path, error: OSError) -> WideneckError:
    """What to say of a folder that the system does not let us have."""
    return WideneckError(f"{path} cannot be used as a folder: {reason(error)}.")


RENAMED = {"context_size": "embedding_size"}
"""Fields of settings: what files of before December 2026 call them -> what they are called."""


def renamed(content: Any) -> Any:
    """Settings under today's names."""
    if isinstance(content, dict):
        return {RENAMED.get(key, key): renamed(x) for key, x in content.items()}
    return [renamed(x) for x in content] if isinstance(content, list) else content


def difference(ours: dict[str, Any], theirs: dict[str, Any], path: str = "") -> str | None:
    """The first setting in which two dictionaries differ, with both values, or None."""
    for key in {**ours, **theirs}:
        a, b = ours.get(key), theirs.get(key)
        if isinstance(a, dict) and isinstance(b, dict):
            found = difference(a, b, f"{path}{key}.")
            if found:
                return found
        elif a != b:
            return f"{path}{key} is {b!r} there, {a!r} here"
    return None


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
            if not (folder / LOCK).exists():  # given up by another since it was opened
                raise BlockingIOError
    except OSError as error:
        file.close()
        if not isinstance(error, BlockingIOError | PermissionError):
            raise  # a file system without locks
        raise WideneckError(
            f"Another process {doing} in {folder}; wait for it, or name another folder by --out."
        ) from None
    return file
