"""Codes in blocks that share a scale: w = code * scale.

A block is some rows by some columns, the last of each direction perhaps partial.  S x C scales
belong to a matrix of V x D.
"""

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor
from torch.nn.functional import pad

from wideneck.rounding.codes import E4M3, E4M3_LARGEST, Codes, power_below
from wideneck.rounding.rows import row_ranges

ScaleKind = Literal["float32", "bfloat16", "float16", "e4m3", "power of two"]
SCALE_BYTES = {"float32": 4, "bfloat16": 2, "float16": 2, "e4m3": 1, "power of two": 1}
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
SMALLEST_POWER = 2.0**-127


@dataclass(frozen=True, kw_only=True)
class Grid:
    """How a matrix is cut into blocks, and which scales and codes a block may have."""

    codes: Codes
    rows: int | None
    """Rows of a block; None for all."""
    columns: int | None
    """Columns of a block; None for all."""
    kind: ScaleKind
    """How a scale is stored.  The e4m3 scales of a matrix are divided by one float32 number more,
    which maps the largest of them to 448."""
    largest: float
    """The code that the largest number of a block is scaled to.  Where it is negative, the number
    of the largest magnitude keeps its sign, so that it meets this code whichever it has."""

    @property
    def shares_rows(self) -> bool:
        """Whether rows share a scale, so that the best one depends on the weights of rows."""
        return self.rows != 1

    def sides(self, num_rows: int, num_columns: int) -> tuple[int, int]:
        """Rows and columns of a block of this matrix."""
        return self.rows or num_rows, self.columns or num_columns

    def num_scales(self, num_rows: int, num_columns: int) -> int:
        rows, columns = self.sides(num_rows, num_columns)
        return -(-num_rows // rows) * -(-num_columns // columns)

    def num_bytes(self, num_rows: int, num_columns: int) -> int:
        """Of scales and codes; codes of four bits share a byte."""
        scales = self.num_scales(num_rows, num_columns) * SCALE_BYTES[self.kind]
        return (
            scales + 4 * (self.kind == "e4m3") + -(-num_rows * num_columns * self.codes.bits // 8)
        )

    def total(self, weight: Tensor) -> Tensor:
        """What e4m3 scales are divided by; 1 for other kinds.  A tensor of one float32."""
        if self.kind != "e4m3" or not weight.numel():
            return torch.ones(())
        low, high = weight.aminmax()
        size = torch.maximum(-low, high).float().clamp_min(torch.finfo(torch.float32).tiny)
        total = E4M3_LARGEST * abs(self.largest) / size
        return torch.where(total.isfinite(), total, 1.0)

    def scales(self, weight: Tensor, total: Tensor) -> Tensor:
        """The scale of each block by its largest number, as it is stored: (S, C) float32.

        Args:
            weight: (V, D) of any floating type.
            total: see `total`.
        """
        height, width = self.sides(*weight.shape)
        ranges = row_ranges(*weight.shape)
        extreme = torch.cat([self._extremes(weight[rows].float(), width) for rows in ranges])
        if height > 1:  # no format has signs and several rows
            missing = -len(extreme) % height
            extreme = pad(extreme, (0, 0, 0, missing)).unflatten(0, (-1, height)).amax(1)
        if self.kind == "power of two":
            return power_of(extreme)
        return self.stored(extreme / self.largest, total)

    def _extremes(self, rows: Tensor, width: int) -> Tensor:
        """The largest magnitude of each group of columns, or the number that has it."""
        groups = pad(rows, (0, -rows.shape[1] % width)).unflatten(1, (-1, width))
        if self.largest > 0:
            return groups.abs().amax(2)
        low, high = groups.amin(2), groups.amax(2)
        return torch.where(high >= -low, high, low)

    def stored(self, scales: Tensor, total: Tensor) -> Tensor:
        """The nearest scales that can be stored, as they decode."""
        if self.kind == "e4m3":
            return E4M3().nearest(total * scales) / total
        if self.kind == "power of two":
            # Half way between two powers, by their ratio, is a root of two above the lower.
            return power_below(scales * 2**0.5).clamp_min_(SMALLEST_POWER)
        return scales.to(DTYPES[self.kind]).to(torch.float32)

    def of_rows(self, scales: Tensor, rows: slice) -> Tensor:
        """The scales (S, C) of a range of rows, which starts with a block: (rows or 1, C)."""
        if len(scales) == 1:
            return scales
        height = self.rows or 1
        scales = scales[rows.start // height : -(-rows.stop // height)]
        return scales.repeat_interleave(height, 0)[: rows.stop - rows.start]

    def spread(self, scales: Tensor, rows: slice, num_columns: int) -> Tensor:
        """The scale of each number of a range of rows; a side is 1 where all share it."""
        scales = self.of_rows(scales, rows)
        if scales.shape[1] == 1:
            return scales
        return scales.repeat_interleave(self.columns or 1, 1)[:, :num_columns]

    def nearest(self, rows: Tensor, scales: Tensor) -> Tensor:
        """Numbers rounded under scales of their shape, decoded."""
        # Under a scale of 0 are numbers too small for any, which decode to 0.
        safe = torch.where(scales == 0, 1.0, scales)
        return self.codes.nearest(rows / safe) * scales


def power_of(sizes: Tensor) -> Tensor:
    """The scale of an MX block from its largest magnitude: 2^(floor(log2(size)) - 2)."""
    return (power_below(sizes) / 4).clamp_min_(SMALLEST_POWER)
