"""How many of the selected keys can be told from the others by the vector that they add up to.

Mudarisov et al. 2025 (arXiv:2508.17821), section on geometric separability.  A query sees L keys
with weights alpha and vectors x; I is the set of the N largest weights, s = sum_(i in I)
alpha_i x_i.  The ball around s that just excludes every vector outside I has the radius
r = min_(i not in I) ||alpha_i x_i - s||; a selected key counts as separated if its alpha_i x_i lies
inside, and N_s is their number.

Theorem 2 takes the x as uniform on a sphere of radius M, no two closer than delta, and bounds
E N_s / N by way of xi_i^2 = M^2 (sum_j alpha_j)^2 - delta^2 / 2 sum_(j != k) alpha_j alpha_k, sums
over I without i, which is above ||alpha_i x_i - s||^2.  The formulas are DERIVED: rebuilt by us
from the paper's prose, so they say nothing of the paper's own constants:

    1 - sum_i xi_i / (r N)  <=  E N_s / N  <=  1 / N sum_i exp(-(xi_i - r)_+^2 / (2 M^2)).

Take neither for a theorem about a trained head: the lower side is negative from N of about 5 on,
and the upper one puts an upper bound xi where Hoeffding's inequality needs a lower one.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from wideneck.audits.attention.selection import Block, blocks, prepare, too_few_visible

ROUNDING = 16
"""Squared distances this many eps of ||s||^2 + r^2 apart are equal: the error of the products,
of which 13 eps were the most seen for d from 16 to 4096."""


@dataclass(frozen=True)
class Separability:
    """Tensors (len(sizes), H, Q), NaN where no visible key is left outside the selection."""

    share: Tensor
    """N_s / N."""
    lower: Tensor
    """Lower side of Theorem 2, DERIVED: may be far below 0; -inf where r = 0."""
    upper: Tensor
    """Upper side of Theorem 2, DERIVED."""
    delta: Tensor
    """(H,) smallest distance between two vectors; 0 for duplicates, NaN without two vectors."""
    radius: Tensor
    """(H,) M: the largest norm of the vectors of the head."""


@torch.no_grad()
def separability(
    weights: Tensor, vectors: Tensor, visible: Tensor, sizes: Sequence[int]
) -> Separability:
    """Share of the N heaviest keys that lie nearer to their sum than any other visible key.

    "Nearer" is strict: a selected vector as far from s as the nearest one outside does not count,
    and distances within rounding are equal, so duplicates across the edge of the selection are
    not separated.  For N = 1 the only selected vector is s itself.  Keys of equal weight at the
    edge are selected arbitrarily, as by `topk`.  M and delta are taken over the vectors of the
    head that some query sees.  Cost: for each head two products of Q x d x K for each N, and
    K^2 d for delta.

    Args:
        weights: (H, Q, K) >= 0, and 0 where not visible; rows may sum to less than 1.
        vectors: (H, K, d); the paper normalises them to one length first, this does not.
        visible: (Q, K) or (H, Q, K) bool.
        sizes: the N, ascending.
    """
    weights, vectors, visible = prepare(weights, vectors, visible)
    shape = (3, len(sizes), *weights.shape[:2])
    found = torch.full(shape, torch.nan, dtype=weights.dtype, device=weights.device)
    seen = [x[v.any(0)] for x, v in zip(vectors, visible, strict=True)]
    radius = torch.stack([_largest(x.norm(dim=1)) for x in seen])
    # Differences, not products: duplicates are at distance 0.
    delta = torch.stack([-_largest(-torch.pdist(x)) for x in seen])
    for block in blocks(weights, vectors, visible):
        within = [size for size in sizes if size < block.weights.shape[1]]
        if within:
            into = found[:, :, block.head, block.rows]
            at = radius[block.head].double(), delta[block.head].double()
            into[:, : len(within)] = _block(block, *at, within)
    found.masked_fill_(too_few_visible(visible, sizes), torch.nan)
    return Separability(*found, delta=delta, radius=radius)


def _largest(values: Tensor) -> Tensor:
    return values.max() if len(values) else values.new_tensor(torch.nan)


def _block(block: Block, radius: Tensor, delta: Tensor, sizes: Sequence[int]) -> Tensor:
    """(3, len(sizes), R): share, lower, upper."""
    work = torch.empty_like(block.weights)
    order = block.top(sizes[-1])
    rounding = ROUNDING * torch.finfo(work.dtype).eps
    hidden = ~block.visible
    found = []
    for size in sizes:
        keys = order[:, :size]
        s = block.selected_sum(keys)
        squares = block.squared_distances(s, work)
        inside = squares.gather(1, keys)
        r_square = squares.scatter_(1, keys, torch.inf).masked_fill_(hidden, torch.inf).amin(1)
        s_square = s.square().sum(1)
        r_square = r_square.where(r_square > rounding * s_square, 0)
        error = rounding * (s_square + r_square)
        share = (inside < (r_square - error)[:, None]).double().mean(1)
        r = r_square.double().sqrt()
        xi = _xi(block.weights.gather(1, keys).double(), radius, delta)
        lower = torch.where(r > 0, 1 - xi.mean(1) / r, -torch.inf)
        excess = (xi - r[:, None]).clamp_min(0) / radius.clamp_min(torch.finfo(work.dtype).tiny)
        found.append(torch.stack([share, lower, (-excess.square() / 2).exp().mean(1)]))
    return torch.stack(found, dim=1).to(work.dtype)


def _xi(selected: Tensor, radius: Tensor, delta: Tensor) -> Tensor:
    """xi_i (R, N) from the selected weights (R, N), float64 as the sums are differences."""
    others = selected.sum(1, keepdim=True) - selected
    squares = selected.square()
    others_squares = squares.sum(1, keepdim=True) - squares
    products = others.square() - others_squares
    return (radius**2 * others.square() - delta**2 / 2 * products).clamp_min(0).sqrt()
