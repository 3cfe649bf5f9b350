"""A run that is killed and started again ends as the run left alone does, to the last bit."""

import json
import os
import random

import pytest
import torch
from safetensors import safe_open
from training_runs import (
    AWD,
    GPT2,
    STATES,
    Killed,
    changed,
    frozen_model,
    metrics,
    same_run,
    text,
    trained,
)

from wideneck.errors import WideneckError
from wideneck.training.folder import CHECKPOINT
from wideneck.training.recipe_file import recipe
from wideneck.training.states_task import recipe_states

KINDS = ("awd_lstm", "transformer", "states")


@pytest.fixture(scope="module")
def recipes(tmp_path_factory):
    folder = tmp_path_factory.mktemp("text")
    data = {"text": text(folder)}
    model = {"model": frozen_model(folder / "model"), "test_tokens": 64}
    return {
        "awd_lstm": changed(AWD, data=data),
        "transformer": changed(GPT2, data=data),
        "states": changed(STATES, data=data, model=model),
    }


@pytest.fixture(scope="module")
def alone(recipes, tmp_path_factory):
    """A run of each kind that nothing interrupts, and its result."""
    folder = tmp_path_factory.mktemp("alone")
    return {kind: (folder / kind, trained(recipes[kind], folder / kind)) for kind in KINDS}


def to_the_end(content, out, kill_after):
    """Killed after so many steps of every start, as long as `kill_after` says when."""
    for steps in kill_after:
        try:
            return trained(content, out, kill_after=steps)
        except Killed:
            torch.rand(3)  # another process has another generator
    return trained(content, out)


def assert_as_alone(kind, alone, out, result):
    folder, expected = alone[kind]
    assert same_run(out, folder)
    for key in ("valid_losses", "test_loss", "steps", "tokens", "best_evaluation", "averaged"):
        assert result[key] == expected[key]
    assert not (out / CHECKPOINT).exists()


@pytest.mark.parametrize("kind", KINDS)
def test_the_runs_do_something(kind, alone):
    _, result = alone[kind]
    assert result["steps"] >= 30
    assert result["valid_losses"][-1] < result["valid_losses"][0]
    assert result["averaged"] == (kind == "awd_lstm")


@pytest.mark.parametrize("kind", KINDS)
def test_killed_anywhere_it_goes_on_bit_for_bit(kind, recipes, alone, tmp_path):
    content = changed(recipes[kind], training={"checkpoint_every": 0})
    at = random.Random(kind)
    kills = [at.randint(1, 9) for _ in range(5)]
    result = to_the_end(content, tmp_path / "run", kills)
    assert_as_alone(kind, alone, tmp_path / "run", result)


@pytest.mark.parametrize("kind", KINDS)
def test_what_was_done_after_the_last_checkpoint_is_done_again(kind, recipes, alone, tmp_path):
    # Checkpoints come with evaluations alone; up to then every line of metrics is cut off.
    result = to_the_end(recipes[kind], tmp_path / "run", [3, 13, 13, 11])
    assert_as_alone(kind, alone, tmp_path / "run", result)


def test_killed_while_it_writes_it_goes_on_bit_for_bit(recipes, alone, tmp_path, monkeypatch):
    content = changed(recipes["awd_lstm"], training={"checkpoint_every": 0})
    replace, unlink, out = os.replace, os.unlink, tmp_path / "run"

    def kill_at(name, time):
        seen, dead = 0, False

        def killed(source, target):
            nonlocal seen, dead
            seen += str(target).endswith(name)
            if seen == time and str(target).endswith(name):
                dead = True
                raise Killed
            replace(source, target)

        def removed(path, **options):
            if not dead:  # a process that is killed tidies nothing up
                unlink(path, **options)

        with monkeypatch.context() as patch:
            patch.setattr(os, "replace", killed)
            patch.setattr(os, "unlink", removed)
            with pytest.raises(Killed):
                trained(content, out)

    for name in ("recipe.json", "vocabulary.txt"):
        kill_at(name, 1)
    kill_at("checkpoint.safetensors", 2)
    assert len(list(out.glob(".*.*.*"))) == 1
    kill_at("model.safetensors", 1)
    kill_at("checkpoint.safetensors", 9)
    kill_at("result.json", 1)
    assert_as_alone("awd_lstm", alone, out, trained(content, out))
    assert [p.name for p in out.iterdir() if p.name[0] == "."] == [".lock"]


def test_a_finished_run_gives_its_result_again(recipes, alone):
    out, result = alone["awd_lstm"]
    before = metrics(out)
    assert trained(recipes["awd_lstm"], out, kill_after=1) == result
    assert metrics(out) == before


def test_a_run_of_before_a_field_was_renamed_goes_on(recipes, tmp_path):
    """Its recipe says `context_size`, which is `embedding_size` since December 2026."""
    content = changed(recipes["awd_lstm"], head={"embedding_size": 8})
    result = trained(content, tmp_path / "run")
    file = tmp_path / "run" / "recipe.json"
    old = json.loads(file.read_text())
    old["head"]["context_size"] = old["head"].pop("embedding_size")
    file.write_text(json.dumps(old))
    assert trained(content, tmp_path / "run", kill_after=1) == result


def test_a_run_with_other_lengths_of_text_is_not_the_same(recipes, alone, tmp_path):
    """The comparison of this file sees a difference where there is one."""
    trained(changed(recipes["awd_lstm"], seed=1), tmp_path / "run")
    assert not same_run(tmp_path / "run", alone["awd_lstm"][0])


def test_metrics_that_are_shorter_than_the_checkpoint_says_are_refused(recipes, tmp_path):
    content = changed(recipes["awd_lstm"], training={"checkpoint_every": 0, "log_every": 1})
    out = tmp_path / "run"
    with pytest.raises(Killed):
        trained(content, out, kill_after=9)
    lines, kept = out / "metrics.jsonl", (out / "checkpoint.safetensors").read_bytes()
    whole = lines.read_bytes()
    for left in (0, len(whole) // 2):
        lines.write_bytes(whole[:left])
        with pytest.raises(WideneckError, match=rf"metrics.jsonl has {left} bytes, and had [0-9]+"):
            trained(content, out)
        assert lines.read_bytes() == whole[:left]
    lines.unlink()
    with pytest.raises(WideneckError, match=r"metrics.jsonl has 0 bytes.*give the whole file back"):
        trained(content, out)
    assert (out / "checkpoint.safetensors").read_bytes() == kept
    lines.write_bytes(whole)
    trained(content, out)


def test_lines_after_the_checkpoint_are_cut_off_and_half_a_line_too(recipes, tmp_path):
    content = changed(recipes["awd_lstm"], training={"checkpoint_every": 0, "log_every": 1})
    out = tmp_path / "run"
    with pytest.raises(Killed):
        trained(content, out, kill_after=9)
    with (out / "metrics.jsonl").open("a") as file:
        file.write('{"step": 9, "loss": 1e9}\n{"step": 10, "lo')
    trained(content, out)
    steps = [line["step"] for line in metrics(out) if "loss" in line]
    assert steps == list(range(1, len(steps) + 1))
    assert all(line["loss"] < 1e9 for line in metrics(out) if "loss" in line)


def test_the_states_are_computed_once(recipes, tmp_path, monkeypatch):
    made = recipe(recipes["states"])
    first = recipe_states(made, tmp_path)
    monkeypatch.setattr("wideneck.training.state_cache._build", None)
    again = recipe_states(made, tmp_path)
    for split in ("train", "valid", "test"):
        assert torch.equal(first.splits[split].hidden, again.splits[split].hidden)
    assert len(list(tmp_path.iterdir())) == 1


def test_a_checkpoint_holds_no_more_than_the_state(recipes, tmp_path):
    content = changed(recipes["awd_lstm"], training={"checkpoint_every": 0})
    with pytest.raises(Killed):
        trained(content, tmp_path / "run", kill_after=30)  # averaging by now
    with safe_open(tmp_path / "run" / CHECKPOINT, framework="pt") as file:
        names = {key.split(".")[0] for key in file.keys()}
        random_state = file.get_tensor("random.cpu")
    assert names == {"model", "average", "carried", "random"}
    assert random_state.shape == (1, *torch.get_rng_state().shape)
