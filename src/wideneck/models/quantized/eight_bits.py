"""Eight bits a number, each multiplied by its scale: FP8, and integers that are not packed.

    weight (V, D)    F8_E4M3, F8_E5M2 or I8
    weight_scale     of compressed-tensors, ModelOpt and FBGEMM, or
    weight_scale_inv of DeepSeek and transformers: both are multiplied, whatever the name says

The scale is one number, one a row (V or V x 1), one a group along the columns (V x C), or one a
block, of which the last in each direction may be partial.  A scale of U8 or F8_E8M0 is a power of
two.  Where config.json says how large a block is, that is the size.
"""

import torch
from torch import Tensor

from wideneck.models.quantized.matrix import QuantizedMatrix, grid, middle, of_bits, scaled
from wideneck.models.quantized.stored import StoredMatrix

NAMES = {
    torch.float8_e4m3fn: "FP8 (e4m3)",
    torch.float8_e5m2: "FP8 (e5m2)",
    torch.int8: "int8",
}
USUAL = [2**power for power in range(3, 13)]
"""What the sides of blocks are: 128 in DeepSeek-V3, 32 in MXFP8."""


def read_bytes(stored: StoredMatrix) -> QuantizedMatrix:
    """A byte a number; raises where the scales do not fit the matrix in one way alone."""
    part = "weight_scale_inv" if "weight_scale_inv" in stored.parts else "weight_scale"
    dtype = stored.dtype("weight")
    if dtype not in NAMES:
        raise stored.refused(f"weight is of {dtype} beside {part}")
    sides = stored.shape("weight")
    if len(sides) != 2:
        raise stored.refused(f"weight has shape {sides}")
    shape = (sides[0], sides[1])
    values = powers(stored, part) if is_power(stored, part) else stored.scales(part)
    values = as_grid(values, shape)
    if values is None:
        raise stored.refused(f"{part} has shape {stored.shape(part)} for a weight of {shape}")
    block = block_of(stored, part, shape, tuple(values.shape))
    zeros = None
    if "weight_zero_point" in stored.parts:
        zero = as_grid(stored.whole("weight_zero_point").to(torch.float32), shape)
        if dtype != torch.int8 or zero is None:
            raise stored.refused("weight_zero_point belongs to integers")
        zeros = grid(stored, "weight_zero_point", zero, shape, block)
    is_float = dtype.is_floating_point
    return QuantizedMatrix(
        shape=shape,
        dtype=NAMES[dtype],
        rounding=torch.finfo(dtype).eps if is_float else of_bits(8),
        rows=scaled(
            lambda start, stop: stored.rows("weight", start, stop).to(torch.float32),
            grid(stored, part, values, shape, block),
            zeros,
        ),
        typical_scale=middle(values),
        parts=tuple(sorted({"weight", part, "weight_zero_point"} & stored.parts)),
    )


def is_power(stored: StoredMatrix, part: str) -> bool:
    """Whether scales are stored by their exponents."""
    return stored.dtype(part) in (torch.uint8, torch.float8_e8m0fnu)


def powers(stored: StoredMatrix, part: str) -> Tensor:
    """Scales 2^(byte - 127), which torch calls float8_e8m0fnu; 255 is no number."""
    values = stored.whole(part).view(torch.float8_e8m0fnu).to(torch.float32)
    if not values.isfinite().all():
        raise stored.refused(f"{part} holds the byte 255, which stands for no scale")
    return values


def as_grid(values: Tensor, shape: tuple[int, int]) -> Tensor | None:
    """(R, C) of one number, of one a row, or of a grid already; None of something else."""
    if values.numel() == 1:
        return values.reshape(1, 1)
    if values.ndim == 1 and len(values) == shape[0]:
        return values[:, None]
    return values if values.ndim == 2 else None


def block_of(
    stored: StoredMatrix, part: str, shape: tuple[int, int], number: tuple[int, ...]
) -> tuple[int, int]:
    """Rows and columns of a block, from config.json or from what alone fits the numbers of them.

    Raises:
        WideneckError: nothing fits, or more than one size does.
    """
    said = _said(stored)
    fitting = {size for size in said if _fits(shape, number, size)}
    if not fitting and not (said and min(number) > 1):
        sides = [_lengths(side, count) for side, count in zip(shape, number, strict=True)]
        fitting = {(rows, columns) for rows in sides[0] for columns in sides[1]}
    if len(fitting) != 1:
        how = "fit no block size" if not fitting else f"fit the blocks {sorted(fitting)}"
        raise stored.refused(f"the {number} scales in {part} {how} of a matrix of {shape}")
    return fitting.pop()


def _lengths(side: int, count: int) -> set[int]:
    """What a side of a block may measure where `count` of them cover the matrix's side.

    A block that divides the side proves nothing: 1,000 rows are 4 blocks of 250, and of 256.
    """
    if count == 1:
        return {side}
    found = {side // count} if side % count == 0 else set()
    return found | {length for length in USUAL if -(-side // length) == count}


def _fits(shape: tuple[int, int], number: tuple[int, ...], size: tuple[int, int]) -> bool:
    return all(
        -(-side // length) == count for side, length, count in zip(shape, size, number, strict=True)
    )


def _said(stored: StoredMatrix) -> list[tuple[int, int]]:
    """Block sizes that the config names, in either form that there is."""
    found = [
        stored.config.get("weight_block_size"),
        *stored.said_of_weights("block_structure"),
    ]
    return [
        (size[0], size[1])
        for size in found
        if isinstance(size, list)
        and len(size) == 2
        and all(type(length) is int and length > 0 for length in size)
    ]
