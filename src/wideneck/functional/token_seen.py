"""The whole tempered distribution of some tokens, in the cache, and the way back through a mixture.

Letters as in `token_pass`.
"""

from dataclasses import dataclass
from typing import final

import torch
from torch import Tensor

from wideneck.functional.forms import LOG2_E, Identity
from wideneck.functional.token_block import Block, mixture_log_prob


@final
@dataclass(frozen=True)
class Mixed:
    """What a mixture's distribution was made of."""

    e: Tensor
    """(R, V), exp(f(z) - f(top)) of the components."""
    u: Tensor | None
    """(n, K, V), its logarithm, where some P is too small for a number."""
    log_w: Tensor
    """(n, K), log pi_k less the log of the sum of e."""
    total: Tensor
    """(n, K), the sums of e."""
    log_prob: Tensor
    """(n, V)."""


@final
@dataclass(frozen=True)
class Seen:
    """P of the tokens of a part, tempered."""

    bits: Tensor
    """(n, V), log2 p but for the same number in a whole row."""
    p: Tensor
    """(n, V)."""
    log2_total: Tensor
    """(n, 1), what is to be taken off the bits."""
    mixed: Mixed | None


def see(part: Block, spares: list[Tensor], *, uses_up: bool) -> Seen:
    """Reads a part's scores, which stay unless they may be used up.

    Args:
        part: some tokens of a chunk.
        spares: two memories of the shape of its scores.
        uses_up: whether the scores are of no further use; else they stay.
    """
    form, mixed = part.form, None
    top = part.shard.max(part.z.amax(-1, keepdim=True))
    if part.log_prior is None:
        in_place = uses_up and isinstance(form, Identity)
        s = form.relative(part.z, top, out=part.z if in_place else spares[0])
        room = spares[1]
    else:
        e = form.exponentials(part.z, top, *spares)
        total = part.by_component(part.shard.add_up(e.sum(-1)))
        log_w = part.log_prior - total.log()
        log_P, u = mixture_log_prob(e, top, log_w, part, spares[1])
        s = log_P - part.shard.max(log_P.amax(-1, keepdim=True))
        mixed = Mixed(part.by_component(e), u, log_w, total, log_P)
        room = torch.empty_like(s)
    bits = s.mul_(LOG2_E / part.temperature)
    p = torch.exp2(bits, out=room)
    total = part.shard.add_up(p.sum(-1, keepdim=True))
    return Seen(bits, p.mul_(1 / total), total.log2(), mixed)


def through_mixture(
    part: Block, mixed: Mixed, d: Tensor, spare: Tensor, own: Tensor | float = 0.0
) -> tuple[Tensor, Tensor]:
    """The gradient of s_k = f(z_k), (R, V), and that of log_prior, (n, K).

    Args:
        part: whose scores they are.
        mixed: its distribution.
        d: (n, V), q / P with q = -dL/dlog P; where `mixed.u` is there, q itself.
        spare: memory of the shape of the scores, which may hold u.
        own: (n, K), what of q rho is not in d, by component.
    """
    e, w = mixed.e, mixed.log_w.exp()
    if mixed.u is None:
        ed = torch.mul(e, d[:, None], out=part.by_component(spare))
        R = part.shard.add_up(ed.sum(-1) * w) - own  # others may be in the other branch
        weight = ed.mul_(-w[..., None]).addcmul_(e, (R / mixed.total)[..., None])
    else:  # a ratio of what is too small for a number: the responsibilities themselves, in logs
        rho = (mixed.u + (mixed.log_w[..., None] - mixed.log_prob[:, None])).exp_()
        q = d[:, None]
        R = part.shard.add_up((rho * q).sum(-1)) - own
        weight = torch.addcmul(-rho * q, e, (R / mixed.total)[..., None])
    return weight.view_as(part.z), -R
