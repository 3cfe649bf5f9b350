"""How often the next token stands in the context, and how far back: no model is needed."""

import torch

from wideneck.audits.estimate import estimate
from wideneck.audits.memory.context import Context
from wideneck.audits.memory.results import DistanceShare, Recurrence

NEAREST = (1, 9, 33, 129)
"""Where the buckets of distances begin, in tokens."""


def measure_recurrence(context: Context) -> Recurrence:
    """Shares of predictions.  Cost: T x M comparisons a window, and as many for each other one."""
    # The target is the token at i + 1, its last occurrence the one at j + 1.
    distance = context.positions - context.last_target
    farthest = [*(start - 1 for start in NEAREST[1:]), None]
    shares = []
    for low, high in zip(NEAREST, farthest, strict=True):
        inside = context.ranked & (distance >= low)
        if high is not None:
            inside &= distance <= high
        share = estimate(inside.double(), context.document)
        shares.append(DistanceShare(nearest=low, farthest=high, share=share))
    elsewhere = context.elsewhere()
    return Recurrence(
        share=estimate(context.ranked.double(), context.document),
        elsewhere=None if elsewhere is None else estimate(elsewhere, context.document),
        by_distance=shares,
    )


def distinct_tokens(context: Context) -> torch.Tensor:
    """(W, T) distinct values in the memory of each prediction."""
    num_memories = context.values.shape[1]
    earlier = torch.ones(num_memories, num_memories, dtype=torch.bool).tril(-1)
    rows = []
    for values in context.values:
        new = ~((values == values[:, None]) & earlier).any(1)
        rows.append((new & context.visible).sum(1))
    return torch.stack(rows)
