"""A reduced loss as a function of autograd whose gradients are made with its value."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, final

import torch
from torch import Tensor

from wideneck.functional.differentiable import finished
from wideneck.functional.options import NOTHING, Wanted
from wideneck.functional.transforms import refuse_batched, refuse_forward_mode, wanted_by

Run = Callable[[Wanted, tuple], tuple[Tensor, Tensor, list[Tensor]]]
"""(wanted, tensors) to the loss, something of each token, and the wanted gradients for 1."""


@final
@dataclass(frozen=True)
class Reduced:
    """What is to be computed; one argument, which autograd does not look into."""

    run: Run
    fixed: int
    """How many tensors come before the activation's parameters."""
    learning: bool
    """The caller's grad mode, which an autograd function cannot see."""


class InForward(torch.autograd.Function):
    """(loss, something of each token without a gradient) of (reduced, *tensors)."""

    @staticmethod
    def forward(ctx: Any, reduced: Reduced, *tensors: Tensor | None) -> tuple[Tensor, Tensor]:  # pyrefly: ignore[bad-override]
        """Both, and already the gradients."""
        ctx.reduced = reduced
        ctx.wanted = wanted_by(ctx, reduced.fixed) if reduced.learning else NOTHING
        loss, tokens, ctx.gradients = reduced.run(ctx.wanted, tensors)
        ctx.save_for_backward(*tensors)
        ctx.mark_non_differentiable(tokens)
        ctx.set_materialize_grads(False)
        return loss, tokens

    @staticmethod
    def backward(ctx: Any, up: Tensor | None, _: Any):  # pyrefly: ignore[bad-override]
        """Hands the gradients on, or where they were used up computes them again."""
        tensors, fixed = ctx.saved_tensors, ctx.reduced.fixed
        if up is None:
            return (None,) * (1 + len(tensors))
        refuse_batched(up)
        ready, ctx.gradients = ctx.gradients, None
        if ready is None:
            *_, ready = ctx.reduced.run(ctx.wanted, tensors)
        factor = None if up.device.type == "cpu" and up == 1 else up
        return finished(ready, ctx.wanted, tensors, fixed, (*tensors, up), factor)

    jvp = staticmethod(refuse_forward_mode)


def in_forward(run: Run, tensors: tuple, fixed: int, *, learning: bool) -> tuple[Tensor, Tensor]:
    """Its two results, where no graph is traced."""
    return InForward.apply(Reduced(run, fixed, learning), *tensors)
