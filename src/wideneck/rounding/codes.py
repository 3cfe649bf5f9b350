"""What a code stands for before its scale is multiplied in: integers, small floats, a table.

A number is divided by its scale, rounded to the nearest of these, and multiplied back.
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import final

import torch
from torch import Tensor

MAGNITUDES = (0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0)
"""E2M1, by its three low bits; the fourth is the sign."""
E4M3_LARGEST = 448.0
EXPONENT = 0x7F800000
"""The bits of a float32's exponent."""
NF4 = (
    -1.0,
    -0.6961928009986877,
    -0.5250730514526367,
    -0.39491748809814453,
    -0.28444138169288635,
    -0.18477343022823334,
    -0.09105003625154495,
    0.0,
    0.07958029955625534,
    0.16093020141124725,
    0.24611230194568634,
    0.33791524171829224,
    0.44070982933044434,
    0.5626170039176941,
    0.7229568362236023,
    1.0,
)
"""Quantiles of a normal distribution (Dettmers et al. 2023, appendix E)."""


class Codes(ABC):
    """The numbers that codes of one kind stand for.  All methods go entry by entry, in float32."""

    @property
    @abstractmethod
    def bits(self) -> int:
        """Of one code."""

    @abstractmethod
    def nearest(self, scaled: Tensor) -> Tensor:
        """The nearest of the numbers; the outermost for what lies beyond them."""

    @abstractmethod
    def spacing(self, scaled: Tensor) -> Tensor | None:
        """How far the numbers around each one lie apart.

        None where they are a table too coarse for a distance to say what the rounding costs.
        """


@final
@dataclass(frozen=True)
class Integers(Codes):
    """Whole numbers from `low` to `high`; half goes to even."""

    low: int
    high: int

    @property
    def bits(self) -> int:
        return (self.high - self.low).bit_length()

    def nearest(self, scaled: Tensor) -> Tensor:
        return scaled.clamp(self.low, self.high).round()

    def spacing(self, scaled: Tensor) -> Tensor:
        return torch.ones_like(scaled)


@final
@dataclass(frozen=True)
class E4M3(Codes):
    """Eight-bit floats without infinities, +-448 the largest; half goes to even."""

    @property
    def bits(self) -> int:
        return 8

    def nearest(self, scaled: Tensor) -> Tensor:
        # Three times as fast on a CPU as PyTorch's conversion, and equal to it.
        within = scaled.clamp(-E4M3_LARGEST, E4M3_LARGEST)
        step = self.spacing(within)
        return within.div_(step).round_().mul_(step)

    def spacing(self, scaled: Tensor) -> Tensor:
        return spacing(scaled, mantissa=3, lowest=-6)


@final
@dataclass(frozen=True)
class E2M1(Codes):
    """`MAGNITUDES` and their negatives; half goes to the even code."""

    @property
    def bits(self) -> int:
        return 4

    def nearest(self, scaled: Tensor) -> Tensor:
        size = scaled.abs().clamp_max_(MAGNITUDES[-1])
        step = torch.where(size < 2, 0.5, torch.where(size < 4, 1.0, 2.0))
        return (size / step).round_().mul_(step).copysign_(scaled)

    def spacing(self, scaled: Tensor) -> None:
        return None


@final
@dataclass(frozen=True)
class NormalFloats(Codes):
    """The table `NF4`; what lies halfway goes to the lower number."""

    @property
    def bits(self) -> int:
        return 4

    def nearest(self, scaled: Tensor) -> Tensor:
        table = torch.tensor(NF4, device=scaled.device)
        middles = (table[:-1] + table[1:]) / 2
        return table[torch.bucketize(scaled, middles, out_int32=True)]

    def spacing(self, scaled: Tensor) -> None:
        return None


def spacing(numbers: Tensor, *, mantissa: int, lowest: int) -> Tensor:
    """Distance of floats with so many bits of mantissa around each number.

    Args:
        numbers: float32.
        lowest: the exponent of the smallest normal number, below which the distance stays.
    """
    return power_below(numbers).clamp_min_(2.0**lowest).mul_(2.0**-mantissa)


def power_below(numbers: Tensor) -> Tensor:
    """The largest power of two that is not above a float32's magnitude; 0 below the normal ones."""
    return (numbers.view(torch.int32) & EXPONENT).view(torch.float32)
