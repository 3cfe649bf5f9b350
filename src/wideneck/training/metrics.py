"""The lines of metrics.jsonl, which are as many as the last checkpoint says."""

import json
import os
from pathlib import Path
from typing import Any, TypeVar, final

import msgspec

from wideneck.errors import WideneckError
from wideneck.files.boundary import reading
from wideneck.files.regular import size_of_regular

Line = TypeVar("Line")


@final
class Metrics:
    """Lines of JSON; what a killed run wrote after its checkpoint is cut off.

    The file had `size` bytes when the checkpoint was written; it is made if it is missing and that
    is 0.
    """

    def __init__(self, path: Path, size: int):
        if path.is_symlink():  # it is cut, and what it leads to may be anybody's
            raise WideneckError(
                f"{path} is a link, and metrics are written into a file of the run's folder: put "
                "the file there, or remove the folder to start over."
            )
        there = size_of_regular(path, "a file of metrics") if path.exists() else 0
        if there < size:
            raise WideneckError(
                f"{path} has {there:,} bytes, and had {size:,} when the checkpoint was written: "
                "give the whole file back, or remove the folder to start over."
            )
        try:
            self._file = path.open("ab")
            self._file.truncate(size)
        except OSError as error:
            raise WideneckError(f"{path} could not be written: {error.strerror}.") from None
        self.path = path

    def write(self, line: dict[str, Any]) -> None:
        """Add a line."""
        try:
            self._file.write((json.dumps(line, allow_nan=False) + "\n").encode())
            self._file.flush()
        except OSError as error:
            raise self._not_written(error) from None

    def synced(self) -> int:
        """Force what is written to the disk; its bytes."""
        try:
            os.fsync(self._file.fileno())
        except OSError as error:
            raise self._not_written(error) from None
        return os.fstat(self._file.fileno()).st_size

    def close(self) -> None:
        """No more lines."""
        self._file.close()

    def _not_written(self, error: OSError) -> WideneckError:
        return WideneckError(
            f"{self.path} could not be written: {error.strerror}. The last checkpoint is kept; "
            "make room and start the same command again."
        )


def read_metrics(path: Path, kind: type[Line]) -> list[Line]:
    """Every line as a record; keys that the record does not have are left out."""
    mend = train_again(path.parent)
    with reading(path, "its text", mend):
        lines = path.read_bytes().splitlines()
    found = []
    for number, line in enumerate(lines, 1):
        with reading(f"{path}, line {number}", "its JSON", mend):
            found.append(msgspec.json.decode(line, type=kind))
    return found


def train_again(folder: Path) -> str:
    """What to do about the lines of a finished run."""
    return f"remove {folder}, and it is trained again"
