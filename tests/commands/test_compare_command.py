"""`wideneck compare` on models saved here and on runs trained here."""

import json
import sys
from io import StringIO

import pytest
import torch
from rich.console import Console

from report.html_tree import read
from tiny import tiny_model
from tiny_text import character_tokenizer, write_text
from wideneck.cli import main
from wideneck.entry.compare import compare
from wideneck.evaluation.comparison.comparison import Comparison
from wideneck.report.fields import definitions
from wideneck.report.terminal import show
from wideneck.training.recipe_file import recipe
from wideneck.training.run import run

ASKED = ["--text", "text.txt", "--tokens", "240", "--context", "16"]


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder with models a-0, a-1, b-0, b-1, a text, and a run of words."""
    folder = tmp_path_factory.mktemp("place")
    write_text(folder / "text.txt")
    for name in ("a", "b"):
        for seed in range(2):
            model = tiny_model("gpt2" if name == "a" else "llama")
            torch.manual_seed(seed)
            for weight in model.parameters():
                weight.data.add_(0.1 * torch.randn_like(weight))
            model.save_pretrained(folder / f"{name}-{seed}")
            character_tokenizer().save_pretrained(folder / f"{name}-{seed}")
    words = " ".join(f"w{k % 7} w{k * k % 11}" for k in range(600))
    for split in ("train", "valid", "test"):
        (folder / f"{split}.txt").write_text(words.replace("w3", "w3\n"))
    small = {"name": "awd_lstm", "embedding_size": 8, "hidden_size": 8, "num_layers": 1}
    for name in ("softmax", "sigsoftmax"):
        chosen = {
            "data": {"text": str(folder), "tokens": "words"},
            "model": small,
            "head": {"name": name},
            "training": {"epochs": 1.0, "batch_size": 5, "segment": 10, "evaluate_every": 1.0},
        }
        run(recipe(chosen), folder / f"run-{name}", show=lambda *_: None)
    return folder


def wideneck(monkeypatch, place, *arguments):
    """The command in this process; None, or the line it ends with."""
    monkeypatch.chdir(place)
    monkeypatch.setattr(sys, "argv", ["wideneck", "compare", *map(str, arguments)])
    with pytest.raises(SystemExit) as stopped:
        main()
    return stopped.value.code


def test_the_command_prints_tables_and_writes_json_and_a_page(place, monkeypatch, capsys, tmp_path):
    files = tmp_path / "c.json", tmp_path / "c.html"
    asked = [*ASKED, "--json", files[0], "--html", files[1]]
    assert not wideneck(monkeypatch, place, "a-0", "b-0", *asked)
    printed = " ".join(capsys.readouterr().out.split())
    content = json.loads(files[0].read_text())
    found = compare(
        place / "a-0", place / "b-0", text=place / "text.txt", num_tokens=240, context=16
    )
    assert content["differences"][0]["loss"]["value"] == found.differences[0].loss.value
    assert "b-0 predicts this kind of text" in printed or "cannot be told from" in printed
    assert "Below 0, this model is the better one." in printed
    page = read(files[1].read_text())
    assert page is not None
    html = files[1].read_text()
    assert "Where this model gains most" in html
    assert html.count("<svg") >= 2


def test_patterns_make_groups(place, monkeypatch, capsys):
    groups = ["--group", "a-*", "--group", "b-*"]
    assert not wideneck(monkeypatch, place, *groups, *ASKED, "--json", "-")
    content = json.loads(capsys.readouterr().out)
    assert [model["model"] for model in content["models"]] == ["a-0", "a-1", "b-0", "b-1"]
    assert content["groups"][0]["group"] == "b-*"
    assert content["groups"][0]["num_models"] == 2
    assert content["groups"][0]["rows"][0]["low"] is not None


def test_runs_of_one_vocabulary_are_compared_token_by_token(place):
    found = compare(
        place / "run-softmax",
        place / "run-sigsoftmax",
        text=place / "test.txt",
        num_tokens=64,
        context=8,
    )
    assert [model.head for model in found.models] == ["softmax", "sigsoftmax"]
    assert found.differences[0].kl_from_first.value > 0
    assert found.source.num_tokens == 64


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([], "needs a model"),
        (["--group", "a-*", "--group", "none-*"], "The group none-* is empty"),
        (["a-0", "--group", "a-*"], "and groups as well"),
        (["--group", "a-*"], "two groups of models; 1 came"),
        (["a-0", "run-softmax", *ASKED], "is compared token by token"),
        (["a-0", "b-0", "--html", "a-0/config.json"], "config.json"),
    ],
)
def test_a_mistake_is_one_line(place, monkeypatch, arguments, said):
    line = wideneck(monkeypatch, place, *arguments)
    assert said in line
    assert "\n" not in line


@pytest.mark.parametrize("grouped", [False, True])
def test_every_number_has_a_definition_and_80_columns_are_enough(place, grouped):
    models = [place / f"{name}-{seed}" for name in "ab" for seed in range(2)]
    asked = [models[:2], models[2:]] if grouped else [models[0], models[2]]
    names = ["first", "other"]
    found = compare(*asked, text=place / "text.txt", num_tokens=240, context=16, names=names)
    console = Console(width=80, file=StringIO())
    show(found, console)
    assert max(map(len, console.file.getvalue().splitlines())) <= 80
    for path, entry in definitions(Comparison).items():
        assert entry.get("definition"), path
