"""What the losses need of an activation: its form, with fast ways for those that have them.

A form is an activation without scale and shift, here called f: `affine.affine` takes these off.  f
is increasing (a relu weakly), so its largest value over a row is at the row's largest score `top`,
and g = exp(f(z) - f(top)) never exceeds 1: no row overflows, and no sum is below 1.

`Form` follows from the formula of any activation and is the specification of the fast ones.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, final

import torch
import torch.nn.functional as F
from torch import Tensor

from wideneck.activation import Activation
from wideneck.activations import ACTIVATIONS, GSS, PLIF, Sigmoid, Sigsoftmax, taken

LOG2_E = math.log2(math.e)
LOWEST = -40.0
"""The lowest score whose sigmoid is far enough from the smallest float32."""


def exp_(x: Tensor) -> Tensor:
    """exp(x) in place.  On a CPU, torch's exp2 takes a third of the time of its exp."""
    return x.mul_(LOG2_E).exp2_()


def log_sigmoid(z: Tensor, out: Tensor) -> Tensor:
    """Log sigmoid(z), written to `out`.

    On a CPU the logarithm of torch's sigmoid takes a third of the time of its logsigmoid; it is
    within a rounding of 1 of the sigmoid, and needs one that has not run down to 0.
    """
    if z.device.type == "cpu" and z.numel() and z.min().item() > 2 * LOWEST:
        return torch.sigmoid(z, out=out).log_()
    return out.copy_(F.logsigmoid(z))


@dataclass(frozen=True)
class Form:
    """One f.  `z` has any shape; `top` broadcasts against it; all are at least float32."""

    activation: Activation
    parameters: Sequence[Tensor] = ()
    """What f has to learn, in the order of `parameter_gradients`."""
    levels_off: ClassVar[bool] = False
    """Whether f' runs to 0 above.  A bfloat16 layer then loses little by rounding the scores, and
    dW little by the target's part, so that a rounding of X times a row's factor would show."""

    def log_score(self, z: Tensor) -> Tensor:
        """f(z)."""
        return self.activation.log_score(z, *self.parameters)

    def slope(self, z: Tensor) -> Tensor:
        """f'(z)."""
        return self.activation.derivative(z, *self.parameters)

    def parameter_gradients(self, z: Tensor, weight: Tensor) -> list[Tensor]:
        """Sums of weight * df/dtheta over z, one for each of `parameters`."""
        return self.activation.parameter_gradients(z, weight, *self.parameters)

    def add_gradients_(self, sums: list[Tensor], z: Tensor, weight: Tensor) -> None:
        """Adds the `parameter_gradients` to what there is."""
        for sum_, part in zip(sums, self.parameter_gradients(z, weight), strict=True):
            sum_ += part

    def told_apart_(self, z: Tensor) -> Tensor:
        """What f sees of z, in place: scores are equal where f is, and else in the same order."""
        return self.activation.told_apart_(z)

    def relative(self, z: Tensor, top: Tensor, out: Tensor) -> Tensor:
        """f(z) - f(top), at most 0, written to `out` of the shape of z; z stays."""
        return torch.sub(self.log_score(z), self.log_score(top), out=out)

    def exponentials(self, z: Tensor, top: Tensor, out: Tensor, spare: Tensor) -> Tensor:
        """exp(f(z) - f(top)), written to `out`; z stays, `spare` is overwritten."""
        return exp_(self.relative(z, top, out))

    def times_slope(self, weight: Tensor, z: Tensor) -> None:
        """Z becomes weight f'(z); the weight is used up."""
        torch.mul(weight, self.slope(z), out=z)

    def weigh_(self, z: Tensor, top: Tensor) -> Tensor:
        """Row sums of g = exp(f(z) - f(top)), shape (R, 1); z (R, V) becomes g f'(z) in place."""
        slope = self.slope(z)
        g = exp_(self.log_score(z) - self.log_score(top))
        total = g.sum(-1, keepdim=True)
        torch.mul(g, slope, out=z)
        return total

    def weigh_scaled_(self, z: Tensor, top: Tensor, spare: Tensor) -> Tensor | None:
        """`weigh_` in fewer passes, up to the factor k > 0 of each row that `log_scale` tells.

        z becomes k g f'(z), and k sum g is returned; None, with z as it was, where there is no such
        way for this f or these rows.  `spare` is memory of the shape of z.
        """
        return None

    def log_scale(self, top: Tensor) -> Tensor:
        """Log k, of the shape of `top`."""
        raise AssertionError(f"{type(self).__name__} scales no rows")

    @property
    def num_sums(self) -> int:
        """How many numbers the parameters have, where `weigh_with_sums_` knows them all; else 0."""
        return 0

    def weigh_with_sums_(self, z: Tensor, top: Tensor) -> tuple[Tensor, Tensor]:
        """`weigh_`, and the row sums (R, num_sums) of g df/dtheta, all parameters side by side."""
        raise AssertionError(f"{type(self).__name__} has no sums of rows")

    def row_sums(self, z: Tensor, g: Tensor) -> Tensor:
        """The same sums (R, num_sums) for weights g (R, V) of any kind."""
        raise AssertionError(f"{type(self).__name__} has no sums of rows")


@final
@dataclass(frozen=True)
class Identity(Form):
    """f(z) = z."""

    activation: Activation = ACTIVATIONS["softmax"]

    def log_score(self, z: Tensor) -> Tensor:
        return z

    def slope(self, z: Tensor) -> Tensor:
        return torch.ones_like(z)

    def relative(self, z: Tensor, top: Tensor, out: Tensor) -> Tensor:
        return torch.sub(z, top, out=out)

    def weigh_(self, z: Tensor, top: Tensor) -> Tensor:
        return exp_(z.sub_(top)).sum(-1, keepdim=True)


@final
@dataclass(frozen=True)
class SigsoftmaxForm(Form):
    """f(z) = z + log sigmoid(z)  (Kanai et al. 2018)."""

    activation: Activation = ACTIVATIONS["sigsoftmax"]

    def relative(self, z: Tensor, top: Tensor, out: Tensor) -> Tensor:
        return log_sigmoid(z, out).add_(z).sub_(self.log_score(top))

    def exponentials(self, z: Tensor, top: Tensor, out: Tensor, spare: Tensor) -> Tensor:
        if z.device.type != "cpu" or not top.min().item() > LOWEST:
            return super().exponentials(z, top, out, spare)
        # As in `weigh_scaled_`, times sigmoid(z); c as small as can be, for logs of e count, too.
        c = (-top).exp_().clamp_(min=torch.finfo(top.dtype).tiny)
        e = exp_(torch.sub(z, top, out=out))
        sigmoid = torch.div(e, torch.add(e, c, out=spare), out=spare)
        return e.mul_(sigmoid).mul_(1 + c)

    def times_slope(self, weight: Tensor, z: Tensor) -> None:
        torch.sub(weight, torch.sigmoid(z, out=z).sub_(1).mul_(weight), out=z)

    def weigh_(self, z: Tensor, top: Tensor) -> Tensor:
        # One exponential instead of three.  With e = exp(z - top) and C = exp(top),
        # sigmoid(z) / sigmoid(top) = e (1 + C) / (1 + e C) and f' = 1 + 1 / (1 + e C).
        # C is capped where sigmoid(z) is 1 for every z that is not far below the top.
        C = top.exp().clamp_(max=1e30)
        e = exp_(z.sub_(top))
        inverse = (e * C).add_(1).reciprocal_()
        g = e.mul_(e).mul_(inverse).mul_(1 + C)
        total = g.sum(-1, keepdim=True)
        g.mul_(inverse.add_(1))
        return total

    def weigh_scaled_(self, z: Tensor, top: Tensor, spare: Tensor) -> Tensor | None:
        # With e = exp(z - top) and c = exp(-top), sigmoid(z) = e / (e + c) and f' = 2 - sigmoid(z);
        # what comes out is e sigmoid(z) (1 - sigmoid(z) / 2).  c stays above 0, where e may be 0.
        if top.min().item() < LOWEST:
            return None
        c = (-top).exp_().clamp_(min=1e-30)
        e = exp_(z.sub_(top))
        sigmoid = torch.div(e, torch.add(e, c, out=spare), out=spare)
        g = e.mul_(sigmoid)
        total = g.sum(-1, keepdim=True)
        g.addcmul_(g, sigmoid, value=-0.5)
        return total.mul_(0.5)

    def log_scale(self, top: Tensor) -> Tensor:
        return F.logsigmoid(top) - math.log(2)


@final
@dataclass(frozen=True)
class GSSForm(Form):
    """f(z) = z + (k - 1) log sigmoid(z)  (Parthiban et al. 2021, with its bend at 0)."""

    @property
    def k(self) -> Tensor:
        """Scalar."""
        return self.parameters[0]

    def relative(self, z: Tensor, top: Tensor, out: Tensor) -> Tensor:
        return log_sigmoid(z, out).mul_(self.k - 1).add_(z).sub_(self.log_score(top))

    def weigh_(self, z: Tensor, top: Tensor) -> Tensor:
        return self._weigh_(z, top)[0]

    @property
    def num_sums(self) -> int:
        return 1

    def row_sums(self, z: Tensor, g: Tensor) -> Tensor:
        return (g * F.logsigmoid(z)).sum(-1, keepdim=True)

    def weigh_with_sums_(self, z: Tensor, top: Tensor) -> tuple[Tensor, Tensor]:
        total, ratios = self._weigh_(z, top, ratios=True)
        return total, ratios + total * F.logsigmoid(top)

    def _weigh_(self, z: Tensor, top: Tensor, *, ratios: bool = False) -> tuple[Tensor, Tensor]:
        """Row sums of g, and of g (log sigmoid(z) - log sigmoid(top)) where they are wanted."""
        # As for the sigsoftmax; the logarithm of the ratio of sigmoids is
        # (z - top) + log((1 + C) / (1 + e C)), which is finite for every z.
        C = top.exp().clamp_(max=1e30)
        z.sub_(top)
        inverse = exp_(z.clone()).mul_(C).add_(1).reciprocal_()
        log_ratio = (inverse * (1 + C)).log_().add_(z)
        g = exp_(z.add_(log_ratio * (self.k - 1)))
        total = g.sum(-1, keepdim=True)
        weighted = log_ratio.mul_(g).sum(-1, keepdim=True) if ratios else total
        g.mul_(inverse.mul_(self.k - 1).add_(1))
        return total, weighted


@final
@dataclass(frozen=True)
class SigmoidForm(Form):
    """f(z) = log sigmoid(z)."""

    levels_off = True

    def relative(self, z: Tensor, top: Tensor, out: Tensor) -> Tensor:
        return log_sigmoid(z, out).sub_(self.log_score(top))


@final
@dataclass(frozen=True)
class PLIFForm(Form):
    """f linear between its values at evenly spaced knots  (Ganea et al. 2019)."""

    activation: PLIF

    def weigh_(self, z: Tensor, top: Tensor) -> Tensor:
        return self._weigh_(z, top)[2]

    @property
    def num_sums(self) -> int:
        return sum(len(numbers) for numbers in self.parameters)

    def weigh_with_sums_(self, z: Tensor, top: Tensor) -> tuple[Tensor, Tensor]:
        g, places, total = self._weigh_(z, top)
        return total, self._sums(g, *places)

    def row_sums(self, z: Tensor, g: Tensor) -> Tensor:
        return self._sums(g, *self.activation.place(z, self.parameters[1]))

    def _sums(self, g: Tensor, left: Tensor, right: Tensor) -> Tensor:
        # Of each row its own sums: on an accelerator, additions to one number wait for each other.
        by_start, by_rise = g.new_zeros(2, len(g), len(self.parameters[0]))
        by_start.scatter_add_(1, left, g)
        by_rise.scatter_add_(1, left, right.mul_(g))
        return torch.cat([by_start, by_rise], 1)

    def _weigh_(self, z: Tensor, top: Tensor) -> tuple[Tensor, tuple[Tensor, Tensor], Tensor]:
        """g, the places of z, and what `weigh_` gives."""
        starts, rises = self.parameters
        left, right = self.activation.place(z, rises)
        rise = taken(rises, left)
        g = exp_(right.mul(rise).add_(taken(starts, left)).sub_(self.log_score(top)))
        torch.mul(g, rise.div_(self.activation.step(rises)), out=z)
        return g, (left, right), g.sum(-1, keepdim=True)


_FAST: dict[type[Activation], type[Form]] = {
    Sigsoftmax: SigsoftmaxForm,
    GSS: GSSForm,
    Sigmoid: SigmoidForm,
    PLIF: PLIFForm,
}


def form_of(activation: Activation, parameters: Sequence[Tensor]) -> Form:
    """The form of an activation, by its fast way where it has one."""
    if activation.is_identity and not parameters:
        return Identity(activation)  # by hand: a tracer cannot make the default of a field
    return _FAST.get(type(activation), Form)(activation, parameters)
