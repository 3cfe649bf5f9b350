"""Formats of `rounding` against the scales, codes and numbers of compressed-tensors."""

import pytest
import torch
from compressed_tensors.quantization import QuantizationArgs
from compressed_tensors.quantization.lifecycle.forward import fake_quantize
from compressed_tensors.quantization.utils import calculate_qparams, generate_gparam

from wideneck.rounding import FORMATS

WHAT = "a head rounded to each of its formats by `rounding`"
FLOAT8 = {"num_bits": 8, "type": "float"}
FLOAT4 = {"num_bits": 4, "type": "float"}
KINDS = {
    "fp8 tensor": {**FLOAT8, "strategy": "tensor"},
    "fp8 row": {**FLOAT8, "strategy": "channel"},
    "fp8 128x128": {**FLOAT8, "strategy": "block", "block_structure": [128, 128]},
    "int8 row": {"num_bits": 8, "type": "int", "strategy": "channel"},
    "int4 g64": {"num_bits": 4, "type": "int", "strategy": "group", "group_size": 64},
    "NVFP4": {
        **FLOAT4,
        "strategy": "tensor_group",
        "group_size": 16,
        "scale_dtype": torch.float8_e4m3fn,
    },
    "MXFP4": {**FLOAT4, "strategy": "group", "group_size": 32, "scale_dtype": torch.uint8},
}


def weights(rows, columns, scale):
    """Normal numbers, some rows of which are small, large, all 0 or a few."""
    torch.manual_seed(rows)
    weight = torch.randn(rows, columns) * scale
    weight[1] *= 1e-3
    weight[2] *= 50
    weight[3] = 0
    weight[4, 1:] = 0
    weight[5] = torch.arange(columns) * scale / 7  # ties
    return weight


def blocks(weight, args):
    """The numbers that share a scale, along the last dimension."""
    if args.strategy == "tensor":
        return weight.flatten()
    if args.strategy == "channel":
        return weight
    if args.strategy == "block":
        height, width = args.block_structure
        rows, columns = weight.shape
        padded = torch.zeros(-(-rows // height) * height, -(-columns // width) * width)
        padded[:rows, :columns] = weight
        cut = padded.reshape(-1, height, padded.shape[1] // width, width)
        return cut.transpose(1, 2).flatten(2)
    return weight.unflatten(1, (-1, args.group_size))


@pytest.mark.parametrize("scale", [0.05, 1e-4, 300.0])
@pytest.mark.parametrize("size", [(203, 320), (128, 192), (7, 64)])
@pytest.mark.parametrize("name", KINDS)
def test_a_matrix_is_rounded_as_the_library_rounds_it(shows, name, size, scale):
    args = QuantizationArgs(symmetric=True, **KINDS[name])
    weight = weights(*size, scale)
    total = None
    if name == "NVFP4":
        total = generate_gparam(weight.min(), weight.max())
    low, high = blocks(weight, args).aminmax(dim=-1)
    scales, _ = calculate_qparams(low, high, args, global_scale=total)
    if name == "fp8 row" or name == "int8 row":
        scales = scales[:, None]
    if name == "int4 g64":
        scales = scales.bfloat16().float()
    if name == "MXFP4":  # the library's own choice is twice the specification's from 1.75 on
        usual = FORMATS[name].cut.scales(weight, torch.ones(()))
        large = (weight.unflatten(1, (-1, 32)).abs().amax(2) / usual / 4) >= 1.75
        assert torch.equal(scales, torch.where(large, 2 * usual, usual))
        scales = usual
    want = fake_quantize(weight, scales, torch.zeros_like(scales), args, global_scale=total)
    found = FORMATS[name].rounded(weight)
    assert torch.equal(found, want)
    shows(WHAT, "right")
