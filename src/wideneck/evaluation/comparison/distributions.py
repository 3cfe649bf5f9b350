"""The distributions of several heads over the same tokens, and how far each is from the first.

KL(p || q) is summed as sum_j p_j (d_j + e^(-d_j) - 1) with d = log p - log q: the terms beside the
usual p_j d_j add up to 0, and the rounding of a log-normalizer cancels, so that a divergence far
below it is seen.  Nothing here holds N x V.

Shapes: N tokens, V vocabulary.  Cost: one product with each head's matrix, and some ten passes over
a chunk's scores for each model.
"""

from collections.abc import Sequence
from dataclasses import dataclass, fields

import torch
from torch import Tensor

from wideneck.audits.output.layer import TOKENS
from wideneck.audits.states import Progress
from wideneck.functional.distribution import log_score
from wideneck.heads import Head

BLOCK = 2**20
"""Scores at a time that go through all passes while they are in the cache."""
FAR = 40.0
"""|d| beyond which expm1 may leave float32; such rows are summed as p_j d_j."""


@dataclass(frozen=True)
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


@dataclass(frozen=True)
class Apart:
    """A model beside the first, (N,) each."""

    forward: Tensor
    """KL(first || this), nats."""
    backward: Tensor
    """KL(this || first)."""


@torch.no_grad()
def distributions(
    heads: Sequence[Head],
    hidden: Sequence[Tensor],
    targets: Tensor,
    *,
    progress: Progress | None = None,
) -> tuple[list[OfOne], list[Apart | None]]:
    """Of every head, and of every head but the first how far its distributions are from that's.

    Args:
        heads: in eval mode, in at least float32.
        hidden: (N, D) for each, what enters it.
        targets: (N,).

    Returns:
        None in the place of a head whose vocabulary has another size than the first's.
    """
    ones: list[list[OfOne]] = [[] for _ in heads]
    apart: list[list[Apart]] = [[] for _ in heads[1:]]
    for start in range(0, len(targets), TOKENS):
        rows = slice(start, start + TOKENS)
        first = torch.empty(0)
        for i, head in enumerate(heads):
            x = hidden[i][rows].to(head.weight)
            log_p = head.log_probs(x).float()
            ones[i].append(_of_one(head, x, log_p, targets[rows].to(x.device)))
            if i == 0:
                first = log_p
            elif log_p.shape == first.shape:
                apart[i - 1].append(divergences(first, log_p.to(first.device)))
        if progress:
            progress("comparing", min(start + TOKENS, len(targets)), len(targets))
    joined = [_joined(OfOne, parts) for parts in ones]
    return joined, [_joined(Apart, parts) if parts else None for parts in apart]


def divergences(log_p: Tensor, log_q: Tensor) -> Apart:
    """KL(p || q) and KL(q || p), nats, from log-probabilities (N, V) in float32."""
    rows = max(1, BLOCK // log_p.shape[1])
    blocks = zip(log_p.split(rows), log_q.split(rows), strict=True)
    forward, backward = zip(*(_divergences(p, q) for p, q in blocks), strict=True)
    return Apart(torch.cat(forward), torch.cat(backward))


def _divergences(log_p: Tensor, log_q: Tensor) -> tuple[Tensor, Tensor]:
    p, q, d = log_p.exp(), log_q.exp(), log_p - log_q
    far = d.abs().amax(1) > FAR
    forward = torch.linalg.vecdot(p, torch.expm1(-d).add_(d))
    backward = torch.linalg.vecdot(q, torch.expm1(d).sub_(d))
    if far.any():
        forward[far] = torch.linalg.vecdot(p[far], d[far])
        backward[far] = -torch.linalg.vecdot(q[far], d[far])
    return forward, backward


def _of_one(head: Head, hidden: Tensor, log_p: Tensor, y: Tensor) -> OfOne:
    target = log_p.gather(1, y[:, None])
    confidence, top = log_p.max(1)
    return OfOne(
        nll=-target[:, 0],
        top=top,
        confidence=confidence.exp(),
        rank=(log_p > target).sum(1),
        log_normalizer=_score(head, hidden, y) - target[:, 0],
    )


def _score(head: Head, hidden: Tensor, y: Tensor) -> Tensor:
    """f(z_y), (N,) from (N, D): the score that the normalizer was taken off of."""
    contexts, bias, log_prior = head.scaled_contexts(hidden)
    if log_prior is not None:
        return torch.full(y.shape, torch.nan, device=contexts.device)
    z = torch.linalg.vecdot(contexts.float(), head.weight[y].float())
    z = z if bias is None else z + bias[y].float()
    return log_score(z[:, None], head.activation())[:, 0]


def _joined(kind: type, parts: Sequence[OfOne | Apart]):
    """Chunks as one, on the CPU."""
    columns = {f.name: [getattr(part, f.name).cpu() for part in parts] for f in fields(kind)}
    return kind(**{name: torch.cat(chunks) for name, chunks in columns.items()})
