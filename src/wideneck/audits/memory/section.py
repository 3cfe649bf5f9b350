"""Section "memory": what the context holds of the next token, and what hidden states find of it."""

import torch
from torch import Tensor

from wideneck.audits.clock import Clock
from wideneck.audits.estimate import estimate
from wideneck.audits.measured import measured
from wideneck.audits.memory.context import Context
from wideneck.audits.memory.gain import cache_gain, skipped
from wideneck.audits.memory.ranks import LayerRanks, baseline_ranks, chance_ranks
from wideneck.audits.memory.results import (
    DistanceShare,
    LayerRetrieval,
    MemoryAudit,
    RankBaselines,
    Recurrence,
    Retrieval,
)
from wideneck.audits.output.layer import OutputLayer
from wideneck.audits.states import HiddenStates, Progress
from wideneck.audits.subject import Subject
from wideneck.models import HeadWeights, LogitMap

NEAREST = (1, 9, 33, 129)
"""Where the buckets of distances begin, in tokens."""

SKIPPED = "the numbers of the model do not allow it, as the notes of this section say"


def section(subject: Subject) -> MemoryAudit | None:
    """Section "memory" of a subject, which `LayerRanks` watched as "memory"; None with a note."""
    logit_map, states = subject.logit_map, subject.states
    if states is None or logit_map is None:
        return None
    return subject.measured(
        "the memory",
        lambda: audit_memory(
            subject.head,
            logit_map,
            states,
            subject.watched["memory"],
            subject.clock,
            progress=subject.progress,
        ),
    )


@torch.no_grad()
def audit_memory(
    head: HeadWeights,
    logit_map: LogitMap,
    states: HiddenStates,
    ranks: LayerRanks,
    clock: Clock,
    *,
    progress: Progress | None = None,
) -> MemoryAudit:
    """Measure recurrence, ranks and caches on the states that the model went through.

    Args:
        ranks: an observer that saw the pass over the text which gave `states`.
    """
    layer, context = OutputLayer.of(head, logit_map), ranks.context
    layer.check(*states.probe, head.model)
    notes: list[str] = []
    with clock("recurrence"):
        recurrence = measure_recurrence(context)
        distinct = distinct_tokens(context)
        baselines = _baselines(context, distinct)
    with clock("what a cache gains"):
        entering = torch.cat(ranks.entering)
        gain = measured(
            "what a cache gains",
            lambda: cache_gain(layer, context, entering, progress=progress),
            None,
            notes,
        )
    num_ranked = int(context.ranked.sum())
    return MemoryAudit(
        num_tokens=states.targets.numel(),
        num_documents=len(states.document.unique()),
        window=states.hidden.shape[1],
        recurrence=recurrence,
        num_ranked=num_ranked,
        distinct=distinct[context.ranked].double().mean().item() if num_ranked else 0.0,
        layers=[
            LayerRetrieval(
                layer=name,
                dot=_retrieval(context, ranks.dot[name]),
                cosine=_retrieval(context, ranks.cosine[name]),
            )
            for name in ranks.dot
        ],
        baselines=baselines,
        gain=skipped(context, SKIPPED) if gain is None else gain,
        notes=notes,
    )


def _baselines(context: Context, distinct: Tensor) -> RankBaselines | None:
    if not context.ranked.any():
        return None
    found = {name: _retrieval(context, r) for name, r in baseline_ranks(context).items()}
    chance = estimate(chance_ranks(distinct), context.document, context.ranked)
    return RankBaselines(**found, chance=chance)


def _retrieval(context: Context, ranks: Tensor) -> Retrieval:
    """Means of reciprocal ranks (W, T) over the predictions that have one."""
    return Retrieval(
        reciprocal_rank=estimate(ranks, context.document, context.ranked),
        first=estimate(
            (ranks == 1).double().where(~ranks.isnan(), torch.nan), context.document, context.ranked
        ),
    )


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


def distinct_tokens(context: Context) -> Tensor:
    """(W, T) distinct values in the memory of each prediction."""
    num_memories = context.values.shape[1]
    earlier = torch.ones(num_memories, num_memories, dtype=torch.bool).tril(-1)
    rows = []
    for values in context.values:
        new = ~((values == values[:, None]) & earlier).any(1)
        rows.append((new & context.visible).sum(1))
    return torch.stack(rows)
