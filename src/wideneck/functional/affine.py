"""From an activation to its form: what is linear apart, and what an operator can hold."""

from dataclasses import fields

import torch
from torch import Tensor

from wideneck import config as c
from wideneck.errors import WideneckError
from wideneck.functional.forms import (
    Form,
    GSSForm,
    Identity,
    PLIFForm,
    ReLUForm,
    SigmoidForm,
    SigsoftmaxForm,
    SoftCapForm,
)
from wideneck.functional.numbers import fits, with_tensors


def is_number(given: c.Number, value: float) -> bool:
    """Whether something is a plain number of that value, so that nothing needs to be computed."""
    return isinstance(given, int | float) and given == value


SCALAR = torch.Size()


def _with_tensors(activation: c.Activation, like: Tensor, shape: torch.Size) -> c.Activation:
    if isinstance(activation, c.PLIF):  # its values are no number
        return activation
    name = c.name_of(activation)

    def fit(field: str, value: Tensor) -> Tensor:
        if value.numel() == 1:
            return value.reshape(())
        if not fits(value.shape, shape):
            takes = f"logits of shape {tuple(shape)}" if shape else "the fused loss"
            raise WideneckError(
                f"{name} with {takes} needs one number for {field}"
                f"{', or a tensor that broadcasts to them' if shape else ''}, got shape "
                f"{tuple(value.shape)}."
            )
        return value

    return with_tensors(activation, name, like, fit)


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
    match _with_tensors(activation, like, shape):
        case c.Softmax():
            return 1.0, 0.0, Identity()
        case c.ScaledSoftmax(scale=scale):
            return scale, 0.0, Identity()
        case c.Sigsoftmax(shift=shift):
            return 1.0, shift, SigsoftmaxForm()
        case c.GSS(bend=bend, slope=slope):
            k = torch.as_tensor(slope, dtype=like.dtype, device=like.device)
            return 1.0, -bend, GSSForm(k)
        case c.ReLU(epsilon=epsilon):
            return 1.0, 0.0, ReLUForm(epsilon)
        case c.Sigmoid(shift=shift):
            return 1.0, shift, SigmoidForm()
        case c.SoftCap(cap=cap):
            return 1.0, 0.0, SoftCapForm(cap)
        case c.PLIF(values=None):
            return 1.0, 0.0, Identity()
        case c.PLIF(reach=reach, values=Tensor() as values):
            starts, rises = values[:-1].to(like.dtype), values.diff().to(like.dtype)
            return 1.0, 0.0, PLIFForm(reach, starts, rises)
    raise AssertionError(f"no form for {activation!r}")


FORMS: dict[str, type[Form]] = {
    form.__name__: form
    for form in (Identity, SigsoftmaxForm, GSSForm, ReLUForm, SigmoidForm, SoftCapForm, PLIFForm)
}


def encode(form: Form) -> tuple[str, list[float]]:
    """A form without its parameters, in what an operator's signature can hold."""
    # By its fields, every form being a dataclass: torch.compile of torch 2.11 cannot follow vars().
    values = [getattr(form, field.name) for field in fields(form)]  # pyrefly: ignore[bad-argument-type]
    return type(form).__name__, [v for v in values if not isinstance(v, Tensor)]


def decode(name: str, constants: list[float], parameters: list[Tensor]) -> Form:
    """The form that `encode` was given; constants come before parameters in every form."""
    return FORMS[name](*constants, *parameters)
