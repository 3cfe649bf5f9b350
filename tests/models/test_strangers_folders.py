"""Folders, indexes and names of strangers: what leaves the folder, is missing, or is no model."""

import json
import os
import shutil

import pytest
import torch
from safetensors.torch import load_file, save_file

from checkpoints import assert_is_head_of, edit_tensors, saved
from tiny import D, V, tiny_model
from wideneck.errors import WideneckError
from wideneck.models import read_head

INDEX = "model.safetensors.index.json"


def refused(model, message):
    with pytest.raises(WideneckError, match=message) as caught:
        read_head(model)
    assert "\n" not in str(caught.value)


def sharded(folder, name="llama"):
    model = tiny_model(name)
    saved(model, folder, max_shard_size="4KB")
    return model, json.loads((folder / INDEX).read_text())["weight_map"]


def write_index(folder, weight_map):
    (folder / INDEX).write_text(json.dumps({"weight_map": weight_map}))


# Inside the folder


@pytest.mark.parametrize("needed", [True, False])
@pytest.mark.parametrize("place", ["../other/{}", "{folder}/{}", "a/../../{}", "..\\{}", "", "a\0"])
def test_a_name_that_leaves_the_folder_is_refused(tmp_path, place, needed):
    folder = tmp_path / "model"
    _, weight_map = sharded(folder)
    shutil.copytree(folder, tmp_path / "other")
    name = "lm_head.weight" if needed else "model.norm.weight"
    weight_map[name] = place.format(weight_map[name], folder=folder)
    write_index(folder, weight_map)
    refused(folder, f"{INDEX} of .* names .*no file inside its folder")


def test_a_shard_that_is_no_name_is_refused(tmp_path):
    _, weight_map = sharded(tmp_path)
    write_index(tmp_path, weight_map | {"model.norm.weight": 3})
    refused(tmp_path, r"the file of model\.norm\.weight, it says 3")


def test_a_link_of_a_shard_that_leaves_the_folder_is_refused(tmp_path):
    folder = tmp_path / "model"
    _, weight_map = sharded(folder)
    shard = folder / weight_map["lm_head.weight"]
    shutil.move(shard, tmp_path / "elsewhere.safetensors")
    shard.symlink_to("../elsewhere.safetensors")
    refused(folder, f"{shard.name} is a link to .*elsewhere.safetensors, outside its folder")


def test_links_inside_the_folder_and_a_link_to_the_folder_are_followed(tmp_path):
    folder = tmp_path / "model"
    model, weight_map = sharded(folder)
    for shard in set(weight_map.values()):
        (folder / "real").mkdir(exist_ok=True)
        shutil.move(folder / shard, folder / "real" / shard)
        (folder / shard).symlink_to(f"real/{shard}")
    (tmp_path / "link").symlink_to(folder)
    assert_is_head_of(read_head(tmp_path / "link"), model)


@pytest.mark.parametrize("parts", [True, False])
def test_the_cache_of_the_hub_is_made_of_links_and_is_read(tmp_path, parts):
    snapshot = tmp_path / "models--org--name" / "snapshots" / "0123"
    blobs = tmp_path / "models--org--name" / "blobs"
    blobs.mkdir(parents=True)
    model, _ = sharded(snapshot)
    for number, file in enumerate(sorted(snapshot.iterdir())):
        shutil.move(file, blobs / str(number))
        file.symlink_to(f"../../blobs/{number}")
    if parts:
        (snapshot / INDEX).unlink()
    assert_is_head_of(read_head(snapshot), model)


# Regular files


def test_a_pipe_is_refused_at_once(tmp_path):
    os.mkfifo(tmp_path / "a.safetensors")
    refused(tmp_path / "a.safetensors", "is a pipe, and a weights file must be a regular file")
    _, weight_map = sharded(tmp_path / "model")
    shard = tmp_path / "model" / weight_map["lm_head.weight"]
    shard.unlink()
    os.mkfifo(shard)
    refused(tmp_path / "model", "is a pipe, and a weights file must be a regular file")


def test_a_device_is_refused_at_once(tmp_path):
    (tmp_path / "a.bin").symlink_to("/dev/zero")
    refused(tmp_path / "a.bin", "is a device, and a weights file must be a regular file")


@pytest.mark.parametrize("text", ["a" * 5000, "~nobody-of-this-name/x", "a\0b", "\udcff.bin"])
def test_a_path_that_is_none_is_one_sentence(text):
    refused(text, "the path cannot be read|There is no file or folder")


def test_an_id_that_the_hub_does_not_allow_is_one_sentence():
    refused("a--b", "a--b")


# What stored names say


def test_a_shard_with_a_tensor_that_the_index_does_not_name_is_refused(tmp_path):
    """The head would be read as tied, while another lies beside the embedding."""
    tiny_model("llama-tied").save_pretrained(tmp_path)
    tensors = load_file(tmp_path / "model.safetensors")
    (tmp_path / "model.safetensors").unlink()
    save_file(tensors | {"lm_head.weight": torch.randn(V, D)}, tmp_path / "a.safetensors")
    write_index(tmp_path, dict.fromkeys(tensors, "a.safetensors"))
    refused(tmp_path, rf"a\.safetensors holds lm_head\.weight, and {INDEX} of .* does not say so")


def test_an_index_with_a_tensor_that_its_shard_lacks_is_refused(tmp_path):
    _, weight_map = sharded(tmp_path)
    weight_map["model.layers.7.extra.weight"] = weight_map["lm_head.weight"]
    write_index(tmp_path, weight_map)
    refused(tmp_path, r"says that model\.layers\.7\.extra\.weight is in")


@pytest.mark.parametrize("config", [True, False])
def test_a_head_beside_an_embedding_of_the_transposed_shape_is_refused(tmp_path, config):
    tensors = {"lm_head.weight": torch.randn(D, V), "wte.weight": torch.randn(V, D)}
    save_file(tensors, tmp_path / "model.safetensors")
    if config:
        (tmp_path / "config.json").write_text('{"model_type": "never-heard-of"}')
    refused(tmp_path / "model.safetensors", r"\(16, 96\) and wte\.weight \(96, 16\).*transposed")
    tensors = {"lm_head.weight": torch.randn(V, D), "wte.weight": torch.randn(D, V)}
    save_file(tensors, tmp_path / "model.safetensors")
    refused(tmp_path / "model.safetensors", r"\(96, 16\) and wte\.weight \(16, 96\).*transposed")


def test_a_lone_head_with_few_rows_needs_an_embedding_that_says_so(tmp_path):
    """A model of characters has more columns than rows."""
    path = tmp_path / "a.safetensors"
    few = torch.randn(D, V)
    save_file({"lm_head.weight": few, "wte.weight": torch.randn(D, V)}, path)
    assert torch.equal(read_head(path).weight, few)
    save_file({"lm_head.weight": few, "wte.weight": torch.randn(V + 1, D)}, path)
    refused(path, "fewer rows than columns")


def mlx():
    return {
        "lm_head.weight": torch.zeros(V, D // 8, dtype=torch.uint32),
        "lm_head.scales": torch.zeros(V, 1),
        "lm_head.biases": torch.zeros(V, 1),
    }


def test_a_packed_head_is_said_to_be_packed(tmp_path):
    saved(tiny_model("llama"), tmp_path)
    edit_tensors(tmp_path, lambda tensors: tensors | mlx())
    refused(tmp_path, r"lm_head\.weight is stored as U32, a quantized form")
    (tmp_path / "config.json").unlink()
    refused(tmp_path, r"lm_head\.weight is stored as U32, a quantized form")
