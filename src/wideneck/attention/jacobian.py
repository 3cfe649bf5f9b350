"""dp/dl of a normalizer: its closed form, and the largest norm it can have.

All but the stick-breaking are f (diag(s) - c s s^T), with s and f known from the weights:

    softmax of scaled scores    s = p                            c = 1             f the scale
    softmax1, sink              s = p, which sums to less than 1 c = 1             f = 1
    entmax                      s = p^(2 - alpha) on the support c = 1 / sum s     f the scale
    sigmoid, relu               s = dp / dl                      c = 0             f = 1
"""

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor


@dataclass(frozen=True)
class Jacobian:
    """dp/dl = factor (diag(diagonal) - rank_one diagonal diagonal^T), row by row."""

    diagonal: Tensor
    """(..., K), at least 0."""
    rank_one: Tensor
    """(...)."""
    factor: Tensor
    """(...), at least 0: a negative scale has the norms of its size."""


def of_each_key(diagonal: Tensor) -> Jacobian:
    """dp/dl where every key has its weight by itself."""
    one = torch.ones_like(diagonal[..., 0])
    return Jacobian(diagonal, 0 * one, one)


def of_entmax(weights: Tensor, n: Tensor, config: Any) -> Jacobian:
    """dp/dl of an `OfScaledScores`, whose alpha is None for a softmax."""
    from wideneck.attention.entmax import slopes

    factor = torch.as_tensor(config.factor(n), dtype=weights.dtype, device=weights.device).abs()
    factor = factor.expand(*weights.shape[:-1], 1)[..., 0]
    if config.alpha is None:
        return Jacobian(weights, torch.ones_like(weights[..., 0]), factor)
    s = slopes(weights, torch.as_tensor(config.alpha, dtype=weights.dtype, device=weights.device))
    total = s.sum(-1)
    return Jacobian(s, torch.where(total > 0, 1 / total, 0), factor)


def largest_of_entmax(config: Any, n: int) -> float:
    """1/2 of a softmax, at two equal scores far above the rest.

    With 1 < alpha <= 2 it is 1, as dp/dl is at most diag(s) and s_i = p_i^(2 - alpha) at most 1.
    Two keys reach 2^(alpha - 2) only, but one large weight above many small ones comes near 1.
    Above alpha = 2 small weights have steep slopes without bound.
    """
    factor, alpha = (
        torch.as_tensor(x, dtype=torch.float64, device="cpu").detach()
        for x in (
            config.factor(torch.tensor([float(n)], dtype=torch.float64)),
            1.0 if config.alpha is None else config.alpha,
        )
    )
    steep = torch.where(alpha == 1, 0.5, torch.where(alpha <= 2, 1.0, math.inf))
    return float((factor.abs() * steep).max())
