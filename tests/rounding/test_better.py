"""Scale search and GPTQ: against brute force, and never worse than what they start from."""

from itertools import product

import pytest
import torch

from wideneck.rounding import FORMATS, gptq, row_errors, scale_search
from wideneck.rounding.codes import Integers
from wideneck.rounding.gptq import COLUMNS, compensated
from wideneck.rounding.grid import Grid
from wideneck.rounding.scale_search import FACTORS, best_scales
from wideneck.rounding.scaled import under

CHOSEN = [name for name, one in FORMATS.items() if one.grid(192) is not None]
OWN = [name for name in CHOSEN if not FORMATS[name].grid(192).shares_rows]


def case(rows=150, columns=192, seed=0):
    """Weights, and a second moment of correlated hidden states with a large mean."""
    generator = torch.Generator().manual_seed(seed)

    def normal(*shape):
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    hidden = normal(4 * columns, columns) @ normal(columns, columns) / columns**0.5 + normal(
        columns
    )
    weight = (normal(rows, columns) * 0.05).float()
    return weight, hidden.T @ hidden / len(hidden), torch.rand(rows, generator=generator)


def test_the_cost_of_a_row_is_what_its_scores_lose():
    torch.manual_seed(0)
    weight, hidden = torch.randn(7, 5), torch.randn(100, 5, dtype=torch.float64)
    rounded = weight + 0.1 * torch.randn(7, 5)
    scores = hidden @ (rounded.double() - weight.double()).T
    second_moment = hidden.T @ hidden / 100
    torch.testing.assert_close(row_errors(weight, rounded, second_moment), scores.square().mean(0))


def test_which_formats_leave_a_choice():
    assert set(FORMATS) - set(CHOSEN) == {"bf16", "Q6_K"}
    assert scale_search(FORMATS["bf16"], *case()[:2]) is None
    assert gptq(FORMATS["bf16"], *case()[:2]) is None
    assert FORMATS["nf4"].grid(96) is None  # its blocks run on into the next row


@pytest.mark.parametrize("name", OWN)
def test_no_row_is_worse_than_before(name):
    weight, second_moment, _ = case()
    one = FORMATS[name]
    grid = one.grid(192)
    usual = under(grid, weight, grid.scales(weight, grid.total(weight)))
    before = row_errors(weight, usual, second_moment)
    searched = row_errors(weight, scale_search(one, weight, second_moment), second_moment)
    assert (searched <= before * (1 + 1e-5)).all()
    assert searched.sum() < 0.9 * before.sum()
    mended = row_errors(weight, gptq(one, weight, second_moment), second_moment)
    assert (mended <= searched * (1 + 1e-9)).all()
    assert mended.sum() < 0.7 * searched.sum()


@pytest.mark.parametrize("name", sorted(set(CHOSEN) - set(OWN)))
def test_rows_that_share_a_scale_are_weighed(name):
    weight, second_moment, shares = case()
    one = FORMATS[name]
    grid = one.grid(192)
    usual = under(grid, weight, grid.scales(weight, grid.total(weight)))

    def cost(rounded):
        return (row_errors(weight, rounded, second_moment) @ shares.double()).item()

    searched = cost(scale_search(one, weight, second_moment, shares))
    assert searched <= cost(usual) * (1 + 1e-5)
    # One column of blocks after the other is no exact minimum.
    assert searched <= cost(scale_search(one, weight, second_moment)) * 1.01
    assert cost(gptq(one, weight, second_moment, shares)) < 0.7 * searched


def test_a_row_of_its_own_scales_has_no_use_for_weights():
    weight, second_moment, shares = case()
    for name in ("int8 row", "NVFP4"):
        found = scale_search(FORMATS[name], weight, second_moment, shares)
        assert torch.equal(found, scale_search(FORMATS[name], weight, second_moment))


@pytest.mark.parametrize("rows", [1, 3])
def test_the_scale_of_one_block_is_the_best_of_all_that_are_tried(rows):
    """By brute force, in float64; three rows share one where the grid says so."""
    weight, second_moment, _ = case(3, 8)
    shares = torch.tensor([0.001, 0.01, 1.0])  # nearly the last row's own choice
    grid = Grid(codes=Integers(-8, 7), rows=rows, columns=None, kind="float32", largest=7.5)
    total = grid.total(weight)
    found = best_scales(grid, weight, second_moment, shares)
    usual = grid.scales(weight, total)
    for block in range(len(usual)):
        at = slice(block * rows, (block + 1) * rows)
        costs = {}
        for factor in (1.0, *FACTORS):
            scale = (usual[block] * factor).double()
            codes = (weight[at].double() / scale).round().clamp(-8, 7)
            change = codes * scale - weight[at].double()
            cost = torch.einsum("nd,de,ne->n", change, second_moment, change)
            costs[(cost * shares[at]).sum().item()] = scale.item()
        assert found[block].item() == pytest.approx(costs[min(costs)], rel=1e-6)
    if rows == 3:
        assert not torch.equal(found, best_scales(grid, weight, second_moment))


def test_the_scales_of_a_row_take_each_other_into_account():
    """Two groups whose hidden states are one and the same: their errors should cancel."""
    weight, _, _ = case(40, 8)
    half = torch.randn(50, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(3))
    hidden = torch.cat((half, half), 1)
    second_moment = hidden.T @ hidden / 50
    grid = Grid(codes=Integers(-8, 7), rows=1, columns=4, kind="float32", largest=7.5)
    apart = torch.block_diag(second_moment[:4, :4], second_moment[4:, 4:])
    together = under(grid, weight, best_scales(grid, weight, second_moment))
    alone = under(grid, weight, best_scales(grid, weight, apart))
    cost = [row_errors(weight, x, second_moment).sum() for x in (together, alone)]
    assert cost[0] < 0.95 * cost[1]


def test_codes_of_gptq_are_near_the_best_of_all_codes():
    """All 5^4 codes of tiny rows; rounding to the nearest loses far more."""
    weight, second_moment, _ = case(30, 4, seed=1)
    grid = Grid(codes=Integers(-2, 2), rows=1, columns=None, kind="float32", largest=2)
    scales = grid.scales(weight, grid.total(weight))
    all_codes = torch.tensor(list(product(range(-2, 3), repeat=4)), dtype=torch.float64)
    best = 0.0
    for row, scale in zip(weight.double(), scales.double(), strict=True):
        change = all_codes * scale - row
        best += torch.einsum("nd,de,ne->n", change, second_moment, change).min().item()
    found = compensated(grid, weight, second_moment, scales)
    nearest = under(grid, weight, scales)
    ours, usual = (row_errors(weight, x, second_moment).sum().item() for x in (found, nearest))
    assert best <= ours < best + 0.5 * (usual - best)


def slow_gptq(grid, row, second_moment, scale):
    """One row in float64: the remaining columns after each are those that cost the least.

    Given the errors so far, the best real values of the columns not yet rounded solve a linear
    system; this is what GPTQ's factor stands for.
    """
    order = second_moment.diagonal().argsort(descending=True, stable=True).tolist()
    damped = second_moment + 0.01 * second_moment.diagonal().mean() * torch.eye(len(row))
    rounded = torch.zeros_like(row)
    done: list[int] = []
    for j in order:
        rest = [k for k in order if k not in done]
        current = row[rest].clone()
        if done:
            pull = damped[rest][:, done] @ (rounded[done] - row[done])
            current -= torch.linalg.solve(damped[rest][:, rest], pull)
        value = current[rest.index(j)]
        rounded[j] = grid.codes.nearest(value / scale) * scale
        done.append(j)
    return rounded


def test_gptq_solves_for_the_rest_after_every_column():
    columns = COLUMNS + 7  # more than one block of them
    weight, second_moment, _ = case(4, columns)
    grid = Grid(codes=Integers(-128, 127), rows=1, columns=None, kind="float32", largest=127.5)
    scales = grid.scales(weight, grid.total(weight))
    found = compensated(grid, weight, second_moment, scales).double()
    for row, scale, ours in zip(weight.double(), scales.double(), found, strict=True):
        want = slow_gptq(grid, row, second_moment, scale)
        steps = ((ours - want) / scale).abs()
        assert (steps > 0.5).sum() <= 1  # float32 may decide a tie otherwise


def test_gptq_of_a_moment_that_is_no_full_rank():
    weight, _, _ = case()
    hidden = torch.randn(20, 192, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    second_moment = hidden.T @ hidden / 20
    found = gptq(FORMATS["Q4_0"], weight, second_moment)
    assert found.isfinite().all()
    usual = row_errors(weight, FORMATS["Q4_0"].rounded(weight), second_moment).sum()
    assert row_errors(weight, found, second_moment).sum() < 0.3 * usual
