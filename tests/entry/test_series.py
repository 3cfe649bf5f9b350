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
    assert series(tmp_path) == (
        [500, 1000],
        [
            "Without weights: logs, notes.txt.",
            "Left out, having no step in the name: final.",
        ],
    )


def damaged(path):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"\xff" * 100)


def test_a_damaged_checkpoint_is_left_out_and_its_reason_is_in_all_three_faces(tmp_path, capsys):
    for step in (100, 300):
        save(tmp_path / f"step{step}" / "model.safetensors", step)
    damaged(tmp_path / "step200" / "model.safetensors")
    (tmp_path / "step400").mkdir()
    report = wn.audit_series([tmp_path])
    assert [point.step for point in report.points] == [100, 300]
    report.show()
    faces = [report.to_json_text(), report.to_html_text(), capsys.readouterr().out]
    for face in faces:
        assert "Without weights: step400." in face
        assert "step200 is left out:" in " ".join(face.split())
    assert "it is damaged or not a safetensors file" in report.provenance.notes[1]


def test_checkpoints_that_are_named_are_left_out_like_those_of_a_folder(tmp_path):
    for step in (1, 3):
        save(tmp_path / f"step{step}.safetensors", step)
    names = [tmp_path / f"step{step}.safetensors" for step in (1, 2, 3)]
    report = wn.audit_series(names)
    assert [point.step for point in report.points] == [1, 3]
    assert "step2.safetensors is left out" in report.provenance.notes[0]


@pytest.mark.parametrize("good", [0, 1])
def test_fewer_than_two_that_can_be_measured_are_no_series(tmp_path, good):
    for step in range(3):
        path = tmp_path / f"step{step}.safetensors"
        save(path) if step < good else damaged(path)
    with pytest.raises(WideneckError, match=f"; {good} of 3 can be") as caught:
        series(tmp_path)
    assert str(caught.value).count("is left out") == 3 - good


def test_the_commonest_shape_makes_the_series(tmp_path):
    for step, shape in ((1, (70, 4)), (2, (60, 4)), (3, (60, 5)), (4, (60, 4))):
        save(tmp_path / f"step{step}.safetensors", step, shape)
    steps, notes = series(tmp_path)
    assert steps == [2, 4]
    assert "70 x 4, and 60 x 4 is the shape of 2 of 4" in notes[0]
    assert "60 x 5" in notes[1]


def test_of_two_shapes_equally_common_the_first_makes_the_series(tmp_path):
    for step, shape in ((1, (60, 4)), (2, (70, 4)), (3, (70, 4)), (4, (60, 4))):
        save(tmp_path / f"step{step}.safetensors", step, shape)
    assert series(tmp_path)[0] == [1, 4]


def test_an_absurd_number_in_a_name_is_no_step(tmp_path):
    for k, digits in enumerate((200, 100)):
        save(tmp_path / ("step" + "9" * digits) / "model.safetensors", k)
    steps, (note,) = series(tmp_path)
    assert steps == [0, 1]
    assert "places in the series" in note


def test_digits_that_no_file_name_could_hold_are_no_step_either():
    from wideneck.entry.series import _natural, _step

    name = "step" + "9" * 5000
    assert _step(name) is None
    assert _natural(name) > _natural("step10") > _natural("step9")


def test_files_of_pytorch_are_checkpoints(tmp_path):
    for step in (1, 2):
        weight = torch.randn(60, 4, generator=torch.Generator().manual_seed(step))
        torch.save({"lm_head.weight": weight}, tmp_path / f"step{step}.pt")
    names = sorted(path.name for path in tmp_path.iterdir())
    from wideneck.entry.series import _checkpoints

    assert [path.name for path in _checkpoints([tmp_path])[0]] == names


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
    with pytest.raises(WideneckError, match=r"step2.*60 x 5, and 60 x 4 is the shape"):
        series(tmp_path)
