"""The files of cached states: arrays as numpy writes them, each with its sum in about.json.

The sums are of whole files, so that every byte counts, whatever it means.  about.json itself
is compared with what was asked for, key by key, and carries the sum of its other keys.  Caches of
earlier versions have no sums; they are read, and that is said.

A process builds in a folder of its own, `.states-KEY.RANDOM`, in which it holds a lock; the system
drops it however the process ends.  A sweep removes such a folder only with its lock, so never that
of a living process.  Two that build the same cache at one time both do the work, and the first to
end puts it in place.
"""

import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO, final

import numpy as np
import torch
import xxhash
from torch import Tensor

from wideneck.audits.states import Progress
from wideneck.errors import WideneckError
from wideneck.files.boundary import reading
from wideneck.files.folder import locked
from wideneck.files.json_object import read_object
from wideneck.files.records import record
from wideneck.files.regular import size_of_regular
from wideneck.files.sums import Watch, sum_of
from wideneck.files.writing import json_text, sync_folder, write_text
from wideneck.training.headers import StatesAbout
from wideneck.training.tensor_file import say_without_sums

ABOUT = "about.json"
PREFIX, KEY = ".states-", "?" * 12
BUILT = "built"
"""The folder that is put in place: without the lock, which Windows does not move."""
TRIES = 100


class _Described(StatesAbout, frozen=True, kw_only=True, forbid_unknown_fields=True):
    sums: dict[str, str] | None = None
    """The sum of each file; None in caches of earlier versions."""
    sum: str | None = None
    """The sum of all the rest."""


@final
class Arrays:
    """Arrays that are written into a folder, one file each.

    Raises (every method):
        OSError: the disk is full, or writing is not allowed.
    """

    def __init__(self, folder: Path):
        self.folder = folder
        self.sums: dict[str, str] = {}

    def save(self, name: str, tensor: Tensor) -> None:
        """A tensor that is in memory."""
        array = tensor.cpu().numpy()
        with self.writing(name, array.shape, array.dtype) as file:
            file.write(array.tobytes() if array.ndim == 0 else array.ravel().data.cast("B"))

    @contextmanager
    def writing(self, name: str, shape: tuple[int, ...], dtype: np.dtype) -> Iterator["_Summing"]:
        """One that comes part by part, in order; on the disk when the block ends.

        Written, not mapped: a full disk is an error here, and the end of the process there.
        """
        path = self.folder / f"{name}.npy"
        with path.open("wb") as file:
            summing = _Summing(file)
            descr = np.lib.format.dtype_to_descr(dtype)
            header = {"shape": shape, "fortran_order": False, "descr": descr}
            np.lib.format.write_array_header_1_0(summing, header)
            yield summing
            file.flush()
            os.fsync(file.fileno())
        self.sums[path.name] = summing.sum.hexdigest()

    def describe(self, about: StatesAbout) -> None:
        """Write what the arrays are of, the last file of all."""
        content = about.to_dict() | {"sums": self.sums}
        write_text(self.folder / ABOUT, json_text(content | {"sum": _sum_of_rest(content)}))


class _Summing:
    """A file whose sum is taken on the way."""

    def __init__(self, file: BinaryIO):
        self.file, self.sum = file, xxhash.xxh3_128(b"")

    def write(self, data: bytes | memoryview) -> None:
        self.sum.update(data)
        self.file.write(data)


@final
class StoredArrays:
    """What `Arrays` wrote; the description is checked at once, an array when it is opened.

    `about` is what it should be of; `progress` is told of the bytes, if reading takes longer than a
    second.
    """

    def __init__(self, folder: Path, about: StatesAbout, progress: Progress | None):
        self.folder = folder
        self._mend = f"remove {folder}, and it is computed again"
        path = folder / ABOUT
        content = read_object(path, str(path), self._mend, finite=True)
        described = record(_Described, content, str(path), self._mend)
        if (described.sums is None) != (described.sum is None):
            raise self._damaged(path)
        found = content.pop("sum", None)
        if found is not None and found != _sum_of_rest(content):
            raise self._damaged(path)
        content.pop("sums", None)
        if content != about.to_dict():
            raise self._damaged(path)
        self._sums = described.sums
        if self._sums is None:
            say_without_sums(folder)
        total = sum(file.stat().st_size for file in folder.glob("*.npy"))
        self._watch = Watch(progress, "checking the hidden states", total)

    def has(self, name: str) -> bool:
        """Whether there is such an array."""
        if self._sums is None:
            return (self.folder / f"{name}.npy").exists()
        return f"{name}.npy" in self._sums

    def array(self, name: str) -> Tensor:
        """Mapped, copied where it is written to: the file is never changed."""
        path = self.folder / f"{name}.npy"
        size_of_regular(path, f"an array ({self._mend})")
        with reading(path, "its array", self._mend):
            if self._sums is not None:
                mapped = np.memmap(path, np.uint8, "r")
                if sum_of(mapped.data, watch=self._watch) != self._sums.get(path.name):
                    raise self._damaged(path)
            # torch wants writable memory.
            return torch.from_numpy(np.load(path, mmap_mode="c", allow_pickle=False))

    def _damaged(self, path: Path) -> WideneckError:
        return WideneckError(
            f"{path} is damaged: it is not what was written, as its sum says: {self._mend}."
        )


def _sum_of_rest(content: dict[str, Any]) -> str:
    return sum_of(json.dumps(content, sort_keys=True).encode())


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
