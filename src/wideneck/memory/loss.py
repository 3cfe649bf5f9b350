"""The losses of a memory: the mixture's likelihood and the ranking of its similarities.

l = l_trime + alpha l_rank, which is what was released; Eq. 6 of Wan et al. 2023 prints the model's
own cross-entropy in the place of l_trime (`loss="cross_entropy"`).  Neither forms anything of the
vocabulary's size: the model's part comes as one number per target.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from wideneck.functional.items import per_item
from wideneck.memory.config import Memory
from wideneck.memory.mixture import Recall, log_shares, masked_logsumexp, mixture_nll, positives
from wideneck.memory.ranking import IN_GRAPH, Ranking, ranking_loss, ranking_loss_in_graph
from wideneck.memory.ranks import Embedding, Rows


@dataclass(frozen=True)
class Terms:
    """A training loss and, detached, what it is made of; scalars, likelihoods in nats.

    The parts are means over the targets here, whatever `num_items` is.
    """

    total: Tensor
    """What is trained."""
    mixture: Tensor
    """-log p(target) of model and memory."""
    model: Tensor
    """-log p(target) of the model without its memory."""
    ranking: Tensor
    """The ranking loss before alpha, with reduction "sum" for each target."""
    mass: Tensor
    """The memory's share of the probability."""
    num_targets: Tensor


def memory_loss(
    memory: Memory,
    s: Tensor,
    ordered: Tensor,
    visible: Tensor,
    values: Tensor,
    target: Tensor,
    nll: Tensor,
    embedding: Embedding | None,
    *,
    log_normalizer: Tensor | None = None,
    label_values: Tensor | None = None,
    num_items: Tensor | int | None = None,
    ignore_index: int = -100,
    warming_up: bool = False,
) -> Terms:
    """Both terms over the targets that are not ignored; 0 where there are none.

    Args:
        memory: which losses, and their weights.
        s: (B, Q, M), similarities with temperature and bias.
        ordered: (B, Q, M), the similarities that the ranking loss orders.
        visible: (B, Q, M).
        values: (B, M), the tokens of the memories, from the input.
        target: (B, Q), token ids or `ignore_index`.
        nll: (B, Q), -log p(target) of the model.
        embedding: (V, D), by which tokens are ranked, or a function from ids to rows; None where
            alpha is 0 or the memory warms up.
        log_normalizer: (B, Q), the model's, for scores="logits".
        label_values: (B, M), the labels of the memories, for values="labels".
        num_items: the targets of all micro-batches of an optimizer's step, where the gradient is
            accumulated; None for those here.  Sums over targets are divided by it, so the gradient
            does not depend on how the batch is cut.  A ranking loss that is a mean over pairs or
            offsets counts by the micro-batch's share of the targets.
        ignore_index: the target that counts nothing.
        warming_up: train the model alone.
    """
    kept = target != ignore_index
    target = torch.where(kept, target, -1)
    count = kept.sum()

    def over_targets(x: Tensor) -> Tensor:
        return per_item(torch.where(kept, x, 0).sum(), count)

    shown = values if memory.values == "input_ids" or label_values is None else label_values
    log_all = masked_logsumexp(s, visible)
    found = Recall(log_all, masked_logsumexp(s, positives(visible, shown, target)))
    mixed = over_targets(mixture_nll(memory, nll, found, log_normalizer))
    alone = over_targets(nll)
    ranking = Ranking(nll.new_zeros(()), count)
    if memory.alpha and not warming_up:
        assert embedding is not None
        given = (ordered, visible, values, target)
        options = {"margin": memory.margin, "rank_over": memory.rank_over}
        graph = torch.compiler.is_compiling() and memory.reduction in IN_GRAPH
        if graph and isinstance(embedding, Rows):
            ranking = ranking_loss_in_graph(
                *given, embedding, reduction=memory.reduction, **options
            )
        else:
            ranking = ranking_loss(*given, embedding, reduction=memory.reduction, **options)
    ranked = per_item(ranking.loss, count) if memory.reduction == "sum" else ranking.loss
    total = mixed
    if warming_up or memory.loss == "cross_entropy":
        # With a gradient of 0 for the memory's numbers: DistributedDataParallel waits for one.
        total = alone + s.masked_fill(torch.ones_like(visible), 0).sum()
    if memory.alpha and not warming_up:
        total = total + memory.alpha * ranked
    if num_items is not None:  # by the part of the step's targets that stand here
        total = total * per_item(count.to(total.dtype), num_items)
    with torch.no_grad():
        mass = over_targets(log_shares(memory, log_all, log_normalizer)[1].exp())
    return Terms(total, mixed.detach(), alone.detach(), ranked.detach(), mass, count)
