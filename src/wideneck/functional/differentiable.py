"""The fused loss as a function of autograd, once differentiable.

In eager mode the gradients of the forward pass wait on the autograd node and are handed over
without a copy.  They are computed again where they were used up (a retained graph) or do not
answer the question (a gradient of the log-normalizer, reduction "none").
"""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from wideneck.functional.op import FIXED, Asked, run
from wideneck.functional.options import ABOVE, NOTHING, Wanted
from wideneck.functional.shard import Shard
from wideneck.functional.transforms import (
    gradients_of,
    is_transformed,
    refuse_batched,
    refuse_forward_mode,
    refuse_parts,
    refuse_second_derivative,
    wanted_by,
)


def placed(
    gradients: list[Tensor], wanted: Wanted, tensors: tuple, fixed: int
) -> tuple[Tensor | None, ...]:
    """Each of them at the place of its argument of such a function."""
    given = [gradients.pop(0) if want else None for want in wanted[:ABOVE]]
    tail = gradients if wanted.parameters else [None] * len(tensors[fixed:])
    return (None, *given, *[None] * (fixed - ABOVE), *tail)


class FusedLoss(torch.autograd.Function):
    """(loss, log-normalizer (N, K)) of (asked, *tensors), the tensors those of `op.FIXED`."""

    @staticmethod
    def forward(ctx: Any, asked: Asked, *tensors: Tensor | None) -> tuple[Tensor, Tensor]:  # pyrefly: ignore[bad-override]
        """Loss, and for "mean" and "sum" already the gradients."""
        wanted = wanted_by(ctx, FIXED) if asked.learning else NOTHING
        ctx.asked, ctx.count = replace(asked, wanted=wanted), len(tensors)
        in_forward = asked.options.reduction != "none" and any(wanted)
        loss, log_normalizer, *gradients = run(ctx.asked if in_forward else asked, tensors)
        ctx.gradients = None
        if in_forward and torch.compiler.is_compiling():
            ctx.save_for_backward(*tensors, *gradients)
        else:
            ctx.save_for_backward(*tensors)
            ctx.gradients = gradients if in_forward else None
        ctx.set_materialize_grads(False)
        return loss, log_normalizer

    @staticmethod
    def backward(ctx: Any, *up: Tensor | None):  # pyrefly: ignore[bad-override]
        """Hands the gradients on, or computes them."""
        grad_loss, grad_log_normalizer = up
        if grad_loss is None and grad_log_normalizer is None:
            return (None,) * (1 + ctx.count)
        kept = ctx.saved_tensors  # read once: under checkpointing they are then gone
        tensors, saved = kept[: ctx.count], kept[ctx.count :]
        refuse_batched(*up)
        if is_transformed():  # a batch of backward passes, by vmap
            refuse_parts(ctx.asked.shard)
            return placed(gradients_of(ctx.asked, up, tensors), ctx.asked.wanted, tensors, FIXED)
        ready, ctx.gradients = ctx.gradients, None
        factor = None
        if grad_log_normalizer is None and (ready or saved) and grad_loss is not None:
            if not ready:
                ready = [gradient * grad_loss for gradient in saved]
            elif grad_loss.device.type != "cpu" or grad_loss != 1:
                factor = grad_loss
        else:
            _, _, *ready = run(ctx.asked, tensors, (grad_loss, grad_log_normalizer))
        return finished(ready, ctx.asked.wanted, tensors, FIXED, (*kept, *up), factor)


def finished(
    ready: list[Tensor],
    wanted: Wanted,
    tensors: tuple,
    fixed: int,
    sources: tuple,
    factor: Tensor | None = None,
) -> tuple[Tensor | None, ...]:
    """What a backward pass returns: of the tensors' dtypes, and once differentiable only.

    Args:
        ready: the gradients, which are used up.
        wanted: which they are.
        tensors: what they are gradients of.
        fixed: how many of those come before the parameters.
        sources: what the gradients were computed from.
        factor: what they are still to be multiplied with.
    """
    # Rounded only now: a loss scale has been applied, which float16 cannot do without.
    given = wanted.of(tensors, fixed)
    ready = [_rounded(gradient, like, factor) for gradient, like in zip(ready, given, strict=True)]
    if torch.is_grad_enabled() and not torch.compiler.is_compiling():
        ready = list(Last.apply(ready, *sources))
    return placed(ready, wanted, tensors, fixed)


@torch.no_grad()
def _rounded(gradient: Tensor, like: Tensor, factor: Tensor | None) -> Tensor:
    """The gradient times the factor, in one pass, of the dtype of `like`."""
    if factor is None:
        return gradient.to(like.dtype)
    out = gradient if gradient.dtype == like.dtype else torch.empty_like(gradient, dtype=like.dtype)
    return torch.mul(gradient, factor, out=out)


class EagerLoss(FusedLoss):
    """`FusedLoss` where no graph is traced: a tracer takes no function that has a `jvp`."""

    jvp = staticmethod(refuse_forward_mode)


Function = type[torch.autograd.Function]


def applied(traced: Function, eager: Function, shard: Shard) -> Callable[..., Any]:
    """One of the two; where processes talk, no graph goes through it."""
    if not torch.compiler.is_compiling():
        return eager.apply
    return traced.apply if shard.is_whole else torch.compiler.disable(eager.apply)


class Last(torch.autograd.Function):
    """Gradients, as functions of what they were computed from that have no derivative.

    The incoming gradients are sources, too: by their derivative `torch.autograd.functional.jvp`
    makes forward mode of two backward passes, and would find 0.
    """

    @staticmethod
    def forward(ctx: Any, gradients: list[Tensor], *sources: Tensor | None):  # pyrefly: ignore[bad-override]
        """The gradients as they are."""
        return tuple(gradients)

    backward = staticmethod(refuse_second_derivative)
