"""Finished runs on disk: one JSON file each, written whole, and the settings that they share."""

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, final

from wideneck.errors import WideneckError
from wideneck.papers.histalign.results import Run
from wideneck.papers.histalign.settings import Settings
from wideneck.report.files import json_text, write_text

SETTINGS = "settings.json"


@final
@dataclass(frozen=True)
class RunFolder:
    """A folder for the runs of one setting; running again finds there what is finished."""

    path: Path

    @classmethod
    def opened(cls, path: Path, settings: Settings) -> "RunFolder":
        """Make the folder, or take one of the same settings.

        Raises:
            WideneckError: the folder holds something else, or cannot be written.
        """
        asked = {"paper": "histalign", **asdict(settings)}
        try:
            path.mkdir(parents=True, exist_ok=True)
            before = any(path.iterdir())
        except OSError as error:
            raise WideneckError(f"{path} cannot be used as a folder: {error.strerror}.") from None
        if not before:
            write_text(path / SETTINGS, json_text(asked))
            return cls(path)
        if not (path / SETTINGS).is_file():
            raise WideneckError(
                f"{path} holds files, but not the {SETTINGS} of a reproduction; name another "
                "folder by --out."
            )
        found = _read(path / SETTINGS)
        if found != asked:
            wrong = next(k for k in {**asked, **found} if found.get(k) != asked.get(k))
            raise WideneckError(
                f"The runs in {path} have other settings ({wrong} is {found.get(wrong)!r} there, "
                f"{asked.get(wrong)!r} here); name another folder by --out."
            )
        return cls(path)

    def finished(self, objective: str, seed: int) -> Run | None:
        """A run, or None where it is still to be made."""
        file = self._file(objective, seed)
        if not file.exists():
            return None
        try:
            return Run(**_read(file))
        except TypeError:
            raise WideneckError(
                f"{file} is not a run of this version of wideneck; remove it, and it is made again."
            ) from None

    def write(self, run: Run) -> None:
        """To a temporary name first, so a file that is there is whole."""
        write_text(self._file(run.objective, run.seed), json_text(asdict(run)))

    def _file(self, objective: str, seed: int) -> Path:
        return self.path / f"{objective}-seed{seed}.json"


def _read(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text("utf-8"))
    except OSError as error:
        raise WideneckError(f"{path} cannot be read: {error.strerror}.") from None
    except ValueError:
        content = None
    if not isinstance(content, dict):
        raise WideneckError(f"{path} is damaged; remove it, and what it held is made again.")
    return content
