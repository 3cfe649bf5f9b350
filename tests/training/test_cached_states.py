"""Hidden states of a frozen model on the disk, and heads that start on them."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from training_runs import text

from tiny import tiny_model
from tiny_text import character_tokenizer
from wideneck.data import Text, cut_windows
from wideneck.errors import WideneckError
from wideneck.models.small.config import States
from wideneck.training import state_cache
from wideneck.training.batches import Rows, rows_in_order
from wideneck.training.loop import mean_nll
from wideneck.training.recipe import Schedule
from wideneck.training.recipe_file import recipe
from wideneck.training.state_cache import cached_states
from wideneck.training.states_task import HeadAlone, head_on

CONFIG = States(train_tokens=256, valid_tokens=64, window=32)


@pytest.fixture(scope="module")
def texts(tmp_path_factory):
    path = text(tmp_path_factory.mktemp("text"))
    with open(path) as file:
        documents = file.read().split("\f")
    return {
        "train": Text(name="train", documents=documents[:4], sha256="t"),
        "valid": Text(name="valid", documents=documents[4:], sha256="v"),
    }


def cached(name, texts, folder, config=CONFIG, *, bos=False):
    return cached_states(
        config, texts, folder, model=tiny_model(name), tokenizer=character_tokenizer(bos=bos)
    )


@pytest.fixture(scope="module")
def states(texts, tmp_path_factory):
    return cached("gpt2", texts, tmp_path_factory.mktemp("states"))


def made(head, start="own"):
    return recipe({"model": {"name": "states", "start": start}, "head": head})


@pytest.mark.parametrize("name", ["gpt2", "phi", "granite", "cohere"])
@pytest.mark.parametrize("bos", [False, True])
@torch.no_grad()
def test_a_softmax_on_the_states_has_the_model_s_own_loss(name, bos, texts, tmp_path):
    states = cached(name, texts, tmp_path, bos=bos)
    model, tokenizer = tiny_model(name), character_tokenizer(bos=bos)
    windows = cut_windows(
        texts["valid"], tokenizer, num_tokens=64, window=32, prefix=[0] if bos else []
    )
    logits = model(windows.ids).logits[:, -32:]
    expected = F.cross_entropy(logits.flatten(0, 1), windows.targets.flatten()).item()
    valid = states.splits["valid"]
    assert torch.equal(valid.target, windows.targets.flatten())
    assert torch.equal(valid.document, windows.document)
    assert valid.num_bytes == windows.num_bytes.sum()
    head = HeadAlone(head_on(states, made("softmax"), "own"))
    rows = rows_in_order(valid.hidden, valid.target, Schedule())
    assert mean_nll(head, rows, torch.device("cpu")) == pytest.approx(expected, rel=1e-5)


@torch.no_grad()
def test_a_low_rank_head_starts_where_the_weighted_error_is_least(states):
    hidden = states.splits["train"].hidden.double()
    root = torch.linalg.cholesky(hidden.T @ hidden / len(hidden))
    head = head_on(states, made({"name": "low_rank", "rank": 4}, "whitened"), "whitened")
    product = head.weight.double() @ dict(head.named_parameters())["down.weight"].double()
    weight = states.weight.double()
    centred = weight - weight.mean(0)  # what all tokens share, no softmax sees
    error = ((centred - product) @ root).square().sum().item()
    # No matrix of rank 4 is nearer (Eckart & Young).
    least = torch.linalg.svdvals(centred @ root)[4:].square().sum().item()
    assert error == pytest.approx(least, rel=1e-3)


def test_heads_start_where_they_are_told_or_say_why_not(states):
    torch.manual_seed(0)
    own = head_on(states, made("softmax"), "own")
    assert torch.equal(own.weight, states.weight)
    assert own.weight.data_ptr() != states.weight.data_ptr()  # the cache is not trained
    fresh = head_on(states, made("softmax", "random"), "random")
    assert not torch.equal(fresh.weight, states.weight)
    with pytest.raises(WideneckError, match=r"whitened.* is for the head low_rank"):
        head_on(states, made("softmax"), "whitened")
    with pytest.raises(WideneckError, match=r"starts .whitened. or .random., not .own."):
        head_on(states, made("low_rank"), "own")


def test_equal_settings_share_a_cache_and_others_do_not(states, texts, tmp_path):
    for _ in range(2):
        cached("gpt2", texts, tmp_path)
    assert len(list(tmp_path.iterdir())) == 1
    cached("gpt2", texts, tmp_path, States(train_tokens=128, valid_tokens=64, window=32))
    cached("gpt2", texts, tmp_path, States(train_tokens=256, valid_tokens=64, window=64))
    cached("gpt2", {**texts, "valid": replace(texts["valid"], sha256="x")}, tmp_path)
    cached("llama", texts, tmp_path)
    assert len(list(tmp_path.iterdir())) == 5


def test_the_cache_is_plain_files_that_training_does_not_change(texts, tmp_path):
    states = cached("gpt2", texts, tmp_path)
    (place,) = tmp_path.iterdir()
    before = {file.name: file.read_bytes() for file in place.iterdir()}
    assert np.load(place / "train-hidden.npy").shape == (256, 16)
    assert json.loads((place / "about.json").read_text())["train_tokens"] == 256
    states.splits["train"].hidden.zero_()
    states.weight.zero_()
    assert {file.name: file.read_bytes() for file in place.iterdir()} == before


@pytest.mark.parametrize(("left", "how"), [(0, "its array cannot be read"), (200, "is damaged")])
def test_a_damaged_cache_is_named_and_others_may_read_one(left, how, texts, tmp_path):
    cached("gpt2", texts, tmp_path)
    (place,) = tmp_path.iterdir()
    (tmp_path / "folder").mkdir()
    assert place.stat().st_mode == (tmp_path / "folder").stat().st_mode
    with open(place / "train-hidden.npy", "r+b") as file:
        file.truncate(left)
    with pytest.raises(WideneckError, match=rf"train-hidden\.npy:? {how}.*: remove .*states-"):
        cached("gpt2", texts, tmp_path)


def test_batches_read_the_states_where_they_are(states):
    train = states.splits["train"]
    batch = Rows(train.hidden, train.target, Schedule(batch_size=32), 0).order(0).batch(1)
    assert batch.input.shape == (32, 16)
    assert batch.input.untyped_storage().data_ptr() != train.hidden.untyped_storage().data_ptr()


def test_a_text_that_is_too_short_is_refused_and_nothing_stays(texts, tmp_path):
    config = States(train_tokens=32_000, valid_tokens=64, window=32)
    with pytest.raises(WideneckError, match=r"not 32,000: ask for fewer or give a longer text"):
        cached("gpt2", texts, tmp_path, config)
    assert list(tmp_path.iterdir()) == []


def test_a_model_that_caps_its_scores_is_refused(texts, tmp_path):
    with pytest.raises(WideneckError, match="caps its logits softly"):
        cached("gemma2", texts, tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_full_disk_is_one_sentence_and_nothing_stays(texts, tmp_path, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(state_cache, "_build_split", full)
    with pytest.raises(WideneckError, match=r"could not be written below .*: No space left"):
        cached("gpt2", texts, tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_cache_that_another_process_finished_first_is_taken(texts, tmp_path, monkeypatch):
    first = cached("gpt2", texts, tmp_path)
    (place,) = tmp_path.iterdir()
    hidden = tmp_path / "elsewhere"
    place.rename(hidden)
    build = state_cache._build

    def slow(*arguments):
        build(*arguments)
        hidden.rename(place)

    monkeypatch.setattr(state_cache, "_build", slow)
    second = cached("gpt2", texts, tmp_path)
    assert torch.equal(first.splits["train"].hidden, second.splits["train"].hidden)
    assert [p.name for p in tmp_path.iterdir()] == [place.name]
