"""The distributions of several heads over the same tokens, and how far each is from the first.

KL(p || q) is summed as sum_j p_j (d_j + e^(-d_j) - 1) with d = log p - log q: the terms beside the
usual p_j d_j add up to 0, and none of them is negative, so a divergence far below the rounding of a
loss is seen.  Nothing here holds N x V.

Shapes: N tokens, V vocabulary.  Cost: one product with each head's matrix, and some ten passes over
a chunk's scores for each model.
"""

from collections.abc import Sequence
from dataclasses import dataclass, fields

import torch
from torch import Tensor

from wideneck.audits.output.layer import TOKENS
from wideneck.audits.states import Progress
from wideneck.evaluation.comparison.reading import Read
from wideneck.functional.distribution import log_score
from wideneck.heads import Head


@dataclass(frozen=True, kw_only=True)
class OfOne:
    """A model's distribution at each token, (N,) each."""

    nll: Tensor
    """-log p of the target, nats."""
    top: Tensor
    """The most probable token."""
    confidence: Tensor
    """Its probability."""
    rank: Tensor
    """Tokens that are more probable than the target."""
    log_normalizer: Tensor
    """log sum_j exp(f(z_j)); NaN of a mixture, which has several."""


@dataclass(frozen=True, kw_only=True)
class Apart:
    """A model beside the first, (N,) each."""

    forward: Tensor
    """KL(first || this), nats."""
    backward: Tensor
    """KL(this || first)."""


@torch.no_grad()
def distributions(
    reads: Sequence[Read], targets: Tensor, *, progress: Progress | None = None
) -> tuple[list[OfOne], list[Apart | None]]:
    """Of every model that has a head, and of every model but the first how far it is from that.

    Args:
        reads: models with a head.
        targets: (N,).

    Returns:
        None in the place of a model whose vocabulary has another size than the first's.
    """
    ones: list[list[OfOne]] = [[] for _ in reads]
    apart: list[list[Apart]] = [[] for _ in reads[1:]]
    states = [read.hidden.flatten(0, 1) for read in reads if read.hidden is not None]
    heads = [read.head for read in reads if read.head is not None]
    comparable = [head.vocab_size == heads[0].vocab_size for head in heads[1:]]
    for start in range(0, len(targets), TOKENS):
        y = targets[start : start + TOKENS]
        first = None
        for i, (head, hidden) in enumerate(zip(heads, states, strict=True)):
            x = hidden[start : start + TOKENS]
            log_p = head.log_probs(x.to(head.weight)).float()
            y_here = y.to(log_p.device)
            ones[i].append(_of_one(head, x, log_p, y_here))
            if i == 0:
                first = log_p
            elif comparable[i - 1] and first is not None:
                apart[i - 1].append(_apart(first, log_p.to(first.device)))
        if progress:
            progress("comparing", min(start + TOKENS, len(targets)), len(targets))
    joined = [_joined(OfOne, parts) for parts in ones]
    return joined, [_joined(Apart, parts) if parts else None for parts in apart]


def _of_one(head: Head, hidden: Tensor, log_p: Tensor, y: Tensor) -> OfOne:
    target = log_p.gather(1, y[:, None])
    confidence, top = log_p.max(1)
    return OfOne(
        nll=-target[:, 0],
        top=top,
        confidence=confidence.exp(),
        rank=(log_p > target).sum(1),
        log_normalizer=_score(head, hidden.to(head.weight), y) - target[:, 0],
    )


def _score(head: Head, hidden: Tensor, y: Tensor) -> Tensor:
    """f(z_y), (N,) from (N, D): the score that the normalizer was taken off of."""
    contexts, bias, log_prior = head.scaled_contexts(hidden)
    if log_prior is not None:
        return torch.full(y.shape, torch.nan, device=contexts.device)
    z = torch.linalg.vecdot(contexts.float(), head.weight[y].float())
    z = z if bias is None else z + bias[y].float()
    return log_score(z[:, None], head.activation())[:, 0]


def _apart(log_p: Tensor, log_q: Tensor) -> Apart:
    d = log_p - log_q
    there = torch.expm1(-d).add_(d).mul_(log_p.exp()).sum(1)
    back = torch.expm1(d).sub_(d).mul_(log_q.exp()).sum(1)
    return Apart(forward=there, backward=back)


def _joined(kind: type, parts: Sequence[OfOne | Apart]):
    """Chunks as one, on the CPU."""
    columns = {f.name: [getattr(part, f.name).cpu() for part in parts] for f in fields(kind)}
    return kind(**{name: torch.cat(chunks) for name, chunks in columns.items()})
