"""A quantized matrix: codes, and the scales that make numbers of them.

Every layout but that of bitsandbytes is w = (code - zero) * scale, where scale and zero are those
of the code's tensor, row, block or group.  V rows, D columns; a grid of scales is R x C.

Cost of decoding: a block of rows in float32 and its scales once more.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from wideneck.models.quantized.stored import BLOCK, StoredMatrix

Rows = Callable[[int, int], Tensor]
"""Called as rows(start, stop): float32, (stop - start, D)."""


@dataclass(frozen=True, kw_only=True)
class QuantizedMatrix:
    """What a layout makes of the stored parts."""

    shape: tuple[int, int]
    """(V, D)."""
    dtype: str
    """What the layout is called in reports, as "NVFP4"."""
    rounding: float
    """As that of `HeadWeights`."""
    rows: Rows
    typical_scale: float
    """What codes are multiplied by in the middle, as far as its inverse could have been meant."""
    parts: tuple[str, ...]
    """The parts that the numbers depend on."""

    def whole(self) -> Tensor:
        """(V, D) float32, decoded block by block."""
        num_rows, num_columns = self.shape
        weight = torch.empty(self.shape, dtype=torch.float32)
        step = max(1, BLOCK // max(1, num_columns))
        for start in range(0, num_rows, step):
            stop = min(start + step, num_rows)
            weight[start:stop] = self.rows(start, stop)
        return weight


def of_bits(bits: int) -> float:
    """The rounding of a block of so many bits a number, relative to the block's rms."""
    return 2.0 ** (3 - bits)


@dataclass(frozen=True)
class Grid:
    """One number for each block of a matrix."""

    values: Tensor
    """(R, C), float32."""
    block_rows: int
    """Rows of the matrix to a row of `values`; the last block may have fewer."""
    column_of: Tensor
    """(D,): the column of `values` for each column of the matrix."""

    def rows(self, start: int, stop: int) -> Tensor:
        """(stop - start, D), or one row or column where all have the same."""
        values = self.values
        if len(values) > 1:
            values = values[torch.arange(start, stop) // self.block_rows]
        return values if values.shape[1] == 1 else values[:, self.column_of]


def grid(
    stored: StoredMatrix,
    part: str,
    values: Tensor,
    shape: tuple[int, int],
    block: tuple[int, int],
) -> Grid:
    """One number for each block of `block` rows and columns, the last ones perhaps partial.

    Raises:
        WideneckError: there are more or fewer of them.
    """
    wanted = tuple(-(-side // length) for side, length in zip(shape, block, strict=True))
    if tuple(values.shape) != wanted:
        raise stored.refused(
            f"{part} has shape {stored.shape(part)}, and a matrix of {shape} in blocks of {block} "
            f"has {wanted} scales"
        )
    return Grid(values, block[0], torch.arange(shape[1]) // block[1])


def scaled(codes: Rows, scales: Grid, zeros: Grid | None = None) -> Rows:
    """(code - zero) * scale, in float32."""

    def rows(start: int, stop: int) -> Tensor:
        numbers = codes(start, stop)
        if zeros is not None:
            numbers = numbers - zeros.rows(start, stop)
        return numbers * scales.rows(start, stop)

    return rows


def middle(values: Tensor) -> float:
    """The geometric mean of the sizes of numbers that are not 0; 1 of none."""
    sizes = values[values != 0].abs().double()
    return float(sizes.log().mean().exp()) if len(sizes) else 1.0
