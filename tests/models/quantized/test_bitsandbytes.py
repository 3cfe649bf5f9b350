"""The JSON in a tensor is a stranger's, and so are the tables beside it."""

import json

import numpy as np
import pytest
import torch

from quantized_files import bits_and_bytes, write
from wideneck.errors import WideneckError
from wideneck.models import read_head
from wideneck.models.quantized.bitsandbytes import LARGEST_STATE, STATE


def made(**rest):
    return bits_and_bytes(np.random.default_rng(0), 37, 75, **rest)


def refused(folder, message):
    with pytest.raises(WideneckError, match=message) as caught:
        read_head(folder)
    assert "\n" not in str(caught.value)


def state(case, **changes):
    part = f"{STATE}nf4"
    said = json.loads(bytes(case.parts[part].tolist())) | changes
    case.parts[part] = torch.tensor(list(json.dumps(said).encode()), dtype=torch.uint8)
    return case


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"shape": [37]}, r"quant_state says shape \[37\]"),
        ({"shape": [37, 2**40]}, r"scales for .* numbers in blocks of 64"),
        ({"shape": [-37, -75]}, "quant_state says shape"),
        ({"shape": None}, "quant_state says shape None"),
        ({"shape": [37.0, 75]}, "quant_state says shape"),
        ({"shape": [75, 37], "blocksize": 32}, "44 scales for 2775 numbers in blocks of 32"),
        ({"blocksize": 0}, "quant_state says blocksize 0"),
        ({"blocksize": "64"}, "quant_state says blocksize '64'"),
    ],
)
def test_a_state_that_does_not_fit_is_refused(tmp_path, changes, message):
    refused(write(tmp_path, state(made(), **changes)), message)


@pytest.mark.parametrize("content", [b"", b"[1]", b"{", b"\xff\xfe", b"[" * 9000])
def test_a_state_that_is_no_object_is_refused(tmp_path, content):
    case = made()
    case.parts[f"{STATE}nf4"] = torch.tensor(list(content), dtype=torch.uint8)
    refused(write(tmp_path, case), "is no JSON")


def test_a_state_of_a_megabyte_is_not_parsed(tmp_path):
    case = made()
    case.parts[f"{STATE}nf4"] = torch.zeros(LARGEST_STATE + 1, dtype=torch.uint8)
    refused(write(tmp_path, case), "nf4 has 65537 bytes")


@pytest.mark.parametrize("offset", [None, "0.1", float("nan")])
def test_an_offset_of_nested_scales_that_is_none_is_refused(tmp_path, offset):
    case = state(made(nested=True), nested_offset=offset)
    refused(write(tmp_path, case), "quant_state says nested_offset")


def test_a_table_of_other_numbers_is_refused(tmp_path):
    case = made()
    case.parts["weight.quant_map"] = torch.linspace(-2, 2, 16)
    refused(write(tmp_path, case), "quant_map is not 16 numbers of which the largest is 1")


def test_codes_that_are_stored_as_another_type_are_refused(tmp_path):
    """As for FSDP, where four of them stand in a bfloat16."""
    case = made()
    case.parts["weight"] = torch.zeros(694, 1, dtype=torch.bfloat16)
    refused(write(tmp_path, case), r"weight of shape \(694, 1\)")


def test_a_block_of_zeros_decodes_to_zeros(tmp_path):
    case = made()
    case.parts["weight.absmax"][1] = 0
    flat = case.weight.reshape(-1)
    flat[64:128] = 0
    assert np.array_equal(read_head(write(tmp_path, case)).weight.numpy(), case.weight)


@pytest.mark.parametrize("layout", [None, 0, 1])
def test_eight_bits_are_rows_by_their_scale(tmp_path, layout):
    generator = np.random.default_rng(0)
    codes = generator.integers(-127, 128, (37, 75))
    scales = generator.uniform(0.05, 0.2, 37).astype(np.float32)
    case = made()
    case.parts = {
        "weight": torch.from_numpy(codes.astype(np.int8)),
        "SCB": torch.from_numpy(scales),
    }
    if layout is not None:
        case.parts["weight_format"] = torch.tensor(layout, dtype=torch.uint8)
    if layout:
        refused(write(tmp_path, case), "weight_format is not that of plain rows")
        return
    head = read_head(write(tmp_path, case))
    want = codes * scales[:, None].astype(np.float64) / 127
    np.testing.assert_allclose(head.weight.numpy(), want, rtol=2.0**-22)
    assert head.dtype == "int8"
