"""Checkpoints in several files: with an index of them, or numbered parts without one.

Parts are `model-00001-of-00003.safetensors`, and so on.
"""

import re
from collections.abc import Iterable
from itertools import islice

from wideneck.errors import WideneckError
from wideneck.models.folder import Folder
from wideneck.models.tensor_file import Shards, TensorFile

PART = re.compile(r"(.*)-([0-9]{1,6})-of-([0-9]{1,6})(\.[a-z]+)")


def parts_beside(name: str, names: Iterable[str]) -> list[str]:
    """The parts of the checkpoint that a part belongs to, sorted; none where it is no part."""
    found = PART.fullmatch(name)
    if found is None:
        return []
    others = [other for other in map(PART.fullmatch, names) if other is not None]
    return sorted(other[0] for other in others if other.group(1, 3, 4) == found.group(1, 3, 4))


def missing_parts(name: str, names: Iterable[str], most: int = 6) -> list[str]:
    """The first `most` parts that are not there, by the count in the name of one of them."""
    found = PART.fullmatch(name)
    if found is None:
        return []
    stem, number, count, ending = found.groups()
    numbers = {int(PART.fullmatch(part)[2]) for part in parts_beside(name, names)}  # pyrefly: ignore
    missing = (i for i in range(1, int(count) + 1) if i not in numbers)
    width = len(number)
    return [f"{stem}-{i:0{width}}-of-{count}{ending}" for i in islice(missing, most)]


def join_parts(folder: Folder, name: str) -> TensorFile:
    """All parts that are there, as one file.  Cost: the header of each.

    Raises:
        WideneckError: two of them hold a tensor of the same name.
    """
    weight_map: dict[str, str] = {}
    opened: dict[str, TensorFile] = {}
    for part in parts_beside(name, folder.names()):
        opened[part] = folder.shard(part)
        for tensor in opened[part].names():
            other = weight_map.setdefault(tensor, part)
            if other != part:
                raise WideneckError(
                    f"{other} and {part} of {folder} both hold {tensor}: they are no parts of one "
                    "checkpoint, so name a folder that holds one alone."
                )
    return Shards(f"{name} of {folder}", weight_map, opened.__getitem__)


def open_weights(folder: Folder, file: str) -> TensorFile:
    """What a `Source` starts from: an index of shards, one of several parts, or a whole file."""
    if file.endswith(".index.json"):
        return Shards(f"{file} of {folder}", folder.weight_map(file), folder.shard)
    if PART.fullmatch(file):
        return join_parts(folder, file)
    return folder.tensors(file)
