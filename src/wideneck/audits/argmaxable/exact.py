"""The exact stages of one row: the nearest point of the hull of the others, then a linear program.

Both solve one small problem after another, over an active set of rows that those join which row i
does not lead at the solution (`_by_active_rows`).

Nearest point.  Row i is unargmaxable exactly if a convex combination of other rows equals it and
has at least its bias (Farkas; no box). So find a >= 0, sum 1, and c >= 0 that minimise
    || sum_j a_j (u_j - u_i) ||^2 + || sum_j a_j k (b_j - b_i) - c ||^2 + (sum_j a_j l_j - 1)^2
by Lawson & Hanson's non-negative least squares, in the whitened rows u = T w for the sake of the
numbers, every difference over its own length l_j, so that neither a long row nor a near one
counts for more than its direction. Value 0: the a_j are a certificate. Else the residual is a
hidden state (and a scale of the biases) at which row i leads every row of the active set
(Kuhn-Tucker); rows without weight leave it, and the value rises from round to round.
Cost a round: M D multiply-adds for the check, and O(D^3) for the least squares on O(D) rows.

Linear program, with HiGHS:

    maximise t  subject to  (w_i - w_j).x + b_i - b_j >= t l_j for j in the active set, |x_k| <= box

l_j is the size of these coefficients, so that every row counts at its own scale.
A solution that all M rows respect is a witness. The multipliers of the active rows are a
certificate by linear duality, once clipped and scaled to sum 1; `check_certificate` evaluates in
float64 what they prove, so HiGHS' own tolerances matter to neither.
Cost: one dense program of O(D) rows and D + 1 unknowns a round (about a second for D = 256).

Both are exact. The program comes last, for what the box decides: HiGHS took 15 times as long on
planted rows of 256 dimensions (0.75 s against 0.06 s).
"""

import time
from collections.abc import Callable

import numpy as np
import torch
from scipy.optimize import linprog, nnls
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

_ROUNDS, _PROGRAMS = 100, 30
_WIDEST = 4096
"""One round of least squares takes minutes there, and ten times as long for twice the width."""

Solve = Callable[[Tensor], tuple[np.ndarray | None, Tensor]]
"""Active rows (K,) -> their multipliers (K,), None where there is no solution, and a state (D,)."""


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

    def solve(active_K: Tensor) -> tuple[np.ndarray | None, Tensor]:
        apart_KD = head.rows(active_K) @ transform_DD.T - u_1D
        bias_K = (head.bias[active_K] - head.bias[i]) * unit
        a_K, residual = _least_squares(
            apart_KD.cpu().numpy(), bias_K.cpu().numpy(), head.box is not None
        )
        x_D = torch.from_numpy(residual[:width]).to(transform_DD.device) @ transform_DD
        if head.box is not None and residual[width] > 0:
            x_D = x_D / (residual[width] * unit)
        elif head.box is not None:
            x_D = x_D * 1e30  # the biases do not count: as far as the box lets it
        return a_K, x_D

    active_K = nearest_rows(cloud, i, barred_M, 2 * width)
    rounds = _ROUNDS if width <= _WIDEST else 0
    return _by_active_rows(
        head, i, barred_M, active_K, deadline, solve, rounds=rounds, most=width, leaving=True
    )


def solve_program(
    head: Distinct, i: int, barred_M: Tensor, active_K: Tensor, deadline: float
) -> Proof | None:
    """A proof for row i, or None within the limits. `active_K` holds the rows to start with."""
    width = len(head.columns)
    box_D = 1 / head.columns if head.box is None else torch.full_like(head.columns, head.box)
    goal = np.zeros(width + 1)
    goal[-1] = -1
    bounds = [(-1, 1)] * width + [(None, None)]

    def solve(active_K: Tensor) -> tuple[np.ndarray | None, Tensor]:
        # With x / box as the unknown.
        apart_KD = (head.stored(torch.tensor([i])) - head.stored(active_K)) * box_D
        bias_K = head.bias[i] - head.bias[active_K]
        length_K = torch.maximum(apart_KD.norm(dim=1), bias_K.abs()).clamp_min(1e-300)
        rows, sides = (apart_KD / length_K[:, None]).cpu(), (bias_K / length_K).cpu()
        solved = linprog(
            goal,
            A_ub=np.hstack([-rows.numpy(), np.ones((len(active_K), 1))]),
            b_ub=sides.numpy(),
            bounds=bounds,
            method="highs",
            options={
                "primal_feasibility_tolerance": 1e-10,
                "dual_feasibility_tolerance": 1e-10,
                "time_limit": max(1.0, deadline - time.monotonic()),
            },
        )
        if solved.x is None:
            return None, box_D
        a_K = -np.asarray(solved.ineqlin.marginals) / length_K.cpu().numpy()
        return a_K, torch.from_numpy(solved.x[:-1]).to(box_D.device) * box_D

    return _by_active_rows(
        head,
        i,
        barred_M,
        active_K,
        deadline,
        solve,
        rounds=_PROGRAMS,
        most=width + 1,
        leaving=False,
    )[0]


def _by_active_rows(
    head: Distinct,
    i: int,
    barred_M: Tensor,
    active_K: Tensor,
    deadline: float,
    solve: Solve,
    *,
    rounds: int,
    most: int,
    leaving: bool,
) -> tuple[Proof | None, Tensor]:
    """A proof or None, and the last active set; `most` rows join at a time."""
    own = rows_of(head, torch.tensor([i]))
    for _ in range(rounds):
        if time.monotonic() > deadline or len(active_K) == 0:
            break
        a_K, x_D = solve(active_K)
        if a_K is None:
            break
        enclosed = check_certificate(head, own, active_K, a_K)
        if enclosed is not None:
            return enclosed, active_K
        found, over_M = check_witness(head, i, x_D)
        if found is not None:
            return found, active_K
        new = violated(over_M, barred_M, active_K, most)
        if len(new) == 0:
            break
        kept = active_K[torch.from_numpy(a_K > 0)] if leaving else active_K
        active_K = torch.cat([kept, new])
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
