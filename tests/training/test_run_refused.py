"""What a run refuses and what it survives: one sentence, and what was in the folder stays."""

import errno
import json
import re
import resource
import subprocess
import sys

import pytest
import torch
from accelerate import Accelerator
from safetensors.torch import load_file, save_file
from training_runs import AWD, Killed, changed, metrics, text, trained

from wideneck.commands.evaluate import evaluate
from wideneck.errors import WideneckError
from wideneck.training import checkpoint, tensor_file, tracking
from wideneck.training.folder import RunFolder, is_run
from wideneck.training.loop import Trainer
from wideneck.training.metrics import Metrics
from wideneck.training.saved_run import load_run

SMALL = AWD | {"head": {"name": "softmax"}}
KEPT = ("checkpoint.safetensors", "model.safetensors", "metrics.jsonl", "vocabulary.txt")


@pytest.fixture
def content(tmp_path):
    return changed(SMALL, data={"text": text(tmp_path)}, training={"checkpoint_every": 1000})


@pytest.fixture
def run(content, tmp_path):
    """The folder of a run that was interrupted after an evaluation."""
    with pytest.raises(Killed):
        trained(content, tmp_path / "run", kill_after=12)
    return tmp_path / "run"


def kept(out):
    return {name: (out / name).read_bytes() for name in KEPT}


# Two in one folder


def test_a_second_run_in_the_folder_is_refused_while_the_first_is_there(run, content):
    first = RunFolder(run, json.loads((run / "recipe.json").read_text()))
    before = kept(run)
    with pytest.raises(WideneckError, match=r"Another process trains in .*run; wait for it"):
        trained(content, run)
    assert kept(run) == before
    first.close()
    assert trained(content, run)["steps"] > 12


def test_a_run_takes_no_bfloat16_over_from_a_trainer_of_the_same_process(content, tmp_path):
    Accelerator(cpu=True, mixed_precision="bf16")
    with pytest.raises(WideneckError, match="'bf16', where the run wants 'no'"):
        trained(content, tmp_path / "run")


def test_a_process_that_is_killed_leaves_no_lock(tmp_path):
    hold = (
        "import sys\nfrom pathlib import Path\n"
        "from wideneck.training.folder import RunFolder\n"
        "held = RunFolder(Path(sys.argv[1]), {'seed': 0})\nprint('locked', flush=True)\n"
        "sys.stdin.read()"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", hold, str(tmp_path / "run")],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    assert process.stdout.readline() == b"locked\n"
    with pytest.raises(WideneckError, match="Another process trains in"):
        RunFolder(tmp_path / "run", {"seed": 0})
    process.kill()
    process.communicate()
    RunFolder(tmp_path / "run", {"seed": 0}).close()


def test_a_folder_that_a_mistake_was_found_in_is_free_again(run, content):
    for _ in range(2):
        with pytest.raises(WideneckError, match="another recipe"):
            trained(changed(content, seed=5), run)
    trained(content, run)


# Another recipe, or no run at all


def test_another_recipe_is_refused_with_the_first_difference(run, content):
    before = kept(run)
    with pytest.raises(
        WideneckError, match=r"another recipe \(optimizer.learning_rate is 2.0 there, 3.0 here\)"
    ):
        trained(changed(content, optimizer={"learning_rate": 3.0}), run)
    assert kept(run) == before


def test_a_recipe_that_came_to_nothing_may_be_corrected(content, tmp_path):
    out = tmp_path / "run"
    with pytest.raises(WideneckError, match="There is no file or folder nowhere"):
        trained(changed(content, data={"text": "nowhere"}), out)
    with pytest.raises(Killed):  # before there is a checkpoint
        trained(changed(content, data={"vocab_size": 50}), out, kill_after=1)
    result = trained(content, out)
    assert json.loads((out / "recipe.json").read_text())["data"]["vocab_size"] is None
    assert result["vocab_size"] == len((out / "vocabulary.txt").read_text().splitlines()) > 50


def test_a_folder_of_strangers_files_is_left_as_it_is(content, tmp_path):
    out = tmp_path / "thesis"
    out.mkdir()
    (out / "chapter1.tex").write_text("dear")
    with pytest.raises(WideneckError, match=r"holds files, but not the recipe.json of a run"):
        trained(content, out)
    assert [p.name for p in out.iterdir()] == ["chapter1.tex"]
    (out / "recipe.json").write_text('{"flour": "500 g"}')
    with pytest.raises(WideneckError, match=r"holds files, but not the recipe.json of a run"):
        trained(content, out)
    assert (out / "recipe.json").read_text() == '{"flour": "500 g"}'


def test_a_file_is_no_folder(content, tmp_path):
    (tmp_path / "run").write_text("")
    with pytest.raises(WideneckError, match="cannot be used as a folder: File exists"):
        trained(content, tmp_path / "run")


def test_a_damaged_recipe_is_said(run, content):
    (run / "recipe.json").write_text("{")
    with pytest.raises(WideneckError, match=r"recipe.json: its JSON cannot be read"):
        trained(content, run)


# Another text


def test_a_text_that_was_changed_is_refused_and_the_vocabulary_stays(run, content):
    before = kept(run)
    path = content["data"]["text"]
    with open(path, "a") as file:
        file.write("\fand a document of new words\n")
    with pytest.raises(WideneckError, match=r"vocabulary.txt holds other words than the text"):
        trained(content, run)
    assert kept(run) == before


def test_a_text_of_the_same_words_in_another_order_is_refused(content, tmp_path):
    folder = tmp_path / "splits"
    folder.mkdir()
    words = "a b c d e f g h " * 30 + "\n"
    for split in ("train", "valid"):
        (folder / f"{split}.txt").write_text(words)
    content = changed(content, data={"text": str(folder)}, training={"checkpoint_every": 0})
    with pytest.raises(Killed):
        trained(content, tmp_path / "run", kill_after=3)
    before = kept_there = (tmp_path / "run" / "checkpoint.safetensors").read_bytes()
    (folder / "valid.txt").write_text(words.replace("a b", "b a"))
    with pytest.raises(WideneckError, match="does not go with this run: its text_sha256 is"):
        trained(content, tmp_path / "run")
    assert (tmp_path / "run" / "checkpoint.safetensors").read_bytes() == before == kept_there


@pytest.mark.parametrize(
    ("name", "written", "message"),
    [
        ("missing", None, "There is no file or folder"),
        ("empty", "", "is empty"),
        ("short", "one line\nand two\nand three\n", "too few for 4 rows"),
    ],
)
def test_a_missing_empty_or_short_text_is_refused(name, written, message, content, tmp_path):
    path = tmp_path / f"{name}.txt"
    if written is not None:
        path.write_text(written)
    with pytest.raises(WideneckError, match=message):
        trained(changed(content, data={"text": str(path)}), tmp_path / "run")


def test_a_test_text_that_is_too_short_is_refused_before_the_training(content, tmp_path):
    folder = tmp_path / "splits"
    folder.mkdir()
    for split, words in (("train", "a b c d " * 40), ("valid", "a b c d " * 40), ("test", "a b")):
        (folder / f"{split}.txt").write_text(f"{words}\n")
    with pytest.raises(WideneckError, match=r"Of the test split: .* one in each of 10 rows"):
        trained(changed(content, data={"text": str(folder)}), tmp_path / "run", kill_after=1)


# A checkpoint that is damaged, or of something else


@pytest.mark.parametrize("damage", [lambda b: b[: len(b) // 2], lambda b: b"", lambda b: b"{" * 99])
def test_a_damaged_checkpoint_is_refused(damage, run, content):
    path = run / "checkpoint.safetensors"
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(
        WideneckError, match=r"checkpoint.safetensors: its header cannot be .*starts over"
    ):
        trained(content, run)
    path.unlink()
    assert trained(content, run)["steps"] > 12


def test_a_file_of_other_tensors_is_no_checkpoint(run, content):
    save_file({"x": torch.zeros(2)}, run / "checkpoint.safetensors")
    with pytest.raises(WideneckError, match="was not written by wideneck train"):
        trained(content, run)
    (run / "checkpoint.safetensors").write_bytes((run / "model.safetensors").read_bytes())
    with pytest.raises(WideneckError, match="is no checkpoint of this run"):
        trained(content, run)


def test_weights_of_another_shape_or_name_do_not_fit(tmp_path):
    model = torch.nn.Linear(3, 2)
    path = tmp_path / "model.safetensors"
    for tensors, message in (
        ({"weight": torch.zeros(2, 3)}, "it lacks bias"),
        ({"weight": torch.zeros(2, 3), "bias": torch.zeros(2), "x": torch.ones(1)}, "besides x"),
        ({"weight": torch.zeros(2, 4), "bias": torch.zeros(2)}, r"weight has shape \(2, 4\) there"),
    ):
        tensor_file.write_tensors(path, tensors, {})
        with pytest.raises(WideneckError, match=message):
            checkpoint.load_model(model, tensor_file.Stored(path))
    with pytest.raises(WideneckError, match=r"There is no file .*nowhere"):
        checkpoint.load_model(model, tensor_file.Stored(tmp_path / "nowhere"))


# A loss that is not finite


def test_a_loss_that_is_not_finite_stops_and_keeps_what_was_good(content, tmp_path, monkeypatch):
    step, out = Trainer._step, tmp_path / "run"

    def poisoned(self, batch):
        if self.standing.step == 19:
            with torch.no_grad():
                next(self.plain.parameters()).fill_(float("nan"))
        step(self, batch)

    monkeypatch.setattr(Trainer, "_step", poisoned)
    with pytest.raises(WideneckError) as caught:
        trained(changed(content, training={"checkpoint_every": 1000}), out)
    said = str(caught.value)
    assert "The loss is nan" in said
    assert "at step 20 " in said
    saved = int(re.search(r"the checkpoint of step (\d+) and the best weights are kept", said)[1])
    evaluated = [line for line in metrics(out) if "valid_loss" in line]
    assert saved == max(line["step"] for line in evaluated) < 20
    stored = load_file(out / "checkpoint.safetensors")
    assert all(x.isfinite().all() for x in stored.values() if x.is_floating_point())
    assert all(p.isfinite().all() for p in load_run(out).model.parameters())
    # The same recipe without the mishap goes on from there.
    monkeypatch.setattr(Trainer, "_step", step)
    assert trained(changed(content, training={"checkpoint_every": 1000}), out)["steps"] > 20


def test_a_rate_beyond_all_reason_is_stopped_at_the_step_it_breaks(content, tmp_path):
    content = changed(content, optimizer={"learning_rate": 1e30, "clip": 1e30})
    with pytest.raises(WideneckError, match=r"at step \d+ \(epoch 0\.\d\d\); .*learning_rate"):
        trained(content, tmp_path / "run")


# A full disk


@pytest.fixture
def full_disk(monkeypatch):
    """After so many files of tensors, there is room for half of one."""

    def after(count):
        save, written = tensor_file.save_file, 0

        def limited(tensors, path, about):
            nonlocal written
            written += 1
            if written > count:
                path.write_bytes(b"half")
                raise OSError(errno.ENOSPC, "No space left on device")
            save(tensors, path, about)

        monkeypatch.setattr(tensor_file, "save_file", limited)

    return after


@pytest.mark.parametrize("number", [0, 1])
def test_a_full_disk_keeps_what_was_there_and_leaves_nothing_behind(
    number, full_disk, run, content, monkeypatch
):
    before, name = kept(run), KEPT[1 - number]  # an evaluation writes weights, then a checkpoint
    full_disk(number)
    with pytest.raises(
        WideneckError, match=rf"{name} could not be written: No space left on device. What was"
    ):
        trained(content, run)
    assert kept(run)["checkpoint.safetensors"] == before["checkpoint.safetensors"]
    assert (kept(run)["model.safetensors"] == before["model.safetensors"]) == (number == 0)
    assert load_run(run).about.step == (8 if number == 0 else 16)
    assert [p.name for p in run.iterdir() if p.name[0] == "."] == [".lock"]
    monkeypatch.undo()
    assert trained(content, run)["steps"] > 16  # now there is room


def test_a_file_that_the_system_cuts_short_is_one_sentence(tmp_path):
    path = tmp_path / "checkpoint.safetensors"
    tensor_file.write_tensors(path, {"x": torch.zeros(10)}, {})
    before = path.read_bytes()
    lines = Metrics(tmp_path / "metrics.jsonl", 0)
    usual = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, usual[1]))
    try:
        with pytest.raises(WideneckError, match=r"checkpoint.safetensors could not .*too large"):
            tensor_file.write_tensors(path, {"x": torch.zeros(100_000)}, {})
        with pytest.raises(WideneckError, match=r"metrics.jsonl could not be written: File too"):
            lines.write({"x": "x" * 200_000})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, usual)
    lines.close()
    assert path.read_bytes() == before
    assert sorted(p.name for p in tmp_path.iterdir()) == [path.name, "metrics.jsonl"]


@pytest.mark.parametrize("name", ["x" * 5000, "a/" * 2500, "a\0b", "loop"])
def test_a_path_that_cannot_be_looked_at_is_no_run_and_one_sentence(tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "loop").symlink_to("loop")
    assert not is_run(name)
    with pytest.raises(WideneckError):
        evaluate(name)
    with pytest.raises(WideneckError, match="There is no file"):
        tensor_file.Stored(tmp_path / name / "model.safetensors")


def test_metrics_that_are_a_link_cut_no_file_elsewhere(tmp_path):
    path = tmp_path / "metrics.jsonl"
    path.symlink_to("elsewhere")
    for there in (False, True):
        if there:
            (tmp_path / "elsewhere").write_text("of somebody")
        with pytest.raises(WideneckError, match=r"metrics\.jsonl is a link"):
            Metrics(path, 0)
        assert (tmp_path / "elsewhere").exists() == there
    assert (tmp_path / "elsewhere").read_text() == "of somebody"


@pytest.mark.parametrize("name", ["checkpoint.safetensors", ".model.safetensors.9"])
def test_a_folder_that_bears_the_name_of_a_file_to_be_removed_is_one_sentence(run, content, name):
    recipe = json.loads((run / "recipe.json").read_text())
    (run / "checkpoint.safetensors").unlink()
    (run / "result.json").write_text("{}")
    (run / name).mkdir()
    with pytest.raises(WideneckError, match=r"is in the way and cannot be removed: .*; remove it"):
        RunFolder(run, recipe)
    (run / name).rmdir()
    RunFolder(run, recipe).close()  # and the lock is free again


# Trackers


def test_a_tracker_that_is_unknown_or_missing_is_refused_before_the_work(content, tmp_path):
    with pytest.raises(WideneckError, match="Did you mean 'tensorboard'"):
        tracking.check_tracker("tensorbord")
    tracking.check_tracker(None)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tracking, "find_spec", lambda name: None)
        with pytest.raises(WideneckError, match="trackio is not installed: pip install trackio"):
            tracking.check_tracker("trackio")
