"""dp/dl of every normalizer: its closed form, and the largest norm it can have.

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

from wideneck.attention import config as c
from wideneck.attention.entmax import slopes
from wideneck.attention.weights import fixed_alpha, scale


@dataclass(frozen=True)
class Jacobian:
    """dp/dl = factor (diag(diagonal) - rank_one diagonal diagonal^T), row by row."""

    diagonal: Tensor
    """(..., K), at least 0."""
    rank_one: Tensor
    """(...)."""
    factor: Tensor
    """(...), at least 0: a negative scale has the norms of its size."""


def jacobian_of(weights: Tensor, n: Tensor, config: c.Normalizer) -> Jacobian | None:
    """The closed form at given weights; None for the stick-breaking.

    Args:
        weights: (..., K), as `weights_of` gives them.
        n: (..., 1), the visible keys of each row.
        config: the normalizer; its tensors broadcast against (..., 1).
    """
    one = torch.ones_like(weights[..., 0])
    factor = torch.as_tensor(scale(config, n), dtype=weights.dtype, device=weights.device).abs()
    factor = factor.expand(*weights.shape[:-1], 1)[..., 0]
    if isinstance(config, c.Sigmoid):
        return Jacobian(weights * (1 - weights), 0 * one, one)
    if isinstance(config, c.ReLU):
        return Jacobian((weights > 0) / n.clamp(min=1), 0 * one, one)
    if isinstance(config, c.StickBreaking):
        return None
    alpha = _alpha(config)
    if alpha is None:
        return Jacobian(weights, one, factor)
    s = slopes(weights, torch.as_tensor(alpha, dtype=weights.dtype, device=weights.device))
    total = s.sum(-1)
    return Jacobian(s, torch.where(total > 0, 1 / total, 0), factor)


def largest_norm(config: c.Normalizer, n: int) -> float:
    """The spectral norm of dp/dl that no row of n visible keys exceeds; inf where there is none.

    Softmax-like: 1/2, at two equal scores far above the rest.  Entmax with 1 < alpha <= 2: 1, as
    dp/dl is at most diag(s) and s_i = p_i^(2 - alpha) at most 1.  Two keys reach 2^(alpha - 2)
    only, but one large weight above many small ones comes near 1.  Above alpha = 2 small weights
    have steep slopes without bound.  Stick-breaking: rows of |dp/dl| sum to at most 1/e and
    columns to at most 1/2, so the norm is at most their geometric mean.  Where numbers are
    tensors it is the largest over their entries.
    """
    if isinstance(config, c.Sigmoid):
        return 0.25
    if isinstance(config, c.ReLU):
        return 1 / max(n, 1)
    if isinstance(config, c.StickBreaking):
        return 1 / math.sqrt(2 * math.e)
    factor = scale(config, torch.tensor([float(n)], dtype=torch.float64))
    factor, alpha = (
        torch.as_tensor(1.0 if x is None else x, dtype=torch.float64, device="cpu").detach()
        for x in (factor, _alpha(config))
    )
    steep = torch.where(alpha == 1, 0.5, torch.where(alpha <= 2, 1.0, math.inf))
    return float((factor.abs() * steep).max())


def _alpha(config: c.Normalizer) -> Any:
    """Of the entmax family."""
    fixed = fixed_alpha(config)
    return getattr(config, "alpha", None) if fixed is None else fixed
