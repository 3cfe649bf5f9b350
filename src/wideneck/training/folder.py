"""The folder of a run: its recipe, metrics, last checkpoint and best weights.

    recipe.json            what is trained, to the last default
    metrics.jsonl          one line every `log_every` steps and one per evaluation
    checkpoint.safetensors the whole state; the same command goes on from it
    model.safetensors      the best weights by validation loss
    result.json            when it is done

One process at a time: an open file is locked, and the system unlocks it however the process ends.
"""

import os
from pathlib import Path
from typing import Any, final

from wideneck.files.folder import FolderKind, unusable
from wideneck.files.records import record
from wideneck.files.writing import json_text, remove, sync_folder, write_text
from wideneck.training.headers import Result

RECIPE, METRICS, RESULT = "recipe.json", "metrics.jsonl", "result.json"
CHECKPOINT, MODEL, VOCABULARY = "checkpoint.safetensors", "model.safetensors", "vocabulary.txt"
WHOLE = (RECIPE, RESULT, CHECKPOINT, MODEL, VOCABULARY)
"""Files that are whole or not there."""
START_OVER = "remove the folder to start over"
FOLDER = FolderKind(
    settings=RECIPE,
    of="a run",
    others="The run in {} has another recipe",
    doing="trains",
    half=lambda name: name.startswith(tuple(f".{whole}." for whole in WHOLE)),
    mend=START_OVER,
)


def is_run(path: str | Path) -> bool:
    """Whether a folder is that of a run; why a path cannot be looked at, its reader says."""
    return os.path.isfile(os.path.join(path, RECIPE))  # Path.is_file may raise


@final
class RunFolder:
    """A folder that this process alone trains in; it is made if it is missing.

    The recipe must be that of the run which is there, unless that came to nothing.  Of processes
    that train together only the first one locks and writes; the others must come after it.
    """

    def __init__(self, path: Path, recipe: dict[str, Any], *, first: bool = True):
        self.path, self._lock = path, None
        self.checkpoint, self.model = path / CHECKPOINT, path / MODEL
        if not first:
            return
        names = FOLDER.names(path)
        if names and RECIPE not in names:
            raise FOLDER.strangers(path)
        try:
            self._lock = FOLDER.alone(path)
        except OSError as error:
            raise unusable(path, error) from None
        try:
            self._begin(recipe)
        except BaseException:
            self.close()
            raise

    def _begin(self, recipe: dict[str, Any]) -> None:
        path = self.path
        if any((path / name).exists() for name in (CHECKPOINT, MODEL, RESULT)):
            FOLDER.check(path, recipe)
        else:  # a recipe that never came to a checkpoint may be corrected
            if (path / RECIPE).exists() and FOLDER.read(path / RECIPE).keys() != recipe.keys():
                raise FOLDER.strangers(path)
            write_text(path / RECIPE, json_text(recipe))
            remove(path / VOCABULARY)
        if (path / RESULT).exists():
            remove(self.checkpoint)

    def result(self) -> dict[str, Any] | None:
        """What a finished run found."""
        file = self.path / RESULT
        if not file.exists():
            return None
        found = FOLDER.read(file)
        record(Result, found, str(file), START_OVER)
        return found

    def finish(self, result: dict[str, Any]) -> None:
        """The run is done; its checkpoint is needed no more."""
        write_text(self.path / RESULT, json_text(result))
        sync_folder(self.path)  # or a power cut could take both
        remove(self.checkpoint)

    def close(self) -> None:
        """Let others in."""
        if self._lock is not None:
            self._lock.close()
