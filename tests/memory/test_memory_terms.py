"""What a memory trains and what it logs, each part by its definition in loops."""

import math

import pytest
import torch

from memory.slow_memory import example, slow_mixture, slow_ranking
from wideneck import memory as m
from wideneck.memory.config import Memory
from wideneck.memory.module import CacheMemory, Statistics

CONFIGS = {
    "joint": Memory(alpha=0.7, margin=0.1),
    "linear": Memory(mixture="linear", weight=0.3, alpha=0.7, margin=0.1),
    "logits": Memory(scores="logits", alpha=0.7, margin=0.1),
    "sum": Memory(reduction="sum", alpha=0.7, margin=0.1),
    "offsets": Memory(reduction="offset_sum", rank_over="all", alpha=0.7, margin=0.1),
    "cross entropy": Memory(loss="cross_entropy", alpha=0.7, margin=0.1),
    "no ranking": Memory(alpha=0.0),
    "labels": Memory(values="labels", alpha=0.7, margin=0.1),
}


def setting(seed=0):
    """z, s, visible, values, target and embedding; some targets ignored, one row padded."""
    hidden, ids, z, embedding = example(seed)
    valid = torch.ones_like(ids, dtype=torch.bool)
    valid[1, :4] = False
    s = m.similarities(hidden, hidden[:, :-1])
    target = ids.roll(-1, 1)
    target[:, -1] = -100
    target[0, 2:5] = -100
    return z, s, m.visible_history(valid), ids[:, 1:], target, embedding


def labels_of(values, target):
    """As values="labels" has them: a token of the context that is no target has none."""
    return torch.where(target[:, :-1] == -100, -100, values)


def terms(config, given, **options):
    z, s, visible, values, target, embedding = given
    nll = -z.log_softmax(-1).gather(-1, target.clamp(min=0)[..., None])[..., 0]
    return m.memory_loss(
        config,
        s,
        s / 2,  # what is ranked need not be what is mixed
        visible,
        values,
        target,
        nll,
        embedding if config.alpha else None,
        log_normalizer=z.logsumexp(-1) if config.scores == "logits" else None,
        label_values=labels_of(values, target),
        **options,
    )


def by_loops(config, given):
    """Means over the targets: -log p of the mixture and of the model, and the memory's share."""
    z, s, visible, values, target, embedding = given
    s = s.detach()
    shown = labels_of(values, target) if config.values == "labels" else values
    mixture, model, share = [], [], []
    for b, t in [(b, t) for b in range(z.shape[0]) for t in range(z.shape[1])]:
        if target[b, t] == -100:
            continue
        # A token beyond the vocabulary stands for one that no target is.
        at = torch.where(shown[b] < 0, z.shape[-1], shown[b])
        wider = torch.cat([z[b, t], z.new_full((1,), -torch.inf)])
        seen = visible[b, t].tolist()
        p = slow_mixture(config, wider, s[b, t], seen, at, len(wider))
        mixture.append(-p[target[b, t]].log())
        model.append(-z[b, t].log_softmax(-1)[target[b, t]])
        mass = sum((float(s[b, t, j].exp()) for j in range(len(seen)) if seen[j]), 0.0)
        if config.mixture == "linear":
            share.append(config.weight if any(seen) else 0.0)
        else:
            own = float(z[b, t].exp().sum()) if config.scores == "logits" else 1.0
            share.append(mass / (own + mass))
    ranking = slow_ranking(
        s / 2, visible, values, target, embedding,
        margin=config.margin, reduction=config.reduction, rank_over=config.rank_over,
    )  # fmt: skip
    if config.reduction == "sum":
        ranking = ranking / len(mixture)
    return (
        torch.stack(mixture).mean(),
        torch.stack(model).mean(),
        ranking if config.alpha else torch.zeros_like(ranking),
        torch.tensor(share, dtype=z.dtype).mean(),
        len(mixture),
    )


@pytest.mark.parametrize("name", CONFIGS)
def test_every_term_is_its_definition(name):
    config, given = CONFIGS[name], setting()
    mixture, model, ranking, share, count = by_loops(config, given)

    found = terms(config, given)

    trained = model if config.loss == "cross_entropy" else mixture
    torch.testing.assert_close(found.total, trained + config.alpha * ranking)
    for part, want in (
        ("mixture", mixture),
        ("model", model),
        ("ranking", ranking),
        ("mass", share),
    ):
        torch.testing.assert_close(getattr(found, part), want, msg=lambda x, part=part: part + x)
    assert found.num_targets == count


@pytest.mark.parametrize("name", CONFIGS)
def test_a_step_of_more_targets_counts_this_part_by_its_share(name):
    config, given = CONFIGS[name], setting()
    alone, part = terms(config, given), terms(config, given, num_items=torch.tensor(97))
    torch.testing.assert_close(part.total, alone.total * alone.num_targets / 97)
    for own in ("mixture", "model", "ranking", "mass"):
        torch.testing.assert_close(getattr(part, own), getattr(alone, own))


@pytest.mark.parametrize("name", CONFIGS)
def test_while_it_warms_up_the_model_is_trained_alone(name):
    config, given = CONFIGS[name], setting()
    given[1].requires_grad_()
    found = terms(config, given, warming_up=True)
    torch.testing.assert_close(found.total, by_loops(config, given)[1])
    assert found.ranking == 0
    (gradient,) = torch.autograd.grad(found.total, given[1])
    assert not gradient.any()


def test_another_index_is_ignored_where_it_is_told():
    config, given = CONFIGS["joint"], setting()
    z, s, visible, values, target, embedding = given
    moved = torch.where(target == -100, 3, target), torch.where(target == 3, -100, target)
    nll = torch.ones(target.shape, dtype=z.dtype)
    rest = (config, s, s, visible, values)
    ignored = m.memory_loss(*rest, moved[0], nll, embedding, ignore_index=3)
    expected = m.memory_loss(*rest, moved[1], nll, embedding)
    torch.testing.assert_close(ignored.total, expected.total)
    assert ignored.num_targets == expected.num_targets == ((target != -100) & (target != 3)).sum()


def module(**options):
    return CacheMemory(Memory(**{"temperature": 1.7, "bias": -0.6, **options})).double()


@pytest.mark.parametrize("learned", [True, False])
def test_scores_are_similarities_over_the_temperature_and_then_a_bias(learned):
    similarity = torch.randn(2, 3, 4, dtype=torch.float64)
    s, ordered = module(learned=learned)(similarity)
    torch.testing.assert_close(s, similarity / 1.7 - 0.6, rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(ordered, similarity / 1.7, rtol=1e-6, atol=1e-6)


def test_a_loss_of_the_order_has_no_gradient_for_temperature_and_bias():
    """Or it would fall by a temperature that makes all similarities alike."""
    part, given = module(), setting()
    similarity = given[1].requires_grad_()
    s, ordered = part(similarity)
    assert ordered.requires_grad
    (gradient,) = torch.autograd.grad(ordered.sum(), similarity, retain_graph=True)
    torch.testing.assert_close(gradient, torch.full_like(gradient, 1 / 1.7), rtol=1e-6, atol=0)
    numbers = [part.log_temperature, part.bias]
    assert torch.autograd.grad(ordered.sum(), numbers, allow_unused=True, retain_graph=True) == (
        None,
        None,
    )
    by_temperature, by_bias = torch.autograd.grad(s.sum(), numbers)
    # d(x exp(-tau) + b) / dtau = -x exp(-tau)
    assert by_temperature.item() == pytest.approx(-(similarity / 1.7).sum().item(), rel=1e-6)
    assert by_bias.item() == s.numel()


def test_a_linear_mixture_learns_a_temperature_only_and_a_fixed_memory_nothing():
    names = {
        "joint": ["log_temperature", "bias"],
        "linear": ["log_temperature"],
    }
    for mixture, expected in names.items():
        part = module(mixture=mixture)
        assert [name for name, _ in part.named_parameters()] == expected
        assert part.log_temperature.item() == pytest.approx(math.log(1.7), rel=1e-6)
        assert not [*module(mixture=mixture, learned=False).parameters()]
    part = module()
    for parameter in part.parameters():
        parameter.data.add_(1)
    part.reset_parameters()
    assert part.log_temperature.item() == pytest.approx(math.log(1.7), rel=1e-6)
    assert part.bias.item() == pytest.approx(-0.6, rel=1e-6)


def test_the_warm_up_is_of_the_first_batches_to_the_last_of_them():
    part = module(warmup_batches=3)
    assert [part.warms_up() for _ in range(5)] == [True, True, True, False, False]
    assert part.state_dict()["num_batches"].item() == 5
    without = module()
    assert not without.warms_up()
    assert "num_batches" not in without.state_dict()


def made_of(total, mixture, model, ranking, mass, count):
    numbers = (torch.tensor(float(x)) for x in (total, mixture, model, ranking, mass))
    return m.Terms(*numbers, torch.tensor(count))


def test_logs_are_means_over_targets_and_over_those_that_were_looked_at():
    kept = Statistics()
    batches = [made_of(9, 1, 2, 3, 0.25, 10), made_of(9, 5, 4, 7, 0.75, 30)]
    for batch, right, looked in zip(batches, ((1, 2, 0), (3, 0, 1)), (2, 6), strict=True):
        names = ("", "_model_only", "_cache_only")
        hits = {name: torch.tensor(number) for name, number in zip(names, right, strict=True)}
        kept.add(True, batch, hits, torch.tensor(looked))
    kept.add(False, made_of(1, 100, 100, 100, 1, 5), {"": torch.tensor(5)}, torch.tensor(5))

    assert kept.take(True) == {
        "nll": (10 * 1 + 30 * 5) / 40,
        "nll_model_only": (10 * 2 + 30 * 4) / 40,
        "ranking_loss": (10 * 3 + 30 * 7) / 40,
        "cache_mass": (10 * 0.25 + 30 * 0.75) / 40,
        "accuracy": 4 / 8,
        "accuracy_model_only": 2 / 8,
        "accuracy_cache_only": 1 / 8,
    }
    assert kept.take(True) == {}
    kept.add(True, batches[0], {}, torch.tensor(0))
    assert kept.take(True)["nll"] == 1
    assert kept.take(False)["nll"] == 100
