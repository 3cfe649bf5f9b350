"""The fused loss as an operator: opaque to `torch.compile`, once differentiable.

In eager mode the gradients of the forward pass wait on the autograd node and are handed over
without a copy.  They are computed again where they were used up (a retained graph) or do not
answer the question (a gradient of the log-normalizer, reduction "none").
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor

from wideneck.errors import WideneckError
from wideneck.functional.check import check_values
from wideneck.functional.distribution import widened
from wideneck.functional.forms import decode
from wideneck.functional.fused import Wanted, fused_nll
from wideneck.functional.items import per_item
from wideneck.functional.shard import WHOLE, Shard

FIXED = 12
"""Arguments of the loss in front of the activation's parameters."""


class FusedLoss(torch.autograd.Function):
    """(loss, log-normalizer (N, K)) of X (N, K, D), W (V, D), b (V,), log_prior (N, K)."""

    @staticmethod
    def forward(  # pyrefly: ignore[bad-override]
        ctx: Any,
        x: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        log_prior: Tensor | None,
        target: Tensor,
        form: tuple[str, list[float]],
        reduction: str,
        ignore_index: int,
        z_loss: float,
        chunk_size: int | None,
        shard: Shard,
        learning: bool,
        *parameters: Tensor,
    ) -> tuple[Tensor, Tensor]:
        """Loss, and for "mean" and "sum" already the gradients.

        `learning` is the caller's grad mode: in here it is off, and `needs_input_grad` does not
        know of it.
        """
        needs = ctx.needs_input_grad if learning else [False] * (FIXED + len(parameters))
        ctx.wanted = [*needs[:4], any(needs[FIXED:])]
        ctx.rest = (*form, reduction, ignore_index, z_loss, chunk_size or 0)
        ctx.shard = shard
        now = ctx.wanted if reduction != "none" else [False] * 5
        tensors = (x, weight, bias, log_prior, target, list(parameters))
        loss, log_normalizer, *gradients = run_fused(shard)(*tensors, *ctx.rest, None, None, now)
        ctx.count = len(parameters)
        ctx.in_forward = any(now)
        ctx.gradients = None
        if ctx.in_forward and torch.compiler.is_compiling():
            ctx.save_for_backward(x, weight, bias, log_prior, target, *parameters, *gradients)
        else:
            ctx.save_for_backward(x, weight, bias, log_prior, target, *parameters)
            ctx.gradients = gradients if ctx.in_forward else None
        ctx.set_materialize_grads(False)
        return loss, log_normalizer

    @staticmethod
    def backward(ctx: Any, grad_loss: Tensor | None, grad_log_normalizer: Tensor | None):  # pyrefly: ignore[bad-override]
        """Hands the gradients on, or computes them."""
        if grad_loss is None and grad_log_normalizer is None:
            return (None,) * (FIXED + ctx.count)
        x, weight, bias, log_prior, target, *others = ctx.saved_tensors
        parameters, saved = others[: ctx.count], others[ctx.count :]
        ready, ctx.gradients = ctx.gradients, None
        if grad_log_normalizer is None and (ready or saved) and grad_loss is not None:
            if ready:
                if grad_loss.device.type != "cpu" or grad_loss != 1:
                    ready = [gradient.mul_(grad_loss) for gradient in ready]
            else:
                ready = [gradient * grad_loss for gradient in saved]
        else:
            tensors = (x, weight, bias, log_prior, target, parameters)
            _, _, *ready = run_fused(ctx.shard)(
                *tensors, *ctx.rest, grad_loss, grad_log_normalizer, ctx.wanted
            )
        given = chosen((x, weight, bias, log_prior), parameters, ctx.wanted)
        # Rounded only now: a loss scale has been applied, which float16 cannot do without.
        ready = [gradient.to(like.dtype) for gradient, like in zip(ready, given, strict=True)]
        if torch.is_grad_enabled() and not torch.compiler.is_compiling():
            ready = Last.apply(ready, *ctx.saved_tensors)
        left = list(ready)
        results: list[Tensor | None] = [left.pop(0) if w else None for w in ctx.wanted[:4]]
        tail = left if ctx.wanted[4] else [None] * ctx.count
        return (*results, *[None] * (FIXED - 4), *tail)


def chosen(tensors: tuple, parameters: list[Tensor], wanted: list[bool]) -> list[Tensor]:
    """The tensors whose gradients are computed, in the order of those."""
    chosen = [tensor for tensor, want in zip(tensors, wanted, strict=False) if want]
    return chosen + (parameters if wanted[4] else [])


class Last(torch.autograd.Function):
    """Gradients, as functions of what they were computed from that have no derivative."""

    @staticmethod
    def forward(ctx: Any, gradients: list[Tensor], *sources: Tensor):  # pyrefly: ignore[bad-override]
        """The gradients as they are."""
        return tuple(gradients)

    @staticmethod
    def backward(ctx: Any, *_: Tensor):  # pyrefly: ignore[bad-override]
        """Refuses."""
        raise WideneckError(
            "linear_cross_entropy and token outputs have no second derivative: for a double "
            "backward use wideneck.functional.log_prob, which holds N x V."
        )


def _fused(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    log_prior: Tensor | None,
    target: Tensor,
    parameters: list[Tensor],
    form: str,
    constants: list[float],
    reduction: str,
    ignore_index: int,
    z_loss: float,
    chunk_size: int,
    grad_loss: Tensor | None,
    grad_log_normalizer: Tensor | None,
    wanted: list[bool],
    shard: Shard = WHOLE,
) -> list[Tensor]:
    """[loss, log-normalizer, *wanted gradients], all in the dtype of the computation.

    A reduced loss has its gradient for 1.
    """
    vocab_size = weight.shape[0] if shard.is_whole else shard.vocab_size
    check_values(x, target, ignore_index, vocab_size)
    kept = target != ignore_index
    count = int(kept.sum()) if reduction == "mean" else 1
    token: Tensor | float = per_item(1.0, count)
    if grad_loss is not None:
        token = (grad_loss * token).expand(len(target))
    elif grad_log_normalizer is not None:
        token = 0.0
    with torch.autocast(x.device.type, enabled=False):
        result = fused_nll(
            x,
            weight,
            bias,
            log_prior,
            target,
            decode(form, constants, parameters),
            z_loss=z_loss,
            ignore_index=ignore_index,
            chunk_size=chunk_size or None,
            wanted=Wanted(*wanted),
            weight=token,
            normalizer_weight=grad_log_normalizer,
            shard=shard,
        )
    loss = result.nll
    if reduction != "none":
        loss = per_item(loss.sum(), count)
    if not shard.is_whole:
        for part in (result.input, *result.parameters):
            if part is not None:
                shard.add_up(part)
    gradients = (result.input, result.weight, result.bias, result.log_prior, *result.parameters)
    return [loss, result.log_normalizer, *(g for g in gradients if g is not None)]


@torch.library.custom_op("wideneck::fused_loss", mutates_args=())
def fused_loss(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    log_prior: Tensor | None,
    target: Tensor,
    parameters: list[Tensor],
    form: str,
    constants: list[float],
    reduction: str,
    ignore_index: int,
    z_loss: float,
    chunk_size: int,
    grad_loss: Tensor | None,
    grad_log_normalizer: Tensor | None,
    wanted: list[bool],
) -> list[Tensor]:
    """`_fused` of one process, which a compiled graph calls and does not look into."""
    return _fused(
        x,
        weight,
        bias,
        log_prior,
        target,
        parameters,
        form,
        constants,
        reduction,
        ignore_index,
        z_loss,
        chunk_size,
        grad_loss,
        grad_log_normalizer,
        wanted,
    )


@fused_loss.register_fake
def _(x, weight, bias, log_prior, target, parameters, *rest):
    reduction, wanted = rest[2], rest[8]
    dtype = widened(x, weight)
    loss = x.new_empty(len(target) if reduction == "none" else (), dtype=dtype)
    given = chosen((x, weight, bias, log_prior), parameters, wanted)
    gradients = [tensor.new_empty(tensor.shape, dtype=dtype) for tensor in given]
    return [loss, x.new_empty(x.shape[:2], dtype=dtype), *gradients]


def run_fused(shard: Shard) -> Callable[..., list[Tensor]]:
    """The operator where a graph may be traced, the plain function where processes talk."""
    if not shard.is_whole:
        return partial(_fused, shard=shard)
    return fused_loss if torch.compiler.is_compiling() else _fused
