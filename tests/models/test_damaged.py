"""Files that are cut short, of another kind, or out to do harm: one sentence each, no traceback."""

import json
import pickle

import pytest
import torch
from safetensors.torch import save_file

from tiny import D, V, tiny_model
from wideneck.errors import WideneckError
from wideneck.models import read_head


def refused(model, message):
    with pytest.raises(WideneckError, match=message) as caught:
        read_head(model)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("share", [0.0, 0.0005, 0.01, 0.5, 0.999])
def test_a_safetensors_file_cut_short_is_refused(tmp_path, share):
    path = tmp_path / "a.safetensors"
    save_file({"lm_head.weight": torch.randn(V, D)}, path)
    whole = path.read_bytes()
    path.write_bytes(whole[: int(share * len(whole))])
    refused(path, "damaged or not a safetensors file")


@pytest.mark.parametrize("share", [0.0, 0.01, 0.5, 0.99])
@pytest.mark.parametrize("zipped", [True, False])
def test_a_bin_file_cut_short_is_refused(tmp_path, share, zipped):
    path = tmp_path / "a.bin"
    tensors = {"lm_head.weight": torch.randn(V, D)}
    torch.save(tensors, path, _use_new_zipfile_serialization=zipped)
    whole = path.read_bytes()
    path.write_bytes(whole[: int(share * len(whole))])
    refused(path, "damaged")


class RunsCode:
    def __reduce__(self):
        import pathlib

        return pathlib.Path.touch, (pathlib.Path("it-ran"),)


@pytest.mark.parametrize("plain", [True, False])
@pytest.mark.parametrize("zipped", [True, False])
def test_a_pickle_that_would_run_code_is_not_loaded(tmp_path, monkeypatch, plain, zipped):
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "a.bin"
    content = {"lm_head.weight": torch.randn(V, D), "x": RunsCode()}
    if plain:
        path.write_bytes(pickle.dumps(content))
    else:
        torch.save(content, path, _use_new_zipfile_serialization=zipped)
    refused(path, "would run code stored in it, or it is damaged, so it was not loaded")
    assert not (tmp_path / "it-ran").exists()


@pytest.mark.parametrize("content", [[torch.ones(3)], torch.ones(3, 4), {"step": 3}])
def test_a_pickle_without_a_state_dict_is_refused(tmp_path, content):
    torch.save(content, tmp_path / "a.bin")
    refused(tmp_path / "a.bin", "should hold a state dict|No output layer was found")


@pytest.mark.parametrize("ending", ["safetensors", "gguf", "bin"])
def test_a_text_file_is_refused(tmp_path, ending):
    path = tmp_path / f"a.{ending}"
    path.write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 3\n")
    refused(path, "is a pointer of Git LFS")


def test_a_shard_that_is_missing_is_named(tmp_path):
    tiny_model("llama").save_pretrained(tmp_path, max_shard_size="4KB")
    index = json.loads((tmp_path / "model.safetensors.index.json").read_text())["weight_map"]
    (tmp_path / index["lm_head.weight"]).unlink()
    refused(tmp_path, f"should hold {index['lm_head.weight']}")


def test_shards_that_do_not_fit_their_index_are_refused(tmp_path):
    tiny_model("llama").save_pretrained(tmp_path, max_shard_size="4KB")
    path = tmp_path / "model.safetensors.index.json"
    index = json.loads(path.read_text())
    index["weight_map"]["lm_head.weight"] = index["weight_map"]["model.norm.weight"]
    path.write_text(json.dumps(index))
    refused(tmp_path, r"says that lm_head\.weight is in")


@pytest.mark.parametrize("text", ["{", "[]", '"a"', "\x00"])
def test_a_config_that_is_no_json_object_is_refused(tmp_path, text):
    tiny_model("llama").save_pretrained(tmp_path)
    (tmp_path / "config.json").write_text(text)
    refused(tmp_path, r"config\.json")


def test_an_index_without_a_map_is_refused(tmp_path):
    (tmp_path / "model.safetensors.index.json").write_text("{}")
    refused(tmp_path, "no weight_map")


def test_a_lone_shard_without_the_head_is_refused(tmp_path):
    path = tmp_path / "model-00001-of-00002.safetensors"
    save_file({"model.embed_tokens.weight": torch.randn(V, D)}, path)
    refused(path, "one part of several.*model-00002-of-00002.safetensors missing")
