"""Factors of every rank at once, against the singular vectors of the dense matrix."""

import pytest
import torch

from wideneck.functional.gram import ROWS, fisher_metric, gram, truncation

V, D = 30, 6


def matrices(num_rows=V):
    generator = torch.Generator().manual_seed(0)
    weight = torch.randn(num_rows, D, generator=generator, dtype=torch.float64)
    weight = weight * torch.linspace(0.2, 2, D) + torch.linspace(-3, 3, D)
    hidden = torch.randn(200, D, generator=generator, dtype=torch.float64)
    hidden = hidden @ torch.randn(D, D, generator=generator, dtype=torch.float64) + 1
    return weight, hidden.T @ hidden / len(hidden)


@pytest.mark.parametrize("num_rows", [V, ROWS + 5])
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("centred", [False, True])
def test_every_rank_is_the_cut_off_svd_of_the_weighted_matrix(centred, weighted, num_rows):
    weight, second_moment = matrices(num_rows)
    mean, metric = gram(weight)
    if not centred:
        mean, metric = torch.zeros_like(mean), weight.T @ weight
    inner, outer = truncation(weight, mean, metric, second_moment if weighted else None)
    right = torch.linalg.cholesky(second_moment) if weighted else torch.eye(D).double()
    rows = weight - mean
    u, s, vh = torch.linalg.svd(rows @ right, full_matrices=False)
    for rank in range(1, D + 1):
        want = (u[:, :rank] * s[:rank]) @ vh[:rank] @ torch.linalg.inv(right)
        torch.testing.assert_close(outer[:, :rank] @ inner[:, :rank].T, want)


def test_a_rank_keeps_the_first_directions():
    weight, second_moment = matrices()
    mean, metric = gram(weight)
    whole = truncation(weight, mean, metric, second_moment)
    cut = truncation(weight, mean, metric, second_moment, rank=2)
    for kept, full in zip(cut, whole, strict=True):
        torch.testing.assert_close(kept, full[:, :2])


def test_half_precision_is_cut_in_single():
    weight, _ = matrices()
    inner, outer = truncation(weight.bfloat16(), *gram(weight.bfloat16()))
    assert (inner.dtype, outer.dtype) == (torch.float64, torch.float32)


def test_the_fisher_metric_is_the_covariance_of_the_rows_under_the_prediction():
    generator = torch.Generator().manual_seed(3)
    weight = torch.randn(5000, 6, generator=generator) + 100  # two chunks, a mean that dominates
    p = torch.rand(5000, generator=generator, dtype=torch.float64).softmax(0)
    rows = weight.double()
    expected = (p[:, None] * rows).T @ rows - torch.outer(p @ rows, p @ rows)
    for mean in (rows.mean(0), torch.zeros(6, dtype=torch.float64)):
        torch.testing.assert_close(fisher_metric(weight, mean, p), expected, rtol=1e-7, atol=1e-7)
