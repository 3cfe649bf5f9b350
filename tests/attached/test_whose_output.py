"""Sections on a text, of models with a head of wideneck, against loops over their own logits."""

import json
import math

import pytest
import torch
from attachable import attached, shaken

import wideneck as wn
from checkpoints import saved
from tiny import tiny_model
from tiny_text import character_tokenizer, write_text
from wideneck.attached.swap import attached_head
from wideneck.audits.output.log_prob_rank import numerical_rank
from wideneck.data import cut_windows, read_text
from wideneck.entry.audit import WINDOW
from wideneck.errors import WideneckError

TOKENS = 256


@pytest.fixture
def text(tmp_path):
    return write_text(tmp_path / "text.txt")


def windows_of(text, model):
    window = min(WINDOW, model.config.get_text_config().max_position_embeddings)
    return cut_windows(read_text(text), character_tokenizer(), num_tokens=TOKENS, window=window)


def model_with(case, head, **options):
    return shaken(attached(case, head, **options)).double().eval()


@pytest.mark.parametrize(
    ("case", "head"),
    [
        ("llama", "moss"),
        ("llama-tied", "sigsoftmax"),
        ("granite", "moc"),
        ("granite", "low_rank"),
        ("phi", "gss"),
        ("llama", "plif"),
        ("gemma2-low-cap", "mos"),
    ],
)
@torch.no_grad()
def test_loss_and_rank_are_those_of_the_models_own_log_probabilities(case, head, text):
    options = {"plif": {"num_knots": 50}, "low_rank": {"rank": 5}}.get(head, {})
    model = model_with(case, head, **options)
    sections = ("output", "attention") if head == "moss" else ("output",)
    report = wn.audit(model, text, sections, num_tokens=TOKENS, tokenizer=character_tokenizer())
    windows = windows_of(text, model)
    rows, losses = [], []
    for ids, targets in zip(windows.ids, windows.targets, strict=True):
        logits = model(ids[None]).logits[0]
        for z, y in zip(logits, targets, strict=True):
            log_p = z - z.logsumexp(0)
            rows.append(log_p)
            losses.append(-log_p[y].item())
    found = report.output
    assert found.num_tokens == len(losses)
    assert found.loss.nats_per_token.value == pytest.approx(math.fsum(losses) / len(losses), 1e-6)
    assert found.rank.num_contexts == len(rows)
    assert found.rank.press == numerical_rank(torch.stack(rows))
    assert found.rank.bound == {"moc": 17, "low_rank": 6}.get(head)
    largest = torch.linalg.matrix_norm(torch.stack(rows), 2).item()
    assert found.rank.singular_values[0] == pytest.approx(largest, rel=1e-6)
    assert len(found.rank.singular_values) == min(len(rows), 16 + 8)
    if report.attention is not None:
        assert report.attention.loss.value == pytest.approx(math.fsum(losses) / len(losses), 1e-3)
    assert (report.attention is None) == (head != "moss")

    assert math.isnan(found.logits.spread)
    assert found.rank_cost.points == []
    assert f"a {head} head is no single softmax" in found.rank_cost.skipped
    assert any(f"Not measured of a {head} head" in note for note in found.notes)
    json.dumps(report.to_dict(), allow_nan=False)
    assert "<svg" in report.to_html_text()


@pytest.mark.parametrize(
    ("case", "head", "options"),
    [
        ("llama", "softmax", {}),
        ("granite", "softmax", {}),
        ("phi", "scaled_softmax", {}),
        ("gemma2-low-cap", "softcap", {}),
    ],
)
def test_a_head_that_is_one_softmax_is_measured_as_the_plain_layer(case, head, options, text):
    """Attached, they predict what the model did before, so all numbers are the same."""
    tokenizer = character_tokenizer()
    plain = wn.audit(tiny_model(case), text, num_tokens=TOKENS, tokenizer=tokenizer).to_dict()
    model = attached(case, head, **options)
    ours = wn.audit(model, text, num_tokens=TOKENS, tokenizer=tokenizer).to_dict()
    assert_near(ours["output"], plain["output"])
    assert ours["head"].pop("kind") == head
    assert plain["head"].pop("kind") == "softmax"
    for found in (ours, plain):
        del found["head"]["notes"]
    assert_near(ours["head"], plain["head"])


def test_the_scale_of_a_scaled_softmax_is_that_of_the_map(text):
    model = attached("granite", "scaled_softmax")
    attached_head(model).activation.scale.data.fill_(-1.5)  # which counts by its size
    tokenizer = character_tokenizer()
    found = wn.audit(model, text, "output", num_tokens=TOKENS, tokenizer=tokenizer).output
    assert (found.logit_map.kind, found.logit_map.scale) == ("scale", 1.5 / 8)


def assert_near(ours, theirs):
    if isinstance(theirs, dict):
        assert ours.keys() == theirs.keys()
        for key in theirs:
            assert_near(ours[key], theirs[key])
    elif isinstance(theirs, list):
        assert len(ours) == len(theirs)
        for one, other in zip(ours, theirs, strict=True):
            assert_near(one, other)
    elif isinstance(theirs, float):
        assert ours == pytest.approx(theirs, rel=1e-3, abs=1e-5)
    else:
        assert ours == theirs


@pytest.mark.parametrize("head", ["softmax", "moss"])
def test_a_folder_says_what_its_model_says(head, text, tmp_path):
    model = shaken(attached("llama", head))
    folder = saved(model, tmp_path / "m")
    tokenizer = character_tokenizer()
    tokenizer.save_pretrained(folder)
    sections = ("output",) if head == "moss" else ("output", "memory")
    from_file = wn.audit(folder, text, sections, num_tokens=TOKENS).to_dict()
    in_memory = wn.audit(model, text, sections, num_tokens=TOKENS, tokenizer=tokenizer).to_dict()
    for section in sections:
        assert from_file[section] == in_memory[section]
        assert from_file[section] is not None


def test_what_a_head_does_not_allow_is_a_note_and_alone_one_sentence(text):
    model, tokenizer = attached("llama", "moss"), character_tokenizer()
    report = wn.audit(model, text, ("head", "memory"), num_tokens=TOKENS, tokenizer=tokenizer)
    assert report.memory is None
    assert "more than one softmax" in " ".join(report.provenance.notes)
    with pytest.raises(WideneckError, match="has a moss head, which is more than one softmax"):
        wn.audit(model, text, "memory", num_tokens=TOKENS, tokenizer=tokenizer)


@pytest.mark.parametrize("head", ["moss", "moc", "sigsoftmax"])
def test_hidden_states_weigh_the_spectrum_of_a_matrix_that_they_meet(head, text):
    """In a mixture, contexts meet it, which are not hidden states."""
    model, tokenizer = attached("llama", head), character_tokenizer()
    found = wn.audit(model, text, "head", num_tokens=TOKENS, tokenizer=tokenizer).head
    assert (found.spectrum.data_weighted is None) == (head != "sigsoftmax")


def test_a_model_with_a_memory_is_not_run_and_its_matrix_is_measured(text):
    model, tokenizer = wn.attach_memory(tiny_model("llama")), character_tokenizer()
    report = wn.audit(model, text, num_tokens=TOKENS, tokenizer=tokenizer)
    assert report.output is None
    assert report.provenance.text is None
    assert report.head.has_memory
    assert "predicts from a memory besides its head" in report.provenance.notes[0]
    plain = wn.audit(tiny_model("llama"), sections="head").head
    assert report.head.spectrum == plain.spectrum
    with pytest.raises(WideneckError, match="predicts from a memory besides its head"):
        wn.audit(model, text, "output", tokenizer=tokenizer)
