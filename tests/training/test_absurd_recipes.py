"""Numbers that no recipe can mean, and files that no recipe can be, before anything is built."""

import time

import pytest
import torch

from wideneck.commands.train import _check_model
from wideneck.config import Softmax
from wideneck.errors import WideneckError
from wideneck.models.small import size
from wideneck.models.small.config import AwdLstm, Transformer
from wideneck.models.small.language_model import language_model
from wideneck.registry import check_count, check_number
from wideneck.training.optimizers import AdamW
from wideneck.training.recipe_file import read_recipe

RECIPE = """\
seed = 1

[data]
vocab_size = 100

[model]
name = "awd_lstm"
embedding_size = 8
num_layers = 2

[optimizer]
name = "sgd"
learning_rate = 1.0

[training]
epochs = 2
batch_size = 4
segment = 70
evaluation_batch_size = 4
"""
OPTIONS = """\
[model]
name = "transformer"
architecture = "gpt2"
context = 8

[model.options]
n_embd = 8
n_head = 2
n_layer = 1
"""


def refused(tmp_path, text):
    """The line and the one sentence."""
    path = tmp_path / "recipe.toml"
    path.write_text(text)
    with pytest.raises(WideneckError) as caught:
        read_recipe(path, check=_check_model)
    said = str(caught.value).removeprefix(str(path))
    assert "\n" not in said
    line, _, rest = said.removeprefix(", line ").partition(": ")
    return int(line) if said.startswith(", line ") else None, rest


@pytest.mark.parametrize(
    ("before", "after", "message"),
    [
        ("vocab_size = 100", "vocab_size = 1_000_000_000_000", "at most 2,147,483,647"),
        ("embedding_size = 8", "embedding_size = 10_000_000", "at most 1,048,576 for embedding"),
        ("embedding_size = 8", "embedding_size = 1_000_000", "bytes of memory"),
        ("embedding_size = 8", "hidden_size = 1_000_000", "bytes of memory"),
        ("num_layers = 2", "num_layers = 1_000_000_000_000", "at most 1,000 for num_layers"),
        ("num_layers = 2", f"num_layers = {2**70}", f"at most 1,000 for num_layers, got {2**70}"),
        ("num_layers = 2", "num_layers = -3", ">= 1 for num_layers, got -3"),
        ("num_layers = 2", "temporal_regularization = 1e308", "at most 1e+30"),
        ("learning_rate = 1.0", "learning_rate = 1e308", "at most 1e+30 for learning_rate"),
        ("epochs = 2", "epochs = 1e308", "at most 1e+06 for epochs, got 1e+308"),
        ("epochs = 2", f"epochs = {10**300}", "got a whole number of 997 bits"),
        ("epochs = 2", f"epochs = 0x1{'0' * 20_000}", "got a whole number of 80,001 bits"),
        ("batch_size = 4\ns", "batch_size = 1_000_000_000\ns", "at most 16,777,216 for batch_size"),
        ("batch_size = 4\ns", "batch_size = 1_000_000\ns", "1,000,000 rows (batch_size) of 70"),
        ("segment = 70", "segment = 10_000_000", "16,777,216 tokens in a step, got 4 rows"),
        ("evaluation_batch_size = 4", "evaluation_batch_size = 5_000_000", "16,777,216 tokens"),
    ],
)
def test_a_number_that_nobody_means_is_refused_with_its_line(tmp_path, before, after, message):
    assert RECIPE.count(before) == 1
    text = RECIPE.replace(before, after)
    line, said = refused(tmp_path, text)
    assert message in said
    assert line == text[: text.index(after)].count("\n") + 1


@pytest.mark.parametrize(
    ("before", "after", "message"),
    [
        ("n_layer = 1", "n_layer = 1_000_000_000_000", "at most 1,000 for n_layer, got 10000"),
        ("n_layer = 1", "num_hidden_layers = 2_000_000", "at most 1,000 for num_hidden_layers"),
        ("n_layer = 1", "n_layer = -1", ">= 0 for n_layer, got -1"),
        ("n_layer = 1", "pad_token_id = -7", ">= 0 for pad_token_id, got -7"),
        ("n_embd = 8", "n_embd = 1_000_000_000_000", "at most 2,147,483,647 for n_embd"),
        ("n_embd = 8", "n_inner = 2_000_000_000_000", "at most 2,147,483,647 for n_inner"),
        ("n_embd = 8", "n_inner = 1_000_000_000\nn_embd = 100", "bytes of memory"),
        ("n_embd = 8", "initializer_range = 1e308", "at most 1e+30 for initializer_range"),
        ("context = 8", "context = 1_000_000_000", "at most 1,048,576 for context"),
    ],
)
def test_options_of_transformers_are_bounded_too(tmp_path, before, after, message):
    line, said = refused(tmp_path, OPTIONS.replace(before, after))
    assert message in said
    assert line is not None


HOSTILE = {
    "a deep list": ("seed = " + "[" * 30_000, "nested too deeply"),
    "a nested list": ("seed = " + "[" * 60 + "]" * 60, "nested deeper than 16 levels"),
    "a deep table": ("[" + ".".join("a" * 50) + "]\n", "nested deeper than 16 levels"),
    "deep dots": (".".join("a" * 5_000) + " = 1\n", "nested deeper than 16 levels"),
    "many keys": ("".join(f"k{i} = 1\n" for i in range(3_000)), "more than 1,000 settings"),
    "unknown keys": (
        'model = "awd_lstm"\n' + "".join(f"k{i} = 1\n" for i in range(900)),
        "No option of a recipe is called 'k0'",
    ),
    "a large file": ("#" * 40_000, "has 40,000 bytes, and it may have 32,768"),
    "a number without end": ("seed = 1" + "0" * 9000, "cannot be read"),
    "a NUL": ("seed = 1\0", "is not TOML"),
    "the same key twice": ("seed = 1\nseed = 2\n", "is not TOML"),
    "a date": ('model = "awd_lstm"\nseed = 2020-01-01\n', "whole number >= 0 for seed, got datet"),
    "a long name": ("[model]\nname = '" + "x" * 30_000 + "'\n", "No model is called"),
    "an unknown table": ('model = "awd_lstm"\n[x]\ny = 1\n', "No option of a recipe is called 'x'"),
}


@pytest.mark.parametrize("case", HOSTILE)
def test_a_file_that_no_recipe_can_be_is_one_sentence_at_once(tmp_path, case):
    text, message = HOSTILE[case]
    path = tmp_path / "recipe.toml"
    path.write_text(text)
    start = time.process_time()
    with pytest.raises(WideneckError) as caught:
        read_recipe(path)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)
    assert time.process_time() - start < 5


def test_what_is_raised_while_a_recipe_is_checked_is_one_sentence(tmp_path):
    (tmp_path / "recipe.toml").write_text('model = "awd_lstm"\n')

    def check(recipe):
        raise OverflowError("cannot convert float infinity to integer")

    with pytest.raises(WideneckError, match=r"a setting cannot be read \(cannot convert float"):
        read_recipe(tmp_path / "recipe.toml", check=check)


def test_a_model_is_compared_with_the_memory_and_nothing_is_drawn(monkeypatch):
    model, head = AwdLstm(embedding_size=8, hidden_size=8, num_layers=1), Softmax()
    built = language_model(model, head, vocab_size=50)
    numbers = sum(p.numel() for p in built.parameters())
    before = torch.get_rng_state()
    monkeypatch.setattr(size, "memory_of_machine", lambda: 2 * 4 * numbers)
    size.check_fits(model, head, vocab_size=50)
    with pytest.raises(WideneckError, match=r"gradients would take [\d,]+ bytes of memory, and"):
        size.check_fits(model, head, vocab_size=51)
    tiny = Transformer(options={"n_embd": 8, "n_head": 2, "n_layer": 1})
    monkeypatch.setattr(size, "memory_of_machine", lambda: 1000)
    with pytest.raises(WideneckError, match="this machine has 1,000: give smaller sizes"):
        size.check_fits(tiny, head, vocab_size=50)
    assert torch.equal(torch.get_rng_state(), before)


def test_the_bounds_of_numbers_are_one_mechanism():
    config = AdamW()
    for value in (1e31, -1e31, 10**400):
        object.__setattr__(config, "clip", value)
        with pytest.raises(WideneckError, match=r"at most 1e\+30 for clip, got"):
            check_number(lambda _: "it", config, "clip")
    object.__setattr__(config, "clip", 1e30)
    check_number(lambda _: "it", config, "clip")
    object.__setattr__(config, "clip", 2**31)
    with pytest.raises(WideneckError, match="at most 2,147,483,647 for clip, got 2147483648"):
        check_count(lambda _: "it", config, "clip", 1)


def test_dots_are_counted_before_they_are_parsed(tmp_path, monkeypatch):
    """Parsing 16,000 of them takes 1 GB and ten seconds."""

    def never(text):
        raise AssertionError("the recipe was parsed")

    monkeypatch.setattr("wideneck.training.recipe_file.tomllib.loads", never)
    (tmp_path / "recipe.toml").write_text(".".join("a" * 16_000) + " = 1\n")
    with pytest.raises(WideneckError, match="nested deeper than 16 levels"):
        read_recipe(tmp_path / "recipe.toml")
