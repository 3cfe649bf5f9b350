"""Safetensors and indexes of shards: headers that lie, tensors that are elsewhere."""

import json
import os
import struct
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any

from bench.fuzz.case import EITHER, MEASURED, REFUSED, Change, Format, Mutation
from bench.fuzz.configs import OF_A_MODEL
from bench.fuzz.edits import changed_json, content, edited, literal, of_any_file, of_any_json, rows

FILE = "model/model.safetensors"
HEAD, EMBEDDING = "lm_head.weight", "model.embed_tokens.weight"
LAYER = "model.layers.1.mlp.up_proj.weight"
INDEX = "model/model.safetensors.index.json"
BAD = REFUSED
WHOLE = "evaluate"
"""The command that reads every tensor."""

Header = dict[str, Any]


def header(how: Callable[[Header], Any]) -> Change:
    """The JSON in front of the tensors, through a function."""

    def change(old: bytes, draw: Random) -> bytes:
        size = int.from_bytes(old[:8], "little")
        value = json.loads(old[8 : 8 + size])
        new = how(value)
        return packed(json.dumps(value if new is None else new).encode(), old[8 + size :])

    return edited(FILE, change)


def raw(how: Callable[[bytes], bytes]) -> Change:
    """The header's bytes, through a function."""

    def change(old: bytes, draw: Random) -> bytes:
        size = int.from_bytes(old[:8], "little")
        return packed(how(old[8 : 8 + size]), old[8 + size :])

    return edited(FILE, change)


def packed(head: bytes, data: bytes) -> bytes:
    head += b" " * (-len(head) % 8)
    return struct.pack("<Q", len(head)) + head + data


def size(number: int) -> Change:
    """Another length of the header."""
    return edited(FILE, lambda old, draw: struct.pack("<Q", number % 2**64) + old[8:])


def field(tensor: str, key: str, value: Any) -> Change:
    return header(lambda h: h[tensor].update({key: value}))


def tensors(how: Callable[[dict[str, Any]], Any], name: str = FILE) -> Change:
    """The tensors themselves, through a function of their dictionary."""

    def change(folder: Path, draw: Random) -> None:
        from safetensors.torch import load_file, save_file

        path = folder / name
        old = {key: value.clone() for key, value in load_file(path).items()}
        new = how(old)
        path.unlink()
        save_file(old if new is None else new, path, {"format": "pt"})

    return change


def value(tensor: str, number: float, where: Any = slice(None)) -> Change:
    """Numbers of a tensor."""

    def put(all_: dict[str, Any]) -> None:
        all_[tensor][where] = number

    return tensors(put)


def as_double(number: float) -> Change:
    """A float64 head, times a number."""
    return tensors(lambda t: t.update({HEAD: t[HEAD].double() * number}))


def moved(tensor: str, start: int, end: int) -> Change:
    """Other offsets of a tensor's bytes, relative to its own."""

    def put(h: Header) -> None:
        first, last = h[tensor]["data_offsets"]
        h[tensor]["data_offsets"] = [first + start, last + end]

    return header(put)


def _shared(h: Header) -> None:
    h[HEAD]["data_offsets"] = h[EMBEDDING]["data_offsets"]


def _renamed(old: str, new: str) -> Change:
    return tensors(lambda t: {new if key == old else key: v for key, v in t.items()})


def _dropped(*names: str) -> Change:
    return tensors(lambda t: {key: v for key, v in t.items() if key not in names})


def _transposed(*names: str) -> Change:
    return tensors(lambda t: t.update({n: t[n].T.contiguous() for n in names}))


def _many(count: int) -> Change:
    def put(h: Header) -> None:
        h.update(
            {f"x{i}": {"dtype": "F32", "shape": [0], "data_offsets": [0, 0]} for i in range(count)}
        )

    return header(put)


def loosely(name: str, change: Change) -> list[Mutation]:
    """Wrong for the whole model; the audit of the head may not see it."""
    return [Mutation(name, change, EITHER), Mutation(name, change, BAD, (WHOLE,))]


def both(name: str, change: Change, expects: str = BAD) -> list[Mutation]:
    """Under the audit of the head and where the whole model is run."""
    return [Mutation(name, change, expects), Mutation(name, change, expects, (WHOLE,))]


SAFETENSORS = (
    *both("size-0", size(0)),
    *both("size-2", size(2)),
    *both("size-2^63", size(2**63)),
    *both("size-2^64-1", size(-1)),
    *both("size-100MB", size(100_000_001)),
    Mutation(
        "size-one-more",
        edited(FILE, lambda o, d: struct.pack("<Q", o[0] + o[1] * 256 + 1) + o[8:]),
        BAD,
    ),
    Mutation("cut-7", edited(FILE, lambda o, d: o[:7]), BAD),
    Mutation("cut-8", edited(FILE, lambda o, d: o[:8]), BAD),
    Mutation("cut-in-header", edited(FILE, lambda o, d: o[:300]), BAD),
    *both("cut-at-data", edited(FILE, lambda o, d: o[: 8 + int.from_bytes(o[:8], "little")])),
    *both("cut-by-one", edited(FILE, lambda o, d: o[:-1])),
    *both("one-more", edited(FILE, lambda o, d: o + b"\0")),
    *both("megabyte-more", edited(FILE, lambda o, d: o + bytes(2**20))),
    Mutation("not-utf-8", raw(lambda h: h.replace(b"lm_head", b"lm_h\xff\xfe")), BAD),
    Mutation("no-json", raw(lambda h: h[:-20] + b"x" * 20), BAD),
    Mutation("list", raw(lambda h: b"[]"), BAD),
    Mutation("null", raw(lambda h: b"null"), BAD),
    Mutation("no-tensors", raw(lambda h: b"{}"), BAD),
    Mutation("deep", raw(lambda h: b'{"x":' * 20_000 + b"1" + b"}" * 20_000), BAD),
    Mutation("digits", raw(lambda h: h.replace(b"[96,", b"[" + b"9" * 5000 + b",", 1)), BAD),
    Mutation(
        "twice",
        raw(lambda h: h[:-1].rstrip() + b"," + h.split(b"{", 1)[1].split(b"},")[0] + b"}}"),
        EITHER,
    ),
    Mutation("spaces", raw(lambda h: h + b" " * 2**20), EITHER),
    Mutation("metadata-list", header(lambda h: h.update(__metadata__=[])), EITHER),
    Mutation("metadata-number", header(lambda h: h.update(__metadata__={"x": 1})), EITHER),
    Mutation(
        "metadata-gone",
        header(lambda h: h.pop("__metadata__", None) and None),
        EITHER,
        ("head", WHOLE),
    ),
    *both("metadata-other", header(lambda h: h.update(__metadata__={"format": "tf"})), EITHER),
    *both("dtype-F99", field(HEAD, "dtype", "F99")),
    *both("dtype-7", field(HEAD, "dtype", 7)),
    *both("dtype-null", field(HEAD, "dtype", None)),
    *both("dtype-F64", field(HEAD, "dtype", "F64")),
    *both("dtype-U8", field(HEAD, "dtype", "U8")),
    *both("dtype-I32", field(HEAD, "dtype", "I32")),
    *both("dtype-F16-half", field(HEAD, "dtype", "F16")),
    *both("shape-negative", field(HEAD, "shape", [-96, -16])),
    *both("shape-huge", field(HEAD, "shape", [2**62, 4])),
    *both("shape-overflows", field(HEAD, "shape", [2**32, 2**32])),
    *both("shape-2^64", field(HEAD, "shape", [2**64, 16])),
    *both("shape-0", field(HEAD, "shape", [0, 16])),
    *both("shape-none", field(HEAD, "shape", [])),
    *both("shape-flat", field(HEAD, "shape", [1536])),
    *both("shape-cube", field(HEAD, "shape", [96, 4, 4])),
    *both("shape-transposed", field(HEAD, "shape", [16, 96])),
    *both("shape-ones", field(HEAD, "shape", [96, 16] + [1] * 1000)),
    *both("shape-text", field(HEAD, "shape", "96")),
    *both("shape-texts", field(HEAD, "shape", ["96", "16"])),
    *both("shape-floats", field(HEAD, "shape", [96.0, 16.0])),
    *both("shape-null", field(HEAD, "shape", None)),
    *both("offsets-shared", header(_shared)),
    *both("offsets-overlap", moved(HEAD, 4, 4)),
    *both("offsets-past-end", moved(LAYER, 10**9, 10**9)),
    *both("offsets-reversed", header(lambda h: h[HEAD]["data_offsets"].reverse())),
    *both("offsets-longer", moved(HEAD, 0, 64)),
    *both("offsets-shorter", moved(HEAD, 0, -64)),
    *both("offsets-negative", field(HEAD, "data_offsets", [-6144, 0])),
    *both("offsets-2^64", field(HEAD, "data_offsets", [2**64 - 6144, 2**64])),
    *both("offsets-three", field(HEAD, "data_offsets", [0, 6144, 6144])),
    *both("offsets-missing", header(lambda h: h[HEAD].pop("data_offsets") and None)),
    *both("tensor-null", header(lambda h: h.update({HEAD: None}))),
    *loosely("name-escape", header(lambda h: h.update({"\x1b[31m\nx": h.pop(LAYER)}))),
    *loosely("name-empty", header(lambda h: h.update({"": h.pop(LAYER)}))),
    *loosely("name-long", header(lambda h: h.update({"x" * 10**6: h.pop(LAYER)}))),
    *both(
        "name-of-head-escape",
        header(lambda h: h.update({"\x1b]0;x\x07lm_head.weight": h.pop(HEAD)})),
    ),
    *both("no-head", _dropped(HEAD)),
    *both("no-embedding", _dropped(EMBEDDING), EITHER),
    *both("neither", _dropped(HEAD, EMBEDDING)),
    Mutation("no-layer", _dropped(LAYER), BAD, (WHOLE,)),
    Mutation("no-norm", _dropped("model.norm.weight"), BAD, (WHOLE,)),
    Mutation(
        "layer-too-many",
        tensors(lambda t: t.update({"model.layers.2.mlp.up_proj.weight": t[LAYER].clone()})),
        BAD,
        (WHOLE,),
    ),
    Mutation(
        "unexpected-key", _renamed(LAYER, "model.layers.1.mlp.nonsense.weight"), BAD, (WHOLE,)
    ),
    Mutation(
        "extra-key",
        tensors(lambda t: t.update({"adapter.weight": t[LAYER].clone()})),
        BAD,
        (WHOLE,),
    ),
    Mutation(
        "bias-too-many",
        tensors(lambda t: t.update({"model.layers.1.mlp.up_proj.bias": t[LAYER][:, 0].clone()})),
        BAD,
        (WHOLE,),
    ),
    *both("transposed-head", _transposed(HEAD)),
    *both("transposed-both", _transposed(HEAD, EMBEDDING)),
    Mutation("transposed-layer", _transposed(LAYER), BAD, (WHOLE,)),
    *both("head-too-long", tensors(lambda t: t.update({HEAD: t[HEAD].repeat(2, 1)}))),
    *both("head-too-short", tensors(lambda t: t.update({HEAD: t[HEAD][:95].clone()}))),
    *both("head-integers", tensors(lambda t: t.update({HEAD: t[HEAD].int()}))),
    *both("head-booleans", tensors(lambda t: t.update({HEAD: t[HEAD] > 0}))),
    *both("head-bytes", tensors(lambda t: t.update({HEAD: t[HEAD].byte()}))),
    *both("head-complex", tensors(lambda t: t.update({HEAD: t[HEAD].cfloat()}))),
    *both("bfloat16", tensors(lambda t: {k: v.bfloat16() for k, v in t.items()}), MEASURED),
    *both("float16", tensors(lambda t: {k: v.half() for k, v in t.items()}), MEASURED),
    *both("double", as_double(1.0), MEASURED),
    *both("double-1e-300", as_double(1e-300), EITHER),
    *both("double-1e300", as_double(1e300), EITHER),
    *both("head-nan", value(HEAD, float("nan"), (3, 3)), EITHER),
    *both("head-inf", value(HEAD, float("inf"), (3, 3)), EITHER),
    *both("head-zeros", value(HEAD, 0.0), EITHER),
    *both("head-ones", value(HEAD, 1.0), EITHER),
    *both("row-1e30", value(HEAD, 1e30, 5), EITHER),
    *both("row-3e38", value(HEAD, 3e38, 5), EITHER),
    *both("head-1e-45", value(HEAD, 1e-45), EITHER),
    *both("head-1e38", value(HEAD, 1e38, (slice(None), 0)), EITHER),
    Mutation("layer-nan", value(LAYER, float("nan"), 0), EITHER, (WHOLE, "audit")),
    Mutation("layer-inf", value(LAYER, float("inf"), 0), EITHER, (WHOLE, "audit")),
    Mutation("layer-1e30", value(LAYER, 1e30), EITHER, (WHOLE, "audit")),
    Mutation("norm-0", value("model.norm.weight", 0.0), EITHER, (WHOLE, "audit")),
    Mutation("embedding-nan", value(EMBEDDING, float("nan"), 10), EITHER, (WHOLE, "audit")),
    Mutation("head-nan", value(HEAD, float("nan"), (3, 3)), EITHER, ("audit",)),
    Mutation("row-1e30", value(HEAD, 1e30, 5), EITHER, ("audit",)),
    Mutation("double-1e300", as_double(1e300), EITHER, ("audit",)),
    Mutation("100000-names", _many(100_000), EITHER),
    Mutation("gguf-inside", content(FILE, b"GGUF\x03\0\0\0" + bytes(64)), BAD),
    Mutation("pickle-inside", content(FILE, b"\x80\x04N."), BAD),
    Mutation(
        "lfs-pointer",
        content(FILE, b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n"),
        BAD,
    ),
    *of_any_file(FILE),
    *of_any_file(FILE, WHOLE),
    Mutation("sparse-terabyte", lambda f, d: os.truncate(f / FILE, 2**40), BAD),
    Mutation(
        "second-file",
        lambda f, d: (f / "model/other.safetensors").write_bytes((f / FILE).read_bytes()),
        EITHER,
    ),
)


def _map(how: Callable[[dict[str, str]], Any]) -> Change:
    def put(index: Any) -> None:
        new = how(index["weight_map"])
        if new is not None:
            index["weight_map"] = new

    return changed_json(INDEX, put)


def _to(where: str) -> Change:
    return _map(lambda m: dict.fromkeys(m, where))


def _shard_of_head(folder: Path) -> Path:
    return folder / "model" / json.loads((folder / INDEX).read_text())["weight_map"][HEAD]


def _outside(folder: Path, draw: Random) -> None:
    """The shard of the head lies beside the folder."""
    shard = _shard_of_head(folder)
    shard.rename(folder / "outside.safetensors")
    _map(lambda m: {k: "../outside.safetensors" if v == shard.name else v for k, v in m.items()})(
        folder, draw
    )


def _link_out(folder: Path, draw: Random) -> None:
    """As in the hub's cache, where every file is a link: fine."""
    shard = _shard_of_head(folder)
    shard.rename(folder / "blob")
    shard.symlink_to("../blob")


def _without_index(folder: Path, draw: Random) -> None:
    (folder / INDEX).unlink()


def _no_shard(folder: Path, draw: Random) -> None:
    _shard_of_head(folder).unlink()


def _absolute(folder: Path, draw: Random) -> None:
    shard = _shard_of_head(folder)
    new = str(folder.resolve() / "model" / shard.name)
    _map(lambda m: {k: new if v == shard.name else v for k, v in m.items()})(folder, draw)


INDEXES = (
    *both("outside", _outside),
    *both("absolute", _absolute),
    *both("link-out", _link_out, MEASURED),
    *both("no-index", _without_index, EITHER),
    *both("no-shard", _no_shard),
    *both("to-etc-passwd", _to("/etc/passwd")),
    *both("to-zero", _to("/dev/zero")),
    *both("to-up", _to("../../../../etc/passwd")),
    *both("to-itself", _to("model.safetensors.index.json")),
    *both("to-folder", _to(".")),
    *both("to-nothing", _to("")),
    *both("to-nul", _to("a\0b")),
    *both("to-escape", _to("\x1b[31m\n.safetensors")),
    *both("to-long", _to("x" * 5000 + ".safetensors")),
    *both("to-config", _to("config.json")),
    *both("map-list", _map(lambda m: list(m))),
    *both("map-empty", _map(lambda m: {})),
    *both("map-null", literal(INDEX, "weight_map", "null")),
    *both("map-numbers", _map(lambda m: dict.fromkeys(m, 7))),
    *both("map-lists", _map(lambda m: {k: ["x"] for k in m})),
    *both("map-without-head", _map(lambda m: {k: v for k, v in m.items() if k != HEAD})),
    *both("map-head-elsewhere", _map(lambda m: m | {HEAD: m[EMBEDDING]}), EITHER),
    *loosely("map-unknown-tensor", _map(lambda m: m | {"x.weight": m[HEAD]})),
    *loosely("map-name-escape", _map(lambda m: m | {"\x1b[31m\nx": m[HEAD]})),
    *rows(INDEX, "metadata", ["null", "[]", '{"total_size":-1}', '{"total_size":NaN}']),
    *rows(INDEX, "metadata", ["null", "[]", '{"total_size":1e999}'], WHOLE),
    *of_any_file(INDEX),
    *of_any_json(INDEX),
    *of_any_json(INDEX, WHOLE),
    Mutation(
        "fifo-shard",
        lambda f, d: (_no_shard(f, d), os.mkfifo(_shard_of_head(f))),
        BAD,
        ("head", WHOLE),
    ),
    Mutation(
        "many",
        changed_json(
            INDEX,
            lambda i: i["weight_map"].update(
                {f"x{k}": i["weight_map"][HEAD] for k in range(100_000)}
            ),
        ),
        EITHER,
    ),
)

TENSORS = (
    Format("safetensors", "llama", OF_A_MODEL, (FILE,), SAFETENSORS),
    Format("index", "sharded", OF_A_MODEL, (INDEX, "model/*.safetensors"), INDEXES),
)
