"""The order-informed ranking loss of HistAlign (Wan et al. 2023, Eq. 4 and 5).

For a query with similarities s over its visible memories, ranked by how similar their tokens'
embeddings are to the target's, every memory of the target (a positive, i) is to lie above every
other one (a negative, j) by a margin that grows with the distance in rank:

    sum over positives i and negatives j of max(0, s_j - s_i + (r_j - r_i) margin)

The second half of Eq. 5, what stands inside the max, is DERIVED: rebuilt by us from the released
code and from the loss that the paper names as its origin, as the display was not at hand whole.

Positives have cosine 1 and take the first ranks.  With u = s + r margin each term is
max(0, u_j - u_i), which removes the loop over offsets of the released code, O(T^3), in two ways:

- for sums and means over pairs, `Hinges` sorts the negatives of a row once: every positive looks
  up how many lie above it and their sum.  O(M log M) a row.
- for means of each offset, `_by_offset` forms the rows of the positives alone and adds their terms
  up by r_j - r_i.

Letters: B sequences, Q queries, M memories; R rows, those with a positive, over all sequences.
"""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from wideneck.functional.items import per_item
from wideneck.memory.hinges import Hinges, hinges_and_gradient
from wideneck.memory.mixture import positives
from wideneck.memory.ranks import Embedding, Ranks, Rows

PAIRS = 2**22
"""Terms that `_by_offset` holds at a time."""


IN_GRAPH = ("sum", "pair_mean")
"""Reductions whose gradient is found with the loss, as a graph needs it."""


@dataclass(frozen=True)
class Ranking:
    """The loss, and how much it stands on."""

    loss: Tensor
    """A scalar; 0 with gradients of 0 where there is no pair."""
    num_pairs: Tensor
    """Pairs of a positive and a negative, a scalar."""


def ranking_loss(
    s: Tensor,
    visible: Tensor,
    values: Tensor,
    target: Tensor,
    embedding: Embedding,
    *,
    margin: float = 1e-3,
    reduction: str = "pair_mean",
    rank_over: str = "visible",
) -> Ranking:
    """The loss over all queries whose target stands in their memory.

    Args:
        s: (B, Q, M), the similarities that are to be ordered.
        visible: (B, Q, M).
        values: (B, M), token ids.
        target: (B, Q), token ids; -100 for none.
        embedding: (V, D), the vectors of the tokens, or a function that gives the rows (n, D) of
            ids (n,) that stand in the memory; no gradient flows into it.
        margin: asked for at each rank.
        reduction: "sum" over all pairs, "pair_mean", or over the means of the offsets r_j - r_i
            their mean, "offset_mean", or their sum, "offset_sum".  An offset without a pair
            counts nothing, where the released code has NaN.
        rank_over: "visible", or "all": the columns of all memories take ranks, seen or not.

    Cost: O(R M log M) for the first two reductions, whose gradient is found on the way; O(P M)
        with P positives for the others.
    """
    good = positives(visible, values, target)
    row = good.any(-1).nonzero(as_tuple=True)
    ranks = Ranks(values, target, row, embedding, visible if rank_over == "visible" else None)
    if reduction in IN_GRAPH:
        loss, num_pairs = Hinges.apply(s, visible, good, row, ranks, margin)
        return Ranking(loss if reduction == "sum" else per_item(loss, num_pairs), num_pairs)
    sums, counts = _by_offset(s[row], good[row], (visible & ~good)[row], ranks, margin)
    means = per_item(sums, counts)
    loss = means.sum()
    if reduction == "offset_mean":
        loss = per_item(loss, (counts > 0).sum())
    return Ranking(loss, counts.sum().long())


def _by_offset(
    scores: Tensor, good: Tensor, bad: Tensor, ranks: Ranks, margin: float
) -> tuple[Tensor, Tensor]:
    """(M,) sums of max(0, u_j - u_i), and numbers of pairs, for each r_j - r_i.

    Args:
        scores: (R, M); good and bad likewise.
    """
    num_memories = scores.shape[1]
    sums = scores.sum() * 0 + scores.new_zeros(num_memories)  # with a gradient, if of nothing
    counts = scores.new_zeros(num_memories)
    rank = ranks.of(slice(0, len(scores)))
    shifted = scores + margin * rank.to(scores.dtype)
    row, at = good.nonzero(as_tuple=True)
    size = max(1, PAIRS // max(1, num_memories))
    for r, i in zip(row.split(size), at.split(size), strict=True):
        above = (shifted[r] - shifted[r, i, None]).clamp(min=0)
        pair = bad[r]
        # Positives are nearest, so every negative has a larger rank.
        offset = (rank[r] - rank[r, i, None])[pair]
        sums = sums.scatter_add(0, offset, above[pair])
        counts = counts.scatter_add(0, offset, torch.ones_like(above[pair]))
    return sums, counts


def ranking_loss_in_graph(
    s: Tensor,
    visible: Tensor,
    values: Tensor,
    target: Tensor,
    rows: Rows,
    *,
    margin: float,
    reduction: str,
    rank_over: str,
) -> Ranking:
    """`ranking_loss`, for a reduction `IN_GRAPH`."""
    over_all = rank_over == "all"
    loss, num_pairs, _ = torch.ops.wideneck.ranking_loss(
        s, visible, values, target, rows.ids, rows.rows, margin, reduction == "pair_mean", over_all
    )
    return Ranking(loss, num_pairs)


# An operator that a compiled graph calls and does not look into: how many queries have a positive,
# and how many tokens differ, a graph cannot know beforehand.
@torch.library.custom_op("wideneck::ranking_loss", mutates_args=())
def _hinges(
    s: Tensor,
    visible: Tensor,
    values: Tensor,
    target: Tensor,
    ids: Tensor,
    rows: Tensor,
    margin: float,
    is_mean: bool,
    over_all: bool,
) -> tuple[Tensor, Tensor, Tensor]:
    """Loss, number of pairs, and the gradient of the loss in `s`."""
    good = positives(visible, values, target)
    row = good.any(-1).nonzero(as_tuple=True)
    ranks = Ranks(values, target, row, Rows(ids, rows), None if over_all else visible)
    loss, num_pairs, gradient = hinges_and_gradient(
        s, visible, good, row, ranks, margin, wants=True
    )
    assert gradient is not None
    if is_mean:
        loss, gradient = per_item(loss, num_pairs), per_item(gradient, num_pairs)
    return loss, num_pairs, gradient


@_hinges.register_fake
def _(s, visible, values, target, *rest):
    return s.new_empty(()), target.new_empty(()), torch.empty_like(s)


def _keep(ctx: Any, inputs: Any, output: Any) -> None:
    ctx.save_for_backward(output[2])


def _backward(ctx: Any, loss: Tensor, *_: Any):
    (gradient,) = ctx.saved_tensors
    return (gradient * loss, *(None,) * 8)


_hinges.register_autograd(_backward, setup_context=_keep)
