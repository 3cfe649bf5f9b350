"""A folder of model files: what it holds, and how each file is opened.

`LocalFolder` is on disk; `HubFolder` (hub_folder.py) is on the Hugging Face hub and answers
the same four questions, so the readers above do not know which one they read.
"""

import os
from abc import ABC, abstractmethod
from pathlib import Path
from typing import Any

from wideneck.errors import WideneckError
from wideneck.files.boundary import reading
from wideneck.files.json_object import read_object
from wideneck.files.regular import check_name, inside
from wideneck.models.pickle_file import PickleFile
from wideneck.models.safetensors_file import SafetensorsFile
from wideneck.models.tensor_file import TensorFile

STANDARD = (
    "model.safetensors",
    "model.safetensors.index.json",
    "pytorch_model.bin",
    "pytorch_model.bin.index.json",
)
"""Weights files, in the order in which transformers would choose."""


class Folder(ABC):
    """The files at the root of one model."""

    @abstractmethod
    def names(self) -> list[str]:
        """The names of the files, sorted."""

    @abstractmethod
    def path(self, name: str) -> Path:
        """The whole file, on this machine."""

    @abstractmethod
    def tensors(self, name: str) -> TensorFile:
        """A .safetensors, .bin or .pt file, opened so that only what is asked for is read."""

    def shard(self, name: str) -> TensorFile:
        """As `tensors`, of a file that an index or the number in a name leads to, not the user.

        Raises:
            WideneckError: it is outside the folder.
        """
        return self.tensors(name)

    @property
    @abstractmethod
    def pretrained(self) -> tuple[str, str | None]:
        """Name and revision for transformers' `from_pretrained`."""

    @abstractmethod
    def __str__(self) -> str: ...

    def json(self, name: str) -> dict[str, Any]:
        """A JSON file that must hold an object."""
        return read_object(self.path(name), f"{name} of {self}")

    def weight_map(self, index: str) -> dict[str, str]:
        """Tensor name to shard, from the index of a sharded checkpoint.

        Raises:
            WideneckError: it is no index, or names a file outside the folder.
        """
        weight_map = self.json(index).get("weight_map")
        if not isinstance(weight_map, dict):
            raise WideneckError(f"{index} of {self} has no weight_map: it is no index of shards.")
        for name, shard in weight_map.items():
            if not isinstance(shard, str):
                raise WideneckError(
                    f"{index} of {self} should name the file of {name}, it says {shard!r:.40}: "
                    "download it again."
                )
        for shard in set(weight_map.values()):
            check_name(shard, f"{index} of {self}")
        return weight_map


class LocalFolder(Folder):
    """A folder on this machine."""

    def __init__(self, path: Path):
        self._path = path

    def names(self) -> list[str]:
        with reading(self, "the folder", "check its permissions"):
            with os.scandir(self._path) as entries:  # which knows their kinds without asking
                return sorted(entry.name for entry in entries if entry.is_file())

    def path(self, name: str) -> Path:
        path = self._path / name
        with reading(self, name, "check its permissions"):
            if not path.exists():
                raise WideneckError(
                    f"{self} should hold {name}, but there is no such file: download it as well."
                )
        return path

    def tensors(self, name: str) -> TensorFile:
        return open_tensors(self.path(name))

    def shard(self, name: str) -> TensorFile:
        """As `tensors`; a link may only lead to another place of the folder, or the hub's cache."""
        self.path(name)
        return open_tensors(inside(self._path, name))

    @property
    def pretrained(self) -> tuple[str, str | None]:
        return str(self._path), None

    def __str__(self) -> str:
        return str(self._path)


def open_tensors(path: Path) -> TensorFile:
    """A weights file on this machine, by its name's ending."""
    return SafetensorsFile(path) if path.suffix == ".safetensors" else PickleFile(path)
