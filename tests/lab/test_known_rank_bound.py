"""The bound against softmaxes: random ones, fitted ones, and ones made to sit close above it."""

import math
import re
from pathlib import Path

import numpy as np
import pytest
import torch

from wideneck.errors import WideneckError
from wideneck.lab.sigsoftmax.known_rank.bound import softmax_kl_bound
from wideneck.lab.sigsoftmax.known_rank.fit import mean_kl
from wideneck.lab.sigsoftmax.known_rank.language import (
    LANGUAGES,
    softmax_language,
    topic_language,
)


def random_log_probs(C, V, size, seed):
    generator = torch.Generator().manual_seed(seed)
    return (size * torch.randn(C, V, generator=generator).double()).log_softmax(-1)


def truncated(log_probs, d):
    """The softmax of width d whose centred logits are nearest to the language's."""
    column = log_probs.mean(0)
    U, s, Vh = torch.linalg.svd(log_probs - column, full_matrices=False)
    return (column + (U[:, :d] * s[:d]) @ Vh[:d]).log_softmax(-1)


def one_block(log_probs, d):
    """The theorem as printed, for one block, in numpy, at 400 values of t."""
    A = log_probs.numpy()
    b = np.exp(A.min(0))
    J = np.eye(len(A)) - 1 / len(A)
    J_ = np.eye(len(b)) - np.outer(np.sqrt(b), np.sqrt(b)) / b.sum()
    s = np.linalg.svd(J @ A @ np.diag(np.sqrt(b)) @ J_, compute_uv=False)
    return max(
        (math.exp(-t) - 1 + t) / t**2 * sum(min(x * x, b.min() * t * t) for x in s[d:]) / len(A)
        for t in np.geomspace(0.01, 1000, 400)
    )


def by_hand(log_probs, d):
    """The theorem in numpy, over every cut into powers of two up to 16, at 400 values of t."""
    A, found = log_probs.numpy(), []
    t = np.logspace(-2, 3, 400)
    for rows in (1, 2, 4, 8, 16):
        for columns in (1, 2, 4, 8, 16):
            if min(A.shape[0] // rows, A.shape[1] // columns) <= d and (rows, columns) != (1, 1):
                continue
            total = 0.0
            for some in np.array_split(A, rows, axis=0):
                for block in np.array_split(some, columns, axis=1):
                    b = np.exp(block).min(0)
                    J = np.eye(len(block)) - 1 / len(block)
                    J_ = np.eye(len(b)) - np.outer(np.sqrt(b), np.sqrt(b)) / b.sum()
                    s = np.linalg.svd(J @ block @ np.diag(np.sqrt(b)) @ J_, compute_uv=False)
                    # The projections may leave rounding where there is 0.
                    s = s[d:][s[d:] > 1e-12, None]
                    total += max(
                        (np.expm1(-t) + t) / t**2 * np.minimum(s**2, b.min() * t**2).sum(0)
                    )
            found.append(total / len(A))
    return max(found)


def fitted(log_probs, d):
    """The KL of a softmax of width d that is fitted, from the truncation on."""
    column = log_probs.mean(0)
    U, s, Vh = torch.linalg.svd(log_probs - column, full_matrices=False)
    root = s[:d].sqrt()
    H, W, bias = (
        x.contiguous().requires_grad_() for x in (U[:, :d] * root, Vh[:d].T * root, column)
    )
    optimizer = torch.optim.LBFGS([H, W, bias], max_iter=300, line_search_fn="strong_wolfe")

    def loss():
        optimizer.zero_grad()
        kl = mean_kl(log_probs, (H @ W.T + bias).log_softmax(-1))
        kl.backward()
        return kl

    optimizer.step(loss)
    return loss().item()


@pytest.mark.parametrize("size", [0.3, 2.0])
@pytest.mark.parametrize(("C", "V", "d"), [(16, 16, 1), (9, 17, 2), (6, 5, 4)])
def test_it_is_the_theorem_over_every_cut(C, V, d, size):
    """To the digits: a bound that is looser than proved, or tighter, is another one."""
    truth = random_log_probs(C, V, size, seed=5)
    assert softmax_kl_bound(truth, d) == pytest.approx(by_hand(truth, d), rel=1e-9)


@pytest.mark.parametrize("size", [3.0, 4.0])
def test_no_softmax_that_is_fitted_is_below_it_where_contexts_are_far_apart(size):
    """The least probability over contexts is what is proved; their mean would not be a bound."""
    truth = random_log_probs(4, 3, size, seed=3)
    assert 0 < softmax_kl_bound(truth, 1) < fitted(truth, 1)


@pytest.mark.parametrize("size", [0.01, 0.001])
def test_the_bound_is_attained_by_near_uniform_languages(size):
    """There KL is half the squared distance, of which the truncation leaves the least."""
    truth = random_log_probs(12, 8, size, seed=1)
    for d in (1, 3, 6):
        assert softmax_kl_bound(truth, d) == pytest.approx(fitted(truth, d), rel=5 * size + 1e-3)


@pytest.mark.parametrize("name", LANGUAGES)
@pytest.mark.parametrize("d", [1, 3, 9])
def test_no_softmax_is_below_the_bound(name, d):
    truth = LANGUAGES[name]().log_probs
    bound = softmax_kl_bound(truth, d)
    generator = torch.Generator().manual_seed(d)
    C, V = truth.shape

    assert 0 < bound < mean_kl(truth, truncated(truth, d))
    for size in (0.1, 1.0, 10.0):
        H = size * torch.randn(C, d, generator=generator).double()
        W = torch.randn(V, d, generator=generator).double()
        bias = torch.randn(V, generator=generator).double()
        assert bound < mean_kl(truth, (H @ W.T + bias).log_softmax(-1))


@pytest.mark.parametrize("size", [0.01, 0.1, 1.0, 3.0])
@pytest.mark.parametrize("d", [1, 3])
def test_the_bound_holds_for_languages_without_structure(size, d):
    truth = random_log_probs(12, 8, size, seed=d)

    assert 0 < softmax_kl_bound(truth, d) < mean_kl(truth, truncated(truth, d)).item()


@pytest.mark.parametrize("row", [0, 5])
def test_one_context_that_is_wildly_wrong_does_not_break_it(row):
    """A softmax may spend all its KL on few entries: what the min(s_i^2, b t^2) is for."""
    truth = random_log_probs(6, 8, 1.0, seed=2)
    d = 1
    logits = truncated(truth, d + 1)
    for far in (2.0, 10.0, 50.0):
        bent = logits.clone()
        bent[row, 3] -= far
        column = bent.mean(0)
        U, s, Vh = torch.linalg.svd(bent - column, full_matrices=False)
        wrong = (column + (U[:, :d] * s[:d]) @ Vh[:d]).log_softmax(-1)
        assert softmax_kl_bound(truth, d) < mean_kl(truth, wrong)


def test_it_is_no_less_than_the_theorem_for_one_block():
    truth = topic_language().log_probs

    for d in (1, 4, 16):
        assert softmax_kl_bound(truth, d) >= (1 - 1e-9) * one_block(truth, d) > 0


RESULTS = Path(__file__).parents[2] / "docs" / "results.md"


@pytest.mark.parametrize("name", LANGUAGES)
def test_the_bounds_that_are_printed_are_those_of_the_languages(name):
    """A language that is drawn otherwise is another one, and its table another table."""
    table = RESULTS.read_text().split(f'"{name}", log-probabilities of rank')[1]
    widths = [int(d) for d in re.findall(r"d = (\d+)", table.splitlines()[1])]
    row = next(line for line in table.splitlines() if line.startswith("softmax's bound"))
    printed = [float(cell) for cell in row.removeprefix("softmax's bound").split()]
    assert widths == [2, 4, 8, 16]
    found = [softmax_kl_bound(LANGUAGES[name]().log_probs, d) for d in widths]
    assert found == pytest.approx(printed, rel=0.05)


def test_it_falls_with_d_and_is_exactly_zero_where_the_rank_suffices():
    truth = softmax_language(6).log_probs
    bounds = [softmax_kl_bound(truth, d) for d in range(1, 9)]

    assert bounds == sorted(bounds, reverse=True)
    assert bounds[4] > 1e-4
    assert bounds[5:] == [0.0, 0.0, 0.0]


@pytest.mark.parametrize("reach", [2, 12])
def test_a_bias_of_the_language_costs_a_softmax_nothing(reach):
    """Nor does rounding, where some words are e^24 times as likely as others."""
    truth = softmax_language(3).log_probs
    shifted = (truth + torch.linspace(-reach, reach, truth.shape[1]).double()).log_softmax(-1)

    assert softmax_kl_bound(shifted, 2) == pytest.approx(by_hand(shifted, 2), rel=1e-9)
    assert softmax_kl_bound(shifted, 2) > 1e-6
    assert softmax_kl_bound(shifted, 3) == 0.0


def test_a_probability_of_zero_is_refused():
    truth = torch.tensor([[0.5, 0.5, 0.0], [0.2, 0.3, 0.5]]).log()

    with pytest.raises(WideneckError, match="probabilities above 0"):
        softmax_kl_bound(truth, 1)
