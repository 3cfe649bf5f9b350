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

NEAR = 0.05
"""The c below which log(1 + c y) / c needs care: there one rounding of 1 + c y is 20 of y."""

MAX_STEPS = 64
"""Newton needs 3 to 12 steps; more would mean that rounding makes two thresholds alternate."""


def entmax_rows(scores: Tensor, visible: Tensor | None, alpha: Tensor) -> Tensor:
    """Weights of rows.

    Args:
        scores: (N, K) in float32 or float64.
        visible: (N, K), True where a key counts; None for all.
        alpha: (N, 1), at least 1, or a single number (1, 1).

    Returns:
        (N, K); rows without a visible key are 0, rows of an alpha below 1 NaN.
    """
    weights = torch.empty_like(scores, memory_format=torch.contiguous_format)
    rows = max(1, BLOCK * torch.get_num_threads() // max(1, scores.shape[1]))
    work = torch.empty_like(weights[:rows])
    # A threshold is as exact as the scores around it; c = 0 is the limit of c = eps.
    c = (alpha - 1).to(scores.dtype).clamp(min=torch.finfo(scores.dtype).eps)
    c = c.masked_fill(alpha < 1, math.nan)  # not the entmax of another alpha in its place
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
    fill: Callable[[Tensor, Tensor, Tensor, Tensor, Tensor], None]
    """(c, scores below the top, threshold, p to fill, p^(1 - c) to fill)."""

    def sums(self, c: Tensor, below: Tensor, threshold: Tensor, *into: Tensor) -> Any:
        """The sums of p and of p^(1 - c) over each row."""
        self.fill(c, below, threshold, *into)
        return [filled.sum(1, keepdim=True) for filled in into]


def _curve(c: Tensor) -> _Curve:
    if c.numel() == 1 and c.item() == 1:
        return _Curve(-1.0, _lines)
    if c.numel() == 1 and c.item() == 0.5:
        return _Curve(-2.0, _squares)
    return _Curve(0.0, _near_softmax if bool((c < NEAR).any()) else _powers)


def _lines(_c: Tensor, below: Tensor, threshold: Tensor, weights: Tensor, work: Tensor) -> None:
    torch.sub(below, threshold, out=weights).clamp_(min=0)
    torch.sign(weights, out=work)


def _squares(_c: Tensor, below: Tensor, threshold: Tensor, weights: Tensor, work: Tensor) -> None:
    torch.sub(below, threshold, out=work).mul_(0.5).clamp_(min=0)
    torch.square(work, out=weights)


# MKL's log of 0 and its exp of what rounds to 0 take 20 to 200 times as long as others; log2 and
# exp2 of torch, which are not MKL's, do not mind.


def _powers(c: Tensor, below: Tensor, threshold: Tensor, weights: Tensor, work: Tensor) -> None:
    tiny = torch.finfo(c.dtype).tiny
    torch.sub(below, threshold, out=work).mul_(c).add_(1).clamp_(min=tiny)
    torch.log2(work, out=weights).mul_(1 / c).exp2_()
    if bool((c > 0.8).any()):  # below, tiny^(1 / c) is 0 by itself
        weights.masked_fill_(work <= tiny, 0)
    torch.div(weights, work, out=work)


def _near_softmax(
    c: Tensor, below: Tensor, threshold: Tensor, weights: Tensor, work: Tensor
) -> None:
    """As `_powers`, with log(1 + c y) where 1 + c y would lose y; half as fast."""
    torch.sub(below, threshold, out=work).mul_(c).clamp_(min=-1).log1p_().mul_(math.log2(math.e))
    torch.mul(work, 1 / c, out=weights).exp2_()
    # Outside the support the logarithm is -inf, which times 0 would be NaN at c = 1.
    work.mul_(((1 - c) / c).clamp(min=torch.finfo(c.dtype).tiny)).exp2_()


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
    torch.clamp(p, min=torch.finfo(p.dtype).tiny, out=out).log2_().mul_(power).exp2_()
    return out.masked_fill_(p == 0, 0)
