"""Attention with one more score per head, whose weight is thrown away, at the price of a softmax.

With s the scores, L = log sum_j exp(s_j) and b the score of the sink, all weights shrink by
exp(L - L'), L' = log(exp(L) + exp(b)): the output of the plain kernel has to be scaled, no more.
In the backward pass p' = exp(s - L'), and as the sink's value is 0 the row term of the softmax's
derivative is dout . out': the kernel's own backward, given out' and L' for out and L, is exact.
"""

import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

from wideneck.errors import WideneckError

_forward = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu
_backward = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu_backward


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
        logit: the sink's score: a number, or (H, 1, 1); differentiable once.
        mask: boolean, True where a key is visible, broadcastable to (B, H, Q, K).
        is_causal: query i sees the keys up to i; not together with a mask.
        scaling: of the scores, not of the logit; None for 1 / sqrt(D).
        dropout: share of the weights that become 0.

    Returns:
        (B, H, Q, Dv) like the query.  Queries without a visible key give zeros.

    Raises:
        WideneckError: another number of logits.

    Cost: on a CPU, that of PyTorch's attention and one pass over the output; with dropout and
    elsewhere, that of one more key and a float mask (1 or B, H, Q, K + 1).
    """
    logits = torch.as_tensor(logit, device=query.device).reshape(-1)
    if logits.numel() not in (1, query.shape[1]):
        raise WideneckError(
            f"A sink has one logit for each of {query.shape[1]} heads, got {logits.numel()}."
        )
    logits = logits.expand(query.shape[1])
    if _on_cpu(query, key, value) and dropout == 0:
        added = None if mask is None else _additive(mask, query.dtype)
        return _SinkOnCPU.apply(query, key, value, logits, added, is_causal, scaling)
    return _one_more_key(query, key, value, logits, mask, is_causal, scaling, dropout)


def _on_cpu(query: Tensor, key: Tensor, value: Tensor) -> bool:
    """Where the kernel below runs; PyTorch's own dispatch asks the same."""
    same = query.dtype == key.dtype == value.dtype and query.shape[-1] == value.shape[-1]
    return query.device.type == "cpu" and same and min(query.shape[2], key.shape[2]) > 0


def _additive(mask: Tensor, dtype: torch.dtype) -> Tensor:
    """0 where a key is visible, else -inf, with the four dimensions that the kernel wants."""
    while mask.ndim < 4:
        mask = mask[None]
    return torch.zeros_like(mask, dtype=dtype).masked_fill_(~mask, -math.inf)


class _SinkOnCPU(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, query, key, value, logits, mask, is_causal, scaling) -> Any:
        out, lse = _forward(query, key, value, 0.0, is_causal, attn_mask=mask, scale=scaling)
        # Rows without a visible key have out = 0 here, and stay so.
        with_sink = torch.logaddexp(lse, logits.to(lse.dtype)[:, None])
        rescale = torch.exp(lse - with_sink)[..., None]
        # Compiled by torch 2.11, what is saved of an output that is changed in place is what it was
        # before, and the sink's gradient is wrong; a compiler makes either form the same.
        out = out * rescale if torch.compiler.is_compiling() else out.mul_(rescale)
        ctx.save_for_backward(query, key, value, logits, mask, out, with_sink)
        ctx.options = (is_causal, scaling)
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> Any:  # pyrefly: ignore[bad-override]
        query, key, value, logits, mask, out, lse = ctx.saved_tensors
        is_causal, scaling = ctx.options
        grads = _backward(
            grad, query, key, value, out, lse, 0.0, is_causal, attn_mask=mask, scale=scaling
        )
        to_logits = None
        if ctx.needs_input_grad[3]:
            # (B, Q, H, ...) is how kernel and models lie in memory: 10 times as fast as (B, H, Q).
            grad, out, lse = (x.transpose(1, 2) for x in (grad, out, lse))
            row_terms = (grad.to(lse.dtype) * out.to(lse.dtype)).sum(-1)
            share = torch.exp(logits.to(lse.dtype) - lse)
            to_logits = -(share * row_terms).sum((0, 1)).to(logits.dtype)
        return *grads, to_logits, None, None, None


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
    added = _additive(mask, query.dtype)
    rows = added.expand(-1, query.shape[1], -1, -1)
    column = logits.to(query.dtype)[:, None, None].expand(len(rows), -1, query.shape[2], 1)
    return F.scaled_dot_product_attention(
        query,
        key,
        value,
        attn_mask=torch.cat([rows.expand(-1, -1, query.shape[2], -1), column], -1),
        dropout_p=dropout,
        scale=scaling,
    )
