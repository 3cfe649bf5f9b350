"""Which checkpoints make a series, and in which order."""

import pytest
import torch
from safetensors.torch import save_file

import wideneck as wn
from wideneck.errors import WideneckError


def save(path, seed=0, shape=(60, 4)):
    path.parent.mkdir(parents=True, exist_ok=True)
    weight = torch.randn(*shape, generator=torch.Generator().manual_seed(seed))
    save_file({"lm_head.weight": weight}, path)


def series(folder):
    report = wn.audit_series([folder])
    return [point.step for point in report.points], report.provenance.notes


@pytest.mark.parametrize(
    ("names", "steps"),
    [
        (["checkpoint-2000", "checkpoint-500", "checkpoint-1000"], [500, 1000, 2000]),
        (["ckpt2000", "ckpt500"], [500, 2000]),
        (["1000", "500"], [500, 1000]),
        (["step500-epoch1", "step1000-epoch1"], [500, 1000]),
        (["epoch2", "epoch10"], [2, 10]),
        (["iter_0000500", "iter_0001000"], [500, 1000]),
    ],
)
def test_steps_are_read_off_the_last_part_of_a_name(tmp_path, names, steps):
    for k, name in enumerate(names):
        save(tmp_path / "run-step7" / name / "model.safetensors", k)
    assert series(tmp_path / "run-step7") == (steps, [])


def test_without_steps_the_places_count_and_it_is_said(tmp_path):
    for k, name in enumerate(["b", "a10", "a9"]):
        save(tmp_path / name / "model.safetensors", k)
    report = wn.audit_series([tmp_path])
    assert [point.name.rsplit("/")[-1] for point in report.points] == ["a9", "a10", "b"]
    assert [point.step for point in report.points] == [0, 1, 2]
    assert "places in the series" in report.provenance.notes[0]


def test_what_is_no_checkpoint_is_left_out(tmp_path):
    for k, name in enumerate(["checkpoint-500", "checkpoint-1000", "final", ".cache"]):
        save(tmp_path / name / "model.safetensors", k)
    save(tmp_path / "model-00001-of-00002.safetensors")
    (tmp_path / "logs").mkdir()
    (tmp_path / "notes.txt").write_text("")
    steps, (note,) = series(tmp_path)
    assert steps == [500, 1000]
    assert note == "Left out, having no step in the name: final."


def test_a_head_of_zeros_is_left_out_with_a_note(tmp_path):
    for step in (100, 200):
        save(tmp_path / f"step{step}.safetensors", step)
    save_file({"lm_head.weight": torch.zeros(60, 4)}, tmp_path / "step0.safetensors")
    steps, (note,) = series(tmp_path)
    assert steps == [100, 200]
    assert "step0.safetensors is left out" in note


def test_heads_of_different_shapes_are_no_series(tmp_path):
    save(tmp_path / "step1.safetensors")
    save(tmp_path / "step2.safetensors", shape=(60, 5))
    with pytest.raises(WideneckError, match=r"60 x 4.*60 x 5"):
        series(tmp_path)
