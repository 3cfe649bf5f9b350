"""What a token's distribution says of it, from a chunk of scores.

Letters as in `fused`.  With s = f(z) of one head, or s = log P of a mixture, everything is asked of
the tempered distribution p = exp(s / T - l), l = log sum_j exp(s_j / T); with u = (s - s_top) / T
a row needs the sums of e^u, u e^u, e^2u and u:

    entropy          H = log sum e^u - sum u e^u / sum e^u
    log sum_j p_j^2    = log sum e^2u - 2 log sum e^u
    mean_j log p_j     = mean u - log sum e^u
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import final

import torch
from torch import Tensor

from wideneck.functional.forms import LOG2_E
from wideneck.functional.token_block import (
    Block,
    by_token,
    is_one,
    mixture_log_prob,
)

Wants = Sequence[str]
"""Names of outputs."""


@final
@dataclass(frozen=True)
class Values:
    """What is found of a block's tokens, (n,) unless it is of components; exact where it can be."""

    log_prob: Tensor
    entropy: Tensor | None
    log_sum_sq_prob: Tensor | None
    mean_log_prob: Tensor | None
    top1: Tensor | None
    top: Tensor
    """(n, K), the largest scores."""
    log_total: Tensor
    """(n, K), log sums of exp(u): tempered for one head, never for a component."""
    normalizer: Tensor
    """(n,), l of a mixture."""
    share: Tensor
    """(n, K), responsibilities of the components for the target."""


def values(block: Block, wants: Wants) -> Values:
    """One pass over the scores of a head; K passes and one over V numbers for a mixture.

    Args:
        block: the scores of a chunk, which are used up.
        wants: the outputs to find, by name.
    """
    form, shard, T = block.form, block.shard, block.temperature
    # A few numbers of a row in float64 (which MPS lacks) keep roundings of f out of the results.
    exact = block.z.dtype if block.z.device.type == "mps" else torch.float64
    V = shard.vocab_size or block.z.shape[1]
    here, at = block.local()
    f_t = form.log_score(block.z.gather(1, at).to(exact)).squeeze(1)
    if not shard.is_whole:
        f_t = shard.add_up(torch.where(here, f_t, 0))
    see, num_spares = (_see_one, 1) if block.log_prior is None else (_see_mixture, 2)
    spares: list[Tensor] = []
    seen = []
    for some, part in block.parts():
        # Not made for every part: the system would clear their pages.
        spares = spares or [torch.empty_like(part.z) for _ in range(num_spares)]
        rows = slice(some.start * block.num_components, some.stop * block.num_components)
        seen.append(see(part, at[rows], wants, [spare[: len(part.z)] for spare in spares]))
    top, total, top_P, sums, first = (torch.cat(x, -1) for x in zip(*seen, strict=True))
    total, sums, T_n = total.to(exact), sums.to(exact), by_token(T)
    f_top = form.log_score(top.to(exact))
    log_total = block.by_component(total.log())
    log_p_t = block.by_component(f_t - f_top)
    if block.log_prior is None:
        log_sum = log_total.squeeze(1)
        log_p_t, normalizer = log_p_t.squeeze(1) / T_n - log_sum, torch.zeros_like(log_sum)
        share = log_total
    else:
        log_sum = sums[0].log()
        normalizer = log_sum + top_P / T_n
        joint = block.log_prior + log_p_t - log_total
        log_p_t, share = joint.logsumexp(-1), joint.softmax(-1)
        if not is_one(T):
            log_p_t = log_p_t / T_n - normalizer
    found = _told(sums, log_sum, wants, T, V)
    return Values(log_p_t, *found, first, block.by_component(top), log_total, normalizer, share)


def _see_one(part: Block, at: Tensor, wants: Wants, spares: list[Tensor]) -> tuple[Tensor, ...]:
    """By row: the largest score, the sum of e^u, nothing, the sums, and whether the target leads.

    Args:
        part: its scores are used up.
        at: (R, 1), of the target.
        wants: the outputs that sums are taken for.
        spares: memories of the shape of the scores, one or for a mixture two.
    """
    z = part.form.told_apart_(part.z)
    top = part.shard.max(z.amax(-1, keepdim=True))
    first = _is_first(z, top, at, part) if "top1" in wants else top.squeeze(1)
    sums = _sums(part.form.relative(z, top, out=spares[0]), z, part, wants)
    top = top.squeeze(1)
    return top, sums[0], top, sums, first


def _see_mixture(part: Block, at: Tensor, wants: Wants, spares: list[Tensor]) -> tuple[Tensor, ...]:
    """The same of each component, (R,), then of their mixture, (n,): its largest log P first."""
    assert part.log_prior is not None
    z = part.form.told_apart_(part.z)
    top = part.shard.max(z.amax(-1, keepdim=True))
    e = part.form.exponentials(z, top, *spares)
    total = part.shard.add_up(e.sum(-1))
    log_w = part.log_prior - part.by_component(total).log()
    log_P, _ = mixture_log_prob(e, top, log_w, part, spares[1])
    top_P = part.shard.max(log_P.amax(-1, keepdim=True))
    first = top_P.squeeze(1)
    if "top1" in wants:
        first = _is_first(log_P, top_P, at[:: part.num_components], part)
    again = z.view(-1)[: log_P.numel()].view_as(log_P)  # the scores have been used
    sums = _sums(log_P.sub_(top_P), again, part, wants)
    return top.squeeze(1), total, top_P.squeeze(1), sums, first


def _sums(u: Tensor, spare: Tensor, part: Block, wants: Wants) -> Tensor:
    """(S, n), row sums of e^(u/T), then those that are wanted; u and spare are overwritten."""
    mean = u.sum(-1) if "mean_log_prob" in wants else None
    bits = u.mul_(LOG2_E / part.temperature)
    e = torch.exp2(bits, out=spare)
    sums = [e.sum(-1)]
    if "entropy" in wants:
        sums.append(bits.mul_(e).sum(-1))
    if "log_sum_sq_prob" in wants:
        sums.append(e.mul_(e).sum(-1))
    if mean is not None:
        sums.append(mean)
    return part.shard.add_up(torch.stack(sums))


def _told(
    sums: Tensor, log_total: Tensor, wants: Wants, T: Tensor | float, vocab_size: int
) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
    """Entropy, log sum of squares and mean of the sums that `_sums` has taken, in its order."""
    total, *left = sums
    entropy = squares = mean = None
    if "entropy" in wants:
        entropy = (log_total - math.log(2) * left.pop(0) / total).clamp(min=0)
    if "log_sum_sq_prob" in wants:
        squares = (left.pop(0).log() - 2 * log_total).clamp(max=0)
    if "mean_log_prob" in wants:
        mean = left.pop(0) / (vocab_size * by_token(T)) - log_total
    return entropy, squares, mean


def _is_first(s: Tensor, top: Tensor, at: Tensor, part: Block) -> Tensor:
    """(n,), whether the target has the largest s (n, V), and no token before it the same."""
    if not part.shard.is_whole:
        own = s.argmax(-1)
        held = s.gather(1, own[:, None]) >= top
        own = torch.where(held.squeeze(1), own + part.shard.start, part.shard.vocab_size)
        return -part.shard.max(-own) == part.target
    s_t = s.gather(1, at)
    # A second maximum, without the target, takes a tenth of the time of torch's argmax.
    others = s.scatter_(1, at, -torch.inf).amax(-1, keepdim=True)
    s.scatter_(1, at, s_t)
    best, ties = s_t > others, (s_t == others) & (s_t == top)
    if ties.any():
        row = ties.squeeze(1).nonzero().squeeze(1)
        best[row, 0] = s[row].argmax(-1) == part.target[row]
    return best.squeeze(1)
