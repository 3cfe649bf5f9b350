"""The format nf4 of `rounding` against what bitsandbytes packs and decodes on a CPU.

`dequantize_4bit` is wrong for some sizes there (test_bitsandbytes.py says which), so tables and
scales are multiplied by `dequantize_blockwise`.
"""

import bitsandbytes.functional as bnb
import pytest
import torch

from wideneck.rounding import FORMATS


@pytest.mark.parametrize("size", [(203, 96), (37, 25), (41, 64), (40, 128), (300, 200), (1, 3)])
@pytest.mark.parametrize("scale", [0.05, 1e-6, 1e4])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_nf4_is_what_the_library_packs(shows, size, scale, dtype):
    torch.manual_seed(0)
    weight = (torch.randn(size) * scale).to(dtype)
    if len(weight) > 3:
        weight[3] = 0
        weight[4] *= 1e3
    packed, state = bnb.quantize_4bit(weight, quant_type="nf4", compress_statistics=False)
    assert state.blocksize == 64
    nibbles = torch.stack((packed >> 4, packed & 15), dim=1).flatten()[: weight.numel()]
    want = bnb.dequantize_blockwise(
        nibbles, absmax=state.absmax, code=state.code, blocksize=state.blocksize
    )
    assert torch.equal(FORMATS["nf4"].rounded(weight), want.reshape(size))
    shows("a head rounded to nf4 by `rounding`", "right")
