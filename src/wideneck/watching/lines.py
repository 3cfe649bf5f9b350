"""The JSON lines that a watched run writes, and their reading."""

import json
import math
import os
from pathlib import Path
from typing import Any, final

import msgspec

from wideneck.errors import WideneckError
from wideneck.files.regular import size_of_regular
from wideneck.watching.quantities import Watched


@final
class Lines:
    """A file that a resumed run goes on in: what was written from its first step on is cut off.

    Nothing is cut before the first line, when the step is known.

    Raises:
        WideneckError: the file cannot be written, holds something else, or holds another run: one
            that has no line before the step that is to be written first.
    """

    def __init__(self, path: str | Path):
        self.path = Path(path)
        self._begun = False

    def write(self, line: dict[str, Any]) -> None:
        """Add a line; what is not finite is null in it."""
        known = {
            name: None if isinstance(value, float) and not math.isfinite(value) else value
            for name, value in line.items()
        }
        try:
            if not self._begun and os.path.lexists(self.path):
                os.truncate(self.path, self._kept(line["step"]))
            self._begun = True
            with self.path.open("ab") as file:
                file.write((json.dumps(known, allow_nan=False) + "\n").encode())
        except OSError as error:
            raise WideneckError(f"{self.path} could not be written: {error.strerror}.") from None

    def _kept(self, step: int) -> int:
        """Bytes of the lines before a step; a line that a killed run did not finish is cut too."""
        if self.path.is_symlink():
            raise WideneckError(f"{self.path} is a link, and a file is needed that may be cut.")
        if size_of_regular(self.path, "a file of watched steps") == 0:
            return 0
        kept = 0
        for line in self.path.read_bytes().splitlines(keepends=True):
            if not line.endswith(b"\n") or _step(line, self.path) >= step:
                break
            kept += len(line)
        if kept == 0:
            raise WideneckError(
                f"{self.path} holds another run, or this one from its beginning, and would be "
                f"overwritten from step {step:,} on: remove it, or name another file."
            )
        return kept


class _Step(msgspec.Struct):
    step: int


def _step(line: bytes, path: Path) -> int:
    try:
        return msgspec.json.decode(line, type=_Step).step
    except (msgspec.MsgspecError, UnicodeDecodeError):
        raise WideneckError(
            f"{path} is no file of watched steps: {line[:40]!r} is no JSON with a step. Name "
            "another file."
        ) from None


def read_lines(path: str | Path) -> list[Watched]:
    """One record a step, in order, from all lines of it; other keys are left out.

    Raises:
        WideneckError: the file is missing or has a line that is none of ours.
    """
    path = Path(path)
    size_of_regular(path, "a file of watched steps")
    try:
        lines = path.read_bytes().splitlines(keepends=True)
    except OSError as error:
        raise WideneckError(f"{path} could not be read: {error.strerror}.") from None
    steps: dict[int, dict[str, Any]] = {}
    for line in lines:
        if not line.endswith(b"\n") and lines and line is lines[-1]:
            break  # a run that is being written
        step = _step(line, path)
        found = json.loads(line)
        steps.setdefault(step, {}).update({k: v for k, v in found.items() if v is not None})
    try:
        return [msgspec.convert(steps[step], Watched) for step in sorted(steps)]
    except msgspec.ValidationError as error:
        raise WideneckError(f"{path} is no file of watched steps: {error}.") from None
