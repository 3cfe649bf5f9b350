"""Finished runs on disk: one JSON file each, written whole, and the settings that they share."""

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, TypeVar, final

from wideneck.errors import WideneckError
from wideneck.files.folder import FolderKind, difference
from wideneck.files.records import record
from wideneck.files.writing import json_text, remove, write_text

SETTINGS = "settings.json"
ENDING = ".json"
FOLDER = FolderKind(
    settings=SETTINGS,
    of="a reproduction",
    others="The runs in {} have other settings",
    doing="works",
    half=lambda name: name.startswith(".") and f"{ENDING}." in name,
    mend="remove it, and what it held is made again",
)

Run = TypeVar("Run")


@final
@dataclass(frozen=True)
class Store:
    """A folder for the runs of one setting; running again finds there what is finished."""

    path: Path

    @classmethod
    @contextmanager
    def opened(cls, path: Path, settings: dict[str, Any]) -> "Iterator[Store]":
        """Make the folder, or take one of the same settings; inside, no other process has it.

        What ends by an error before it has left anything there leaves no settings either, which
        would be in the way of the same command once it is mended.

        Args:
            path: the folder.
            settings: all that its runs share, the experiment among it; as JSON can hold it.

        Raises:
            WideneckError: the folder holds something else, cannot be written, or another process
                works in it.
        """
        asked = json.loads(json_text(settings))  # as they will be read: tuples are lists there
        there = path.exists()
        if FOLDER.names(path):  # strangers' files get no lock
            FOLDER.check(path, asked)
        try:
            lock = FOLDER.alone(path)
        except OSError:  # where nothing can be written finished runs need no lock
            lock = nullcontext()
        with lock:
            known = (path / SETTINGS).exists()
            if known:
                FOLDER.check(path, asked)
            else:
                write_text(path / SETTINGS, json_text(asked))
            try:
                yield cls(path)
            except BaseException:
                if not known and FOLDER.names(path) == {SETTINGS}:
                    remove(path / SETTINGS)
                    if not there:
                        FOLDER.give_up(path)
                raise

    def finished(self, name: str, kind: type[Run], /, **of: Any) -> Run | None:
        """The run of a name, or None where it is still to be made.

        Args:
            name: of the run.
            kind: its dataclass, or a dictionary's type.
            of: the fields that tell it from the other runs, as its name says them.

        Raises:
            WideneckError: the file is damaged, of another version, or the run of another name.
        """
        file = self._file(name)
        if not file.exists():
            return None
        content = FOLDER.read(file)
        run = record(kind, content, str(file), FOLDER.mend, exact=True)
        if wrong := difference(of, {key: content.get(key) for key in of}):
            raise WideneckError(f"{file} holds the run of another name ({wrong}): {FOLDER.mend}.")
        return run

    def write(self, name: str, run: Any) -> None:
        """To a temporary name first, so a file that is there is whole.

        Args:
            name: of the run.
            run: a dataclass, or a dictionary.

        Raises:
            WideneckError: it cannot be written, or a number of the run is not finite.
        """
        try:
            text = json_text(run if isinstance(run, dict) else asdict(run))
        except ValueError:
            raise WideneckError(
                f"The run {name} measured a number that is not finite, so it cannot be compared "
                "with others and is not kept: try another seed or text."
            ) from None
        write_text(self._file(name), text)

    def made(self, name: str, kind: type[Run], make: Callable[[], Run], /, **of: Any) -> Run:
        """The run of a name, made and written where it is not there.

        Raises:
            WideneckError: as `finished` and `write`.
        """
        run = self.finished(name, kind, **of)
        if run is None:
            run = make()
            self.write(name, run)
        return run

    def _file(self, name: str) -> Path:
        return self.path / f"{name}{ENDING}"
