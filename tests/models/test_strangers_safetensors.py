"""Headers of .safetensors files that lie, here and on the hub: one sentence each, by name."""

import json
import struct
import time

import pytest
import torch
from safetensors.torch import save_file

from tiny import D, V
from wideneck.errors import WideneckError
from wideneck.models import read_head
from wideneck.models.hub_folder import RemoteSafetensors
from wideneck.models.safetensors_file import SafetensorsFile


def entry(shape=(4, 4), begin=0, end=64, dtype="F32"):
    return {"dtype": dtype, "shape": list(shape), "data_offsets": [begin, end]}


def content(header, data=64, length=None):
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text) if length is None else length) + text + bytes(data)


TWICE = b'{"a":%s,"a":%s}' % ((json.dumps(entry()).encode(),) * 2)
ESCAPED = TWICE.replace(b'"a"', b'"\\u0061"', 1).replace(b'"data_', b'"\\u0064ata_', 1)
LIES = {
    "overlap": (content({"a": entry(), "b": entry(begin=32, end=96)}, 96), "b shares bytes"),
    "same bytes": (content({"a": entry(), "b": entry()}), "b shares bytes with another"),
    "past the end": (content({"a": entry((8, 4), 0, 128)}), "have 128 bytes, and 64 are stored"),
    "a hole": (
        content({"a": entry(), "b": entry(begin=96, end=160)}, 160),
        "b is said to be at bytes 96 to 160, expected 64",
    ),
    "bytes of no tensor": (content({"a": entry()}, 80), "have 64 bytes, and 80 are stored"),
    "no size of its shape": (content({"a": entry((4, 5))}), r"a has 64 bytes, .* shape \[4, 5\]"),
    "negative": (content({"a": entry((-4, -4))}), "Expected `int` >= 0"),
    "before the file": (content({"a": entry(begin=-64, end=0)}), "Expected `int` >= 0"),
    "backwards": (content({"a": entry(begin=64, end=0)}), "said to be at bytes 64 to 0"),
    "too large for a size": (content({"a": entry((2**63, 2))}), "Expected `int` <="),
    "larger than any file": (content({"a": entry((2**33, 2**33))}), "do not fit its shape"),
    "many dimensions": (content({"a": entry((1,) * 65, 0, 4)}, 4), "has 65 dimensions"),
    "a broken number": (content({"a": entry((4.5, 4))}), "its header cannot be read"),
    "a name twice": (content(TWICE), "it names a twice"),
    "a name twice, escaped": (content(ESCAPED), "it names a twice"),
    "a long header": (content({"a": entry()}, length=2**40), "its header has 1099511627776 bytes"),
    "a header past the end": (content({"a": entry()}, length=9000), "its header has 9000 bytes"),
    "no header": (content(b"", length=0), "its header has 0 bytes"),
    "nested": (content(b'{"a":' * 20_000), "its header cannot be read"),
    "no object": (content(b'["a"]'), "Expected `object`"),
    "no UTF-8": (content(b'{"\xff":1}'), "its header cannot be read"),
    "seven bytes": (b"\1\0\0\0\0\0\0", "it has 7 bytes"),
}


class FakeHub:
    """The bytes of one file, in the place of a HubFolder."""

    def __init__(self, data):
        self.data = data

    def fetch(self, name, start, stop):
        return self.data[start:stop], len(self.data)

    def __str__(self):
        return "org/name"


@pytest.mark.parametrize("case", LIES)
def test_a_header_that_lies_is_refused(tmp_path, case):
    data, message = LIES[case]
    path = tmp_path / "a.safetensors"
    path.write_bytes(data)
    with pytest.raises(WideneckError, match=message) as here:
        read_head(path)
    with pytest.raises(WideneckError, match=message) as remote:
        RemoteSafetensors(FakeHub(data), "a.safetensors")
    assert str(here.value).startswith(f"{path}: its header")
    assert str(remote.value).startswith("a.safetensors of org/name: its header")
    for caught in (here, remote):
        assert "\n" not in str(caught.value)


def good_file(path, **tensors):
    save_file(tensors, path, metadata={"format": "pt", "note": 'a "quoted" data_offsets'})
    return path


def test_every_type_and_shape_is_read_as_it_was_written(tmp_path):
    tensors = {
        "f64": torch.randn(5, 3, dtype=torch.float64),
        "f32": torch.randn(7, 2, 3),
        "f16": torch.randn(4).half(),
        "bf16": torch.randn(1, 9).bfloat16(),
        "empty": torch.empty(0, 4),
        "columns": torch.empty(4, 0),
        "b": torch.zeros(3, dtype=torch.uint8),
    }
    path = good_file(tmp_path / "a.safetensors", **tensors)
    remote = RemoteSafetensors(FakeHub(path.read_bytes()), path.name)
    for file in (SafetensorsFile(path), remote):
        assert sorted(file.names()) == sorted(tensors)
        for name, tensor in tensors.items():
            assert file.shape(name) == tuple(tensor.shape)
            if tensor.is_floating_point():
                assert file.dtype(name) == str(tensor.dtype).removeprefix("torch.")
                assert torch.equal(file.read(name), tensor)
                half, whole = len(tensor) // 2, len(tensor)
                assert torch.equal(file.rows(name, 0, half), tensor[:half])
                assert torch.equal(file.rows(name, half, whole), tensor[half:])
        assert file.dtype("b") == "U8"


def test_a_header_without_padding_is_read(tmp_path):
    """As other writers make them: the numbers then begin at an odd byte."""
    weight = torch.randn(V, D)
    text = json.dumps({"lm_head.weight": entry((V, D), 0, V * D * 4)}).encode()
    text += b" " * (1 - len(text) % 2)
    path = tmp_path / "a.safetensors"
    path.write_bytes(struct.pack("<Q", len(text)) + text + weight.numpy().tobytes())
    assert len(text) % 2 == 1
    assert torch.equal(read_head(path).weight, weight)


def test_a_file_that_may_only_be_read_is_read(tmp_path):
    path = good_file(tmp_path / "a.safetensors", **{"lm_head.weight": torch.randn(V, D)})
    path.chmod(0o400)
    assert read_head(path).weight.shape == (V, D)


def test_a_file_that_shrinks_while_it_is_read_is_refused(tmp_path):
    path = good_file(tmp_path / "a.safetensors", **{"lm_head.weight": torch.randn(V, D)})
    file = SafetensorsFile(path)
    assert len(file.rows("lm_head.weight", 0, 3)) == 3
    with path.open("r+b") as stream:
        stream.truncate(2000)
    with pytest.raises(WideneckError, match=r"a\.safetensors has changed while it was read"):
        file.rows("lm_head.weight", 3, V)


def test_a_file_that_ends_early_on_the_hub_is_refused_where_it_is_read(tmp_path):
    path = good_file(tmp_path / "a.safetensors", **{"lm_head.weight": torch.randn(V, D)})
    hub = FakeHub(path.read_bytes())
    file = RemoteSafetensors(hub, path.name)
    hub.data = hub.data[:-100]
    with pytest.raises(WideneckError, match=r"lm_head\.weight cannot be read"):
        file.read("lm_head.weight")


def test_a_bias_that_is_one_number_is_refused(tmp_path):
    path = tmp_path / "a.safetensors"
    save_file({"lm_head.weight": torch.randn(V, D), "lm_head.bias": torch.tensor(1.0)}, path)
    with pytest.raises(WideneckError, match=r"lm_head\.bias .* it is a single number"):
        read_head(path)


def test_a_bias_that_is_packed_is_refused(tmp_path):
    path = tmp_path / "a.safetensors"
    bias = torch.zeros(V, dtype=torch.int8)
    save_file({"lm_head.weight": torch.randn(V, D), "lm_head.bias": bias}, path)
    with pytest.raises(WideneckError, match=r"lm_head\.bias is stored as I8"):
        read_head(path)


def many(names):
    return {f"layers.{i // 1000}.experts.{i % 1000}.up.weight": i for i in range(names)}


def seconds(path):
    start = time.process_time()
    assert read_head(path).name == "lm_head.weight"
    return time.process_time() - start


def test_fifty_thousand_names_take_half_a_second(tmp_path):
    """A million then take ten: of a file, and of an index that names as many files."""
    head = V * D * 4
    header = {name: entry((1,), head + i, head + i + 1, "U8") for name, i in many(50_000).items()}
    header["lm_head.weight"] = entry((V, D), 0, head)
    path = tmp_path / "a.safetensors"
    text = json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + bytes(range(1, 9)) * (head // 8))
    with path.open("ab") as file:
        file.write(bytes(50_000))
    assert seconds(path) < 0.5

    folder = tmp_path / "index"
    folder.mkdir()
    save_file({"lm_head.weight": torch.randn(V, D)}, folder / "head.safetensors")
    index = {name: f"shard-{i}.safetensors" for name, i in many(50_000).items()}
    index["lm_head.weight"] = "head.safetensors"
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": index}))
    assert seconds(folder) < 0.5
