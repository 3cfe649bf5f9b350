"""Rows that are to be told apart: of those that are equal, and of those that tie, one is left.

Equal rows of a (V, D) matrix are grouped exactly, at the cost of one pass over it: a row's bits are
hashed to 64 by a random integer dot product, which does not depend on the order of summation as a
float one would. Rows that share a hash are then compared in full, so a collision costs time and no
error. Memory: one chunk of rows as integers.

Rows i and j tie if |w_ik - w_jk| <= unit * (r_i + r_j) s_k for every k and likewise their biases
(`Distinct`): then no state gives either a margin over the other. The relation is not transitive, so
a group is what ties with its first member. Such rows are found by sorting: random projections of
rows that tie lie within a bound of each other, so whoever has no neighbour that near in one of the
projections ties with nobody. The few that are left are compared in full. Cost: a product of M x D
with 4 vectors.
"""

import numpy as np
import torch
from torch import Tensor

from wideneck.audits.argmaxable.head import Distinct

_INTEGERS = {1: torch.int8, 2: torch.int16, 4: torch.int32, 8: torch.int64}
_CHUNK = 4096
_PROJECTIONS = 4
_SAME_SIZE = 3.0
"""A rival that stands for others is as large as three: |w_j' - w_j| <= unit (r_j + r_j') s, and a
margin over j' is asked for that exceeds unit (r_i + r_j') s.|x|.  Of biases likewise."""


def group_equal_rows(weight: Tensor, bias: Tensor | None) -> list[list[int]]:
    """The rows in groups of equal row and equal bias, ordered by their first member.

    Args:
        weight: (V, D), any float dtype.
        bias: (V,) or None.
    """
    num_rows, width = weight.shape
    generator = torch.Generator().manual_seed(0)
    odd = torch.randint(-(2**62), 2**62, (width + 1,), generator=generator) * 2 + 1
    odd = odd.to(weight.device)
    code = torch.zeros(num_rows, dtype=torch.int64, device=weight.device)
    for a in range(0, num_rows, _CHUNK):
        code[a : a + _CHUNK] = (_bits(weight[a : a + _CHUNK]) * odd[:width]).sum(1)
        if bias is not None:
            code[a : a + _CHUNK] += _bits(bias[a : a + _CHUNK]) * odd[width]

    order = torch.argsort(code, stable=True)
    _, sizes = torch.unique_consecutive(code[order], return_counts=True)
    groups: list[list[int]] = []
    for run in torch.split(order, sizes.tolist()):
        groups += [run.tolist()] if len(run) == 1 else _split(run, weight, bias)
    return sorted(groups)


def _bits(values: Tensor) -> Tensor:
    values = values.contiguous() + 0.0  # -0.0 becomes 0.0, which it equals
    return values.view(_INTEGERS[values.element_size()]).to(torch.int64)


def _split(run: Tensor, weight: Tensor, bias: Tensor | None) -> list[list[int]]:
    """`run` in groups that are equal in truth, not only in hash."""
    rows = weight[run].double()
    if bias is not None:
        rows = torch.cat([rows, bias[run, None].double()], dim=1)
    if bool((rows == rows[0]).all()):
        return [run.tolist()]
    _, which = np.unique(rows.cpu().numpy(), axis=0, return_inverse=True)
    run = run.cpu()
    return [run[torch.from_numpy(which == k)].tolist() for k in range(int(which.max()) + 1)]


def join_near_rows(head: Distinct, groups: list[list[int]]) -> tuple[Distinct, list[list[int]]]:
    """A head of one row for each group of rows that tie, and the tokens of each group.

    Args:
        head: of distinct rows.
        groups: the tokens of each row of it.
    """
    stands_for: dict[int, list[int]] = {}
    for run in _candidates(head):
        while len(run) > 1:
            tie = _ties(head, run[0], run)
            if tie.sum() > 1:
                first, *others = run[tie].tolist()
                stands_for[first] = [first, *others]
            run = run[~tie]
    if not stands_for:
        return head, groups
    joined = {i: sorted(t for k in members for t in groups[k]) for i, members in stands_for.items()}
    gone = {k for i, members in stands_for.items() for k in members if k != i}
    kept = [i for i in range(head.num_rows) if i not in gone]
    index = torch.tensor(kept).to(head.tokens.device)
    larger = torch.tensor([_SAME_SIZE if i in joined else 1.0 for i in kept], dtype=torch.float64)
    return head.only(index, larger.to(index.device)), [joined.get(i, groups[i]) for i in kept]


def _ties(head: Distinct, i: Tensor, run: Tensor) -> Tensor:
    apart = (head.stored(run) - head.stored(i[None])).abs() / head.columns
    near = apart.amax(1) <= head.unit * (head.sizes[i] + head.sizes[run])
    apart_bias = (head.bias[run] - head.bias[i]).abs()
    near &= apart_bias <= head.unit * (head.bias_sizes[i] + head.bias_sizes[run])
    return near | (run == i)


def _candidates(head: Distinct) -> list[Tensor]:
    """Runs of rows, each by number, that the projections leave together."""
    width = len(head.columns)
    generator = torch.Generator().manual_seed(0)
    sign_DP = torch.randint(0, 2, (width, _PROJECTIONS), generator=generator).double() * 2 - 1
    sign_DP = sign_DP.to(head.columns.device)
    place_MP = head.sizes.new_empty(head.num_rows, _PROJECTIONS)
    for part, rows in head.chunks():
        place_MP[part] = rows @ (sign_DP / head.columns[:, None])
    # sum_k |w_ik - w_jk| / s_k <= D unit (r_i + r_j); the rest is rounding of the projection.
    half_M = width * head.spacing * head.sizes * (1 + 1e-6)

    open_M = torch.arange(head.num_rows, device=head.tokens.device)
    run_M = torch.zeros_like(open_M)
    for turn in range(2 * _PROJECTIONS):
        place_N, half_N = place_MP[open_M, turn % _PROJECTIONS], half_M[open_M]
        order = torch.argsort(place_N - half_N, stable=True)
        order = order[torch.argsort(run_M[order], stable=True)]
        low, high, run = (place_N - half_N)[order], (place_N + half_N)[order], run_M[order]
        new = torch.ones_like(order, dtype=torch.bool)
        new[1:] = (run[1:] != run[:-1]) | (low[1:] > _reach(high, run)[:-1])
        number = new.cumsum(0) - 1
        alone = torch.bincount(number)[number] == 1
        open_M, run_M = open_M[order][~alone], number[~alone]
        if len(open_M) == 0:
            return []
    _, sizes = torch.unique_consecutive(run_M, return_counts=True)
    return [run.sort().values for run in torch.split(open_M, sizes.tolist())]


def _reach(high: Tensor, run: Tensor) -> Tensor:
    """The furthest end so far within each run."""
    reach = high.clone()
    start = 0
    for count in torch.unique_consecutive(run, return_counts=True)[1].tolist():
        reach[start : start + count] = high[start : start + count].cummax(0).values
        start += count
    return reach
