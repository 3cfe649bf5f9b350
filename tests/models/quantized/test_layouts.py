"""Every layout against matrices written by hand, bit for bit."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from quantized_files import LAYOUTS, written
from quantized_files import write as write_checkpoint
from wideneck.errors import WideneckError
from wideneck.models import read_head
from wideneck.models.quantized import layouts


@pytest.fixture(params=LAYOUTS)
def case(request):
    return written(request.param)


def refused(path, message):
    with pytest.raises(WideneckError, match=message) as caught:
        read_head(path)
    assert "\n" not in str(caught.value)


def test_every_layout_is_decoded_bit_for_bit(tmp_path, case):
    head = read_head(write_checkpoint(tmp_path, case))
    assert head.weight.dtype == torch.float32
    assert np.array_equal(head.weight.numpy(), case.weight)
    assert (head.name, head.dtype) == ("lm_head.weight", case.dtype)
    bits = {"FP8 (e4m3)": 2**-3, "FP8 (e5m2)": 2**-2, "NVFP4": 0.5, "MXFP4": 0.5, "nf4": 0.5}
    rounding = bits.get(case.dtype) or 2.0 ** (3 - int(case.dtype[-1]))
    assert head.rounding == rounding
    assert not head.tied


def test_a_block_at_a_time_gives_the_same(tmp_path, case, monkeypatch):
    """With rows that begin within a byte, a word, a block of scales."""
    monkeypatch.setattr("wideneck.models.quantized.matrix.BLOCK", 5 * case.weight.shape[1])
    head = read_head(write_checkpoint(tmp_path, case))
    assert np.array_equal(head.weight.numpy(), case.weight)


def test_shards_and_pickles_give_the_same(tmp_path, case):
    folder = write_checkpoint(tmp_path, case)
    whole = read_head(folder)
    tensors = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    weight_map = {name: f"model-{i}.safetensors" for i, name in enumerate(tensors)}
    for name, file in weight_map.items():
        save_file({name: tensors[name]}, folder / file)
    index = folder / "model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": weight_map}))
    assert read_head(folder).sha256 == whole.sha256
    index.unlink()
    torch.save(tensors, folder / "pytorch_model.bin")
    for file in folder.glob("model-*"):
        file.unlink()
    pickled = read_head(folder)
    assert torch.equal(pickled.weight, whole.weight)
    assert pickled.sha256 == whole.sha256


def test_without_any_of_its_parts_it_is_refused(tmp_path, case):
    """Each is needed but those of activations; the sentence names what is there or is not."""
    for i, part in enumerate(case.parts):
        rest = {name: x for name, x in case.parts.items() if name != part}
        folder = tmp_path / str(i)
        folder.mkdir()
        write_checkpoint(folder, replace(case, parts=rest))
        if part in ("input_scale", "input_global_scale"):
            assert np.array_equal(read_head(folder).weight.numpy(), case.weight)
        elif part != "weight_zero_point":
            refused(folder, r"does not read .*lm_head|lm_head.* means nothing without its scales")


@pytest.mark.parametrize("part", ["weight_g_idx", "weight_rotation", "pre_quant_scale", "u.weight"])
def test_a_part_that_no_layout_has_is_refused_by_name(tmp_path, case, part):
    case.parts[part] = torch.ones(3)
    folder = write_checkpoint(tmp_path, case)
    refused(folder, rf"nothing says what {part} does|Beside lm_head.weight .* lm_head\.{part}")


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf"), -1.0, 0.0])
def test_scales_that_are_none_are_refused(tmp_path, case, value):
    part = case.scales[-1]
    scales = case.parts[part]
    if not scales.is_floating_point():
        case.parts[part] = scales.clone().fill_(255)
        refused(write_checkpoint(tmp_path, case), rf"{part} holds the byte 255")
        return
    case.parts[part] = scales.float().clone()
    case.parts[part].flatten()[0] = value
    case.parts[part] = case.parts[part].to(scales.dtype)
    folder = write_checkpoint(tmp_path, case)
    signed = part == "scales" and value == -1.0  # AutoRound turns the sign of a group
    of_zero = part.endswith("absmax") and value == 0.0  # a block of zeros
    if signed or of_zero:
        read_head(folder)
    else:
        refused(folder, rf"1 of the scales in {part} are no scales, the first of them {value:g}")


def test_a_rotation_that_config_json_names_is_refused(tmp_path, case):
    case.config["transform_config"] = {"config_groups": {"R1": {}}}
    refused(write_checkpoint(tmp_path, case), "its transform_config rotates matrices")


def test_the_list_has_no_layout_that_another_hides():
    """Two layouts of the same parts must be told apart by types, which only `fits` does."""
    seen = {}
    for layout in layouts.LAYOUTS:
        for other in seen.get(layout.needs, []):
            assert layouts.Layout.__dataclass_fields__["fits"].default is not other.fits
        seen.setdefault(layout.needs, []).append(layout)
