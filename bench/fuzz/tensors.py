"""Safetensors and indexes of shards: headers that lie, tensors that are elsewhere."""

import json
import os
import shutil
import struct
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any

from bench.fuzz.case import (
    EITHER,
    MEASURED,
    REFUSED,
    Change,
    Format,
    Mutation,
    both,
    head,
    loosely,
    under,
    whole,
)
from bench.fuzz.configs import OF_A_MODEL
from bench.fuzz.edits import (
    all_of,
    at,
    changed_json,
    content,
    edited,
    literal,
    of_any_file,
    of_any_json,
    through,
    values,
)

FILE = "model/model.safetensors"
HEAD, EMBEDDING = "lm_head.weight", "model.embed_tokens.weight"
LAYER = "model.layers.1.mlp.up_proj.weight"
INDEX = "model/model.safetensors.index.json"
BOTH, RUN = ("head", "evaluate"), ("evaluate", "audit")
EMPTY = {"dtype": "F32", "shape": [0], "data_offsets": [0, 0]}
audit = under("audit")


def start_of(old: bytes) -> int:
    """Where the tensors begin, behind the header and its length."""
    return 8 + int.from_bytes(old[:8], "little")


def raw(how: Callable[[bytes], bytes], name: str = FILE) -> Change:
    """The header's bytes, through a function; its length is set."""

    def change(old: bytes) -> bytes:
        start = start_of(old)
        head = how(old[8:start])
        head += b" " * (-len(head) % 8)
        return struct.pack("<Q", len(head)) + head + old[start:]

    return edited(name, change)


def header(how: Callable[[dict[str, Any]], Any], name: str = FILE) -> Change:
    """The JSON in front of the tensors, through a function."""
    return raw(lambda old: through(old, how), name)


def size(number: int) -> Change:
    """Another length of the header."""
    return edited(FILE, lambda old: struct.pack("<Q", number % 2**64) + old[8:])


def field(key: str, value: Any) -> Change:
    """What the header says of the head."""
    return header(lambda h: h[HEAD].update({key: value}))


def tensors(how: Callable[[dict[str, Any]], Any], name: str = FILE) -> Change:
    """The tensors themselves, through a function of their dictionary."""

    def change(path: Path) -> None:
        from safetensors.torch import load_file, save_file

        old = {key: value.clone() for key, value in load_file(path).items()}
        new = how(old) or old
        path.unlink()
        save_file({k: v.contiguous().clone() for k, v in new.items()}, path, {"format": "pt"})

    return at(name, change)


def put(tensor: str, how: Callable[[Any], Any], new: str | None = None, name: str = FILE) -> Change:
    """A function of a tensor in its place, or under a new name beside it."""
    return tensors(lambda t: t.update({new or tensor: how(t[tensor])}), name)


def value(tensor: str, number: float, where: Any = slice(None), name: str = FILE) -> Change:
    """Numbers of a tensor."""
    return tensors(lambda t: t[tensor].__setitem__(where, number), name)


def without_tensors(*names: str, name: str = FILE) -> Change:
    return tensors(lambda t: {key: v for key, v in t.items() if key not in names}, name)


def moved(tensor: str, start: int, end: int) -> Change:
    """Other offsets of a tensor's bytes, relative to its own."""

    def shift(h: dict[str, Any]) -> None:
        first, last = h[tensor]["data_offsets"]
        h[tensor]["data_offsets"] = [first + start, last + end]

    return header(shift)


SAFETENSORS = (
    *both("size-0", size(0)),
    *both("size-2", size(2)),
    *both("size-2^63", size(2**63)),
    *both("size-2^64-1", size(-1)),
    *both("size-100MB", size(100_000_001)),
    *head("size-one-more", edited(FILE, lambda o: struct.pack("<Q", start_of(o) - 7) + o[8:])),
    *head("cut-7", edited(FILE, lambda o: o[:7])),
    *head("cut-8", edited(FILE, lambda o: o[:8])),
    *head("cut-in-header", edited(FILE, lambda o: o[:300])),
    *both("cut-at-data", edited(FILE, lambda o: o[: start_of(o)])),
    *both("cut-by-one", edited(FILE, lambda o: o[:-1])),
    *both("one-more", edited(FILE, lambda o: o + b"\0")),
    *both("megabyte-more", edited(FILE, lambda o: o + bytes(2**20))),
    *head("not-utf-8", raw(lambda h: h.replace(b"lm_head", b"lm_h\xff\xfe"))),
    *head("no-json", raw(lambda h: h[:-20] + b"x" * 20)),
    *head("list", raw(lambda h: b"[]")),
    *head("null", raw(lambda h: b"null")),
    *head("no-tensors", raw(lambda h: b"{}")),
    *head("deep", raw(lambda h: b'{"x":' * 20_000 + b"1" + b"}" * 20_000)),
    *head("digits", raw(lambda h: h.replace(b"[96,", b"[" + b"9" * 5000 + b",", 1))),
    *head(
        "twice",
        raw(lambda h: h[:-1].rstrip() + b"," + h.split(b"{", 1)[1].split(b"},")[0] + b"}}"),
        EITHER,
    ),
    *head("spaces", raw(lambda h: h + b" " * 2**20), EITHER),
    *head("metadata-list", header(lambda h: h.update(__metadata__=[])), EITHER),
    *head("metadata-number", header(lambda h: h.update(__metadata__={"x": 1})), EITHER),
    Mutation("metadata-gone", header(lambda h: h.pop("__metadata__") and None), EITHER, BOTH),
    *both("metadata-other", header(lambda h: h.update(__metadata__={"format": "tf"})), EITHER),
    *both("dtype-F99", field("dtype", "F99")),
    *both("dtype-7", field("dtype", 7)),
    *both("dtype-null", field("dtype", None)),
    *both("dtype-F64", field("dtype", "F64")),
    *both("dtype-U8", field("dtype", "U8")),
    *both("dtype-I32", field("dtype", "I32")),
    *both("dtype-F16-half", field("dtype", "F16")),
    *both("shape-negative", field("shape", [-96, -16])),
    *both("shape-huge", field("shape", [2**62, 4])),
    *both("shape-overflows", field("shape", [2**32, 2**32])),
    *both("shape-2^64", field("shape", [2**64, 16])),
    *both("shape-0", field("shape", [0, 16])),
    *both("shape-none", field("shape", [])),
    *both("shape-flat", field("shape", [1536])),
    *both("shape-cube", field("shape", [96, 4, 4])),
    *both("shape-transposed", field("shape", [16, 96])),
    *both("shape-ones", field("shape", [96, 16] + [1] * 1000)),
    *both("shape-text", field("shape", "96")),
    *both("shape-texts", field("shape", ["96", "16"])),
    *both("shape-floats", field("shape", [96.0, 16.0])),
    *both("shape-null", field("shape", None)),
    *both(
        "offsets-shared",
        header(lambda h: h[HEAD].update(data_offsets=h[EMBEDDING]["data_offsets"])),
    ),
    *both("offsets-overlap", moved(HEAD, 4, 4)),
    *both("offsets-past-end", moved(LAYER, 10**9, 10**9)),
    *both("offsets-reversed", header(lambda h: h[HEAD]["data_offsets"].reverse())),
    *both("offsets-longer", moved(HEAD, 0, 64)),
    *both("offsets-shorter", moved(HEAD, 0, -64)),
    *both("offsets-negative", field("data_offsets", [-6144, 0])),
    *both("offsets-2^64", field("data_offsets", [2**64 - 6144, 2**64])),
    *both("offsets-three", field("data_offsets", [0, 6144, 6144])),
    *both("offsets-missing", header(lambda h: h[HEAD].pop("data_offsets") and None)),
    *both("tensor-null", header(lambda h: h.update({HEAD: None}))),
    *loosely("name-escape", header(lambda h: h.update({"\x1b[31m\nx": h.pop(LAYER)}))),
    *loosely("name-empty", header(lambda h: h.update({"": h.pop(LAYER)}))),
    *loosely("name-long", header(lambda h: h.update({"x" * 10**6: h.pop(LAYER)}))),
    *both("name-of-head-escape", header(lambda h: h.update({"\x1b]0;x\x07" + HEAD: h.pop(HEAD)}))),
    *both("no-head", without_tensors(HEAD)),
    *both("no-embedding", without_tensors(EMBEDDING), EITHER),
    *both("neither", without_tensors(HEAD, EMBEDDING)),
    *whole("no-layer", without_tensors(LAYER)),
    *whole("no-norm", without_tensors("model.norm.weight")),
    *whole("layer-too-many", put(LAYER, lambda w: w, "model.layers.2.mlp.up_proj.weight")),
    *whole(
        "unexpected-key",
        tensors(lambda t: t.update({"model.layers.1.mlp.nonsense.weight": t.pop(LAYER)})),
    ),
    *whole("extra-key", put(LAYER, lambda w: w, "adapter.weight")),
    *whole("bias-too-many", put(LAYER, lambda w: w[:, 0], LAYER.replace("weight", "bias"))),
    *both("transposed-head", put(HEAD, lambda w: w.T)),
    *both("transposed-both", all_of(put(HEAD, lambda w: w.T), put(EMBEDDING, lambda w: w.T))),
    *whole("transposed-layer", put(LAYER, lambda w: w.T)),
    *both("head-too-long", put(HEAD, lambda w: w.repeat(2, 1))),
    *both("head-too-short", put(HEAD, lambda w: w[:95])),
    *both("head-integers", put(HEAD, lambda w: w.int())),
    *both("head-booleans", put(HEAD, lambda w: w > 0)),
    *both("head-bytes", put(HEAD, lambda w: w.byte())),
    *both("head-complex", put(HEAD, lambda w: w.cfloat())),
    *both("bfloat16", tensors(lambda t: {k: v.bfloat16() for k, v in t.items()}), MEASURED),
    *both("float16", tensors(lambda t: {k: v.half() for k, v in t.items()}), MEASURED),
    *both("double", put(HEAD, lambda w: w.double()), MEASURED),
    *both("double-1e-300", put(HEAD, lambda w: w.double() * 1e-300), EITHER),
    *both("double-1e300", put(HEAD, lambda w: w.double() * 1e300), EITHER),
    *both("head-nan", value(HEAD, float("nan"), (3, 3)), EITHER),
    *both("head-inf", value(HEAD, float("inf"), (3, 3)), EITHER),
    *both("head-zeros", value(HEAD, 0.0), EITHER),
    *both("head-ones", value(HEAD, 1.0), EITHER),
    *both("row-1e30", value(HEAD, 1e30, 5), EITHER),
    *both("row-3e38", value(HEAD, 3e38, 5), EITHER),
    *both("head-1e-45", value(HEAD, 1e-45), EITHER),
    *both("head-1e38", value(HEAD, 1e38, (slice(None), 0)), EITHER),
    Mutation("layer-nan", value(LAYER, float("nan"), 0), EITHER, RUN),
    Mutation("layer-inf", value(LAYER, float("inf"), 0), EITHER, RUN),
    Mutation("layer-1e30", value(LAYER, 1e30), EITHER, RUN),
    Mutation("norm-0", value("model.norm.weight", 0.0), EITHER, RUN),
    Mutation("embedding-nan", value(EMBEDDING, float("nan"), 10), EITHER, RUN),
    *audit("head-nan", value(HEAD, float("nan"), (3, 3)), EITHER),
    *audit("row-1e30", value(HEAD, 1e30, 5), EITHER),
    *audit("double-1e300", put(HEAD, lambda w: w.double() * 1e300), EITHER),
    *head("100000-names", header(lambda h: h | {f"x{i}": EMPTY for i in range(100_000)}), EITHER),
    *head("gguf-inside", content(FILE, b"GGUF\x03\0\0\0" + bytes(64))),
    *head("pickle-inside", content(FILE, b"\x80\x04N.")),
    *head(
        "lfs-pointer",
        content(FILE, b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n"),
    ),
    *of_any_file(FILE, "head"),
    *of_any_file(FILE, "evaluate"),
    *head("sparse-terabyte", at(FILE, lambda path: os.truncate(path, 2**40))),
    *head(
        "second-file",
        at(FILE, lambda path: shutil.copyfile(path, path.parent / "other.safetensors")),
        EITHER,
    ),
)


def _map(how: Callable[[dict[str, str]], Any]) -> Change:
    """The map from tensors to shards, through a function."""
    return changed_json(INDEX, lambda index: index | {"weight_map": how(index["weight_map"])})


def _to(where: str) -> Change:
    return _map(lambda m: dict.fromkeys(m, where))


def _shard(how: Callable[[Path], str | None]) -> Change:
    """What is done with the shard of the head, and the place that the map says it has then."""

    def change(folder: Path, draw: Random) -> None:
        name = json.loads((folder / INDEX).read_text())["weight_map"][HEAD]
        new = how(folder.resolve() / "model" / name)
        if new is not None:
            _map(lambda m: {k: new if v == name else v for k, v in m.items()})(folder, draw)

    return change


def _outside(shard: Path) -> str:
    shard.rename(shard.parents[1] / "outside.safetensors")
    return "../outside.safetensors"


def _link_out(shard: Path) -> None:
    """As in the hub's cache, where every file is a link: fine."""
    shard.rename(shard.parents[1] / "blob")
    shard.symlink_to("../blob")


METADATA = """
metadata  head      either  null  []  {"total_size":-1}  {"total_size":NaN}
metadata  evaluate  either  null  []  {"total_size":1e999}
"""
INDEXES = (
    *both("outside", _shard(_outside)),
    *both("absolute", _shard(str)),
    *both("link-out", _shard(_link_out), MEASURED),
    *both("no-index", at(INDEX, Path.unlink), EITHER),
    *both("no-shard", _shard(Path.unlink)),
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
    *values(INDEX, METADATA),
    *of_any_file(INDEX, "head"),
    *of_any_json(INDEX, "head"),
    *of_any_json(INDEX, "evaluate"),
    Mutation(
        "fifo-shard", _shard(lambda shard: (shard.unlink(), os.mkfifo(shard))[1]), REFUSED, BOTH
    ),
    *head("many", _map(lambda m: m | {f"x{k}": m[HEAD] for k in range(100_000)}), EITHER),
)

TENSORS = (
    Format("safetensors", "llama", OF_A_MODEL, (FILE,), SAFETENSORS),
    Format("index", "sharded", OF_A_MODEL, (INDEX, "model/*.safetensors"), INDEXES),
)
