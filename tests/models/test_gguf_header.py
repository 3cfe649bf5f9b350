"""Every number in the header of a GGUF file is a stranger's: checked before it is used."""

import struct
import time

import gguf
import numpy as np
import pytest

from wideneck.errors import WideneckError
from wideneck.models import load_language_model, read_head
from wideneck.models.gguf_header import GgufHeader

V, D = 8, 32
U32, U64, STRING, ARRAY = 4, 10, 8, 9


def text(value):
    raw = value.encode()
    return struct.pack("<Q", len(raw)) + raw


def key(name, kind, value):
    return text(name) + struct.pack("<I", kind) + value


def strings(count, *values):
    return struct.pack("<IQ", STRING, count) + b"".join(text(value) for value in values)


def tensor(name, shape=(V, D), offset=0, kind=0, dimensions=None):
    dims = shape[::-1]
    number = len(dims) if dimensions is None else dimensions
    return text(name) + struct.pack(f"<I{len(dims)}QIQ", number, *dims, kind, offset)


HEAD = tensor("output.weight")
LLAMA = key("general.architecture", STRING, text("llama"))


def build(path, *, keys=(LLAMA,), tensors=(HEAD,), num_keys=None, num_tensors=None, size=4 * V * D):
    """A GGUF file of these pieces, whose counts may lie."""
    counts = (
        len(tensors) if num_tensors is None else num_tensors,
        len(keys) if num_keys is None else num_keys,
    )
    head = b"GGUF" + struct.pack("<IQQ", 3, *counts) + b"".join(keys) + b"".join(tensors)
    path.write_bytes(head + bytes(-len(head) % 32) + np.ones(size // 4, np.float32).tobytes())
    return path


def test_a_header_is_read_as_the_package_reads_it(tmp_path):
    keys = (
        LLAMA,
        key("llama.block_count", U32, struct.pack("<I", 2)),
        key("tokenizer.ggml.tokens", ARRAY, strings(3, "a", "", "é")),
        key("numbers", ARRAY, struct.pack("<IQ3f", 6, 3, 1, 2, 3)),
    )
    other = tensor("blk.1.x", (4,), 4 * V * D)
    path = build(tmp_path / "a.gguf", keys=keys, tensors=(HEAD, other), size=4 * V * D + 32)
    ours, theirs = GgufHeader(path), gguf.GGUFReader(path)
    assert ours.tokens == ["a", "", "é"]
    assert (ours.metadata["llama.block_count"], ours.metadata["numbers"]) == (2, [1, 2, 3])
    for stored in theirs.tensors:
        mine = ours.tensors[stored.name]
        assert (mine.start, mine.num_bytes) == (stored.data_offset, stored.n_bytes)
        assert mine.shape == tuple(reversed(stored.shape.tolist()))
        assert mine.kind == stored.tensor_type.name


BIG = 2**62
WRONG = {
    "tensors": ({"num_tensors": BIG}, "says that it has"),
    "keys": ({"num_keys": BIG}, "says that it has"),
    "a key's length": ({"keys": [struct.pack("<Q", BIG)]}, "ends past its end|says that it has"),
    "a string's length": (
        {"keys": [key("a", STRING, struct.pack("<Q", 2**63)), LLAMA]},
        "ends past its end",
    ),
    "an array's length": (
        {"keys": [key("a", ARRAY, struct.pack("<IQ", 0, BIG))]},
        "elements of 'a'",
    ),
    "an array of arrays": ({"keys": [key("a", ARRAY, struct.pack("<IQ", ARRAY, 1))]}, "type 9"),
    "a type": ({"keys": [key("a", 99, b"")]}, "type 99"),
    "a key twice": ({"keys": [LLAMA, LLAMA]}, "twice"),
    "an alignment": (
        {"keys": [key("general.alignment", U32, struct.pack("<I", 3))]},
        "no power of two",
    ),
    "tokens that are numbers": (
        {"keys": [key("tokenizer.ggml.tokens", U32, struct.pack("<I", 3))]},
        "holds no strings",
    ),
    "dimensions": ({"tensors": [tensor("output.weight", dimensions=2**31)]}, "dimensions"),
    "a shape": ({"tensors": [tensor("output.weight", (BIG, D))]}, "cut short"),
    "an offset": ({"tensors": [tensor("output.weight", offset=2**40)]}, "cut short"),
    "an unaligned offset": ({"tensors": [tensor("output.weight", (1, D), 8)]}, "not aligned"),
    "a tensor's type": ({"tensors": [tensor("output.weight", kind=77)]}, "type 77"),
    "a row of part of a block": (
        {"tensors": [tensor("output.weight", (V, 7), kind=8)]},
        "rows of 7 numbers",
    ),
    "tensors that overlap": (
        {"tensors": [HEAD, tensor("token_embd.weight", (1, D), 32)]},
        "shares bytes",
    ),
    "a tensor twice": ({"tensors": [HEAD, tensor("output.weight", (0, D), 4 * V * D)]}, "twice"),
}


@pytest.mark.parametrize(("wrong", "sentence"), WRONG.values(), ids=WRONG)
def test_a_number_that_cannot_be_is_refused_at_once(tmp_path, wrong, sentence):
    path = build(tmp_path / "a.gguf", **wrong)
    started = time.perf_counter()
    with pytest.raises(WideneckError, match=sentence) as caught:
        read_head(path)
    assert time.perf_counter() - started < 5
    assert str(caught.value).startswith("a.gguf is cut short, damaged or not a GGUF file (")


@pytest.mark.parametrize("layer", [2, 17])
def test_a_layer_that_the_metadata_does_not_count_is_refused(tmp_path, layer):
    keys = (LLAMA, key("llama.block_count", U32, struct.pack("<I", 2)))
    tensors = (HEAD, tensor(f"blk.{layer}.ffn_up.weight", (0, D), 4 * V * D))
    path = build(tmp_path / "a.gguf", keys=keys, tensors=tensors)
    with pytest.raises(WideneckError, match=rf"holds blk\.{layer}\.ffn_up.* has 2 layers"):
        read_head(path)


@pytest.mark.parametrize("count", [V - 1, V + 1])
def test_rows_that_do_not_fit_the_tokens_are_refused(tmp_path, count):
    tokens = strings(count, *(f"t{i}" for i in range(count)))
    keys = (LLAMA, key("tokenizer.ggml.tokens", ARRAY, tokens))
    path = build(tmp_path / "a.gguf", keys=keys)
    for reader in (read_head, load_language_model):
        with pytest.raises(WideneckError, match=rf"has 8 rows, and the tokenizer {count} tokens"):
            reader(path)


def test_a_file_of_a_big_endian_machine_is_refused(tmp_path):
    path = tmp_path / "a.gguf"
    path.write_bytes(b"GGUF" + struct.pack(">IQQ", 3, 0, 0))
    with pytest.raises(WideneckError, match="big-endian"):
        read_head(path)


def split(folder, number, tensors, *, keys=(), size=4 * V * D):
    """Part `number` of three."""
    count = key("split.count", U32, struct.pack("<I", 3))
    path = folder / f"m-{number:05d}-of-00003.gguf"
    return build(path, keys=(*keys, count), tensors=tensors, size=size)


def test_the_head_of_a_split_model_is_read_from_the_part_that_holds_it(tmp_path):
    tokens = key("tokenizer.ggml.tokens", ARRAY, strings(V, *(f"t{i}" for i in range(V))))
    split(tmp_path, 1, [tensor("token_embd.weight")], keys=[LLAMA, tokens])
    split(tmp_path, 2, [tensor("blk.0.x", (4,))])
    last = split(tmp_path, 3, [HEAD])
    for named in (last, tmp_path / "m-00001-of-00003.gguf"):
        head = read_head(named)
        assert (head.name, head.tokens) == ("output.weight", [f"t{i}" for i in range(V)])
        assert head.tied  # the same bytes
    (tmp_path / "m-00001-of-00003.gguf").unlink()
    assert read_head(last).tokens is None
    with pytest.raises(WideneckError, match=r"one part of a split model, which wideneck runs only"):
        load_language_model(last)


def test_a_split_model_without_its_head_says_which_parts_are_missing(tmp_path):
    path = split(tmp_path, 2, [tensor("token_embd.weight")])
    missing = r"put m-00001-of-00003\.gguf, m-00003-of-00003\.gguf beside it"
    with pytest.raises(WideneckError, match=missing):
        read_head(path)
