"""Where a cache is built: folders that are swept once the process that made them is gone.

A process builds in a folder of its own, `.states-KEY.RANDOM`, in which it holds a lock; the system
drops it however the process ends.  A sweep removes such a folder only with its lock, so never that
of a living process.  Two that build the same cache at one time both do the work, and the first to
end puts it in place.
"""

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from wideneck.errors import WideneckError
from wideneck.files.folder import locked
from wideneck.files.writing import sync_folder
from wideneck.training.state_arrays import ABOUT

PREFIX, KEY = ".states-", "?" * 12
BUILT = "built"
"""The folder that is put in place: without the lock, which Windows does not move."""
TRIES = 100


@contextmanager
def workplace(folder: Path, key: str) -> Iterator[Path]:
    """A new folder inside `folder`; gone when the block ends, or is swept after a kill.

    Raises:
        OSError: nothing can be written there.
    """
    place, lock = _locked_place(folder, key)
    try:
        built = place / BUILT
        built.mkdir()
        yield built
    finally:
        lock.close()
        shutil.rmtree(place, ignore_errors=True)


def sweep(folder: Path) -> None:
    """Remove what killed processes left of caches that they built in `folder`."""
    for place in folder.glob(f"{PREFIX}{KEY}.*"):
        if place.is_symlink():
            continue
        try:
            lock = locked(place, "computes hidden states")
        except (WideneckError, OSError):
            continue  # its process lives, or it is another's, or it is gone
        with lock:
            shutil.rmtree(place, ignore_errors=True)


def put_in_place(built: Path, place: Path) -> None:
    """Give a whole cache its name, unless another process was faster.

    What lies there without a description is no cache, and makes way.

    Raises:
        OSError: it cannot be renamed.
    """
    sync_folder(built)
    if not (place / ABOUT).exists() and place.exists():
        shutil.rmtree(place)
    try:
        built.rename(place)
    except OSError:
        if not (place / ABOUT).exists():
            raise
    sync_folder(place.parent)


def _locked_place(folder: Path, key: str):
    for _ in range(TRIES):
        place = Path(tempfile.mkdtemp(prefix=f"{PREFIX}{key}.", dir=folder))
        try:
            return place, locked(place, "computes hidden states")
        except (WideneckError, FileNotFoundError):
            continue  # a sweep came between
    raise OSError(0, "its locks do not work")
