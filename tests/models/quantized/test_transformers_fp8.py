"""FP8 as transformers writes it, against what it decodes it to itself."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from transformers.integrations.finegrained_fp8 import Fp8Dequantize, Fp8Quantize

from quantized_files import Written, write
from wideneck.models import read_head


@pytest.mark.parametrize("form", [None, "ue8m0"])
@pytest.mark.parametrize(
    ("block", "size"), [(None, (203, 97)), ([128, 128], (256, 384)), ([16, 32], (208, 96))]
)
def test_a_head_is_what_the_library_decodes(tmp_path, form, block, size):
    """It leaves a matrix that is no multiple of the block unquantized."""
    torch.manual_seed(0)
    weight = torch.randn(size) * 0.02
    said = SimpleNamespace(weight_block_size=block, scale_fmt=form)
    quantizer = SimpleNamespace(quantization_config=said)
    stored = Fp8Quantize(quantizer).convert({"lm_head.weight": weight})
    parts = {name.removeprefix("lm_head."): x for name, x in stored.items()}
    config = {"quant_method": "fp8", "weight_block_size": block, "scale_fmt": form}
    head = read_head(write(tmp_path, Written(parts, np.empty(size), config)))
    decode = Fp8Dequantize(quantizer)._dequantize_one
    for dtype in (torch.float32, torch.bfloat16):
        want = decode(parts["weight"], parts["weight_scale_inv"], dtype)
        assert torch.equal(head.weight.to(dtype), want)
    assert (head.weight - weight).norm() < 0.05 * weight.norm()


def test_pairs_of_four_bits_are_what_the_library_decodes(tmp_path):
    """As its int8 experts: two e2m1 numbers a byte, a power of two for each 32."""
    torch.manual_seed(0)
    codes = torch.randint(-128, 128, (37, 48), dtype=torch.int8)
    scales = torch.randint(115, 122, (37, 3), dtype=torch.uint8)
    parts = {"weight": codes, "weight_scale_inv": scales.view(torch.float8_e8m0fnu)}
    head = read_head(write(tmp_path, Written(parts, np.empty((37, 96)), {"quant_method": "fp8"})))
    want = Fp8Dequantize(None)._dequantize_one(codes, scales, torch.float32)
    assert torch.equal(head.weight, want)
    assert head.dtype == "MXFP4"
