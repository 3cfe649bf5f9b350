"""The benchmark of accelerators, as far as a CPU shows it: it runs, and a wrong loss is told."""

import json

import pytest
import torch
from bench import gpu, gpu_attention, gpu_correct, gpu_loss

CPU = torch.device("cpu")


def test_a_table_has_a_column_for_every_name(tmp_path):
    rows = [{"what": "a", "ms": 1.5}, {"what": "b", "failed": "no"}]
    file = tmp_path / "part.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    lines = [
        [cell.strip() for cell in line.strip("|").split("|")]
        for line in gpu.table(file).splitlines()
    ]
    assert lines[0] == ["what", "ms", "failed"]
    assert lines[2:] == [["a", "1.5", ""], ["b", "", "no"]]


def test_every_part_names_what_makes_its_rows():
    for function, limit in gpu.PARTS.values():
        module, name = function.split(".")
        assert module.startswith("gpu_")
        assert callable(getattr(__import__(f"bench.{module}", fromlist=[name]), name))
        assert limit > 0


def test_the_loss_is_right_here_and_a_wrong_one_is_told(monkeypatch):
    given = gpu_correct._batch(32, 16, 100, 0.5, torch.float32, CPU)
    monkeypatch.setattr(gpu_correct, "FORMS", ("softmax",))
    monkeypatch.setattr(gpu_correct, "SPREADS", (0.5,))
    monkeypatch.setattr(gpu_correct, "_batch", lambda *_: [x.clone() for x in given])
    verdicts = [row["verdict"] for row in gpu_correct.correct(CPU, tiny=True)]
    assert verdicts[:3] == ["met"] * 3
    ours = gpu_correct._ours
    monkeypatch.setattr(gpu_correct, "_ours", lambda *rest: 1.01 * ours(*rest))
    assert next(gpu_correct.correct(CPU, tiny=True))["verdict"] == "MISSED"


@pytest.mark.parametrize("case", gpu_loss.CASES[::3], ids=lambda case: case.name)
def test_a_peer_that_is_missing_is_named(case, monkeypatch):
    monkeypatch.setattr(gpu_loss, "CASES", (case,))
    monkeypatch.setattr(gpu_loss, "ROUNDS", 1)
    monkeypatch.setattr(torch, "compile", lambda run: run)
    rows = {row["who"]: row for row in gpu_loss.losses(CPU, tiny=True)}
    assert rows["wideneck"]["ms"] > 0
    if case.K == 1:
        assert "ModuleNotFoundError" in rows["QuACK"]["failed"]


def test_an_attention_that_is_off_shows_in_its_error(monkeypatch):
    monkeypatch.setattr(gpu_loss, "ROUNDS", 1)
    monkeypatch.setattr(gpu_attention, "names", lambda: ["ssmax", "entmax15"])
    rows = {row["normalizer"]: row for row in gpu_attention.attention(CPU, tiny=True)}
    assert rows["ssmax"]["route"] == "sdpa"
    assert rows["entmax15"]["route"] == "dense"
    assert all(rows[name]["error"] < 1e-2 for name in ("ssmax", "entmax15"))
    attend = gpu_attention._attend
    monkeypatch.setattr(
        gpu_attention,
        "_attend",
        lambda layer, q, k, v: attend(layer, q, k, v if q.grad_fn or q.requires_grad else 1.1 * v),
    )
    rows = {row["normalizer"]: row for row in gpu_attention.attention(CPU, tiny=True)}
    assert all(rows[name]["error"] > 5e-2 for name in ("ssmax", "entmax15"))
