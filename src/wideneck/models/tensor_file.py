"""Files of named tensors, opened so that one tensor can be read without the others.

Four readers, one interface: .safetensors here (safetensors_file.py) and on the hub
(hub_folder.py), .bin and .pt (pickle_file.py), and a checkpoint in several files.  Opening costs
the header; `rows` costs the rows.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from wideneck.errors import WideneckError
from wideneck.files.boundary import reading
from wideneck.files.regular import size_of_regular
from wideneck.models.checks import check_dtype, dtype_name


class TensorFile(ABC):
    """Named tensors of one checkpoint.

    What opening finds is checked there, so names, shapes and types are facts of a good file;
    the numbers themselves are read later, inside the boundary.
    """

    _stored: Mapping[str, Any]
    """By name what opening has found, with a shape and a dtype."""

    def __init__(self, title: str):
        self.title = title
        """What messages call the file."""

    def names(self) -> list[str]:
        """Every tensor's name."""
        return list(self._stored)

    def shape(self, name: str) -> tuple[int, ...]:
        """The tensor's shape, from the header."""
        return tuple(self._stored[name].shape)

    def dtype(self, name: str) -> str:
        """The storage type: torch's name for one of the four float types, else the file's own."""
        return dtype_name(self._stored[name].dtype)

    @abstractmethod
    def _rows(self, name: str, start: int, stop: int) -> Tensor:
        """As `rows`, outside the boundary."""

    def rows(self, name: str, start: int, stop: int) -> Tensor:
        """Rows start..stop of a tensor, in its storage type, perhaps sharing the file's memory.

        A tensor that is a single number has one row.

        Raises:
            WideneckError: the file does not hold them, or has changed since it was opened.
        """
        with reading(self.title, name, "download the file again"):
            return self._rows(name, start, stop)

    def check(self, name: str) -> None:  # noqa: B027
        """Refuse a tensor that claims more numbers than are stored, without reading it.

        Where opening has held every tensor against the file's bytes there is nothing left to do.
        """

    def refuse_packed(self, name: str) -> None:
        """Refuse a tensor whose numbers mean nothing without others."""
        check_dtype(name, self.dtype(name))

    def read(self, name: str) -> Tensor:
        """The whole tensor, as `rows`; packed numbers, or one without a shape, are refused."""
        self.refuse_packed(name)
        shape = self.shape(name)
        if not shape:
            raise WideneckError(
                f"{name} of {self.title} should be a matrix or a bias, it is a single number."
            )
        return self.rows(name, 0, shape[0])


class MappedFile(TensorFile):
    """A file on this machine, whose tensors are read from its pages as they are needed."""

    def __init__(self, path: Path):
        """Only a regular file has a size to hold its header against.

        Raises:
            WideneckError: it is a pipe, a device or missing.
        """
        super().__init__(str(path))
        self.path = path
        self.size = size_of_regular(path, "a weights file")

    def refuse_changed(self) -> None:
        """A mapped page that is no longer there ends the process without an error."""
        if size_of_regular(self.path, "a weights file") != self.size:
            raise WideneckError(f"{self.title} has changed while it was read: run this again.")


class Shards(TensorFile):
    """A checkpoint in several files; each is opened when the first of its tensors is asked for."""

    def __init__(self, title: str, weight_map: dict[str, str], shard: Callable[[str], TensorFile]):
        """Open nothing yet.

        Args:
            title: what messages call the index.
            weight_map: tensor name to file name.
            shard: opens a file by its name.
        """
        super().__init__(title)
        self._stored = weight_map
        self._open = shard
        self._opened: dict[str, TensorFile] = {}

    def shape(self, name: str) -> tuple[int, ...]:
        return self._shard(name).shape(name)

    def dtype(self, name: str) -> str:
        return self._shard(name).dtype(name)

    def check(self, name: str) -> None:
        self._shard(name).check(name)

    def _rows(self, name: str, start: int, stop: int) -> Tensor:
        return self._shard(name).rows(name, start, stop)

    def _shard(self, name: str) -> TensorFile:
        file = self._stored[name]
        if file not in self._opened:
            opened = self._open(file)
            self._refuse_other_names(file, set(opened.names()))
            self._opened[file] = opened
        return self._opened[file]

    def _refuse_other_names(self, file: str, stored: set[str]) -> None:
        """An index and a shard that name different tensors are of different models.

        What the shard alone has would be ignored, and a head among it taken for a missing one.
        """
        named = {name for name, place in self._stored.items() if place == file}
        for name in sorted(named - stored):
            raise WideneckError(
                f"{self.title} says that {name} is in {file}, but it is not: the files do not "
                "belong together; download them again."
            )
        for name in sorted(stored - named):
            raise WideneckError(
                f"{file} holds {name}, and {self.title} does not say so: the files do not belong "
                "together; download them again."
            )
