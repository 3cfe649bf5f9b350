"""A model of which the head is quantized: under `wideneck audit`, and when it is to be run."""

import numpy as np
import pytest
import torch
from test_language_model import tokenizer

import wideneck as wn
from checkpoints import edit_config, edit_tensors, saved
from quantized_files import bits_and_bytes, fp8, int8, nvfp4
from tiny import D, V, tiny_model
from wideneck.errors import WideneckError
from wideneck.models import load_language_model, read_head


def quantized(folder, written, config):
    saved(tiny_model("llama"), folder)
    tokenizer().save_pretrained(folder)
    parts = {f"lm_head.{part}": x.contiguous() for part, x in written.parts.items()}
    edit_tensors(folder, lambda t: {k: v for k, v in t.items() if k != "lm_head.weight"} | parts)
    edit_config(folder, quantization_config=config)
    return folder


CHANNEL = {"num_bits": 8, "type": "int", "strategy": "channel", "symmetric": True}
COMPRESSED = {
    "quant_method": "compressed-tensors",
    "format": "int-quantized",
    "config_groups": {"group_0": {"targets": ["Linear"], "weights": CHANNEL}},
}
BITSANDBYTES = {
    "quant_method": "bitsandbytes",
    "load_in_4bit": True,
    "bnb_4bit_quant_type": "nf4",
}


def rng():
    return np.random.default_rng(0)


def test_an_audit_of_the_head_is_that_of_the_decoded_matrix(tmp_path):
    case = nvfp4(rng(), V, D, divides=False)
    folder = quantized(tmp_path / "a", case, {"quant_method": "modelopt"})
    plain = saved(tiny_model("llama"), tmp_path / "b")
    tokenizer().save_pretrained(plain)
    decoded = {"lm_head.weight": torch.from_numpy(case.weight)}
    edit_tensors(plain, lambda tensors: tensors | decoded)
    quantized_head, plain_head = (
        wn.audit(path, sections=("head",)).to_dict()["head"] for path in (folder, plain)
    )
    assert (quantized_head["dtype"], plain_head["dtype"]) == ("NVFP4", "float32")
    assert "NVFP4 and float32" in quantized_head["tying"]
    same = set(plain_head) - {"dtype", "sha256", "tying", "rows"}
    for name in same:
        assert _without_tolerance(quantized_head[name]) == _without_tolerance(plain_head[name])


def _without_tolerance(found):
    """What does not depend on how exactly the numbers are stored."""
    if not isinstance(found, dict):
        return found
    tolerance = ("rank_tolerance", "numerical_rank")
    return {name: _without_tolerance(x) for name, x in found.items() if name not in tolerance}


@pytest.mark.parametrize(
    ("made", "config", "message"),
    [
        (int8, COMPRESSED, r"pip install compressed-tensors.*it is quantized \(compressed-tensors"),
        (bits_and_bytes, BITSANDBYTES, r"requires bitsandbytes.*it is quantized \(bitsandbytes\)"),
    ],
)
def test_a_quantizer_that_is_not_installed_is_one_sentence(
    tmp_path, monkeypatch, made, config, message
):
    monkeypatch.setattr("transformers.utils.import_utils._is_package_available", _none_of_them)
    folder = quantized(tmp_path, made(rng(), V, D), config)
    assert read_head(folder).weight.shape == (V, D)
    with pytest.raises(WideneckError, match=message) as caught:
        load_language_model(folder)
    assert "\n" not in str(caught.value)
    assert "--section head" in str(caught.value)


def _none_of_them(package, return_version=False):
    return (False, "N/A") if return_version else (False, None)


def test_a_quantization_that_transformers_does_not_undo_is_not_run(tmp_path):
    case = nvfp4(rng(), V, D, divides=False)
    folder = quantized(tmp_path, case, {"quant_method": "modelopt"})
    message = r"lm_head\.weight is stored as U8, quantized by modelopt, which transformers does not"
    with pytest.raises(WideneckError, match=message):
        load_language_model(folder)


def test_a_model_in_fp8_runs_with_the_head_that_is_read(tmp_path):
    """On a CPU transformers makes floats of it."""
    config = {"quant_method": "fp8", "weight_block_size": [16, 16]}
    folder = quantized(tmp_path, fp8(rng(), V, D, (16, 16)), config)
    loaded = load_language_model(folder)
    assert torch.equal(loaded.model.lm_head.weight, read_head(folder).weight)
