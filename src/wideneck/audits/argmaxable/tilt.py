"""Many rows that lie together, each against the same K points at once: mixture or separable.

For row i with unit differences d_j = (u_j - u_i) / |u_j - u_i|, minimise log sum_j exp(l . d_j)
over l in R^D. If some weights a > 0 give sum_j a_j d_j = 0, the minimum is attained, and there
the weights p_j = exp(l . d_j) / sum are such: a certificate. Otherwise l runs away along a
direction with l . d_j < 0 for every j, and l is a state at which row i leads all K points.

The weights need not be optimal. With H = sum_j p_j d_j d_j^T and H y = sum_j p_j d_j, the
weights p_j (1 - d_j . y) leave nothing over, so a row is done as soon as they are positive.

Newton's method, its linear systems by conjugate gradients: all rows share their points, so each
step is two float32 products N x K x D. What remains is taken off in float64 by the same system.
"""

import copy
from typing import NamedTuple

import torch
from torch import Tensor

from wideneck.audits.argmaxable.self_tests import ieee_float32

_STEPS = 100
_SETTLED = 6
"""Steps for which a row has led all points before it leaves: its margin grows meanwhile."""
_MULTIPLES = (1.0, 2.0, 4.0, 8.0)
_INNER = 6
"""Conjugate gradients a Newton step: enough for a direction."""
_FINISH = 40
_PAUSE = 8
"""Steps before weights that were not yet good enough are tried again: that costs as much."""
_REFINEMENTS = 3


class Tilted(NamedTuple):
    """What was found of N rows: weights of some, separating states of others."""

    mixed: Tensor
    """(A,): their numbers among the points."""
    weights: Tensor
    """(A, K) in float64, none negative, sum 1."""
    apart: Tensor
    """(B,): likewise."""
    states: Tensor
    """(B, D), in the coordinates of the points."""


class _Batch:
    """Rows at work: their log-weights and what products of all of them need."""

    def __init__(self, points_KD: Tensor, own_N: Tensor):
        self.points, self.own = points_KD, own_N
        self.rows = points_KD[own_N]
        square_K = points_KD.square().sum(1)
        apart_NK = square_K[own_N, None] + square_K - 2 * (self.rows @ points_KD.T)
        # Float32 does not tell the distance of two rows this close: any length will do.
        apart_NK = torch.maximum(apart_NK, 1e-6 * (square_K[own_N, None] + square_K))
        self.inverse = (points_KD.shape[1] / apart_NK.clamp_min(1e-30)).sqrt()
        self.inverse[torch.arange(len(own_N), device=own_N.device), own_N] = 0
        self.tilt = torch.zeros_like(self.rows)
        self.logits = torch.zeros_like(self.inverse)
        self.leading = torch.zeros_like(own_N)
        self.pause = torch.zeros_like(own_N)

    def part(self, which: Tensor) -> "_Batch":
        part = copy.copy(self)
        part.keep(which)
        return part

    def keep(self, which: Tensor) -> None:
        for name in ("own", "rows", "inverse", "tilt", "logits", "leading", "pause"):
            setattr(self, name, getattr(self, name)[which])

    def weights(self) -> Tensor:
        logits_NK = self.logits.clone()
        at = torch.arange(len(self.own), device=self.own.device)
        logits_NK[at, self.own] = -torch.inf
        return logits_NK.softmax(1)

    def along(self, y_ND: Tensor) -> Tensor:
        """d_j . y, (N, K)."""
        return (y_ND @ self.points.T - (y_ND * self.rows).sum(1, keepdim=True)) * self.inverse

    def mean(self, a_NK: Tensor) -> Tensor:
        """sum_j a_j d_j, (N, D)."""
        a_NK = a_NK * self.inverse
        return a_NK @ self.points - a_NK.sum(1, keepdim=True) * self.rows

    def solve(self, p_NK: Tensor, g_ND: Tensor, steps: int) -> Tensor:
        """H y = g by conjugate gradients."""
        y_ND = torch.zeros_like(g_ND)
        left_ND, way_ND = g_ND.clone(), g_ND.clone()
        square_N1 = left_ND.square().sum(1, keepdim=True)
        for _ in range(steps):
            image_ND = self.mean(p_NK * self.along(way_ND))
            length_N1 = square_N1 / (way_ND * image_ND).sum(1, keepdim=True).clamp_min(1e-30)
            y_ND += length_N1 * way_ND
            left_ND -= length_N1 * image_ND
            before_N1, square_N1 = square_N1, left_ND.square().sum(1, keepdim=True)
            way_ND = left_ND + square_N1 / before_N1.clamp_min(1e-30) * way_ND
        return y_ND


def tilt(points_KD: Tensor, own_N: Tensor) -> Tilted:
    """Rows `own_N` of the points (K, D), float64, against all the others."""
    with ieee_float32():
        batch = _Batch(points_KD.float(), own_N)
        mixed, weights, apart, states = [], [], [], []
        for _ in range(_STEPS):
            p_NK = batch.weights()
            g_ND = batch.mean(p_NK)
            y_ND = batch.solve(p_NK, g_ND, _INNER)
            along_NK = batch.along(y_ND)
            done_N = (along_NK.amax(1) < 1) & (batch.pause == 0)
            batch.pause = (batch.pause - 1).clamp_min(0)
            if done_N.any():
                a_NK, ok_N = _finish(batch.part(done_N), points_KD, p_NK[done_N])
                batch.pause[done_N] = _PAUSE
                mixed.append(batch.own[done_N][ok_N])
                weights.append(a_NK[ok_N])
                left_N = ~done_N
                left_N[done_N.nonzero().flatten()[~ok_N]] = True
                batch.keep(left_N)
                y_ND, along_NK, p_NK = y_ND[left_N], along_NK[left_N], p_NK[left_N]
                if len(batch.own) == 0:
                    break
            step_N1 = _best_step(p_NK, along_NK)
            batch.tilt -= step_N1 * y_ND
            batch.logits -= step_N1 * along_NK
            leads_N = batch.logits.masked_fill(batch.inverse == 0, -torch.inf).amax(1) < 0
            batch.leading = torch.where(leads_N, batch.leading + 1, 0)
            gone_N = batch.leading == _SETTLED
            if gone_N.any():
                apart.append(batch.own[gone_N])
                states.append(batch.tilt[gone_N].double())
                batch.keep(~gone_N)
            if len(batch.own) == 0:
                break
    return Tilted(
        mixed=torch.cat([*mixed, own_N[:0]]),
        weights=torch.cat([*weights, points_KD.new_zeros(0, len(points_KD))]),
        apart=torch.cat([*apart, own_N[:0]]),
        states=torch.cat([*states, points_KD[:0]]),
    )


def _best_step(p_NK: Tensor, along_NK: Tensor) -> Tensor:
    """(N, 1): of a careful step, which certainly descends, and its multiples the best."""
    centred_NK = along_NK - (p_NK * along_NK).sum(1, keepdim=True)
    reach_N1 = centred_NK.abs().amax(1, keepdim=True)
    careful_N1 = torch.log1p(reach_N1) / reach_N1.clamp_min(1e-30)
    values = [(p_NK * (-m * careful_N1 * centred_NK).exp()).sum(1) for m in _MULTIPLES]
    best_N = torch.stack(values).nan_to_num(torch.inf, torch.inf).argmin(0)
    return careful_N1 * torch.tensor(_MULTIPLES).to(best_N.device)[best_N, None]


def _finish(part: _Batch, points_KD: Tensor, p_NK: Tensor) -> tuple[Tensor, Tensor]:
    """Weights that leave nothing over in float64, and where they stay positive."""
    inverse_NK, rows_ND = part.inverse.double(), points_KD[part.own]
    a_NK = p_NK.double() * inverse_NK
    for _ in range(_REFINEMENTS):
        left_ND = a_NK @ points_KD - a_NK.sum(1, keepdim=True) * rows_ND
        scale_N1 = left_ND.norm(dim=1, keepdim=True).clamp_min(1e-300)
        y_ND = part.solve(p_NK, (left_ND / scale_N1).float(), _FINISH)
        a_NK -= (p_NK * part.along(y_ND)).double() * inverse_NK * scale_N1
        if not (a_NK >= 0).all(1).any():
            break
    ok_N = (a_NK >= 0).all(1)
    return a_NK.clamp_min(0) / a_NK.clamp_min(0).sum(1, keepdim=True), ok_N
