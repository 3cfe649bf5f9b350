"""What the exact stages say of one row, and what a certificate must prove.

A stage that decides returns a `Proof` of either kind; each is checked here in float64 against the
stored rows, so no solver's tolerance enters a verdict.

A certificate of row i is weights a_j >= 0 with sum 1 over other rows. At every x of the box the
smallest of row i's margins, each less its tolerance, is at most the weighted mean of them,

    sum_j a_j (m_ij(x) - tau_ij(x)) = rho.x + beta - unit (R s.|x| + B),

rho = w_i - sum a_j w_j, beta = b_i - sum a_j b_j, R = r_i + sum a_j r_j and B likewise of the
|b|. Where no x makes it positive there is no witness.
"""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from wideneck.audits.argmaxable.head import Head

_FAR = 16.0
"""The rows of a certificate lie further off than so many times what it leaves over: a row that
lies within some roundings of another is not called a mixture of it."""


@dataclass(frozen=True, kw_only=True)
class Found:
    """A witness: at x_D the row leads all others by `margin`, relative."""

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


@dataclass(frozen=True, kw_only=True)
class Row:
    """One row of the weight as stored, with its bias, to be judged."""

    weight: Tensor
    bias: float
    size: float
    bias_size: float


def row_of(head: Head, i: int) -> Row:
    """Row i of the distinct ones."""
    return Row(
        weight=head.stored(torch.tensor([i]))[0],
        bias=head.bias[i].item(),
        size=head.sizes[i].item(),
        bias_size=head.bias_sizes[i].item(),
    )


def check_certificate(
    head: Head, row: Row, index_K: Tensor, multipliers: np.ndarray
) -> Enclosed | None:
    """The certificate that any multipliers make, if it proves that `row` cannot win.

    Negative ones are dropped and the others scaled to sum 1, whatever solver they come from.
    """
    a_K = torch.from_numpy(np.maximum(multipliers, 0))
    index_K, a_K = index_K[a_K > 0], a_K[a_K > 0]
    total = a_K.sum().item()
    if not 0 < total < float("inf"):
        return None
    a_K = a_K / total
    apart_KD = row.weight - head.stored(index_K)
    bias_K = row.bias - head.bias[index_K]
    box_D = 1 / head.columns if head.box is None else torch.full_like(head.columns, head.box)

    residual_D = (a_K @ apart_KD).abs()
    size = row.size + (a_K @ head.sizes[index_K]).item()
    bias_size = row.bias_size + (a_K @ head.bias_sizes[index_K]).item()
    # Rounding: of the differences and of K products and sums, relative to the magnitudes summed.
    gamma = (len(a_K) + 8) * 2.0**-53
    spread_D, bias_spread = a_K @ apart_KD.abs(), (a_K @ bias_K.abs()).item()
    over_D = residual_D + gamma * spread_D
    over_bias = (a_K @ bias_K).item() + gamma * bias_spread
    over_bias += 2.0**-51 * (abs(row.bias) + head.bias[index_K].abs().amax().item())

    beyond_D = (over_D - head.unit * size * head.columns).clamp_min(0)
    if (box_D @ beyond_D).item() + over_bias - head.unit * bias_size > 0:
        return None
    if _FAR * ((box_D @ residual_D).item() + over_bias) > (box_D @ spread_D).item() + bias_spread:
        if residual_D.any() or (a_K @ bias_K).item() > 0:
            return None
    box = 1.0 if head.box is None else head.box
    scale = max(box * head.columns.sum().item() * size + bias_size, 1e-300)
    return Enclosed(
        index=index_K,
        weights=a_K,
        bound=(box * over_D.sum().item() + over_bias) / scale,
        residual=box * residual_D.sum().item() / scale,
    )


def check_witness(head: Head, i: int, x_D: Tensor) -> tuple[Found | None, Tensor]:
    """Whether row i wins at x, shrunk into the box; and by how much, over the tolerance.

    The latter is (M,), relative to the size of each rival: negative where it stands in the way.
    """
    x_1D = head.into_box(x_D[None])
    i_1 = torch.tensor([i])
    lead_1M, tolerance_1M = head.leads(i_1, x_1D), head.tolerances(i_1, x_1D)
    over_M = ((lead_1M - tolerance_1M) / tolerance_1M.clamp_min(1e-300))[0]
    if bool((over_M > 0).all()) and bool(head.inside(x_1D)):
        relative = head.relative(lead_1M.amin(1), x_1D.norm(dim=1)).item()
        return Found(x=x_1D[0], margin=relative), over_M
    return None, over_M


def violated(over_M: Tensor, barred_M: Tensor, known_K: Tensor, count: int) -> Tensor:
    """The rows that stand most in the way, without those barred or already in the problem."""
    over_M = over_M.masked_fill(barred_M, torch.inf)
    over_M[known_K] = torch.inf
    worst = torch.topk(over_M, min(count, len(over_M)), largest=False)
    return worst.indices[worst.values <= 0]
