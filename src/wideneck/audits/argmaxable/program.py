"""The linear program of one row, by constraint generation with HiGHS.

    maximise t  subject to  (w_i - w_j).x + b_i - b_j >= t l_j for j in the active set, |x_k| <= box

l_j is the size of these coefficients, so that every row counts at its own scale.
A solution that all M rows respect is a witness. The multipliers of the active rows are a
certificate by linear duality, once clipped and scaled to sum 1; `check_certificate` evaluates in
float64 what they prove, so HiGHS' own tolerances matter to neither. Rows that beat row i at the
solution join the set.

Cost: one dense program of O(D) rows and D + 1 unknowns a round (about a second for D = 256), so
it runs last, for rows that only the box decides.
"""

import time

import numpy as np
import torch
from scipy.optimize import linprog
from torch import Tensor

from wideneck.audits.argmaxable.head import Distinct
from wideneck.audits.argmaxable.verdict import (
    Proof,
    check_certificate,
    check_witness,
    rows_of,
    violated,
)

_ROUNDS = 30


def solve_program(
    head: Distinct, i: int, barred_M: Tensor, active_K: Tensor, deadline: float
) -> Proof | None:
    """A proof for row i, or None within the limits. `active_K` holds the rows to start with."""
    width = len(head.columns)
    box_D = 1 / head.columns if head.box is None else torch.full_like(head.columns, head.box)
    goal = np.zeros(width + 1)
    goal[-1] = -1
    bounds = [(-1, 1)] * width + [(None, None)]
    for _ in range(_ROUNDS):
        if time.monotonic() > deadline or len(active_K) == 0:
            return None
        # With x / box as the unknown.
        apart_KD = (head.stored(torch.tensor([i])) - head.stored(active_K)) * box_D
        bias_K = head.bias[i] - head.bias[active_K]
        length_K = torch.maximum(apart_KD.norm(dim=1), bias_K.abs()).clamp_min(1e-300)
        solved = linprog(
            goal,
            A_ub=np.hstack([-(apart_KD / length_K[:, None]).numpy(), np.ones((len(active_K), 1))]),
            b_ub=(bias_K / length_K).numpy(),
            bounds=bounds,
            method="highs",
            options={
                "primal_feasibility_tolerance": 1e-10,
                "dual_feasibility_tolerance": 1e-10,
                "time_limit": max(1.0, deadline - time.monotonic()),
            },
        )
        if solved.x is None:
            return None
        a_K = -np.asarray(solved.ineqlin.marginals) / length_K.numpy()
        enclosed = check_certificate(head, rows_of(head, torch.tensor([i])), active_K, a_K)
        if enclosed is not None:
            return enclosed
        found, over_M = check_witness(head, i, torch.from_numpy(solved.x[:-1]) * box_D)
        if found is not None:
            return found
        new = violated(over_M, barred_M, active_K, width + 1)
        if len(new) == 0:
            return None
        active_K = torch.cat([active_K, new])
    return None
