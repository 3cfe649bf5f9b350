r"""Losses whose targets are spread over the vocabulary: label smoothing, class probabilities.

Letters as in `fused`, n tokens of a chunk, P_j = sum_k pi_k p_kj.  With q_j what -log P_j counts
in the loss of a token, rho_kj = pi_k p_kj / P_j and R_k = sum_j q_j rho_kj::

    loss = -sum_j q_j log P_j,   d loss / d z_kj = (R_k p_kj - q_j rho_kj) f'(z_kj),
    d loss / d log pi_k = -R_k.

A mixture needs its distribution here, as a loss of one target does not.  Without a mixture rho is
1 and R is Q = sum_j q_j.

Cost: the products of `fused`; beyond its pass over the scores two more, element by element, in
blocks that stay in cache.  Memory: a few blocks beside the chunk.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import final

import torch
from torch import Tensor

from wideneck.functional.forms import Form, exp_
from wideneck.functional.options import Targets
from wideneck.functional.passes import BLOCK, weigh_
from wideneck.functional.shard import Shard

ACCELERATOR_BLOCK = 2**23
"""Scores of a block where starting kernels takes time: 32 MiB for each temporary in float32."""


@final
@dataclass(frozen=True)
class Spread:
    """q (n, V), a few rows at a time, of this process's part of the vocabulary."""

    targets: Targets
    label_smoothing: float
    shard: Shard
    vocab_size: int
    """Over all processes."""

    def rows(self, n: Tensor | slice) -> "Spread":
        """That of these tokens."""
        ids, probs = (None if x is None else x[n] for x in (self.targets.ids, self.targets.probs))
        return replace(self, targets=Targets(ids, probs, self.targets.class_weight))

    def block(self, rows: slice, like: Tensor) -> Tensor:
        """What `F.cross_entropy` makes of targets: (rows, V of this process), dtype of `like`.

        q = w ((1 - e) t + e / V), t the probabilities of the target, e the smoothing, w the weights
        of the classes.
        """
        ids, probs = self.targets.ids, self.targets.probs
        here = slice(self.shard.start, self.shard.start + like.shape[-1])
        keep = 1 - self.label_smoothing
        if ids is None:
            assert probs is not None
            q = probs[rows, here].to(like.dtype) * keep
        else:
            ids = ids[rows].view(-1, 1 if probs is None else probs.shape[1])
            mine, place = self.shard.local(ids)
            part = torch.ones_like(ids) if probs is None else probs[rows]
            q = like.new_zeros(len(ids), like.shape[-1])
            q.scatter_add_(1, place, (part * mine).to(like.dtype) * keep)
        if self.label_smoothing:
            q += self.label_smoothing / self.vocab_size
        if self.targets.class_weight is not None:
            q *= self.targets.class_weight[here].to(like.dtype)
        return q


@final
@dataclass
class SpreadChunk:
    """A chunk of scores with spread targets, before and after it becomes its own gradient."""

    z: Tensor
    """(n, K, V)."""
    spread: Spread
    log_prior: Tensor | None
    form: Form
    log_normalizer: Tensor
    """(n, K), of at least the dtype of z."""
    log_total: Tensor
    """(n, K, 1), the log-normalizer less f(top)."""
    f_top: Tensor
    """(n, K, 1)."""
    loss: Tensor
    """(n,)."""
    shares: Tensor
    """(n, K), R: how much of q each component answers for."""

    @classmethod
    def of(
        cls, z: Tensor, spread: Spread, log_prior: Tensor | None, form: Form, shard: Shard
    ) -> "SpreadChunk":
        """Finds normalizers, losses and shares; z (n, K, V) stays."""
        n, K, V = z.shape
        sums = weigh_(z.view(-1, V), form, shard, "keep")
        exact = z.dtype if z.device.type == "mps" else torch.float64
        total = shard.add_up(sums.total.to(exact))
        log_total = total.log().view(n, K)
        f_top = form.log_score(sums.top.to(exact)).view(n, K)
        chunk = cls(
            z,
            spread,
            None if log_prior is None else log_prior.to(z.dtype)[:, :, None],
            form,
            log_total + f_top,
            log_total.to(z.dtype)[:, :, None],
            f_top.to(z.dtype)[:, :, None],
            z.new_empty(n),
            z.new_empty(n, K),
        )
        for rows, q in chunk._blocks():
            _, log_P, rho = chunk._parts(rows)
            chunk.loss[rows] = -(q * log_P).sum(-1)
            chunk.shares[rows] = (q[:, None] * rho).sum(-1)
        if not shard.is_whole:
            both = shard.add_up(torch.cat([chunk.loss[:, None], chunk.shares], 1))
            chunk.loss, chunk.shares = both[:, 0], both[:, 1:]
        return chunk

    def to_gradient_(self, up: Tensor, g: Tensor | float, parameters: list[Tensor]) -> None:
        """Makes z the gradient of the scores.

        Args:
            up: (n, K), weight of the log-normalizer: g times the shares, and what else it has.
            g: (n, 1) or a number, weight of the loss.
            parameters: sums of their gradients, to which those of the chunk are added.
        """
        for rows, q in self._blocks():
            log_p, _, rho = self._parts(rows)
            part = g[rows] if isinstance(g, Tensor) else g
            weight = exp_(log_p).mul_(up[rows, :, None]).sub_((q * part)[:, None] * rho)
            if parameters:
                self.form.add_gradients_(parameters, self.z[rows], weight)
            torch.mul(weight, self.form.slope(self.z[rows]), out=self.z[rows])

    def _blocks(self) -> Iterator[tuple[slice, Tensor]]:
        """Rows, some at a time, and their q."""
        n, K, V = self.z.shape
        on_cpu = self.z.device.type == "cpu"
        most = BLOCK * torch.get_num_threads() if on_cpu else ACCELERATOR_BLOCK
        size = max(1, most // (K * V))
        for start in range(0, n, size):
            rows = slice(start, min(start + size, n))
            yield rows, self.spread.block(rows, self.z)

    def _parts(self, rows: slice) -> tuple[Tensor, Tensor, Tensor | float]:
        """For these rows log p (n, K, V), log P (n, V), and rho (n, K, V) or 1."""
        log_p = self.form.log_score(self.z[rows]) - self.f_top[rows] - self.log_total[rows]
        if self.log_prior is None:
            return log_p, log_p[:, 0], 1.0
        joint = self.log_prior[rows] + log_p
        top = joint.amax(1, keepdim=True)
        rho = exp_(joint.sub_(top))  # times what it sums to: one exponential for both
        total = rho.sum(1, keepdim=True)
        return log_p, (total.log() + top)[:, 0], rho.div_(total)
