"""GGUF: counts, lengths, types and offsets that lie, and models that are not what they say."""

import struct
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any, NamedTuple

from bench.fuzz.case import EITHER, MEASURED, Change, Format, both, loosely
from bench.fuzz.configs import commands_of
from bench.fuzz.edits import all_of, at, content, edited, edited_by, of_any_file
from bench.fuzz.seeds import finish

FILE = "model/tiny.gguf"
HEAD, EMBEDDING, LAYER = "output.weight", "token_embd.weight", "blk.1.ffn_up.weight"
TOKENS, NORM = "tokenizer.ggml.tokens", "llama.attention.layer_norm_rms"
SCALARS = {0: "<B", 1: "<b", 2: "<H", 3: "<h", 4: "<I", 5: "<i", 6: "<f", 7: "<?"}
SCALARS |= {10: "<Q", 11: "<q", 12: "<d"}
TEXT, ARRAY = 8, 9


class Field(NamedTuple):
    """One number of the file, or the bytes of one text."""

    name: str
    """Such as "general.architecture:length"."""
    start: int
    end: int
    form: str
    """The format by which `struct` reads it; "" for the bytes of a text."""


def fields_of(data: bytes) -> list[Field]:
    """Every field up to the tensors' bytes, in their order."""
    found = [Field("", 0, 0, "")]

    def number(name: str, form: str) -> int:
        start = found[-1].end
        found.append(Field(name, start, start + struct.calcsize(form), form))
        return struct.unpack_from(form, data, start)[0]

    def text(label: Callable[[str], str]) -> str:
        start = found[-1].end + 8
        end = start + struct.unpack_from("<Q", data, start - 8)[0]
        said = data[start:end].decode()
        number(f"{label(said)}:length", "<Q")
        found.append(Field(f"{label(said)}:text", start, end, ""))
        return said

    def value(key: str, kind: int) -> None:
        if kind == TEXT:
            text(lambda said: key)
        elif kind == ARRAY:
            inner = number(f"{key}:items", "<I")
            for place in range(number(f"{key}:count", "<Q")):
                value(f"{key}[{place}]", inner)
        else:
            number(key, SCALARS[kind])

    number("magic", "<I")
    number("version", "<I")
    num_tensors, num_keys = number("tensors", "<Q"), number("keys", "<Q")
    for _ in range(num_keys):
        key = text(lambda said: f"{said}:key")
        value(key, number(f"{key}:type", "<I"))
    for _ in range(num_tensors):
        name = text(lambda said: f"{said}:tensor")
        for axis in range(number(f"{name}:dims", "<I")):
            number(f"{name}:dim{axis}", "<Q")
        number(f"{name}:type", "<I")
        number(f"{name}:offset", "<Q")
    return found[1:]


def _field(data: bytes, name: str) -> Field:
    return next(field for field in fields_of(data) if field.name == name)


def put(name: str, number: float) -> Change:
    """A number of the file."""

    def how(old: bytes) -> bytes:
        field = _field(old, name)
        return old[: field.start] + struct.pack(field.form, number) + old[field.end :]

    return edited(FILE, how)


def say(name: str, text: bytes) -> Change:
    """A text of the file; its length is set."""

    def how(old: bytes) -> bytes:
        field = _field(old, f"{name}:text")
        return old[: field.start - 8] + struct.pack("<Q", len(text)) + text + old[field.end :]

    return edited(FILE, how)


def cut_at(name: str) -> Change:
    return edited(FILE, lambda old: old[: _field(old, name).start])


def cut_anywhere(old: bytes, draw: Random) -> bytes:
    """At the start of a field, or one byte into it."""
    field = draw.choice(fields_of(old))
    return old[: field.start + draw.choice((0, 1))]


def any_number(old: bytes, draw: Random) -> bytes:
    """A number of the structure, by one that is telling."""
    field = draw.choice([f for f in fields_of(old) if f.form])
    size = field.end - field.start
    number = draw.choice((0, 1, 2**7, 2**31, 2**32 - 1, 2**60, 2**63, 2**64 - 1, 9)) % 256**size
    return old[: field.start] + number.to_bytes(size, "little") + old[field.end :]


def written(how: Callable[[Any, dict[str, Any]], object]) -> Change:
    """The same tensors, written with other keys or other tensors."""

    def change(path: Path) -> None:
        import numpy as np
        from gguf import GGUFReader, GGUFWriter

        reader = GGUFReader(path)
        keys = {k: f for k, f in reader.fields.items() if not k.startswith("GGUF.")}
        given: dict[str, Any] = {
            "tensors": {t.name: np.array(t.data) for t in reader.tensors},
            "tokens": keys[TOKENS].contents(),
            "without": {"general.architecture", TOKENS},
            "types": {},
        }
        path.unlink()
        writer = GGUFWriter(path, "llama")
        how(writer, given)
        for key, field in keys.items():
            if key not in given["without"]:
                kind, sub = field.types[0], field.types[-1] if len(field.types) > 1 else None
                writer.add_key_value(key, field.contents(), kind, sub)
        if given["tokens"] is not None:
            writer.add_token_list(given["tokens"])
        for name, tensor in given["tensors"].items():
            writer.add_tensor(name, tensor, raw_dtype=given["types"].get(name))
        finish(writer)

    return at(FILE, change)


def tokens(how: Callable[[list[str]], list[str] | None]) -> Change:
    return written(lambda writer, given: given.update(tokens=how(given["tokens"])))


def spelled(new: str) -> Change:
    """Another name for the token k."""
    return tokens(lambda t: [new if token == "k" else token for token in t])


def tensors(how: Callable[[dict[str, Any]], object]) -> Change:
    return written(lambda writer, given: how(given["tensors"]))


def key(name: str, value: Any, kind: str = "uint32") -> Change:
    """A key more, or with another value."""

    def how(writer: Any, given: dict[str, Any]) -> None:
        given["without"].add(name)
        getattr(writer, f"add_{kind}")(name, value)

    return written(how)


def _quantized(writer: Any, given: dict[str, Any]) -> None:
    import gguf
    import numpy as np

    kind = gguf.GGMLQuantizationType.Q8_0
    given["tensors"][HEAD] = gguf.quantize(np.tile(given["tensors"][HEAD], (1, 2)), kind)
    given["types"] = {HEAD: kind}


TABLE = (
    *both("magic", put("magic", 0x46554746)),
    *both("version-0", put("version", 0)),
    *both("version-1", put("version", 1)),
    *both("version-99", put("version", 99)),
    *both("version-swapped", put("version", 0x03000000)),
    *both("tensors-0", put("tensors", 0)),
    *both("tensors-one-more", put("tensors", 22)),
    *both("tensors-1e9", put("tensors", 10**9)),
    *both("tensors-2^63", put("tensors", 2**63)),
    *both("keys-0", put("keys", 0)),
    *both("keys-one-fewer", put("keys", 16)),
    *both("keys-1e9", put("keys", 10**9)),
    *both("keys-2^64-1", put("keys", 2**64 - 1)),
    *both("key-length-2^31", put("general.architecture:key:length", 2**31)),
    *both("key-length-2^62", put("general.architecture:key:length", 2**62)),
    *both("key-length-0", put("general.architecture:key:length", 0)),
    *both("text-length-2^62", put("general.architecture:length", 2**62)),
    *both("text-length-1e9", put("general.architecture:length", 10**9)),
    *both("type-99", put("llama.block_count:type", 99)),
    *both("type-array", put("llama.block_count:type", 9)),
    *both("type-text", put("llama.block_count:type", 8)),
    *both("items-99", put(f"{TOKENS}:items", 99)),
    *both("items-array", put(f"{TOKENS}:items", 9)),
    *both("count-2^60", put(f"{TOKENS}:count", 2**60)),
    *both("count-1e9", put(f"{TOKENS}:count", 10**9)),
    *both("count-0", put(f"{TOKENS}:count", 0)),
    *both("types-count-2^60", put("tokenizer.ggml.token_type:count", 2**60)),
    *both("token-length-2^62", put(f"{TOKENS}[3]:length", 2**62)),
    *both("dims-0", put(f"{HEAD}:dims", 0)),
    *both("dims-1000", put(f"{HEAD}:dims", 1000)),
    *both("dims-2^31", put(f"{HEAD}:dims", 2**31)),
    *both("rows-2^62", put(f"{HEAD}:dim1", 2**62)),
    *both("rows-0", put(f"{HEAD}:dim1", 0)),
    *both("rows-95", put(f"{HEAD}:dim1", 95)),
    *both("rows-97", put(f"{HEAD}:dim1", 97)),
    *both("columns-2^62", put(f"{HEAD}:dim0", 2**62)),
    *both("columns-17", put(f"{HEAD}:dim0", 17)),
    *both("product-2^64", all_of(put(f"{HEAD}:dim0", 2**32), put(f"{HEAD}:dim1", 2**32))),
    *both("kind-99", put(f"{HEAD}:type", 99)),
    *both("kind-q8", put(f"{HEAD}:type", 8)),
    *both("kind-q4k", put(f"{HEAD}:type", 12)),
    *both("kind-i32", put(f"{HEAD}:type", 26)),
    *both("kind-f64", put(f"{HEAD}:type", 28)),
    *both("kind-f16", put(f"{HEAD}:type", 1), EITHER),
    *loosely("layer-kind-99", put(f"{LAYER}:type", 99)),
    *loosely("layer-rows-2^62", put(f"{LAYER}:dim1", 2**62)),
    *both("offset-2^62", put(f"{HEAD}:offset", 2**62)),
    *both("offset-past-end", put(f"{HEAD}:offset", 32 * 10**6)),
    *both("offset-odd", put(f"{HEAD}:offset", 7)),
    *both("offset-overlaps", put(f"{HEAD}:offset", 32)),
    *both("offset-shared", put(f"{HEAD}:offset", 0)),
    *loosely("layer-offset-2^62", put(f"{LAYER}:offset", 2**62)),
    *both("alignment-0", key("general.alignment", 0)),
    *both("alignment-3", key("general.alignment", 3), EITHER),
    *both("alignment-2^31", key("general.alignment", 2**31), EITHER),
    *both("alignment-text", key("general.alignment", "x", "string"), EITHER),
    *both("architecture-nonsense", say("general.architecture", b"nonsense"), EITHER),
    *both("architecture-empty", say("general.architecture", b""), EITHER),
    *both("architecture-escape", say("general.architecture", b"\x1b[31m\n"), EITHER),
    *both("architecture-bert", say("general.architecture", b"bert"), EITHER),
    *both("architecture-clip", say("general.architecture", b"clip"), EITHER),
    *both("architecture-latin-1", say("general.architecture", b"ll\xffma"), EITHER),
    *both("architecture-is-number", key("general.architecture2", 7), EITHER),
    *both("tokenizer-nonsense", say("tokenizer.ggml.model", b"nonsense"), EITHER),
    *both("tokenizer-llama", say("tokenizer.ggml.model", b"llama"), EITHER),
    *both("tokenizer-escape", say("tokenizer.ggml.model", b"\x1b[31m\n"), EITHER),
    *both("token-escape", spelled("\x1b[31m\n"), MEASURED),
    *both("token-bidi", spelled("\u202e"), MEASURED),
    *both("token-script", spelled("<script>"), MEASURED),
    *both("token-twice", spelled("z"), EITHER),
    *both("token-not-utf-8", say(f"{TOKENS}[9]", b"\xff\xfe"), EITHER),
    *both("tokens-fewer", tokens(lambda t: t[:90])),
    *both("tokens-more", tokens(lambda t: [*t, "zz"])),
    *both("no-tokens", tokens(lambda t: None), EITHER),
    *both("types-fewer", key("tokenizer.ggml.token_type", [1, 1], "array"), EITHER),
    *both("merges-nonsense", key("tokenizer.ggml.merges", ["x", "y z"], "array"), EITHER),
    *both("bos-1e9", key("tokenizer.ggml.bos_token_id", 10**9), EITHER),
    *both("eos-text", key("tokenizer.ggml.eos_token_id", "x", "string"), EITHER),
    *both("vocab-size-7", key("llama.vocab_size", 7), EITHER),
    *loosely("blocks-1", key("llama.block_count", 1)),
    *loosely("blocks-3", key("llama.block_count", 3)),
    *loosely("blocks-1e9", key("llama.block_count", 10**9)),
    *loosely("blocks-0", key("llama.block_count", 0)),
    *loosely("blocks-text", key("llama.block_count", "2", "string")),
    *loosely("heads-0", key("llama.attention.head_count", 0)),
    *loosely("heads-3", key("llama.attention.head_count", 3)),
    *loosely("heads-1e9", key("llama.attention.head_count", 10**9)),
    *loosely("kv-heads-0", key("llama.attention.head_count_kv", 0)),
    *loosely("width-17", key("llama.embedding_length", 17)),
    *loosely("width-1e9", key("llama.embedding_length", 10**9)),
    *loosely("feed-forward-1e9", key("llama.feed_forward_length", 10**9)),
    *both("context-0", key("llama.context_length", 0), EITHER),
    *both("context-1e9", key("llama.context_length", 10**9), EITHER),
    *both("rope-0", key("llama.rope.dimension_count", 0), EITHER),
    *both("rope-base-nan", key("llama.rope.freq_base", float("nan"), "float32"), EITHER),
    *both("eps-nan", key(f"{NORM}_epsilon", float("nan"), "float32"), EITHER),
    *both("split", key("split.count", 3, "uint16"), EITHER),
    *both("split-text", key("split.count", "x", "string"), EITHER),
    *both("not-causal", key("llama.attention.causal", False, "bool")),
    *both("causal-text", key("llama.attention.causal", "x", "string"), EITHER),
    *both("no-architecture", say("general.architecture:key", b"general.architectur_"), EITHER),
    *both("q8", written(_quantized), EITHER),
    *both("no-head", tensors(lambda t: t.pop(HEAD)), EITHER),
    *both("neither", tensors(lambda t: (t.pop(HEAD), t.pop(EMBEDDING)))),
    *loosely("no-layer", tensors(lambda t: t.pop(LAYER))),
    *loosely("layer-too-many", tensors(lambda t: t.update({"blk.2.ffn_up.weight": t[LAYER]}))),
    *loosely("unknown-tensor", tensors(lambda t: t.update({"x.weight": t[LAYER]}))),
    *loosely("layer-transposed", tensors(lambda t: t.update({LAYER: t[LAYER].T.copy()}))),
    *both("head-transposed", tensors(lambda t: t.update({HEAD: t[HEAD].T.copy()}))),
    *both("head-nan", tensors(lambda t: t[HEAD].__setitem__((3, 3), float("nan"))), EITHER),
    *both("head-1e30", tensors(lambda t: t[HEAD].__setitem__(5, 1e30)), EITHER),
    *both("cut-at-tensors", edited(FILE, lambda o: o[: fields_of(o)[-1].start + 8])),
    *both("cut-by-one", edited(FILE, lambda o: o[:-1])),
    *both("cut-at-types", cut_at("tokenizer.ggml.token_type:count")),
    *both("cut-at-head", cut_at(f"{HEAD}:dim1")),
    *both("one-more", edited(FILE, lambda o: o + b"\0"), EITHER),
    *both("safetensors-inside", content(FILE, struct.pack("<Q", 2) + b"{}")),
    *[m for k in range(6) for m in both(f"cut-{k}", edited_by(FILE, cut_anywhere))],
    *[m for k in range(10) for m in both(f"number-{k}", edited_by(FILE, any_number), EITHER)],
    *of_any_file(FILE, "head"),
)

GGUFS = (Format("gguf", "gguf", commands_of(FILE), (FILE,), TABLE),)
