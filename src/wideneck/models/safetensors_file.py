"""The .safetensors format: a header that is checked in full, then numbers by byte range.

The library's own reader opens a header that names a tensor twice, and takes a million names in
seven seconds; this one takes two, and reads files here and on the hub by the same checks.  The
format: 8 bytes of the header's length, a JSON object of name -> type, shape and byte range, then
the bytes, where every byte belongs to exactly one tensor.
"""

import json
import math
import struct
from abc import abstractmethod
from pathlib import Path
from typing import Annotated, Any

import msgspec
import torch
from torch import Tensor

from wideneck.files.boundary import reading
from wideneck.files.json_object import LARGEST_WHOLE
from wideneck.models.checks import STORED
from wideneck.models.tensor_file import MappedFile, TensorFile

LARGEST_HEADER = 100_000_000
"""Bytes, as the format itself allows."""
MOST_DIMENSIONS = 64
"""As torch allows."""
BROKEN = "it is damaged or not a safetensors file, so download it again"

Size = Annotated[int, msgspec.Meta(ge=0, le=LARGEST_WHOLE)]


class Stored(msgspec.Struct, gc=False, frozen=True):
    """One tensor of the header."""

    dtype: str
    shape: tuple[Size, ...]
    data_offsets: tuple[Size, Size]
    """First byte and end, counted from the end of the header."""


def header_length(first: bytes, size: int) -> int:
    """What the first 8 bytes of a file of `size` bytes say.  To be called inside `reading`."""
    if len(first) < 8:
        raise ValueError(f"it has {size} bytes")
    if first.isascii() and first.decode().isprintable():  # no header is as long as a text says
        raise ValueError(f"it begins with the text {first.decode()!r}")
    (length,) = struct.unpack("<Q", first)
    if not 2 <= length <= min(LARGEST_HEADER, size - 8):
        raise ValueError(f"it says that its header has {length} bytes, the file has {size}")
    return length


def parse_header(content: bytes, size: int) -> dict[str, Stored]:
    """The tensors in the bytes of a header.  To be called inside `reading`.

    Args:
        content: the header.
        size: bytes of its file.

    Raises:
        ValueError: it is no such JSON, or the tensors overlap, leave a hole, do not have the
            size of their shapes, or end before or after the file.
    """
    entries = msgspec.json.decode(content, type=dict[str, msgspec.Raw])
    entries.pop("__metadata__", None)
    decode = msgspec.json.Decoder(Stored).decode
    tensors = {name: decode(entry) for name, entry in entries.items()}
    # A name that comes twice is one entry here.  The bytes tell at once that there is none.
    if b"\\" in content or content.count(b'"data_offsets"') != len(tensors):
        json.loads(content, object_pairs_hook=_refuse_twice)
    _check_places(tensors, size - 8 - len(content))
    return tensors


def _check_places(tensors: dict[str, Stored], length: int) -> None:
    at = 0
    for name, stored in sorted(tensors.items(), key=lambda item: item[1].data_offsets):
        begin, end = stored.data_offsets
        if begin < at:
            raise ValueError(f"{name} shares bytes with another tensor")
        if begin > at or end < begin:
            raise ValueError(f"{name} is said to be at bytes {begin} to {end}, expected {at}")
        if len(stored.shape) > MOST_DIMENSIONS:
            raise ValueError(f"{name} has {len(stored.shape)} dimensions")
        dtype = STORED.get(stored.dtype)
        if dtype is not None and math.prod(stored.shape) * dtype.itemsize != end - begin:
            raise ValueError(
                f"{name} has {end - begin} bytes, which do not fit its shape {list(stored.shape)}"
            )
        at = end
    if at != length:
        raise ValueError(f"its tensors have {at} bytes, and {length} are stored")


def _refuse_twice(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"it names {twice} twice")
    return found


class Safetensors(TensorFile):
    """A .safetensors file, wherever its bytes are."""

    _start: int
    """The first byte after the header."""

    @abstractmethod
    def _bytes(self, begin: int, end: int) -> Tensor:
        """Bytes begin..end of the file, uint8."""

    def _parse(self, header: bytes, size: int) -> None:
        self._stored = parse_header(header, size)
        self._start = 8 + len(header)

    def _rows(self, name: str, start: int, stop: int) -> Tensor:
        stored = self._stored[name]
        dtype, shape = STORED[stored.dtype], stored.shape or (1,)
        begin, end = (self._start + place for place in stored.data_offsets)
        row = (end - begin) // max(1, shape[0])
        data = self._bytes(begin + start * row, begin + stop * row)
        if data.data_ptr() % dtype.itemsize:  # a header without padding
            data = data.clone()
        return data.view(dtype).reshape(stop - start, *shape[1:])


class SafetensorsFile(Safetensors, MappedFile):
    """A .safetensors file on this machine, mapped."""

    def __init__(self, path: Path):
        super().__init__(path)
        with reading(path, "its header", BROKEN), path.open("rb") as file:
            self._parse(file.read(header_length(file.read(8), self.size)), self.size)
        self._mapped: Tensor | None = None

    def _bytes(self, begin: int, end: int) -> Tensor:
        self.refuse_changed()
        if self._mapped is None:
            self._mapped = torch.from_file(
                str(self.path), shared=False, size=self.size, dtype=torch.uint8
            )
        return self._mapped[begin:end]
