"""What is measured of a trained model, against definitions written out."""

import dataclasses
import math
from types import SimpleNamespace

import pytest
import torch

from lab.small_reproduction import TINY, small, write_words
from wideneck.attached.memory_model import three_ways
from wideneck.audits.output.log_prob_rank import numerical_rank
from wideneck.errors import WideneckError
from wideneck.lab.ambiguous.encoding import make_task
from wideneck.lab.ambiguous.words import read_analogies
from wideneck.lab.histalign import evaluation
from wideneck.lab.histalign.objectives import OBJECTIVES
from wideneck.lab.histalign.reproduction import figures, reproduction
from wideneck.lab.histalign.runs import Run
from wideneck.lab.histalign.training import start


def evaluate(*given):
    return SimpleNamespace(**evaluation.evaluate(*given))


@pytest.fixture
def started(tmp_path):
    analogies = read_analogies(write_words(tmp_path))
    model, encoding = start(None, TINY, OBJECTIVES["trime"], analogies, 0)
    return model.eval(), make_task(analogies, encoding, "leak-free", 0, 40)


@torch.no_grad()
def test_the_three_distributions_are_those_of_the_formula(started):
    """Equation 3, token by token."""
    model, task = started
    ids = torch.tensor([task.prompts[0]])
    views = three_ways(model, ids)
    torch.testing.assert_close(views.full, model(ids).logits)
    hidden = model.transformer(ids).last_hidden_state[0].double()
    z = hidden @ model.get_output_embeddings().weight.double().T
    torch.testing.assert_close(views.model[0].double(), z.log_softmax(-1), atol=1e-5, rtol=0)
    at = len(task.prompts[0]) - 1
    s = hidden[:at] @ hidden[at] / math.sqrt(hidden.shape[-1])
    cache = torch.zeros(z.shape[-1], dtype=torch.float64)
    for j in range(at):
        cache[ids[0, j + 1]] += s[j].exp()
    total = z[at].exp().sum() + cache.sum()
    full = (z[at].exp() + cache) / total
    torch.testing.assert_close(views.full[0, at].exp().double(), full, atol=1e-6, rtol=0)
    own = views.cache[0, at].exp().double()
    torch.testing.assert_close(own, cache / cache.sum(), atol=1e-6, rtol=0)
    share = cache.sum() / total
    torch.testing.assert_close(views.memory_share[0, at].double(), share, atol=1e-6, rtol=0)
    assert (views.cache[0, 0] == -torch.inf).all()  # nothing is before the first token


def test_the_last_position_is_one_of_all(started):
    model, task = started
    ids = torch.tensor([task.prompts[0]])
    last, every = three_ways(model, ids, keep=slice(-1, None)), three_ways(model, ids)
    for name in ("full", "model", "cache", "memory_share"):
        torch.testing.assert_close(getattr(last, name), getattr(every, name)[:, -1:])


def test_an_evaluation_is_that_of_prompts_one_by_one(started):
    model, task = started
    found = evaluate(model, task, 60)
    right, losses, rows = 0, [], []
    for ids, x, y in zip(task.prompts, task.first, task.second, strict=True):
        log_probs = three_ways(model, torch.tensor([ids])).full[0]
        right += {int(x), int(y)} <= set(log_probs[-1].topk(10).indices.tolist())
        losses.append(-log_probs[-1, [int(x), int(y)]].mean())
        rows.append(log_probs)
    assert found.full["10"] == pytest.approx(100 * right / len(task.prompts))
    assert found.loss == pytest.approx(torch.stack(losses).mean().item(), rel=1e-5)
    assert found.rank_rows == 60
    assert 0 < found.rank <= 60
    bound = model.get_output_embeddings().rank_bound
    assert evaluate(model, task, 1000).rank_model <= bound


def test_a_numerical_rank_counts_what_is_there():
    torch.manual_seed(0)
    matrix = torch.randn(90, 7) @ torch.randn(7, 40)
    assert numerical_rank(matrix) == numerical_rank(matrix.T) == 7
    assert numerical_rank(torch.randn(30, 50)) == 30


def test_three_ways_wants_a_memory(tmp_path):
    from tiny import tiny_model

    with pytest.raises(WideneckError, match="attach_memory"):
        three_ways(tiny_model("gpt2"), torch.tensor([[1, 2]]))


def a_run(seed, full, objective="trime"):
    numbers = {"2": full, "25": 100.0}
    return Run(
        objective=objective,
        seed=seed,
        num_prompts=10,
        full=numbers,
        model=numbers,
        cache=numbers,
        memory_share=0.5,
        loss=1.0,
        loss_model=2.0,
        rank=9,
        rank_model=8,
        rank_bound=9,
        rank_rows=20,
        vocab_size=30,
        num_steps=1,
        seconds=1.0,
        cpu_seconds=1.0,
        versions={},
    )


def summarized(*full, added=0.0):
    """Of runs with these accuracies, one a seed, and what the ranking loss adds to each."""
    runs = [
        a_run(seed, value + added * (OBJECTIVES[name].over is not None), name)
        for seed, value in enumerate(full)
        for name in OBJECTIVES
    ]
    found = reproduction(small(), runs)
    assert [one.objective for one in found.summaries] == list(OBJECTIVES)
    return found.summaries, found.gaps


def test_a_summary_has_the_mean_and_the_deviation_of_n_minus_1():
    (found, *_), _ = summarized(10.0, 20.0, 60.0)
    assert found.figures["full.2"].mean == pytest.approx(30)
    assert found.figures["full.2"].std == pytest.approx(math.sqrt((400 + 100 + 900) / 2))
    assert found.figures["rank"].std == 0
    (found, *_), _ = summarized(10.0)
    assert found.figures["full.2"].std is None


def test_a_gap_is_taken_seed_by_seed():
    _, gaps = summarized(20.0, 70.0, added=10.0)
    assert [gap.over for gap in gaps] == ["cross_entropy", "trime_released", "trime"]
    for gap in gaps:
        assert gap.objective == f"{gap.over}_histalign"
        found = gap.figures["full.2"]
        assert (found.mean, found.std) == (10, 0)
        assert gap.figures["cache.25"].mean == 0
    assert figures(a_run(0, 30.0))["cache.25"] == 100


def test_every_view_has_its_own_accuracies_losses_and_rank(started):
    """Prompt by prompt, from the three distributions of each."""
    model, task = started
    found = evaluate(model, task, 300)
    pairs = list(zip(task.first.tolist(), task.second.tolist(), strict=True))
    each = [three_ways(model, torch.tensor([ids])) for ids in task.prompts]
    for view in ("full", "model", "cache"):
        for k in (2, 10, 25):
            best = [set(getattr(v, view)[0, -1].topk(k).indices.tolist()) for v in each]
            right = sum({*x, *y} <= some for (x, y), some in zip(pairs, best, strict=True))
            assert getattr(found, view)[str(k)] == pytest.approx(100 * right / len(each)), (view, k)
    losses = [
        -v.model[0, -1, list(target)].mean() for v, target in zip(each, task.targets, strict=True)
    ]
    assert found.loss_model == pytest.approx(torch.stack(losses).mean().item(), rel=1e-5)
    shares = [v.memory_share[0, -1] for v in each]
    assert found.memory_share == pytest.approx(torch.stack(shares).mean().item(), rel=1e-5)
    assert found.rank > found.rank_model
    for view, rank in (("full", found.rank), ("model", found.rank_model)):
        rows = torch.cat([getattr(v, view)[0] for v in each])[:300]
        assert abs(rank - numerical_rank(rows)) <= 1  # rounding goes with the batch


@pytest.mark.parametrize("at_once", [1, 3])
def test_batches_hold_so_many_numbers_and_one_prompt_at_least(started, monkeypatch, at_once):
    model, task = started
    whole, sizes = evaluate(model, task, 60), []

    def counting(model, ids, keep):
        sizes.append(len(ids))
        return three_ways(model, ids, keep=keep)

    vocab_size = model.config.vocab_size
    numbers = vocab_size - 1 if at_once == 1 else vocab_size * at_once
    monkeypatch.setattr(evaluation, "NUMBERS", numbers)
    monkeypatch.setattr(evaluation, "three_ways", counting)
    found = evaluate(model, task, 60)
    assert max(sizes) == at_once
    assert (found.full, found.model, found.cache) == (whole.full, whole.model, whole.cache)
    assert found.loss == pytest.approx(whole.loss, rel=1e-5)


def test_figures_are_named_by_the_view_that_they_are_of():
    run = dataclasses.replace(a_run(0, 1.0), model={"2": 2.0}, cache={"2": 3.0})
    found = figures(run)
    assert [found[f"{view}.2"] for view in ("full", "model", "cache")] == [1.0, 2.0, 3.0]
