"""Ranks of any head against the singular values of the whole matrix."""

import math

import pytest
import torch

from evaluation.tiny_lms import modes, recurrent, text, windowed
from heads.some_heads import CASES, D, V, some_head
from wideneck import config as c
from wideneck import heads
from wideneck.audits.output import head_ranks
from wideneck.audits.output.head_ranks import log_prob_ranks
from wideneck.audits.output.layer import OutputLayer
from wideneck.audits.output.log_prob_rank import log_prob_rank
from wideneck.errors import WideneckError
from wideneck.evaluation import spread_contexts, stream
from wideneck.models import LogitMap


def states(num, hidden_size=D, scale=2.0):
    generator = torch.Generator().manual_seed(1)
    return scale * torch.randn(num, hidden_size, generator=generator, dtype=torch.float64)


def press(matrix):
    """Singular values above the tolerance, and that."""
    s = torch.linalg.svdvals(matrix.double())
    tolerance = 0.5 * math.sqrt(sum(matrix.shape) + 1) * s[0].item() * 2**-23
    return int((s > tolerance).sum()), tolerance


@pytest.mark.parametrize("num", [V - 2, 3 * V], ids=["fewer contexts", "more contexts"])
@pytest.mark.parametrize("case", CASES)
def test_ranks_are_those_of_the_svd(case, num):
    head, hidden = some_head(case).double(), states(num)
    found = log_prob_ranks(head, hidden, num_contexts=num)
    with torch.no_grad():
        matrix = head.eval().log_probs(hidden)
    s = torch.linalg.svdvals(matrix)
    assert (found.num_contexts, found.vocab_size) == tuple(matrix.shape)
    # A Gram matrix holds singular values down to sqrt(2^-52), 1e-8, of the largest.
    values = torch.tensor(found.singular_values, dtype=torch.float64)
    torch.testing.assert_close(values, s, rtol=1e-9, atol=1e-6 * s[0].item())
    assert (found.press, pytest.approx(found.press_tolerance)) == press(matrix)
    assert found.press_centred == press(matrix - matrix.mean(1, keepdim=True))[0]
    assert found.press <= found.bound
    covered = s.square().cumsum(0) / s.square().sum()
    for name, epsilon in (("1e3", 1e-3), ("1e4", 1e-4), ("1e5", 1e-5)):
        smallest = int((covered < 1 - epsilon).sum()) + 1
        assert getattr(found, f"effective_{name}") == smallest


@pytest.mark.parametrize("case", CASES)
def test_scores_are_described_before_the_activation(case):
    head, hidden = some_head(case).double(), states(200)
    found = log_prob_ranks(head, hidden, num_contexts=200)
    with torch.no_grad():
        contexts, _ = head.eval().contexts(hidden)
        z = contexts @ head.weight.T
        z = head.logit_scale * (z if head.bias is None else z + head.bias)
    assert found.mean_logit == pytest.approx(z.mean().item(), rel=1e-9)
    assert found.sd_logit == pytest.approx(z.std(correction=0).item(), rel=1e-9)
    assert found.share_curved == pytest.approx((z.abs() < 5).double().mean().item())


def test_scores_of_parts_of_unequal_size_are_described_as_of_one(monkeypatch):
    """Three parts that differ in mean and spread: 90, 90 and 20 contexts."""
    head = some_head("softmax").double()
    hidden = states(200) * torch.linspace(0.1, 4, 200)[:, None].double() + 0.5
    whole = log_prob_ranks(head, hidden, num_contexts=200)
    monkeypatch.setattr(head_ranks, "TOKENS", 90)
    parts = log_prob_ranks(head, hidden, num_contexts=200)
    for name in ("mean_logit", "sd_logit", "share_curved"):
        assert getattr(parts, name) == pytest.approx(getattr(whole, name), rel=1e-12), name
    assert 0 < parts.share_curved < 1


def test_no_rank_is_above_the_number_of_contexts():
    head = some_head("softmax").double()
    assert log_prob_ranks(head, states(3)).bound == 3
    assert head.rank_bound > 3


WIDE = {
    "softmax": (c.Softmax(), False, 21),
    "softmax with bias": (c.Softmax(), True, 22),
    "moc": (c.MoC(num_components=3), True, 22),
    "sigsoftmax": (c.Sigsoftmax(), True, 150),
    "mos": (c.Mixture(num_components=3), True, 150),
}


@pytest.mark.parametrize("name", WIDE)
def test_float32_shows_who_is_stuck_and_both_gram_matrices_agree(name):
    """D = 20, V = 150: as many contexts as words by the rows, and ten times as many by columns."""
    config, bias, rank = WIDE[name]
    torch.manual_seed(0)
    head = heads.build(config, hidden_size=20, vocab_size=150, bias=bias)
    with torch.no_grad():
        for parameter in head.parameters():
            parameter.copy_(torch.randn_like(parameter) / 2)
    hidden = states(1500, 20, scale=1.5).float()
    few = log_prob_ranks(head, hidden)
    many = log_prob_ranks(head, hidden.split(400), num_contexts=1500)
    assert (few.num_contexts, many.num_contexts) == (150, 1500)
    assert many.press == many.bound == rank
    assert many.press_centred == rank - 1
    assert few.press <= few.bound == rank
    if rank < 150:
        assert (few.press, few.press_centred) == (rank, rank - 1)


def test_a_softmax_has_the_ranks_that_the_audit_finds():
    torch.manual_seed(0)
    head = heads.build("softmax", hidden_size=20, vocab_size=300, bias=True)
    head.weight.data.normal_()
    hidden = states(100, 20, scale=1.0).float()
    layer = OutputLayer(head.weight.detach(), head.bias.detach(), LogitMap("identity"))
    audit = log_prob_rank(layer, hidden, layer.logits(hidden).logsumexp(1))
    found = log_prob_ranks(head, hidden)
    for name in ("num_contexts", "bound", "press", "effective_1e3", "effective_1e5"):
        assert getattr(found, name) == getattr(audit, name), name
    assert found.press_tolerance == pytest.approx(audit.press_tolerance, rel=1e-5)
    large = audit.press
    assert found.singular_values[:large] == pytest.approx(audit.singular_values[:large], rel=1e-3)


@pytest.mark.parametrize("num", [60, 400], ids=["rows", "columns"])
def test_a_large_mean_costs_no_digits_of_what_varies(num):
    """A head that hardly moves: the direction 1 is 1e4 times as long as the rest."""
    torch.manual_seed(0)
    head = heads.build("softmax", hidden_size=6, vocab_size=80).double()
    head.weight.data.normal_().mul_(1e-4)
    hidden = states(num, 6)
    found = log_prob_ranks(head, hidden, num_contexts=num)
    assert found.press_centred == 6


def test_contexts_in_batches_are_contexts_in_one():
    head, hidden = some_head("moss"), states(V, D).float()
    whole = log_prob_ranks(head, hidden)
    batches = [hidden[:2].view(2, 1, D), hidden[2:3], hidden[3:].view(1, V - 3, D)]
    assert log_prob_ranks(head, iter(batches)) == whole


def test_only_the_first_contexts_are_taken_and_by_default_no_more_than_words():
    head, hidden = some_head("mos"), states(50).float()
    assert log_prob_ranks(head, hidden) == log_prob_ranks(head, hidden[:V])
    assert log_prob_ranks(head, hidden, num_contexts=4) == log_prob_ranks(head, hidden[:4])
    assert log_prob_ranks(head, hidden, num_contexts=99).num_contexts == 50


def test_dropout_is_off_and_modes_come_back():
    torch.manual_seed(0)
    head = heads.build("mos", hidden_size=D, vocab_size=V, dropout=0.5)
    plain = heads.build("mos", hidden_size=D, vocab_size=V)
    plain.load_state_dict(head.state_dict())
    hidden = states(V).float()
    with torch.no_grad():
        assert not torch.equal(head.log_probs(hidden), plain.log_probs(hidden))  # in training
    assert log_prob_ranks(head, hidden) == log_prob_ranks(plain, hidden)
    assert all(modes(head))


@pytest.mark.parametrize("make", [recurrent, windowed])
def test_spread_contexts_are_at_equal_distances(make):
    model, ids = make(), text(62)
    every = torch.cat([h.flatten(0, 1) for h, _ in stream(model, ids, batch_size=2, segment=7)])
    total = len(every)
    for num in (1, 2, 9, total, total + 5):
        found = spread_contexts(model, ids, num, batch_size=2, segment=7)
        places = torch.linspace(0, total - 1, min(num, total), dtype=torch.float64).round().long()
        torch.testing.assert_close(found, every[places])
    assert all(modes(model))


def test_no_contexts_are_refused():
    with pytest.raises(WideneckError, match="at least one context"):
        log_prob_ranks(some_head("softmax"), [])
