"""The loss under `torch.func`: grad, grad_and_value, vjp, jacrev, and vmap over any of them.

A transform may run the loss and its gradient at levels of its own, so both are functions of
everything they need, and a batch of losses is one loss after the other.  The gradient is computed
in the backward pass, from the scores again: four products, as for reduction "none".
"""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from wideneck.errors import WideneckError
from wideneck.functional.op import FIXED, Asked, fused
from wideneck.functional.options import ABOVE, Wanted
from wideneck.functional.shard import Shard

NO_SECOND_DERIVATIVE = (
    "linear_cross_entropy and token outputs have no second derivative; for a double backward use "
    "wideneck.functional.log_prob, which holds N x V."
)
NO_FORWARD_MODE = (
    "linear_cross_entropy and token outputs have no forward-mode derivative (jvp, jacfwd, "
    "hessian); for these use wideneck.functional.log_prob, which holds N x V."
)

_fused: Callable[..., list[Tensor]] = torch.compiler.disable(fused)
"""Not looked into either where a compiled transform has given way to eager mode."""


def is_transformed() -> bool:
    """Whether a transform of `torch.func` is at work."""
    return torch._C._are_functorch_transforms_active()


def refuse_traced() -> None:
    """The tracer of `torch.compile` inside a transform, where `FusedLoss` would lose its gradient.

    It then gives way to eager mode, which is right, or with fullgraph=True it stops.
    """
    if torch.compiler.is_compiling() and is_transformed():
        raise WideneckError(
            "linear_cross_entropy goes through torch.func or torch.compile, not through a compiled "
            "transform: leave out fullgraph=True, or use one of the two."
        )


def refuse_transformed(what: str) -> None:
    """What has no rules for a transform at all."""
    if is_transformed():
        raise WideneckError(
            f"{what} do not go through torch.func: use loss.backward(), or "
            "wideneck.functional.log_prob, which holds N x V."
        )


def refuse_parts(shard: Shard) -> None:
    """The loss of processes that talk goes through no transform."""
    if not shard.is_whole:
        raise WideneckError(
            "torch.func does not go through a vocabulary-parallel loss: use loss.backward(), or "
            "give every process the whole linear_weight and no group."
        )


def refuse_batched(*up: Tensor | None) -> None:
    """`autograd.grad(..., is_grads_batched=True)` has a vmap of its own, without rules of ours."""
    if not torch.compiler.is_compiling() and any(
        tensor is not None and ", Batched" in str(torch._C._dispatch_keys(tensor)) for tensor in up
    ):
        raise WideneckError(
            "linear_cross_entropy and token outputs have no gradients for is_grads_batched=True or "
            "vectorize=True: use torch.func.jacrev, or torch.func.vmap over torch.autograd.grad, "
            "with linear_cross_entropy."
        )


def refuse_forward_mode(ctx: Any, *_: Any) -> Any:
    """The `jvp` of every function of autograd here that may have one."""
    raise WideneckError(NO_FORWARD_MODE)


def refuse_second_derivative(ctx: Any, *_: Any) -> Any:
    """The `backward` of what is a gradient already."""
    raise WideneckError(NO_SECOND_DERIVATIVE)


def wanted_by(ctx: Any, fixed: int) -> Wanted:
    """What autograd asks of a function of (asked, *tensors), from `fixed` on parameters."""
    needs = ctx.needs_input_grad[1:]
    return Wanted(*needs[:ABOVE], parameters=any(needs[fixed:]))


class TransformedLoss(torch.autograd.Function):
    """`FusedLoss` under a transform."""

    @staticmethod
    def forward(asked: Asked, *tensors: Tensor | None) -> tuple[Tensor, ...]:  # pyrefly: ignore[bad-override]
        """Loss and log-normalizer."""
        return tuple(_fused(asked, tensors))

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple, output: tuple) -> None:
        ctx.asked, *tensors = inputs
        ctx.save_for_backward(*tensors)

    @staticmethod
    def backward(ctx: Any, *up: Tensor):  # pyrefly: ignore[bad-override]
        """The gradients, by a function that itself can be transformed."""
        tensors, wanted = ctx.saved_tensors, wanted_by(ctx, FIXED)
        found = gradients_of(replace(ctx.asked, wanted=wanted), up, tensors)
        # Here and not by `placed`: where a compiled transform has given way, the tracer trips over
        # a function that takes these gradients in a list.
        given = [found.pop(0) if want else None for want in wanted[:ABOVE]]
        tail = found if wanted.parameters else [None] * len(tensors[FIXED:])
        return (None, *given, *[None] * (FIXED - ABOVE), *tail)

    @staticmethod
    def vmap(info: Any, in_dims: tuple, *args: Any):
        """One loss after the other."""
        return _one_by_one(TransformedLoss, info.batch_size, in_dims, args)

    jvp = staticmethod(refuse_forward_mode)


class _Gradients(torch.autograd.Function):
    """The gradients of (asked, d loss, d log-normalizer, *tensors of the loss) that are wanted."""

    @staticmethod
    def forward(asked: Asked, *tensors: Tensor) -> tuple[Tensor, ...]:  # pyrefly: ignore[bad-override]
        """As in the backward pass of `FusedLoss`."""
        up, given = tensors[:2], tensors[2:]
        _, _, *found = _fused(asked, given, up)
        likes = asked.wanted.of(given, FIXED)
        return tuple(part.to(like.dtype) for part, like in zip(found, likes, strict=True))

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple, output: tuple) -> None:
        pass

    @staticmethod
    def vmap(info: Any, in_dims: tuple, *args: Any):
        """One after the other."""
        return _one_by_one(_Gradients, info.batch_size, in_dims, args)

    backward = staticmethod(refuse_second_derivative)
    jvp = staticmethod(refuse_forward_mode)


def gradients_of(asked: Asked, up: tuple, tensors: tuple) -> list[Tensor]:
    """Those that are wanted, of the loss and log-normalizer whose gradients are `up`."""
    return list(_Gradients.apply(asked, *up, *tensors))


def _one_by_one(
    function: type[torch.autograd.Function], size: int, dims: tuple, args: tuple
) -> tuple[tuple[Tensor, ...], tuple[int, ...]]:
    """A function of every element of a batch, and where the batch is in what comes out."""
    found = [
        function.apply(
            *(arg if d is None else arg.select(d, i) for arg, d in zip(args, dims, strict=True))
        )
        for i in range(size)
    ]
    out = tuple(torch.stack(parts) for parts in zip(*found, strict=True))
    return out, (0,) * len(out)
