"""Finished runs on disk: a file for each objective and seed."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import final

from wideneck.papers import run_folder
from wideneck.papers.histalign.results import Run
from wideneck.papers.histalign.settings import Settings


@final
@dataclass(frozen=True)
class RunFolder:
    """A folder for the runs of one setting; running again finds there what is finished."""

    files: run_folder.RunFolder[Run]

    @classmethod
    @contextmanager
    def opened(cls, path: Path, settings: Settings) -> "Iterator[RunFolder]":
        """See `wideneck.papers.run_folder.RunFolder.opened`."""
        shared = {"paper": "histalign", **asdict(settings)}
        with run_folder.RunFolder.opened(path, shared, Run) as files:
            yield cls(files)

    def finished(self, objective: str, seed: int) -> Run | None:
        """A run, or None where it is still to be made."""
        return self.files.finished(_name(objective, seed))

    def write(self, run: Run) -> None:
        """To a temporary name first, so a file that is there is whole."""
        self.files.write(_name(run.objective, run.seed), run)


def _name(objective: str, seed: int) -> str:
    return f"{objective}-seed{seed}"
