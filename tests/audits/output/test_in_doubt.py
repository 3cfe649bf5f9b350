"""What the columns of a head certify on a text, against the obvious code."""

import pytest
import torch

import wideneck as wn
from tiny import D, V, tiny_model
from tiny_text import character_tokenizer, write_text
from wideneck.audits.clock import Clock
from wideneck.audits.output import audit_output
from wideneck.audits.output import in_doubt as measuring
from wideneck.audits.output.in_doubt import SOFT_CAP, THRESHOLDS, in_doubt
from wideneck.audits.output.own_head import audit_own_head
from wideneck.audits.states import collect_states
from wideneck.data import cut_windows, read_text
from wideneck.functional.certificates import certified, span
from wideneck.heads import build
from wideneck.models import measure_logit_map, read_head


@pytest.fixture(autouse=True)
def few_positions(monkeypatch):
    monkeypatch.setattr(measuring, "POSITIONS", 12)


def states_of(model, folder):
    windows = cut_windows(
        read_text(write_text(folder / "a.txt")),
        character_tokenizer(),
        num_tokens=160,
        window=40,
        prefix=[0],
    )
    return collect_states(model, windows)


def louder(name):
    """A tiny model with scores as large as a trained one's."""
    model = tiny_model(name).eval()
    model.get_output_embeddings().weight.data.mul_(20)
    return model


def test_the_shares_are_those_of_the_tokens(tmp_path):
    model = louder("llama")
    states = states_of(model, tmp_path)
    found = audit_output(read_head(model), measure_logit_map(model), states, Clock()).in_doubt

    assert (found.num_positions, found.num_directions, found.skipped) == (12, D, "")
    weight = model.lm_head.weight.detach()
    hidden = states.hidden.flatten(0, 1)
    prob = (hidden @ weight.T).double().softmax(-1)
    pick = torch.linspace(0, len(hidden) - 1, 12).round().long()
    for tau, point in zip(THRESHOLDS, found.points, strict=True):
        below = torch.where(prob > tau, 0, prob)[pick]
        tested = below.sort(descending=True).values[:, :16].sum(1)
        assert point.threshold == tau
        assert point.mass_below.value == pytest.approx(below.sum(1).mean().item())
        assert point.mass_tested.value == pytest.approx(tested.mean().item())
        assert point.tokens_above.value == pytest.approx(
            (prob[pick] > tau).sum(1).double().mean().item()
        )
        mass, count = [], []
        for row in prob[pick]:
            tokens, good = certified(row, span(weight, 32), tau)
            mass.append(row[tokens[good]].sum().item())
            count.append(int(good.sum()))
        assert point.mass_certified.value == pytest.approx(sum(mass) / 12, rel=1e-4)
        assert point.tokens_certified.value == pytest.approx(sum(count) / 12, rel=1e-2)
    assert found.points[-1].mass_certified.value > 0
    assert found.points[-1].mass_certified.low is not None


def test_a_soft_cap_is_not_measured(tmp_path):
    model = louder("gemma2")
    states = states_of(model, tmp_path)
    found = audit_output(read_head(model), measure_logit_map(model), states, Clock())
    assert (found.in_doubt.points, found.in_doubt.skipped) == ([], SOFT_CAP)


@pytest.mark.parametrize(
    ("name", "options", "skipped"),
    [
        ("low_rank", {"rank": 5}, ""),
        ("moc", {"num_components": 2}, ""),
        ("mos", {"num_components": 2}, "a mos head is no softmax"),
        ("sigsoftmax", {}, "a sigsoftmax head is no softmax"),
    ],
)
def test_heads_of_ours(tmp_path, name, options, skipped):
    model = louder("llama")
    states = states_of(model, tmp_path)
    torch.manual_seed(0)
    head = build(name, hidden_size=D, vocab_size=V, **options)
    head.weight.data.mul_(10)
    hidden, _ = states.probe
    states.last_logits.copy_(head.log_probs(hidden).detach())  # as if the model had this head
    found = audit_own_head(head, states, Clock()).in_doubt
    assert found.skipped.startswith(skipped)
    assert bool(found.points) == (skipped == "")
    if found.points:
        again = in_doubt(head.log_probs, head.weight.detach(), states)
        assert found == again
        assert found.num_directions == (5 if name == "low_rank" else D)


def test_a_head_of_equal_rows_is_noted(tmp_path):
    model = louder("llama")
    states = states_of(model, tmp_path)
    with pytest.raises(wn.WideneckError, match="All rows of the head are equal"):
        in_doubt(lambda x: x.new_zeros(len(x), V), torch.ones(V, D), states)
