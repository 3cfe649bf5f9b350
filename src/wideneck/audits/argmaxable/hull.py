"""The nearest point of the hull of the other rows, by active sets of rows.

Row i is unargmaxable exactly if a convex combination of other rows equals it and has at least
its bias (Farkas; no box). So find a >= 0, sum 1, and c >= 0 that minimise
    || sum_j a_j (u_j - u_i) ||^2 + || sum_j a_j k (b_j - b_i) - c ||^2 + (sum_j a_j l_j - 1)^2
by Lawson & Hanson's non-negative least squares, in the whitened rows u = T w for the sake of the
numbers, every difference over its own length l_j, so that neither a long row nor a near one
counts for more than its direction. Value 0: the a_j are a certificate. Else the residual is a
hidden state (and a scale of the biases) at which row i leads every row of the active set
(Kuhn-Tucker); the rows that it does not lead join, those without weight leave, and the value rises
from round to round.

Why not the linear program at once: both are exact, and HiGHS took 15 times as long on planted
rows of 256 dimensions (0.75 s against 0.06 s). The program keeps what the box decides.

Cost a round: M D multiply-adds for the check, and O(D^3) for the least squares on O(D) rows.
"""

import time

import numpy as np
import torch
from scipy.optimize import nnls
from torch import Tensor

from wideneck.audits.argmaxable.head import Distinct
from wideneck.audits.argmaxable.self_tests import Cloud
from wideneck.audits.argmaxable.verdict import (
    Proof,
    check_certificate,
    check_witness,
    rows_of,
    violated,
)

_ROUNDS = 100
_WIDEST = 4096
"""One round takes minutes there, and ten times as long for twice the width."""


def nearest_point(
    head: Distinct, cloud: Cloud, i: int, barred_M: Tensor, deadline: float
) -> tuple[Proof | None, Tensor]:
    """A proof, or None where the box or the numbers leave it open; and the last active set.

    Rows of `barred_M` must be beaten by a witness, and no certificate rests on them.
    """
    transform_DD = cloud.transform
    width = len(transform_DD)
    u_1D = head.rows(torch.tensor([i])) @ transform_DD.T
    # k: a state of unit length in the cloud stands for one at the edge of the box.
    reach = head.length * (1.0 if head.box is None else head.box)
    unit = cloud.rows.norm(dim=1).median().item() / reach or 1.0

    active_K = nearest_rows(cloud, i, barred_M, 2 * width)
    for _ in range(_ROUNDS if width <= _WIDEST else 0):
        if time.monotonic() > deadline or len(active_K) == 0:
            break
        apart_KD = head.rows(active_K) @ transform_DD.T - u_1D
        bias_K = (head.bias[active_K] - head.bias[i]) * unit
        a_K, residual = _least_squares(apart_KD.numpy(), bias_K.numpy(), head.box is not None)
        if a_K is None:
            break
        enclosed = check_certificate(head, rows_of(head, torch.tensor([i])), active_K, a_K)
        if enclosed is not None:
            return enclosed, active_K
        x_D = torch.from_numpy(residual[:width]) @ transform_DD
        if head.box is not None and residual[width] > 0:
            x_D = x_D / (residual[width] * unit)
        elif head.box is not None:
            x_D = x_D * 1e30  # the biases do not count: as far as the box lets it
        found, over_M = check_witness(head, i, x_D)
        if found is not None:
            return found, active_K
        new = violated(over_M, barred_M, active_K, width)
        if len(new) == 0:
            break
        active_K = torch.cat([active_K[torch.from_numpy(a_K > 0)], new])
    return None, active_K


def nearest_rows(cloud: Cloud, i: int, barred_M: Tensor, count: int) -> Tensor:
    """The rows nearest to row i in the whitened cloud, in float32: a start, not a proof."""
    # ||u_j - u_i||^2 less ||u_i||^2, without a copy of the cloud.
    square_M = cloud.rows.norm(dim=1).square() - 2 * (cloud.rows @ cloud.rows[i])
    square_M[barred_M] = torch.inf
    square_M[i] = torch.inf
    allowed = len(square_M) - int(barred_M.sum()) - int(not barred_M[i])
    return torch.topk(square_M, min(count, allowed), largest=False).indices


def _least_squares(
    apart_KD: np.ndarray, bias_K: np.ndarray, lifted: bool
) -> tuple[np.ndarray | None, np.ndarray]:
    """Weights a and the residual (D + 2,): state, scale of the biases, and the sum's."""
    num_rows, width = apart_KD.shape
    columns = np.zeros((width + 2, num_rows + lifted))
    columns[:width, :num_rows] = apart_KD.T
    columns[width, :num_rows] = bias_K
    length_K = np.maximum(np.linalg.norm(columns[:, :num_rows], axis=0), 1e-300)
    columns[:, :num_rows] /= length_K
    columns[width + 1, :num_rows] = 1
    if lifted:
        columns[width, num_rows] = -1  # the slack c
    target = np.zeros(width + 2)
    target[-1] = 1
    try:
        solution, _ = nnls(columns, target, maxiter=20 * (num_rows + width))
    except RuntimeError:  # too many iterations: leave it to the linear program
        return None, target
    residual = target - columns @ solution
    # Kuhn-Tucker: residual . column <= 0, so -state . (u_j - u_i) = state . (u_i - u_j) >= 0.
    return solution[:num_rows] / length_K, residual
