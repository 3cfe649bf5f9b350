"""A GGUF file, or the parts of a split one that lie beside each other.

A split model is `NAME-00001-of-00003.gguf` and so on.  Every part has a header of its own; the
first holds the metadata, and a tensor lies whole in one of them.
"""

import re
from functools import cached_property
from pathlib import Path

from wideneck.models.gguf_header import GgufHeader, StoredTensor

PART = re.compile(r"(?P<name>.*)-(?P<number>\d{5})-of-(?P<count>\d{5})\.gguf", re.ASCII | re.DOTALL)
MOST_PARTS = 1024
"""Parts whose names are tried; five digits would allow a hundred times as many."""


class GgufParts:
    """The tensors of a GGUF model, as far as its parts are there.

    Args:
        path: a file, whole or one of the parts.

    Raises:
        WideneckError: one of the headers is damaged; see `GgufHeader`.
    """

    def __init__(self, path: Path):
        named = GgufHeader(path)
        self.missing: list[str] = []
        """The names of the parts that are not there."""
        self._parts = {path.name: named}
        count = named.value("split.count")
        self.is_split = type(count) is int and count > 1
        """Whether the model has more parts than this file."""
        if not self.is_split:
            return
        match = PART.fullmatch(path.name)
        if match is None:
            self.missing = [f"its other {count - 1} parts, under the names that they had"]
            return
        for name in part_names(match):
            beside = path.with_name(name)
            if name == path.name:
                continue
            if beside.is_file():
                self._parts[name] = GgufHeader(beside)
            else:
                self.missing.append(name)

    @cached_property
    def first(self) -> GgufHeader:
        """The part with the metadata, or the one that there is in its place."""
        return min(self._parts.items())[1]

    def names(self) -> list[str]:
        """The names of all tensors that are there."""
        return [name for part in self._parts.values() for name in part.tensors]

    def find(self, name: str) -> tuple[GgufHeader, StoredTensor] | None:
        """A tensor and the file that it lies in."""
        for part in self._parts.values():
            if name in part.tensors:
                return part, part.tensors[name]
        return None


def part_names(match: re.Match[str]) -> list[str]:
    """The names of all parts of the model that a part's name tells of."""
    count = min(int(match["count"]), MOST_PARTS)
    return [f"{match['name']}-{i:05d}-of-{match['count']}.gguf" for i in range(1, count + 1)]
