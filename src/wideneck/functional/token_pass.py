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
from collections.abc import Iterator
from dataclasses import dataclass, fields
from typing import final

import torch
from torch import Tensor

from wideneck.functional.forms import LOG2_E, Form, Identity, exp_
from wideneck.functional.passes import BLOCK
from wideneck.functional.shard import Shard

MIXTURE_BLOCK = 2**20
"""Scores of a block for each thread where a token has several rows: more of them share the cost of
starting an operation.  A mos of 15 components, V 10,000: 1.02 times the loss, and 1.06 with 2**18.
"""
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

    def parts(self) -> Iterator[tuple[slice, "Block"]]:
        """Some tokens at a time, whose scores stay in the cache, and where they are.

        Processes that share the vocabulary must cut alike, whatever part of it each holds.
        """
        N, K = len(self.target), self.num_components
        if self.z.device.type != "cpu" or not self.shard.is_whole:
            size = -(-N // PARTS)
        else:
            block = BLOCK if self.log_prior is None else MIXTURE_BLOCK
            size = max(1, block * torch.get_num_threads() // (K * self.z.shape[1]))
        for start in range(0, N, size):
            at = slice(start, min(start + size, N))
            T = self.temperature
            yield (
                at,
                Block(
                    self.z[at.start * K : at.stop * K],
                    self.target[at],
                    T[at] if isinstance(T, Tensor) else T,
                    None if self.log_prior is None else self.log_prior[at],
                    self.form,
                    self.shard,
                    self.small,
                ),
            )


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


def values(block: Block, wants: Wants) -> Values:
    """One pass over the scores of a head; K passes and one over V numbers for a mixture.

    Args:
        block: the scores of a chunk, which are used up.
        wants: what to find.
    """
    form, shard, T = block.form, block.shard, block.temperature
    # A few numbers a row in float64 (which MPS lacks) keep roundings of f out of the results.
    exact = block.z.dtype if block.z.device.type == "mps" else torch.float64
    V = shard.vocab_size or block.z.shape[1]
    here, at = block.local()
    f_t = form.log_score(block.z.gather(1, at).to(exact)).squeeze(1)
    if not shard.is_whole:
        f_t = torch.where(here, f_t, 0)
        shard.add_up(f_t)
    see, num_spares = (_see_one, 1) if block.log_prior is None else (_see_mixture, 2)
    spares: list[Tensor] = []
    seen = []
    for some, part in block.parts():
        # Not made for every part: the system would clear their pages.
        spares = spares or [torch.empty_like(part.z) for _ in range(num_spares)]
        rows = slice(some.start * block.num_components, some.stop * block.num_components)
        seen.append(see(part, at[rows], wants, [spare[: len(part.z)] for spare in spares]))
    top, total, top_P, sums, first = (torch.cat(x, -1) for x in zip(*seen, strict=True))
    total, sums, by_token = total.to(exact), sums.to(exact), _by_token(T)
    f_top = form.log_score(top.to(exact))
    log_total = block.by_component(total.log())
    log_p_t = block.by_component(f_t - f_top)
    if block.log_prior is None:
        log_sum = log_total.squeeze(1)
        log_p_t, normalizer = log_p_t.squeeze(1) / by_token - log_sum, torch.zeros_like(log_sum)
        share = log_total
    else:
        log_sum = sums[0].log()
        normalizer = log_sum + top_P / by_token
        joint = block.log_prior + log_p_t - log_total
        log_p_t, share = joint.logsumexp(-1), joint.softmax(-1)
        if not _is_one(T):
            log_p_t = log_p_t / by_token - normalizer
    found = _told(sums, log_sum, wants, T, V)
    return Values(log_p_t, *found, first, block.by_component(top), log_total, normalizer, share)


def _see_one(part: Block, at: Tensor, wants: Wants, spares: list[Tensor]) -> tuple[Tensor, ...]:
    """By row: the largest score, the sum of e^u, nothing, the sums, and whether the target leads.

    Args:
        part: its scores are used up.
        at: (R, 1), of the target.
        wants: the sums that are wanted.
        spares: memories of the shape of the scores, one or for a mixture two.
    """
    z = part.form.told_apart_(part.z)
    top = part.shard.max(z.amax(-1, keepdim=True))
    first = _is_first(z, top, at, part) if wants.top1 else top.squeeze(1)
    sums = _sums(part.form.relative(z, top, out=spares[0]), z, part, wants)
    top = top.squeeze(1)
    return top, sums[0], top, sums, first


def _see_mixture(part: Block, at: Tensor, wants: Wants, spares: list[Tensor]) -> tuple[Tensor, ...]:
    """The same of each component, (R,), then of their mixture, (n,): its largest log P first."""
    assert part.log_prior is not None
    z = part.form.told_apart_(part.z)
    top = part.shard.max(z.amax(-1, keepdim=True))
    e = part.form.exponentials(z, top, *spares)
    total = _sum_over_processes(e.sum(-1), part.shard)
    log_w = part.log_prior - part.by_component(total).log()
    log_P, _ = _log_mixture(e, top, log_w, part, spares[1])
    top_P = part.shard.max(log_P.amax(-1, keepdim=True))
    first = top_P.squeeze(1)
    if wants.top1:
        first = _is_first(log_P, top_P, at[:: part.num_components], part)
    again = z.view(-1)[: log_P.numel()].view_as(log_P)  # the scores have been used
    sums = _sums(log_P.sub_(top_P), again, part, wants)
    return top.squeeze(1), total, top_P.squeeze(1), sums, first


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

    def at(self, some: slice) -> "Incoming":
        """Of some tokens."""
        values = (getattr(self, f.name) for f in fields(self))
        return Incoming(*(None if v is None else v[some] for v in values))


def to_gradient_(
    block: Block, given: Incoming, parameters: list[Tensor]
) -> tuple[Tensor | None, Tensor | None]:
    """The scores become such that a z is their gradient; a is 1 where it is None.

    Args:
        block: the scores of a chunk, which are overwritten.
        given: what comes in.
        parameters: sums of the gradients of the form's, to which those of the chunk are added.

    Returns:
        a (R,), and the gradient of log_prior (n, K) of a mixture.
    """
    form, T = block.form, _by_token(block.temperature)
    here, at = block.local()
    z_t = block.z.gather(1, at)
    g_t = (given.log_prob / T)[:, None]  # of log p of the target
    if block.log_prior is None:
        total, a = given.log_total.squeeze(1).exp(), g_t.squeeze(1)
        # What is the same for a row is left to the narrow side of the products.
        narrow = -a / total if given.entropy is None else -1 / (T * total)
        own = -total if given.entropy is None else -given.log_prob * total
    else:
        a = (g_t * given.share).reshape(-1)
        narrow, own = None, a
    spares: list[Tensor] = []
    by_prior = []
    for some, part in block.parts():
        spares = spares or [torch.empty_like(part.z) for _ in range(2)]
        into = [spare[: len(part.z)] for spare in spares]
        rows = slice(some.start * block.num_components, some.stop * block.num_components)
        if block.log_prior is None:
            weight = _weigh_one(part, given.at(some), into)
        else:
            weight, prior = _weigh_mixture(part, given.at(some), a[rows], into)
            by_prior.append(prior)
        if parameters:
            scaled = weight if narrow is None else weight * narrow[rows, None]
            for sum_, more in zip(
                parameters, form.parameter_gradients(part.z, scaled), strict=True
            ):
                sum_ += more
        if weight is not part.z:
            form.times_slope(weight, part.z)
    if parameters:
        parts = form.parameter_gradients(z_t, (a * here)[:, None])
        for sum_, more in zip(parameters, parts, strict=True):
            sum_ += more
    block.z.scatter_add_(1, at, (own * form.slope(z_t).squeeze(1) * here)[:, None])
    return narrow, torch.cat(by_prior) if by_prior else None


def _weigh_one(part: Block, given: Incoming, spares: list[Tensor]) -> Tensor:
    """(R, V): times a, the gradient of s = f(z) but for the target's own term."""
    g, h = given.log_prob, given.entropy
    # The slope of the identity is 1: there its scores need not wait for it.
    into = part.z if isinstance(part.form, Identity) else spares[0]
    bits = part.form.relative(part.z, given.top, out=into).mul_(LOG2_E / part.temperature)
    if h is None:
        return bits.exp2_()
    e = torch.exp2(bits, out=spares[1])
    constant = g + h * (given.H - given.log_total.squeeze(1))
    return bits.mul_(h[:, None] / LOG2_E).add_(constant[:, None]).mul_(e)


def _weigh_mixture(
    part: Block, given: Incoming, own: Tensor, spares: list[Tensor]
) -> tuple[Tensor, Tensor]:
    """(R, V), the gradient of s_k = f(z_k) but for the target's own term, and that of log_prior.

    Args:
        part: the scores.
        given: what comes in.
        own: (R,), the gradient of the target's own score.
        spares: two memories of the shape of the scores.
    """
    assert part.log_prior is not None
    T, g = part.temperature, given.log_prob[:, None]
    h = 0.0 if given.entropy is None else given.entropy[:, None]
    top, log_w = given.top.view(-1, 1), part.log_prior - given.log_total
    e = part.form.exponentials(part.z, top, *spares)
    log_P, u = _log_mixture(e, top, log_w, part, spares[1])
    own, e = part.by_component(own), part.by_component(e)
    # d is q / P but for the target's term, and for the factor of p / P = exp(shift) at T = 1.
    if _is_one(T):
        shift = None
        d = g if given.entropy is None else h * (log_P + given.H[:, None]) + g
    else:
        log_p = log_P / T - given.normalizer[:, None]
        shift = log_p - log_P
        d = (g + h * (log_p + given.H[:, None])) / T
    w, total = log_w.exp(), given.log_total.exp()
    if u is None:
        if shift is not None:
            d = d * exp_(shift)
        ed = torch.mul(e, d[:, None], out=part.by_component(spares[1]))
        R = _sum_over_processes(ed.sum(-1), part.shard) * w - own
        weight = ed.mul_(-w[..., None]).addcmul_(e, (R / total)[..., None])
    else:  # a ratio of what is too small for a number: the responsibilities themselves, in logs
        rho = (u + (log_w[..., None] - log_P[:, None])).exp_()
        q = (d * (log_P if shift is None else shift + log_P).exp())[:, None]
        R = _sum_over_processes((rho * q).sum(-1), part.shard) - own
        weight = torch.addcmul(-rho * q, e, (R / total)[..., None])
    return weight.view_as(part.z), -R


def _log_mixture(
    e: Tensor, top: Tensor, log_w: Tensor, part: Block, spare: Tensor
) -> tuple[Tensor, Tensor | None]:
    """Log P (n, V), and where some P is no number u (n, K, V), from which it then is taken.

    Args:
        e: (R, V), exp(u) of the components.
        top: (R, 1), their largest scores.
        log_w: (n, K), the priors over the components' sums of e.
        part: of whose scores, which are as they were, they are.
        spare: memory of the shape of the scores.
    """
    P = torch.bmm(log_w.exp()[:, None], part.by_component(e)).squeeze(1)
    smallest = torch.finfo(P.dtype).tiny
    if not part.small:
        return P.clamp_(min=smallest).log_(), None
    if P.min().item() > smallest * 1e8:
        return P.log_(), None
    u = part.by_component(part.form.relative(part.z, top, out=spare))
    return torch.logsumexp(u + log_w[..., None], 1), u


def _sums(u: Tensor, spare: Tensor, part: Block, wants: Wants) -> Tensor:
    """(S, n), row sums of e^(u/T), then those that are wanted; u and spare are overwritten."""
    mean = u.sum(-1) if wants.mean_log_prob else None
    bits = u.mul_(LOG2_E / part.temperature)
    e = torch.exp2(bits, out=spare)
    sums = [e.sum(-1)]
    if wants.entropy:
        sums.append(bits.mul_(e).sum(-1))
    if wants.log_sum_sq_prob:
        sums.append(e.mul_(e).sum(-1))
    if mean is not None:
        sums.append(mean)
    return _sum_over_processes(torch.stack(sums), part.shard)


def _told(
    sums: Tensor, log_total: Tensor, wants: Wants, T: Tensor | float, vocab_size: int
) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
    """Entropy, log sum of squares and mean of the sums that `_sums` has taken, in its order."""
    total, *left = sums
    entropy = squares = mean = None
    if wants.entropy:
        entropy = (log_total - math.log(2) * left.pop(0) / total).clamp(min=0)
    if wants.log_sum_sq_prob:
        squares = (left.pop(0).log() - 2 * log_total).clamp(max=0)
    if wants.mean_log_prob:
        mean = left.pop(0) / (vocab_size * _by_token(T)) - log_total
    return entropy, squares, mean


def _sum_over_processes(part: Tensor, shard: Shard) -> Tensor:
    if not shard.is_whole:
        shard.add_up(part)
    return part


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


def _by_token(T: Tensor | float) -> Tensor | float:
    return T.squeeze(1) if isinstance(T, Tensor) else T


def _is_one(T: Tensor | float) -> bool:
    return isinstance(T, float) and T == 1
