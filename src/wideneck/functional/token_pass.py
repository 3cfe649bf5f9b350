"""What a token's distribution says of it, and its gradients, from a block of scores.

Letters as in `fused`; n = tokens of a block, R = n K its rows.  With s = f(z) of one head, or
s = log P of a mixture, everything is asked of the tempered distribution p = exp(s / T - l),
l = log sum_j exp(s_j / T); with u = (s - s_top) / T a row needs the sums of e^u, u e^u, e^2u and u:

    entropy          H = log sum e^u - sum u e^u / sum e^u
    log sum_j p_j^2    = log sum e^2u - 2 log sum e^u
    mean_j log p_j     = mean u - log sum e^u

Gradients of g log p_t + h H in s: (g 1_t - p (g + h (log p + H))) / T.  A mixture passes them on
by the responsibilities rho_kj = pi_k p_kj / P_j: with q = -dL/dlog P and R_k = sum_j q_j rho_kj,

    dL/ds_kj = p_kj R_k - q_j rho_kj,    dL/dlog pi_k = -R_k.

A block is overwritten: nothing of the vocabulary's size outlives it but its gradient.
"""

import math
from dataclasses import dataclass
from typing import final

import torch
from torch import Tensor

from wideneck.functional.forms import LOG2_E, Form, Identity, exp_
from wideneck.functional.passes import BLOCK
from wideneck.functional.shard import Shard

PARTS = 8
"""Blocks of a chunk where no cache sets their size: an eighth of it for every temporary."""


@final
@dataclass(frozen=True)
class Wants:
    """Which sums a row needs beside its normalizer."""

    entropy: bool
    log_sum_sq_prob: bool
    mean_log_prob: bool
    top1: bool


@final
@dataclass
class Block:
    """Scores of some tokens, and what is known of them beforehand."""

    z: Tensor
    """(R, V)."""
    target: Tensor
    """(n,)."""
    temperature: Tensor | float
    """(n, 1), or one number."""
    log_prior: Tensor | None
    """(n, K)."""
    form: Form
    shard: Shard
    small: bool = True
    """Whether probabilities below the smallest number count: in a mean of logs, or for T > 1."""

    @property
    def num_components(self) -> int:
        return 1 if self.log_prior is None else self.log_prior.shape[1]

    def by_component(self, rows: Tensor) -> Tensor:
        """(R, ...) as (n, K, ...)."""
        return rows.view(len(self.target), self.num_components, *rows.shape[1:])

    def local(self) -> tuple[Tensor, Tensor]:
        """By row: whether the target is in this process's part, and where, (R, 1)."""
        here, at = self.shard.local(self.target.repeat_interleave(self.num_components))
        return here, at[:, None]


def tokens_at_once(z: Tensor, num_tokens: int, shard: Shard) -> int:
    """Tokens of a block of the scores z (R, V) of a chunk.

    Processes that share the vocabulary must cut alike, whatever part of it each holds.
    """
    if z.device.type != "cpu" or not shard.is_whole:
        return -(-num_tokens // PARTS)
    return max(1, BLOCK * torch.get_num_threads() * num_tokens // z.numel())


@final
@dataclass(frozen=True)
class Values:
    """Of the tokens of a block, (n,) but for what is told of components; exact where it can be."""

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


def values(block: Block, wants: Wants, spare: Tensor) -> Values:
    """One pass over the scores of a head; K passes and one over V numbers for a mixture.

    Args:
        block: its scores are used up.
        wants: what to find.
        spare: memory of the shape of the scores.
    """
    form, shard, T = block.form, block.shard, block.temperature
    z = form.told_apart_(block.z)
    # A few numbers a row in float64 (which MPS lacks) keep roundings of f out of the results.
    exact = z.dtype if z.device.type == "mps" else torch.float64
    top = shard.max(z.amax(-1, keepdim=True))
    here, at = block.local()
    f_t = form.log_score(z.gather(1, at).to(exact)).squeeze(1)
    f_top = form.log_score(top.to(exact)).squeeze(1)
    if block.log_prior is None:
        first = _is_first(z, top, at, here, block) if wants.top1 else None
        u = form.relative(z, top, out=spare)
        own, below = _sums(u, z, T, wants), (f_t - f_top) / _by_token(T)
        sums, log_p_t = _over_processes(own, here, below, shard)
        log_total = sums[0].log()
        found = _told(sums, log_total, wants, T, shard.vocab_size or z.shape[1])
        none = log_total.new_zeros(len(z))
        log_p_t = log_p_t - log_total
        return Values(log_p_t, *found, first, top, log_total[:, None], none, none[:, None])

    bits = form.relative(z, top, out=spare).mul_(LOG2_E)
    e = torch.exp2(bits, out=z)
    sums, log_p_t = _over_processes([e.sum(-1)], here, f_t - f_top, shard)
    log_total = block.by_component(sums[0].log())
    joint = block.log_prior + block.by_component(log_p_t) - log_total
    log_P, _ = _log_mixture(block.by_component(e), block.by_component(bits), log_total, block)
    V, at = z.shape[1], at[:: block.num_components]
    here = here if shard.is_whole else here[:: block.num_components]
    top_P = shard.max(log_P.amax(-1, keepdim=True))
    first = _is_first(log_P, top_P, at, here, block) if wants.top1 else None
    again = z.view(-1)[: log_P.numel()].view_as(log_P)  # the exponentials have been used
    sums = _sums(log_P.sub_(top_P), again, T, wants)
    sums, _ = _over_processes(sums, here, torch.zeros_like(sums[0], dtype=exact), shard)
    log_sum = sums[0].log()
    normalizer = log_sum + (top_P / T).squeeze(1)
    log_p_t = joint.logsumexp(-1)
    if not _is_one(T):
        log_p_t = log_p_t / _by_token(T) - normalizer
    found = _told(sums, log_sum, wants, T, shard.vocab_size or V)
    top = block.by_component(top.squeeze(1))
    return Values(log_p_t, *found, first, top, log_total, normalizer, joint.softmax(-1))


@final
@dataclass(frozen=True)
class Incoming:
    """The gradients of a block's log-probabilities and entropies, and what the values left."""

    log_prob: Tensor
    """(n,), g."""
    entropy: Tensor | None
    """(n,), h; None for 0."""
    H: Tensor
    """(n,), the entropies; of no meaning where h is None."""
    top: Tensor
    """(n, K)."""
    log_total: Tensor
    """(n, K)."""
    normalizer: Tensor
    """(n,)."""
    share: Tensor
    """(n, K)."""


@final
@dataclass(frozen=True)
class _OfScores:
    """The gradient of s = f(z), in two terms: a weight, and at the target's score a own."""

    weight: Tensor
    """(R, V)."""
    a: Tensor | None
    """(R,), what is left to the narrow side of the products; None for 1."""
    own: Tensor
    """(R,)."""
    own_whole: Tensor
    """(R,), a own: where a is 0 it need not be."""
    log_prior: Tensor | None
    """(n, K)."""


def to_gradient_(
    block: Block, given: Incoming, parameters: list[Tensor], spares: list[Tensor]
) -> tuple[Tensor | None, Tensor | None]:
    """The scores become such that a z is their gradient; a is 1 where it is None.

    Args:
        block: its scores are overwritten.
        given: what comes in.
        parameters: sums of the gradients of the form's, to which those of the block are added.
        spares: two memories of the shape of the scores.

    Returns:
        a (R,), and the gradient of log_prior (n, K) of a mixture.
    """
    z, form = block.z, block.form
    here, at = block.local()
    z_t = z.gather(1, at)
    slope_t = form.slope(z_t).squeeze(1)
    of = (_of_one if block.log_prior is None else _of_mixture)(block, given, spares)
    if parameters:
        scaled = of.weight if of.a is None else of.weight * of.a[:, None]
        parts = form.parameter_gradients(z, scaled)
        own = form.parameter_gradients(z_t, (of.own_whole * here)[:, None])
        for sum_, part, target in zip(parameters, parts, own, strict=True):
            sum_ += part + target
    if of.weight is not z:
        torch.mul(of.weight, form.slope(z), out=z)
    z.scatter_add_(1, at, (of.own * slope_t * here)[:, None])
    return of.a, of.log_prior


def _of_one(block: Block, given: Incoming, spares: list[Tensor]) -> _OfScores:
    T = _by_token(block.temperature)
    g, h, log_total = given.log_prob, given.entropy, given.log_total.squeeze(1)
    total = log_total.exp()
    # The slope of the identity is 1: there its scores need not wait for it.
    into = block.z if isinstance(block.form, Identity) else spares[0]
    bits = block.form.relative(block.z, given.top, out=into)
    bits.mul_(LOG2_E / block.temperature)
    if h is None:
        return _OfScores(bits.exp2_(), -g / (T * total), -total, g / T, None)
    e = torch.exp2(bits, out=spares[1])
    constant = g + h * (given.H - log_total)
    weight = bits.mul_(h[:, None] / LOG2_E).add_(constant[:, None]).mul_(e)
    return _OfScores(weight, -1 / (T * total), -g * total, g / T, None)


def _of_mixture(block: Block, given: Incoming, spares: list[Tensor]) -> _OfScores:
    assert block.log_prior is not None
    T, g = block.temperature, given.log_prob[:, None]
    h = 0.0 if given.entropy is None else given.entropy[:, None]
    H, own = given.H[:, None], (g / T) * given.share
    top = given.top.view(-1, 1)
    bits = block.form.relative(block.z, top, out=spares[0]).mul_(LOG2_E)
    bits, e = (block.by_component(x) for x in (bits, torch.exp2(bits, out=spares[1])))
    log_P, in_range = _log_mixture(e, bits, given.log_total, block)
    log_w = block.log_prior - given.log_total
    w, total = log_w.exp(), given.log_total.exp()
    if _is_one(T):
        d = h * (log_P + H) + g  # q / P but for the target's term
        shift = 0.0
    else:
        log_p = log_P / T - given.normalizer[:, None]
        d = (g + h * (log_p + H)) / T
        shift = log_p - log_P
    if in_range:
        if not isinstance(shift, float):
            d = d * exp_(shift)
        ed = torch.mul(e, d[:, None], out=bits)
        R = _sum_over_processes(ed.sum(-1), block.shard) * w - own
        weight = ed.mul_(-w[..., None]).addcmul_(e, (R / total)[..., None])
    else:  # a ratio of what is too small for a number: the responsibilities themselves, in logs
        rho = (bits / LOG2_E + (log_w[..., None] - log_P[:, None])).exp_()
        q = (d * (shift + log_P).exp())[:, None]
        R = _sum_over_processes((rho * q).sum(-1), block.shard) - own
        weight = torch.addcmul(-rho * q, e, (R / total)[..., None])
    own = own.reshape(-1)
    return _OfScores(weight.view_as(block.z), None, own, own, -R)


def _log_mixture(e: Tensor, bits: Tensor, log_total: Tensor, block: Block) -> tuple[Tensor, bool]:
    """Log P (n, V) of the components' exponentials (n, K, V), and whether e / P can be formed.

    Args:
        e: exp(u).
        bits: u / log 2.
        log_total: (n, K), log sums of e.
        block: the priors.
    """
    assert block.log_prior is not None
    log_w = block.log_prior - log_total
    P = torch.bmm(log_w.exp().to(e.dtype)[:, None], e).squeeze(1)
    smallest = torch.finfo(P.dtype).tiny
    if not block.small:
        return P.clamp_(min=smallest).log_(), True
    if P.min().item() > smallest * 1e8:
        return P.log_(), True
    return torch.logsumexp(bits / LOG2_E + log_w.to(e.dtype)[..., None], 1), False


def _sums(u: Tensor, spare: Tensor, T: Tensor | float, wants: Wants) -> list[Tensor]:
    """Row sums of e^(u/T), then those that are wanted; u and spare are overwritten."""
    mean = u.sum(-1) if wants.mean_log_prob else None
    bits = u.mul_(LOG2_E / T)
    e = torch.exp2(bits, out=spare)
    sums = [e.sum(-1)]
    if wants.entropy:
        sums.append(bits.mul_(e).sum(-1) * math.log(2))
    if wants.log_sum_sq_prob:
        sums.append(e.mul_(e).sum(-1))
    if mean is not None:
        sums.append(mean)
    return sums


def _told(
    sums: Tensor, log_total: Tensor, wants: Wants, T: Tensor | float, vocab_size: int
) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
    """Entropy, log sum of squares and mean of the sums that `_sums` has taken, in its order."""
    left = list(sums[1:])
    total = sums[0]
    entropy = (log_total - left.pop(0) / total).clamp(min=0) if wants.entropy else None
    squares = (left.pop(0).log() - 2 * log_total).clamp(max=0) if wants.log_sum_sq_prob else None
    mean = left.pop(0) / (vocab_size * _by_token(T)) - log_total if wants.mean_log_prob else None
    return entropy, squares, mean


def _over_processes(
    sums: list[Tensor], here: Tensor, at_target: Tensor, shard: Shard
) -> tuple[Tensor, Tensor]:
    """Sums over all of the vocabulary, and what the process that has the target knows of it."""
    parts = torch.stack([*(part.to(at_target.dtype) for part in sums), at_target])
    if not shard.is_whole:
        parts[-1] = torch.where(here, parts[-1], 0)
        shard.add_up(parts)
    return parts[:-1], parts[-1]


def _sum_over_processes(part: Tensor, shard: Shard) -> Tensor:
    if not shard.is_whole:
        shard.add_up(part)
    return part


def _is_first(s: Tensor, top: Tensor, at: Tensor, here: Tensor, block: Block) -> Tensor:
    """(n,), whether the target has the largest s (n, V), and no token before it the same."""
    if not block.shard.is_whole:
        own = s.argmax(-1) + block.shard.start
        held = s.gather(1, (own - block.shard.start)[:, None]) >= top
        first = torch.where(held.squeeze(1), own, block.shard.vocab_size)
        return -block.shard.max(-first) == block.target
    s_t = s.gather(1, at)
    best = (s_t >= top).squeeze(1)
    # A second maximum, without the target, takes a tenth of the time of torch's argmax.
    others = s.scatter_(1, at, -torch.inf).amax(-1)
    s.scatter_(1, at, s_t)
    tied = (best & (others >= top.squeeze(1))).nonzero().squeeze(1)
    if len(tied):
        best[tied] = s[tied].argmax(-1) == block.target[tied]
    return best


def _by_token(T: Tensor | float) -> Tensor | float:
    return T.squeeze(1) if isinstance(T, Tensor) else T


def _is_one(T: Tensor | float) -> bool:
    return isinstance(T, float) and T == 1
