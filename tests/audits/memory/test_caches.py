"""The fits of the caches: no worse than a dense search, and never worse than no cache."""

import math

import pytest
import torch
from scipy.optimize import minimize_scalar

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
def test_counts_do_not_see_the_scores(mixture):
    """Also where the scores would help."""
    scores, nll = example(2, helpful=1)
    level = Scores(0 * scores.scores, scores.visible, scores.where, scores.positive)
    counts = FITS[mixture](scores, nll, counts=True)
    assert counts == FITS[mixture](level, nll)
    assert counts.nll(scores, nll).mean().item() == pytest.approx(counts.loss, abs=1e-12)
    assert counts.mass(scores) == counts.mass(level) > 0
    assert FITS[mixture](scores, nll).loss < counts.loss - 0.01


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


@pytest.mark.parametrize("at_once", [1, 100, 2**20])
def test_losses_found_some_at_a_time_choose_the_same_bias(at_once, monkeypatch):
    scores, nll = example(2, helpful=1)
    whole = fit_joint(scores, nll)
    monkeypatch.setattr("wideneck.audits.memory.caches.AT_ONCE", at_once)
    assert fit_joint(*example(2, helpful=1)) == whole


@pytest.mark.parametrize("share", [0.02, 0.6, 0.98])
def test_a_weight_that_is_best_by_construction_is_found(share):
    """Where p is 1/2 and a share of the predictions is in the cache with certainty.

    d/dw of share log(1/2 + w/2) + (1 - share) log(1/2 - w/2) is 0 at w = 2 share - 1; below a half
    no weight helps.
    """
    n = 500
    where = torch.zeros(1, n, 1, dtype=torch.long)
    hit = (torch.arange(n) < share * n)[None, :, None]
    visible = torch.ones(n, 1, dtype=torch.bool)
    scores = Scores(torch.zeros(1, n, 1), visible, where, hit)
    nll = torch.full((n,), math.log(2), dtype=torch.float64)
    found = fit_linear(scores, nll, counts=True)
    if share < 0.5:
        assert found.memory is None
        assert found.weight == 0
        assert found.mass(scores) == 0
        return
    w = 2 * share - 1
    assert found.weight == pytest.approx(w, abs=1e-3)
    want = -(share * math.log(0.5 + w / 2) + (1 - share) * math.log(0.5 - w / 2))
    assert found.loss == pytest.approx(want, abs=1e-7)
    assert found.mass(scores) == pytest.approx(w, abs=1e-3)


@pytest.mark.parametrize("odds", [-3.0, 0.0, 2.0])
def test_a_bias_that_is_best_by_construction_is_found(odds):
    """One memory of score 0 beside a model of p: x = e^b has the share x / (1 + x), and the loss
    log(1 + x) - a log(p + x) - (1 - a) log p has its least at x = (a - p) / (1 - a)."""
    n, p = 1000, 0.01
    x = math.exp(odds)
    a = (x + p) / (1 + x)
    hit = (torch.arange(n) < round(a * n))[None, :, None]
    a = hit.float().mean().item()
    scores = Scores(
        torch.zeros(1, n, 1), torch.ones(n, 1, dtype=torch.bool),
        torch.zeros(1, n, 1, dtype=torch.long), hit,
    )  # fmt: skip
    nll = torch.full((n,), -math.log(p), dtype=torch.float64)
    found = fit_joint(scores, nll, counts=True)
    best = (a - p) / (1 - a)
    assert found.bias == pytest.approx(math.log(best), abs=2e-3)
    assert found.mass(scores) == pytest.approx(best / (1 + best), abs=1e-3)


@pytest.mark.parametrize("theta", [0.05, 0.3, 1.5])
def test_a_theta_that_is_best_by_construction_is_found(theta):
    """Targets drawn from the softmax of theta times the scores: the likeliest theta is found.

    The model gives each of K tokens 1e-6, so a linear mixture gives the cache nearly all.
    """
    generator = torch.Generator().manual_seed(0)
    n, K = 4000, 6
    scores = 2 * torch.randn(n, K, generator=generator, dtype=torch.float64)
    drawn = torch.multinomial((theta * scores).softmax(1), 1, generator=generator)
    given = Scores(
        scores[None], torch.ones(n, K, dtype=torch.bool), drawn[None],
        torch.ones(1, n, 1, dtype=torch.bool),
    )  # fmt: skip
    nll = torch.full((n,), -math.log(1e-6), dtype=torch.float64)
    found = fit_linear(given, nll)

    def loss(theta):
        return -(theta * scores).log_softmax(1).gather(1, drawn).mean().item()

    likeliest = minimize_scalar(loss, bounds=(theta / 2, 2 * theta), method="bounded")
    assert found.theta == pytest.approx(likeliest.x, rel=5e-3)  # of which 2.3e-3 are asked for
    assert found.loss == pytest.approx(likeliest.fun, abs=1e-4)
    assert found.weight > 0.999
