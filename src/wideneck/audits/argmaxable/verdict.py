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

from wideneck.audits.argmaxable.head import Distinct

_FAR = 2.0**14
"""The rows of a certificate lie further off, on the weighted mean, than this many times what it
leaves over.  A row within some roundings of another is not called a mixture of it, and what is
left over is small as an angle, too: a state that wins would do so by less than 6e-5 of |x| times
the distance to some row."""


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
class Rows:
    """N rows to be judged."""

    weight: Tensor
    """(N, D)."""
    bias: Tensor
    """(N,), as `Distinct.bias`."""
    sizes: Tensor
    bias_sizes: Tensor


def rows_of(head: Distinct, index_N: Tensor) -> Rows:
    """Some of the distinct ones."""
    return Rows(
        weight=head.stored(index_N),
        bias=head.bias[index_N],
        sizes=head.sizes[index_N],
        bias_sizes=head.bias_sizes[index_N],
    )


def check_certificate(
    head: Distinct, rows: Rows, index_K: Tensor, multipliers: np.ndarray
) -> Enclosed | None:
    """`check_certificates` of one row and whatever multipliers a solver gives.

    Negative ones are dropped.
    """
    a_K = torch.from_numpy(np.maximum(multipliers, 0)).to(index_K.device)
    total = a_K.sum().item()
    if not 0 < total < float("inf"):
        return None
    used = a_K > 0
    return check_certificates(head, rows, index_K[used], (a_K[used] / total)[None])[0]


def check_certificates(
    head: Distinct, rows: Rows, index_K: Tensor, weight_NK: Tensor
) -> list[Enclosed | None]:
    """For each of N rows, whether weights of the rows `index_K` prove that it cannot win.

    Args:
        head: whose rows they are.
        rows: those to be judged.
        index_K: rows to rest on.
        weight_NK: (N, K), none negative; scaled here to sum 1.
    """
    a_NK = weight_NK.clamp_min(0)
    a_NK = a_NK / a_NK.sum(1, keepdim=True)
    box_D = 1 / head.columns if head.box is None else torch.full_like(head.columns, head.box)
    rival_KD, rival_bias_K = head.stored(index_K), head.bias[index_K]

    residual_ND = (rows.weight - a_NK @ rival_KD).abs()
    size_N = rows.sizes + a_NK @ head.sizes[index_K]
    bias_size_N = rows.bias_sizes + a_NK @ head.bias_sizes[index_K]
    gap_N = rows.bias - a_NK @ rival_bias_K
    # Rounding of K products and sums, of the weights' own sum, and of biases less their median.
    gamma = (len(index_K) + 16) * 2.0**-53
    over_ND = residual_ND + gamma * size_N[:, None] * head.columns
    over_N = gap_N + gamma * (rows.bias.abs() + a_NK @ rival_bias_K.abs() + 2 * bias_size_N)

    beyond_ND = (over_ND - head.unit * size_N[:, None] * head.columns).clamp_min(0)
    proved_N = beyond_ND @ box_D + over_N <= head.unit * bias_size_N
    spread_N = (a_NK * _distances(rows.weight * box_D, rival_KD * box_D)).sum(1)
    spread_N += (a_NK * (rows.bias[:, None] - rival_bias_K).abs()).sum(1)
    left_N = (residual_ND * box_D).norm(dim=1)
    if head.box is not None:  # there biases pay for what is left over
        left_N = (residual_ND @ box_D + gap_N).clamp_min(0)
    proved_N &= _FAR * left_N <= spread_N

    box = 1.0 if head.box is None else head.box
    scale_N = (box * head.columns.sum() * size_N + bias_size_N).clamp_min(1e-300)
    bound_N = (box * over_ND.sum(1) + over_N) / scale_N
    share_N = box * residual_ND.sum(1) / scale_N
    return [
        Enclosed(
            index=index_K[a_NK[n] > 0],
            weights=a_NK[n][a_NK[n] > 0],
            bound=bound_N[n].item(),
            residual=share_N[n].item(),
        )
        if proved
        else None
        for n, proved in enumerate(proved_N.tolist())
    ]


def _distances(left_ND: Tensor, right_KD: Tensor) -> Tensor:
    if len(left_ND) == 1:
        return (right_KD - left_ND).norm(dim=1)[None]
    square_NK = left_ND.square().sum(1)[:, None] + right_KD.square().sum(1)
    return (square_NK - 2 * (left_ND @ right_KD.T)).clamp_min(0).sqrt()


def check_witness(head: Distinct, i: int, x_D: Tensor) -> tuple[Found | None, Tensor]:
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
