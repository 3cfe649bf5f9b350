"""What an error of the weights costs: the mean square of the scores that it changes."""

import torch
from torch import Tensor

from wideneck.rounding.rows import row_ranges


def row_errors(weight: Tensor, rounded: Tensor, second_moment: Tensor) -> Tensor:
    """dw_i' M dw_i of every row i, the mean square of (dw_i)' x for M = E[x x'].

    Half its sum over rows, weighted by the probability of each token, is the second-order
    prediction of the loss from weights and moments alone (cheap_heads.md 3.2).

    Args:
        weight: (V, D).
        rounded: (V, D).
        second_moment: M, (D, D).

    Returns:
        (V,) float64.  The products are in float64, 2 V D^2 operations.
    """
    metric = second_moment.double()
    result = torch.empty(len(weight), dtype=torch.float64, device=weight.device)
    for rows in row_ranges(*weight.shape):
        change = rounded[rows].double() - weight[rows].double()
        result[rows] = torch.einsum("nd,nd->n", change @ metric, change)
    return result
