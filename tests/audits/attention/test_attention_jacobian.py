"""Norms of the Jacobian against the matrix itself, and the bounds."""

import math

import pytest
import torch

from wideneck.audits.attention import jacobian
from wideneck.audits.attention.jacobian import (
    finite_difference,
    finite_difference_bound,
    frobenius_norm,
    paper_bound,
    spectral_bound,
    spectral_norm,
)

NUM_ROWS = 20


def seeded(seed):
    return torch.Generator().manual_seed(seed)


def softmax_rows(num_keys, scale, seed=0):
    noise = torch.randn(NUM_ROWS, num_keys, generator=seeded(seed), dtype=torch.float64)
    return (noise * scale).softmax(1)


def matrix(s, c):
    """Diag(s) - c s s^T, the diagonal as s (1 - c s), which does not cancel."""
    c = torch.as_tensor(c, dtype=s.dtype).expand(len(s))[:, None]
    outer = -c[..., None] * s[:, :, None] * s[:, None]
    outer.diagonal(dim1=1, dim2=2).copy_(s * (1 - c * s))
    return outer


def compare(s, c):
    full = matrix(s.double(), c)
    torch.testing.assert_close(
        spectral_norm(s, c), torch.linalg.matrix_norm(full, 2), rtol=1e-12, atol=0
    )
    torch.testing.assert_close(
        frobenius_norm(s, c), torch.linalg.matrix_norm(full), rtol=1e-12, atol=0
    )


@pytest.mark.parametrize("num_keys", [2, 3, 7, 60])
@pytest.mark.parametrize("scale", [1e-6, 1e-3, 0.1, 1, 3, 10, 30])
def test_norms_are_those_of_the_matrix(num_keys, scale):
    p = softmax_rows(num_keys, scale)
    share = torch.rand(NUM_ROWS, 1, generator=seeded(1), dtype=torch.float64)
    compare(p, 1.0)
    compare(p.float(), 1.0)
    compare(p * share, 1.0)
    compare(p * 1e-30, 1.0)
    compare(p.sqrt(), 1 / p.sqrt().sum(1))  # 1.5-entmax


@pytest.mark.parametrize("gap", [1e-15, 1e-12, 1e-9, 1e-6, 1e-3])
@pytest.mark.parametrize("others", [0, 1e-9, 0.3, 1])
def test_norms_hold_near_ties_of_two_and_of_many(gap, others):
    for rest in (torch.full((20,), others), torch.linspace(0, others, 20)):
        s = torch.cat([torch.tensor([1 + gap, 1.0], dtype=torch.float64), rest.double()])[None]
        compare(s / s.sum(), 1.0)
        compare(s / s.sum() / 2, 1.0)


def test_the_matrix_is_the_jacobian_of_a_softmax():
    scores = torch.randn(6, generator=seeded(0), dtype=torch.float64)
    temperature = 0.3
    full = torch.func.jacrev(lambda l: (l / temperature).softmax(0))(scores)  # noqa: E741
    p = (scores / temperature).softmax(0)
    for found, order in ((spectral_norm(p, 1.0), 2), (frobenius_norm(p, 1.0), "fro")):
        torch.testing.assert_close(found / temperature, torch.linalg.matrix_norm(full, order))


def test_uniform_rows_have_norm_1_over_their_length():
    for num_keys in (2, 3, 10, 1000):
        p = torch.full((num_keys,), 1 / num_keys, dtype=torch.float64)
        assert spectral_norm(p, 1.0).item() == 1 / num_keys
        expected = math.sqrt(num_keys - 1) / num_keys
        assert frobenius_norm(p, 1.0).item() == pytest.approx(expected)


def test_one_key_with_all_the_weight_has_norm_0():
    for row in ([1.0], [0.0, 1.0, 0.0], [0.0, 0.0]):
        assert spectral_norm(torch.tensor(row), 1.0).item() == 0
        assert frobenius_norm(torch.tensor(row), 1.0).item() == 0


def test_sparsemax_has_norm_1_on_two_keys_or_more():
    support = torch.tensor([[1.0, 1, 0, 0], [1, 1, 1, 0], [1, 0, 0, 0]])
    found = spectral_norm(support, 1 / support.double().sum(1))
    torch.testing.assert_close(found, torch.tensor([1.0, 1, 0], dtype=torch.float64))


def test_two_equal_scores_reach_the_spectral_bound_and_break_the_one_of_the_paper():
    for temperature in (0.05, 0.5, 1, 8):
        p = torch.tensor([3.0, 3.0]).div(temperature).softmax(0)
        norm = spectral_norm(p, 1.0).item() / temperature
        assert norm == spectral_bound(temperature)
        assert norm > paper_bound(temperature)


def test_the_paper_bounds_the_entries_where_it_is_not_cut_off():
    full = matrix(softmax_rows(7, 1), 1.0)
    assert full.abs().max() <= paper_bound(1)
    assert paper_bound(0.01) == math.sqrt(2)


def test_rows_of_a_layer_keep_their_shape_and_their_c(monkeypatch):
    monkeypatch.setattr(jacobian, "BLOCK_ELEMENTS", 20)
    p = softmax_rows(9, 2).view(4, 5, 9).tril()
    c = torch.rand(4, 5, generator=seeded(3), dtype=torch.float64)
    kept = p.clone()
    found = spectral_norm(p, c)
    assert torch.equal(p, kept)
    full = matrix(p.view(20, 9), c.view(20))
    torch.testing.assert_close(found.view(20), torch.linalg.matrix_norm(full, 2))


def change(scores, visible, temperature, step, v):
    """One row, in full."""
    before = (scores[visible] / temperature).softmax(0)
    after = ((scores[visible] + step * v[visible] / v[visible].norm()) / temperature).softmax(0)
    return (after - before).norm() / step


@pytest.mark.parametrize("step", [1e-3, 0.1, 10])
@pytest.mark.parametrize("temperature", [0.05, 1, 8])
def test_the_change_of_a_step_follows_its_definition(temperature, step):
    scores = torch.randn(3, 6, 6, generator=seeded(0))
    visible = torch.rand(3, 6, 6, generator=seeded(1)) < 0.6
    visible[..., -1, -1] = True  # so that no column is left out, and the noise can be drawn again
    visible[1, 2] = False
    found = finite_difference(
        scores.masked_fill(~visible, torch.nan), visible, temperature, step, seeded(2)
    )
    noise = torch.randn(18, 6, generator=seeded(2)).double().view(3, 6, 6)
    for head in range(3):
        for query in range(6):
            row = scores[head, query].double(), visible[head, query]
            expected = change(*row, temperature, step, noise[head, query])
            torch.testing.assert_close(found[head, query], expected)
    assert (found <= finite_difference_bound(temperature, step)).all()
    assert found[1, 2] == 0


def test_the_change_of_a_small_step_has_the_mean_square_of_the_frobenius_norm_over_k():
    scores = torch.randn(8, generator=seeded(4), dtype=torch.float64)
    visible = torch.tensor([True] * 6 + [False] * 2)
    squares = finite_difference(
        scores.expand(10_000, 8), visible.expand(10_000, 8), 0.7, 1e-5, seeded(5)
    ).square()
    p = (scores[visible] / 0.7).softmax(0)
    expected = (frobenius_norm(p, 1.0) / 0.7).square() / 6
    assert abs(squares.mean() - expected) <= 5 * squares.std() / 100


def test_the_bound_of_a_step_is_attained_by_small_steps_and_by_large_ones():
    """At two equal scores, along their difference; and where all the weight changes its key."""
    equal, visible = torch.zeros(500, 2), torch.ones(500, 2, dtype=torch.bool)
    for temperature in (0.05, 1.0, 8.0):
        found = finite_difference(equal, visible, temperature, 1e-4, seeded(6)).max().item()
        bound = finite_difference_bound(temperature, 1e-4)
        assert bound * 0.999 < found <= bound
    for step in (10.0, 40.0):
        apart = torch.tensor([step / 4, 0.0]).expand(500, 2)
        found = finite_difference(apart, visible, 0.1, step, seeded(7)).max().item()
        bound = finite_difference_bound(0.1, step)
        assert bound * (1 - 1e-6) < found <= bound * (1 + 1e-12)


def test_the_papers_bound_of_the_entries_is_attained():
    for temperature in (0.2, 1.0, 8.0):
        p = torch.tensor([[0.5, 0.5]], dtype=torch.float64)
        largest = (matrix(p, 1.0) / temperature).abs().max().item()
        assert largest == pytest.approx(paper_bound(temperature))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_scores_of_a_step_are_left_as_they_are(dtype):
    scores = torch.randn(2, 3, 5, generator=seeded(8), dtype=dtype)
    kept = scores.clone()
    finite_difference(scores, torch.ones(3, 5, dtype=torch.bool).tril(2), 0.7, 0.1, seeded(9))
    assert torch.equal(scores, kept)
