"""Powers of two that keep squares, and squares of squares, inside float64.

Most measures do not change with the scale of a matrix.  A power of two is exact, and is 1 for
every matrix whose numbers float64 can square twice: all of float32, float16 and bfloat16.
"""

import math

import torch
from torch import Tensor

from wideneck.functional.gram import row_chunks

REACH = 200
"""Numbers between 2^-200 and 2^200 stay as they are: their fourth powers, summed, are inside."""
FURTHEST = 1000
"""Largest exponent, so that the inverse is a float as well."""


def power_for(largest: float) -> float:
    """The power of two that brings the size of a largest number within reach; 1 if it is."""
    if largest == 0 or not math.isfinite(largest):
        return 1.0
    exponent = math.frexp(largest)[1]
    if abs(exponent) <= REACH:
        return 1.0
    return math.ldexp(1.0, max(-FURTHEST, min(FURTHEST, -exponent)))


def power_of(weight: Tensor, rows: Tensor | None = None) -> float:
    """The same for a matrix (V, D), or for the rows of it that `rows` (R,) names.

    Only float64 reaches so far that it is looked through.
    """
    if weight.dtype != torch.float64:
        return 1.0
    return power_for(max(chunk.abs().max().item() for chunk in row_chunks(weight, rows)))


def lengths(rows: Tensor) -> Tensor:
    """||row|| of float64 rows (N, D), also where its square is outside float64."""
    found = rows.norm(dim=1)
    outside = _outside(found)
    if outside.any():
        top = _largest(rows[outside])
        found[outside] = top[:, 0] * (rows[outside] / top).norm(dim=1)
    return found


def directions(rows: Tensor) -> Tensor:
    """The rows (N, D) over their lengths, likewise; a row of zeros stays one."""
    found = torch.nn.functional.normalize(rows, dim=1, eps=1e-300)
    outside = _outside(rows.norm(dim=1))
    if outside.any():
        part = rows[outside]
        found[outside] = torch.nn.functional.normalize(part / _largest(part), dim=1, eps=1e-300)
    return found


def _outside(norms: Tensor) -> Tensor:
    return ~((norms > 2.0**-REACH) & (norms < 2.0**REACH))


def _largest(rows: Tensor) -> Tensor:
    """(N, 1): the largest size in each row; 1 for a row of zeros."""
    top = rows.abs().amax(1, keepdim=True)
    return top.where(top > 0, 1)
