"""What the exact stages say of one row, and the bound that a certificate proves.

A stage that decides returns a `Proof` of either kind; each is checked here in float64 against the
stored rows, so no solver's tolerance enters a verdict.
"""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from wideneck.audits.argmaxable.head import Head


@dataclass(frozen=True, kw_only=True)
class Found:
    """A witness: at x_D the row leads all others by `margin`."""

    x: Tensor
    margin: float


@dataclass(frozen=True, kw_only=True)
class Enclosed:
    """A certificate: rows `index_K` with weights `weight_K` bound the margin by `bound`."""

    index: Tensor
    weights: Tensor
    bound: float
    residual: float


Proof = Found | Enclosed


def check_certificate(
    head: Head, i: int, index_K: Tensor, multipliers: np.ndarray
) -> Enclosed | None:
    """The bound that any multipliers prove, if it is within the tolerance.

    Negative ones are dropped and the others scaled to sum 1; whatever solver they come from, the
    bound box * ||w_i - sum a_j w_j||_1 + b_i - sum a_j b_j then holds.
    """
    a_K = torch.from_numpy(np.maximum(multipliers, 0))
    index_K, a_K = index_K[a_K > 0], a_K[a_K > 0]
    if len(a_K) == 0:
        return None
    a_K = a_K / a_K.sum()
    apart_KD = head.stored(torch.tensor([i])) - head.stored(index_K)
    bias_K = head.bias[i] - head.bias[index_K]
    box = 1.0 if head.box is None else head.box

    residual = (a_K @ apart_KD).abs().sum().item()
    # Rounding: of the differences and of K products and sums, relative to the magnitudes summed;
    # of the residual's norm, D terms; of the centred biases.
    size = (box * (a_K @ apart_KD.abs()).sum() + a_K @ bias_K.abs()).item()
    rounding = (len(a_K) + 8) * 2.0**-53 * size + apart_KD.shape[1] * 2.0**-53 * box * residual
    rounding += 2.0**-51 * head.bias_radius
    scale = head.radius * box + head.bias_radius
    bound = (box * residual + (a_K @ bias_K).item() + rounding) / scale
    if bound > head.tolerance:
        return None
    return Enclosed(
        index=index_K, weights=a_K, bound=bound, residual=residual / (head.radius or 1.0)
    )


def check_witness(head: Head, i: int, x_D: Tensor) -> tuple[Found | None, Tensor]:
    """Whether row i wins at x, shrunk into the box; and its lead over every row."""
    x_1D = head.into_box(x_D[None])
    lead_M = head.leads(torch.tensor([i]), x_1D)[0]
    margin = lead_M.amin()
    if bool(head.accepts(margin[None], x_1D)):
        relative = head.relative(margin[None], x_1D).item()
        return Found(x=x_1D[0], margin=relative), lead_M
    return None, lead_M


def violated(lead_M: Tensor, known_K: Tensor, count: int) -> Tensor:
    """The rows that beat row i the most, without those already in the problem."""
    lead_M = lead_M.clone()
    lead_M[known_K] = torch.inf
    worst = torch.topk(lead_M, min(count, len(lead_M)), largest=False)
    return worst.indices[worst.values <= 0]
