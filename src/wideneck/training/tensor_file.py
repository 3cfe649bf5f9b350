"""A safetensors file of ours: whole or not there, and each tensor with its sum.

The header's metadata hold one string: a sum, and the JSON that it is of, with what was told about
the tensors and the sum of each one, in which its dtype and shape count too.  The rest of the header
is safe without a sum: a name that changed has none, another dtype or shape gives another one, and
safetensors refuses a table that does not cover the file to its last byte.

Tensors are mapped, so the pages that the sum has read are those that are copied next: a cold disk
is read once.  Files of earlier versions have no sums; they are read, and that is said.
"""

import json
import os
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TypeVar, final

import msgspec
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from wideneck.audits.states import Progress
from wideneck.errors import WideneckError
from wideneck.files.boundary import reading
from wideneck.files.json_object import parse_object
from wideneck.files.records import record
from wideneck.files.regular import size_of_regular
from wideneck.files.sums import Watch, sum_of
from wideneck.files.writing import replacing
from wideneck.training.folder import CHECKPOINT, MODEL

SUMMED, PLAIN = "wideneck, summed", "wideneck"
"""The key of the metadata; the second one is that of earlier versions, which wrote no sums."""

Header = TypeVar("Header")


class _Summed(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    about: dict[str, Any]
    sums: dict[str, str]


def write_tensors(path: Path, tensors: dict[str, Tensor], about: dict[str, Any]) -> None:
    """A safetensors file with a JSON header.

    Cost: the sums take one pass over the memory of the tensors (`python -m bench train resume`).

    The tensors are contiguous and on the CPU; `about` is as JSON holds it, and `Stored.about` gives
    it back.  Where the disk is full, what stood at `path` before is still there.
    """
    sums = {name: tensor_sum(tensor) for name, tensor in tensors.items()}
    header = json.dumps({"about": about, "sums": sums}, allow_nan=False)
    try:
        with replacing(path) as temporary:
            try:
                save_file(tensors, temporary, {SUMMED: f"{sum_of(header.encode())} {header}"})
            except SafetensorError as error:
                raise OSError(str(error)) from error
    except WideneckError as error:
        raise WideneckError(
            f"{error} What was there before is kept; make room and start the same command again."
        ) from error


@final
class Stored:
    """What `write_tensors` wrote; the header is checked at once, a tensor when it is read.

    `progress` is told of the bytes, if reading takes longer than a second.
    """

    def __init__(self, path: Path, progress: Progress | None = None):
        self.path, self.mend = path, _mend(path)
        if not os.path.exists(path):  # Path.exists may raise
            raise WideneckError(f"There is no file {path}.")
        size = size_of_regular(path, "a file of tensors")
        self._watch = Watch(progress, f"reading {path.name}", size)
        with reading(path, "its header", self.mend):
            self._file = safe_open(path, framework="pt")
            self._names = list(self._file.keys())
            metadata = self._file.metadata() or {}
        self._sums: dict[str, str] | None = None
        if metadata.keys() == {SUMMED}:
            self.about = self._checked(metadata[SUMMED])
        elif metadata.keys() == {PLAIN}:
            self.about = parse_object(metadata[PLAIN].encode(), str(path), self.mend)
        else:
            raise WideneckError(
                f"{path} was not written by wideneck train: its header says nothing of a run."
            )

    def header(self, kind: type[Header]) -> Header:
        """What was told about the tensors, as a record."""
        return record(kind, self.about, f"The header of {self.path}", self.mend)

    def names(self, prefix: str = "") -> list[str]:
        """The names of the tensors below a prefix, without it."""
        return [name.removeprefix(prefix) for name in self._names if name.startswith(prefix)]

    def shape(self, name: str) -> tuple[int, ...]:
        """The shape of a tensor, which is not read."""
        with reading(self.path, f"the tensor {name}", self.mend):
            return tuple(self._file.get_slice(name).get_shape())

    def tensors(self, prefix: str = "") -> Iterator[tuple[str, Tensor]]:
        """Name, without the prefix, and tensor of each one below it; mapped, not copied.

        The pages that were read stay in memory until the walk is done, and go with its own map.
        """
        with reading(self.path, "its header", self.mend):
            mapped = safe_open(self.path, framework="pt")
        for name in self.names(prefix):
            yield name, self._tensor(mapped, prefix + name)

    def say_if_without_sums(self) -> None:
        """One line, where the file cannot be checked."""
        if self._sums is None:
            say_without_sums(self.path)

    def _checked(self, header: str) -> dict[str, Any]:
        found, _, content = header.partition(" ")
        if found != sum_of(content.encode()):
            raise self._damaged("its header is")
        summed = record(
            _Summed,
            parse_object(content.encode(), str(self.path), self.mend),
            str(self.path),
            self.mend,
        )
        changed = summed.sums.keys() ^ set(self._names)
        if changed:
            raise self._damaged(f"the name of the tensor {min(changed)} is")
        self._sums = summed.sums
        return summed.about

    def _tensor(self, mapped: safe_open, name: str) -> Tensor:
        with reading(self.path, f"the tensor {name}", self.mend):
            tensor = mapped.get_tensor(name)
        if self._sums is not None and tensor_sum(tensor, self._watch) != self._sums[name]:
            raise self._damaged(f"the tensor {name} is")
        return tensor

    def _damaged(self, what: str) -> WideneckError:
        return WideneckError(
            f"{self.path} is damaged: {what} not what was written, as its sum says: {self.mend}."
        )


def check(path: Path, progress: Progress | None = None) -> None:
    """Read a file to its end."""
    for _ in Stored(path, progress).tensors():
        pass


def say_without_sums(path: Path) -> None:
    """A warning, which the command line prints as one line."""
    warnings.warn(
        f"wideneck: {path} is of an earlier version of wideneck and carries no sums: it is read "
        "unchecked.",
        stacklevel=2,
    )


def tensor_sum(tensor: Tensor, watch: Watch | None = None) -> str:
    """The sum of a contiguous tensor on the CPU, its dtype and its shape."""
    data = tensor.reshape(-1).view(torch.uint8).numpy().data
    return sum_of(data, f"{tensor.dtype} {tuple(tensor.shape)}", watch)


def _mend(path: Path) -> str:
    if path.name != CHECKPOINT:
        return "give back a copy of it, or remove its folder and train again"
    best = f" (the best weights so far are in {MODEL})" if path.with_name(MODEL).exists() else ""
    return f"remove it, and the same command starts over{best}"
