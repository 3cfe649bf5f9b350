"""Scores, activation, normalizer, mixture and loss of a chunk of tokens at a time.

Letters: N tokens, K components, D hidden, V vocabulary, R = rows of a chunk (all K of a
token together), X (N, K, D), W (V, D).  Three products a chunk: scores Z = X W', then, once Z
holds G f'(Z) with G = exp(f(Z) - f(top)), dX = a (G f' W) and dW += (G f')' (a X).  All that
differs between rows (normalizer, responsibility, weight of the token) is in a, on the narrow
side; no pass over the scores is spent on it.  A mixture needs of each component only the
normalizer and the target's probability, so its distribution is never formed.

Cost: the three products and one pass over the scores, in blocks that stay in cache.
Memory: one chunk of scores; dW in the dtype of the computation.
"""

from dataclasses import dataclass, field
from typing import final

import torch
from torch import Tensor

from wideneck.functional.chunk import Chunk
from wideneck.functional.forms import Form
from wideneck.functional.passes import mode_for
from wideneck.functional.scores import Gradients, Scores
from wideneck.functional.shard import WHOLE, Shard
from wideneck.functional.spread import Spread, SpreadChunk


@final
@dataclass(frozen=True)
class Wanted:
    """Which gradients to compute."""

    input: bool = False
    weight: bool = False
    bias: bool = False
    log_prior: bool = False
    parameters: bool = False

    def __bool__(self) -> bool:
        return self.input or self.weight or self.bias or self.log_prior or self.parameters


@final
@dataclass
class Result:
    """Losses and, where they were wanted, gradients.  Rows of ignored tokens are zero."""

    nll: Tensor
    """(N,), as they are: without z-loss, and by one target without a weight of its class."""
    log_normalizer: Tensor
    """(N, K), the logarithm of sum_j exp(f(z_j)) of each component."""
    input: Tensor | None = None
    weight: Tensor | None = None
    bias: Tensor | None = None
    log_prior: Tensor | None = None
    parameters: list[Tensor] = field(default_factory=list)


@torch.no_grad()
def fused_nll(
    X: Tensor,
    W: Tensor,
    b: Tensor | None,
    log_prior: Tensor | None,
    kept: Tensor,
    target: Tensor | Spread,
    form: Form,
    *,
    chunk_size: int | None = None,
    wanted: Wanted | None = None,
    weight: Tensor | float = 1.0,
    square_weight: Tensor | float = 0.0,
    normalizer_weight: Tensor | None = None,
    shard: Shard = WHOLE,
) -> Result:
    """Losses, and gradients.

    Those of sum_n weight_n nll_n + sum_n square_weight_n mean_k lz_nk^2
    + sum_nk normalizer_weight_nk lz_nk.

    Args:
        X: (N, K, D).
        W: (V, D), or this process's rows of it.
        b: (V,) or None.
        log_prior: (N, K), None where K is 1.
        kept: (N,), false for the rows that are skipped.
        target: (N,), over the whole vocabulary; or what is spread over it.
        form: the activation.
        chunk_size: tokens at a time; None chooses.
        wanted: the gradients to compute; none by default.
        weight: (N,) or one number for all.
        square_weight: the same.
        normalizer_weight: (N, K) or None for 0.
        shard: the part of the vocabulary that W holds.
    """
    wanted = wanted or Wanted()
    N, K, _ = X.shape
    V = W.shape[0]
    scores = Scores(X, W, b, kept, shard, chunk_size)
    dtype = scores.dtype
    gradients = Gradients(scores, input=wanted.input, weight=wanted.weight, bias=wanted.bias)
    out = Result(
        X.new_zeros(N, dtype=dtype),
        X.new_zeros(N, K, dtype=dtype),
        log_prior=X.new_zeros(N, K, dtype=dtype) if wanted.log_prior else None,
        parameters=[torch.zeros_like(p) for p in form.parameters] if wanted.parameters else [],
    )

    for n, x, z in scores:
        prior = None if log_prior is None else log_prior[n]
        if isinstance(target, Spread):
            chunk = SpreadChunk.of(z.view(-1, K, V), target.rows(n), prior, form, shard)
            lz, loss, ut = chunk.log_normalizer, chunk.loss, chunk.shares
        else:
            t = target[n].repeat_interleave(K)
            chunk = Chunk.of(z, t, form, shard, mode_for(form, V, learning=bool(out.parameters)))
            lz = chunk.log_normalizer.view(-1, K)
            loss, ut = _of_target(chunk.nll.view(-1, K), prior, dtype)
        out.nll[n] = loss.to(dtype)  # an index, unlike a slice, does not cast
        out.log_normalizer[n] = lz.to(dtype)
        if not wanted:
            continue

        # ut weighs the target's term of a row, up the terms of all tokens.
        g = _rows(weight, n, dtype)
        ut = g * ut
        if out.log_prior is not None:
            out.log_prior[n] = -ut
        if not (wanted.input or wanted.weight or wanted.bias or out.parameters):
            continue
        up = ut
        if isinstance(square_weight, Tensor) or square_weight:
            up = up + _rows(square_weight, n, dtype) * (2 / K) * lz.to(dtype)
        if normalizer_weight is not None:
            up = up + normalizer_weight[n].to(dtype)
        if isinstance(chunk, SpreadChunk):
            chunk.to_gradient_(up, g, out.parameters)
            gradients.add(n, x, z, None)
            continue
        a = chunk.to_gradient_(up.reshape(-1), ut.reshape(-1), out.parameters)
        if up is ut:  # the target's entry has a multiple of a itself
            chunk.subtract_target_()
        gradients.add(n, x, z, a)
        if up is not ut:
            own = -(ut.reshape(-1) * chunk.target_slope * chunk.here)
            gradients.add_own(n, x, chunk.target, own)

    gradients.finish()
    out.input, out.weight, out.bias = gradients.input, gradients.weight, gradients.bias
    return out


def _of_target(nll: Tensor, log_prior: Tensor | None, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """Of components' losses (n, K) the mixture's (n,), and who answers for it (n, K)."""
    if log_prior is None:
        return nll.squeeze(1), torch.ones_like(nll, dtype=dtype)
    joint = log_prior - nll
    return -joint.logsumexp(-1), joint.softmax(-1).to(dtype)


def _rows(weight: Tensor | float, n: Tensor | slice, dtype: torch.dtype) -> Tensor | float:
    """Weights (n, 1) of a chunk's tokens, or the number that all have."""
    return weight[n].to(dtype)[:, None] if isinstance(weight, Tensor) else weight
