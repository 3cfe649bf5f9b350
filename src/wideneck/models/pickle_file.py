"""Files of `torch.save`, .bin and .pt: mapped, and unpickled with weights only.

A pickle is a program, and no stranger's program runs here.  Torch itself checks little of what the
file says: it reads a compressed record as if it were the numbers, and a tensor that is longer than
its record from the bytes behind it.  So the archive is measured first, and what was loaded is held
against it.
"""

import pickle
import struct
import warnings
import zipfile
from pathlib import Path, PurePosixPath
from typing import Any

import torch
from torch import Tensor

from wideneck.errors import WideneckError
from wideneck.files.boundary import reading
from wideneck.models.tensor_file import MappedFile

ZIP = b"PK\3\4"
"""How a file of torch 1.6 or later begins."""
LARGEST_DIRECTORY = 16 * 2**20
"""Bytes of the archive's list of records."""
MOST_RECORDS = 2**16
"""Torch takes 10 seconds for that many tensors; checkpoints with more of them come in shards."""
LARGEST_PICKLE = 16 * 2**20
"""Bytes of the pickle that names the tensors; a tensor has about 150."""
WRAPPERS = ("state_dict", "model_state_dict", "model")
"""Where training loops put the state dict."""
BROKEN = "it is damaged or was not written by torch.save, so download it again"


class PickleFile(MappedFile):
    """A .bin or .pt file written by `torch.save`."""

    def __init__(self, path: Path):
        super().__init__(path)
        self._stored = _unpickled(path, self.size)

    def _rows(self, name: str, start: int, stop: int) -> Tensor:
        self.refuse_changed()
        self.check(name)
        return torch.atleast_1d(self._stored[name].detach())[start:stop]

    def check(self, name: str) -> None:
        with reading(self.title, name, BROKEN):
            _refuse_repeated(f"{name} of {self.title}", self._stored[name])


def _unpickled(path: Path, size: int) -> dict[str, Tensor]:
    with reading(path, "its tensors", BROKEN):
        with path.open("rb") as file:
            start = file.read(4)
        try:
            loaded = _loaded(path, size, zipped=start == ZIP)
        except pickle.UnpicklingError as error:
            # torch says the same of a pickle that names code and of a file that is no pickle.
            if not start.startswith((ZIP, pickle.PROTO)):
                raise ValueError("it is neither an archive nor a pickle") from error
            raise WideneckError(
                f"{path} is not a plain file of tensors: loading it would run code stored in it, "
                "or it is damaged, so it was not loaded; ask for a .safetensors file."
            ) from error
    for wrapper in WRAPPERS:
        if isinstance(loaded, dict) and isinstance(loaded.get(wrapper), dict):
            loaded = loaded[wrapper]
    if not isinstance(loaded, dict):
        raise WideneckError(
            f"{path} should hold a state dict of tensors, it holds a {type(loaded).__name__}."
        )
    return {
        name: value
        for name, value in loaded.items()
        if isinstance(name, str) and isinstance(value, Tensor)
    }


def _loaded(path: Path, size: int, *, zipped: bool) -> Any:
    """What `torch.load` gives, after its storages were held against the file's records."""
    records = _records(path) if zipped else []
    storages: list[tuple[int, int]] = []
    left = size

    def place(storage: Any, location: str) -> Any:
        """Called by torch for every storage, before a tensor is made of it."""
        nonlocal left
        storages.append((storage.data_ptr(), storage.nbytes()))
        left -= storage.nbytes()
        if left < 0:
            raise ValueError(f"its tensors are larger than its {size} bytes")
        return storage

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of pickle protocols: the file loads or it does not
        # Files from before torch 1.6 are no archives and cannot be mapped.
        loaded = torch.load(path, map_location=place, weights_only=True, mmap=zipped)
    if zipped:
        _compare(sorted(storage for storage in storages if storage[1]), records)
    return loaded


def _compare(storages: list[tuple[int, int]], records: list[int]) -> None:
    """Storages lie in memory as their records lie in the file: one each, of its size."""
    if [length for _, length in storages] != records:
        raise ValueError("its tensors do not have the sizes of the records that hold them")
    end = 0
    for begin, length in storages:
        if begin < end:
            raise ValueError("its tensors share bytes")
        end = begin + length


def _records(path: Path) -> list[int]:
    """Bytes of each record that holds numbers, in the order of the file; bounded and checked."""
    if _directory_size(path) > LARGEST_DIRECTORY:
        raise ValueError(f"its list of records is larger than {LARGEST_DIRECTORY} bytes")
    with zipfile.ZipFile(path) as archive:
        infos = sorted(archive.infolist(), key=lambda info: info.header_offset)
    if len(infos) > MOST_RECORDS:
        raise ValueError(f"it has {len(infos)} records, at most {MOST_RECORDS} are read")
    sizes: list[int] = []
    end = 0
    for info in infos:
        if info.compress_type != zipfile.ZIP_STORED or info.file_size != info.compress_size:
            raise ValueError("its records are compressed, which torch.save never does")
        if info.header_offset < end:
            raise ValueError(f"its record {info.filename} shares bytes with another")
        end = info.header_offset + info.file_size
        name = PurePosixPath(info.filename)
        if name.name == "data.pkl" and info.file_size > LARGEST_PICKLE:
            raise ValueError(f"its pickle has {info.file_size} bytes, at most {LARGEST_PICKLE}")
        # ROOT/data/KEY, where ROOT is the name that the file was saved under, perhaps "data".
        if len(name.parts) > 2 and name.parts[1] == "data" and info.file_size:
            sizes.append(info.file_size)
    return sizes


def _directory_size(path: Path) -> int:
    """What the end of an archive says of its list of records, which zipfile reads as a whole."""
    with path.open("rb") as file:
        file.seek(0, 2)
        file.seek(max(0, file.tell() - 98))
        tail = file.read()
    # The zip format: the end is 22 bytes without a comment, and torch writes none; before it stand
    # the 20 bytes and 56 bytes of the 64-bit form.
    if tail[-22:-18] != b"PK\5\6":
        raise ValueError("its list of records is not at its end")
    if len(tail) == 98 and tail[-42:-38] == b"PK\6\7":
        return struct.unpack("<Q", tail[40:48])[0]
    return struct.unpack("<L", tail[-10:-6])[0]


def _refuse_repeated(title: str, tensor: Tensor) -> None:
    """A view whose numbers are stored once and stand in several places, such as an `expand`.

    Its shape may be as large as it likes, whatever the file's size.
    """
    if tensor.layout != torch.strided or tensor.device.type != "cpu":
        raise WideneckError(f"{title} should be plain numbers, it is a {tensor.layout} tensor.")
    extent = 1
    sides = zip(tensor.stride(), tensor.shape, strict=True)
    for stride, length in sorted(side for side in sides if side[1] > 1):
        if stride < extent:
            stored = tensor.untyped_storage().nbytes() // tensor.element_size()
            raise WideneckError(
                f"{title} has shape {tuple(tensor.shape)}, and the file stores only {stored} "
                "numbers for it, some of them used again and again: it is no trained matrix."
            )
        extent += stride * (length - 1)
