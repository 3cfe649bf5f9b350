"""How far the N selected keys of a query lie from all the others, and Theorem 1 about it.

Mudarisov et al. 2025 (arXiv:2508.17821), section on distance analysis.  A query sees L keys with
weights alpha and vectors x; I is the set of the N largest weights, s = sum_(i in I) alpha_i x_i.
The paper's display and its prose differ, so there are three readings of the distance (eq. 7):

- each:   sum_(i not in I) ||alpha_i x_i - s||, the one that the theorem is about;
- net:    ||sum_(i not in I) alpha_i x_i - s||, the display; it does not vanish with the outside;
- summed: ||sum_(i not in I) (alpha_i x_i - s)||, never above `each`.

Theorem 1.1 bounds `each` by (1 - a) d_1 + max_(j in I) ||x_j|| (a (L - N) - (1 - a)), with a the
weight of I and d_1 the largest ||x_i - x_j|| between the two sides.  Its last bracket is DERIVED:
rebuilt by us from the paper's sketch of the proof, as the display was not at hand whole, so it says
nothing of the paper's own.  The proof wants alpha >= 0;
of the sum it wants only that 1 - a is the weight outside, which is what is used here, so that rows
may sum to less than 1.  ||s|| / a in place of max ||x_j|| is as valid and never larger.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from wideneck.audits.attention.expectation import Expectation
from wideneck.audits.attention.selection import Block, blocks, prepare, too_few_visible


@dataclass(frozen=True)
class SelectionDistances:
    """Tensors (len(sizes), H, Q), NaN where no visible key is left outside the selection.

    Distances have the unit of the vectors.
    """

    mass: Tensor
    """Weight of the N selected keys."""
    each: Tensor
    """Sum of the distances from s to every weighted vector outside."""
    net: Tensor
    """Distance from s to the sum of the weighted vectors outside."""
    summed: Tensor
    """Length of the sum of the differences."""
    bound: Tensor
    """Theorem 1.1, its bracket DERIVED: never below `each`."""
    bound_tight: Tensor
    """The same with ||s|| / mass for the largest selected norm: between the two."""
    expected_paper: Tensor
    """Main term of Theorem 1.2, DERIVED: below the mean of `each` over random sets of N."""
    expected_upper: Tensor
    """A closed form above that mean."""
    expected_monte_carlo: Tensor
    """Mean of `each` over the sets that were drawn."""


@torch.no_grad()
def selection_distances(
    weights: Tensor,
    vectors: Tensor,
    visible: Tensor,
    sizes: Sequence[int],
    *,
    generator: torch.Generator,
    draws: int = 1,
) -> SelectionDistances:
    """Representation distance of the N heaviest keys and of N random ones, for several N.

    Keys of equal weight at the edge of the selection are selected arbitrarily, as by `topk`.
    Results are float32, or float64 for float64 arguments.  Cost: for each head two products of
    Q x d x K for each N and each draw, K^2 d and Q K max(sizes) for the bound; a few K^2 numbers.

    Args:
        weights: (H, Q, K) >= 0, and 0 where not visible; rows may sum to less than 1.
        vectors: (H, K, d) the x: values, hidden states or embeddings.
        visible: (Q, K) or (H, Q, K) bool.  What is visible and has weight 0 is a key like others.
        sizes: the N, ascending.
        generator: for the random sets, on the CPU.
        draws: random orders of the visible keys of each row; one order serves every N.
    """
    weights, vectors, visible = prepare(weights, vectors, visible)
    shape = (9, len(sizes), *weights.shape[:2])
    found = torch.full(shape, torch.nan, dtype=weights.dtype, device=weights.device)
    head, pairs = -1, torch.empty(0)
    for block in blocks(weights, vectors, visible):
        if block.head != head:
            head = block.head
            # By differences: by products, vectors that are close would be known to sqrt(eps) only.
            mode = "donot_use_mm_for_euclid_dist"
            pairs = torch.cdist(vectors[head], vectors[head], compute_mode=mode)
        into = found[:, :, head, block.rows]
        within = [size for size in sizes if size < block.weights.shape[1]]
        if within:
            into[:, : len(within)] = _block(block, pairs, within, generator, draws)
    found.masked_fill_(too_few_visible(visible, sizes), torch.nan)
    return SelectionDistances(*found)


def _block(
    block: Block, pairs: Tensor, sizes: Sequence[int], generator: torch.Generator, draws: int
) -> Tensor:
    """(9, len(sizes), R): the fields in their order."""
    work = torch.empty_like(block.weights)
    expectation = Expectation(block)
    order = block.top(sizes[-1])
    farthest = _farthest(block, pairs, order, sizes, work)
    norms = block.vectors.norm(dim=1)[order].cummax(1).values
    found = []
    for i, size in enumerate(sizes):
        keys = order[:, :size]
        s = block.selected_sum(keys)
        mass = block.weights.gather(1, keys).sum(1)
        # Summed, not 1 - mass, which would cancel where nearly all weight is selected.
        outside_mass = work.copy_(block.weights).scatter_(1, keys, 0).sum(1)
        num_outside = (block.num_visible - size).clamp_min(0)
        rest = expectation.output - s
        far = outside_mass * farthest[i]
        length = s.norm(dim=1)
        # Where nothing selected has weight, nothing has, and s = 0.
        share_outside = outside_mass / mass.clamp_min(torch.finfo(mass.dtype).tiny)
        found.append(
            [
                mass,
                _each(block, s, keys, work),
                (rest - s).norm(dim=1),
                (rest - num_outside[:, None] * s).norm(dim=1),
                far + norms[:, size - 1] * (mass * num_outside - outside_mass),
                far + length * (num_outside - share_outside),
                expectation.paper(size),
                expectation.upper(size),
                torch.zeros_like(mass),
            ]
        )
    for _ in range(draws):
        order = block.shuffled(sizes[-1], generator)
        for i, size in enumerate(sizes):
            keys = order[:, :size]
            found[i][-1] += _each(block, block.selected_sum(keys), keys, work) / draws
    return torch.stack([torch.stack(one) for one in found], dim=1)


def _each(block: Block, s: Tensor, keys: Tensor, work: Tensor) -> Tensor:
    distances = block.squared_distances(s, work).sqrt_()
    return distances.mul_(block.visible).scatter_(1, keys, 0).sum(1)


def _farthest(
    block: Block, pairs: Tensor, order: Tensor, sizes: Sequence[int], work: Tensor
) -> list[Tensor]:
    """The largest distance (R,) between a selected vector and one outside, for each N."""
    pairs = pairs[block.keys, block.keys].contiguous()
    reach = torch.zeros_like(block.weights)  # from each key to the farthest selected one
    found = []
    start = 0
    for size in sizes:
        for column in range(start, size):
            torch.index_select(pairs, 0, order[:, column], out=work)
            torch.maximum(reach, work, out=reach)
        start = size
        torch.mul(reach, block.visible, out=work).scatter_(1, order[:, :size], 0)
        found.append(work.amax(1))
    return found
