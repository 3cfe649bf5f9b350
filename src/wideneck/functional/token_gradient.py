"""The gradients of token outputs: a chunk of scores becomes the gradient of itself.

Letters as in `token_pass`.  Of g log p_t + h H in s: (g 1_t - p (g + h (log p + H))) / T.
A mixture passes them on by the responsibilities rho_kj = pi_k p_kj / P_j: with q = -dL/dlog P
and R_k = sum_j q_j rho_kj,

    dL/ds_kj = p_kj R_k - q_j rho_kj,    dL/dlog pi_k = -R_k.
"""

from dataclasses import dataclass
from typing import Any, final

import torch
from torch import Tensor

from wideneck.functional.forms import LOG2_E, Identity, exp_
from wideneck.functional.passes import taken_out_
from wideneck.functional.token_block import (
    Block,
    by_token,
    is_one,
    mixture_log_prob,
)
from wideneck.functional.token_seen import Mixed, through_mixture


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

    def at(self, some: slice | Tensor) -> "Incoming":
        """Those of some tokens."""
        part: dict[str, Any] = {k: x if x is None else x[some] for k, x in vars(self).items()}
        return Incoming(**part)


def to_gradient_(
    block: Block, given: Incoming, parameters: list[Tensor], *, apart: bool
) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
    """The scores become such that a z is their gradient; a is 1 where it is None.

    Args:
        block: the scores of a chunk, which are overwritten.
        given: what comes in.
        parameters: sums of the gradients of the form's, to which those of the chunk are added.
        apart: z is going to be rounded, and the target's own part, the largest, should not be.

    Returns:
        a (R,); the targets' own parts (R,) where they are `apart`; and the gradient of log_prior
        (n, K) of a mixture.
    """
    form, T = block.form, by_token(block.temperature)
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
            form.add_gradients_(parameters, part.z, scaled)
        if weight is not part.z:
            form.times_slope(weight, part.z)
    if parameters:
        form.add_gradients_(parameters, z_t, (a * here)[:, None])
    own = own * form.slope(z_t).squeeze(1) * here
    prior = torch.cat(by_prior) if by_prior else None
    if apart:
        own = own + taken_out_(block.z, at, here)
        return narrow, own if narrow is None else own * narrow, prior
    block.z.scatter_add_(1, at, own[:, None])
    return narrow, None, prior


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
    log_P, u = mixture_log_prob(e, top, log_w, part, spares[1])
    own, e = part.by_component(own), part.by_component(e)
    # d is q / P but for the target's term, and for the factor of p / P = exp(shift) at T = 1.
    if is_one(T):
        shift = None
        d = g if given.entropy is None else h * (log_P + given.H[:, None]) + g
    else:
        log_p = log_P / T - given.normalizer[:, None]
        shift = log_p - log_P
        d = (g + h * (log_p + given.H[:, None])) / T
    if u is not None:
        d = d * (log_P if shift is None else shift + log_P).exp()
    elif shift is not None:
        d = d * exp_(shift)
    mixed = Mixed(e, u, log_w, given.log_total.exp(), log_P)
    return through_mixture(part, mixed, d, spares[1], own)
