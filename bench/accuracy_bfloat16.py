"""Errors of bfloat16 products, as tensor cores make them, beside the obvious bfloat16 code.

The products are emulated: bfloat16 factors, multiplied and summed in float32, which is what the
tensor cores of an accelerator do up to the order of the sums.  "naive" is a bfloat16 layer, whose
scores are rounded, and the loss in float32; it is emulated as well, since a CPU without units for
bfloat16 takes most of the time for its products.  Every error is the norm of the difference to
float64 over its norm: of the losses of the tokens, and of the gradients of X, W, the bias and a
mixture's log-prior, under "mean", "sum" and "none", where every token has a weight of its own.  The
number of tokens is no power of two, by which a mean would divide exactly.  Targets are drawn from
the model where its scores spread by 4 or more, else at random.

Both codes round at random, so that each ratio is the mean of several draws, with the 95 % interval
of Student's t.
"""

from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from scipy.special import stdtrit
from torch import Tensor

from bench.parts import report
from wideneck.config import ACTIVATIONS, ScaledSoftmax
from wideneck.functional import linear_cross_entropy, log_mixture, log_prob, scores

SPREADS = (0.5, 1, 2, 4, 8, 12, 20, 40)
FORMS = {**ACTIVATIONS, "scaled_softmax": ScaledSoftmax(scale=1.3)}
REDUCTIONS = ("none", "mean", "sum")
PARTS = ("losses", "dX", "dW", "bias", "log-prior")
N, D, V, K = 250, 64, 1000, 3
DRAWS = 8
CLOSE = 0.97
"""A mean ratio from which its interval is shown."""


class Batch(NamedTuple):
    """What a loss is of."""

    leaves: list[Tensor]
    """X, W, the bias and a mixture's log-prior."""
    target: Tensor
    weight: Tensor
    """(N,), of the tokens where nothing is reduced."""


def errors(scale: float) -> None:
    scores.kind_for = lambda device, *, narrow: "rounded" if narrow else "wide"
    tokens = max(15, round(N * scale))
    found: dict[str, list[Tensor]] = {}
    for mixture in (False, True):
        names = {form: f"{form}{', mixture' if mixture else ''}" for form in FORMS}
        for spread in SPREADS:
            batches = [_batch(spread, mixture, tokens, seed) for seed in range(DRAWS)]
            for form, name in names.items():
                one = torch.stack([_errors(form, batch) for batch in batches])
                found.setdefault(name, []).append(one)
    header = ["", *(f"std {spread}" for spread in SPREADS)]
    title = f"{tokens} tokens, D {D}, V {V}, K {K}, {DRAWS} draws.  "
    sizes = [
        [f"{name}, {PARTS[part]}", *(_both(one[:, 2, part]) for one in found[name])]
        for name in ("softmax", "softmax, mixture")
        for part in (1, 2)
    ]
    report(f"{title}Errors of naive and ours, 1e-3:", header, sizes)
    cells = {name: [_worst(one) for one in all_] for name, all_ in found.items()}
    rows = [[name, *(str(cell) for cell in cells[name])] for name in sorted(cells)]
    above = [
        f"above 1: {name}, std {spread}: {cell.part} under {cell.reduction!r}, "
        f"{cell.mean:.4f} ± {cell.half:.4f}"
        for name, all_ in cells.items()
        for spread, cell in zip(SPREADS, all_, strict=True)
        if cell.mean > 1
    ]
    report("Largest mean ratio of ours to naive:", header, rows, above or ["none is above 1"])


class Ratio(NamedTuple):
    """Ours to naive, over the draws."""

    mean: float
    half: float
    part: str
    reduction: str

    def __str__(self) -> str:
        near = self.mean > CLOSE
        return f"{self.mean:.3f} ± {self.half:.3f}" if near else f"{self.mean:.2f}"


def _worst(found: Tensor) -> Ratio:
    """That of the part and reduction where it is largest, of (draws, reductions, parts, 2)."""
    ratios = found[..., 0] / found[..., 1]
    means = ratios.mean(0)
    place = int(means.argmax())
    reduction, part = divmod(place, means.shape[1])
    draws = ratios[:, reduction, part]
    half = float(stdtrit(len(draws) - 1, 0.975)) * float(draws.std()) / len(draws) ** 0.5
    return Ratio(float(draws.mean()), half, PARTS[part], REDUCTIONS[reduction])


def _both(one: Tensor) -> str:
    ours, naive = 1e3 * one.mean(0)
    return f"{naive:.3g}, {ours:.3g}"


def _errors(form: str, batch: Batch) -> Tensor:
    """(reductions, parts, 2): ours and naive.  A reduced loss is one number, a matter of luck."""
    wide = [leaf.detach().double().requires_grad_() for leaf in batch.leaves]
    upstream = [batch.weight, torch.full_like(batch.weight, 1 / len(batch.weight))]
    upstream.append(torch.ones_like(batch.weight))
    found = []
    for leaves, layer in ((batch.leaves, _Layer.apply), (wide, F.linear)):
        nll = _naive(layer(*leaves[:3]), leaves[3:], batch.target, form)
        some = [
            torch.autograd.grad(nll, leaves, one.to(nll.dtype), retain_graph=True)
            for one in upstream
        ]
        found.append((nll.detach(), some))
    (their_nll, theirs), (nll, gold) = found
    rows, losses = [], [0.0, 0.0]
    for reduction, their_own, exact in zip(REDUCTIONS, theirs, gold, strict=True):
        loss = _ours(batch, form, reduction)
        if reduction == "none":
            losses = [_error(one.detach(), nll) for one in (loss, their_nll)]
            loss = (loss * batch.weight).sum()
        ours = torch.autograd.grad(loss, batch.leaves)
        parts = zip(ours, their_own, exact, strict=True)
        rows.append([losses, *([_error(a, c), _error(b, c)] for a, b, c in parts)])
    return torch.tensor(rows)


class _Layer(torch.autograd.Function):
    """A bfloat16 layer: products with float32 sums, and what comes out rounded."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, W: Tensor, b: Tensor) -> Tensor:  # pyrefly: ignore[bad-override]
        ctx.save_for_backward(x, W)
        return F.linear(x.float(), W.float(), b.float()).bfloat16()

    @staticmethod
    def backward(ctx: Any, dz: Tensor):  # pyrefly: ignore[bad-override]
        x, W = (saved.float() for saved in ctx.saved_tensors)
        wide, rows = dz.float(), dz.flatten(0, -2).float()
        found = wide @ W, rows.T @ x.flatten(0, -2), rows.sum(0)
        return tuple(one.bfloat16() for one in found)


def _batch(spread: float, mixture: bool, tokens: int, seed: int) -> Batch:
    torch.manual_seed(seed)
    shape = (tokens, K) if mixture else (tokens,)
    x = torch.randn(*shape, D).bfloat16()
    W = (torch.randn(V, D) * spread * D**-0.5).bfloat16()
    b = (torch.randn(V) / 4).bfloat16()
    target = torch.randint(V, (tokens,))
    if spread >= 4:
        p = F.linear(x.double(), W.double(), b.double()).softmax(-1)
        target = torch.multinomial(p.mean(1) if mixture else p, 1)[:, 0]
    prior = [torch.randn(shape).log_softmax(-1)] if mixture else []
    leaves = [leaf.requires_grad_() for leaf in (x, W, b, *prior)]
    return Batch(leaves, target, torch.rand(tokens) + 0.5)


def _ours(batch: Batch, form: str, reduction: str) -> Tensor:
    x, W, b, *prior = batch.leaves
    options = {"activation": FORMS[form], "log_prior": prior[0] if prior else None}
    return linear_cross_entropy(x, W, batch.target, linear_bias=b, reduction=reduction, **options)


def _naive(z: Tensor, prior: list[Tensor], target: Tensor, form: str) -> Tensor:
    log_p = log_prob(z if z.dtype == torch.float64 else z.float(), FORMS[form])
    if prior:
        log_p = log_mixture(prior[0], log_p)
    return F.nll_loss(log_p, target, reduction="none")


def _error(found: Tensor, gold: Tensor) -> float:
    return float((found.double() - gold).norm() / gold.norm())
