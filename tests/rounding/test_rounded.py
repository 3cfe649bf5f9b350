"""Every format against the library or the list of numbers that defines it.

compressed-tensors and bitsandbytes are not installed: tests/clients has theirs.
"""

import gguf
import numpy as np
import pytest
import torch

from wideneck.errors import WideneckError
from wideneck.rounding import FORMATS
from wideneck.rounding.codes import E2M1, E4M3, MAGNITUDES, NF4, Integers, NormalFloats
from wideneck.rounding.gguf_blocks import GgufBlocks
from wideneck.rounding.scaled import Scaled

GGUF = [name for name, one in FORMATS.items() if isinstance(one, GgufBlocks)]
SCALED = [name for name, one in FORMATS.items() if isinstance(one, Scaled)]


def weights(rows=203, columns=320, scale=0.05):
    """Normal numbers; rows that are small, large, all 0, one number alone, and ties."""
    torch.manual_seed(0)
    weight = torch.randn(rows, columns) * scale
    weight[1] *= 1e-3
    weight[2] *= 50
    weight[3] = 0
    weight[4, 1:] = 0
    weight[5] = (torch.arange(columns) % 16 - 8) * 0.5
    return weight


@pytest.mark.parametrize("scale", [0.05, 1e-7, 1e3])
@pytest.mark.parametrize("name", GGUF)
def test_blocks_of_gguf_are_what_its_package_reads(name, scale):
    weight = weights(scale=scale)
    kind = gguf.GGMLQuantizationType[name]
    stored = gguf.quantize(weight.numpy(), kind)
    want = torch.from_numpy(gguf.dequantize(stored, kind))
    assert torch.equal(FORMATS[name].rounded(weight), want)
    assert FORMATS[name].num_bytes(*weight.shape) == stored.nbytes


@pytest.mark.parametrize("name", GGUF)
def test_the_usual_scales_are_those_that_the_package_stores(name):
    weight = weights()
    weight[:, 0] = torch.where(torch.arange(203) % 2 == 0, 2.0, -2.0)  # either sign is the largest
    kind = gguf.GGMLQuantizationType[name]
    stored = torch.from_numpy(gguf.quantize(weight.numpy(), kind)).unflatten(1, (10, -1))
    want = stored[:, :, :2].contiguous().view(torch.float16)[:, :, 0].float()
    grid = FORMATS[name].grid(320)
    assert torch.equal(grid.scales(weight, grid.total(weight)), want)


def test_mxfp4_is_what_the_package_of_gguf_reads():
    """But for numbers half way between two codes, which it takes towards 0."""
    weight = weights()
    weight[5] = weight[6]
    kind = gguf.GGMLQuantizationType.MXFP4
    stored = gguf.quantize(weight.numpy(), kind)
    want = torch.from_numpy(gguf.dequantize(stored, kind))
    assert torch.equal(FORMATS["MXFP4"].rounded(weight), want)
    assert FORMATS["MXFP4"].num_bytes(*weight.shape) == stored.nbytes


def test_bfloat16_is_that_of_torch_and_of_gguf():
    weight = weights()
    kind = gguf.GGMLQuantizationType.BF16
    stored = gguf.quantize(weight.numpy(), kind)
    want = torch.from_numpy(gguf.dequantize(stored, kind))
    assert torch.equal(FORMATS["bf16"].rounded(weight), want)
    assert FORMATS["bf16"].num_bytes(*weight.shape) == stored.nbytes


def test_e4m3_is_that_of_torch():
    values = torch.arange(256).to(torch.uint8).view(torch.float8_e4m3fn).float()
    values = values[values.isfinite()]
    middles = (values.sort().values[1:] + values.sort().values[:-1]) / 2
    torch.manual_seed(0)
    numbers = torch.cat([values, middles, *(torch.randn(5000) * 10.0**k for k in range(-5, 4))])
    want = numbers.clamp(-448, 448).to(torch.float8_e4m3fn).float()
    assert torch.equal(E4M3().nearest(numbers), want)


def table(codes):
    """All numbers of codes, in float64."""
    if isinstance(codes, Integers):
        return torch.arange(codes.low, codes.high + 1).double()
    if isinstance(codes, E4M3):
        values = torch.arange(256).to(torch.uint8).view(torch.float8_e4m3fn).double()
        return values[values.isfinite()]
    if isinstance(codes, NormalFloats):
        return torch.tensor(NF4).double()
    assert isinstance(codes, E2M1)
    return torch.tensor([*MAGNITUDES, *(-x for x in MAGNITUDES)]).double()


def slow_scale(grid, block, weight):
    """The usual scale of one block, one step after the other as the libraries describe it."""
    size = block.abs().max().item()
    if grid.kind == "power of two":
        return 2.0 ** max(int(np.floor(np.log2(size))) - 2, -127) if size else 2.0**-127
    if grid.kind == "e4m3":
        total = torch.tensor(448 * 6.0) / weight.abs().max()
        scale = (torch.tensor(size) / 6 * total).clamp_max(448).to(torch.float8_e4m3fn)
        return (scale.float() / total).item()
    scale = torch.tensor(size) / grid.largest
    return (scale.bfloat16() if grid.kind == "bfloat16" else scale).float().item()


def distances(codes, scaled):
    return (scaled.flatten()[:, None] - table(codes)).abs().amin(1).reshape(scaled.shape)


@pytest.mark.parametrize("name", SCALED)
def test_every_number_is_the_nearest_under_the_scale_of_its_block(name):
    grid = FORMATS[name].cut
    weight = weights(130, 192)
    found = FORMATS[name].rounded(weight).double()
    height, width = grid.rows or 130, grid.columns or 192
    for top in range(0, 130, height):
        for left in range(0, 192, width):
            at = slice(top, top + height), slice(left, left + width)
            scale = slow_scale(grid, weight[at], weight)
            if scale == 0:
                assert not found[at].any()
                continue
            codes = found[at] / scale
            assert distances(grid.codes, codes).max() < 1e-4  # it is one of the numbers
            error = (codes - weight[at].double() / scale).abs()
            assert (error <= distances(grid.codes, weight[at].double() / scale) + 1e-4).all()


@pytest.mark.parametrize("size", [(40, 128), (37, 25), (1, 3), (3, 64)])
def test_nf4_runs_on_from_row_to_row(size):
    torch.manual_seed(0)
    weight = torch.randn(size) * 0.05
    want = []
    for block in weight.flatten().split(64):
        scaled = block / block.abs().max()
        nearest = (scaled[:, None] - torch.tensor(NF4)).abs().argmin(1)
        want.append(torch.tensor(NF4)[nearest] * block.abs().max())
    torch.testing.assert_close(FORMATS["nf4"].rounded(weight).flatten(), torch.cat(want))
    numbers = weight.numel()
    assert FORMATS["nf4"].num_bytes(*size) == -(-numbers // 2) + 4 * -(-numbers // 64)


@pytest.mark.parametrize("name", FORMATS)
def test_a_matrix_that_is_stored_so_already_stays(name):
    """As far as the largest number of a block is the code that its scale is made for."""
    weight = weights(64, 512)
    once = FORMATS[name].rounded(weight)
    if name in ("int8 row", "int4 g64", "NVFP4", "Q5_0", "Q4_0", "Q6_K"):
        pytest.skip("its scale is not that of the largest number it decodes to")
    torch.testing.assert_close(FORMATS[name].rounded(once), once, rtol=1e-6, atol=0)


@pytest.mark.parametrize("name", FORMATS)
def test_zeros_and_other_types_of_float(name):
    weight = weights(256, 512)
    one = FORMATS[name]
    found = one.rounded(weight)
    assert found.dtype == torch.float32
    assert not found[3].any()
    assert torch.equal(one.rounded(weight.double()), found)
    half = weight.bfloat16()
    assert torch.equal(one.rounded(half), one.rounded(half.float()))
    assert torch.equal(weight, weights(256, 512))  # left as it was


@pytest.mark.parametrize("name", FORMATS)
def test_many_rows_are_rounded_like_few(name, monkeypatch):
    weight = weights(700, 256)
    whole = FORMATS[name].rounded(weight)
    monkeypatch.setattr("wideneck.rounding.rows.BLOCK", 256 * 128)
    assert torch.equal(FORMATS[name].rounded(weight), whole)


BITS = {
    "bf16": 16,
    "fp8 tensor": 8,
    "fp8 row": 8 + 32 / 512,
    "fp8 128x128": 8 + 32 / 128**2,
    "int8 row": 8 + 32 / 512,
    "Q8_0": 8.5,
    "Q6_K": 6.5625,
    "Q5_0": 5.5,
    "Q4_0": 4.5,
    "nf4": 4.5,
    "NVFP4": 4.5,
    "MXFP4": 4.25,
    "int4 g64": 4.25,
}


def test_bytes_are_those_of_codes_and_scales():
    assert list(BITS) == list(FORMATS)
    for name, bits in BITS.items():
        one_for_all = 4 * (name in ("fp8 tensor", "NVFP4"))
        assert FORMATS[name].num_bytes(256, 512) == bits * 256 * 512 / 8 + one_for_all
    assert FORMATS["fp8 128x128"].num_bytes(129, 130) == 129 * 130 + 4 * 4


@pytest.mark.parametrize(
    ("name", "columns"),
    [("Q8_0", 32), ("Q4_0", 32), ("NVFP4", 16), ("MXFP4", 32), ("int4 g64", 64)],
)
def test_rows_that_are_no_whole_blocks_are_refused(name, columns):
    assert FORMATS[name].refusal(7, 3 * columns) is None
    assert f"no multiple of the {columns}" in FORMATS[name].refusal(7, 3 * columns + 8)
    with pytest.raises(WideneckError, match=f"{name} does not fit this matrix: its"):
        FORMATS[name].rounded(torch.zeros(7, 3 * columns + 8))


@pytest.mark.parametrize("name", FORMATS)
def test_the_noise_model_has_the_variance_of_the_errors(name):
    if name == "Q6_K":
        pytest.skip("test_q6_k.py")
    torch.manual_seed(0)
    weight = torch.randn(512, 512) * (torch.rand(512, 1) + 0.1) * 0.1
    variance = FORMATS[name].variance(weight)
    if name in ("nf4", "NVFP4", "MXFP4"):
        assert variance is None
        return
    error = (FORMATS[name].rounded(weight) - weight).double().square()
    assert variance.shape == weight.shape
    # It leaves out what is clipped, at 7.5 of 7 in four bits, and that the largest is exact.
    assert 0.95 < error.mean() / variance.double().mean() < 1.08
    ratio = error.mean(1) / variance.double().mean(1)
    assert 0.7 < ratio.min() < ratio.max() < 1.4


def test_the_noise_of_floats_is_that_of_the_closed_forms():
    """cheap_heads.md 3.2: 2.75e-6 w^2 and 7.0e-4 w^2 on average over mantissas."""
    weight = torch.logspace(-1, 1, 2**14).reshape(128, 128)
    share = FORMATS["bf16"].variance(weight) / weight.square()
    torch.testing.assert_close(share.mean().item(), 2.75e-6, rtol=0.02, atol=0)
    share = FORMATS["fp8 tensor"].variance(weight) / weight.square()
    torch.testing.assert_close(share.mean().item(), 7.0e-4, rtol=0.02, atol=0)
