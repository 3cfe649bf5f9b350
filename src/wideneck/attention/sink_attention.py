"""Attention with one more score per head, whose weight is thrown away, at the price of a softmax.

With s the scores, L = log sum_j exp(s_j) and b the score of the sink, all weights shrink by
exp(L - L'), L' = log(exp(L) + exp(b)): the output of the plain kernel has to be scaled, no more.
In the backward pass p' = exp(s - L'), and as the sink's value is 0 the row term of the softmax's
derivative is dout . out': the kernel's own backward, given out' and L' for out and L, is exact.
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

from wideneck.attention.sink_kernels import additive, kernel_of
from wideneck.errors import WideneckError
from wideneck.functional.numbers import fits


def sink_attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    logit: Tensor | float,
    mask: Tensor | None = None,
    *,
    is_causal: bool = False,
    scaling: float | None = None,
    dropout: float = 0.0,
) -> Tensor:
    """Attention whose softmax has one more score, with the value 0.

    Args:
        query: (B, H, Q, D).
        key: (B, G, K, D), H a multiple of G.
        value: (B, G, K, Dv).
        logit: the sink's score: a number, or what broadcasts to (B, H, Q, 1), such as (H, 1, 1);
            differentiable once.
        mask: boolean, True where a key is visible, broadcastable to (B, H, Q, K).
        is_causal: query i sees the keys up to i; not together with a mask.
        scaling: of the scores, not of the logit; None for 1 / sqrt(D).
        dropout: share of the weights that become 0.

    Returns:
        (B, H, Q, Dv) like the query.  Queries without a visible key give zeros.

    Raises:
        WideneckError: another number of logits.

    Cost: that of PyTorch's attention and one pass over the output; with dropout, and where no
    kernel gives its log-normalizer, that of one more key and a float mask (1 or B, H, Q, K + 1).
    """
    logits = _by_row(logit, query)
    # Kernels take it for granted, unasked, that the numbers of a row lie side by side.
    query, key, value = (x if x.stride(-1) == 1 else x.contiguous() for x in (query, key, value))
    kernel = None if dropout else kernel_of(query, key, value, mask)
    if kernel is None:
        return _one_more_key(query, key, value, logits, mask, is_causal, scaling, dropout)
    if not kernel.takes_groups:
        key, value = (x.repeat_interleave(query.shape[1] // x.shape[1], 1) for x in (key, value))
    return _Sink.apply(kernel, query, key, value, logits, mask, is_causal, scaling)


def _by_row(logit: Tensor | float, query: Tensor) -> Tensor:
    """(..., H, Q or 1) of what broadcasts to (B, H, Q, 1), or is one number, or one a head."""
    logits, num_heads = torch.as_tensor(logit, device=query.device), query.shape[1]
    if logits.ndim < 3 and logits.numel() in (1, num_heads):
        return logits.reshape(-1).expand(num_heads)[:, None]
    if logits.ndim < 3 or not fits(logits.shape, torch.Size((*query.shape[:3], 1))):
        raise WideneckError(
            f"A sink has one logit for each of {num_heads} heads, got {logits.numel()}."
        )
    return logits.expand(*logits.shape[:-3], num_heads, *logits.shape[-2:])[..., 0]


class _Sink(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, kernel, query, key, value, logits, mask, is_causal, scaling) -> Any:
        out, lse, more = kernel.forward(query, key, value, mask, is_causal, scaling)
        dtype, logits = logits.dtype, logits.to(lse.dtype)
        # Rows without a visible key have out = 0 here, and stay so.
        with_sink = torch.logaddexp(lse, logits)
        rescale = torch.sigmoid(lse - logits)[..., None]
        # Compiled by torch 2.11, what is saved of an output that is changed in place is what it was
        # before, and the sink's gradient is wrong; a compiler makes either form the same.
        if torch.compiler.is_compiling():
            out = (out * rescale).to(out.dtype)
        else:
            out = out.mul_(rescale)
        ctx.save_for_backward(query, key, value, logits, mask, out, with_sink)
        ctx.rest = (kernel, more, is_causal, scaling, dtype)
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> Any:  # pyrefly: ignore[bad-override]
        query, key, value, logits, mask, out, lse = ctx.saved_tensors
        kernel, more, is_causal, scaling, dtype = ctx.rest
        given = (grad, query, key, value, out, lse, more, mask, is_causal, scaling)
        grads = kernel.backward(*given)
        to_logits = None
        if ctx.needs_input_grad[4]:
            # (B, Q, H, ...) is how kernel and models lie in memory: 10 times as fast as (B, H, Q).
            grad, out = (x.transpose(1, 2) for x in (grad, out))
            row_terms = (grad.to(lse.dtype) * out.to(lse.dtype)).sum(-1).transpose(1, 2)
            share = torch.exp(logits - lse)
            to_logits = -(share * row_terms).sum_to_size(logits.shape).to(dtype)
        return None, *grads, to_logits, None, None, None


def _one_more_key(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    logits: Tensor,
    mask: Tensor | None,
    is_causal: bool,
    scaling: float | None,
    dropout: float,
) -> Tensor:
    """A key and a value of zeros, whose score is what a float mask adds to it."""
    groups = query.shape[1] // key.shape[1]
    key, value = (F.pad(x, (0, 0, 0, 1)).repeat_interleave(groups, 1) for x in (key, value))
    shape = (1, 1, query.shape[2], key.shape[2] - 1)
    if mask is None:
        mask = torch.ones(shape, dtype=torch.bool, device=query.device)
        mask = mask.tril() if is_causal else mask
    rows = additive(mask, query.dtype)
    column = logits.to(query.dtype)[..., None]
    while column.ndim < 4:
        column = column[None]
    rows = rows.expand(max(len(rows), len(column)), query.shape[1], query.shape[2], shape[-1])
    return F.scaled_dot_product_attention(
        query,
        key,
        value,
        attn_mask=torch.cat([rows, column.expand(len(rows), -1, query.shape[2], 1)], -1),
        dropout_p=dropout,
        scale=scaling,
    )
