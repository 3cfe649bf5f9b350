"""What is stored is what was written: a bit flipped anywhere is refused by name, or harmless."""

import itertools
import json
import os
import random
import shutil
import sys
from dataclasses import dataclass

import pytest
import torch
from safetensors.torch import load_file, save_file
from training_runs import AWD, Killed, changed, metrics, text, trained

from wideneck.errors import WideneckError
from wideneck.files import sums
from wideneck.training.metrics import read_metrics
from wideneck.training.saved_run import load_run
from wideneck.training.tensor_file import PLAIN, Stored, check, write_tensors

TEMPORARY = ".checkpoint.safetensors"
"""How the name of a checkpoint begins that is being written."""


@dataclass(frozen=True)
class Line:
    """What is read of a line of metrics."""

    loss: float | None = None


SAMPLED = 300
"""Bits of the header; all of them take a minute, and were tried once."""


@pytest.fixture(scope="module")
def content(tmp_path_factory):
    data = {"text": text(tmp_path_factory.mktemp("text"))}
    return changed(AWD, data=data, training={"checkpoint_every": 0})


@pytest.fixture(scope="module")
def interrupted(content, tmp_path_factory):
    out = tmp_path_factory.mktemp("interrupted") / "run"
    with pytest.raises(Killed):
        trained(content, out, kill_after=20)
    return out


@pytest.fixture
def run(interrupted, tmp_path):
    """A run of its own that was killed after an evaluation, while it averaged."""
    return shutil.copytree(interrupted, tmp_path / "run")


def everything(path):
    """All that a reader gets from a file."""
    stored = Stored(path)
    tensors = {
        name: (x.dtype, x.shape, x.reshape(-1).view(torch.uint8).numpy().tobytes())
        for name, x in stored.tensors()
    }
    return stored.about, tensors


def flipped(whole, bit):
    damaged = bytearray(whole)
    damaged[bit // 8] ^= 1 << bit % 8
    return bytes(damaged)


def refused_or_harmless(path, whole, bits):
    """How many of the flips were refused; the others must not change what is read."""
    expected, said = everything(path), []
    for bit in bits:
        path.write_bytes(flipped(whole, bit))
        try:
            found = everything(path)
        except WideneckError as error:
            said.append(str(error))
        else:
            assert found == expected, f"bit {bit}"
    path.write_bytes(whole)
    assert all(str(path) in one for one in said)
    assert all("remove it" in one or "says nothing of a run" in one for one in said)
    return len(said)


def header_of(whole):
    return whole[8 : 8 + int.from_bytes(whole[:8], "little")]


def test_a_bit_of_the_length_or_of_the_header_s_end_is_refused(run):
    path = run / "checkpoint.safetensors"
    whole = path.read_bytes()
    end = 8 * (8 + len(header_of(whole)))
    padding = len(header_of(whole)) - len(header_of(whole).rstrip(b" "))
    bits = [*range(64), *range(end - 8 * (padding + 2), end)]
    assert refused_or_harmless(path, whole, bits) == len(bits)


def test_a_bit_of_the_header_is_refused_or_changes_nothing(run):
    path = run / "checkpoint.safetensors"
    whole = path.read_bytes()
    header = range(64, 64 + 8 * len(header_of(whole)))
    bits = random.Random(0).sample(header, SAMPLED)
    assert refused_or_harmless(path, whole, bits) > 0.99 * SAMPLED


def test_a_bit_of_each_tensor_is_refused_with_its_name(run):
    path = run / "checkpoint.safetensors"
    whole = path.read_bytes()
    header = json.loads(header_of(whole))
    del header["__metadata__"]
    names = {name.split(".")[0] for name in header}
    assert names == {"model", "average", "carried", "random"}
    for name, table in header.items():
        first, last = (8 + len(header_of(whole)) + at for at in table["data_offsets"])
        for byte in {first, (first + last) // 2, last - 1}:
            path.write_bytes(flipped(whole, 8 * byte + 3))
            with pytest.raises(
                WideneckError,
                match=rf"checkpoint\.safetensors is damaged: the tensor {name} is .*remove it",
            ):
                everything(path)


@pytest.mark.parametrize("change", [lambda b: b[:-1], lambda b: b + b"\0", lambda b: b[:9]])
def test_a_file_that_is_longer_or_shorter_is_refused(change, run):
    path = run / "checkpoint.safetensors"
    path.write_bytes(change(path.read_bytes()))
    with pytest.raises(WideneckError, match=r"checkpoint\.safetensors: its header cannot be read"):
        Stored(path)


def test_two_tensors_of_one_shape_that_changed_places_are_refused(run):
    path = run / "checkpoint.safetensors"
    header = json.loads(header_of(path.read_bytes()))
    names = [name for name in header if name.startswith("model.")]
    pairs = itertools.combinations(names, 2)
    first, second = next((a, b) for a, b in pairs if header[a]["shape"] == header[b]["shape"] != [])
    damaged = bytearray(path.read_bytes())
    start = 8 + len(header_of(damaged))
    places = []
    for name in (first, second):
        low, high = header[name]["data_offsets"]
        places.append(slice(start + low, start + high))
    damaged[places[0]], damaged[places[1]] = damaged[places[1]], damaged[places[0]]
    assert damaged != path.read_bytes()
    path.write_bytes(damaged)
    with pytest.raises(WideneckError, match="is damaged: the tensor"):
        everything(path)


def test_a_run_does_not_go_on_from_a_damaged_checkpoint_and_starts_over_without_it(run, content):
    path = run / "checkpoint.safetensors"
    damaged = flipped(path.read_bytes(), 8 * path.stat().st_size - 1)
    path.write_bytes(damaged)
    before = {file.name: file.read_bytes() for file in run.iterdir()}
    with pytest.raises(
        WideneckError,
        match=r"is damaged: .* remove it, and the same command starts over \(the best weights so "
        r"far are in model\.safetensors\)",
    ):
        trained(content, run)
    assert {file.name: file.read_bytes() for file in run.iterdir()} == before
    path.unlink()
    with pytest.raises(Killed):
        trained(content, run, kill_after=1)


def test_damaged_weights_are_not_loaded_and_a_run_says_so_before_it_goes_on(run, content):
    path = run / "model.safetensors"
    path.write_bytes(flipped(path.read_bytes(), 8 * path.stat().st_size - 1))
    for use in (load_run, lambda out: trained(content, out)):
        with pytest.raises(
            WideneckError, match=r"model\.safetensors is damaged: the tensor .* give back a copy"
        ):
            use(run)


def without_sums(path):
    """As versions before the sums wrote it."""
    save_file(load_file(path), path, {PLAIN: json.dumps(Stored(path).about)})


def test_a_run_of_an_earlier_version_goes_on_and_one_line_says_that_nothing_is_checked(
    run, interrupted, content, tmp_path
):
    for name in ("checkpoint.safetensors", "model.safetensors"):
        without_sums(run / name)
    other = shutil.copytree(interrupted, tmp_path / "other")
    trained(content, other)  # a warning would be an error
    with pytest.warns(UserWarning, match="carries no sums") as said:
        trained(content, run)
    (message,) = (str(one.message) for one in said)
    assert message.startswith(f"wideneck: {run / 'checkpoint.safetensors'} is of an earlier")
    assert metrics(run) == metrics(other)
    ours, theirs = (load_file(out / "model.safetensors") for out in (run, other))
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)


def test_one_name_cannot_turn_sums_off(run):
    path = run / "checkpoint.safetensors"
    save_file(load_file(path), path, {"wideneck, summer": json.dumps({})})
    with pytest.raises(WideneckError, match="its header says nothing of a run"):
        Stored(path)


@pytest.mark.parametrize(
    ("change", "key"),
    [
        ({"step": "20"}, "$.standing.step"),
        ({"history": [None]}, "$.standing.history"),
        ({"more": 1}, "unknown field `more`"),
    ],
)
def test_a_header_that_is_not_as_it_should_be_is_one_sentence_with_the_key(
    change, key, run, content
):
    path = run / "checkpoint.safetensors"
    tensors, about = load_file(path), Stored(path).about
    about["standing"] |= change
    write_tensors(path, tensors, about)
    with pytest.raises(WideneckError, match="is not as wideneck writes it") as caught:
        trained(content, run)
    assert key in str(caught.value)


def test_reading_that_takes_longer_than_a_second_is_told(run, monkeypatch):
    told = []
    path = run / "checkpoint.safetensors"

    def read():
        for _ in Stored(path, lambda *so_far: told.append(so_far)).tensors():
            pass

    read()
    assert told == []
    monkeypatch.setattr(sums, "QUICK", -1.0)
    read()
    stages, done, total = zip(*told, strict=True)
    assert set(stages) == {"reading checkpoint.safetensors"}
    assert list(done) == sorted(done)
    assert set(total) == {path.stat().st_size}
    assert done[-1] == path.stat().st_size - 8 - len(header_of(path.read_bytes()))


@pytest.mark.skipif(sys.platform != "linux", reason="asks /proc which file a number is")
def test_metrics_are_on_the_disk_before_the_checkpoint_that_counts_them(
    content, tmp_path, monkeypatch
):
    synced, fsync = [], os.fsync

    def seen(number):
        name = os.path.basename(os.readlink(f"/proc/self/fd/{number}"))
        synced.append(TEMPORARY if name.startswith(f"{TEMPORARY}.") else name)
        fsync(number)

    monkeypatch.setattr(os, "fsync", seen)
    with pytest.raises(Killed):
        trained(content, tmp_path / "run", kill_after=2)
    at = synced.index(TEMPORARY)
    assert synced[at - 1 : at + 2] == ["metrics.jsonl", TEMPORARY, "run"]


def test_a_damaged_line_of_metrics_is_named(tmp_path):
    path = tmp_path / "metrics.jsonl"
    for damaged in (b'{"loss": 1', b'{"loss": "1"}', b"[]", b"\xff"):
        path.write_bytes(b'{"step": 1, "loss": 2.5}\n' + damaged + b"\n")
        with pytest.raises(WideneckError, match=r"metrics\.jsonl, line 2: .*trained again"):
            read_metrics(path, Line)
    path.write_bytes(b'{"step": 1, "loss": 2.5}\n{"step": 2}\n')
    assert [line.loss for line in read_metrics(path, Line)] == [2.5, None]
    path.unlink()
    with pytest.raises(WideneckError, match=r"metrics\.jsonl: its text cannot be read"):
        read_metrics(path, Line)


def test_a_result_that_is_not_as_it_should_be_is_one_sentence(run, content):
    trained(content, run)
    result = json.loads((run / "result.json").read_text())
    (run / "result.json").write_text(json.dumps(result | {"valid_loss": "low"}))
    with pytest.raises(WideneckError, match=r"result\.json is not .* `str` - at `\$\.valid_loss`"):
        trained(content, run)


@pytest.mark.parametrize(
    "edit", [(b'"F32"', b'"I32"'), (b"[2,6]", b"[3,4]")], ids=["dtype", "shape"]
)
def test_a_tensor_of_another_dtype_or_shape_is_refused(tmp_path, edit):
    """The bytes of the tensor are what they were; only the header says something else."""
    path = tmp_path / "model.safetensors"
    write_tensors(path, {"a": torch.randn(2, 6)}, {})
    data = path.read_bytes()
    assert data.count(edit[0]) == 1
    path.write_bytes(data.replace(*edit))
    with pytest.raises(WideneckError, match="the tensor a is not what was written"):
        check(path)


def test_another_file_in_the_place_of_the_best_weights_is_refused_at_once(run, content):
    shutil.copy(run / "checkpoint.safetensors", run / "model.safetensors")
    with pytest.raises(WideneckError, match="does not hold the best weights of this run"):
        trained(content, run)
