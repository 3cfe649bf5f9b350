"""The audit of a run's head: from its folder, in a series and loaded into a model."""

import dataclasses

import pytest
import torch
from training_runs import AWD, GPT2, STATES, changed, frozen_model, text, trained

import wideneck as wn
from wideneck.errors import WideneckError
from wideneck.training.saved_run import load_run
from wideneck.training.tensor_file import Stored

SHORT = {"epochs": 0.5}
LOW_RANK = {"name": "low_rank", "rank": 4}


def recipe(kind, folder):
    if kind.startswith("states"):
        start = {"start": "whitened"} if kind == "states low_rank" else {}
        model = {"model": frozen_model(folder / "gpt2"), **start}
        content = changed(STATES, data={"text": text(folder)}, model=model)
        head = {"states low_rank": LOW_RANK, "states softmax": {"name": "softmax"}}
        return content | {"head": head.get(kind, content["head"])}
    basis = AWD if kind.startswith("awd") else GPT2
    tied = not kind.endswith("untied")
    content = changed(basis, data={"text": text(folder)}, training=SHORT, model={"tied": tied})
    if kind == "gpt2 relu untied":
        return content | {"head": {"name": "relu"}}
    if kind == "gpt2 bias":
        return changed(content, model={"bias": True})
    return content


KINDS = {
    "gpt2": "sigsoftmax",
    "gpt2 untied": "sigsoftmax",
    "gpt2 bias": "sigsoftmax",
    "gpt2 relu untied": "relu",
    "awd": "moss",
    "awd untied": "moss",
    "states": "mos",
    "states softmax": "softmax",
    "states low_rank": "low_rank",
}
IN_A_MODEL = ("gpt2", "gpt2 untied", "states", "states softmax")
"""What wn.load puts into a model of transformers."""


@pytest.mark.parametrize("kind", KINDS)
def test_the_head_of_a_run_is_the_one_that_was_trained(kind, tmp_path):
    trained(recipe(kind, tmp_path), tmp_path / "runs" / "step1")
    run = tmp_path / "runs" / "step1"
    head = wn.audit(run, sections="head").head
    assert head == wn.audit(run / "model.safetensors", sections="head").head
    assert head.kind == KINDS[kind]
    assert head.has_bias == (kind in ("gpt2 bias", "awd", "awd untied"))
    assert head.tied == (kind in ("gpt2", "gpt2 bias", "awd"))
    assert (head.argmaxable is None) == (kind == "gpt2 relu untied")
    assert ("which meets contexts" in " ".join(head.notes)) == (
        head.kind in ("moss", "mos", "low_rank")
    )
    if kind.startswith("states"):
        weight = dict(Stored(run / "model.safetensors").tensors("head."))["weight"]
    else:
        weight = load_run(run).model.head.weight.detach()
    assert (head.vocab_size, head.hidden_size) == tuple(weight.shape)
    singular = torch.linalg.svdvals(weight.double()).tolist()
    assert head.spectrum.raw.singular_values == pytest.approx(singular)

    if kind in IN_A_MODEL:
        model = wn.load(run)
        in_memory = wn.audit(model, sections="head").head
        saved = tmp_path / "saved"
        model.save_pretrained(saved)
        for other in (in_memory, wn.audit(saved, sections="head").head):
            # Without a tokenizer, or with the input's rows, tokens are seen in another way.
            named = {"tensor", "tying", "rows", "argmaxable", "tokens"}
            assert differences(head, other) <= named
            assert tokens_of(head) == tokens_of(other)


def differences(ours, theirs):
    names = [field.name for field in dataclasses.fields(ours)]
    return {name for name in names if getattr(ours, name) != getattr(theirs, name)}


def tokens_of(head):
    """The verdicts by token, without the strings that only a folder with words knows."""
    found = head.argmaxable
    return [u.token for u in found.unargmaxable], found.undecided, head.rows.excluded


def test_runs_make_a_series(tmp_path):
    content = recipe("gpt2", tmp_path)
    for seed in (1, 2):
        trained(content | {"seed": seed}, tmp_path / "runs" / f"step{seed}")
    series = wn.audit_series([tmp_path / "runs"], argmaxable=True)
    alone = [wn.audit(tmp_path / "runs" / f"step{n}", sections="head").head for n in (1, 2)]
    assert [point.head for point in series.points] == alone
    assert {head.kind for head in alone} == {"sigsoftmax"}
    assert series.identical == []


def test_a_run_is_not_run_by_the_audit_and_what_does_is_said(tmp_path):
    trained(recipe("gpt2", tmp_path), tmp_path / "run")
    with pytest.raises(WideneckError, match=r"is a run of wideneck train.*`wideneck evaluate`"):
        wn.audit(tmp_path / "run", tmp_path / "bottles.txt")


def test_runs_without_their_head_are_one_sentence(tmp_path):
    run = tmp_path / "run"
    trained(recipe("gpt2", tmp_path), run)
    untied = (run / "recipe.json").read_text().replace('"tied": true', '"tied": false')
    (run / "recipe.json").write_text(untied)
    with pytest.raises(WideneckError, match=r"lacks head\.weight, which the recipe"):
        wn.audit(run, sections="head")
    (run / "model.safetensors").rename(run / "other.safetensors")
    with pytest.raises(WideneckError, match=r"other\.safetensors of .* is not the weights of that"):
        wn.audit(run, sections="head")
    (run / "other.safetensors").rename(run / "model.safetensors")
    (run / "recipe.json").write_text("{}")
    with pytest.raises(WideneckError, match="is not the recipe of a run"):
        wn.audit(run, sections="head")


def test_a_damaged_matrix_is_told_by_its_sum(tmp_path):
    run = tmp_path / "run"
    trained(recipe("states softmax", tmp_path), run)
    content = bytearray((run / "model.safetensors").read_bytes())
    content[-40] ^= 1
    (run / "model.safetensors").write_bytes(content)
    with pytest.raises(WideneckError, match=r"is damaged: the tensor head\.weight"):
        wn.audit(run, sections="head")
