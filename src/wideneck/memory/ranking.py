"""The order-informed ranking loss of HistAlign (Wan et al. 2023, Eq. 4 and 5).

For a query with similarities s over its visible memories, ranked by how similar their tokens'
embeddings are to the target's, every memory of the target (a positive, i) is to lie above every
other one (a negative, j) by a margin that grows with the distance in rank:

    sum over positives i and negatives j of max(0, s_j - s_i + (r_j - r_i) margin)

Positives have cosine 1 and take the first ranks.  With u = s + r margin each term is
max(0, u_j - u_i), which removes the loop over offsets of the released code, O(T^3), in two ways:

- `_sorted`: u of the negatives sorted once a row and summed from above; every positive looks up
  how many lie above it and their sum.  O(M log M) a row, for sums and means over pairs.
- `_by_offset`: the rows of the positives alone, their terms added up by r_j - r_i, for the
  reductions that average each offset by itself.

Letters: B sequences, Q queries, M memories; R rows, those with a positive, over all sequences.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from wideneck.memory.mixture import positives

PAIRS = 2**22
"""Terms that `_by_offset` holds at a time."""


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
    embedding: Tensor,
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
        embedding: (V, D), the vectors of the tokens; no gradient flows into it.
        margin: asked for at each rank.
        reduction: "sum" over all pairs, "pair_mean", or over the means of the offsets r_j - r_i
            their mean, "offset_mean", or their sum, "offset_sum".  An offset without a pair
            counts nothing, where the released code has NaN.
        rank_over: "visible", or "all": the columns of all memories take ranks, seen or not.

    Cost: O(R M log M) for the first two reductions, O(P M) with P positives for the others.
    """
    good = positives(visible, values, target)
    row = good.any(-1).nonzero(as_tuple=True)
    good, seen, scores = good[row], visible[row], s[row]
    if not len(good):
        return Ranking(scores.sum(), good.sum())  # 0, of nothing
    token = values[row[0]]
    with torch.no_grad():
        rank = _ranks(token, target[row], seen if rank_over == "visible" else None, embedding)
        num_good = good.sum(-1, keepdim=True)
        num_pairs = (num_good * (seen & ~good).sum(-1, keepdim=True)).sum()
    shifted = scores + margin * rank.to(scores.dtype)
    if reduction in ("sum", "pair_mean"):
        loss = _sorted(shifted, good, seen & ~good)
        return Ranking(loss if reduction == "sum" else loss / num_pairs.clamp(min=1), num_pairs)
    sums, counts = _by_offset(shifted, rank, good, seen & ~good)
    means = sums / counts.clamp(min=1)
    loss = means.sum()
    if reduction == "offset_mean":
        loss = loss / (counts > 0).sum().clamp(min=1)
    return Ranking(loss, num_pairs)


def _ranks(token: Tensor, target: Tensor, seen: Tensor | None, embedding: Tensor) -> Tensor:
    """(R, M), the rank of every memory by the cosine of its token's embedding with the target's.

    From the nearest on, from 0; among equals the order of the memories.  With `seen`, those that
    are not seen come last.
    """
    ids, index = torch.cat([token.flatten(), target]).unique(return_inverse=True)
    rows = embedding.detach()[ids]
    unit = F.normalize(rows.to(torch.promote_types(rows.dtype, torch.float32)), dim=-1)
    at_token, at_target = index[: token.numel()].view(token.shape), index[token.numel() :]
    wanted, at_wanted = at_target.unique(return_inverse=True)
    cosine = (unit[wanted] @ unit.T)[at_wanted[:, None], at_token]
    # A token is nearest to itself, whatever rounding says.
    cosine = cosine.masked_fill(at_token == at_target[:, None], torch.inf)
    if seen is not None:
        cosine = cosine.masked_fill(~seen, -torch.inf)
    order = cosine.argsort(dim=-1, descending=True, stable=True)
    places = torch.arange(token.shape[1], device=token.device).expand_as(order)
    return torch.empty_like(order).scatter_(-1, order, places)


def _sorted(shifted: Tensor, good: Tensor, bad: Tensor) -> Tensor:
    """The sum of max(0, u_j - u_i) over all pairs."""
    # Sums of large numbers would cancel; a shift of a row changes no difference.
    top = shifted.detach().masked_fill(~good, -torch.inf).amax(-1, keepdim=True)
    shifted = shifted - top
    # Of a row in rising order the -inf come first, and no sum from above reaches them.
    u, _ = shifted.masked_fill(~bad, -torch.inf).sort(-1)
    first = torch.searchsorted(u.detach(), shifted.detach(), right=True)
    u = torch.where(u == -torch.inf, 0, u)
    from_above = F.pad(u.flip(-1).cumsum(-1).flip(-1), (0, 1)).gather(-1, first)
    above = from_above - (shifted.shape[-1] - first) * shifted
    return torch.where(good, above, 0).sum()


def _by_offset(shifted: Tensor, rank: Tensor, good: Tensor, bad: Tensor) -> tuple[Tensor, Tensor]:
    """(M,) sums of max(0, u_j - u_i), and numbers of pairs, for each r_j - r_i."""
    num_memories = shifted.shape[1]
    sums, counts = shifted.new_zeros(num_memories), shifted.new_zeros(num_memories)
    row, at = good.nonzero(as_tuple=True)
    size = max(1, PAIRS // num_memories)
    for r, i in zip(row.split(size), at.split(size), strict=True):
        above = (shifted[r] - shifted[r, i, None]).clamp(min=0)
        pair = bad[r]
        # Positives are nearest, so every negative has a larger rank.
        offset = (rank[r] - rank[r, i, None])[pair]
        sums = sums.scatter_add(0, offset, above[pair])
        counts = counts.scatter_add(0, offset, torch.ones_like(above[pair]))
    return sums, counts
