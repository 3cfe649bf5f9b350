"""Sizes and types that fit no layout, of the formats with a grid of scales."""

import numpy as np
import pytest
import torch

from quantized_files import fp8, int8, mxfp4, nvfp4, packed_integers, write
from wideneck.errors import WideneckError
from wideneck.models import read_head
from wideneck.models.quantized import eight_bits, four_bits, matrix
from wideneck.models.quantized import packed_integers as integers
from wideneck.models.quantized.stored import StoredMatrix
from wideneck.models.safetensors_file import SafetensorsFile
from wideneck.rounding.codes import MAGNITUDES


def refused(folder, message):
    with pytest.raises(WideneckError, match=message) as caught:
        read_head(folder)
    assert "\n" not in str(caught.value)


def rng():
    return np.random.default_rng(0)


@pytest.mark.parametrize("shape", [(1,), (), (1, 1), (37, 1), (37,)])
def test_one_scale_and_one_a_row_come_in_several_shapes(tmp_path, shape):
    rows = 37 if 37 in shape else 1
    case = fp8(rng(), 37, 96, (37 // rows, 96))
    case.parts["weight_scale_inv"] = case.parts["weight_scale_inv"].reshape(shape)
    assert np.array_equal(read_head(write(tmp_path, case)).weight.numpy(), case.weight)


@pytest.mark.parametrize("kind", [torch.bfloat16, torch.float16, torch.float64])
def test_scales_of_other_types_are_the_numbers_that_they_are(tmp_path, kind):
    case = fp8(rng(), 37, 96, (1, 96))
    scales = case.parts["weight_scale_inv"].to(torch.bfloat16)
    codes = case.parts["weight"].to(torch.float64)
    case.parts["weight_scale_inv"] = scales.to(kind)
    want = (codes * scales.to(torch.float64)).to(torch.float32)
    assert torch.equal(read_head(write(tmp_path, case)).weight, want)


@pytest.mark.parametrize("stored", [torch.uint8, torch.float8_e8m0fnu])
def test_scales_by_their_exponents_are_powers_of_two(tmp_path, stored):
    """As `scale_fmt: ue8m0`, and as MXFP8 with 32 columns a scale."""
    case = fp8(rng(), 37, 96, (1, 32))
    exponents = torch.from_numpy(rng().integers(110, 121, (37, 3)).astype(np.uint8))
    case.parts["weight_scale_inv"] = exponents.view(stored)
    codes = case.parts["weight"].to(torch.float64)
    scales = (exponents.to(torch.float64) - 127).exp2().repeat_interleave(32, dim=1)
    want = (codes * scales).to(torch.float32)
    assert torch.equal(read_head(write(tmp_path, case)).weight, want)


def test_the_smallest_power_is_not_zero(tmp_path):
    case = mxfp4(rng(), 37, 96)
    case.parts["weight_scale"][0, 0] = 0
    head = read_head(write(tmp_path, case)).weight[0, :32]
    assert head.abs().max() > 0
    assert head.abs().max() <= 6 * 2.0**-127


@pytest.mark.parametrize(
    ("part", "value", "message"),
    [
        ("weight_scale_inv", torch.ones(2, 3, 4), "has shape .2, 3, 4. for a weight"),
        ("weight_scale_inv", torch.ones(5), "has shape .5,. for a weight of"),
        ("weight_scale_inv", torch.ones(37, 7), "fit no block size"),
        ("weight_scale_inv", torch.ones(37, 1, dtype=torch.int32), "is of whole numbers"),
        ("weight", torch.ones(37, 96), "weight is of torch.float32 beside weight_scale_inv"),
        ("weight_zero_point", torch.ones(1, 1), "weight_zero_point belongs to integers"),
    ],
)
def test_fp8_that_does_not_fit_is_refused(tmp_path, part, value, message):
    case = fp8(rng(), 37, 96, (37, 96))
    case.parts[part] = value
    refused(write(tmp_path, case), message)


def test_a_type_that_no_layout_has_is_named(tmp_path):
    case = fp8(rng(), 37, 96, (37, 96))
    case.parts["weight"] = torch.zeros(37, 96, dtype=torch.float8_e4m3fnuz)
    refused(write(tmp_path, case), "weight is of the type F8_E4M3FNUZ")


@pytest.mark.parametrize("divides", [True, False])
def test_nvfp4_that_does_not_fit_is_refused(tmp_path, divides):
    case = nvfp4(rng(), 37, 80, divides)
    case.parts["weight_scale"] = case.parts["weight_scale"][:, :-1]
    refused(write(tmp_path, case), r"a matrix of \(37, 80\) in blocks of \(1, 16\) has \(37, 5\)")
    case = nvfp4(rng(), 37, 80, divides)
    case.parts["weight_scale"] = case.parts["weight_scale"].float()
    refused(write(tmp_path, case), "weight_scale of NVFP4 is not e4m3")
    case = nvfp4(rng(), 37, 80, divides)
    total = case.scales[-1]
    case.parts[total] = torch.ones(37)
    refused(write(tmp_path, case), f"{total} should be one number")


def test_the_two_writers_of_nvfp4_agree_on_the_same_matrix(tmp_path):
    """With scales of all that are powers of two, whose inverses are exact."""
    first, second = nvfp4(rng(), 37, 80, True), nvfp4(rng(), 37, 80, False)
    first.parts["weight_global_scale"] = torch.tensor([8192.0])
    second.parts["weight_scale_2"] = torch.tensor(1 / 8192)
    heads = []
    for case in (first, second):
        heads.append(read_head(write(tmp_path, case)).weight.clone())
    assert torch.equal(*heads)


def test_a_shape_of_packed_integers_is_of_whole_numbers(tmp_path):
    case = packed_integers(rng(), 37, 96, 4)
    case.parts["weight_shape"] = torch.tensor([37.0, 95.5])
    refused(write(tmp_path, case), "weight_shape is not of whole numbers")


@pytest.mark.parametrize("changed", ["weight_shape", "weight_scale", "weight_zero_point"])
def test_packed_integers_that_do_not_fit_are_refused(tmp_path, changed):
    case = packed_integers(rng(), 37, 96, 4, 32, zeros=True)
    wrong = {
        "weight_shape": torch.tensor([38, 96]),
        "weight_scale": torch.ones(37, 5),
        "weight_zero_point": torch.zeros(9, 3, dtype=torch.int32),
    }
    case.parts[changed] = wrong[changed]
    refused(write(tmp_path, case), f"{changed} (says|has shape)")


def test_what_is_in_the_middle_is_the_geometric_mean_of_sizes():
    assert matrix.middle(torch.tensor([0.0, 1.0, -4.0])) == pytest.approx(2.0)
    assert matrix.middle(torch.zeros(3)) == 1.0


def test_every_size_of_a_block_covers_the_matrix(tmp_path):
    """What `grid` gives a row and column is the scale of the block that they lie in."""
    case = int8(rng(), 37, 96)
    write(tmp_path, case)
    values = torch.arange(12.0).reshape(3, 4)
    blocks = matrix.Grid(values, 16, torch.arange(96) // 27)
    for start, stop in ((0, 37), (15, 17), (36, 37)):
        rows = blocks.rows(start, stop)
        for i in range(start, stop):
            for j in range(96):
                assert rows[i - start, j] == values[i // 16, j // 27]


def test_the_magnitudes_are_those_of_e2m1():
    """Two bits of exponent with bias 1, one of mantissa; no exponent, no leading one."""
    for code, magnitude in enumerate(MAGNITUDES):
        exponent, mantissa = code >> 1, code & 1
        want = mantissa / 2 if exponent == 0 else (1 + mantissa / 2) * 2 ** (exponent - 1)
        assert magnitude == want


@pytest.mark.parametrize(
    ("made", "read", "part"),
    [
        (lambda: fp8(rng(), 37, 96, (1, 96)), eight_bits.read_bytes, "weight_scale_inv"),
        (lambda: packed_integers(rng(), 37, 96, 4, 16), integers.read_packed_integers, None),
        (lambda: nvfp4(rng(), 37, 80, False), four_bits.read_nvfp4, "weight_scale_2"),
    ],
)
def test_the_scale_whose_inverse_is_asked_for_is_the_one_that_readers_confuse(
    tmp_path, made, read, part
):
    case = made()
    file = SafetensorsFile(write(tmp_path, case) / "model.safetensors")
    found = read(StoredMatrix(file, "lm_head", case.parts, case.config))
    scales = case.parts[part or "weight_scale"].double()
    assert found.typical_scale == pytest.approx(float(scales.log().mean().exp()))
