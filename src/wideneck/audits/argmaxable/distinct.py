"""Groups of equal rows of a (V, D) matrix, exactly, at the cost of one pass over it.

A row's bits are hashed to 64 by a random integer dot product, which does not depend on the
order of summation as a float one would. Rows that share a hash are then compared in full, so a
collision costs time and no error. Memory: one chunk of rows as integers.
"""

import numpy as np
import torch
from torch import Tensor

_INTEGERS = {1: torch.int8, 2: torch.int16, 4: torch.int32, 8: torch.int64}
_CHUNK = 4096


def group_equal_rows(weight: Tensor, bias: Tensor | None) -> list[list[int]]:
    """The rows in groups of equal row and equal bias, ordered by their first member.

    Args:
        weight: (V, D), any float dtype.
        bias: (V,) or None.
    """
    num_rows, width = weight.shape
    generator = torch.Generator().manual_seed(0)
    odd = torch.randint(-(2**62), 2**62, (width + 1,), generator=generator) * 2 + 1
    code = torch.zeros(num_rows, dtype=torch.int64)
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
    _, which = np.unique(rows.numpy(), axis=0, return_inverse=True)
    return [run[torch.from_numpy(which == k)].tolist() for k in range(int(which.max()) + 1)]
