"""How far a row of attention weights moves when its scores do.

The Jacobian dp/dl of a softmax over T at the weights p is (diag(p) - p p^T) / T; that of sparsemax
and alpha-entmax is diag(s) - s s^T / sum(s) with s = p^(2 - alpha) on the support.  Both are a
factor times J = diag(s) - c s s^T, whose norms are exact here: Frobenius in one pass, spectral as
the largest root lambda of 1 = c sum_i s_i^2 / (s_i - lambda), between the two largest s.

Mudarisov et al. 2025 (arXiv:2508.17821), Corollary 3, has ||dp/dl||_2 <= min(1 / (4 T), sqrt 2).
That is no bound of the spectral norm: two equal scores reach 1 / (2 T).  1 / (4 T) bounds the
entries of the Jacobian, and sqrt 2 bounds the change of p, not its ratio to the step.
"""

import math
from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from wideneck.audits.attention.selection import BLOCK_ELEMENTS

MAX_ITERATIONS = 100
"""Never reached in practice: convergence is quadratic, and 4 iterations were the most seen."""


def paper_bound(temperature: float) -> float:
    """min(1 / (4 T), sqrt 2), Corollary 3 as printed; no bound of the spectral norm."""
    return min(1 / (4 * temperature), math.sqrt(2))


def spectral_bound(temperature: float) -> float:
    """1 / (2 T): the largest spectral norm of the Jacobian of a softmax, at two equal scores."""
    return 1 / (2 * temperature)


def finite_difference_bound(temperature: float, step: float) -> float:
    """min(1 / (2 T), sqrt(2) / step): no two rows of weights are farther apart than sqrt 2."""
    return min(spectral_bound(temperature), math.sqrt(2) / step)


@torch.no_grad()
def spectral_norm(s: Tensor, c: Tensor | float) -> Tensor:
    """Largest eigenvalue of diag(s) - c s s^T: (..., K) to (...), float64.

    Exact to rounding of float64, also for near ties and where one entry has nearly all the weight,
    as long as what counts is above 1e-140 of the largest entry.  Cost: some 30 passes over the
    part of `s` that is not 0, a block at a time.

    Args:
        s: (..., K) >= 0; a row of zeros has norm 0.
        c: number or (...) >= 0, with c sum(s) <= 1: 1 for the weights of a softmax, also of one
            that sums to less than 1; 1 / sum(s) for sparsemax and entmax.
    """
    return _by_blocks(_spectral, s, c)


@torch.no_grad()
def frobenius_norm(s: Tensor, c: Tensor | float) -> Tensor:
    """Frobenius norm of diag(s) - c s s^T: (..., K) to (...), float64; arguments as above."""
    return _by_blocks(_frobenius, s, c)


@torch.no_grad()
def finite_difference(
    scores: Tensor,
    visible: Tensor,
    temperature: float,
    step: float,
    generator: torch.Generator,
) -> Tensor:
    """||softmax((l + step v) / T) - softmax(l / T)||_2 / step, v a random unit vector; float64.

    Algorithm 5 of Mudarisov et al.  v is uniform on the sphere of the visible keys, so for small
    steps the mean square is ||J||_F^2 / K, K the number of visible keys: a typical direction, and
    far below the spectral norm.  0 where no key is visible.  In float64, as the weights of a small
    step differ by less than float32 holds.

    Args:
        scores: (..., Q, K) l, before the division by T; the model's own T is sqrt(d) if these are
            q.k.  Anything where not visible.
        visible: (Q, K) or (..., Q, K) bool.
        temperature: T > 0.
        step: > 0, in the unit of the scores.
        generator: for v, on the CPU, so that a seed gives the same on every device.
    """
    num_keys = scores.shape[-1]
    visible = visible.expand(scores.shape).reshape(-1, num_keys)
    rows = scores.reshape(-1, num_keys)
    found = torch.zeros(len(rows), dtype=torch.float64, device=rows.device)
    for block, keys in _blocks(visible):
        hidden = ~visible[block, keys]
        part = rows[block, keys].to(torch.float64, copy=True).masked_fill_(hidden, -torch.inf)
        part[hidden.all(1)] = 0  # no key visible: v is 0, and the difference too
        v = torch.randn(part.shape, generator=generator).to(part.device).double()
        v.masked_fill_(hidden, 0)
        length = v.norm(dim=1, keepdim=True)
        before = (part / temperature).softmax(1)
        after = part.addcmul_(v, step / length.where(length > 0, 1)).div_(temperature).softmax(1)
        found[block] = after.sub_(before).norm(dim=1) / step
    return found.view(scores.shape[:-1])


def _by_blocks(norm: Callable[[Tensor, Tensor], Tensor], s: Tensor, c: Tensor | float) -> Tensor:
    shape, num_keys = s.shape[:-1], s.shape[-1]
    c = torch.as_tensor(c, dtype=torch.float64, device=s.device).expand(shape).reshape(-1)
    s = s.reshape(-1, num_keys)
    found = torch.zeros(len(s), dtype=torch.float64, device=s.device)
    for block, keys in _blocks(s):
        found[block] = norm(s[block, keys].to(torch.float64, copy=True), c[block])
    return found.view(shape)


def _blocks(rows: Tensor) -> Iterator[tuple[slice, slice]]:
    """Blocks of rows (R, K) with the columns up to the last that is not 0; none if all are."""
    num_rows = max(1, BLOCK_ELEMENTS // max(1, rows.shape[1]))
    for start in range(0, len(rows), num_rows):
        block = slice(start, min(start + num_rows, len(rows)))
        used = rows[block].any(0).nonzero()
        if len(used):
            yield block, slice(0, int(used[-1]) + 1)


def _frobenius(s: Tensor, c: Tensor) -> Tensor:
    """||J||_F^2 = sum_i s_i^2 (1 - c s_i)^2 + c^2 sum_(i != j) s_i^2 s_j^2.

    Without subtracting what is nearly equal where one entry has nearly all the weight.
    Overwrites `s`.
    """
    diagonal = torch.mul(s, -c[:, None]).add_(1).mul_(s).square_().sum(1)
    squares = s.square_()
    largest, at = squares.max(1)
    rest = squares.scatter_(1, at[:, None], 0)
    rest_sum = rest.sum(1)
    products = 2 * largest * rest_sum + rest_sum.square() - rest.square().sum(1)
    return (diagonal + c.square() * products.clamp_min_(0)).sqrt_()


def _spectral(s: Tensor, c: Tensor) -> Tensor:
    """The root of the secular equation of each row; overwrites `s`.

    With the largest entry 1, the second b, and w(y) = c sum_(i > 1) s_i^2 / (y + b - s_i), the root
    is b + y with (1 - b - y) (1 + w(y)) = c.  Each iteration replaces w by A / y + B with the same
    value and slope at the last y, which leaves a quadratic equation.  As a function of 1 / y, w is
    concave, so the replacement is above w and its root above the root: from the first iteration on
    the iterates fall, quadratically (Bunch, Nielsen & Sorensen 1978).
    """
    top, at = s.topk(min(2, s.shape[1]), dim=1)
    largest = top[:, 0]
    unit = largest.where(largest > 0, 1)
    second = top[:, -1] / unit if s.shape[1] > 1 else torch.zeros_like(unit)
    c = c * unit
    gap, defect = (unit - second * unit) / unit, 1 - c
    rest = s.scatter_(1, at[:, :1], 0).div_(unit[:, None])
    shift = second[:, None] - rest  # b - s_i
    work = torch.empty_like(rest)
    tiny = 1e-140  # for y = 0, at ties: 1 / y^2 is finite

    # Start: the tail where it would weigh least. Below the root, and near it for most rows.
    tail = rest.square().sum(1) - second.square()
    y = _root(c * second.square(), c * tail.clamp_min(0), gap, second, defect).clamp_min(tiny)
    for _ in range(MAX_ITERATIONS):
        torch.add(shift, y[:, None], out=work).reciprocal_().mul_(rest)
        slope = c * torch.linalg.vecdot(work, work)
        value = c * torch.linalg.vecdot(work, rest)
        pole = slope * y.square()
        new = _root(pole, value - pole / y, gap, second, defect).clamp_min(tiny)
        moved = (new - y).abs()
        y = new
        if bool((moved <= 1e-15 * (second + y)).all()):
            break
    return largest * (second + y.where(y > tiny, 0))


def _root(pole: Tensor, rest: Tensor, gap: Tensor, second: Tensor, defect: Tensor) -> Tensor:
    """The root y >= 0 of (gap - y) (1 + rest + pole / y) = c; gap = 1 - b, defect = 1 - c."""
    scale = 1 + rest
    # pole + c - gap (1 + rest), whose parts cancel where one entry has nearly all the weight.
    p = pole + second - rest * gap - defect
    root = (p.square() + 4 * scale * gap * pole).sqrt()
    return torch.where(
        p > 0, 2 * gap * pole / (p + root).clamp_min(1e-300), (root - p) / (2 * scale)
    )
