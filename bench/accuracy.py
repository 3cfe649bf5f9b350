"""Errors against float64 of ours and of the obvious float32 code, on the same inputs.

Every error is the norm of the difference over the norm of the float64 result: of the losses of
the tokens (reduction "none"), and of the gradients of their mean.  The shift is added to all
scores through the bias.  The naive code is the most careful one: log_softmax and logsumexp.
Two good float32 codes differ by some percent in how they happen to round: "ABOVE" is a ratio
over SLACK, and the largest ratio of the row is printed.
"""

from collections.abc import Callable
from dataclasses import replace

import torch
import torch.nn.functional as F
from torch import Tensor

from bench.cases import Case
from bench.parts import report
from bench.peers import Batch
from wideneck.functional import linear_cross_entropy, log_mixture, log_prob

SIZES = Case(N=256, D=256, V=8192, limit=0, rows={})
HEADS = {
    "softmax": SIZES,
    "sigsoftmax": replace(SIZES, activation="sigsoftmax"),
    "mos, K 3": replace(SIZES, K=3),
    "moss, K 3": replace(SIZES, K=3, activation="sigsoftmax"),
}
SHIFTS = (0.0, 60.0, -60.0)
SLACK = 1.05
PARTS = ("loss", "dX", "dW")
WHO = ("naive", "wideneck")

Losses = Callable[[Batch], Tensor]
"""One loss per token, (N,)."""


def accuracy(scale: float) -> None:
    header = (
        "error, relative",
        "shift",
        *(f"{x} {who}" for x in PARTS for who in WHO),
        "largest ratio",
        "",
    )
    rows = [
        _row(head, case.scaled(scale), shift) for head, case in HEADS.items() for shift in SHIFTS
    ]
    report(f"{SIZES.scaled(scale)}.", header, rows)


def _row(head: str, case: Case, shift: float) -> list[str]:
    batch = Batch.make(case)
    with torch.no_grad():
        batch.bias.fill_(shift)
    gold = _results(_twin, _wide(batch))
    naive = [_error(a, b) for a, b in zip(_results(_naive, batch), gold, strict=True)]
    ours = [_error(a, b) for a, b in zip(_results(_ours, batch), gold, strict=True)]
    ratio = max(o / n for o, n in zip(ours, naive, strict=True))
    pairs = [f"{e:.2e}" for pair in zip(naive, ours, strict=True) for e in pair]
    return [head, f"{shift:+.0f}", *pairs, f"{ratio:.3f}", "ABOVE" if ratio > SLACK else "within"]


def _results(losses: Losses, batch: Batch) -> list[Tensor]:
    batch.clear()
    each = losses(batch)
    mean = _ours(batch, "mean") if losses is _ours else each.mean()
    mean.backward()
    grads = [leaf.grad for leaf in (batch.X, batch.W)]
    return [each.detach(), *(grad for grad in grads if grad is not None)]


def _ours(batch: Batch, reduction: str = "none") -> Tensor:
    return linear_cross_entropy(
        batch.X,
        batch.W,
        batch.target,
        linear_bias=batch.bias,
        activation=batch.activation,
        log_prior=batch.log_prior,
        reduction=reduction,
    )


def _naive(batch: Batch) -> Tensor:
    z = F.linear(batch.X, batch.W, batch.bias)
    log_p = (z + F.logsigmoid(z) if batch.activation == "sigsoftmax" else z).log_softmax(-1)
    if batch.log_prior is not None:
        log_p = (batch.log_prior.unsqueeze(-1) + log_p).logsumexp(1)
    return F.nll_loss(log_p, batch.target, reduction="none")


def _twin(batch: Batch) -> Tensor:
    log_p = log_prob(F.linear(batch.X, batch.W, batch.bias), batch.activation)
    if batch.log_prior is not None:
        log_p = log_mixture(batch.log_prior, log_p)
    return F.nll_loss(log_p, batch.target, reduction="none")


def _wide(batch: Batch) -> Batch:
    prior = batch.log_prior
    return replace(
        batch,
        X=batch.X.detach().double().requires_grad_(),
        W=batch.W.detach().double().requires_grad_(),
        bias=batch.bias.detach().double(),
        log_prior=None if prior is None else prior.detach().double(),
    )


def _error(found: Tensor, gold: Tensor) -> float:
    return float((found - gold).norm() / gold.norm())
