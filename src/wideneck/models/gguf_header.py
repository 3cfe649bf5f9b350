"""The header of a GGUF file: its metadata and where its tensors lie, all checked against its size.

    "GGUF", version (u32), number of tensors (u64), number of keys (u64),
    the keys:     name, type (u32), value
    the tensors:  name, number of dimensions (u32), dimensions (u64 each), type (u32), offset (u64)
    up to the next multiple of `general.alignment`, then the tensors' bytes

A string is its length (u64) and its bytes; an array the type of its elements (u32), their number
(u64) and the elements.  Every number in the file is a stranger's, so each is compared with the
bytes that are left before anything is done with it, and no count makes a loop longer than
`MOST_ELEMENTS`.  The reader of the gguf package does none of this, and takes twenty times as long.

Cost: one pass over the header; a tenth of a second for 50,000 tokens and as many merges.
"""

import math
import mmap
import struct
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from wideneck.errors import WideneckError
from wideneck.files.boundary import reading
from wideneck.files.regular import size_of_regular

MAGIC = b"GGUF"
VERSIONS = (2, 3)
MOST_ELEMENTS = 2**23
"""The limit for all arrays of a file together.  Gemma's 262,144 tokens, with merges, scores and
types, are 1.5 million."""
MOST_TENSORS = 2**21
"""A model of the largest kind has some 60,000."""
MOST_KEYS = 2**16
MOST_DIMENSIONS = 4
"""As the format itself allows."""
_STRING, _ARRAY, _BOOL = 8, 9, 7
_SCALARS = dict(enumerate(("<B", "<b", "<H", "<h", "<I", "<i", "<f", "<?"))) | {
    10: "<Q",
    11: "<q",
    12: "<d",
}
TOKENS = "tokenizer.ggml.tokens"
MEND = "download it again"


@dataclass(frozen=True, kw_only=True)
class StoredTensor:
    """One tensor of a GGUF file."""

    file: "GgufHeader"
    name: str
    shape: tuple[int, ...]
    """As torch writes it: rows first."""
    kind: str
    """The name of its type: F32, Q8_0."""
    start: int
    """Its first byte in the file."""
    num_bytes: int

    @property
    def data(self) -> np.ndarray:
        """Its bytes, mapped and read-only."""
        whole = np.frombuffer(self.file.mapped, dtype=np.uint8)
        return whole[self.start : self.start + self.num_bytes]


class GgufHeader:
    """What a GGUF file says before its tensors begin.

    Args:
        path: the file, of version 2 or 3 and little-endian.

    Raises:
        WideneckError: it is cut short or damaged, says that something is longer than the file, or
            names tensors that overlap, lie outside it, or belong to layers that it does not have.
    """

    def __init__(self, path: Path):
        self.path = path
        self._size = size_of_regular(path, "a GGUF file")
        with reading(path.name, "its GGUF header", MEND):
            if self._size < 24:
                raise self._damaged(f"it has {self._size} bytes")
            with path.open("rb") as file:
                self.mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
            self._at = 0
            self._elements = 0
            self.metadata: dict[str, Any] = {}
            """The number, string or array of numbers under a key."""
            self._arrays: dict[str, list[tuple[int, int]]] = {}
            self.tensors: dict[str, StoredTensor] = {}
            self._read()

    @cached_property
    def tokens(self) -> list[str | None] | None:
        """The tokenizer's strings by id, or None where the file has no tokenizer."""
        spans = self._arrays.get(TOKENS)
        if spans is None:
            return None
        return [self._text(start, stop, TOKENS) for start, stop in spans]

    @property
    def num_tokens(self) -> int | None:
        """How many tokens the tokenizer has."""
        spans = self._arrays.get(TOKENS)
        return None if spans is None else len(spans)

    def _read(self) -> None:
        if self.mapped[:4] != MAGIC:
            raise self._damaged("it does not begin with GGUF")
        self._at = 4
        version = self._number("<I")
        if version & 0xFFFF == 0:
            raise WideneckError(
                f"{self.path.name} is a GGUF file of a big-endian machine, whose numbers wideneck "
                "does not read: convert it with gguf_convert_endian.py of llama.cpp."
            )
        if version not in VERSIONS:
            raise self._damaged(f"it is of version {version}, and 2 and 3 are known")
        num_tensors = self._count(24, MOST_TENSORS, "tensors")
        num_keys = self._count(13, MOST_KEYS, "keys")
        for _ in range(num_keys):
            key = self._text(*self._string(), "a key")
            if key in self.metadata or key in self._arrays:
                raise self._damaged(f"it holds the key {key!r} twice")
            self._read_value(key, self._number("<I"))
        if TOKENS in self.metadata:
            raise self._damaged(f"{TOKENS} holds no strings")
        found = [self._tensor() for _ in range(num_tensors)]
        self._place(found)
        self._check_layers()

    def _read_value(self, key: str, kind: int) -> None:
        if kind == _STRING:
            self.metadata[key] = self._text(*self._string(), key)
        elif kind in _SCALARS:
            self.metadata[key] = self._number(_SCALARS[kind])
        elif kind == _ARRAY:
            self._read_array(key, self._number("<I"))
        else:
            raise self._damaged(f"{key!r} has the type {kind}, which there is not")

    def _read_array(self, key: str, kind: int) -> None:
        if kind != _STRING and kind not in _SCALARS:
            raise self._damaged(f"{key!r} is an array of the type {kind}, which there is not")
        size = 8 if kind == _STRING else struct.calcsize(_SCALARS[kind])
        count = self._count(size, MOST_ELEMENTS, f"elements of {key!r}")
        self._elements += count
        if self._elements > MOST_ELEMENTS:
            raise self._damaged(f"its arrays have more than {MOST_ELEMENTS:,} elements")
        if kind == _STRING:
            self._arrays[key] = self._strings(count)
            return
        values = np.frombuffer(self.mapped, _SCALARS[kind], count, self._at)
        self.metadata[key] = values.tolist() if count <= 4096 else values
        self._at += count * size

    def _strings(self, count: int) -> list[tuple[int, int]]:
        """Start and stop of each; a loop of its own, as this is where the time goes."""
        spans, at, end = [], self._at, self._size
        length_at = struct.Struct("<Q").unpack_from
        for _ in range(count):
            if at + 8 > end:
                raise self._damaged("a string begins past its end")
            start = at + 8
            at = start + length_at(self.mapped, at)[0]
            if at > end:
                raise self._damaged("a string ends past its end")
            spans.append((start, at))
        self._at = at
        return spans

    def _string(self) -> tuple[int, int]:
        return self._strings(1)[0]

    def _text(self, start: int, stop: int, what: str) -> str:
        try:
            return str(self.mapped[start:stop], "utf-8")
        except UnicodeDecodeError as error:
            raise self._damaged(f"{what} is not valid UTF-8") from error

    def _number(self, form: str) -> Any:
        size = struct.calcsize(form)
        if self._at + size > self._size:
            raise self._damaged("its header goes on past its end")
        (number,) = struct.unpack_from(form, self.mapped, self._at)
        self._at += size
        return number

    def _count(self, least: int, most: int, what: str) -> int:
        """A number of things that take `least` bytes each, in what is left of the file."""
        count = self._number("<Q")
        if count > most or count * least > self._size - self._at:
            raise self._damaged(f"it says that it has {count:,} {what}")
        return count

    def _tensor(self) -> StoredTensor:
        import gguf

        name = self._text(*self._string(), "the name of a tensor")
        dimensions = self._number("<I")
        if dimensions > MOST_DIMENSIONS:
            raise self._damaged(f"{name!r} has {dimensions:,} dimensions")
        shape = tuple(reversed([self._number("<Q") for _ in range(dimensions)]))
        number, start = self._number("<I"), self._number("<Q")
        try:
            kind = gguf.GGMLQuantizationType(number)
        except ValueError:
            raise self._damaged(f"{name!r} has the type {number}, which there is not") from None
        block, size = gguf.GGML_QUANT_SIZES[kind]
        if shape and shape[-1] % block:
            raise self._damaged(
                f"{name!r} has rows of {shape[-1]:,} numbers, and {kind.name} blocks of {block}"
            )
        num_bytes = math.prod(shape) // block * size
        return StoredTensor(
            file=self, name=name, shape=shape, kind=kind.name, start=start, num_bytes=num_bytes
        )

    def _place(self, found: list[StoredTensor]) -> None:
        """From offsets to places in the file, of which none may be used twice."""
        alignment = self.metadata.get("general.alignment", 32)
        if type(alignment) is not int or alignment < 1 or alignment & (alignment - 1):
            raise self._damaged(f"its alignment is {alignment!r}, no power of two")
        begin = -(-self._at // alignment) * alignment
        end = begin
        for tensor in sorted(found, key=lambda tensor: tensor.start):
            start, stop = begin + tensor.start, begin + tensor.start + tensor.num_bytes
            if stop > self._size:
                raise self._damaged(
                    f"{tensor.name!r} ends at byte {stop:,} of {self._size:,}, so it is cut short"
                )
            if tensor.start % alignment:
                raise self._damaged(f"{tensor.name!r} is not aligned")
            if start < end and tensor.num_bytes:
                raise self._damaged(f"{tensor.name!r} shares bytes with another tensor")
            if tensor.name in self.tensors:
                raise self._damaged(f"it holds {tensor.name!r} twice")
            end = max(end, stop)
            self.tensors[tensor.name] = replace(tensor, start=start)

    def _check_layers(self) -> None:
        """A layer that the metadata does not count would be left out without a word."""
        count = self.metadata.get(f"{self.metadata.get('general.architecture')}.block_count")
        if type(count) is not int:
            return
        for name in self.tensors:
            first, _, rest = name.partition(".")
            number = rest.partition(".")[0]
            if first == "blk" and number.isascii() and number.isdigit() and int(number) >= count:
                raise WideneckError(
                    f"{self.path.name} holds {name}, but says that it has {count} layers "
                    f"(block_count): its parts do not belong together; {MEND}."
                )

    def _damaged(self, found: str) -> WideneckError:
        return WideneckError(
            f"{self.path.name} is cut short, damaged or not a GGUF file ({found}): {MEND}."
        )
