"""The cache against whole distributions, formed in loops."""

import pytest
import torch

from evaluation.tiny_lms import V, modes, recurrent, text, windowed
from wideneck import config as c
from wideneck.errors import WideneckError
from wideneck.evaluation import NeuralCache, cache_perplexity, fit_cache, static_perplexity

MAKES = {"rows": recurrent, "windows": windowed}


@torch.no_grad()
def slow(model, ids, cache, batch_size):
    """Mean loss under (1 - weight) p + weight p_cache, each of V numbers; one row for windows."""
    model.eval()
    if model.backbone.context:
        starts = range(0, len(ids) - 1, 6)
        hidden = [model.backbone(ids[None, s : min(s + 6, len(ids) - 1)]).hidden for s in starts]
        rows, hidden = ids[None], torch.cat(hidden, 1)
    else:
        rows = ids[: len(ids) // batch_size * batch_size].view(batch_size, -1)
        hidden = model.backbone(rows[:, :-1]).hidden
    losses = []
    for row, states in zip(rows, hidden, strict=True):
        for t, h in enumerate(states):
            p = model.head.log_probs(h).exp()
            memories = range(max(0, t - cache.size), t)
            if memories:
                in_cache = torch.zeros(V, dtype=torch.float64)
                for i in memories:
                    in_cache[row[i + 1]] += (cache.theta * h @ states[i]).exp()
                p = (1 - cache.weight) * p + cache.weight * in_cache / in_cache.sum()
            losses.append(-p[row[t + 1]].log())
    return torch.stack(losses).mean().item()


@pytest.mark.parametrize("segment", [1, 4, 100])
@pytest.mark.parametrize("size", [1, 7, 1000])
@pytest.mark.parametrize("make", MAKES)
def test_the_loss_is_that_of_the_mixed_distributions(make, size, segment):
    model, ids = MAKES[make](), text(50)
    cache = NeuralCache(size=size, theta=0.8, weight=0.3)
    found = cache_perplexity(model, ids, cache, batch_size=3, segment=segment, num_bytes=10)
    assert found.loss == pytest.approx(slow(model, ids, cache, 3), rel=1e-10)
    assert found.num_tokens == static_perplexity(model, ids, batch_size=3).num_tokens


def test_long_pieces_are_compared_part_by_part():
    model, ids = recurrent(), text(300)
    cache = NeuralCache(size=150, theta=0.8, weight=0.3)
    found = cache_perplexity(model, ids, cache, batch_size=1, segment=1000)
    assert found.loss == pytest.approx(slow(model, ids, cache, 1), rel=1e-10)


@pytest.mark.parametrize("make", MAKES)
def test_without_weight_there_is_no_cache(make):
    model, ids = MAKES[make](), text(50)
    found = cache_perplexity(model, ids, NeuralCache(theta=1.0, weight=0.0), batch_size=2)
    static = static_perplexity(model, ids, batch_size=2)
    assert found.loss == pytest.approx(static.loss, rel=1e-12)


def test_with_theta_0_the_cache_counts():
    model = recurrent()
    ids = torch.tensor([1, 2, 2, 2, 3, 2])
    counts = [None, 1, 1, 0, 3 / 4]  # of the target among the targets before it
    with torch.no_grad():
        log_probs, _ = model.eval().log_probs(ids[None, :-1])
    p = log_probs[0].exp().gather(1, ids[1:, None])[:, 0]
    mixed = [q if n is None else 0.6 * q + 0.4 * n for q, n in zip(p, counts, strict=True)]
    found = cache_perplexity(model, ids, NeuralCache(theta=0.0, weight=0.4), batch_size=1)
    assert found.loss == pytest.approx(-torch.stack(mixed).log().mean().item(), rel=1e-12)


@pytest.mark.parametrize("make", MAKES)
def test_the_best_of_the_grid_is_found(make):
    model, ids = MAKES[make](), text(50)
    thetas, weights = [0.0, 0.5, 4.0], [0.0, 0.1, 0.6]
    losses = {
        (theta, w): cache_perplexity(
            model, ids, NeuralCache(size=9, theta=theta, weight=w), batch_size=2
        ).loss
        for theta in thetas
        for w in weights
    }
    found = fit_cache(model, ids, batch_size=2, size=9, thetas=thetas, weights=weights)
    best = min(losses, key=lambda pair: losses[pair])
    assert (found.cache.theta, found.cache.weight, found.cache.size) == (*best, 9)
    assert found.loss == pytest.approx(losses[best], rel=1e-12)
    assert found.loss_model == pytest.approx(losses[0.0, 0.0], rel=1e-12)


@pytest.mark.parametrize(
    ("thetas", "weights"),
    [([4.0, 0.0], [0.6, 0.02, 0.3]), ([0.5], [0.9, 0.1]), ([2.0, 1.0, 0.0], [0.2])],
)
def test_a_grid_of_any_order_and_shape_is_searched_and_the_model_s_own_loss_told(thetas, weights):
    model, ids = recurrent(), text(50)
    losses = {
        (theta, w): cache_perplexity(
            model, ids, NeuralCache(theta=theta, weight=w), batch_size=2
        ).loss
        for theta in thetas
        for w in weights
    }
    found = fit_cache(model, ids, batch_size=2, thetas=thetas, weights=weights)
    assert (found.cache.theta, found.cache.weight) == min(losses, key=lambda pair: losses[pair])
    assert found.loss == pytest.approx(min(losses.values()), rel=1e-12)
    static = static_perplexity(model, ids, batch_size=2).loss
    assert found.loss_model == pytest.approx(static, rel=1e-12)


def test_a_fitted_cache_gains_on_a_text_that_repeats_itself():
    model, ids = recurrent(), text(12).repeat(4)
    grid = [(theta, weight) for theta in (0.0, 4.0) for weight in (0.0, 0.3, 0.7)]
    losses = {
        (theta, weight): slow(model, ids, NeuralCache(theta=theta, weight=weight), 1)
        for theta, weight in grid
    }
    fit = fit_cache(model, ids, batch_size=1, thetas=[0.0, 4.0], weights=[0.0, 0.3, 0.7])
    # What came after this state before comes again, so it is to be trusted most.
    assert (fit.cache.theta, fit.cache.weight) == min(grid, key=losses.get) == (4.0, 0.7)
    assert fit.loss == pytest.approx(losses[4.0, 0.7], rel=1e-10)
    assert fit.loss_model == pytest.approx(losses[4.0, 0.0], rel=1e-10)


def test_a_cache_that_can_only_harm_is_left_out():
    """Every token occurs once, so no memory holds what comes."""
    model = recurrent()
    fit = fit_cache(model, torch.randperm(V), batch_size=1)
    assert fit.cache.weight == 0
    assert fit.loss == pytest.approx(fit.loss_model)


def test_far_similarities_neither_overflow_nor_vanish():
    model, ids = recurrent(c.Mixture(num_components=2)), text(50)
    found = cache_perplexity(model, ids, NeuralCache(theta=1e6, weight=0.5), batch_size=1)
    with torch.no_grad():
        hidden = model.eval().backbone(ids[None, :-1]).hidden[0]
        p = model.head.log_probs(hidden).exp()
    losses = [-p[0, ids[1]].log()]
    for t in range(1, len(ids) - 1):
        nearest = int((hidden[:t] @ hidden[t]).argmax())  # it has all of the cache
        losses.append(-(0.5 * p[t, ids[t + 1]] + 0.5 * (ids[nearest + 1] == ids[t + 1])).log())
    assert found.loss == pytest.approx(torch.stack(losses).mean().item(), rel=1e-9)


def test_modes_come_back_after_an_error():
    model = recurrent(rate=0.5)
    cache = NeuralCache(theta=1.0, weight=0.5)
    for run in (
        lambda **options: cache_perplexity(model, text(), cache, **options),
        lambda **options: fit_cache(model, text(), **options),
    ):
        with pytest.raises(ZeroDivisionError):
            run(batch_size=1, segment=9, progress=lambda *_: 1 / 0)
        assert all(modes(model))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"theta": -1.0, "weight": 0.1}, ">= 0 for theta"),
        ({"theta": 1.0, "weight": 1.0}, "0 <= weight < 1"),
        ({"theta": 1.0, "weight": -0.1}, ">= 0 for weight"),
        ({"theta": 1.0, "weight": 0.1, "size": 0}, ">= 1 for size"),
    ],
)
def test_numbers_that_make_no_cache_are_refused(options, message):
    with pytest.raises(WideneckError, match=message):
        NeuralCache(**options)
