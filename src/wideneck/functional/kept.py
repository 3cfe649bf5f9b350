"""Which tokens of a loss count, and how many they are, at one wait for the device or none."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import final

import torch
from torch import Tensor


@final
@dataclass(frozen=True)
class Kept:
    """Tokens by number: all of N, or those of an index."""

    number: int
    """How many are computed."""
    index: Tensor | None = None
    """(number,), ascending; None for all of them."""

    @property
    def all(self) -> bool:
        return self.index is None

    @classmethod
    def of(cls, mask: Tensor) -> "Kept":
        """Those of a mask (N,); waits for it."""
        return cls.counted(mask, int(mask.sum()))

    @classmethod
    def counted(cls, mask: Tensor, number: int) -> "Kept":
        """Those of a mask whose sum is known."""
        if number == len(mask):
            return cls(number)
        return cls(number, mask.nonzero_static(size=number).squeeze(1))

    def chunks(self, size: int) -> Iterator[slice | Tensor]:
        """Indices of `size` tokens at a time: slices of all, which copy nothing."""
        for start in range(0, self.number, size):
            n = slice(start, min(start + size, self.number))
            yield n if self.index is None else self.index[n]


def may_wait(device: torch.device) -> bool:
    """Whether numbers of a device may be looked at: not while a graph of it is captured."""
    if device.type == "cuda":
        return not torch.cuda.is_current_stream_capturing()
    return device.type != "meta"
