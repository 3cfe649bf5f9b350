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
    """(N,), z-loss included."""
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
    target: Tensor,
    form: Form,
    *,
    z_loss: float = 0.0,
    ignore_index: int = -100,
    chunk_size: int | None = None,
    wanted: Wanted | None = None,
    weight: Tensor | float = 1.0,
    normalizer_weight: Tensor | None = None,
    shard: Shard = WHOLE,
) -> Result:
    """Losses, and the gradients of sum_n weight_n loss_n + sum_nk normalizer_weight_nk lz_nk.

    Args:
        X: (N, K, D).
        W: (V, D), or this process's rows of it.
        b: (V,) or None.
        log_prior: (N, K), None where K is 1.
        target: (N,), over the whole vocabulary.
        form: the activation.
        z_loss: adds z_loss times the mean over components of the squared log-normalizer.
        ignore_index: rows of this target are skipped.
        chunk_size: tokens at a time; None chooses.
        wanted: the gradients to compute; none by default.
        weight: (N,) or one number for all.
        normalizer_weight: (N, K) or None for 0.
        shard: the part of the vocabulary that W holds.
    """
    wanted = wanted or Wanted()
    N, K, _ = X.shape
    V = W.shape[0]
    scores = Scores(X, W, b, target != ignore_index, shard, chunk_size)
    dtype = scores.dtype
    gradients = Gradients(scores, input=wanted.input, weight=wanted.weight, bias=wanted.bias)
    out = Result(
        X.new_zeros(N, dtype=dtype),
        X.new_zeros(N, K, dtype=dtype),
        log_prior=X.new_zeros(N, K, dtype=dtype) if wanted.log_prior else None,
        parameters=[torch.zeros_like(p) for p in form.parameters] if wanted.parameters else [],
    )

    for n, x, z in scores:
        t = target[n].repeat_interleave(K)
        chunk = Chunk.of(z, t, form, shard, mode_for(form, V, learning=bool(out.parameters)))
        lz = chunk.log_normalizer.view(-1, K)
        nll = chunk.nll.view(-1, K)
        if log_prior is None:
            loss, share = nll.squeeze(1), None
        else:
            joint = log_prior[n] - nll
            loss, share = -joint.logsumexp(-1), joint.softmax(-1).to(dtype)
        if z_loss:
            loss = loss + z_loss * lz.square().mean(-1)
        out.nll[n] = loss.to(dtype)  # an index, unlike a slice, does not cast
        out.log_normalizer[n] = lz.to(dtype)
        if not wanted:
            continue

        # ut weighs the target's term of a row, up the terms of all tokens.
        g = weight[n].to(dtype)[:, None] if isinstance(weight, Tensor) else weight
        ut = g * (torch.ones_like(lz, dtype=dtype) if share is None else share)
        up = ut
        # Where both are the same, the target's entry has a multiple of a itself.
        plain = not z_loss and normalizer_weight is None
        if z_loss:
            up = up + g * (2 * z_loss / K) * lz.to(dtype)
        if normalizer_weight is not None:
            up = up + normalizer_weight[n].to(dtype)
        if out.log_prior is not None:
            out.log_prior[n] = -ut
        if not (wanted.input or wanted.weight or wanted.bias or out.parameters):
            continue
        a = chunk.to_gradient_(up.reshape(-1), ut.reshape(-1), out.parameters)
        if plain:
            chunk.subtract_target_()
        gradients.add(n, x, z, a)
        if not plain:
            own = -(ut.reshape(-1) * chunk.target_slope * chunk.here)
            gradients.add_own(n, x, chunk.target, own)

    gradients.finish()
    out.input, out.weight, out.bias = gradients.input, gradients.weight, gradients.bias
    return out
