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
from wideneck.functional.distribution import widened
from wideneck.functional.forms import Form
from wideneck.functional.passes import mode_for
from wideneck.functional.shard import WHOLE, Shard
from wideneck.functional.spread import Spread, SpreadChunk
from wideneck.functional.workspace import workspace

CHUNK_ROWS = 1024
"""Rows of a chunk at most: products are slower with many fewer, and no faster with more."""
ACCELERATOR_ROWS = 4096
"""The same where starting kernels takes time.  A step of an AWD-LSTM with 15 softmaxes on an H100,
V = 10,000: 23 to 37 ms with 1024 rows, 20 with 4096, 19 with 8192, and 20 with the plain loss."""
CHUNK_SCORES = 2**26
"""Scores of a chunk at most (256 MiB in float32), down to 256 rows."""


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
    N, K, D = X.shape
    V = W.shape[0]
    dtype = widened(X, W)
    b_wide = None if b is None else b.to(dtype)
    kept = kept.nonzero().squeeze(1)
    whole = len(kept) == N
    out = Result(
        X.new_zeros(N, dtype=dtype),
        X.new_zeros(N, K, dtype=dtype),
        (X.new_empty if whole else X.new_zeros)(N, K, D, dtype=dtype) if wanted.input else None,
        None,
        W.new_zeros(V, dtype=dtype) if wanted.bias else None,
        X.new_zeros(N, K, dtype=dtype) if wanted.log_prior else None,
        [torch.zeros_like(p) for p in form.parameters] if wanted.parameters else [],
    )
    rows = CHUNK_ROWS if X.device.type == "cpu" else ACCELERATOR_ROWS
    most = min(rows, max(256, CHUNK_SCORES // (V if shard.is_whole else shard.largest)))
    size = max(1, most // K) if chunk_size is None else chunk_size
    num_chunks = max(1, -(-len(kept) // size))
    size = max(1, -(-len(kept) // num_chunks))  # even chunks: a short last one is a slow product
    # Narrower weights are widened into the workspace, if they are no larger than the scores may be.
    num_widened = W.numel() if W.dtype != dtype and W.numel() <= CHUNK_SCORES else 0
    space = workspace(num_widened + size * K * V, dtype=dtype, device=X.device)
    W_wide = space[:num_widened].view_as(W).copy_(W) if num_widened else W.to(dtype)
    scores = space[num_widened:]

    for start in range(0, len(kept), size):
        n = slice(start, start + size) if whole else kept[start : start + size]
        x = X[n].to(dtype).reshape(-1, D)
        z = scores[: len(x) * V].view(len(x), V)
        if b_wide is None:
            torch.mm(x, W_wide.T, out=z)
        else:
            torch.addmm(b_wide, x, W_wide.T, out=z)
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
        apart = None  # the target's entries, where they are no multiple of a itself
        if isinstance(chunk, SpreadChunk):
            chunk.to_gradient_(up, g, out.parameters)
            a = torch.ones_like(z[:, 0])
        else:
            a = chunk.to_gradient_(up.reshape(-1), ut.reshape(-1), out.parameters)
            if up is ut:
                chunk.subtract_target_()
            else:
                apart = chunk.target, -(ut.reshape(-1) * chunk.target_slope * chunk.here)
        if out.input is not None and whole:  # without a copy
            rows = out.input[n].view(-1, D)
            torch.mm(z, W_wide, out=rows)
            rows.mul_(a[:, None])
        elif out.input is not None:
            out.input[n] = (z @ W_wide).mul_(a[:, None]).view(-1, K, D)
        if wanted.weight:
            ax = x * a[:, None]
            # The first product makes dW: a fresh matrix of zeros would cost a pass more.
            out.weight = z.T @ ax if out.weight is None else out.weight.addmm_(z.T, ax)
        if out.bias is not None:
            out.bias.addmv_(z.T, a)
        if apart is not None:
            t, own = apart
            if out.input is not None:
                out.input[n] += (own[:, None] * W_wide[t]).view(-1, K, D)
            if out.weight is not None:
                out.weight.index_add_(0, t, own[:, None] * x)
            if out.bias is not None:
                out.bias.index_add_(0, t, own)

    if wanted.weight and out.weight is None:
        out.weight = torch.zeros_like(W_wide)
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
