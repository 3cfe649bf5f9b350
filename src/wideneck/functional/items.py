"""Division by a number of items, of which there may be none."""

from typing import overload

import torch
from torch import Tensor

Count = int | float | Tensor


@overload
def per_item(total: Tensor, count: Count) -> Tensor: ...
@overload
def per_item(total: float, count: int | float) -> float: ...
@overload
def per_item(total: float, count: Tensor) -> Tensor: ...
def per_item(total: Tensor | float, count: Count) -> Tensor | float:
    """The quotient, where a count of 0 counts as 1: a sum over nothing, 0, stays 0 and not NaN.

    The same holds of its gradient, so that a micro-batch without targets adds nothing to others.

    Args:
        total: a sum, any shape.
        count: how many items it is over, or the sum of their weights, which may be below 1; a
            tensor broadcasts against `total`, comes to its device and is not waited for.
    """
    if isinstance(count, Tensor):
        count = torch.where(count == 0, 1, count)
        return total / (count.to(total.device) if isinstance(total, Tensor) else count)
    return total / (1 if count == 0 else count)
