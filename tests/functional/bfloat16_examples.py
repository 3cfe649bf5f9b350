"""Inputs in bfloat16, the obvious bfloat16 code, and errors to float64."""

import torch
import torch.nn.functional as F

import wideneck as wn
from functional.fused_examples import inputs, slow
from functional.token_examples import dense

both = wn.linear_cross_entropy_and_log_normalizer


def bfloat16_inputs(spread: float, mixture: bool, *, N=256, K=3, D=64, V=300, **rest) -> dict:
    """Scores of that standard deviation, and from 4 on targets that the model finds likely."""
    given = inputs(mixture, N=N, K=K, D=D, V=V, **rest)
    given["linear_weight"] = given["linear_weight"].detach() * spread / D**0.5
    if given["linear_bias"] is not None:
        given["linear_bias"] = given["linear_bias"].detach() / 4
    for name in ("input", "linear_weight", "linear_bias"):
        if given[name] is not None:
            given[name] = given[name].detach().bfloat16().requires_grad_()
    prior = given["log_prior"]
    given["log_prior"] = None if prior is None else prior.detach().float().requires_grad_()
    if spread >= 4:
        with torch.no_grad():
            z = F.linear(given["input"].double(), given["linear_weight"].double())
            p = z.softmax(-1) if not mixture else z.softmax(-1).mean(1)
        given["target"] = torch.multinomial(p, 1)[:, 0]
    return given


def wide(given: dict) -> dict:
    return {
        name: value.detach().double().requires_grad_()
        if isinstance(value, torch.Tensor) and value.is_floating_point()
        else value
        for name, value in given.items()
    }


def naive(given: dict, activation, **rest):
    """Scores as bfloat16 gives them, then float32: what `logits.float()` is for."""
    z = F.linear(given["input"], given["linear_weight"], given["linear_bias"]).float()
    return slow(
        z,
        torch.eye(z.shape[-1]),
        given["target"],
        activation=activation,
        log_prior=given["log_prior"],
        **rest,
    )


def outcome(loss, log_normalizer, parameters):
    total = loss.sum() + 0.01 * log_normalizer.sum()
    return [loss.detach(), *torch.autograd.grad(total, parameters)]


def errors(found, exact):
    return [float((a.double() - b).norm() / b.norm()) for a, b in zip(found, exact, strict=True)]


SLACK = 1.03
"""Two good codes differ by some percent in how they happen to round."""


def outputs(**given):
    return wn.functional.linear_token_outputs(**given, outputs=("log_prob", "entropy"))


def naive_outputs(input, linear_weight, target, *, linear_bias, log_prior):
    z = F.linear(input, linear_weight, linear_bias).float()
    return dense(z, torch.eye(z.shape[-1]), target, log_prior=log_prior)
