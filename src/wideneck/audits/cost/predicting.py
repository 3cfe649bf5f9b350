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
def noise_weights(layer: OutputLayer, hidden: Tensor) -> Tensor:
    """What an error of each weight counts: E p_i (1 - p_i) x_j^2, (V, D), over states (N, D).

    Cost: two products, whatever the number of formats that it is asked of.
    """
    total = torch.zeros(layer.weight.shape, dtype=torch.float32, device=hidden.device)
    for (x,) in token_chunks(hidden):
        raw = layer.raw(x)
        p = layer.logit_map(raw).softmax(1)
        slope = layer.logit_map.derivative(raw)
        total.addmm_((p.sub_(p * p) * slope.square_()).T, x.square())
    return total.div_(len(hidden))


def from_noise(weights: Tensor, variance: Tensor) -> float:
    """1/2 E sum_i p_i (1 - p_i) sum_j v_ij x_j^2, errors being independent of each other.

    Args:
        weights: see `noise_weights`.
        variance: v (V, D), of each weight's error.
    """
    rows = zip(weights.split(ROWS), variance.split(ROWS), strict=True)
    return sum(torch.linalg.vecdot(w, v).sum(dtype=torch.float64).item() for w, v in rows) / 2
