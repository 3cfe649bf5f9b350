"""Formats that are nothing but a grid: the nearest codes under the scale of the largest number."""

from dataclasses import dataclass
from typing import final

import torch
from torch import Tensor

from wideneck.rounding.format import Format
from wideneck.rounding.grid import Grid
from wideneck.rounding.rows import row_ranges


@final
@dataclass(frozen=True, kw_only=True)
class Scaled(Format):
    """A grid in rows and columns of the matrix.

    Groups of columns cut a row whole, as the libraries ask; blocks of rows may be partial in both
    directions.
    """

    cut: Grid

    def refusal(self, num_rows: int, num_columns: int) -> str | None:
        width = self.cut.columns
        if self.cut.rows == 1 and width is not None and num_columns % width:
            return f"its {num_columns:,} columns are no multiple of the {width} that share a scale"
        return None

    def num_bytes(self, num_rows: int, num_columns: int) -> int:
        return self.cut.num_bytes(num_rows, num_columns)

    def rounded(self, weight: Tensor) -> Tensor:
        self.check(weight)
        return rounded(self.cut, weight)

    def variance(self, weight: Tensor) -> Tensor | None:
        self.check(weight)
        return variance(self.cut, weight)

    def grid(self, num_columns: int) -> Grid | None:
        return self.cut


@final
@dataclass(frozen=True, kw_only=True)
class Flattened(Format):
    """A grid in the numbers one after another, row after row; the last block may be partial."""

    cut: Grid

    def refusal(self, num_rows: int, num_columns: int) -> str | None:
        return None

    def num_bytes(self, num_rows: int, num_columns: int) -> int:
        return self.cut.num_bytes(1, num_rows * num_columns)

    def rounded(self, weight: Tensor) -> Tensor:
        assert self.cut.columns is not None
        flat = weight.flatten()
        whole = len(flat) - len(flat) % self.cut.columns
        parts = [flat[:whole].reshape(-1, self.cut.columns), flat[whole:][None]]
        blocks = [rounded(self.cut, part).flatten() for part in parts if part.numel()]
        return torch.cat(blocks).reshape(weight.shape)

    def grid(self, num_columns: int) -> Grid | None:
        """That of the rows where a row is cut into whole blocks."""
        assert self.cut.columns is not None
        return None if num_columns % self.cut.columns else self.cut


def rounded(grid: Grid, weight: Tensor) -> Tensor:
    """The nearest codes under the scales of the largest numbers, (V, D) float32."""
    total = grid.total(weight)
    return under(grid, weight, grid.scales(weight, total))


def under(grid: Grid, weight: Tensor, scales: Tensor) -> Tensor:
    """The nearest codes under the given scales (S, C), decoded: (V, D) float32."""
    result = torch.empty(weight.shape, dtype=torch.float32, device=weight.device)
    for rows in row_ranges(*weight.shape):
        spread = grid.spread(scales, rows, weight.shape[1])
        result[rows] = grid.nearest(weight[rows].float(), spread)
    return result


def variance(grid: Grid, weight: Tensor) -> Tensor | None:
    """As that of a format."""
    if grid.codes.spacing(torch.zeros(1)) is None:
        return None
    scales = grid.scales(weight, grid.total(weight))
    result = torch.empty(weight.shape, dtype=torch.float32, device=weight.device)
    for rows in row_ranges(*weight.shape):
        spread = grid.spread(scales, rows, weight.shape[1])
        step = grid.codes.spacing(weight[rows].float() / torch.where(spread == 0, 1.0, spread))
        assert step is not None
        result[rows] = step.mul_(spread).square_().div_(12)
    return result
