"""Heads that compressed-tensors has packed, against what it decodes them to itself.

It rounds each product to the type of its scales, and we keep float32: rounded alike, the two are
equal bit for bit.
"""

import json

import pytest
import torch
from compressed_tensors.compressors import BaseCompressor
from compressed_tensors.quantization import QuantizationArgs, QuantizationScheme
from safetensors.torch import save_file

from wideneck.models import read_head

FP8 = {"num_bits": 8, "type": "float"}
FP4 = {"num_bits": 4, "type": "float"}
INT8 = {"num_bits": 8, "type": "int"}


def groups(weight, size):
    """The largest magnitude of each group of columns."""
    return weight.unflatten(1, (-1, size)).abs().amax(2)


def power_of_two(values):
    return torch.exp2(torch.floor(torch.log2(values)))


def zeros(bits, shape):
    half = 1 << (bits - 1)
    return torch.randint(-half, half, shape, dtype=torch.int8)


def tensor(weight):
    scale = (weight.abs().max() / 448).reshape(1)
    return "float-quantized", {**FP8, "strategy": "tensor"}, {"weight_scale": scale}


def channel(weight):
    scale = weight.abs().amax(1, keepdim=True) / 448
    return "float-quantized", {**FP8, "strategy": "channel"}, {"weight_scale": scale}


def block(weight):
    scale = torch.rand(2, 3, dtype=weight.dtype) * 1e-3 + 1e-4
    args = {**FP8, "strategy": "block", "block_structure": [128, 128]}
    return "float-quantized", args, {"weight_scale": scale}


def int8(weight):
    scale = weight.abs().amax(1, keepdim=True) / 127
    return "int-quantized", {**INT8, "strategy": "channel"}, {"weight_scale": scale}


def packed(bits):
    def made(weight):
        scale = weight.abs().amax(1, keepdim=True) / (1 << (bits - 1))
        args = {"num_bits": bits, "type": "int", "strategy": "channel"}
        return "pack-quantized", args, {"weight_scale": scale}

    return made


def packed_groups(bits):
    def made(weight):
        scale = groups(weight, 20) / (1 << (bits - 1))
        args = {"num_bits": bits, "type": "int", "strategy": "group", "group_size": 20}
        zero = zeros(bits, scale.shape)
        parts = {"weight_scale": scale, "weight_zero_point": zero}
        return "pack-quantized", {**args, "symmetric": False}, parts

    return made


def nvfp4(weight):
    weight = weight.float()
    total = (448 * 6 / weight.abs().max()).reshape(1)
    scale = (groups(weight, 16) / 6 * total).to(torch.float8_e4m3fn).float()
    args = {**FP4, "strategy": "tensor_group", "group_size": 16}
    return "nvfp4-pack-quantized", args, {"weight_scale": scale, "weight_global_scale": total}


def mxfp(name, bits, offset):
    def made(weight):
        scale = power_of_two(groups(weight, 32).float()) / 2**offset
        args = {"num_bits": bits, "type": "float", "strategy": "group", "group_size": 32}
        return name, {**args, "scale_dtype": torch.uint8}, {"weight_scale": scale}

    return made


LAYOUTS = {
    "tensor": (tensor, 203, 300),
    "channel": (channel, 203, 300),
    "block": (block, 203, 300),
    "int8": (int8, 203, 300),
    **{f"int{b}": (packed(b), 37, 91) for b in range(2, 9)},
    **{f"int{b} groups": (packed_groups(b), 37, 100) for b in range(2, 9)},
    "nvfp4": (nvfp4, 37, 80),
    "mxfp4": (mxfp("mxfp4-pack-quantized", 4, 2), 37, 96),
    "mxfp8": (mxfp("mxfp8-quantized", 8, 8), 37, 96),
}


@pytest.mark.parametrize("name", LAYOUTS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_head_is_what_the_library_decodes(shows, tmp_path, name, dtype):
    made, rows, columns = LAYOUTS[name]
    torch.manual_seed(0)
    weight = (torch.randn(rows, columns) * 0.02).to(dtype)
    layout, args, scales = made(weight)
    args = QuantizationArgs(**{"symmetric": True, **args})
    scheme = QuantizationScheme(targets=["Linear"], weights=args)
    compressor = BaseCompressor.get_value_from_registry(layout)
    stored = compressor.compress({"weight": weight, **scales}, scheme)
    want = compressor.decompress(dict(stored), scheme)["weight"]

    said = json.loads(scheme.model_dump_json())
    config = {"quant_method": "compressed-tensors", "config_groups": {"group_0": said}}
    text = {"model_type": "a-model", "vocab_size": rows, "quantization_config": config}
    (tmp_path / "config.json").write_text(json.dumps(text))
    parts = {f"lm_head.{part}": x.contiguous() for part, x in stored.items()}
    save_file(parts, tmp_path / "model.safetensors")
    head = read_head(tmp_path)
    assert torch.equal(head.weight.to(want.dtype), want)
    shows("a head in each of its layouts, read by the audit", "right")
