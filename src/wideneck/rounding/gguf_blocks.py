"""The block types of GGUF that its Python package writes: Q8_0, Q5_0, Q4_0."""

from dataclasses import dataclass
from typing import final

import torch
from torch import Tensor

from wideneck.rounding import scaled
from wideneck.rounding.format import Format
from wideneck.rounding.grid import Grid
from wideneck.rounding.rows import row_ranges


@final
@dataclass(frozen=True, kw_only=True)
class GgufBlocks(Format):
    """Blocks of 32 numbers of a row under one float16, written and read by the package itself.

    It divides by the scale before that is rounded to float16 and rounds half upward, so `rounded`
    differs a little from the nearest codes under the stored scale, which its grid gives.
    """

    cut: Grid

    def refusal(self, num_rows: int, num_columns: int) -> str | None:
        width = self.cut.columns
        assert width is not None
        if num_columns % width:
            return f"its {num_columns:,} columns are no multiple of the {width} that share a scale"
        return None

    def num_bytes(self, num_rows: int, num_columns: int) -> int:
        return self.cut.num_bytes(num_rows, num_columns)

    def rounded(self, weight: Tensor) -> Tensor:
        import gguf

        self.check(weight)
        kind = gguf.GGMLQuantizationType[self.name]
        result = torch.empty(weight.shape, dtype=torch.float32)
        for rows in row_ranges(*weight.shape):
            stored = gguf.quantize(weight[rows].float().contiguous().cpu().numpy(), kind)
            result[rows] = torch.from_numpy(gguf.dequantize(stored, kind))
        return result.to(weight.device)

    def variance(self, weight: Tensor) -> Tensor | None:
        self.check(weight)
        return scaled.variance(self.cut, weight)

    def grid(self, num_columns: int) -> Grid | None:
        return self.cut
