"""Formats without scales."""

from dataclasses import dataclass
from typing import final

import torch
from torch import Tensor

from wideneck.rounding.codes import spacing
from wideneck.rounding.format import Format
from wideneck.rounding.rows import row_ranges


@final
@dataclass(frozen=True, kw_only=True)
class BFloat16(Format):
    """The upper half of a float32, half to even."""

    name: str = "bf16"
    about: str = "bfloat16, as PyTorch rounds to it"

    def refusal(self, num_rows: int, num_columns: int) -> str | None:
        return None

    def num_bytes(self, num_rows: int, num_columns: int) -> int:
        return 2 * num_rows * num_columns

    def rounded(self, weight: Tensor) -> Tensor:
        return weight.float().bfloat16().float()

    def variance(self, weight: Tensor) -> Tensor:
        result = torch.empty(weight.shape, dtype=torch.float32, device=weight.device)
        for rows in row_ranges(*weight.shape):
            step = spacing(weight[rows].float(), mantissa=7, lowest=-126)
            result[rows] = step.square_().div_(12)
        return result
