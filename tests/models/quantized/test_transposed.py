"""What no tensor of GPTQ says, and what its readers disagree on."""

import numpy as np
import pytest
import torch

from quantized_files import awq, gptq, packed_rows, write
from wideneck.errors import WideneckError
from wideneck.models import read_head
from wideneck.models.quantized.transposed import ORDER


def made(**rest):
    return gptq(np.random.default_rng(0), 40, 72, 4, **rest)


def refused(folder, message):
    with pytest.raises(WideneckError, match=message):
        read_head(folder)


def test_the_two_formats_of_gptq_differ_by_one_step(tmp_path):
    case = made()
    first = read_head(write(tmp_path, case)).weight
    case.config["checkpoint_format"] = "gptq_v2"
    second = read_head(write(tmp_path, case)).weight
    steps = case.parts["scales"].float()[case.parts["g_idx"].long()].T
    torch.testing.assert_close(second - first, steps)


@pytest.mark.parametrize(
    "config",
    [
        {},
        {"quant_method": "gptq", "checkpoint_format": "marlin"},
        {"quant_method": "awq"},
        {"quant_method": "auto-round", "packing_format": "auto_round:llm_compressor"},
        {"quant_method": "auto-round", "packing_format": "auto_round:gptq_of_another_kind"},
    ],
)
def test_a_format_that_config_json_does_not_say_is_not_guessed(tmp_path, config):
    case = made()
    case.config = config
    refused(write(tmp_path, case), "GPTQ has two formats, and no config.json says")


@pytest.mark.parametrize("packing", ["auto_round:auto_gptq", "auto_round:gptq"])
def test_auto_round_packs_as_the_first_format_and_turns_signs(tmp_path, packing):
    case = made()
    case.config = {"quant_method": "auto-round", "packing_format": packing}
    case.parts["scales"][1, 3] *= -1
    of_group = (case.parts["g_idx"] == 1).numpy()
    case.weight[3, of_group] *= -1
    assert np.array_equal(read_head(write(tmp_path, case)).weight.numpy(), case.weight)


def test_auto_round_packs_for_gptqmodel_as_the_second_format(tmp_path):
    case = made(version="gptq_v2")
    case.config = {"quant_method": "auto-round", "packing_format": "auto_round:gptqmodel"}
    assert np.array_equal(read_head(write(tmp_path, case)).weight.numpy(), case.weight)


def test_a_zero_point_that_readers_take_for_two_is_refused(tmp_path):
    case = made()
    case.parts["qzeros"] = packed_rows(np.full((3, 40), 15), 4)
    refused(write(tmp_path, case), "qzeros hold 15, to which readers add 1 in two ways")
    case.config["checkpoint_format"] = "gptq_v2"
    read_head(write(tmp_path, case))


@pytest.mark.parametrize(("stored", "version"), [(7, "gptq"), (8, "gptq_v2")])
def test_symmetric_codes_tell_a_wrong_format(tmp_path, stored, version):
    case = made()
    case.parts["qzeros"] = packed_rows(np.full((3, 40), stored), 4)
    case.config |= {"sym": True, "checkpoint_format": version}
    read_head(write(tmp_path, case))
    case.config["checkpoint_format"] = "gptq" if version == "gptq_v2" else "gptq_v2"
    refused(write(tmp_path, case), "says symmetric, and its zero points are not 8")


def test_groups_that_are_not_there_are_refused(tmp_path):
    case = made()
    case.parts["g_idx"][5] = 3
    refused(write(tmp_path, case), "g_idx names groups that scales of .* have not")


def test_gptq_of_another_shape_is_refused(tmp_path):
    case = made()
    case.parts["g_idx"] = case.parts["g_idx"][:-40]
    refused(write(tmp_path, case), "qweight has 9 words for 32 inputs")
    case = made()
    case.parts["qweight"] = case.parts["qweight"][:, :-1]
    refused(write(tmp_path, case), r"qweight has shape \(9, 39\) beside 40 columns of scales")
    case = made()
    case.parts["qzeros"] = case.parts["qzeros"][:-1]
    refused(write(tmp_path, case), "qzeros have shape")


def test_awq_of_another_version_is_refused(tmp_path):
    case = awq(np.random.default_rng(0), 40, 96)
    case.config["version"] = "gemv"
    refused(write(tmp_path, case), "AWQ is read in its GEMM version alone")


def test_the_order_of_awq_undoes_that_of_its_writer():
    """Its writer puts outputs 0, 2, 4, 6, 1, 3, 5, 7 into the nibbles of a word."""
    writer = (0, 2, 4, 6, 1, 3, 5, 7)
    assert [writer[place] for place in ORDER] == list(range(8))
