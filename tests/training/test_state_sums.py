"""Cached states: a bit flipped anywhere is refused by name, and a kill leaves nothing behind."""

import json
import os
import random
import shutil
import signal
import time

import numpy as np
import pytest
import torch
from training_runs import text

from tiny import tiny_model
from tiny_text import character_tokenizer
from wideneck.data import Text
from wideneck.errors import WideneckError
from wideneck.files import sums
from wideneck.models.small.config import States
from wideneck.training import state_arrays, state_cache
from wideneck.training.state_cache import cached_states

CONFIG = States(train_tokens=256, valid_tokens=64, window=32)


@pytest.fixture(scope="module")
def texts(tmp_path_factory):
    with open(text(tmp_path_factory.mktemp("text"))) as file:
        documents = file.read().split("\f")
    return {
        "train": Text(name="train", documents=documents[:4], sha256="t"),
        "valid": Text(name="valid", documents=documents[4:], sha256="v"),
    }


@pytest.fixture(scope="module")
def model():
    return tiny_model("gpt2")


@pytest.fixture
def cached(texts, model):
    def open_in(folder, **options):
        return cached_states(
            CONFIG, texts, folder, model=model, tokenizer=character_tokenizer(), **options
        )

    return open_in


@pytest.fixture
def folder(cached, tmp_path):
    cached(tmp_path)
    return tmp_path


def everything(states):
    splits = states.splits.values()
    parts = [states.weight, *(x for s in splits for x in (s.hidden, s.target, s.document))]
    parts = [x.clone() for x in parts]  # of the files as they are now
    return [states.about, states.logit_scale, *(s.num_bytes for s in splits)], parts


def same(states, expected):
    (numbers, parts), (others, other_parts) = everything(states), expected
    return numbers == others and all(map(torch.equal, parts, other_parts))


def place_in(folder):
    (place,) = folder.glob("states-*")
    return place


def flip(path, bit):
    content = bytearray(path.read_bytes())
    content[bit // 8] ^= 1 << bit % 8
    path.write_bytes(content)


def test_a_bit_of_each_file_is_refused_with_its_name(folder, cached):
    files = sorted(place_in(folder).glob("*.npy"))
    assert len(files) == 10
    for path in files:
        whole = path.read_bytes()
        header = 10 + int.from_bytes(whole[8:10], "little")
        # The magic, the length, the dict, its padding, and the first and last byte of the data.
        for byte in (0, 8, 20, header - 10, header, len(whole) - 1):
            flip(path, 8 * byte + 4)
            with pytest.raises(WideneckError) as caught:
                cached(folder)
            assert str(caught.value) == (
                f"{path} is damaged: it is not what was written, as its sum says: "
                f"remove {path.parent}, and it is computed again."
            )
            path.write_bytes(whole)
    cached(folder)


def test_a_file_that_is_longer_shorter_or_gone_is_refused(folder, cached):
    path = place_in(folder) / "valid-target.npy"
    whole = path.read_bytes()
    for content in (whole + b"\0", whole[:-1], b""):
        path.write_bytes(content)
        with pytest.raises(WideneckError, match=r"valid-target\.npy.*: remove .*computed again"):
            cached(folder)
    path.unlink()
    with pytest.raises(WideneckError, match=r"valid-target\.npy cannot be read .*computed again"):
        cached(folder)


def test_a_bit_of_the_description_is_refused_or_changes_nothing(folder, cached):
    expected = everything(cached(folder))
    path = place_in(folder) / "about.json"
    whole, refused = path.read_bytes(), 0
    bits = random.Random(0).sample(range(8 * len(whole)), 100)
    for bit in bits:
        flip(path, bit)
        try:
            assert same(cached(folder), expected), f"bit {bit}"
        except WideneckError as error:
            refused += str(path) in str(error) and "computed again" in str(error)
        path.write_bytes(whole)
    assert refused > 0.99 * len(bits)
    path.write_bytes(whole.replace(b'"window": 32', b'"window": 64'))
    with pytest.raises(WideneckError, match=r"about\.json is damaged"):
        cached(folder)


def test_a_damaged_cache_that_is_removed_is_computed_again(folder, cached):
    expected, place = everything(cached(folder)), place_in(folder)
    shutil.rmtree(place)
    assert same(cached(folder), expected)


def test_a_cache_without_its_description_is_not_in_the_way(folder, cached):
    expected, place = everything(cached(folder)), place_in(folder)
    (place / "about.json").unlink()
    (place / "weight.npy").write_bytes(b"half")
    (place / "more").write_bytes(b"")
    assert same(cached(folder), expected)
    assert not (place / "more").exists()


def test_a_cache_of_an_earlier_version_is_read_and_one_line_says_so(folder, cached):
    expected, path = everything(cached(folder)), place_in(folder) / "about.json"
    content = json.loads(path.read_text())
    path.write_text(json.dumps({k: v for k, v in content.items() if k not in ("sums", "sum")}))
    with pytest.warns(UserWarning, match=f"{path.parent} .*no sums"):
        assert same(cached(folder), expected)
    path.write_text(json.dumps({k: v for k, v in content.items() if k != "sum"}))
    with pytest.raises(WideneckError, match=r"about\.json is damaged"):
        cached(folder)


def test_checking_that_takes_longer_than_a_second_is_told(folder, cached, monkeypatch):
    told = []

    def progress(*so_far):
        told.append(so_far)

    cached(folder, progress=progress)
    assert told == []
    monkeypatch.setattr(sums, "QUICK", -1.0)
    cached(folder, progress=progress)
    size = sum(path.stat().st_size for path in place_in(folder).glob("*.npy"))
    assert told[-1] == ("checking the hidden states", size, size)


# Kills


def fork(work):
    """A process that does the work and ends, whatever it comes to."""
    child = os.fork()
    if child == 0:
        try:
            work()
        finally:
            os._exit(0)
    return child


def slow_build(monkeypatch, pause):
    """The files of a cache come one by one; no torch, whose threads a fork does not have."""

    def build(language_model, head, texts, counts, window, arrays, progress):
        names = ("hidden", "target", "document", "bytes")
        for name in ("weight", *(f"{split}-{part}" for split in counts for part in names)):
            with arrays.writing(name, (1, 1), np.dtype(np.float32)) as file:
                time.sleep(pause)
                file.write(b"1234")
        arrays.save("logit_scale", torch.tensor(1.0))

    monkeypatch.setattr(state_cache, "_build", build)
    monkeypatch.setattr(state_cache, "load_language_model", lambda *_, **__: None)


def left(folder):
    return [path.name for path in folder.glob(".states-*")]


def until(condition):
    deadline = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.001)


def test_ten_kills_leave_nothing_behind_once_the_next_run_has_the_lock(
    cached, tmp_path, monkeypatch
):
    with monkeypatch.context() as patch:
        slow_build(patch, 0.02)
        at = random.Random(0)
        for _ in range(10):
            before = set(left(tmp_path))
            child = fork(lambda: cached(tmp_path))
            until(lambda before=before: set(left(tmp_path)) - before)
            time.sleep(at.uniform(0, 0.1))
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
            assert len(left(tmp_path)) == 1  # each sweeps what the one before it left
    states = cached(tmp_path)
    assert left(tmp_path) == []
    assert [path.name for path in tmp_path.iterdir()] == [place_in(tmp_path).name]
    assert states.splits["train"].hidden.shape == (256, 16)


def test_what_a_living_process_builds_is_not_swept(tmp_path, cached, monkeypatch):
    with monkeypatch.context() as patch:
        slow_build(patch, 0.05)
        child = fork(lambda: cached(tmp_path))
        until(lambda: left(tmp_path) and list(tmp_path.glob(".states-*/built/*.npy")))
        (name,) = left(tmp_path)
        state_arrays.sweep(tmp_path)
        assert left(tmp_path) == [name]
        os.waitpid(child, 0)
    assert left(tmp_path) == []
    assert (place_in(tmp_path) / "about.json").exists()


def test_a_sweep_between_making_a_folder_and_locking_it_does_no_harm(tmp_path, monkeypatch):
    mkdtemp = state_arrays.tempfile.mkdtemp
    swept = []

    def overtaken(**options):
        place = mkdtemp(**options)
        if not swept:
            state_arrays.sweep(tmp_path)
            swept.append(place)
        return place

    monkeypatch.setattr(state_arrays.tempfile, "mkdtemp", overtaken)
    with state_arrays.workplace(tmp_path, "0" * 12) as built:
        assert built.is_dir()
        assert not os.path.exists(swept[0])
    assert left(tmp_path) == []


def test_folders_that_are_not_ours_are_not_swept(tmp_path):
    for name in (".states-backup", "states-0123456789ab", ".states"):
        (tmp_path / name).mkdir()
    (tmp_path / ".states-0123456789ab.link").symlink_to(tmp_path / "states-0123456789ab")
    state_arrays.sweep(tmp_path)
    assert len(list(tmp_path.iterdir())) == 4
