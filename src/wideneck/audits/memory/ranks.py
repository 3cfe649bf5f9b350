"""Where the target stands when the tokens of the memory are ranked, by similarity and without it.

A token counts by the best of its positions, so no loop over them is needed: scores (T, M) become
scores of distinct tokens (T, U) by a scattered maximum.  Cost a window and layer: 2 T M D
operations for the products, some T (M + U) for the ranks; nothing of size T x M is kept.
"""

import torch
from torch import Tensor

from wideneck.audits.memory.context import Context
from wideneck.data import Windows
from wideneck.memory.scores import similarities
from wideneck.models.devices import in_float64

ENTERING = "entering the head"


def reciprocal_ranks(context: Context, scores: Tensor, start: int = 0) -> Tensor:
    """1 / (1 + tokens above the target + half of those level with it).

    Args:
        scores: (B, T, M) of the windows from `start` on.

    Returns:
        (B, T); without meaning where the target is not in the memory, NaN where a score is no
        finite number.
    """
    part = slice(start, start + len(scores))
    known = (scores.isfinite() | ~context.visible).all(2)
    scores = scores.masked_fill(~context.visible, -torch.inf)
    num_slots = int(context.slots[part].max()) + 1
    best = scores.new_full((*scores.shape[:2], num_slots), -torch.inf)
    best.scatter_reduce_(2, context.slots[part, None].expand_as(scores), scores, "amax")
    own = best.gather(2, context.target_slot[part, :, None])
    above = (best > own).sum(2)
    level = (best == own).sum(2) - 1
    return (1 / (1 + above + level.double() / 2)).where(known, torch.nan)


def similarity_ranks(context: Context, hidden: Tensor, start: int) -> tuple[Tensor, Tensor]:
    """Reciprocal ranks (B, T) by scaled dot product, and by cosine.

    Products are formed in float64 and rounded to float32, so that equal states are level.  The
    length of the query is left out of the cosine: it changes no rank.

    Args:
        hidden: (B, P + T, D) states of the windows from `start` on.
    """
    hidden = in_float64(hidden.detach())
    keys = hidden[:, :-1]
    products = similarities(hidden[:, -context.targets.shape[1] :], keys)
    norm = keys.norm(dim=-1)[:, None]
    cosines = torch.where(norm > 0, products / norm, 0)
    return (
        reciprocal_ranks(context, products.float().cpu(), start),
        reciprocal_ranks(context, cosines.float().cpu(), start),
    )


def baseline_ranks(context: Context) -> dict[str, Tensor]:
    """Reciprocal ranks (W, T) without hidden states, by the names of `RankBaselines`."""
    num_windows, num_memories = context.values.shape
    late = torch.arange(num_memories, dtype=torch.float32)  # exact: windows are far below 2^24
    found: dict[str, list[Tensor]] = {
        name: [] for name in ("recency", "frequency", "token_identity")
    }
    for w in range(num_windows):
        slots = context.slots[w]
        onehot = torch.nn.functional.one_hot(slots).double()
        counts = (context.visible.double() @ onehot)[:, slots]
        same = context.current[w, :, None] == context.keys[w]
        for name, scores in (
            ("recency", late.expand(counts.shape)),
            ("frequency", counts * num_memories + late),
            ("token_identity", same * num_memories + late),
        ):
            found[name].append(reciprocal_ranks(context, scores[None], w)[0])
    return {name: torch.stack(rows) for name, rows in found.items()}


def chance_ranks(distinct: Tensor) -> Tensor:
    """H_n / n for n distinct tokens: the mean of 1 / r over r = 1 ... n."""
    harmonic = (1 / torch.arange(1, int(distinct.max()) + 1, dtype=torch.float64)).cumsum(0)
    n = distinct.clamp_min(1)
    return harmonic[n - 1] / n if len(harmonic) else torch.ones(n.shape, dtype=torch.float64)


Found = tuple[Tensor | None, tuple[Tensor, Tensor] | None]
"""Of some windows at one depth: the states as they enter the head, and their `similarity_ranks`."""


class LayerRanks:
    """Watches `collect_states`: keeps of each depth the ranks, and the last states whole."""

    def __init__(self, windows: Windows):
        self.context = Context.of(windows)
        self.dot: dict[str, Tensor] = {}
        """Layer -> (W, T)."""
        self.cosine: dict[str, Tensor] = {}
        self.entering: list[Tensor] = []
        """(B, P + T, D) of every batch, as they enter the head."""

    def __call__(self, layer: str, start: int, hidden: Tensor) -> Found:
        """Rank the tokens of windows `start` onwards by their states at this depth."""
        ranked = self.context.ranked[start : start + len(hidden)].any()
        return (
            hidden.float().cpu() if layer == ENTERING else None,
            similarity_ranks(self.context, hidden, start) if ranked else None,
        )

    def keep(self, layer: str, start: int, found: Found) -> None:
        """Take what was found of windows `start` onwards, by whichever process."""
        states, ranks = found
        if states is not None:
            self.entering.append(states)
        for kept, values in zip((self.dot, self.cosine), ranks or (), strict=False):
            if layer not in kept:
                kept[layer] = torch.ones(self.context.targets.shape, dtype=torch.float64)
            kept[layer][start : start + len(values)] = values
