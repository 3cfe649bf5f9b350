from itertools import product

import pytest
import torch

from memory.slow_memory import example, slow_ranking
from wideneck import memory as m
from wideneck.memory.config import RANKS, REDUCTIONS
from wideneck.memory.ranking import IN_GRAPH, ranking_loss_in_graph
from wideneck.memory.ranks import Rows

CASES = list(product(REDUCTIONS, RANKS))


def setting(seed=0, batch=3, length=12, window=None):
    hidden, ids, _, embedding = example(seed, batch, length)
    valid = torch.ones_like(ids, dtype=torch.bool)
    valid[0, :3] = False
    s = m.similarities(hidden, hidden[:, :-1])
    target = ids.roll(-1, 1)
    target[:, -1] = -100
    return s, m.visible_history(valid, window=window), ids[:, 1:], target, embedding


@pytest.mark.parametrize(("reduction", "rank_over"), CASES)
@pytest.mark.parametrize("margin", [0.0, 0.1])
@pytest.mark.parametrize("window", [None, 4])
def test_the_loss_is_that_of_the_triple_loop(reduction, rank_over, margin, window):
    given = setting(window=window)
    given[0].requires_grad_()
    options = {"margin": margin, "reduction": reduction, "rank_over": rank_over}

    fast, slow = m.ranking_loss(*given, **options).loss, slow_ranking(*given, **options)

    torch.testing.assert_close(fast, slow)
    torch.testing.assert_close(
        torch.autograd.grad(fast, given[0])[0], torch.autograd.grad(slow, given[0])[0]
    )


@pytest.mark.parametrize(("reduction", "rank_over"), product(IN_GRAPH, RANKS))
def test_as_an_operator_of_a_graph_it_is_that_of_the_triple_loop(reduction, rank_over):
    *given, embedding = setting()
    s, options = given[0].requires_grad_(), {"reduction": reduction, "rank_over": rank_over}
    rows = Rows(torch.arange(len(embedding)), embedding)

    found = ranking_loss_in_graph(*given, rows, margin=0.1, **options)
    slow = slow_ranking(*given, embedding, margin=0.1, **options)

    torch.testing.assert_close(found.loss, slow)
    torch.testing.assert_close(
        torch.autograd.grad(3 * found.loss, s)[0], torch.autograd.grad(3 * slow, s)[0]
    )
    assert found.num_pairs == m.ranking_loss(*given, embedding).num_pairs
    # What a graph is told of shapes and types beforehand is what comes.
    call = (*given, rows.ids, rows.rows, 0.1, reduction == "pair_mean", rank_over == "all")
    checks = ("test_schema", "test_autograd_registration", "test_faketensor")
    torch.library.opcheck(torch.ops.wideneck.ranking_loss, call, test_utils=checks)


@pytest.mark.parametrize(("reduction", "rank_over"), CASES)
def test_gradients_are_those_of_the_formula(reduction, rank_over):
    s, *rest = setting(seed=1, batch=2, length=7)

    def loss(s):
        options = {"margin": 0.05, "reduction": reduction, "rank_over": rank_over}
        return m.ranking_loss(s, *rest, **options).loss

    assert torch.autograd.gradcheck(loss, (s.requires_grad_(),))


@pytest.mark.parametrize("reduction", REDUCTIONS)
@pytest.mark.parametrize("why", ["no positive", "no memory", "no target", "only positives", "one"])
def test_without_a_pair_the_loss_is_0_and_so_is_its_gradient(reduction, why):
    s, seen, values, target, embedding = setting()
    if why == "no positive":
        embedding = torch.cat([embedding, embedding[:1]])
        target = torch.full_like(target, 7)
    elif why == "no memory":
        seen = torch.zeros_like(seen)
    elif why == "no target":
        target = torch.full_like(target, -100)
    elif why == "only positives":
        values, target = torch.zeros_like(values), torch.zeros_like(target)
    else:  # a context of one token
        s, seen, values, target = s[:, :1, :0], seen[:, :1, :0], values[:, :0], target[:, :1]
    s = s.detach().requires_grad_()

    found = m.ranking_loss(s, seen, values, target, embedding, reduction=reduction)
    (gradient,) = torch.autograd.grad(found.loss, s)

    assert found.loss.item() == 0
    assert found.num_pairs.item() == 0
    assert not gradient.any()


def test_pairs_are_counted():
    s, seen, values, target, embedding = setting()
    good = m.positives(seen, values, target)

    found = m.ranking_loss(s, seen, values, target, embedding)

    want = (good.sum(-1) * (seen & ~good & good.any(-1, keepdim=True)).sum(-1)).sum()
    assert found.num_pairs.item() == want.item()


def test_a_large_common_level_of_the_similarities_does_not_cancel():
    """Raw scaled dot products of trained models are in the hundreds, their differences near 1."""
    s, *rest = setting(seed=2, batch=4, length=64)
    level = 500 + s

    fast = m.ranking_loss(level.float(), *rest, margin=1e-3).loss
    gold = m.ranking_loss(level, *rest, margin=1e-3).loss
    rounded = slow_ranking(
        level.float(), *rest, margin=1e-3, reduction="pair_mean", rank_over="visible"
    )

    assert (fast - gold).abs() <= 2 * (rounded - gold).abs() + 1e-5 * gold


def test_ranks_follow_the_embeddings():
    """One positive, then the nearer and the farther negative, one and two margins away."""
    embedding = torch.tensor([[1.0, 0.0], [0.0, 1.0], [1.0, 0.1]])
    values, target = torch.tensor([[1, 2, 0]]), torch.tensor([[0]])
    seen, s = torch.ones(1, 1, 3, dtype=torch.bool), torch.zeros(1, 1, 3)

    loss = m.ranking_loss(s, seen, values, target, embedding, margin=1.0, reduction="sum").loss

    assert loss.item() == 1 + 2


def test_a_sequence_does_not_feel_its_neighbours():
    s, seen, values, target, embedding = setting()
    together = m.ranking_loss(s, seen, values, target, embedding, reduction="sum").loss

    alone = sum(
        m.ranking_loss(
            s[b : b + 1], seen[b : b + 1], values[b : b + 1], target[b : b + 1], embedding,
            reduction="sum",
        ).loss
        for b in range(3)
    )  # fmt: skip

    torch.testing.assert_close(together, alone)


@pytest.mark.parametrize("at_once", [1, 25, 60])
@pytest.mark.parametrize(("reduction", "rank_over"), CASES)
def test_rows_taken_some_at_a_time_are_the_rows(reduction, rank_over, at_once, monkeypatch):
    """Of 11 memories each: one row, two, and five at a time."""
    monkeypatch.setattr("wideneck.memory.hinges.NUMBERS", at_once)
    monkeypatch.setattr("wideneck.memory.ranking.PAIRS", at_once)
    given = setting(seed=4)
    given[0].requires_grad_()
    options = {"margin": 0.1, "reduction": reduction, "rank_over": rank_over}

    fast, slow = m.ranking_loss(*given, **options).loss, slow_ranking(*given, **options)

    torch.testing.assert_close(fast, slow)
    torch.testing.assert_close(
        torch.autograd.grad(fast, given[0])[0], torch.autograd.grad(slow, given[0])[0]
    )


def test_a_token_of_the_same_direction_is_not_nearer_than_the_target_itself():
    """By rounding its cosine may be the larger one; the positive still takes the first rank."""
    generator = torch.Generator().manual_seed(0)
    seen, s = torch.ones(1, 1, 3, dtype=torch.bool), torch.zeros(1, 1, 3)
    for _ in range(20):
        row = torch.randn(7, generator=generator)
        embedding = torch.stack([row, 3.3 * row, -row])
        values, target = torch.tensor([[1, 2, 0]]), torch.tensor([[0]])
        found = m.ranking_loss(s, seen, values, target, embedding, margin=1.0, reduction="sum")
        assert found.loss.item() == 1 + 2


def test_a_margin_that_is_kept_costs_nothing_and_the_least_that_is_not_costs_itself():
    embedding = torch.tensor([[1.0, 0.0], [0.9, 0.1], [0.0, 1.0]], dtype=torch.float64)
    values, target = torch.tensor([[0, 1, 2]]), torch.tensor([[0]])
    seen = torch.ones(1, 1, 3, dtype=torch.bool)
    # One margin below the positive, and two: exactly what is asked, then 0.01 less of each.
    for short, want in ((0.0, 0.0), (0.01, 0.02)):
        s = torch.tensor([[[0.0, -0.25 + short, -0.5 + short]]], dtype=torch.float64)
        found = m.ranking_loss(s, seen, values, target, embedding, margin=0.25, reduction="sum")
        assert found.loss.item() == pytest.approx(want, abs=1e-12)
        assert found.num_pairs.item() == 2
