"""Adaptive temperature at the edges of its band, and softpick where it cancels or abstains."""

import math
from decimal import Decimal

import pytest
import torch
from torch.autograd import gradcheck

from wideneck.attention import normalize
from wideneck.attention.config import normalizer_config
from wideneck.attention.foils import sharpening


def polynomial(h):
    return -0.037 * h**4 + 0.481 * h**3 - 2.3 * h**2 + 4.917 * h - 1.791


def test_beta_is_above_1_between_two_entropies_alone():
    entropy = torch.linspace(0, 12, 120_001, dtype=torch.float64)
    beta = sharpening(entropy)
    sharper = entropy[beta > 1]
    assert sharper[0].item() == pytest.approx(0.8486, abs=1e-4)
    assert sharper[-1].item() == pytest.approx(5.9445, abs=1e-4)
    assert (beta[(entropy > 0.849) & (entropy < 5.944)] > 1).all()
    assert beta.max().item() == pytest.approx(2.4214, abs=1e-4)
    assert entropy[beta.argmax()].item() == pytest.approx(4.41, abs=0.005)
    for h in (1.0, 2.5, 4.0, 5.9):
        assert sharpening(torch.tensor(h)).item() == pytest.approx(polynomial(h), rel=1e-5)


@pytest.mark.parametrize(("num_keys", "is_sharper"), [(2, False), (381, True), (382, False)])
def test_a_row_of_nearly_equal_scores_is_sharpened_up_to_381_keys(num_keys, is_sharper):
    """Its entropy is ln n: where weights disperse most, nothing is done."""
    scores = torch.zeros(1, num_keys, dtype=torch.float64)
    scores[0, 0] = 1e-3
    found, plain = (normalize(scores, name) for name in ("adaptivetemperature", "softmax"))
    assert (found[0, 0] > plain[0, 0] + 1e-12).item() == is_sharper


def test_beta_is_a_constant_to_derivatives_of_both_orders():
    generator = torch.Generator().manual_seed(0)
    scores = torch.randn(6, 30, generator=generator, dtype=torch.float64).requires_grad_()
    mask = torch.rand(6, 30, generator=generator) > 0.3
    p = normalize(scores.detach(), "softmax", mask)
    entropy = -(p * p.where(p > 0, 1).log()).sum(1, keepdim=True)
    beta = polynomial(entropy).clamp(min=1)
    assert (beta > 1).all()
    upstream = torch.randn(6, 30, generator=generator, dtype=torch.float64)
    results = []
    for options in ({}, {"temperature": 1 / beta}):
        name = "temperature" if options else "adaptivetemperature"
        weights = normalize(scores, name, mask, **options)
        (first,) = torch.autograd.grad((weights * upstream).sum(), scores, create_graph=True)
        (second,) = torch.autograd.grad(first.square().sum(), scores)
        results.append((weights, first, second))
    for ours, theirs in zip(*results, strict=True):
        torch.testing.assert_close(ours, theirs)


@pytest.mark.parametrize("num_keys", [1, 2, 3, 40, 82, 83, 1000])
def test_the_norm_of_a_sharpened_row_is_reached_where_two_keys_tie_above_the_band(num_keys):
    """Beta is largest where the entropy can be: at ln n, up to 4.41 nats."""
    bound = normalizer_config("adaptivetemperature").largest_norm(num_keys)
    most = max(float(sharpening(torch.tensor(math.log(n)))) for n in range(1, num_keys + 1))
    assert most / 2 <= bound * (1 + 1e-6)
    assert bound == pytest.approx(most / 2, rel=1e-4)


@pytest.mark.parametrize("size", [1e-12, 1e-6, 1e-3, 1.0, 30.0, 700.0])
def test_softpick_is_exact_near_zero_and_where_exponentials_overflow(size):
    row = [size, -size, 0.5 * size, 0.99 * size]
    excess = [Decimal(x).exp() - 1 for x in row]
    total = sum(abs(u) for u in excess) + Decimal("1e-6")
    exact = torch.tensor([float(max(u, Decimal(0)) / total) for u in excess], dtype=torch.float64)
    found = normalize(torch.tensor([row], dtype=torch.float64), "softpick")[0]
    torch.testing.assert_close(found, exact, rtol=1e-12, atol=0)
    found = normalize(torch.tensor([row]), "softpick")[0]
    torch.testing.assert_close(found.double(), exact, rtol=3e-5, atol=1e-7)


def test_softpick_of_nothing_above_zero_is_nothing():
    p = normalize(torch.tensor([[-3.0, -1.0, 0.0], [-200.0, -1e4, -1e-3]]), "softpick")
    assert torch.equal(p, torch.zeros(2, 3))


def test_softpick_takes_from_those_above_zero_what_those_below_weigh():
    """|exp(-inf) - 1| is 1: n keys far below 0 leave one of log 2 only 1 / (1 + n)."""
    scores = torch.tensor([[math.log(2.0)] + [-1e4] * 7], dtype=torch.float64)
    assert normalize(scores, "softpick")[0, 0].item() == pytest.approx(1 / 8, rel=1e-6)
    doubled = normalize(scores, "softpick", epsilon=8.0)[0, 0].item()
    assert doubled == pytest.approx(1 / 16)


@pytest.mark.parametrize("num_keys", [1, 5])
def test_softpick_has_slopes_of_one_over_epsilon(num_keys):
    config = normalizer_config("softpick", epsilon=1e-2)
    row = torch.full((num_keys,), 1e-9, dtype=torch.float64)
    jacobian = torch.func.jacrev(lambda x: config.weights(x, None))(row)
    norm = torch.linalg.matrix_norm(jacobian, 2).item()
    assert norm == pytest.approx(1 / 1e-2, rel=1e-3)
    assert norm <= config.largest_norm(num_keys)
    assert gradcheck(lambda x: config.weights(x, None), (row + 0.3).requires_grad_())


def test_an_epsilon_that_float32_rounds_to_0_makes_no_nan():
    scores = torch.tensor([[0.0, 0.0], [5.0, 5.0], [1.0, -1.0]], requires_grad=True)
    mask = torch.tensor([[True, True], [False, False], [True, True]])
    p = normalize(scores, "softpick", mask, epsilon=1e-50)
    assert torch.equal(p[:2], torch.zeros(2, 2))
    up, down = math.e - 1, 1 - 1 / math.e
    torch.testing.assert_close(p[2], torch.tensor([up / (up + down), 0.0]))
    assert torch.autograd.grad(p.sum(), scores)[0][1:].isfinite().all()
