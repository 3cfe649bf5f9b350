"""The linear program of one row, by constraint generation with HiGHS.

    maximise t  subject to  (w_i - w_j).x + b_i - b_j >= t for j in the active set, |x_k| <= box

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

from wideneck.audits.argmaxable.head import Head
from wideneck.audits.argmaxable.verdict import Proof, check_certificate, check_witness, violated

_ROUNDS = 30


def solve_program(head: Head, i: int, active_K: Tensor, deadline: float) -> Proof | None:
    """A proof for row i, or None within the limits. `active_K` holds the rows to start with."""
    width = len(head.mean)
    box = 1.0 if head.box is None else head.box
    unit = head.radius * box + head.bias_radius
    goal = np.zeros(width + 1)
    goal[-1] = -1
    bounds = [(-1, 1)] * width + [(None, None)]
    for _ in range(_ROUNDS):
        if time.monotonic() > deadline:
            return None
        # With x / box as the unknown and this unit, no coefficient exceeds 2.
        apart_KD = (head.rows(torch.tensor([i])) - head.rows(active_K)) * (box / unit)
        bias_K = (head.bias[i] - head.bias[active_K]) / unit
        solved = linprog(
            goal,
            A_ub=np.hstack([-apart_KD.numpy(), np.ones((len(active_K), 1))]),
            b_ub=bias_K.numpy(),
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
        enclosed = check_certificate(head, i, active_K, -np.asarray(solved.ineqlin.marginals))
        if enclosed is not None:
            return enclosed
        found, lead_M = check_witness(head, i, torch.from_numpy(solved.x[:-1]) * box)
        if found is not None:
            return found
        new = violated(lead_M, active_K, width + 1)
        if len(new) == 0:
            return None
        active_K = torch.cat([active_K, new])
    return None
