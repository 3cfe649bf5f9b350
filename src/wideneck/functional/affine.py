"""From an activation to its form: what is linear apart, and what an operator can hold."""

from dataclasses import fields, replace

import torch
from torch import Tensor

from wideneck import config as c
from wideneck.errors import WideneckError
from wideneck.functional.forms import Form, form_of
from wideneck.functional.numbers import fits, with_tensors


def is_number(given: c.Number, value: float) -> bool:
    """Whether something is a plain number of that value, so that nothing needs to be computed."""
    return isinstance(given, int | float) and given == value


SCALAR = torch.Size()


def affine(
    activation: c.Activation, like: Tensor, shape: torch.Size = SCALAR
) -> tuple[c.Number, c.Number, Form]:
    """(a, c, form) with f(z) = form(a z + c), up to a constant that no probability sees.

    Args:
        activation: its numbers may be tensors, which autograd then follows.
        like: a tensor of the dtype and device to compute in.
        shape: what these tensors may broadcast to; one number each by default.

    Raises:
        WideneckError: a tensor of another shape, or of numbers that the activation refuses.
    """

    def fit(field: str, value: Tensor) -> Tensor:
        if value.numel() == 1:
            return value.reshape(())
        if not fits(value.shape, shape):
            takes = f"logits of shape {tuple(shape)}" if shape else "the fused loss"
            raise WideneckError(
                f"{activation.name} with {takes} needs one number for {field}"
                f"{', or a tensor that broadcasts to them' if shape else ''}, got shape "
                f"{tuple(value.shape)}."
            )
        return value

    if activation.learnable:
        activation = with_tensors(activation, activation.name, like, fit)
    return *activation.affine(), form_of(activation, activation.parameters(like))


def encode(form: Form) -> tuple[str, list[float]]:
    """A form without its parameters, in what an operator's signature can hold."""
    given, default = form.activation, c.ACTIVATIONS[form.activation.name]
    return given.name, [float(getattr(given, name)) for name in _constants(default)]


def decode(name: str, constants: list[float], parameters: list[Tensor]) -> Form:
    """The form that `encode` was given."""
    default = c.ACTIVATIONS[name]
    numbers = {
        field: type(getattr(default, field))(value)
        for field, value in zip(_constants(default), constants, strict=True)
    }
    return form_of(replace(default, **numbers) if numbers else default, parameters)


def _constants(default: c.Activation) -> list[str]:
    """The fields of s that are plain numbers: a, c and `parameters` hold what can be learned."""
    return [
        field.name
        for field in fields(default)
        if field.name not in ("learned", *default.learnable)
        and isinstance(getattr(default, field.name), int | float)
    ]
