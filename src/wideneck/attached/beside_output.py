"""What a head leaves on its call, led through its output in the backward pass.

FSDP2 and ZeRO-3 put a module's weights in place again when the gradient of its output comes.  A
loss that is left on a call is no output, so its backward pass would find the weights released.
Here the gradients of what was left take the way through the output.
"""

from typing import Any, final

import torch
from torch import Tensor


@final
class Beside:
    """Tensors that a module leaves beside its output: left inside its call, taken after it."""

    def __init__(self):
        self.left = False
        self.gradients: tuple[Tensor | None, ...] = ()

    def leave(self, output: Tensor, tensors: list[Tensor]) -> Tensor:
        """The module's output, from which `take` finds the way to the tensors."""
        if not any(tensor.requires_grad for tensor in tensors) or _transformed():
            return output
        self.left = True
        return _Leave.apply(self, output, *tensors)

    def take(self, output: Any, tensors: list[Tensor]) -> list[Tensor]:
        """The tensors that were left, as functions of the output or of what was made of it."""
        if not self.left or not isinstance(output, Tensor) or not output.requires_grad:
            return tensors
        return list(_Take.apply(self, output, *(tensor.detach() for tensor in tensors)))


def _transformed() -> bool:
    """A graph is traced, or a gradient is asked for as a function: no hooks of modules there."""
    functional = torch._C._are_functorch_transforms_active()
    return not torch.is_grad_enabled() or functional or torch.compiler.is_compiling()


class _Leave(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, beside: Beside, output: Tensor, *tensors: Tensor):  # pyrefly: ignore[bad-override]
        """The output as it is."""
        ctx.beside, ctx.count = beside, len(tensors)
        ctx.set_materialize_grads(False)
        return output.detach()

    @staticmethod
    def backward(ctx: Any, gradient: Tensor | None):  # pyrefly: ignore[bad-override]
        """The gradients that have come to the tensors."""
        gradients, ctx.beside.gradients = ctx.beside.gradients, ()
        return (None, gradient, *(gradients or (None,) * ctx.count))  # or of the output alone


class _Take(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, beside: Beside, output: Tensor, *tensors: Tensor):  # pyrefly: ignore[bad-override]
        """The tensors as they are."""
        ctx.beside = beside
        ctx.like = output.shape, output.dtype, output.device
        ctx.set_materialize_grads(False)
        return tuple(tensor.detach() for tensor in tensors)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor | None):  # pyrefly: ignore[bad-override]
        """Leaves them for the module, and calls it by a gradient of its output, 0."""
        ctx.beside.gradients = gradients
        shape, dtype, device = ctx.like
        nothing = torch.zeros((), dtype=dtype, device=device).expand(shape)
        return (None, nothing, *(None for _ in gradients))
