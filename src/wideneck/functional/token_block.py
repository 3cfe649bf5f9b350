"""Scores of some tokens in parts that stay in the cache, and the distribution of a mixture.

Letters as in `fused`; n = tokens of a block, R = n K its rows.  A part is overwritten: nothing of
the vocabulary's size outlives it but its gradient.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import final

import torch
from torch import Tensor

from wideneck.functional.forms import Form
from wideneck.functional.passes import BLOCK
from wideneck.functional.shard import Shard

MIXTURE_BLOCK = 2**20
"""Scores of a block for each thread where a token has several rows: more of them share the cost of
starting an operation."""
PARTS = 8
"""Blocks of a chunk where no cache sets their size: an eighth of it for every temporary."""


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
            some = slice(start, min(start + size, N))
            yield some, self.at(some)

    def at(self, some: slice) -> "Block":
        """The block of some of its tokens, in the same memory."""
        K, T = self.num_components, self.temperature
        z = self.z[some.start * K : some.stop * K]
        T = T[some] if isinstance(T, Tensor) else T
        prior = None if self.log_prior is None else self.log_prior[some]
        return Block(z, self.target[some], T, prior, self.form, self.shard, self.small)


def mixture_log_prob(
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


def by_token(T: Tensor | float) -> Tensor | float:
    return T.squeeze(1) if isinstance(T, Tensor) else T


def is_one(T: Tensor | float) -> bool:
    return isinstance(T, float) and T == 1
