"""What is refused before another library loads a whole model."""

import json
import shutil

import pytest
import torch

import wideneck as wn
from checkpoints import edit_config, edit_tensors, saved
from tiny import D, V, tiny_model
from wideneck.errors import WideneckError
from wideneck.models.source import resolve
from wideneck.models.whole_files import check_files

INDEX = "model.safetensors.index.json"


@pytest.mark.parametrize("how", [{}, {"max_shard_size": "4KB"}])
@pytest.mark.parametrize("name", ["gpt2", "llama-tied", "phi"])
def test_good_models_pass(tmp_path, name, how):
    check_files(resolve(saved(tiny_model(name), tmp_path, **how)))


def test_any_shard_outside_the_folder_is_refused(tmp_path):
    folder = saved(tiny_model("llama"), tmp_path / "model", max_shard_size="4KB")
    weight_map = json.loads((folder / INDEX).read_text())["weight_map"]
    shard = folder / weight_map["model.norm.weight"]
    shutil.move(shard, tmp_path / "elsewhere.safetensors")
    shard.symlink_to("../elsewhere.safetensors")
    with pytest.raises(WideneckError, match="outside its folder"):
        check_files(resolve(folder))


@pytest.mark.parametrize("dtype", [torch.int32, torch.bool, torch.uint8, torch.complex64])
def test_a_matrix_of_integers_is_refused_unless_the_config_says_quantized(tmp_path, dtype):
    saved(tiny_model("llama"), tmp_path)
    name = "model.layers.0.mlp.up_proj.weight"
    edit_tensors(tmp_path, lambda tensors: tensors | {name: tensors[name].to(dtype)})
    with pytest.raises(WideneckError, match=f"{name} is stored as "):
        check_files(resolve(tmp_path))
    edit_config(tmp_path, quantization_config={"quant_method": "fp8"})
    check_files(resolve(tmp_path))


@pytest.mark.parametrize("method", ["modelopt", 3])
def test_a_quantization_that_transformers_skips_makes_no_weights_of_integers(tmp_path, method):
    saved(tiny_model("llama"), tmp_path)
    edit_config(tmp_path, quantization_config={"quant_method": method})
    check_files(resolve(tmp_path))  # of floats, which are what they are
    name = "model.layers.0.mlp.up_proj.weight"
    edit_tensors(tmp_path, lambda tensors: tensors | {name: tensors[name].to(torch.int8)})
    with pytest.raises(WideneckError, match=f"{name} is stored as I8"):
        check_files(resolve(tmp_path))


def test_a_quantization_that_is_none_is_one_sentence(tmp_path):
    saved(tiny_model("llama"), tmp_path)
    for content in ({"bits": 4}, [1], "x", {"quant_method": []}):
        edit_config(tmp_path, quantization_config=content)
        with pytest.raises(
            WideneckError, match=r"config\.json of .*its quantization_config cannot"
        ):
            check_files(resolve(tmp_path))


def test_a_saved_model_with_a_head_is_held_to_the_same(tmp_path):
    model = wn.attach(tiny_model("llama"), "sigsoftmax")
    folder = tmp_path / "model"
    model.save_pretrained(folder, max_shard_size="4KB")
    wn.load(folder)
    weight_map = json.loads((folder / INDEX).read_text())["weight_map"]
    shard = folder / weight_map["model.norm.weight"]
    shutil.move(shard, tmp_path / "elsewhere.safetensors")
    shard.symlink_to("../elsewhere.safetensors")
    with pytest.raises(WideneckError, match="outside its folder"):
        wn.load(folder)


def test_a_matrix_that_is_stored_once_and_repeated_is_refused(tmp_path):
    model = tiny_model("llama")
    model.config.save_pretrained(tmp_path)
    tensors = model.state_dict() | {"model.embed_tokens.weight": torch.ones(D).expand(V, D)}
    torch.save(tensors, tmp_path / "pytorch_model.bin")
    with pytest.raises(WideneckError, match=r"model\.embed_tokens\.weight of .* no trained matrix"):
        check_files(resolve(tmp_path))
