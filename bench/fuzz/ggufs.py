"""GGUF: counts, lengths, types and offsets that lie, and models that are not what they say."""

import struct
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any

from bench.fuzz.case import EITHER, MEASURED, REFUSED, Change, Format, Mutation
from bench.fuzz.configs import audit_of, evaluation_of, head_of
from bench.fuzz.edits import content, edited, of_any_file
from bench.fuzz.gguf_layout import Field, fields_of

FILE = "model/tiny.gguf"
HEAD, EMBEDDING, LAYER = "output.weight", "token_embd.weight", "blk.1.ffn_up.weight"
TOKENS = "tokenizer.ggml.tokens"
BAD = REFUSED
WHOLE = "evaluate"


def put(name: str, number: float) -> Change:
    """A number of the file."""

    def how(old: bytes, draw: Random) -> bytes:
        field = _field(old, name)
        new = struct.pack(field.form, number)
        return old[: field.start] + new + old[field.start + field.size :]

    return edited(FILE, how)


def say(name: str, text: bytes) -> Change:
    """A text of the file; its length is set."""

    def how(old: bytes, draw: Random) -> bytes:
        field = _field(old, f"{name}:text")
        rest = old[field.start + field.size :]
        return old[: field.start - 8] + struct.pack("<Q", len(text)) + text + rest

    return edited(FILE, how)


def cut_at(name: str) -> Change:
    return edited(FILE, lambda old, draw: old[: _field(old, name).start])


def cut_anywhere(old: bytes, draw: Random) -> bytes:
    """At the start of a field, or one byte into it."""
    field = draw.choice(fields_of(old))
    return old[: field.start + draw.choice((0, 1))]


def any_number(old: bytes, draw: Random) -> bytes:
    """A number of the structure, by one that is telling."""
    field = draw.choice([f for f in fields_of(old) if f.form])
    size = field.size
    number = draw.choice((0, 1, 2**7, 2**31, 2**32 - 1, 2**60, 2**63, 2**64 - 1, 9)) % 256**size
    return old[: field.start] + number.to_bytes(size, "little") + old[field.start + size :]


def written(how: Callable[[Any, dict[str, Any]], object]) -> Change:
    """The same tensors, written with other keys or other tensors."""

    def change(folder: Path, draw: Random) -> None:
        import numpy as np
        from gguf import GGUFReader, GGUFWriter

        path = folder / FILE
        reader = GGUFReader(path)
        tensors = {t.name: np.array(t.data) for t in reader.tensors}
        keys = {k: f for k, f in reader.fields.items() if not k.startswith("GGUF.")}
        tokens = keys[TOKENS].contents()
        path.unlink()
        writer = GGUFWriter(path, "llama")
        given: dict[str, Any] = {"tensors": tensors, "tokens": tokens}
        how(writer, given)
        for key, field in keys.items():
            if key in ("general.architecture", TOKENS) or key in given.get("without", ()):
                continue
            kind = field.types[0]
            sub = field.types[-1] if len(field.types) > 1 else None
            writer.add_key_value(key, field.contents(), kind, sub)
        if given["tokens"] is not None:
            writer.add_token_list(given["tokens"])
        for name, tensor in tensors.items():
            writer.add_tensor(name, tensor, raw_dtype=given.get("types", {}).get(name))
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_tensors_to_file()
        writer.close()

    return change


def tokens(how: Callable[[list[str]], list[str] | None]) -> Change:
    return written(lambda w, g: g.update(tokens=how(g["tokens"])))


def tensors(how: Callable[[dict[str, Any]], object]) -> Change:
    return written(lambda w, g: how(g["tensors"]))


def key(name: str, value: Any, kind: str = "uint32") -> Change:
    """A key more, or with another value."""

    def how(writer: Any, given: dict[str, Any]) -> None:
        given["without"] = (name,)
        getattr(writer, f"add_{kind}")(name, value)

    return written(how)


def _field(data: bytes, name: str) -> Field:
    return next(field for field in fields_of(data) if field.name == name)


def both(name: str, change: Change, expects: str = BAD) -> list[Mutation]:
    return [Mutation(name, change, expects), Mutation(name, change, expects, (WHOLE,))]


def loosely(name: str, change: Change) -> list[Mutation]:
    """Wrong for the whole model; the audit of the head may not see it."""
    return [Mutation(name, change, EITHER), Mutation(name, change, BAD, (WHOLE,))]


def _quantized(given: dict[str, Any]) -> None:
    import gguf
    import numpy as np

    kind = gguf.GGMLQuantizationType.Q8_0
    wide = np.tile(given["tensors"][HEAD], (1, 2))
    given["tensors"][HEAD] = gguf.quantize(wide, kind)
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
    *both(
        "product-2^64",
        lambda f, d: (put(f"{HEAD}:dim0", 2**32)(f, d), put(f"{HEAD}:dim1", 2**32)(f, d)),
    ),
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
    *both("token-escape", tokens(lambda t: ["\x1b[31m\n" if x == "k" else x for x in t]), MEASURED),
    *both("token-bidi", tokens(lambda t: ["\u202e" if x == "k" else x for x in t]), MEASURED),
    *both("token-script", tokens(lambda t: ["<script>" if x == "k" else x for x in t]), MEASURED),
    *both("token-twice", tokens(lambda t: ["z" if x == "k" else x for x in t]), EITHER),
    *both("token-not-utf-8", say(f"{TOKENS}[9]", b"\xff\xfe"), EITHER),
    *both("tokens-fewer", tokens(lambda t: t[:90]), BAD),
    *both("tokens-more", tokens(lambda t: [*t, "zz"]), BAD),
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
    *both(
        "eps-nan", key("llama.attention.layer_norm_rms_epsilon", float("nan"), "float32"), EITHER
    ),
    *both("split", key("split.count", 3, "uint16"), EITHER),
    *both("split-text", key("split.count", "x", "string"), EITHER),
    *both("not-causal", key("llama.attention.causal", False, "bool")),
    *both("causal-text", key("llama.attention.causal", "x", "string"), EITHER),
    *both("no-architecture", say("general.architecture:key", b"general.architectur_"), EITHER),
    *both("q8", written(lambda w, g: _quantized(g)), EITHER),
    *both("no-head", tensors(lambda t: t.pop(HEAD)), EITHER),
    *both("neither", tensors(lambda t: (t.pop(HEAD), t.pop(EMBEDDING)))),
    *loosely("no-layer", tensors(lambda t: t.pop(LAYER))),
    *loosely("layer-too-many", tensors(lambda t: t.update({"blk.2.ffn_up.weight": t[LAYER]}))),
    *loosely("unknown-tensor", tensors(lambda t: t.update({"x.weight": t[LAYER]}))),
    *loosely("layer-transposed", tensors(lambda t: t.update({LAYER: t[LAYER].T.copy()}))),
    *both("head-transposed", tensors(lambda t: t.update({HEAD: t[HEAD].T.copy()}))),
    *both("head-nan", tensors(lambda t: t[HEAD].__setitem__((3, 3), float("nan"))), EITHER),
    *both("head-1e30", tensors(lambda t: t[HEAD].__setitem__(5, 1e30)), EITHER),
    *both("cut-at-tensors", edited(FILE, lambda o, d: o[: fields_of(o)[-1].start + 8])),
    *both("cut-by-one", edited(FILE, lambda o, d: o[:-1])),
    *both("cut-at-types", cut_at("tokenizer.ggml.token_type:count")),
    *both("cut-at-head", cut_at(f"{HEAD}:dim1")),
    *both("one-more", edited(FILE, lambda o, d: o + b"\0"), EITHER),
    *both("safetensors-inside", content(FILE, struct.pack("<Q", 2) + b"{}")),
    *[m for k in range(6) for m in both(f"cut-{k}", edited(FILE, cut_anywhere))],
    *[m for k in range(10) for m in both(f"number-{k}", edited(FILE, any_number), EITHER)],
    *of_any_file(FILE),
)

OF_A_FILE = {"head": head_of(FILE), "evaluate": evaluation_of(FILE), "audit": audit_of(FILE)}
GGUFS = (Format("gguf", "gguf", OF_A_FILE, (FILE,), TABLE),)
