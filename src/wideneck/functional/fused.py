"""Scores, activation, normalizer, mixture and loss of a chunk of tokens at a time.

Letters: N tokens, K components, D hidden, V vocabulary, R = rows of a chunk (all K of a
token together), X (N, K, D), W (V, D).  Each chunk takes three products: scores Z = X W', then,
once Z holds G f'(Z) with G = exp(f(Z) - f(top)), dX = a (G f' W) and dW += (G f')' (a X).  All that
differs between rows (normalizer, responsibility, weight of the token) is in a, on the narrow
side; no pass over the scores is spent on it.  A mixture needs of each component only the
normalizer and the target's probability, so its distribution is never formed.

Cost: the three products and one pass over the scores, in blocks that stay in cache.  Products of
bfloat16 leave out the targets, which `apart` has; where numbers may be looked at, it asks once
which tokens are to be done again.
Memory: one chunk of scores, half as much again for products of bfloat16; dW in the dtype of the
computation.
"""

import torch
from torch import Tensor

from wideneck.functional.apart import ApartChunk
from wideneck.functional.chunk import Chunk
from wideneck.functional.kept import Kept, may_wait
from wideneck.functional.options import Layer, Wanted
from wideneck.functional.passes import mode_for
from wideneck.functional.scores import Gradients, Scores
from wideneck.functional.spread import Spread, SpreadChunk


@torch.no_grad()
def fused_nll(
    layer: Layer,
    kept: Kept,
    target: Tensor | Spread,
    *,
    chunk_size: int | None = None,
    wanted: Wanted,
    weight: Tensor | float = 1.0,
    square_weight: Tensor | float = 0.0,
    normalizer_weight: Tensor | None = None,
    narrow: bool = False,
) -> tuple[Tensor, Tensor, list[Tensor | None]]:
    """Losses, and gradients.

    Those of sum_n weight_n nll_n + sum_n square_weight_n mean_k lz_nk^2
    + sum_nk normalizer_weight_nk lz_nk.

    Args:
        layer: of one head or mixture, with the part of the vocabulary that is here.
        kept: the tokens that count.
        target: (N,), over the whole vocabulary; or what is spread over it.
        chunk_size: tokens at a time; None chooses.
        wanted: the gradients to compute.
        weight: (N,) or one number for all.
        square_weight: the same.
        normalizer_weight: (N, K) or None for 0.
        narrow: whether products of bfloat16 are asked for.

    Returns:
        The losses (N,), as they are: without z-loss, and by one target without a weight of its
        class; the logarithm of sum_j exp(f(z_j)) of each component (N, K); the gradients of X, W,
        b, log_prior, the scale and the parameters, None where not wanted.  Rows of ignored tokens
        are zero.
    """
    X, W, form, shard = layer.X, layer.W, layer.form, layer.shard
    (N, K, _), V = X.shape, len(W)
    learning = bool(form.parameters) and wanted.parameters
    mode = mode_for(form, V, learning=learning)
    asked = {"narrow": narrow, "scale": layer.scale}
    scores = Scores(X, W, layer.b, kept, shard, chunk_size, **asked)
    # What looks at the scores again needs them as they are, and so do targets that are spread.
    apart = scores.products.narrow and mode != "keep" and not isinstance(target, Spread)
    dtype = scores.dtype
    gradients = Gradients(scores, wanted, form.parameters)
    parameters = gradients.parameters
    nll, log_normalizer = X.new_zeros(N, dtype=dtype), X.new_zeros(N, K, dtype=dtype)
    left_out = X.new_zeros(N, dtype=torch.bool)

    def run(scores: Scores, *, at_top: bool) -> None:
        in_pass = apart and not at_top
        rest = scores.rest if in_pass else None
        for n, x, z in scores.chunks(done=not in_pass):
            prior = None if layer.log_prior is None else layer.log_prior[n]
            if isinstance(target, Spread):
                chunk = SpreadChunk.of(z.view(-1, K, V), target.rows(n), prior, form, shard)
                lz, loss, ut = chunk.log_normalizer, chunk.loss, chunk.shares
            else:
                t = target[n].repeat_interleave(K)
                if apart:
                    room = scores.room_for_gradient(z)
                    how = {"at_top": at_top, "sums": learning, "rest": rest}
                    chunk = ApartChunk.of(z, t, form, shard, room, **how)
                else:
                    chunk = Chunk.of(z, t, form, shard, mode)
                lz = chunk.log_normalizer.view(-1, K)
                loss, ut = _of_target(chunk.nll.view(-1, K), prior, dtype)
            nll[n] = loss.to(dtype)  # an index, unlike a slice, does not cast
            log_normalizer[n] = lz.to(dtype)
            if isinstance(chunk, ApartChunk) and chunk.left_out is not None:
                # A token's components answer for each other: all of them are left out.
                rows = chunk.left_out.view(-1, K)
                left_out[n] = rows.any(1)
                chunk.left_out = left_out[n].repeat_interleave(K)
            if not any(wanted):
                continue

            # ut weighs the target's term of a row, up the terms of all tokens.
            g = _rows(weight, n, dtype)
            ut = g * ut
            if gradients.log_prior is not None:
                gradients.log_prior[n] = -ut
            if not (any(wanted[:3]) or wanted.scale or parameters):
                continue
            up = ut
            if isinstance(square_weight, Tensor) or square_weight:
                up = up + _rows(square_weight, n, dtype) * (2 / K) * lz.to(dtype)
            if normalizer_weight is not None:
                up = up + normalizer_weight[n].to(dtype)
            if isinstance(chunk, SpreadChunk):
                chunk.to_gradient_(up, g, parameters)
                gradients.add(n, x, scores.as_factor(z), None)
                continue
            flat = up.reshape(-1)
            ut = flat if up is ut else ut.reshape(-1)
            if isinstance(chunk, ApartChunk):
                a, own = chunk.to_gradient(flat, ut, parameters)
                G = chunk.z
            else:
                narrow = scores.products.narrow
                a, own = chunk.to_gradient(flat, ut, parameters, apart=narrow)
                G = scores.as_factor(z)
            gradients.add(n, x, G, a)
            if own is not None:
                gradients.add_own(n, x, chunk.target, own)

    at_top = not may_wait(X.device)
    run(scores, at_top=at_top)
    if apart and not at_top:
        again = Kept.of(left_out)
        if again.number:
            run(scores.of(again), at_top=True)
    return nll, log_normalizer, gradients.finish()


def _of_target(nll: Tensor, log_prior: Tensor | None, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """The mixture's losses (n,) from its components' (n, K), and who answers for them (n, K)."""
    if log_prior is None:
        return nll.squeeze(1), torch.ones_like(nll, dtype=dtype)
    joint = log_prior - nll
    return -joint.logsumexp(-1), joint.softmax(-1).to(dtype)


def _rows(weight: Tensor | float, n: Tensor | slice, dtype: torch.dtype) -> Tensor | float:
    """Weights (n, 1) of a chunk's tokens, or the number that all have."""
    return weight[n].to(dtype)[:, None] if isinstance(weight, Tensor) else weight
