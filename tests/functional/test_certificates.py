"""Certificates against the linear program that they are the dual of (Finlayson et al. 2024)."""

import numpy as np
import pytest
import torch
from scipy.optimize import linprog

from wideneck.errors import WideneckError
from wideneck.functional import certificates
from wideneck.functional.certificates import certified, objective, search, span

V, D = 200, 8
CASES = 500


def drawn(generator):
    """A head (V, D), probabilities (V,) of a state, and a threshold."""
    weight = generator.normal(size=(V, D)) + 2 * generator.normal(size=D)
    scores = weight @ (generator.uniform(0.3, 2) * generator.normal(size=D))
    prob = np.exp(scores - scores.max())
    return weight, prob / prob.sum(), generator.choice([0.005, 0.01, 0.02, 0.05, 0.2])


def least(weight, prob, token, tau):
    """The least true probability of a token that the linear program allows (scipy's HiGHS).

    Positive where {q_token = 0, q >= 0, W^T q = W^T p, 1^T q = 1, q <= p / (1 - tau)} is empty.
    """
    scale = 1 / prob[token]  # the solver's tolerance is absolute
    rows = np.vstack([weight.T, np.ones(len(prob))])
    solved = linprog(
        np.eye(len(prob))[token],
        A_eq=rows,
        b_eq=scale * (rows @ prob),
        bounds=np.stack([np.zeros(len(prob)), scale * prob / (1 - tau)], 1),
        method="highs",
    )
    assert solved.status == 0, solved.message
    return solved.fun / scale


def slow_bound(weight, prob, token, tau, coefficients):
    """F(a) in loops, for a = W b + c with a_token = 1."""
    a = weight @ coefficients
    a = a + 1 - a[token]
    sigma, total = 1 / (1 - tau), 0.0
    for j in range(len(prob)):
        if j != token:
            total += prob[j] * ((sigma - 1) * max(a[j], 0) + max(-a[j], 0))
    return total


def test_nothing_is_certified_that_the_linear_program_refuses():
    """500 heads and states, drawn afresh at every run; the share that is found beside them."""
    seed = int(np.random.SeedSequence().generate_state(1)[0])
    generator = np.random.default_rng(seed)
    allowed = found = 0
    for case in range(CASES):
        weight, prob, tau = drawn(generator)
        tokens, good = certified(
            torch.tensor(prob), span(torch.tensor(weight), D), float(tau), most=4
        )
        if len(tokens) == 0:
            continue
        token = int(generator.integers(len(tokens)))
        lowest = least(weight, prob, int(tokens[token]), tau)
        by_program = lowest > 1e-6 * prob[tokens[token]]
        if good[token]:
            assert by_program, f"seed {seed}, case {case}: certified, and the program allows 0"
        allowed, found = allowed + by_program, found + bool(good[token])
    print(f"seed {seed}: found {found} of the program's {allowed}, in {CASES} cases")
    assert allowed > CASES / 4, f"seed {seed}"
    assert found > 0.8 * allowed, f"seed {seed}: {found} of {allowed}"


def test_the_bound_is_that_of_the_linear_program():
    """By duality no probability goes below p_i - F(a), and the best a reaches the least one."""
    generator = np.random.default_rng(3)
    gaps = []
    for _ in range(20):
        weight, prob, tau = drawn(generator)
        p, directions = torch.tensor(prob), span(torch.tensor(weight), D)
        tokens = torch.where(p > tau, 0, p).topk(4).indices
        theta, _ = search(directions, p, p @ directions, directions[tokens], tau)
        value = objective(theta, tokens, p, directions, tau)
        for token, g in zip(tokens.tolist(), value.tolist(), strict=True):
            bound = prob[token] - (g - tau * prob[token]) / (1 - tau)
            lowest = least(weight, prob, token, tau)
            assert lowest >= bound - 1e-7 * prob[token]
            gaps.append((lowest - max(bound, 0)) / prob[token])
    assert np.median(gaps) < 0.05


def test_the_objective_is_that_of_the_loops():
    """Any theta, of every candidate, is one vector of the span of the columns of W and 1."""
    generator = np.random.default_rng(1)
    weight, prob, tau = drawn(generator)
    directions = span(torch.tensor(weight), 5)
    tokens = torch.tensor([3, 0, 199])
    theta = torch.tensor(generator.normal(size=(3, 5)))
    value = objective(theta, tokens, torch.tensor(prob), directions, tau)
    for k, token in enumerate(tokens.tolist()):
        target = (directions @ theta[k]).numpy()
        columns = np.column_stack([weight, np.ones(V)])
        coefficients, rest, *_ = np.linalg.lstsq(columns, target, rcond=None)
        assert rest < 1e-20
        bound = slow_bound(weight, prob, token, tau, coefficients[:-1])
        assert (value[k].item() - tau * prob[token]) / (1 - tau) == pytest.approx(bound, rel=1e-9)


def test_a_constant_vector_is_the_threshold():
    generator = np.random.default_rng(2)
    _, prob, tau = drawn(generator)
    p = torch.tensor(prob)
    value = objective(
        torch.zeros(V, 1).double(), torch.arange(V), p, torch.ones(V, 1).double(), tau
    )
    assert torch.equal(value < p, p > tau)


def test_the_search_stays_on_the_side_of_the_truth_and_lowers_the_objective():
    """Its own value is G of the same theta, where it sees all tokens; never above that of a = 1."""
    weight, prob, tau = drawn(np.random.default_rng(5))
    p, directions = torch.tensor(prob), span(torch.tensor(weight), D)
    tokens = torch.arange(V)
    theta, value = search(directions, p, p @ directions, directions, tau)
    torch.testing.assert_close(value, objective(theta, tokens, p, directions, tau))
    assert (value <= tau).all()
    assert (value < 0.5 * tau).any()
    # At a minimum no direction leads down: the subgradient of the best theta, by differences.
    best = int(value.argmin())
    for step in 1e-3 * torch.randn(50, D, dtype=torch.float64):
        moved = objective(theta[best] + step[None], tokens[best : best + 1], p, directions, tau)
        assert moved.item() > value[best] - 2e-2 * tau


def test_a_sample_of_the_tokens_certifies_nothing_by_itself(monkeypatch):
    """Where the search sees few tokens, what it finds is checked over all of them."""
    monkeypatch.setattr(certificates, "HEAD", 12)
    monkeypatch.setattr(certificates, "TAIL", 4)
    generator = np.random.default_rng(7)
    wrong = 0
    for _ in range(60):
        weight, prob, tau = drawn(generator)
        p, directions = torch.tensor(prob), span(torch.tensor(weight), D)
        tokens, good = certified(p, directions, tau, most=8)
        seen, share = certificates._sample(p)
        assert share.sum().item() == pytest.approx(1)
        _, value = search(directions[seen], share, p @ directions, directions[tokens], tau)
        for token, certain, g in zip(tokens.tolist(), good.tolist(), value.tolist(), strict=True):
            if g < prob[token] and not certain:
                wrong += 1
            if certain:
                assert least(weight, prob, token, tau) > 0
    assert wrong > 0  # the sample alone would have let some through


def test_a_small_threshold_certifies_all_and_zero_probabilities_are_never_candidates():
    weight, prob, _ = drawn(np.random.default_rng(4))
    tau = prob.min() / 2
    tokens, good = certified(torch.tensor(prob), span(torch.tensor(weight), D), tau)
    assert len(tokens) == len(good) == 0
    prob[:150] = 0
    p = torch.tensor(prob / prob.sum())
    tokens, _ = certified(p, span(torch.tensor(weight), D), 0.5, most=V)
    assert (p[tokens] > 0).all()
    assert len(tokens) == int(((p > 0) & (p <= 0.5)).sum())


def test_the_span_is_that_of_the_centred_columns():
    weight = torch.randn(60, 10, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    weight[:, 9] = weight[:, :9].sum(1)  # rank 9
    directions = span(weight, 20)
    assert directions.shape == (60, 9)
    torch.testing.assert_close(directions.T @ directions, 60 * torch.eye(9, dtype=torch.float64))
    centred = weight - weight.mean(0)
    left = torch.linalg.svd(centred, full_matrices=False).U[:, :9] * 60**0.5
    torch.testing.assert_close((directions * left).mean(0).abs(), torch.ones(9).double())
    torch.testing.assert_close(span(weight, 4), directions[:, :4])


def test_a_head_without_directions_is_refused():
    with pytest.raises(WideneckError, match="All rows of the head are equal"):
        span(torch.ones(50, 3), 4)
