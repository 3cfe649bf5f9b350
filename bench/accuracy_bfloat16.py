"""Errors of bfloat16 products, as tensor cores make them, beside the obvious bfloat16 code.

The products are emulated: bfloat16 factors, multiplied and summed in float32, which is what the
tensor cores of an accelerator do up to the order of the sums.  "naive" rounds the scores to
bfloat16, as a bfloat16 layer does, and computes the loss in float32.  Every error is the norm of
the difference to float64 over its norm: of the losses of the tokens, and of the gradients of X, W,
the bias and a mixture's log-prior, under "mean", "sum" and "none".  Targets are drawn from the
model where its scores spread by 4 or more, else at random.
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from bench.parts import report
from wideneck.config import ACTIVATIONS, ScaledSoftmax
from wideneck.functional import linear_cross_entropy, log_mixture, log_prob, scores

SPREADS = (0.5, 1, 2, 4, 8, 12, 20, 40)
FORMS = {**ACTIVATIONS, "scaled_softmax": ScaledSoftmax(scale=1.3)}
N, D, V, K = 256, 128, 4000, 3


def errors(scale: float) -> None:
    scores.kind_for = lambda device, *, narrow: "rounded" if narrow else "wide"
    tokens = max(16, round(N * scale))
    rows, ratios = [], []
    for form in FORMS:
        for mixture in (False, True):
            name = f"{form}{', mixture' if mixture else ''}"
            found = [_errors(form, mixture, spread, tokens) for spread in SPREADS]
            ratios.append([name, *(f"{max(o / n for o, n in one):.2f}" for one in found)])
            if form == "softmax":
                for part, what in ((1, "dX"), (2, "dW")):
                    cells = [f"{1e3 * one[part][1]:.2f}, {1e3 * one[part][0]:.2f}" for one in found]
                    rows.append([f"{name}, {what}", *cells])
    header = [f"std {spread}" for spread in SPREADS]
    title = f"{tokens} tokens, D {D}, V {V}, K {K}.  Errors of naive and ours, 1e-3:"
    report(title, ["", *header], rows)
    report("Largest ratio of ours to naive:", ["", *header], ratios)


def _errors(form: str, mixture: bool, spread: float, tokens: int) -> list[tuple[float, float]]:
    """(ours, naive) of the losses and every gradient; of the reductions the largest ratio."""
    given = _batch(spread, mixture, tokens)
    wide = [x.detach().double().requires_grad_() for x in given[:-1]]
    found: list[list[tuple[float, float]]] = []
    for reduction in ("none", "mean", "sum"):
        gold = _results(_naive, [*wide, given[-1]], form, reduction)
        ours, naive = (_results(loss, given, form, reduction) for loss in (_ours, _naive))
        found.append(
            [(_error(a, c), _error(b, c)) for a, b, c in zip(ours, naive, gold, strict=True)]
        )
    # A reduced loss is one number, whose error is a matter of luck.
    losses, *gradients = zip(*found, strict=True)
    return [losses[0], *(max(three, key=lambda one: one[0] / one[1]) for three in gradients)]


def _batch(spread: float, mixture: bool, tokens: int) -> list[Tensor]:
    """X, W, the bias, a mixture's log-prior, and the targets."""
    torch.manual_seed(0)
    shape = (tokens, K) if mixture else (tokens,)
    x = torch.randn(*shape, D).bfloat16()
    W = (torch.randn(V, D) * spread * D**-0.5).bfloat16()
    b = (torch.randn(V) / 4).bfloat16()
    target = torch.randint(V, (tokens,))
    if spread >= 4:
        p = F.linear(x.double(), W.double(), b.double()).softmax(-1)
        target = torch.multinomial(p.mean(1) if mixture else p, 1)[:, 0]
    prior = [torch.randn(shape).log_softmax(-1)] if mixture else []
    return [*(leaf.requires_grad_() for leaf in (x, W, b, *prior)), target]


def _results(loss: Any, given: list[Tensor], form: str, reduction: str) -> list[Tensor]:
    *leaves, target = given
    found = loss(*leaves[:3], leaves[3] if len(leaves) > 3 else None, target, form, reduction)
    return [found.detach(), *torch.autograd.grad(found.sum(), leaves)]


def _ours(x, W, b, prior, target, form, reduction) -> Tensor:
    options = {"activation": FORMS[form], "log_prior": prior, "reduction": reduction}
    return linear_cross_entropy(x, W, target, linear_bias=b, **options)


def _naive(x, W, b, prior, target, form, reduction) -> Tensor:
    z = F.linear(x, W, b)
    log_p = log_prob(z if z.dtype == torch.float64 else z.float(), FORMS[form])
    if prior is not None:
        log_p = log_mixture(prior, log_p)
    return F.nll_loss(log_p, target, reduction=reduction)


def _error(found: Tensor, gold: Tensor) -> float:
    return float((found.double() - gold).norm() / gold.norm())
