"""Entmax of any alpha >= 1 on rows of scores: the threshold search, in blocks that stay in cache.

With c = alpha - 1, p_i = [1 + c (l_i - t)]_+^(1/c), which is exp(l_i - t) as c goes to 0, and t is
such that sum_i p_i = 1.  For c <= 1 the norm (sum_i p_i)^c is convex and falls in t, so Newton
steps from t = max l, where the sum is at least 1, never overshoot; they are exact for a softmax and
for equal scores.  For c > 1 it is neither, and bisection does it.

Each row stops by itself: what one row holds never moves another by a bit.
"""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor

BLOCK = 2**17
"""Scores a thread works on at a time: with two buffers, 1.5 MB in float32."""

MAX_STEPS = 64
"""Newton needs 3 to 12 steps; more would mean that rounding makes two thresholds alternate."""


def entmax_rows(scores: Tensor, visible: Tensor | None, alpha: Tensor) -> Tensor:
    """Weights of rows.

    Args:
        scores: (N, K) in float32 or float64.
        visible: (N, K), True where a key counts; None for all.
        alpha: (N, 1), at least 1, or a single number (1, 1).

    Returns:
        (N, K); rows without a visible key are 0.
    """
    weights = torch.empty_like(scores, memory_format=torch.contiguous_format)
    rows = max(1, BLOCK * torch.get_num_threads() // max(1, scores.shape[1]))
    work = torch.empty_like(weights[:rows])
    # A threshold is as exact as the scores around it; c = 0 is the limit of c = eps.
    c = (alpha - 1).to(scores.dtype).clamp(min=torch.finfo(scores.dtype).eps)
    curve = _curve(c)
    search = _bisect if bool((c > 1).any()) else _newton
    for start in range(0, len(scores), rows):
        block = slice(start, start + rows)
        below = _below_top(scores[block], None if visible is None else visible[block])
        search(
            curve,
            c if len(c) == 1 else c[block],
            below,
            weights[block],
            work[: len(below)],
        )
    return weights


def _below_top(scores: Tensor, visible: Tensor | None) -> Tensor:
    """Scores less the largest visible one of their row; -inf where not visible."""
    if visible is None:
        return scores - scores.amax(1, keepdim=True)
    masked = scores.masked_fill(~visible, -math.inf)
    top = masked.amax(1, keepdim=True)
    return masked.sub_(top.masked_fill_(top == -math.inf, 0))


def _newton(curve: "_Curve", c: Tensor, below: Tensor, weights: Tensor, work: Tensor) -> None:
    threshold = torch.full_like(below[:, :1], curve.start)
    eps = torch.finfo(below.dtype).eps
    for _ in range(MAX_STEPS):
        total, slope = curve.sums(c, below, threshold, weights, work)
        # (1 - total^-c) / c * total / slope: Newton's step for total^c, which is log total at c = 0
        step = torch.expm1(-c * total.log()).div_(-c).mul_(total).div_(slope)
        after = threshold + step
        # Both False for the NaN of a row with no visible key.
        moving = (total > 1 + 2 * eps) & (after > threshold)
        if not bool(moving.any()):
            break
        threshold = torch.where(moving, after, threshold)
    weights.div_(total.clamp_(min=torch.finfo(below.dtype).tiny))


def _bisect(curve: "_Curve", c: Tensor, below: Tensor, weights: Tensor, work: Tensor) -> None:
    """Between t = max, where the sum is at least 1, and where K equal weights sum to 1."""
    low = torch.full_like(below[:, :1], curve.start)
    high = low + torch.expm1(-c * math.log(below.shape[1])).div(-c)
    for _ in range(torch.finfo(below.dtype).bits - 4):
        middle = (low + high) / 2
        total, _ = curve.sums(c, below, middle, weights, work)
        low, high = torch.where(total >= 1, middle, low), torch.where(total >= 1, high, middle)
    total, _ = curve.sums(c, below, low, weights, work)
    weights.div_(total.clamp_(min=torch.finfo(below.dtype).tiny))


class _Curve(NamedTuple):
    """How the weights of a row follow from its threshold."""

    start: float
    """The threshold at t = max.  Where c is known it is t - 1 / c, so that at the end it lies among
    the scores and not at a distance that costs digits."""
    sums: Callable[[Tensor, Tensor, Tensor, Tensor, Tensor], tuple[Tensor, Tensor]]
    """(c, scores below the top, threshold, p to fill, scratch) -> sums of p and of p^(1 - c)."""


def _curve(c: Tensor) -> _Curve:
    if c.numel() == 1 and c.item() == 1:
        return _Curve(-1.0, _lines)
    if c.numel() == 1 and c.item() == 0.5:
        return _Curve(-2.0, _squares)
    return _Curve(0.0, _powers)


def _lines(_c: Tensor, below: Tensor, threshold: Tensor, weights: Tensor, work: Tensor) -> Any:
    torch.sub(below, threshold, out=weights).clamp_(min=0)
    torch.sign(weights, out=work)
    return weights.sum(1, keepdim=True), work.sum(1, keepdim=True)


def _squares(_c: Tensor, below: Tensor, threshold: Tensor, weights: Tensor, work: Tensor) -> Any:
    torch.sub(below, threshold, out=work).mul_(0.5).clamp_(min=0)
    torch.square(work, out=weights)
    return weights.sum(1, keepdim=True), work.sum(1, keepdim=True)


def _powers(c: Tensor, below: Tensor, threshold: Tensor, weights: Tensor, work: Tensor) -> Any:
    torch.sub(below, threshold, out=work).mul_(c).clamp_(min=-1).log1p_()
    torch.mul(work, 1 / c, out=weights).exp_()
    # Outside the support the logarithm is -inf, which times 0 would be NaN at c = 1.
    work.mul_(((1 - c) / c).clamp(min=torch.finfo(c.dtype).tiny)).exp_()
    return weights.sum(1, keepdim=True), work.sum(1, keepdim=True)


def product_rows(weights: Tensor, vector: Tensor, alpha: Tensor) -> Tensor:
    """(diag(s) - s s^T / sum s) v for each row, s = p^(2 - alpha) on the support.

    Args:
        weights: p (N, K).
        vector: v (N, K).
        alpha: (N, 1), or a single number (1, 1).

    Cost: four passes, in blocks that stay in cache.
    """
    found = torch.empty_like(weights)
    rows = max(1, BLOCK * torch.get_num_threads() // max(1, weights.shape[1]))
    work = torch.empty_like(found[:rows])
    power = 2 - alpha.to(weights.dtype)
    for start in range(0, len(weights), rows):
        block = slice(start, start + rows)
        p, result = weights[block], found[block]
        s = _slopes(p, power if len(power) == 1 else power[block], work[: len(p)])
        total = s.sum(1, keepdim=True)
        torch.mul(s, vector[block], out=result)
        mean = result.sum(1, keepdim=True).div_(total.masked_fill_(total == 0, 1))
        result.addcmul_(s, mean, value=-1)
    return found


def _slopes(p: Tensor, power: Tensor, out: Tensor) -> Tensor:
    """p^power on the support, 0 elsewhere."""
    if power.numel() == 1 and power.item() == 0:
        return torch.sign(p, out=out)
    if power.numel() == 1 and power.item() == 0.5:
        return torch.sqrt(p, out=out)
    # 0^power is 0 for a power above 0, but 1 at 0 and infinite below.
    return torch.pow(p, power, out=out).masked_fill_(p == 0, 0)
