"""Numbers of section "output" against loops over Python floats, and limits that they reach."""

import math
from collections import Counter
from dataclasses import replace

import pytest
import torch

from wideneck.audits.measured import UnmeasurableError
from wideneck.audits.output.layer import TOKENS, OutputLayer
from wideneck.audits.output.log_prob_rank import log_prob_rank, numerical_ranks
from wideneck.audits.output.rank_cost import rank_cost
from wideneck.audits.output.summary import summarize
from wideneck.audits.states import HiddenStates
from wideneck.errors import WideneckError
from wideneck.models import LogitMap

V, D = 12, 3


def layer(bias=False):
    generator = torch.Generator().manual_seed(0)
    weight = torch.randn(V, D, generator=generator)
    return OutputLayer(weight, torch.linspace(-1, 1, V) if bias else None, LogitMap("identity"))


def states(num_windows=4, window=2 * D, d=D, vocab_size=V):
    generator = torch.Generator().manual_seed(1)
    hidden = torch.randn(num_windows, window, d, generator=generator)
    return HiddenStates(
        hidden=hidden,
        targets=torch.randint(vocab_size, (num_windows, window), generator=generator),
        document=torch.arange(num_windows),
        num_bytes=torch.full((num_windows,), 3 * window),
        anisotropy=[],
        last_logits=torch.empty(0),
    )


def test_every_number_of_the_summary_is_that_of_a_loop():
    given, head = states(70), layer()
    assert given.targets.numel() > 2 * TOKENS
    fit = torch.arange(70) % 3 == 0
    found = summarize(head, given, fit)
    scores, spreads, nats, probability = [], [], [], [0.0] * V
    for window, (xs, ys) in enumerate(zip(given.hidden.double(), given.targets, strict=True)):
        for x, y in zip(xs, ys.tolist(), strict=True):
            z = [sum((w * x).tolist()) for w in head.weight.double()]
            total = math.log(sum(map(math.exp, z)))
            mean = sum(z) / V
            scores += z
            spreads.append(math.sqrt(sum((s - mean) ** 2 for s in z) / V))
            nats.append(total - z[y])
            if fit[window]:
                probability = [p + math.exp(s - total) for p, s in zip(probability, z, strict=True)]
    mean = sum(scores) / len(scores)
    assert found.logits.minimum == pytest.approx(min(scores), rel=1e-5)
    assert found.logits.maximum == pytest.approx(max(scores), rel=1e-5)
    assert found.logits.mean == pytest.approx(mean, abs=1e-6)
    std = math.sqrt(sum((s - mean) ** 2 for s in scores) / len(scores))
    assert found.logits.std == pytest.approx(std, rel=1e-5)
    assert found.logits.spread == pytest.approx(sum(spreads) / len(spreads), rel=1e-5)
    assert found.loss.nats_per_token.value == pytest.approx(sum(nats) / len(nats), rel=1e-5)
    # Three bytes a token.
    bits = sum(nats) / len(nats) / math.log(2) / 3
    assert found.loss.bits_per_byte.value == pytest.approx(bits, rel=1e-5)
    assert found.loss.uniform_nats == pytest.approx(math.log(V))
    counts = Counter(given.targets.flatten().tolist()).values()
    shares = [count / given.targets.numel() for count in counts]
    assert found.loss.unigram_nats == pytest.approx(-sum(p * math.log(p) for p in shares))
    assert found.gradient.energy_baseline == pytest.approx(D / V)
    assert found.gradient.norm_baseline == pytest.approx(math.sqrt(D / V))
    expected = [p / (int(fit.sum()) * 2 * D) for p in probability]
    assert found.mean_probability.tolist() == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("size", [0.01, 0.02, 0.08, 0.31, 0.5, 33.3, 777.7])
def test_a_head_that_says_nothing_costs_the_uniform_loss_and_spreads_nothing(size):
    """For some sizes the mean of the squares rounds to less than the square of the mean."""
    head = replace(layer(), weight=torch.ones(V, D))
    given = replace(states(1, 37), hidden=torch.full((1, 37, D), size))
    found = summarize(head, given, torch.ones(1, dtype=torch.bool))
    assert (found.logits.std, found.logits.spread) == pytest.approx((0, 0), abs=1e-4 * size)
    extremes = (found.logits.mean, found.logits.minimum, found.logits.maximum)
    assert extremes == pytest.approx([3 * size] * 3)
    rounding = 4 * max(1, size) * 2.0**-23  # of a score of float32
    assert found.loss.nats_per_token.value == pytest.approx(math.log(V), abs=rounding)
    assert found.mean_probability.tolist() == pytest.approx([1 / V] * V, rel=rounding)


def test_a_head_as_wide_as_its_vocabulary_keeps_the_whole_gradient():
    head = replace(layer(), weight=torch.eye(V) + 0.1)
    found = summarize(head, states(d=V), torch.ones(4, dtype=torch.bool)).gradient
    assert found.energy_share.value == pytest.approx(1, abs=1e-6)
    assert (found.energy_baseline, found.norm_baseline) == (1, 1)


@pytest.mark.parametrize("bias", [False, True])
def test_the_matrix_of_log_probabilities_has_the_singular_values_of_its_svd(bias):
    head, hidden = layer(bias), states(10).hidden.flatten(0, 1)
    log_p = head.logits(hidden).double().log_softmax(1)
    s = torch.linalg.svdvals(log_p)
    found = log_prob_rank(head, hidden, head.logits(hidden).logsumexp(1))
    assert found.num_contexts == len(hidden)
    assert found.bound == D + 1 + bias
    assert len(found.singular_values) == D + 8
    # What is 0 is so to the rounding of float32 log-probabilities.
    assert found.singular_values == pytest.approx(s[: D + 8].tolist(), rel=1e-4, abs=1e-4)
    tolerance = math.sqrt(len(hidden) + V + 1) / 2 * s[0].item() * 2.0**-23
    assert found.press_tolerance == pytest.approx(tolerance, rel=1e-5)
    few = log_prob_rank(head, hidden[:2], head.logits(hidden[:2]).logsumexp(1))
    assert (few.num_contexts, few.bound) == (2, 2)


def test_effective_ranks_begin_where_the_share_is_reached():
    squared = torch.tensor([0.9991, 0.00085, 0.000045, 0.000005], dtype=torch.float64)
    found = numerical_ranks(squared, 4, 4)
    for name, parts in (("effective_1e3", 1), ("effective_1e4", 2), ("effective_1e5", 3)):
        assert getattr(found, name) == parts
    assert numerical_ranks(torch.tensor([999.0, 1.0]).double(), 2, 2).effective_1e3 == 1
    assert numerical_ranks(torch.tensor([998.0, 2.0]).double(), 2, 2).effective_1e3 == 2
    assert numerical_ranks(torch.tensor([1.0, 0.0]).double(), 2, 2).effective_1e5 == 1


def test_of_many_contexts_some_are_taken_at_equal_distances(monkeypatch):
    monkeypatch.setattr("wideneck.audits.output.log_prob_rank.CONTEXTS", 20)
    hidden = torch.randn(39, 1, generator=torch.Generator().manual_seed(0))
    head = OutputLayer(torch.tensor([[1.0], [-1.0]]), None, LogitMap("identity"))
    found = log_prob_rank(head, hidden, head.logits(hidden).logsumexp(1))
    assert found.num_contexts == 20
    exact = torch.linalg.svdvals(head.logits(hidden[::2]).double().log_softmax(1))
    assert found.singular_values[:2] == pytest.approx(exact.tolist(), rel=1e-4)


def test_a_head_is_refused_beyond_the_rounding_of_the_model_s_own_product():
    head, hidden = layer(), torch.ones(4, D)
    logits = head.logits(hidden) / head.logits(hidden).abs().max() * 0.5
    head = replace(head, weight=head.weight / head.logits(hidden).abs().max() * 0.5)
    head.check(hidden, logits, "a model")
    head.check(hidden, logits + 9e-4, "a model")
    with pytest.raises(WideneckError, match="does not give the model's own logits"):
        head.check(hidden, logits + 1.1e-3, "a model")
    # Of large logits the allowance is a share.
    large = replace(head, weight=100 * head.weight)
    large.check(hidden, 100 * logits + 0.04, "a model")
    with pytest.raises(WideneckError, match="does not give the model's own logits"):
        large.check(hidden, 100 * logits + 0.06, "a model")
    half = logits.bfloat16() + 0.02  # four times its spacing at 1 is 0.031
    head.check(hidden, half, "a model")
    broken = logits.clone()
    broken[1, 2] = torch.nan
    with pytest.raises(UnmeasurableError, match="gives logits that are not finite"):
        head.check(hidden, broken, "a model")
    with pytest.raises(UnmeasurableError, match="beyond float32"):
        replace(head, weight=torch.full((V, D), 3e38)).check(hidden, logits, "a model")


def cost(num_windows, **options):
    given = states(num_windows, window=1)
    fit = torch.arange(num_windows) % 2 == 0
    p = torch.full((V,), 1 / V, dtype=torch.float64)
    return rank_cost(layer(True), given, fit, p, **options)


def test_the_whitening_asks_for_twice_as_many_tokens_as_columns():
    enough, few = cost(4 * D), cost(4 * D - 2)
    assert (enough.num_fit_tokens, enough.num_test_tokens) == (2 * D, 2 * D)
    assert {point.method for point in enough.points} == {"plain", "centred", "whitened", "fisher"}
    assert enough.skipped == ""
    assert (few.num_fit_tokens, few.num_test_tokens) == (2 * D - 1, 2 * D - 1)
    assert {point.method for point in few.points} == {"plain", "centred"}
    # The number of tokens that it advises, half of them to fit on, is the one that is enough.
    assert f"{2 * D - 1} tokens to fit on are fewer than twice the hidden size {D}" in few.skipped
    assert f"some {4 * D} or more" in few.skipped


def test_a_truncation_that_cannot_be_made_does_not_take_the_others_along(monkeypatch):
    from wideneck.audits.output import rank_cost as module

    made = module.fit_truncation

    def fit(method, *rest):
        if method == "centred":
            raise torch.linalg.LinAlgError("no convergence")
        return made(method, *rest)

    monkeypatch.setattr(module, "fit_truncation", fit)
    notes = []
    found = cost(4 * D, notes=notes)
    assert {point.method for point in found.points} == {"plain", "whitened", "fisher"}
    assert notes == ["Not measurable: nats lost by the centred truncation (no convergence)."]


def test_nothing_to_measure_on_is_said_and_nothing_is_lost_at_full_rank():
    one = cost(1)
    assert (one.points, one.num_fit_tokens, one.num_test_tokens) == ([], 1, 0)
    assert one.skipped.startswith("all:")
    for point in cost(8 * D, ranks=[D]).points:
        assert point.measured.value == pytest.approx(0, abs=1e-5)
        assert (point.first_order, point.fisher) == pytest.approx((0, 0), abs=1e-5)


@pytest.mark.parametrize("exponent", [-70, 70])
def test_scores_far_from_1_spread_by_their_scale(exponent):
    """Beyond 2^64 their squares leave float32."""
    everywhere = torch.ones(4, dtype=torch.bool)
    plain = summarize(layer(), states(), everywhere).logits
    scaled = replace(layer(), weight=torch.ldexp(layer().weight, torch.tensor(exponent)))
    found = summarize(scaled, states(), everywhere).logits
    for name in ("mean", "std", "spread", "minimum", "maximum"):
        expected = math.ldexp(getattr(plain, name), exponent)
        assert getattr(found, name) == pytest.approx(expected, rel=1e-5), name


def test_progress_rises_to_its_total_in_every_stage():
    told = {}

    def progress(stage, done, total):
        told.setdefault(stage, []).append((done, total))

    given, head = states(70), layer()
    fit = torch.arange(70) % 2 == 0
    summary = summarize(head, given, fit, progress)
    log_prob_rank(head, given.hidden.flatten(0, 1), summary.log_normalizer.flatten(), progress)
    rank_cost(head, given, fit, summary.mean_probability, progress=progress)
    assert list(told) == ["loss and gradient", "rank of log-probabilities", "nats lost at rank r"]
    for steps in told.values():
        done = [step for step, _ in steps]
        assert done == sorted(set(done))
        assert done[0] > 0
        assert done[-1] == steps[-1][1]
        assert len({total for _, total in steps}) == 1
