"""Heads that bitsandbytes has quantized on a CPU, against what it decodes them to itself.

`dequantize_4bit` of 0.50.2 on a CPU with AVX-512 is wrong where the number of columns is a multiple
of 16 and none of the block, by as much as the numbers themselves (docs/upstream.md).  So tables and
scales are multiplied by `dequantize_blockwise`, which is right for every size.
"""

import json

import bitsandbytes.functional as bnb
import pytest
import torch
from safetensors.torch import save_file

from wideneck.models import read_head

SIZES = [(203, 96), (37, 25), (41, 64), (40, 128), (300, 200)]
WHAT = "a head in nf4, fp4 or LLM.int8, read by the audit"


def read(folder, parts, rows):
    text = {"model_type": "a-model", "vocab_size": rows}
    (folder / "config.json").write_text(json.dumps(text))
    save_file({f"lm_head.{part}": x for part, x in parts.items()}, folder / "model.safetensors")
    return read_head(folder)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("kind", ["nf4", "fp4"])
@pytest.mark.parametrize("nested", [False, True])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_four_bits_are_what_the_library_decodes(shows, tmp_path, size, kind, nested, dtype):
    torch.manual_seed(0)
    weight = (torch.randn(size) * 0.05).to(dtype)
    weight[3] = 0
    packed, state = bnb.quantize_4bit(weight, quant_type=kind, compress_statistics=nested)
    stored = {f"weight.{part}": x for part, x in state.as_dict(packed=True).items()}
    head = read(tmp_path, {"weight": packed, **stored}, size[0])

    nibbles = torch.stack((packed >> 4, packed & 15), dim=1).flatten()[: weight.numel()]
    absmax = state.absmax
    if nested:
        absmax = bnb.dequantize_blockwise(state.absmax, state.state2) + state.offset
    table, block = state.code, state.blocksize
    want = bnb.dequantize_blockwise(nibbles, absmax=absmax, code=table, blocksize=block)
    assert torch.equal(head.weight, want.reshape(size))
    assert head.dtype == kind
    if size[1] % block == 0 or size[1] % 16:
        assert torch.equal(head.weight.to(dtype), bnb.dequantize_4bit(packed, state))
    assert (head.weight - weight.float()).abs().max() < 0.25 * weight.float().abs().max()
    shows(WHAT, "right")


@pytest.mark.parametrize("size", SIZES)
def test_eight_bits_are_what_the_library_decodes(shows, tmp_path, size):
    torch.manual_seed(0)
    weight = (torch.randn(size) * 0.05).half()
    codes, scales, _ = bnb.int8_vectorwise_quant(weight)
    layout = torch.tensor(0, dtype=torch.uint8)
    head = read(tmp_path, {"weight": codes, "SCB": scales, "weight_format": layout}, size[0])
    assert torch.equal(head.weight, bnb.int8_vectorwise_dequant(codes, scales))
    shows(WHAT, "right")
