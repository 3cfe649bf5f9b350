from pathlib import Path

import pytest
from safetensors.torch import save_file
from torch import randn

from wideneck.errors import WideneckError
from wideneck.models.hub_folder import HubFolder
from wideneck.models.source import resolve


@pytest.fixture
def hub(monkeypatch):
    """Every id exists and holds one safetensors file; gives what was asked for."""
    monkeypatch.setattr(HubFolder, "names", lambda self: ["config.json", "model.safetensors"])


@pytest.mark.parametrize(
    ("text", "pretrained"),
    [
        ("gpt2", ("gpt2", None)),
        ("EleutherAI/pythia-70m", ("EleutherAI/pythia-70m", None)),
        ("EleutherAI/pythia-70m@step1000", ("EleutherAI/pythia-70m", "step1000")),
        ("org/name@refs/pr/3", ("org/name", "refs/pr/3")),
        ("org/some_name-1.5b@v1.0", ("org/some_name-1.5b", "v1.0")),
    ],
)
def test_an_id_may_name_a_revision(hub, text, pretrained):
    source = resolve(text)
    assert source.folder.pretrained == pretrained
    assert (source.display, source.file) == (text, "model.safetensors")


def test_what_is_on_disk_wins_over_an_id(hub, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    folder = Path("org/name")
    folder.mkdir(parents=True)
    save_file({"lm_head.weight": randn(3, 2)}, folder / "model.safetensors")
    assert resolve("org/name").folder.pretrained == (str(folder), None)


@pytest.mark.parametrize(
    "text",
    ["./nothing", "/no/such/folder", "a/b/c", "missing.safetensors", "x.gguf", "", "a b", "a/b@"],
)
def test_what_is_neither_path_nor_id_is_refused(text):
    with pytest.raises(WideneckError, match=r"There is no file or folder .*Hugging Face id"):
        resolve(text)


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ([], "found no file"),
        (["readme.md", "config.json"], r"found config\.json, readme\.md"),
        (["a.gguf", "b.gguf"], r"2 files that could be the model \(a\.gguf, b\.gguf\)"),
    ],
)
def test_a_folder_without_one_model_is_refused(tmp_path, files, message):
    for file in files:
        (tmp_path / file).touch()
    with pytest.raises(WideneckError, match=message):
        resolve(tmp_path)


def test_a_file_of_another_kind_is_refused(tmp_path):
    (tmp_path / "a.txt").touch()
    with pytest.raises(WideneckError, match="is not a weights file"):
        resolve(tmp_path / "a.txt")


@pytest.mark.parametrize(
    ("files", "chosen"),
    [
        (["pytorch_model.bin", "model.safetensors"], "model.safetensors"),
        (["pytorch_model.bin.index.json", "x.safetensors"], "pytorch_model.bin.index.json"),
        (["training_args.bin", "a.gguf"], "a.gguf"),
    ],
)
def test_the_file_is_chosen_as_transformers_would(tmp_path, files, chosen):
    for file in files:
        (tmp_path / file).touch()
    assert resolve(tmp_path).file == chosen
