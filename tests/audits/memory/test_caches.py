"""The fits of the caches: no worse than a dense search, and never worse than no cache."""

import pytest
import torch

from wideneck.audits.memory.caches import JOINT, Scores, biased, fit_joint, fit_linear
from wideneck.memory.config import Memory
from wideneck.memory.mixture import mixture_nll

W, T, M = 3, 20, 19
FITS = {"joint": fit_joint, "linear": fit_linear}


def example(seed, *, helpful, scale=5.0, level=100.0):
    """Losses and scores; where `helpful`, memories of the target score higher."""
    generator = torch.Generator().manual_seed(seed)
    visible = torch.ones(T, M, dtype=torch.bool).tril(-1)
    positive = visible & (torch.rand(W, T, M, generator=generator) < 0.2)
    scores = scale * torch.randn(W, T, M, generator=generator) + level
    scores += 2 * scale * helpful * positive
    nll = 3 * torch.rand(W * T, generator=generator, dtype=torch.float64)
    kept, where = positive.to(torch.uint8).topk(M, dim=2)
    return Scores(scores, visible, where, kept.bool()), nll


def dense_search(scores, nll, mixture):
    """The least loss on a fine grid."""
    spread = scores.spread()
    found = [nll.mean().item()]
    for theta in [0.0, *(torch.logspace(-2, 1, 120) / spread).tolist()]:
        recall = scores.recall(theta)
        if mixture == "linear":
            for weight in torch.linspace(0.005, 0.995, 100).tolist():
                memory = Memory(mixture="linear", weight=weight)
                found.append(mixture_nll(memory, nll, recall).mean().item())
        else:
            seen = recall.log_all[recall.log_all > -torch.inf]
            low, high = -seen.max().item() - 12, -seen.min().item() + 8
            bias = torch.linspace(low, high, 400, dtype=torch.float64)[:, None]
            found.append(mixture_nll(JOINT, nll, biased(recall, bias)).mean(1).min().item())
    return min(found)


@pytest.mark.parametrize("mixture", FITS)
@pytest.mark.parametrize("helpful", [1, 0, -1])
def test_no_point_of_a_dense_grid_is_better(mixture, helpful):
    scores, nll = example(1 + helpful, helpful=helpful)
    found = FITS[mixture](scores, nll)
    assert found.loss <= dense_search(scores, nll, mixture) + 1e-4
    assert found.loss == pytest.approx(found.nll(scores, nll).mean().item(), abs=1e-12)


@pytest.mark.parametrize("mixture", FITS)
def test_a_cache_that_cannot_help_is_left_out(mixture):
    scores, nll = example(0, helpful=0)
    empty = Scores(scores.scores, scores.visible, scores.where, torch.zeros_like(scores.positive))
    found = FITS[mixture](empty, nll)
    assert found.loss == nll.mean().item()
    assert found.memory is None
    assert torch.equal(found.nll(empty, nll), nll)
    assert found.mass(empty) == 0


@pytest.mark.parametrize("mixture", FITS)
def test_counts_alone_are_among_what_similarity_may_choose(mixture):
    for seed in range(4):
        scores, nll = example(seed, helpful=-1)
        counts = FITS[mixture](scores, nll, counts=True)
        assert counts.theta in (0, None)
        assert FITS[mixture](scores, nll).loss <= counts.loss


@pytest.mark.parametrize("mixture", FITS)
def test_a_constant_added_to_the_similarities_changes_no_loss(mixture):
    scores, nll = example(3, helpful=1, level=0)
    moved = Scores(scores.scores + 64, scores.visible, scores.where, scores.positive)
    found = FITS[mixture](scores, nll), FITS[mixture](moved, nll)
    assert found[0].loss == pytest.approx(found[1].loss, abs=1e-5)


def test_the_same_call_gives_the_same_numbers():
    scores, nll = example(5, helpful=1)
    assert fit_joint(scores, nll) == fit_joint(*example(5, helpful=1))


def test_the_spread_is_that_of_visible_memories():
    scores, _ = example(0, helpful=0)
    rows = [
        scores.scores[w, t, : int(scores.visible[t].sum())].double().std(correction=0)
        for w in range(W)
        for t in range(2, T)
    ]
    assert scores.spread() == pytest.approx(torch.stack(rows).mean().item())


def test_equal_scores_are_counts():
    scores, nll = example(0, helpful=0, scale=0.0, level=3.0)
    assert fit_joint(scores, nll).theta in (0, None)
