"""Where the fields of a GGUF file stand."""

import struct
from dataclasses import dataclass

SCALARS = {0: "<B", 1: "<b", 2: "<H", 3: "<h", 4: "<I", 5: "<i", 6: "<f", 7: "<?"}
SCALARS |= {10: "<Q", 11: "<q", 12: "<d"}
TEXT, ARRAY = 8, 9


@dataclass(frozen=True)
class Field:
    """One number of the file, or the bytes of one text."""

    name: str
    """Such as "general.architecture:length"."""
    start: int
    form: str
    """The format by which `struct` reads it; "" for the bytes of a text."""
    size: int


def fields_of(data: bytes) -> list[Field]:
    """Every field up to the tensors' bytes, in their order."""
    reader = _Reader(data)
    for name, form in (("magic", "<I"), ("version", "<I"), ("tensors", "<Q"), ("keys", "<Q")):
        reader.number(name, form)
    num_tensors, num_keys = reader.values["tensors"], reader.values["keys"]
    for _ in range(num_keys):
        key = reader.text("key")
        kind = reader.number(f"{key}:type", "<I")
        reader.value(key, kind)
    for _ in range(num_tensors):
        name = reader.text("tensor")
        for axis in range(reader.number(f"{name}:dims", "<I")):
            reader.number(f"{name}:dim{axis}", "<Q")
        reader.number(f"{name}:type", "<I")
        reader.number(f"{name}:offset", "<Q")
    return reader.found


class _Reader:
    def __init__(self, data: bytes):
        self.data, self.at = data, 0
        self.found: list[Field] = []
        self.values: dict[str, int] = {}

    def number(self, name: str, form: str) -> int:
        size = struct.calcsize(form)
        (value,) = struct.unpack_from(form, self.data, self.at)
        self.found.append(Field(name, self.at, form, size))
        self.values[name] = value
        self.at += size
        return value

    def text(self, name: str) -> str:
        """The text itself; its fields carry it, or the name of what it belongs to."""
        size = struct.unpack_from("<Q", self.data, self.at)[0]
        said = self.data[self.at + 8 : self.at + 8 + size].decode()
        label = f"{said}:{name}" if name in ("key", "tensor") else name
        self.number(f"{label}:length", "<Q")
        self.found.append(Field(f"{label}:text", self.at, "", size))
        self.at += size
        return said

    def value(self, key: str, kind: int) -> None:
        if kind == TEXT:
            self.text(key)
        elif kind == ARRAY:
            inner = self.number(f"{key}:items", "<I")
            for place in range(self.number(f"{key}:count", "<Q")):
                self.value(f"{key}[{place}]", inner)
        else:
            self.number(key, SCALARS[kind])
