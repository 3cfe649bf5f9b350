""".bin and .pt: pickles with code, storages that do not fit, archives that are none."""

import io
import pickle
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any

from bench.fuzz.case import EITHER, MEASURED, REFUSED, Change, Format, Mutation
from bench.fuzz.configs import OF_A_MODEL, head_of
from bench.fuzz.edits import content, edited, of_any_file

FILE = "model/pytorch_model.bin"
HEAD = "lm_head.weight"
EMBEDDING = "model.embed_tokens.weight"
BAD = REFUSED
WHOLE = "evaluate"


class _Opens:
    """A pickle that would open a file if it were let."""

    def __reduce__(self):
        return (open, ("canary", "w"))


class _Evaluates:
    def __reduce__(self):
        return (eval, ("open('canary', 'w')",))


def saved(how: Callable[[dict[str, Any]], Any], **options: Any) -> Change:
    """What the file holds, through a function, written by torch."""

    def change(folder: Path, draw: Random) -> None:
        import torch

        path = folder / FILE
        old = torch.load(path, weights_only=True)
        new = how(old)
        path.unlink()
        torch.save(old if new is None else new, path, **options)

    return change


def rebuilt(size: tuple[int, ...], stride: tuple[int, ...], offset: int = 0) -> Change:
    """The head with another shape than its storage holds; the pickle is edited."""

    def change(folder: Path, draw: Random) -> None:
        _entries(folder, lambda name, old: _reshaped(old, size, stride, offset))

    return change


def entries(how: Callable[[str, bytes], bytes | None]) -> Change:
    """The archive's files, through a function; None leaves one out."""
    return lambda folder, draw: _entries(folder, how)


def _entries(folder: Path, how: Callable[[str, bytes], bytes | None]) -> None:
    path = folder / FILE
    with zipfile.ZipFile(path) as old:
        found = {name: old.read(name) for name in old.namelist()}
    path.unlink()
    with zipfile.ZipFile(path, "w") as new:
        for name, data in found.items():
            changed = how(name, data)
            if changed is not None:
                new.writestr(name, changed)


def _reshaped(old: bytes, size: tuple[int, ...], stride: tuple[int, ...], offset: int) -> bytes:
    """The last (96, 16) of a pickle, which is the head's, with strides (16, 1) and offset 0."""
    if not old.startswith(b"\x80\x02"):
        return old
    shape, strides = b"K\x60K\x10\x86", b"K\x10K\x01\x86"
    at = old.rfind(shape)
    assert at >= 0
    start = old.rfind(b"QK\x00", 0, at)
    end = old.index(strides, at) + len(strides)
    new = b"Q" + _whole(offset) + _tuple(size) + old[at + len(shape) : end - len(strides)]
    return old[:start] + new + _tuple(stride) + old[end:]


def _whole(number: int) -> bytes:
    return pickle.dumps(number, 2)[2:-1]


def _tuple(numbers: tuple[int, ...]) -> bytes:
    return b"(" + b"".join(map(_whole, numbers)) + b"t"


def _archive(data: bytes) -> bytes:
    """A zip as torch makes it, around this pickle."""
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as file:
        file.writestr("archive/data.pkl", data)
        file.writestr("archive/version", b"3\n")
        file.writestr("archive/byteorder", b"little")
    return out.getvalue()


def _bomb() -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr("archive/data.pkl", bytes(200_000_000))
    return out.getvalue()


def _itself() -> dict[str, Any]:
    value: dict[str, Any] = {}
    value["x"] = value
    return value


def _sliced(t: dict[str, Any]) -> None:
    import torch

    t[HEAD] = torch.randn(192, 32)[::2, ::2]


def both(name: str, change: Change, expects: str = BAD) -> list[Mutation]:
    return [Mutation(name, change, expects), Mutation(name, change, expects, (WHOLE,))]


def put(name: str, value: Callable[[Any], Any]) -> Change:
    """Another tensor in the place of one."""
    return saved(lambda t: t.update({name: value(t[name])}))


PICKLES = (
    *both("opens", saved(lambda t: t | {"x": _Opens()}, pickle_protocol=2)),
    *both("evaluates", content(FILE, pickle.dumps({HEAD: _Evaluates()}))),
    *both("evaluates-in-zip", content(FILE, _archive(pickle.dumps({HEAD: _Evaluates()}, 2)))),
    *both("plain-pickle", content(FILE, pickle.dumps({HEAD: [1.0]}))),
    *both("plain-in-zip", content(FILE, _archive(pickle.dumps({HEAD: [1.0]}, 2)))),
    *both("legacy", saved(lambda t: None, _use_new_zipfile_serialization=False), MEASURED),
    *both("empty-zip", content(FILE, b"PK\x05\x06" + bytes(18))),
    *both("bomb", lambda f, d: content(FILE, _bomb())(f, d)),
    *both("list", saved(lambda t: list(t.values()))),
    *both("none", saved(lambda t: {HEAD: None})),
    *both("empty", saved(lambda t: {})),
    *both("text", saved(lambda t: "x")),
    *both("tensor", saved(lambda t: t[HEAD])),
    *both("itself", saved(lambda t: _itself())),
    *both("nested", saved(lambda t: {"model": t}), EITHER),
    *both("state-dict", saved(lambda t: {"state_dict": t, "epoch": 3}), EITHER),
    *both("numbers-as-keys", saved(lambda t: dict(enumerate(t.values())))),
    *both("a-number-among", saved(lambda t: t | {7: 7}), EITHER),
    *both("key-with-escape", saved(lambda t: t | {"\x1b[31m\nx": t[HEAD]}), EITHER),
    *both("sparse", put(HEAD, lambda x: x.to_sparse()), EITHER),
    *both("complex", put(HEAD, lambda x: x.cfloat())),
    *both("integers", put(HEAD, lambda x: x.int())),
    *both("meta", put(HEAD, lambda x: x.to("meta"))),
    *both("sliced", saved(_sliced), EITHER),
    *both("expanded", put(HEAD, lambda x: x[:1].expand(96, 16)), EITHER),
    *both("transposed", put(HEAD, lambda x: x.T)),
    *both("scalar", put(HEAD, lambda x: x[0, 0])),
    *both("nan", put(HEAD, lambda x: x * float("nan")), EITHER),
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
    *both("no-pickle", entries(lambda name, old: None if name.endswith(".pkl") else old)),
    *both("no-storages", entries(lambda name, old: None if "/data/" in name else old)),
    *both("storages-short", entries(lambda name, old: old[:-8] if "/data/" in name else old)),
    *both("storages-empty", entries(lambda name, old: b"" if "/data/" in name else old)),
    *both(
        "version-999",
        entries(lambda name, old: b"999\n" if name.endswith("version") else old),
        EITHER,
    ),
    *both(
        "big-endian",
        entries(lambda name, old: b"big" if name.endswith("byteorder") else old),
        EITHER,
    ),
    *both(
        "byteorder-x",
        entries(lambda name, old: b"x" if name.endswith("byteorder") else old),
        EITHER,
    ),
    *both("deep", content(FILE, _archive(b"\x80\x02" + b"(" * 100_000 + b"t" * 100_000 + b"."))),
    *both("opcodes", content(FILE, _archive(b"\x80\x02" + b"K\x00" * 100_000 + b"."))),
    *both("long-binput", content(FILE, _archive(b"\x80\x02}r\xff\xff\xff\x7f."))),
    *both(
        "huge-string", content(FILE, _archive(b"\x80\x02X" + struct.pack("<I", 2**32 - 1) + b"x."))
    ),
    *both(
        "huge-long", content(FILE, _archive(b"\x80\x02\x8b" + struct.pack("<i", 2**31 - 1) + b"x."))
    ),
    *both(
        "huge-bytes8", content(FILE, _archive(b"\x80\x04\x8e" + struct.pack("<Q", 2**62) + b"x."))
    ),
    *both("cut", edited(FILE, lambda old, draw: old[: len(old) // 2])),
    *both("cut-by-one", edited(FILE, lambda old, draw: old[:-1])),
    *both("one-more", edited(FILE, lambda old, draw: old + b"\0"), EITHER),
    *both("safetensors-inside", content(FILE, struct.pack("<Q", 2) + b"{}")),
    *of_any_file(FILE),
    *of_any_file(FILE, WHOLE),
)


def _as_pt(folder: Path, draw: Random) -> None:
    (folder / FILE).rename(folder / "model/model.pt")


PT = (
    Mutation("good", _as_pt, MEASURED),
    Mutation("cut", lambda f, d: (edited(FILE, lambda o, _: o[:999])(f, d), _as_pt(f, d)), BAD),
    Mutation("opens", lambda f, d: (saved(lambda t: t | {"x": _Opens()})(f, d), _as_pt(f, d)), BAD),
    Mutation("module", lambda f, d: (saved(lambda t: {"model": _Opens})(f, d), _as_pt(f, d)), BAD),
)

OF_PT = {"head": head_of("model/model.pt")}
OF_PT = {name: type(c)(c.argv, c.makes, c.works_in, needs_good=False) for name, c in OF_PT.items()}
FORMATS = (
    Format("bin", "pickled", OF_A_MODEL, (FILE,), PICKLES),
    Format("pt", "pickled", OF_PT, (), PT),
)
