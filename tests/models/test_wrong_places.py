"""What newcomers give in place of a model: pointers, error pages, folders one level too high."""

import json
import shutil

import pytest

from checkpoints import assert_is_head_of, saved
from tiny import tiny_model
from wideneck.errors import WideneckError
from wideneck.files.regular import LONGEST_POINTER
from wideneck.files.text_file import read_text_file
from wideneck.models import load_language_model, read_head

POINTER = f"version https://git-lfs.github.com/spec/v1\noid sha256:{'ab' * 32}\nsize 548105171\n"
PAGE = "<!DOCTYPE html>\n<title>404 Not Found</title>\n" * 3


def run(place):
    """With a tokenizer of the caller's, as the folders here hold none."""
    return load_language_model(place, tokenizer=object())


def refused(read, place, message):
    with pytest.raises(WideneckError, match=message) as caught:
        read(place)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["model.safetensors", "pytorch_model.bin", "x.pt", "x.gguf"])
def test_a_pointer_of_git_lfs_is_called_one(tmp_path, name):
    (tmp_path / name).write_text(POINTER)
    for place in (tmp_path, tmp_path / name):
        refused(read_head, place, rf"{name} is a pointer of Git LFS .*git lfs pull")


@pytest.mark.parametrize("name", ["config.json", "tokenizer.json", "model.safetensors"])
def test_so_is_one_beside_the_weights(tmp_path, name):
    saved(tiny_model("llama"), tmp_path)
    (tmp_path / name).write_text(POINTER)
    refused(read_head, tmp_path, f"{name} is a pointer of Git LFS")
    refused(run, tmp_path, f"{name} is a pointer of Git LFS")


def test_a_pointer_is_no_text(tmp_path):
    (tmp_path / "novel.txt").write_text(POINTER)
    refused(read_text_file, tmp_path / "novel.txt", "novel.txt is a pointer of Git LFS")


def test_a_text_about_pointers_is_one(tmp_path):
    longer = POINTER + "x" * LONGEST_POINTER
    for text in (longer, "On Git LFS:\n" + POINTER, POINTER[:20]):
        (tmp_path / "novel.txt").write_text(text)
        assert read_text_file(tmp_path / "novel.txt") == text


def test_a_page_that_was_saved_as_weights_shows_how_it_begins(tmp_path):
    (tmp_path / "model.safetensors").write_text(PAGE)
    refused(read_head, tmp_path, r"begins with the text '<!DOCTYP'")
    (tmp_path / "page.bin").write_text(PAGE)
    refused(read_head, tmp_path / "page.bin", "neither an archive nor a pickle")


def test_a_file_that_is_empty_is_called_so(tmp_path):
    saved(tiny_model("llama"), tmp_path)
    (tmp_path / "config.json").write_text(" \n")
    refused(read_head, tmp_path, r"config.json of .* \(the file is empty\)")


def test_the_folders_of_a_training_run_are_named(tmp_path):
    refused(read_head, tmp_path, "found no file.$")
    model = tiny_model("llama")
    saved(model, tmp_path / "checkpoint-100")
    (tmp_path / "logs").mkdir()
    refused(read_head, tmp_path, r"one of the models inside it \(checkpoint-100\), or .*--series")
    assert_is_head_of(read_head(tmp_path / "checkpoint-100"), model)


@pytest.mark.parametrize(("ending", "hint"), [(".pth", True), (".ckpt", True), (".npz", False)])
def test_other_names_of_files_of_torch_are_known(tmp_path, ending, hint):
    (tmp_path / f"model{ending}").write_bytes(b"PK")
    refused(read_head, tmp_path / f"model{ending}", "the ending .pt.$" if hint else "holds one.$")


def test_what_a_model_lacks_beside_its_weights_is_named(tmp_path):
    folder = tmp_path / "whole"
    saved(tiny_model("llama"), folder, max_shard_size="4KB")
    index = folder / "model.safetensors.index.json"
    parts = sorted(set(json.loads(index.read_text())["weight_map"].values()))
    shutil.copytree(folder, tmp_path / "no config")
    (tmp_path / "no config" / "config.json").unlink()
    refused(run, tmp_path / "no config", "has no config.json, without which")
    (folder / parts[1]).unlink()
    refused(run, folder, f"hold {parts[1]}, .* download it as well")
    index.unlink()
    refused(run, folder, f"no index .*{index.name}, {parts[1]}")
