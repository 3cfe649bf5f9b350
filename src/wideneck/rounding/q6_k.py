"""Q6_K of GGUF: 256 numbers under one float16, 16 of them under an int8 besides.

w = d * s * (code - 32).  The package of GGUF decodes it and does not write it, so the bytes are
made here by the search of llama.cpp's reference, as we understand it: each group of 16 tries scales
around that of its largest number and keeps the best by least squares, weighted by the numbers'
squares; then the scales of the groups are rounded, and the codes taken anew under them.

That these bytes are those of llama.cpp itself, bit for bit, is UNVERIFIED.  What is tested is that
the package reads them as `rounded` says, and that the error is below that of the nearest codes
under the largest numbers.
"""

from dataclasses import dataclass
from typing import final

import torch
from torch import Tensor

from wideneck.rounding.format import Format
from wideneck.rounding.rows import row_ranges

BLOCK, GROUP, BYTES = 256, 16, 210
HALF = 32
"""Codes are from -32 to 31."""
TENTHS = tuple(x for x in range(-9, 10) if x)
"""What the search adds to -32, in tenths, for the code of the largest number."""
NOTHING = 1e-15
"""A magnitude below which a group is stored as zeros."""


@final
@dataclass(frozen=True, kw_only=True)
class Q6K(Format):
    """Blocks of 256 numbers of a row."""

    name: str = "Q6_K"
    about: str = (
        "6-bit integers under one int8 for 16 and one float16 for 256, read by gguf, written by "
        "wideneck after llama.cpp"
    )

    def refusal(self, num_rows: int, num_columns: int) -> str | None:
        if num_columns % BLOCK:
            return f"its {num_columns:,} columns are no multiple of the {BLOCK} of a block"
        return None

    def num_bytes(self, num_rows: int, num_columns: int) -> int:
        return num_rows * num_columns // BLOCK * BYTES

    def rounded(self, weight: Tensor) -> Tensor:
        import gguf

        self.check(weight)
        kind = gguf.GGMLQuantizationType.Q6_K
        result = torch.empty(weight.shape, dtype=torch.float32)
        for rows in row_ranges(*weight.shape):
            stored = packed(*encoded(weight[rows].float().cpu().reshape(-1, BLOCK)))
            decoded = gguf.dequantize(stored.numpy(), kind)
            result[rows] = torch.from_numpy(decoded).reshape(-1, weight.shape[1])
        return result.to(weight.device)

    def variance(self, weight: Tensor) -> Tensor:
        """A step's square over 12, a sixth more than the search leaves of it."""
        self.check(weight)
        result = torch.empty(weight.shape, dtype=torch.float32, device=weight.device)
        for rows in row_ranges(*weight.shape):
            d, scales, _ = encoded(weight[rows].float().reshape(-1, BLOCK))
            step = (d.float() * scales.float()).repeat_interleave(GROUP, 1)
            result[rows] = step.square_().div_(12).reshape(-1, weight.shape[1])
        return result


def encoded(blocks: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Scales and codes of blocks (B, 256), float32.

    Returns:
        d (B, 1) float16; s (B, 16) int8; codes (B, 256) uint8, which stand for code - 32.
    """
    groups = blocks.unflatten(1, (-1, GROUP))
    scales = _group_scales(groups)
    largest = _of_largest_magnitude(scales)
    safe = torch.where(largest.abs() < NOTHING, 1.0, largest)
    inverse = torch.where(largest.abs() < NOTHING, 0.0, -128 / safe)
    d = torch.where(inverse == 0, 0.0, 1 / inverse).half()
    of_groups = (inverse * scales).round().clamp_max(127)
    steps = (d.float() * of_groups)[:, :, None]
    codes = torch.where(steps == 0, 0.0, groups / torch.where(steps == 0, 1.0, steps))
    codes = codes.round().clamp(-HALF, HALF - 1) + HALF
    return d, of_groups.to(torch.int8), codes.to(torch.uint8).flatten(1)


def packed(d: Tensor, scales: Tensor, codes: Tensor) -> Tensor:
    """The bytes of blocks (B, 210), from what `encoded` gives."""
    halves = codes.unflatten(1, (2, 4, 32))  # quarters of 32 numbers, two to a byte
    low = halves & 15
    low = (low[:, :, :2] | low[:, :, 2:] << 4).flatten(1)
    high = halves >> 4
    shifts = torch.arange(0, 8, 2, dtype=torch.uint8)[:, None]
    high = (high << shifts).sum(2, dtype=torch.uint8).flatten(1)
    return torch.cat((low, high, scales.view(torch.uint8), d.view(torch.uint8)), 1)


def _group_scales(groups: Tensor) -> Tensor:
    """The step of each group of (B, 16, 16) that fits its numbers best: (B, 16)."""
    largest = _of_largest_magnitude(groups)
    empty = largest.abs() < NOTHING
    safe = torch.where(empty, 1.0, largest)
    weights = groups.square()
    best_scale = best = torch.zeros_like(largest[..., 0])
    for tenths in (0, *TENTHS):
        codes = (groups * (-(HALF + tenths / 10) / safe)).round_().clamp_(-HALF, HALF - 1)
        along = (weights * groups * codes).sum(-1)
        size = (weights * codes.square()).sum(-1)
        better = (size > 0) & (along.square() > best * size)
        scale = along / torch.where(size > 0, size, 1.0)
        best_scale = torch.where(better, scale, best_scale)
        best = torch.where(better, scale * along, best)
    return best_scale.masked_fill(empty[..., 0], 0.0)


def _of_largest_magnitude(numbers: Tensor) -> Tensor:
    """Along the last dimension, with its sign."""
    return numbers.gather(-1, numbers.abs().argmax(-1, keepdim=True))
