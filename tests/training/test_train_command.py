"""`wideneck train` as its users meet it."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from training_runs import metrics, same_run, text

from wideneck.commands.train import train
from wideneck.errors import WideneckError

COMMAND = [sys.executable, "-m", "wideneck", "train"]
RECIPE = """\
[data]
text = "bottles.txt"

[model]
name = "awd_lstm"
embedding_size = 8
hidden_size = 12
num_layers = 2

[optimizer]
name = "sgd"
learning_rate = 2.0
average_from = 0.5

[training]
epochs = 1.2
batch_size = 4
segment = 10
evaluate_every = 0.4
log_every = 1
checkpoint_every = 0
"""


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Where a recipe and its text are; the current folder."""
    text(tmp_path)
    (tmp_path / "small.toml").write_text(RECIPE)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.mark.usefixtures("one_thread")
def test_killed_by_the_system_and_started_again_it_ends_the_same(folder, capsys):
    train(Path("small.toml"), out=Path("alone"))
    lines = Path("run/metrics.jsonl")
    process = subprocess.Popen(
        [*COMMAND, "small.toml", "--out", "run"],
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        stderr=subprocess.PIPE,
    )
    while process.poll() is None and not (lines.exists() and lines.read_text().count("\n") > 6):
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    shown = process.communicate()[1].decode()
    assert process.returncode == -signal.SIGKILL
    assert "loss " in shown
    assert " tokens/s" in shown
    assert Path("run/checkpoint.safetensors").exists()
    assert not Path("run/result.json").exists()

    capsys.readouterr()
    train(Path("small.toml"), out=Path("run"), json=Path("-"))
    assert same_run(Path("run"), Path("alone"))
    found = json.loads(capsys.readouterr().out)
    assert found == json.loads(Path("run/result.json").read_text())
    expected = json.loads(Path("alone/result.json").read_text())
    for key in ("valid_losses", "test_loss", "steps", "tokens", "num_parameters", "recipe"):
        assert found[key] == expected[key]


def test_what_was_found_is_printed_in_lines(folder, capsys):
    train(Path("small.toml"))
    first, second, third = capsys.readouterr().out.splitlines()
    result = json.loads(Path("runs/small/result.json").read_text())
    assert first.startswith(f"runs/small: {result['num_parameters']:,} parameters, ")
    assert f"({result['tokens']:,} tokens)" in first
    assert f"perplexity {result['valid_perplexity']:.2f} (evaluation " in second
    assert f"test: {result['test_loss']:.4f} nats a token" in third
    # Again: nothing is trained, the same is said.
    train(Path("small.toml"))
    assert capsys.readouterr().out.splitlines() == [first, second, third]


def test_options_replace_what_the_recipe_says(folder, capsys):
    (folder / "other.txt").write_text(Path("bottles.txt").read_text().replace("green", "brown"))
    train(Path("small.toml"), seed=7, text="other.txt", json=Path("found.json"))
    found = json.loads(Path("found.json").read_text())
    assert found == json.loads(Path("runs/small-seed7/result.json").read_text())
    assert found["text"].startswith("other.txt")
    assert "brown" in Path("runs/small-seed7/vocabulary.txt").read_text().split()
    kept = json.loads(Path("runs/small-seed7/recipe.json").read_text())
    assert (kept["seed"], kept["data"]["text"]) == (7, "other.txt")
    # The folder says what else it would be.
    with pytest.raises(WideneckError, match=r"another recipe \(seed is 7 there, 0 here\)"):
        train(Path("small.toml"), text="other.txt", out=Path("runs/small-seed7"))


def test_metrics_go_to_tensorboard(folder, capsys):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    train(Path("small.toml"), track_with="tensorboard")
    events = EventAccumulator("runs/small/tensorboard").Reload()
    lines = metrics(Path("runs/small"))
    for key in ("loss", "valid_loss"):
        logged = [(event.step, event.value) for event in events.Scalars(key)]
        written = [(line["step"], line[key]) for line in lines if key in line]
        assert [step for step, _ in logged] == [step for step, _ in written]
        assert [x for _, x in logged] == pytest.approx([x for _, x in written], rel=1e-6)


def test_a_place_that_cannot_be_written_is_refused_before_the_work(folder):
    with pytest.raises(WideneckError, match="there is no folder nowhere"):
        train(Path("small.toml"), json=Path("nowhere/found.json"))
    with pytest.raises(WideneckError, match="No tracker is called 'wandb'"):
        train(Path("small.toml"), track_with="wandb")
    assert not Path("runs").exists()


def test_a_mistake_in_the_recipe_is_one_line_and_exit_code_1(folder):
    (folder / "bad.toml").write_text(RECIPE.replace("segment", "segmnt"))
    done = subprocess.run([*COMMAND, "bad.toml"], capture_output=True, text=True, timeout=120)
    assert done.returncode == 1
    assert done.stdout == ""
    assert done.stderr == (
        "wideneck: bad.toml, line 18: No option of [training] is called 'segmnt'. Did you mean "
        "'segment'? Known: epochs, batch_size, segment, varied, longest, evaluate_every, "
        "evaluation_batch_size, test_batch_size, evaluation_tokens, patience, log_every, "
        "checkpoint_every.\n"
    )
