"""Two processes train as one does, under DDP and FSDP2, and go on from their checkpoints."""

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from training_on_processes import recipes
from training_runs import text, trained

from wideneck.data import encode_corpus, read_corpus
from wideneck.errors import WideneckError
from wideneck.evaluation import static_perplexity
from wideneck.training.saved_run import load_run

HERE = Path(__file__).parent


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("processes")
    text(path)
    return path


@pytest.fixture(scope="module")
def together(folder):
    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = free.getsockname()[1]
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join([str(HERE.parent), os.environ.get("PYTHONPATH", "")]),
        "OMP_NUM_THREADS": "1",
        # What accelerate's launcher sets.
        "ACCELERATE_USE_CPU": "true",
        "MASTER_ADDR": "localhost",
        "MASTER_PORT": str(port),
        "WORLD_SIZE": "2",
    }
    processes = [
        subprocess.Popen(
            [sys.executable, str(HERE / "training_on_processes.py"), str(folder)],
            env={**environment, "RANK": str(rank), "LOCAL_RANK": str(rank)},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in range(2)
    ]
    try:
        said = [process.communicate(timeout=180) for process in processes]
    finally:
        for process in processes:
            process.kill()
    for process, (_, errors) in zip(processes, said, strict=True):
        assert process.returncode == 0, errors[-3000:]
    return json.loads(said[0][0].splitlines()[-1])


@pytest.fixture(scope="module")
def alone(folder):
    made = recipes(str(folder / "bottles.txt"))
    return {name: trained(made[name], folder / name) for name in ("awd_lstm", "gpt2")}


CASES = [("ddp", "awd_lstm"), ("fsdp2", "awd_lstm"), ("fsdp2", "gpt2")]


@pytest.mark.parametrize(("kind", "name"), CASES)
def test_two_processes_come_to_the_losses_of_one(kind, name, together, alone):
    found, expected = together[kind][name], alone[name]
    assert found["processes"] == 2
    assert found["averaged"] == (name == "awd_lstm")
    assert found["valid_losses"] == pytest.approx(expected["valid_losses"], rel=1e-5)
    assert found["test_loss"] == pytest.approx(expected["test_loss"], rel=1e-5)
    for key in ("steps", "tokens", "num_parameters"):
        assert found[key] == expected[key]


@pytest.mark.parametrize(("kind", "name"), CASES)
def test_what_they_save_is_the_whole_model(kind, name, together, folder):
    saved = load_run(folder / f"{kind}-{name}")
    ids = encode_corpus(read_corpus(saved.recipe.data.text), saved.recipe.data).valid.ids
    loss = static_perplexity(saved.model, ids, batch_size=10).loss
    assert loss == pytest.approx(together[kind][name]["valid_loss"], rel=1e-5)


@pytest.mark.parametrize("kind", ["ddp", "fsdp2"])
def test_killed_and_started_again_they_go_on_bit_for_bit(kind, together):
    assert together["same"][kind] is True


def test_the_model_is_shared_as_it_should_be(together):
    assert together["ddp"]["sharded"] == [False]
    assert together["fsdp2"]["sharded"] == [True]


def test_what_the_first_refuses_all_refuse(together):
    first, second = together["refused"]
    assert first == second
    assert "There is no file or folder nowhere" in first


def test_a_launch_that_a_run_does_not_follow_is_refused(together):
    assert "version 2 of FSDP" in together["launches"]["fsdp 1"]
    assert "without gradient accumulation" in together["launches"]["accumulation"]


def test_processes_that_do_not_know_of_each_other_are_refused(folder, monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    made = recipes(str(folder / "bottles.txt"))
    with pytest.raises(WideneckError, match="2 processes were started that do not know of each"):
        trained(made["gpt2"], folder / "unaware")
    assert not (folder / "unaware").exists()
