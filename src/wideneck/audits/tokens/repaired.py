"""Rows that look as if somebody had set them: at the mean row, or zero.

A row equal to the mean of all rows has, without a bias, the mean of all scores as its own, so its
probability is at most 1/V in every context (Jensen: exp of the mean is at most the mean of exp),
and it is the most probable token in none.  A row of zeros has the score 0 and wins wherever the
others are negative.  Rows equal to each other tie; `SpecialRows.duplicates` has those.
"""

import torch
from torch import Tensor

from wideneck.audits.scale import lengths
from wideneck.audits.tokens.indicators import mean_row
from wideneck.functional.gram import row_chunks

NEAR_MEAN = 0.05
"""Share of the median distance from the mean.  The nearest rows of SmolLM2-135M-Instruct stand at
.73, those that no text trained at .75; rounding to bfloat16 moves a row by some .004."""


@torch.no_grad()
def rows_at_mean(weight: Tensor) -> list[int]:
    """Ids of rows of (V, D) nearer to the mean row than NEAR_MEAN of the median distance."""
    mean = mean_row(weight)
    distances = torch.cat([lengths(chunk - mean) for chunk in row_chunks(weight)])
    median = distances.median()
    near = (distances <= NEAR_MEAN * median) & (median > 0)
    return near.nonzero().flatten().tolist()


@torch.no_grad()
def zero_rows(weight: Tensor) -> list[int]:
    """Ids of rows of (V, D) that hold nothing but zeros."""
    zero = torch.cat([~chunk.any(1) for chunk in row_chunks(weight)])
    return zero.nonzero().flatten().tolist()
