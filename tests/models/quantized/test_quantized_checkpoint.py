"""A quantized matrix stands among the tensors of a checkpoint as if it were stored plainly."""

import hashlib
import json
import time

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from checkpoints import edit_config, edit_tensors, saved
from quantized_files import fp8, int8, nvfp4, packed_integers, write, written
from tiny import D, V, tiny_model
from wideneck.errors import WideneckError
from wideneck.models import read_head
from wideneck.models.hub_folder import RemoteSafetensors
from wideneck.models.quantized.checkpoint import DecodedFile
from wideneck.models.quantized.matrix import QuantizedMatrix
from wideneck.models.quantized.stored import StoredMatrix
from wideneck.models.safetensors_file import SafetensorsFile


def llama(folder, written, name="lm_head", **config):
    """A tiny llama of which one matrix is quantized."""
    saved(tiny_model("llama-tied" if name != "lm_head" else "llama"), folder)
    full = f"{name}.weight"
    parts = {f"{name}.{part}": x for part, x in written.parts.items()}
    edit_tensors(folder, lambda tensors: {k: v for k, v in tensors.items() if k != full} | parts)
    edit_config(folder, quantization_config={"quant_method": "fp8", **written.config}, **config)
    return folder


def small():
    return int8(np.random.default_rng(1), V, D)


def test_a_quantized_head_beside_a_plain_embedding(tmp_path):
    case = small()
    head = read_head(llama(tmp_path, case))
    assert np.array_equal(head.weight.numpy(), case.weight)
    assert not head.tied
    assert head.tying == (
        "lm_head.weight and model.embed_tokens.weight are stored as int8 and float32, so their "
        "numbers differ, whether or not the original model was tied"
    )


def test_a_plain_head_beside_quantized_layers_is_read_as_before(tmp_path):
    model = tiny_model("llama")
    saved(model, tmp_path)
    before = read_head(tmp_path)
    layer = "model.layers.0.mlp.up_proj"

    def quantize(tensors):
        rows, columns = tensors[f"{layer}.weight"].shape
        case = fp8(np.random.default_rng(0), rows, columns, (rows, columns))
        return tensors | {f"{layer}.{part}": x for part, x in case.parts.items()}

    edit_tensors(tmp_path, quantize)
    head = read_head(tmp_path)
    assert torch.equal(head.weight, model.lm_head.weight)
    assert vars(head).keys() == vars(before).keys()
    assert (head.sha256, head.dtype, head.tying) == (before.sha256, before.dtype, before.tying)


def test_a_quantized_embedding_is_the_head_of_a_tied_model(tmp_path):
    case = small()
    head = read_head(llama(tmp_path, case, "model.embed_tokens"))
    assert np.array_equal(head.weight.numpy(), case.weight)
    assert (head.name, head.tied) == ("model.embed_tokens.weight", True)


@pytest.mark.parametrize("change", [None, "weight", "weight_scale"])
def test_head_and_embedding_are_compared_by_what_they_decode_to(tmp_path, change):
    case = small()
    folder = llama(tmp_path, case)
    other = {f"model.embed_tokens.{part}": x.clone() for part, x in case.parts.items()}
    if change is not None:
        part = other[f"model.embed_tokens.{change}"]
        part[50] = part[51] if change == "weight" else part[50] * 2

    def both(tensors):
        return {k: v for k, v in tensors.items() if "embed_tokens" not in k} | other

    edit_tensors(folder, both)
    assert read_head(folder).tied == (change is None)


def test_the_hash_is_of_what_the_numbers_depend_on(tmp_path):
    case = nvfp4(np.random.default_rng(0), 37, 80, divides=True)
    first = read_head(write(tmp_path, case)).sha256
    digest = hashlib.sha256()
    for part in ("weight_global_scale", "weight_packed", "weight_scale"):
        digest.update(case.parts[part].view(torch.uint8).numpy().tobytes())
    assert first == digest.hexdigest()
    case.parts["input_global_scale"] = torch.tensor([4.0])
    assert read_head(write(tmp_path, case)).sha256 == first
    case.parts["weight_packed"][3, 3] ^= 1
    assert read_head(write(tmp_path, case)).sha256 != first


def test_a_bias_beside_a_quantized_matrix_is_the_heads(tmp_path):
    saved(tiny_model("phi"), tmp_path)
    bias = tiny_model("phi").lm_head.bias
    case = small()
    parts = {f"lm_head.{part}": x for part, x in case.parts.items()}
    edit_tensors(tmp_path, lambda t: {k: v for k, v in t.items() if k != "lm_head.weight"} | parts)
    head = read_head(tmp_path)
    assert np.array_equal(head.weight.numpy(), case.weight)
    assert head.bias is not None
    assert torch.equal(head.bias, bias)


def test_a_head_of_another_shape_than_the_config_says_is_refused(tmp_path):
    case = int8(np.random.default_rng(0), V + 8, D)
    with pytest.raises(WideneckError, match=r"lm_head\.weight has shape \(104, 16\), but config"):
        read_head(llama(tmp_path, case))


def test_a_quantized_matrix_that_is_transposed_is_refused(tmp_path):
    case = int8(np.random.default_rng(0), D, V)
    with pytest.raises(WideneckError, match=r"the matrix is transposed"):
        read_head(llama(tmp_path, case))


def test_a_quantized_head_of_a_draft_is_not_the_models(tmp_path):
    case = small()
    head = read_head(llama(tmp_path, case))
    draft = int8(np.random.default_rng(5), V, D)
    parts = {f"mtp.lm_head.{part}": x for part, x in draft.parts.items()}
    edit_tensors(tmp_path, lambda tensors: tensors | parts)
    assert read_head(tmp_path).sha256 == head.sha256


def test_codes_that_are_no_numbers_are_refused(tmp_path):
    case = fp8(np.random.default_rng(0), 37, 96, (1, 96))
    case.parts["weight"].view(torch.uint8)[7, 3] = 0x7F  # NaN of e4m3
    with pytest.raises(WideneckError, match=r"lm_head\.weight holds 1 NaN .* row 7 of 37"):
        read_head(write(tmp_path, case))


def test_the_config_of_a_text_part_says_how_large_blocks_are(tmp_path):
    """300 columns in three blocks: of 128, the last of 44, or of 100."""
    case = fp8(np.random.default_rng(0), 139, 300, (139, 100))
    said = case.config
    case.config = {}
    inner = {"text_config": {"vocab_size": 139, "quantization_config": said}}
    head = read_head(write(tmp_path, case, **inner))
    assert np.array_equal(head.weight.numpy(), case.weight)
    with pytest.raises(WideneckError, match=r"\(1, 3\) scales in weight_scale_inv fit the blocks"):
        read_head(write(tmp_path, case))


def test_blocks_of_which_the_config_says_nothing_are_those_that_alone_fit(tmp_path):
    case = fp8(np.random.default_rng(0), 139, 157, (128, 128))
    case.config = {}
    assert np.array_equal(read_head(write(tmp_path, case)).weight.numpy(), case.weight)
    case.config = {"weight_block_size": [64, 64]}
    with pytest.raises(WideneckError, match="fit no block size"):
        read_head(write(tmp_path, case))


def test_bits_of_which_two_fit_are_those_of_the_config(tmp_path):
    """Five numbers of 5 or of 6 bits take one word."""
    case = packed_integers(np.random.default_rng(0), 37, 5, 5)
    assert np.array_equal(read_head(write(tmp_path, case)).weight.numpy(), case.weight)
    case.config = {}
    with pytest.raises(WideneckError, match="1 words of 32 bits in a row of 5 numbers"):
        read_head(write(tmp_path, case))


def test_rows_are_decoded_without_the_others(tmp_path):
    case = written("nf4")
    file = DecodedFile(SafetensorsFile(write(tmp_path, case) / "model.safetensors"), {})
    assert file.names() == ["lm_head.weight"]
    assert file.shape("lm_head.weight") == case.weight.shape
    for start, stop in ((0, 1), (3, 20), (36, 37)):
        rows = file.rows("lm_head.weight", start, stop)
        assert np.array_equal(rows.numpy(), case.weight[start:stop])


class CountingHub:
    """The bytes of one file, in the place of a HubFolder, and how many were fetched."""

    def __init__(self, data):
        self.data, self.fetched = data, 0

    def fetch(self, name, start, stop):
        self.fetched += stop - start
        return self.data[start:stop], len(self.data)

    def __str__(self):
        return "org/name"


@pytest.mark.parametrize("name", ["nvfp4 multiplied", "nf4 nested", "int3 groups, zeros", "awq"])
def test_on_the_hub_the_bytes_are_fetched_once(tmp_path, name):
    case = written(name)
    hub = CountingHub((write(tmp_path, case) / "model.safetensors").read_bytes())
    file = DecodedFile(RemoteSafetensors(hub, "a.safetensors"), {})
    assert np.array_equal(file.read("lm_head.weight").numpy(), case.weight)
    file.sha256("lm_head.weight")
    assert hub.fetched <= len(hub.data)


def test_parts_are_read_once_and_kept(tmp_path):
    case = written("int8 row")
    write(tmp_path, case)
    file = SafetensorsFile(tmp_path / "model.safetensors")
    stored = StoredMatrix(file, "lm_head", case.parts, {})
    assert torch.equal(stored.rows("weight", 3, 5), case.parts["weight"][3:5])
    assert stored.whole("weight") is stored.whole("weight")
    with pytest.raises(WideneckError, match=r"weight_scale should be one number"):
        stored.number("weight_scale")
    with pytest.raises(WideneckError, match=r"weight is of whole numbers"):
        stored.floats("weight")


def test_a_matrix_without_columns_is_decoded_to_nothing():
    empty = QuantizedMatrix(
        shape=(3, 0),
        dtype="int8",
        rounding=1.0,
        rows=lambda start, stop: torch.empty(stop - start, 0),
        typical_scale=1.0,
        parts=(),
    )
    assert empty.whole().shape == (3, 0)


def test_fifty_thousand_quantized_experts_take_half_a_second(tmp_path):
    case = small()
    write(tmp_path, case)
    tensors = load_file(tmp_path / "model.safetensors")
    (tmp_path / "model.safetensors").unlink()
    save_file(tensors, tmp_path / "head.safetensors")
    weight_map = dict.fromkeys(tensors, "head.safetensors")
    for i in range(25_000):
        for part in ("weight", "weight_scale_inv"):
            weight_map[f"layers.{i // 1000}.experts.{i % 1000}.up.{part}"] = (
                f"shard-{i}.safetensors"
            )
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps({"weight_map": weight_map}))
    start = time.process_time()
    assert read_head(tmp_path).dtype == "int8"
    assert time.process_time() - start < 0.5


@pytest.mark.parametrize("name", ["lm_head", "model.lm_head"])
def test_no_other_matrix_stands_in_for_a_head_that_is_not_read(tmp_path, name):
    """The draft's head and the one of a looser name fit, too."""
    llama(tmp_path, small())
    parts = {f"{name}.{part}": x for part, x in small().parts.items()}
    parts |= {f"{name}.weight_g_idx": torch.zeros(D), "embed_out.weight": torch.randn(V, D)}
    head = ("lm_head.weight", "lm_head.weight_scale")
    edit_tensors(
        tmp_path, lambda tensors: {k: tensors[k] for k in tensors if k not in head} | parts
    )
    with pytest.raises(WideneckError, match="nothing says what weight_g_idx does to it"):
        read_head(tmp_path)
    (tmp_path / "config.json").unlink()
    with pytest.raises(WideneckError, match="nothing says what weight_g_idx does to it"):
        read_head(tmp_path)


@pytest.mark.parametrize("quantized", [True, False])
def test_a_bias_for_which_the_model_has_no_place_is_refused_unless_it_is_zero(tmp_path, quantized):
    if quantized:
        llama(tmp_path, small())
    else:
        saved(tiny_model("llama"), tmp_path)
    edit_tensors(tmp_path, lambda tensors: tensors | {"lm_head.bias": torch.zeros(V)})
    assert read_head(tmp_path).bias is None
    one = torch.zeros(V).index_fill(0, torch.tensor(V - 1), 0.5)
    edit_tensors(tmp_path, lambda tensors: tensors | {"lm_head.bias": one})
    with pytest.raises(
        WideneckError, match=r"holds lm_head\.bias, and the model of config.json has"
    ):
        read_head(tmp_path)


def test_blocks_that_divide_the_matrix_are_not_taken_for_partial_ones_of_a_usual_size(tmp_path):
    """1,000 rows are 4 blocks of 250 rows, and of 256."""
    case = fp8(np.random.default_rng(0), 1000, 32, (256, 32))
    assert np.array_equal(read_head(write(tmp_path, case)).weight.numpy(), case.weight)
    case.config = {}
    with pytest.raises(WideneckError, match=r"fit the blocks \[\(250, 32\), \(256, 32\)\]"):
        read_head(write(tmp_path, case))


def test_words_that_are_not_full_are_not_read_as_more_bits(tmp_path):
    """Four numbers of 7 bits in a word take the place of four of 8, and only the config tells."""
    case = packed_integers(np.random.default_rng(0), 37, 96, 8)
    case.config = {"config_groups": {"group_0": {"weights": {"num_bits": 7}}}}
    with pytest.raises(
        WideneckError, match=r"24 words .* 96 numbers of \[7\] bits, as config.json"
    ):
        read_head(write(tmp_path, case))


def test_groups_of_another_size_than_the_config_says_are_refused(tmp_path):
    case = packed_integers(np.random.default_rng(0), 37, 96, 4, 32)
    of = case.config["config_groups"]["group_0"]["weights"]
    of["group_size"] = 32
    assert np.array_equal(read_head(write(tmp_path, case)).weight.numpy(), case.weight)
    of["group_size"] = 64
    with pytest.raises(WideneckError, match=r"groups of 32 columns, and config.json says \[64\]"):
        read_head(write(tmp_path, case))
