"""Finished runs on disk: one JSON file each, written whole, and the settings that they share."""

import json
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar, final

from wideneck.errors import WideneckError
from wideneck.files.boundary import reason
from wideneck.files.json_object import read_object
from wideneck.files.lock import LOCK, locked
from wideneck.files.records import exact_record
from wideneck.files.writing import json_text, remove, write_text
from wideneck.training.recipe import difference

SETTINGS = "settings.json"
ENDING = ".json"
AGAIN = "remove it, and what it held is made again"

Run = TypeVar("Run")


@final
@dataclass(frozen=True)
class RunFolder(Generic[Run]):
    """A folder for the runs of one setting; running again finds there what is finished."""

    path: Path
    kind: type[Run]
    """The dataclass of a run."""

    @classmethod
    @contextmanager
    def opened(
        cls, path: Path, settings: dict[str, Any], kind: type[Run]
    ) -> "Iterator[RunFolder[Run]]":
        """Make the folder, or take one of the same settings; inside, no other process has it.

        Args:
            path: the folder.
            settings: all that its runs share, the paper among it; as JSON can hold it.
            kind: the dataclass of a run.

        Raises:
            WideneckError: the folder holds something else, cannot be written, or another process
                works in it.
        """
        asked = json.loads(json_text(settings))  # as they will be read: tuples are lists there
        try:
            path.mkdir(parents=True, exist_ok=True)
            names = {file.name for file in path.iterdir() if not _temporary(file)} - {LOCK}
        except OSError as error:
            raise WideneckError(f"{path} cannot be used as a folder: {reason(error)}.") from None
        if names:  # strangers' files get no lock
            _check_settings(path, asked)
        with _alone(path):
            if (path / SETTINGS).exists():
                _check_settings(path, asked)
            else:
                write_text(path / SETTINGS, json_text(asked))
            yield cls(path, kind)

    def finished(self, name: str) -> Run | None:
        """The run of a name, or None where it is still to be made.

        Raises:
            WideneckError: the file is damaged or of another version.
        """
        file = self._file(name)
        if not file.exists():
            return None
        return exact_record(self.kind, _read(file), str(file), AGAIN)

    def write(self, name: str, run: Run) -> None:
        """To a temporary name first, so a file that is there is whole.

        Raises:
            WideneckError: it cannot be written, or a number of the run is not finite.
        """
        content: Any = run
        try:
            text = json_text(asdict(content))
        except ValueError:
            raise WideneckError(
                f"The run {name} measured a number that is not finite, so it cannot be compared "
                "with others and is not kept: try another seed or text."
            ) from None
        write_text(self._file(name), text)

    def _file(self, name: str) -> Path:
        return self.path / f"{name}{ENDING}"


def _check_settings(path: Path, asked: dict[str, Any]) -> None:
    if not (path / SETTINGS).is_file():
        raise WideneckError(
            f"{path} holds files, but not the {SETTINGS} of a reproduction; name another "
            "folder by --out."
        )
    found = _read(path / SETTINGS)
    wrong = difference(asked, found)
    if wrong:
        raise WideneckError(
            f"The runs in {path} have other settings ({wrong}); name another folder by --out."
        )


def _alone(path: Path) -> AbstractContextManager[Any]:
    """Keeps other processes out, where the folder can be written; finished runs need no lock."""
    try:
        lock = locked(path, "works")
    except OSError:
        return nullcontext()
    for file in filter(_temporary, list(path.iterdir())):
        remove(file)  # of a process that was killed while it wrote
    return lock


def _temporary(file: Path) -> bool:
    """Whether it is what one of our files is called until it is whole."""
    return file.name.startswith(".") and f"{ENDING}." in file.name


def _read(path: Path) -> dict[str, Any]:
    return read_object(path, str(path), AGAIN, finite=True)
