"""Scales that cost the least where the hidden states are, not those of the largest numbers.

Each block of a row tries `FACTORS` times its usual scale, with the nearest codes under each, and
keeps the one with the smallest dw' M dw, M = E[x x'].  The blocks of a row are gone through once
from left to right, each with the errors of all the others as they then are.  So a row's cost never
rises, and no claim is made that the choice is the best of all combinations.

A row whose scales are its own is chosen for whatever its weight is.  Rows that share a scale are
weighed against each other: by pi (1 - pi), pi being the mean probability of the token.

Cost: 2 V D (W + D) operations a candidate for blocks W wide, in float32.
"""

import torch
from torch import Tensor

from wideneck.rounding.format import Format
from wideneck.rounding.grid import Grid
from wideneck.rounding.rows import row_ranges
from wideneck.rounding.scaled import under

FACTORS = tuple(x / 100 for x in range(72, 112, 5))
POWERS = (0.5, 2.0)
"""Of scales that are powers of two."""


def scale_search(
    format: Format, weight: Tensor, second_moment: Tensor, row_weights: Tensor | None = None
) -> Tensor | None:
    """The matrix under the scales found, with the nearest codes.

    Args:
        format: what it is stored as.
        weight: (V, D).
        second_moment: M = E[x x'], (D, D).
        row_weights: (V,), at least 0, for rows that share a scale; None for equal ones.

    Returns:
        (V, D) float32, what a reader decodes; None where a format leaves no choice of scales.
    """
    format.check(weight)
    grid = format.grid(weight.shape[1])
    if grid is None:
        return None
    return under(grid, weight, best_scales(grid, weight, second_moment, row_weights))


def best_scales(
    grid: Grid, weight: Tensor, second_moment: Tensor, row_weights: Tensor | None = None
) -> Tensor:
    """The scales alone, (S, C) float32; arguments as those of `scale_search`."""
    total = grid.total(weight)
    scales = grid.scales(weight, total)
    # Scaled so that float32 holds the costs of any hidden states.
    metric = (second_moment / second_moment.diagonal().mean()).float()
    if row_weights is None:
        row_weights = torch.ones(len(weight), device=weight.device)
    if grid.rows is None:
        return _of_all(grid, weight, metric, row_weights, scales, total)
    for rows in row_ranges(*weight.shape):
        blocks = slice(rows.start // grid.rows, -(-rows.stop // grid.rows))
        part = _Search(grid, weight[rows].float(), metric, row_weights[rows])
        scales[blocks] = part.best(scales[blocks], total)
    return scales


class _Search:
    """A range of rows, none of whose blocks is cut."""

    def __init__(self, grid: Grid, rows: Tensor, metric: Tensor, row_weights: Tensor):
        self.grid, self.rows, self.metric, self.row_weights = grid, rows, metric, row_weights
        self.all = slice(0, len(rows))

    def best(self, scales: Tensor, total: Tensor) -> Tensor:
        """The scales (S, C) of its blocks, each group of columns after those on its left."""
        scales = scales.clone()
        width = self.grid.columns or self.rows.shape[1]
        errors = self.errors(scales, slice(None))
        for group in range(scales.shape[1]):
            columns = slice(group * width, (group + 1) * width)
            own = self.metric[columns, columns]
            others = errors @ self.metric[:, columns] - errors[:, columns] @ own
            usual = scales[:, group : group + 1].clone()
            least = self.cost(errors[:, columns], own, others)
            for factor in factors(self.grid):
                tried = self.grid.stored(usual * factor, total)
                cost = self.cost(self.errors(tried, columns), own, others)
                better = cost < least
                least = torch.where(better, cost, least)
                scales[better, group] = tried[better, 0]
            errors[:, columns] = self.errors(scales[:, group : group + 1], columns)
        return scales

    def errors(self, scales: Tensor, columns: slice) -> Tensor:
        rows = self.rows[:, columns]
        return self.grid.nearest(rows, self.grid.spread(scales, self.all, rows.shape[1])) - rows

    def cost(self, errors: Tensor, own: Tensor, others: Tensor) -> Tensor:
        """Of each block of rows, what it changes: (S,)."""
        of_rows = torch.einsum("nd,nd->n", errors @ own + 2 * others, errors)
        height = self.grid.rows
        if height is None:
            return (of_rows * self.row_weights).sum()[None]
        if height == 1:
            return of_rows
        missing = -len(of_rows) % height
        weighed = torch.nn.functional.pad(of_rows * self.row_weights, (0, missing))
        return weighed.unflatten(0, (-1, height)).sum(1)


def factors(grid: Grid) -> tuple[float, ...]:
    """What the usual scale is multiplied by."""
    return POWERS if grid.kind == "power of two" else FACTORS


def _of_all(
    grid: Grid,
    weight: Tensor,
    metric: Tensor,
    row_weights: Tensor,
    usual: Tensor,
    total: Tensor,
) -> Tensor:
    """The one scale of a whole matrix."""
    nothing = torch.zeros((), device=weight.device)
    best, least = usual, float("inf")
    for factor in (1.0, *factors(grid)):
        tried, cost = grid.stored(usual * factor, total), 0.0
        for rows in row_ranges(*weight.shape):
            part = _Search(grid, weight[rows].float(), metric, row_weights[rows])
            cost += float(part.cost(part.errors(tried, slice(None)), metric, nothing))
        if cost < least:
            best, least = tried, cost
    return best
