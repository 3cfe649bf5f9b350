"""Entmax as a differentiable function of scores and alpha, to any order.

With s_i = p_i^(2 - alpha) on the support and S = sum_i s_i, the derivatives of Peters et al. 2019
(section 4) and Correia et al. 2019 (proposition 1):

    dp / dl     = diag(s) - s s^T / S
    dp / dalpha = (p - s / S) / c^2 - (p log p + s / S H) / c,   c = alpha - 1, H entropy of p

The second is written without its division by c, which cancels near the softmax.  Both are made of
operations that PyTorch differentiates, so second derivatives are exact inside a support.
"""

from typing import Any

import torch
from torch import Tensor

from wideneck.attention.simplex import entmax_rows, product_rows


@torch.library.custom_op("wideneck::entmax_rows", mutates_args=())
def _rows(scores: Tensor, visible: Tensor | None, alpha: Tensor) -> Tensor:
    """The search, opaque to torch.compile: how many steps it takes depends on the scores."""
    num_keys = scores.shape[-1]
    if scores.numel() == 0:
        return torch.empty_like(scores, memory_format=torch.contiguous_format)
    weights = entmax_rows(
        scores.reshape(-1, num_keys),
        None if visible is None else visible.expand(scores.shape).reshape(-1, num_keys),
        _by_row(alpha, scores),
    )
    return weights.view(scores.shape)


@torch.library.custom_op("wideneck::entmax_product", mutates_args=())
def _product_op(weights: Tensor, alpha: Tensor, vector: Tensor) -> Tensor:
    """dp/dl times a vector, without a graph of its own."""
    num_keys = weights.shape[-1]
    found = product_rows(
        weights.reshape(-1, num_keys), vector.reshape(-1, num_keys), _by_row(alpha, weights)
    )
    return found.view(weights.shape)


@_rows.register_fake
@_product_op.register_fake
def _(first: Tensor, *_: Tensor | None) -> Tensor:
    return torch.empty_like(first, memory_format=torch.contiguous_format)


def _by_row(alpha: Tensor, rows: Tensor) -> Tensor:
    """(N, 1) for each of the N rows, or one number as it is."""
    return (alpha.expand(*rows.shape[:-1], 1) if alpha.numel() > 1 else alpha).reshape(-1, 1)


def entmax(scores: Tensor, visible: Tensor | None, alpha: Tensor) -> Tensor:
    """Weights of the last dimension.

    Args:
        scores: (..., K) in float32 or float64.
        visible: of as many dimensions, broadcastable to the scores; None for all.
        alpha: (..., 1), likewise.

    Cost: for alpha <= 2 some 4 to 12 passes over the scores, in cache; about 30 above.  Keeps the
    weights for the backward pass, nothing else of that size.
    """
    # Dynamo traces no function with a forward-mode rule of its own.
    function = _Entmax if torch.compiler.is_compiling() else _EntmaxForwardMode
    return function.apply(scores, visible, alpha)


class _Entmax(torch.autograd.Function):
    """In reverse mode."""

    @staticmethod
    def forward(scores: Tensor, visible: Tensor | None, alpha: Tensor) -> Tensor:
        return _rows(scores.contiguous(), visible, alpha)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple, output: Tensor) -> None:
        ctx.save_for_backward(output, inputs[2])
        ctx.save_for_forward(output, inputs[2])

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple:
        weights, alpha = ctx.saved_tensors
        (grad,) = grads
        by_scores = by_alpha = None
        if ctx.needs_input_grad[0]:
            # With grad mode on, somebody wants to differentiate again (or transforms functions).
            product = _product if torch.is_grad_enabled() else _product_op
            by_scores = product(weights, alpha, grad)
        if ctx.needs_input_grad[2]:
            by_alpha = (grad * _by_alpha(weights, alpha)).sum_to_size(alpha.shape)
        return by_scores, None, by_alpha

    @staticmethod
    def vmap(info: Any, in_dims: tuple, *inputs: Any) -> tuple[Tensor, int]:
        def first(x: Any, dim: int | None) -> Any:
            if x is None:
                return None
            return x[None] if dim is None else x.movedim(dim, 0)

        scores, visible, alpha = map(first, inputs, in_dims)
        scores = scores.expand(info.batch_size, *scores.shape[1:])
        return entmax(scores, visible, alpha), 0


class _EntmaxForwardMode(_Entmax):
    """In forward mode, too: dp/dl is symmetric, so the same product serves."""

    @staticmethod
    def jvp(ctx: Any, *tangents: Any) -> Tensor:
        weights, alpha = ctx.saved_tensors
        by_scores, _, by_alpha = tangents
        total = torch.zeros_like(weights)
        if by_scores is not None:
            total = total + _product(weights, alpha, by_scores)
        if by_alpha is not None:
            total = total + _by_alpha(weights, alpha) * by_alpha
        return total


def slopes(weights: Tensor, alpha: Tensor) -> Tensor:
    """The s of the derivatives, 0 outside the support: (..., K) and (..., 1) -> (..., K)."""
    # The inner `where` keeps the infinite slope of a power at 0 out of the derivative.
    inside = torch.where(weights > 0, weights, 1)
    return torch.where(weights > 0, inside ** (2 - alpha.to(weights.dtype)), 0)


def _product(weights: Tensor, alpha: Tensor, vector: Tensor) -> Tensor:
    """dp/dl times a vector."""
    s = slopes(weights, alpha)
    total = s.sum(-1, keepdim=True)
    mean = (s * vector).sum(-1, keepdim=True) / torch.where(total > 0, total, 1)
    return s * (vector - mean)


def _by_alpha(weights: Tensor, alpha: Tensor) -> Tensor:
    """dp/dalpha, (..., K).

    With L = log p, a = (1 - p^-c) / c, b = (a - L) / c and S = sum s it is
    p [b - E b + L E a - a E L] / S, E the mean over p: as c goes to 0, p (E L^2 - L^2) / 2.
    """
    c = alpha.to(weights.dtype) - 1
    inside = torch.where(weights > 0, weights, 1)
    log = inside.log()
    b = -log.square() * _remainder(c * log)
    a = log + c * b

    def mean(x: Tensor) -> Tensor:
        return (weights * x).sum(-1, keepdim=True)

    total = slopes(weights, alpha).sum(-1, keepdim=True)
    bracket = b - mean(b) + log * mean(a) - a * mean(log)
    return weights * bracket / torch.where(total > 0, total, 1)


def _remainder(x: Tensor) -> Tensor:
    """(exp(-x) - 1 + x) / x^2, which is 1/2 at 0."""
    small = x.abs() < 0.05
    safe = torch.where(small, 1, x)
    series = torch.zeros_like(x)
    for k in range(9, 1, -1):  # sum_k (-x)^(k - 2) / k!
        series = series * -x / (k + 1) + 1
    return torch.where(small, series / 2, (torch.expm1(-safe) + safe) / safe.square())
