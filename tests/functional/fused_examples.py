"""Activations, inputs and the slow twin that the tests of the fused loss share."""

from dataclasses import fields

import torch
import torch.nn.functional as F
from torch import Tensor

import wideneck.functional as fn
from wideneck import config as c


def number(value: float) -> Tensor:
    return torch.tensor(value, dtype=torch.float64, requires_grad=True)


def knots(number: int) -> Tensor:
    at = torch.linspace(-2, 2, number, dtype=torch.float64)
    return (at + at**3 / 4).requires_grad_()


ACTIVATIONS = {  # every kind, with what it can learn as a tensor
    "softmax": lambda: c.Softmax(),
    "scaled": lambda: c.ScaledSoftmax(scale=number(1.3)),
    "sigsoftmax": lambda: c.Sigsoftmax(shift=number(0.4)),
    "gss": lambda: c.GSS(bend=number(0.3), slope=number(1.7)),
    "gss at 1": lambda: c.GSS(slope=number(1.0)),
    "relu": lambda: c.ReLU(epsilon=0.1),
    "sigmoid": lambda: c.Sigmoid(shift=number(-0.2)),
    "softcap": lambda: c.SoftCap(cap=3.0),
    "plif": lambda: c.PLIF(num_knots=9, reach=2.0, values=knots(9)),
    "plif, few knots": lambda: c.PLIF(num_knots=3, reach=2.0, values=knots(3)),
    "plif at start": lambda: c.PLIF(),
}


def learned(activation: c.Activation) -> list[Tensor]:
    values = [getattr(activation, field.name) for field in fields(activation)]
    return [value for value in values if isinstance(value, Tensor)]


def inputs(mixture: bool, *, bias: bool = True, N=7, K=3, D=5, V=11, dtype=torch.float64) -> dict:
    """Leaves of a loss, and targets of which one is ignored."""
    shape = (N, K, D) if mixture else (N, D)
    target = torch.randint(V, (N,))
    target[2] = -100
    prior = torch.randn(N, K, dtype=dtype).log_softmax(-1).requires_grad_() if mixture else None
    return {
        "input": torch.randn(shape, dtype=dtype, requires_grad=True),
        "linear_weight": torch.randn(V, D, dtype=dtype, requires_grad=True),
        "target": target,
        "linear_bias": torch.randn(V, dtype=dtype, requires_grad=True) if bias else None,
        "log_prior": prior,
    }


def leaves(given: dict) -> list[Tensor]:
    return [v for v in given.values() if isinstance(v, Tensor) and v.is_floating_point()]


def slow(
    input: Tensor,
    linear_weight: Tensor,
    target: Tensor,
    *,
    linear_bias: Tensor | None = None,
    activation: str | c.Activation = "softmax",
    log_prior: Tensor | None = None,
    reduction: str = "mean",
    z_loss: float = 0.0,
) -> tuple[Tensor, Tensor]:
    """The specification: what `linear_cross_entropy` computes, with all N x V scores."""
    score = fn.log_score(F.linear(input, linear_weight, linear_bias), activation)
    log_normalizer = score.logsumexp(-1)
    log_p = score.log_softmax(-1)
    penalty = log_normalizer.square()
    if log_prior is not None:
        log_p, penalty = fn.log_mixture(log_prior, log_p), penalty.mean(-1)
    kept = target != -100
    loss = F.nll_loss(log_p, target, reduction="none") + z_loss * penalty * kept
    log_normalizer = log_normalizer * kept.view(-1, *[1] * (log_normalizer.ndim - 1))
    if reduction == "none":
        return loss, log_normalizer
    return loss.sum() / (kept.sum().clamp(min=1) if reduction == "mean" else 1), log_normalizer
