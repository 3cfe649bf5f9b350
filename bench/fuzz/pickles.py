""".bin and .pt: pickles with code, storages that do not fit, archives that are none."""

import io
import pickle
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from bench.fuzz.case import EITHER, MEASURED, REFUSED, Change, Format, Mutation, both, head
from bench.fuzz.configs import OF_A_MODEL, head_of
from bench.fuzz.edits import all_of, at, content, edited, instead, of_any_file
from bench.fuzz.tensors import HEAD

FILE = "model/pytorch_model.bin"


class _Opens:
    """A pickle that would open a file if it were let."""

    def __reduce__(self):
        return (open, ("canary", "w"))


class _Evaluates:
    def __reduce__(self):
        return (eval, ("open('canary', 'w')",))


def saved(how: Callable[[dict[str, Any]], Any], **options: Any) -> Change:
    """What the file holds, through a function, written by torch."""

    def change(path: Path) -> None:
        import torch

        old = torch.load(path, weights_only=True)
        new = how(old)
        path.unlink()
        torch.save(old if new is None else new, path, **options)

    return at(FILE, change)


def put(value: Callable[[Any], Any]) -> Change:
    """Another tensor in the place of the head."""
    return saved(lambda t: t.update({HEAD: value(t[HEAD])}))


def entries(pattern: str, how: Callable[[bytes], bytes | None]) -> Change:
    """The archive's files whose names hold this, through a function; None leaves one out."""

    def change(path: Path) -> None:
        with zipfile.ZipFile(path) as old:
            found = {name: old.read(name) for name in old.namelist()}
        path.unlink()
        with zipfile.ZipFile(path, "w") as new:
            for name, data in found.items():
                changed = how(data) if pattern in name else data
                if changed is not None:
                    new.writestr(name, changed)

    return at(FILE, change)


def rebuilt(size: tuple[int, ...], stride: tuple[int, ...], offset: int = 0) -> Change:
    """The head with another shape than its storage holds.

    What is edited is the last (96, 16) of the pickle, which is the head's, with its strides (16, 1)
    and its offset 0.
    """

    def how(old: bytes) -> bytes:
        shape, strides = b"K\x60K\x10\x86", b"K\x10K\x01\x86"
        at = old.rfind(shape)
        assert at >= 0
        start = old.rfind(b"QK\x00", 0, at)
        end = old.index(strides, at) + len(strides)
        new = b"Q" + _whole(offset) + _tuple(size) + old[at + len(shape) : end - len(strides)]
        return old[:start] + new + _tuple(stride) + old[end:]

    return entries("data.pkl", how)


def _whole(number: int) -> bytes:
    return pickle.dumps(number, 2)[2:-1]


def _tuple(numbers: tuple[int, ...]) -> bytes:
    return b"(" + b"".join(map(_whole, numbers)) + b"t"


def archive(data: bytes) -> Change:
    """A zip as torch makes it, around this pickle."""
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as file:
        file.writestr("archive/data.pkl", data)
        file.writestr("archive/version", b"3\n")
        file.writestr("archive/byteorder", b"little")
    return content(FILE, out.getvalue())


def _bomb(path: Path) -> None:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr("archive/data.pkl", bytes(200_000_000))


def _itself(_: dict[str, Any]) -> dict[str, Any]:
    value: dict[str, Any] = {}
    value["x"] = value
    return value


def _sliced(_: Any) -> Any:
    import torch

    return torch.randn(192, 32)[::2, ::2]


TABLE = (
    *both("opens", saved(lambda t: t | {"x": _Opens()}, pickle_protocol=2)),
    *both("evaluates", content(FILE, pickle.dumps({HEAD: _Evaluates()}))),
    *both("evaluates-in-zip", archive(pickle.dumps({HEAD: _Evaluates()}, 2))),
    *both("plain-pickle", content(FILE, pickle.dumps({HEAD: [1.0]}))),
    *both("plain-in-zip", archive(pickle.dumps({HEAD: [1.0]}, 2))),
    *both("legacy", saved(lambda t: None, _use_new_zipfile_serialization=False), MEASURED),
    *both("empty-zip", content(FILE, b"PK\x05\x06" + bytes(18))),
    *both("bomb", instead(FILE, _bomb)),
    *both("list", saved(lambda t: list(t.values()))),
    *both("none", saved(lambda t: {HEAD: None})),
    *both("empty", saved(lambda t: {})),
    *both("text", saved(lambda t: "x")),
    *both("tensor", saved(lambda t: t[HEAD])),
    *both("itself", saved(_itself)),
    *both("nested", saved(lambda t: {"model": t}), EITHER),
    *both("state-dict", saved(lambda t: {"state_dict": t, "epoch": 3}), EITHER),
    *both("numbers-as-keys", saved(lambda t: dict(enumerate(t.values())))),
    *both("a-number-among", saved(lambda t: t | {7: 7}), EITHER),
    *both("key-with-escape", saved(lambda t: t | {"\x1b[31m\nx": t[HEAD]}), EITHER),
    *both("sparse", put(lambda x: x.to_sparse()), EITHER),
    *both("complex", put(lambda x: x.cfloat())),
    *both("integers", put(lambda x: x.int())),
    *both("meta", put(lambda x: x.to("meta"))),
    *both("sliced", put(_sliced), EITHER),
    *both("expanded", put(lambda x: x[:1].expand(96, 16)), EITHER),
    *both("transposed", put(lambda x: x.T)),
    *both("scalar", put(lambda x: x[0, 0])),
    *both("nan", put(lambda x: x * float("nan")), EITHER),
    *both("no-head", saved(lambda t: t.pop(HEAD) is None or None)),
    *both("no-layer", saved(lambda t: t.pop("model.norm.weight") is None or None), EITHER),
    *both("trillion", rebuilt((10**12, 16), (0, 0))),
    *both("trillion-strided", rebuilt((10**12, 16), (16, 1))),
    *both("too-many-rows", rebuilt((97, 16), (16, 1))),
    *both("stride-0", rebuilt((96, 16), (0, 1)), EITHER),
    *both("stride-negative", rebuilt((96, 16), (-16, 1))),
    *both("stride-huge", rebuilt((96, 16), (2**61, 1))),
    *both("offset-past", rebuilt((96, 16), (16, 1), 10**9)),
    *both("offset-negative", rebuilt((96, 16), (16, 1), -1)),
    *both("size-negative", rebuilt((-96, -16), (16, 1))),
    *both("no-pickle", entries(".pkl", lambda old: None)),
    *both("no-storages", entries("/data/", lambda old: None)),
    *both("storages-short", entries("/data/", lambda old: old[:-8])),
    *both("storages-empty", entries("/data/", lambda old: b"")),
    *both("version-999", entries("version", lambda old: b"999\n"), EITHER),
    *both("big-endian", entries("byteorder", lambda old: b"big"), EITHER),
    *both("byteorder-x", entries("byteorder", lambda old: b"x"), EITHER),
    *both("deep", archive(b"\x80\x02" + b"(" * 100_000 + b"t" * 100_000 + b".")),
    *both("opcodes", archive(b"\x80\x02" + b"K\x00" * 100_000 + b".")),
    *both("long-binput", archive(b"\x80\x02}r\xff\xff\xff\x7f.")),
    *both("huge-string", archive(b"\x80\x02X" + struct.pack("<I", 2**32 - 1) + b"x.")),
    *both("huge-long", archive(b"\x80\x02\x8b" + struct.pack("<i", 2**31 - 1) + b"x.")),
    *both("huge-bytes8", archive(b"\x80\x04\x8e" + struct.pack("<Q", 2**62) + b"x.")),
    *both("cut", edited(FILE, lambda old: old[: len(old) // 2])),
    *both("cut-by-one", edited(FILE, lambda old: old[:-1])),
    *both("one-more", edited(FILE, lambda old: old + b"\0"), EITHER),
    *both("safetensors-inside", content(FILE, struct.pack("<Q", 2) + b"{}")),
    *of_any_file(FILE, "head"),
    *of_any_file(FILE, "evaluate"),
)


def _pt(name: str, change: Change, expects: str = REFUSED) -> list[Mutation]:
    """A change of a file that is called .pt."""
    renamed = at(FILE, lambda path: path.rename(path.parent / "model.pt"))
    return head(name, all_of(change, renamed), expects)


PT = (
    *_pt("good", all_of(), MEASURED),
    *_pt("cut", edited(FILE, lambda old: old[:999])),
    *_pt("opens", saved(lambda t: t | {"x": _Opens()})),
    *_pt("module", saved(lambda t: {"model": _Opens})),
)
PICKLES = (
    Format("bin", "pickled", OF_A_MODEL, (FILE,), TABLE),
    Format("pt", "pickled", {"head": head_of("model/model.pt", needs_good=False)}, (), PT),
)
