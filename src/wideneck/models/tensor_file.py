"""Files of named tensors, opened so that one tensor can be read without the others.

Four readers, one interface: .safetensors (mapped), .bin (mapped, weights only: a pickle is a
program, and no stranger's program runs here), a set of shards, and .safetensors on the hub
(hub_folder.py).  Opening costs the header; `rows` costs the rows.
"""

import pickle
import warnings
from abc import ABC, abstractmethod
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from wideneck.errors import WideneckError
from wideneck.files.boundary import reason

SAFETENSORS_DTYPES = {
    "F64": torch.float64,
    "F32": torch.float32,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
}
"""What a head can be stored as.  Everything else is a quantized or packed layer, whose numbers
mean nothing without their scales."""


class TensorFile(ABC):
    """Named tensors of one checkpoint."""

    @abstractmethod
    def names(self) -> list[str]:
        """Every tensor's name."""

    @abstractmethod
    def shape(self, name: str) -> tuple[int, ...]:
        """The tensor's shape, from the header."""

    @abstractmethod
    def dtype(self, name: str) -> str:
        """The storage type: torch's name for one of the four float types, else the file's own."""

    @abstractmethod
    def rows(self, name: str, start: int, stop: int) -> Tensor:
        """Rows start..stop of a tensor, in its storage type, perhaps sharing the file's memory."""

    def read(self, name: str) -> Tensor:
        """The whole tensor."""
        return self.rows(name, 0, self.shape(name)[0])


class SafetensorsFile(TensorFile):
    """A .safetensors file on this machine, mapped."""

    def __init__(self, path: Path):
        try:
            self._file: Any = safe_open(path, framework="pt")
        except (SafetensorError, OSError) as error:
            raise WideneckError(
                f"{path.name} is damaged or not a safetensors file ({error}): download it again."
            ) from error

    def names(self) -> list[str]:
        """Every tensor's name."""
        return list(self._file.keys())

    def shape(self, name: str) -> tuple[int, ...]:
        """The tensor's shape, from the header."""
        return tuple(self._file.get_slice(name).get_shape())

    def dtype(self, name: str) -> str:
        """The storage type."""
        return dtype_name(self._file.get_slice(name).get_dtype())

    def rows(self, name: str, start: int, stop: int) -> Tensor:
        """Rows start..stop."""
        return self._file.get_slice(name)[start:stop]

    def read(self, name: str) -> Tensor:
        """The whole tensor, as a view of the mapped file: no copy is made."""
        return self._file.get_tensor(name)


class PickleFile(TensorFile):
    """A .bin file written by `torch.save`, unpickled with weights only."""

    def __init__(self, path: Path):
        self._tensors = _unpickled(path)

    def names(self) -> list[str]:
        """Every tensor's name."""
        return list(self._tensors)

    def shape(self, name: str) -> tuple[int, ...]:
        """The tensor's shape."""
        return tuple(self._tensors[name].shape)

    def dtype(self, name: str) -> str:
        """The storage type."""
        return str(self._tensors[name].dtype).removeprefix("torch.")

    def rows(self, name: str, start: int, stop: int) -> Tensor:
        """Rows start..stop."""
        return self._tensors[name][start:stop]


class Shards(TensorFile):
    """A checkpoint in several files; each is opened when the first of its tensors is asked for."""

    def __init__(self, weight_map: dict[str, str], tensors: Callable[[str], TensorFile]):
        self._weight_map = weight_map
        self._tensors = tensors
        self._opened: dict[str, TensorFile] = {}

    def names(self) -> list[str]:
        """Every tensor's name, from the index alone."""
        return list(self._weight_map)

    def shape(self, name: str) -> tuple[int, ...]:
        """The tensor's shape."""
        return self._shard(name).shape(name)

    def dtype(self, name: str) -> str:
        """The storage type."""
        return self._shard(name).dtype(name)

    def rows(self, name: str, start: int, stop: int) -> Tensor:
        """Rows start..stop."""
        return self._shard(name).rows(name, start, stop)

    def read(self, name: str) -> Tensor:
        """The whole tensor."""
        return self._shard(name).read(name)

    def _shard(self, name: str) -> TensorFile:
        file = self._weight_map[name]
        if file not in self._opened:
            self._opened[file] = self._tensors(file)
        if name not in self._opened[file].names():
            raise WideneckError(
                f"The index of shards says that {name} is in {file}, but it is not: the files do "
                "not belong together; download them again."
            )
        return self._opened[file]


def dtype_name(stored: str) -> str:
    """Torch's name for a safetensors type, or the type itself where it is no plain float."""
    dtype = SAFETENSORS_DTYPES.get(stored)
    return stored if dtype is None else str(dtype).removeprefix("torch.")


def _unpickled(path: Path) -> dict[str, Tensor]:
    try:
        loaded = _torch_load(path)
    except pickle.UnpicklingError as error:
        # torch says the same of a pickle that names code and of a file that is no pickle.
        raise WideneckError(
            f"{path.name} is not a plain file of tensors: loading it would run code stored in it, "
            "or it is damaged, so it was not loaded; ask for a .safetensors file."
        ) from error
    # torch checks little of what it reads: a damaged file raises IndexError, AssertionError and
    # whatever else the byte in question leads to.
    except Exception as error:
        raise WideneckError(
            f"{path.name} is damaged or was not written by torch.save ({reason(error)}): "
            "download it again."
        ) from error
    for wrapper in ("state_dict", "model_state_dict", "model"):  # as training loops save them
        if isinstance(loaded, dict) and isinstance(loaded.get(wrapper), dict):
            loaded = loaded[wrapper]
    if not isinstance(loaded, dict):
        raise WideneckError(
            f"{path.name} should hold a state dict of tensors, it holds a {type(loaded).__name__}."
        )
    return {str(name): value for name, value in loaded.items() if isinstance(value, Tensor)}


def _torch_load(path: Path) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of pickle protocols: the file loads or it does not
        try:
            return torch.load(path, map_location="cpu", weights_only=True, mmap=True)
        except RuntimeError as error:
            if "mmap can only be used" not in str(error):
                raise
            # Files from before torch 1.6 are no zip archives and cannot be mapped.
            return torch.load(path, map_location="cpu", weights_only=True)
