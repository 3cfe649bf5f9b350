"""Codes that make up for each other's errors where the hidden states are (GPTQ).

Frantar et al. 2023 (arXiv 2210.17323): the columns of a row are rounded one after the other, and
what each loses is made good by those that are not rounded yet, as the Hessian M = E[x x'] of the
scores' mean square says.  Columns with the largest M_jj come first.  Scales are those of
`scale_search` and stay; the rows of a matrix have the same M, so they are worked through at once.

GPTQ is no descent: it can leave a row worse than the nearest codes.  Such a row keeps those, so
that no row is worse than `scale_search` leaves it.  Row weights matter to shared scales alone.

Cost: some 7 V D^2 operations beside those of `scale_search`.
"""

import torch
from torch import Tensor

from wideneck.rounding.format import Format
from wideneck.rounding.grid import Grid
from wideneck.rounding.metric import row_errors
from wideneck.rounding.rows import row_ranges
from wideneck.rounding.scale_search import best_scales
from wideneck.rounding.scaled import under

DAMPING = 0.01
"""Added to the diagonal, as a part of its mean; the paper's."""
COLUMNS = 64
"""Columns whose errors are collected before the rest of the matrix hears of them."""


def gptq(
    format: Format,
    weight: Tensor,
    second_moment: Tensor,
    row_weights: Tensor | None = None,
    *,
    scales: Tensor | None = None,
) -> Tensor | None:
    """The matrix with the codes found.

    Args:
        format: what it is stored as.
        weight: (V, D).
        second_moment: M = E[x x'], (D, D), of any rank.
        row_weights: (V,), at least 0, for rows that share a scale; None for equal ones.
        scales: (S, C), as `best_scales` has found them; None to search.

    Returns:
        (V, D) float32, what a reader decodes; None where a format leaves no choice of scales.
    """
    format.check(weight)
    grid = format.grid(weight.shape[1])
    if grid is None:
        return None
    if scales is None:
        scales = best_scales(grid, weight, second_moment, row_weights)
    nearest = under(grid, weight, scales)
    found = compensated(grid, weight, second_moment, scales)
    before = row_errors(weight, nearest, second_moment)
    worse = row_errors(weight, found, second_moment) > before
    found[worse] = nearest[worse]
    return found


def compensated(grid: Grid, weight: Tensor, second_moment: Tensor, scales: Tensor) -> Tensor:
    """GPTQ itself under given scales (S, C): (V, D) float32."""
    order = second_moment.diagonal().argsort(descending=True, stable=True)
    factor = _inverse_factor(second_moment.double()[order][:, order]).float()
    result = torch.empty(weight.shape, dtype=torch.float32, device=weight.device)
    width = grid.columns or weight.shape[1]
    for rows in row_ranges(*weight.shape):
        # Transposed, so that a column lies in one piece; a scale is of its group of columns.
        columns = weight[rows].float().T[order].contiguous()
        of_columns = grid.of_rows(scales, rows).T[order // width]
        _round_columns(grid, columns, of_columns, factor)
        result[rows, order] = columns.T
    return result


def _inverse_factor(metric: Tensor) -> Tensor:
    """The upper Cholesky factor of the inverse of the damped M."""
    damped = metric + DAMPING * metric.diagonal().mean() * torch.eye(
        len(metric), dtype=metric.dtype, device=metric.device
    )
    inverse = torch.cholesky_inverse(torch.linalg.cholesky(damped))
    return torch.linalg.cholesky(inverse, upper=True)


def _round_columns(grid: Grid, columns: Tensor, scales: Tensor, factor: Tensor) -> None:
    """Round (D, N) in place, one column of the matrix after the other."""
    for start in range(0, len(columns), COLUMNS):
        stop = min(start + COLUMNS, len(columns))
        errors = torch.empty_like(columns[start:stop])
        for j in range(start, stop):
            rounded = grid.nearest(columns[j], scales[j])
            error = errors[j - start]
            torch.sub(columns[j], rounded, out=error).div_(factor[j, j])
            columns[j] = rounded
            columns[j + 1 : stop].addr_(factor[j, j + 1 : stop], error, alpha=-1)
        columns[stop:].addmm_(factor[start:stop, stop:].T, errors, alpha=-1)
