"""Section "memory": what the context holds of the next token, and what hidden states find of it."""

import torch

from wideneck.audits.clock import Clock
from wideneck.audits.estimate import estimate
from wideneck.audits.measured import measured
from wideneck.audits.memory.context import Context
from wideneck.audits.memory.gain import cache_gain, skipped
from wideneck.audits.memory.ranks import LayerRanks, baseline_ranks, chance_ranks
from wideneck.audits.memory.recurrence import distinct_tokens, measure_recurrence
from wideneck.audits.memory.results import LayerRetrieval, MemoryAudit, RankBaselines, Retrieval
from wideneck.audits.output.layer import OutputLayer
from wideneck.audits.states import HiddenStates, Progress
from wideneck.audits.subject import Subject
from wideneck.models import HeadWeights, LogitMap

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
    _, window, _ = states.hidden.shape
    seen = min(window, len(states.last_logits))
    layer.check(states.hidden[0, -seen:], states.last_logits[-seen:], head.model)
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
        window=window,
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


def _baselines(context: Context, distinct: torch.Tensor) -> RankBaselines | None:
    if not context.ranked.any():
        return None
    found = {name: _retrieval(context, r) for name, r in baseline_ranks(context).items()}
    chance = estimate(chance_ranks(distinct), context.document, context.ranked)
    return RankBaselines(**found, chance=chance)


def _retrieval(context: Context, ranks: torch.Tensor) -> Retrieval:
    """Means of reciprocal ranks (W, T) over the predictions that have one."""
    return Retrieval(
        reciprocal_rank=estimate(ranks, context.document, context.ranked),
        first=estimate(
            (ranks == 1).double().where(~ranks.isnan(), torch.nan), context.document, context.ranked
        ),
    )
