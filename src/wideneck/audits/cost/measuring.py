"""How far a cheaper head's predictions are from the head's, token by token.

With d = z' - z, m = E_p d and u = d - m:

    KL(p || q)          = log E_p e^u - E_p u             = log1p(E_p expm1(u)) - E_p u
    log q_y - log p_y   = u_y - log E_p e^u
    sum_i min(p_i, q_i) = 1 - E_p max(0, s - expm1(u)) / (1 + s),  s = E_p expm1(u)

None of them takes one large number off another, so divergences far below the rounding of a
log-normalizer are seen.  Cost: a product with each head's matrix, and eight passes over its scores.

Shapes: N tokens, V vocabulary, D hidden size.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from wideneck.audits.cost.cheaper import Cheaper
from wideneck.audits.output.layer import OutputLayer, token_chunks

BLOCK = 2**20
"""Scores at a time that go through all passes while they are in the cache."""
FAR = 40.0
"""A change of a logit beyond which expm1 may leave float32; such rows are summed otherwise."""


@dataclass(frozen=True)
class Apart:
    """A cheaper head at each token, (N,) each, float64."""

    kl: Tensor
    nats: Tensor
    """Change of the loss."""
    same: Tensor
    """1 where both have the same most probable token."""
    acceptance: Tensor
    half_variance: Tensor
    """Var_p(d) / 2."""
    probability: Tensor
    """Change of the target's probability."""


@torch.no_grad()
def apart(
    layer: OutputLayer, heads: Sequence[Cheaper], hidden: Tensor, targets: Tensor
) -> list[Apart]:
    """Measure several cheaper heads in one pass.

    Args:
        layer: the head.
        heads: all in memory.
        hidden: (N, D).
        targets: (N,).
    """
    found: list[list[Tensor]] = [[] for _ in heads]
    for x, y in token_chunks(hidden, targets):
        z = layer.logits(x)
        p = z.softmax(1)
        top = z.argmax(1)
        rows = max(1, BLOCK // z.shape[1])
        for head, parts in zip(heads, found, strict=True):
            whole = head.logits(x, z), z, p, top, y
            blocks = zip(*(tensor.split(rows) for tensor in whole), strict=True)
            parts += [_apart(*block) for block in blocks]
    return [Apart(*torch.cat(parts, dim=1)) for parts in found]


def _apart(other: Tensor, z: Tensor, p: Tensor, top: Tensor, y: Tensor) -> Tensor:
    """(6, N): the fields of `Apart`; takes `other` (N, V) for its own."""
    same = other.argmax(1) == top
    change = other.sub_(z)
    mean = torch.linalg.vecdot(p, change)
    change -= mean[:, None]
    far = change.amax(1) > FAR
    log_q = (z[far] + change[far]).log_softmax(1)
    variance = torch.linalg.vecdot(p, change.square())
    moved = change.gather(1, y[:, None])[:, 0].double()
    # E_p u is 0 but for rounding, which counts in a divergence that is smaller still.
    off = torch.linalg.vecdot(p, change).double()
    grown = torch.expm1(change)
    total = torch.linalg.vecdot(p, change.neg_().add_(grown)).double() + off
    kl = torch.log1p(total) - off
    rejected = torch.linalg.vecdot(p, (total.float()[:, None] - grown).clamp_min_(0)).double()
    rejected /= 1 + total
    if far.any():
        kl[far] = torch.linalg.vecdot(p[far], z[far].log_softmax(1) - log_q).double()
        rejected[far] = (p[far] - log_q.exp()).clamp_min_(0).sum(1).double()
    moved -= kl + off
    before = p.gather(1, y[:, None])[:, 0].double()
    return torch.stack(
        [kl, -moved, same.double(), 1 - rejected, variance.double() / 2, before * moved.expm1()]
    )
