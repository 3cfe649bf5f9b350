"""What a change of the matrix costs, predicted without running the cheap head.

Both are of second order in the change, DERIVED: KL(p || q) ~ 1/2 E Var_p(dW x).

Shapes: N tokens, V vocabulary, D hidden size.
"""

import torch
from torch import Tensor

from wideneck.audits.cost.cheaper import Rows
from wideneck.audits.output.layer import OutputLayer, token_chunks
from wideneck.functional.gram import ROWS


def from_moments(
    weight: Tensor, rows: Rows, prediction: Tensor, second_moment: Tensor, scale: float
) -> float:
    """1/2 sum_i pi_i dw_i^T M dw_i, for logits of a constant factor `scale`.

    Left out are the square of E_p dz, which lowers it, and how p goes with x.  Cost: 2 V D^2.

    Args:
        weight: W (V, D).
        rows: those of the changed matrix.
        prediction: pi (V,).
        second_moment: M (D, D).
    """
    metric, total = second_moment.to(weight), 0.0
    for start in range(0, len(weight), ROWS):
        part = slice(start, start + ROWS)
        change = rows(part) - weight[part]
        cost = torch.linalg.vecdot(change @ metric, change).double()
        total += (prediction[part] @ cost).item()
    return scale**2 * total / 2


@torch.no_grad()
def from_noise(layer: OutputLayer, variance: Tensor, hidden: Tensor) -> float:
    """1/2 E sum_i p_i (1 - p_i) sum_j v_ij x_j^2 over states (N, D).  Cost: two products.

    Args:
        layer: the head.
        variance: v (V, D), of each weight's error.
        hidden: (N, D).
    """
    total = 0.0
    for (x,) in token_chunks(hidden):
        raw = layer.raw(x)
        p = layer.logit_map(raw).softmax(1)
        slope = layer.logit_map.derivative(raw)
        total += ((p - p * p) * slope**2 * (x.square() @ variance.T)).sum().item()
    return total / len(hidden) / 2
