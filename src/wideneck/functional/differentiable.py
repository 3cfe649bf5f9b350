"""The fused loss as a function of autograd, once differentiable.

In eager mode the gradients of the forward pass wait on the autograd node and are handed over
without a copy.  They are computed again where they were used up (a retained graph) or do not
answer the question (a gradient of the log-normalizer, reduction "none").
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from wideneck.errors import WideneckError
from wideneck.functional.op import run_of, wanted_of
from wideneck.functional.options import LossOptions
from wideneck.functional.shard import Shard
from wideneck.functional.transforms import (
    NO_FORWARD_MODE,
    NO_SECOND_DERIVATIVE,
    Asked,
    gradients_of,
    is_transformed,
    refuse_batched,
    refuse_parts,
)

FIXED = 11
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
        ids: Tensor | None,
        probs: Tensor | None,
        class_weight: Tensor | None,
        form: tuple[str, list[float]],
        options: LossOptions,
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
        ctx.form, ctx.options = form, options
        ctx.shard = shard
        now = ctx.wanted if options.reduction != "none" else [False] * 5
        tensors = (x, weight, bias, log_prior, ids, probs, class_weight)
        run = run_of(shard)
        loss, log_normalizer, *gradients = run(
            *tensors, list(parameters), *form, *options.encode(), None, None, now
        )
        ctx.count = len(parameters)
        ctx.in_forward = any(now)
        ctx.gradients = None
        if ctx.in_forward and torch.compiler.is_compiling():
            ctx.save_for_backward(*tensors, *parameters, *gradients)
        else:
            ctx.save_for_backward(*tensors, *parameters)
            ctx.gradients = gradients if ctx.in_forward else None
        ctx.set_materialize_grads(False)
        return loss, log_normalizer

    @staticmethod
    def backward(ctx: Any, grad_loss: Tensor | None, grad_log_normalizer: Tensor | None):  # pyrefly: ignore[bad-override]
        """Hands the gradients on, or computes them."""
        if grad_loss is None and grad_log_normalizer is None:
            return (None,) * (FIXED + ctx.count)
        kept = ctx.saved_tensors  # read once: under checkpointing they are then gone
        tensors, others = kept[:7], list(kept[7:])
        parameters, saved = others[: ctx.count], others[ctx.count :]
        up = grad_loss, grad_log_normalizer
        refuse_batched(*up)
        if is_transformed():  # a batch of backward passes, by vmap
            refuse_parts(ctx.shard)
            asked = Asked(ctx.form, ctx.options, tuple(ctx.wanted))
            return placed(ctx, gradients_of(asked, up, kept[: 7 + ctx.count]), FIXED)
        ready, ctx.gradients = ctx.gradients, None
        if grad_log_normalizer is None and (ready or saved) and grad_loss is not None:
            if ready:
                if grad_loss.device.type != "cpu" or grad_loss != 1:
                    ready = [gradient.mul_(grad_loss) for gradient in ready]
            else:
                ready = [gradient * grad_loss for gradient in saved]
        else:
            rest = (*ctx.form, *ctx.options.encode(), *up, ctx.wanted)
            _, _, *ready = run_of(ctx.shard)(*tensors, parameters, *rest)
        given = wanted_of(tensors[:4], parameters, ctx.wanted)
        # Rounded only now: a loss scale has been applied, which float16 cannot do without.
        ready = [gradient.to(like.dtype) for gradient, like in zip(ready, given, strict=True)]
        if torch.is_grad_enabled() and not torch.compiler.is_compiling():
            ready = Last.apply(ready, *kept, *up)
        return placed(ctx, list(ready), FIXED)


def placed(ctx: Any, gradients: list[Tensor], fixed: int) -> tuple[Tensor | None, ...]:
    """Each gradient at the place of its argument, `fixed` of which stand before the parameters."""
    results = [gradients.pop(0) if w else None for w in ctx.wanted[:4]]
    tail = gradients if ctx.wanted[4] else [None] * ctx.count
    return (*results, *[None] * (fixed - 4), *tail)


class _EagerLoss(FusedLoss):
    """`FusedLoss` where no graph is traced: a tracer takes no function that has a `jvp`."""

    @staticmethod
    def jvp(ctx: Any, *_: Tensor):  # pyrefly: ignore[bad-override]
        """Refuses."""
        raise WideneckError(NO_FORWARD_MODE)


def loss_function(shard: Shard) -> Callable[..., tuple[Tensor, Tensor]]:
    """What computes the loss; where processes talk, no graph goes through it."""
    if not torch.compiler.is_compiling():
        return _EagerLoss.apply
    return FusedLoss.apply if shard.is_whole else torch.compiler.disable(_EagerLoss.apply)


class Last(torch.autograd.Function):
    """Gradients, as functions of what they were computed from that have no derivative.

    The incoming gradients are sources, too: by their derivative `torch.autograd.functional.jvp`
    makes forward mode of two backward passes, and would find 0.
    """

    @staticmethod
    def forward(ctx: Any, gradients: list[Tensor], *sources: Tensor | None):  # pyrefly: ignore[bad-override]
        """The gradients as they are."""
        return tuple(gradients)

    @staticmethod
    def backward(ctx: Any, *_: Tensor):  # pyrefly: ignore[bad-override]
        """Refuses."""
        raise WideneckError(NO_SECOND_DERIVATIVE)
