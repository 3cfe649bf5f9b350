"""The implementations: ours, and what people run today.

`IMPLEMENTATIONS[name](batch)` prepares one: it returns a function without arguments that gives
the loss, ready for `backward`.  A mixture's contexts (N, K, D) and log-prior (N, K) are given to
every implementation, ours and the peers': the projections that make them are not timed.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, partial
from importlib import import_module

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from bench.cases import (
    BIAS,
    COMPILED,
    ENTROPY,
    JSD,
    NONE,
    OURS,
    OUTPUTS,
    SMOOTHING,
    SOFTMAX,
    TEACHER,
    X_TRANSFORMERS,
    Case,
)
from wideneck.config import GSS
from wideneck.functional import (
    Teacher,
    linear_cross_entropy,
    linear_divergence,
    linear_token_outputs,
)


@dataclass
class Batch:
    """Inputs of one case; scores come out with a standard deviation of 2."""

    X: Tensor
    """(N, D), or (N, K, D)."""
    W: Tensor
    bias: Tensor
    log_prior: Tensor | None
    target: Tensor
    slope: Tensor
    activation: str

    @classmethod
    def make(cls, case: Case) -> "Batch":
        torch.manual_seed(0)
        dtype = getattr(torch, case.dtype)
        shape = (case.N,) if case.K is None else (case.N, case.K)
        prior = None if case.K is None else torch.randn(shape).log_softmax(-1).requires_grad_()
        return cls(
            torch.randn(*shape, case.D).to(dtype).requires_grad_(),
            (torch.randn(case.V, case.D) * 2 * case.D**-0.5).to(dtype).requires_grad_(),
            torch.randn(case.V).to(dtype).requires_grad_(),
            prior,
            torch.randint(case.V, (case.N,)),
            torch.tensor(2.0, requires_grad=True),
            case.activation,
        )

    @property
    def leaves(self) -> list[Tensor]:
        prior = [] if self.log_prior is None else [self.log_prior]
        return [self.X, self.W, self.bias, self.slope, *prior]

    def clear(self) -> None:
        for leaf in self.leaves:
            leaf.grad = None

    def gradient_bytes(self) -> int:
        return sum(leaf.grad.nbytes for leaf in self.leaves if leaf.grad is not None)


Loss = Callable[[], Tensor]


def step(batch: Batch, loss: Loss) -> None:
    """Forward and backward pass, with fresh gradients."""
    batch.clear()
    loss().sum().backward()


def _ours(batch: Batch, **options) -> Loss:
    options = {"activation": batch.activation, "log_prior": batch.log_prior, **options}
    return partial(linear_cross_entropy, batch.X, batch.W, batch.target, **options)


def _outputs(batch: Batch, *, entropy: float = 0.0) -> Loss:
    """What trainers ask for; the entropy is a metric, or with a factor a part of the loss."""

    def loss() -> Tensor:
        told = linear_token_outputs(
            batch.X,
            batch.W,
            batch.target,
            activation=batch.activation,
            log_prior=batch.log_prior,
            outputs=("log_prob", "entropy", "top1"),
        )
        assert told.log_prob is not None
        assert told.entropy is not None
        return -told.log_prob - entropy * told.entropy if entropy else -told.log_prob

    return loss


def _divergence(batch: Batch, beta: float = 0.0) -> Loss:
    """From a teacher of the same size, whose states and weights are others."""
    torch.manual_seed(1)
    states = torch.randn_like(batch.X)
    teacher = Teacher(states, torch.randn_like(batch.W) * 2 * batch.W.shape[1] ** -0.5)
    options = {"activation": batch.activation, "log_prior": batch.log_prior, "beta": beta}
    return partial(linear_divergence, batch.X, batch.W, teacher, **options)


def _scores(X: Tensor, W: Tensor, activation: str) -> Tensor:
    z = F.linear(X, W)
    return z + F.logsigmoid(z) if activation == "sigsoftmax" else z


def _naive_loss(X: Tensor, W: Tensor, target: Tensor, activation: str) -> Tensor:
    return F.cross_entropy(_scores(X, W, activation), target)


@cache
def _compiled_loss() -> Callable[..., Tensor]:
    return torch.compile(_naive_loss)


def _compiled(batch: Batch) -> Loss:
    return partial(_compiled_loss(), batch.X, batch.W, batch.target, batch.activation)


def _naive(batch: Batch) -> Loss:
    return partial(_naive_loss, batch.X, batch.W, batch.target, batch.activation)


def _torch(batch: Batch, chunk: int | None = None) -> Loss:
    options = nn.LinearCrossEntropyOptions(batch_chunk_size=chunk)
    return partial(F.linear_cross_entropy, batch.X, batch.W, batch.target, options=options)


def _mos(batch: Batch) -> Loss:
    """What zihangdai/mos (model.py) does behind its projections, written out by us."""
    assert batch.log_prior is not None
    log_prior = batch.log_prior

    def loss() -> Tensor:
        prob = _scores(batch.X, batch.W, batch.activation).softmax(-1)  # (N, K, V)
        mixed = (prob * log_prior.exp().unsqueeze(-1)).sum(1)
        return F.nll_loss((mixed + 1e-8).log(), batch.target)

    return loss


class _Given(nn.Module):
    """Stands for a projection whose result is known."""

    def __init__(self, result: Tensor):
        super().__init__()
        self.result = result

    def forward(self, hidden: Tensor) -> Tensor:
        return self.result


class _Linear(nn.Module):
    """`nn.Linear` of a matrix that is a leaf of the batch, not a parameter of its own."""

    def __init__(self, W: Tensor):
        super().__init__()
        self.W = W

    def forward(self, hidden: Tensor) -> Tensor:
        return F.linear(hidden, self.W)


def _x_transformers(batch: Batch) -> Loss:
    """The released TransformerWrapper, from `to_logits` on.

    Its contexts, its mixture's logits and its output matrix are replaced by the batch's.  What
    runs before them and is timed with it: one layer of 8 units, each token a sequence of its
    own, frozen.  That is some 10**-4 of the output layer.
    """
    package = import_module("x_transformers")
    assert batch.log_prior is not None
    N, K, _ = batch.X.shape
    model = package.TransformerWrapper(
        num_tokens=2,
        max_seq_len=1,
        attn_layers=package.Decoder(dim=8, depth=1, heads=1, attn_dim_head=8),
        to_logits=_Linear(batch.W),
        mixture_of_softmax=True,
        mixture_of_softmax_k=K,
        sigsoftmax_logits=batch.activation == "sigsoftmax",
    ).requires_grad_(False)
    model.to_mixture = _Given(batch.X.unsqueeze(1))
    model.combine_mixture = _Given(batch.log_prior.unsqueeze(1))
    tokens = torch.zeros(N, 1, dtype=torch.long)
    return lambda: F.nll_loss(model(tokens).squeeze(1), batch.target)


IMPLEMENTATIONS: dict[str, Callable[[Batch], Loss]] = {
    OURS: _ours,
    SOFTMAX: partial(_ours, activation="softmax"),
    BIAS: lambda batch: _ours(batch, linear_bias=batch.bias),
    NONE: partial(_ours, reduction="none"),
    OUTPUTS: _outputs,
    ENTROPY: partial(_outputs, entropy=0.01),
    SMOOTHING: partial(_ours, label_smoothing=0.1),
    TEACHER: _divergence,
    JSD: partial(_divergence, beta=0.5),
    "wideneck, gss": partial(_ours, activation=GSS()),
    "wideneck, gss with a learned slope": lambda batch: _ours(
        batch, activation=GSS(slope=batch.slope)
    ),
    "naive": _naive,
    COMPILED: _compiled,
    "F.linear_cross_entropy": _torch,
    "F.linear_cross_entropy, chunk 512": partial(_torch, chunk=512),
    "F.linear_cross_entropy, chunk 1024": partial(_torch, chunk=1024),
    "zihangdai/mos": _mos,
    X_TRANSFORMERS: _x_transformers,
}
