"""Models that see, audited and evaluated: on text, they are their text part and nothing else."""

import json
import math
from dataclasses import asdict

import pytest
import torch
import transformers as tr

import wideneck as wn
from seeing import seeing, text_twin
from tiny_text import character_tokenizer, write_text
from wideneck.audits.attention.settings import AttentionSettings
from wideneck.commands.evaluate import evaluate

SETTINGS = AttentionSettings(
    context=20, num_windows=2, sizes=(1, 3), reference_size=3, num_queries=6, ablation_context=8
)


@pytest.fixture(scope="module", params=["gemma3", "qwen3-vl"])
def pair(request, tmp_path_factory):
    """A folder of a model that sees, and its text part as a model of its own."""
    folder = tmp_path_factory.mktemp(request.param)
    model, _ = seeing(request.param)
    model.save_pretrained(folder / "model")
    character_tokenizer().save_pretrained(folder / "model")
    names = json.loads((folder / "model" / "config.json").read_text())["architectures"]
    assert names == [type(model).__name__]
    return folder / "model", text_twin(request.param, model), write_text(folder / "text.txt", 2)


def audited(model, text, **options):
    sections = ("head", "output", "attention", "memory")
    return wn.audit(
        model, text, sections, num_tokens=64, argmaxable=False, attention=SETTINGS, **options
    )


def test_every_section_measures_the_text_part(pair):
    folder, twin, text = pair
    ours = audited(folder, text)
    theirs = audited(twin, text, tokenizer=character_tokenizer())
    (said,) = [note for note in ours.provenance.notes if "text part" in note]
    assert "model.language_model, on text alone" in said
    # Nothing else: the layers are told apart from the tower's, which are as many.
    assert [n for n in ours.provenance.notes if n != said] == theirs.provenance.notes == []
    assert (ours.attention.num_layers, ours.attention.num_heads) == (2, 2)
    for section in ("head", "output", "attention", "memory"):
        found, expected = (
            dict(leaves(asdict(getattr(report, section)))) for report in (ours, theirs)
        )
        assert found == pytest.approx(expected, rel=1e-3, abs=1e-5, nan_ok=True), section


def test_evaluation_measures_the_text_part(pair):
    folder, twin, text = pair
    ours = evaluate(folder, text, context=16, num_tokens=64)
    theirs = evaluate(twin, text, context=16, num_tokens=64, tokenizer=character_tokenizer())
    assert ours.plain.loss == pytest.approx(theirs.plain.loss, rel=1e-6)
    assert any("text part" in note for note in ours.source.notes)
    assert not any("text part" in note for note in theirs.source.notes)


def test_a_head_that_is_attached_generates_is_saved_and_audited(pair, tmp_path):
    folder, _, text = pair
    model = tr.AutoModelForImageTextToText.from_pretrained(folder)
    prompt = {"input_ids": torch.arange(3, 9)[None]}
    greedy = model.generate(**prompt, max_new_tokens=4, do_sample=False)
    before = audited(model, text, tokenizer=character_tokenizer())
    wn.attach(model, "mos", num_components=2).save_pretrained(tmp_path)
    character_tokenizer().save_pretrained(tmp_path)
    again = wn.load(tmp_path)
    assert greedy.equal(again.generate(**prompt, max_new_tokens=4, do_sample=False))
    after = audited(tmp_path, text)
    assert after.head.kind == "mos"
    for found, expected in (
        (after.output.loss.nats_per_token, before.output.loss.nats_per_token),
        (after.attention.loss, before.attention.loss),
    ):
        assert found.value == pytest.approx(expected.value, abs=1e-5)
    assert any("text part" in note for note in after.provenance.notes)


def leaves(value, name=""):
    """Every number of a section by its place, in a form that JSON has."""
    if isinstance(value, dict):
        for key, one in value.items():
            yield from leaves(one, f"{name}.{key}")
    elif isinstance(value, list | tuple):
        for i, one in enumerate(value):
            yield from leaves(one, f"{name}[{i}]")
    elif isinstance(value, int | float):
        yield name, math.nan if value is None else value
