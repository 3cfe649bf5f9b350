"""Small attention layers of every kind, and the definitions of their measures as loops."""

from itertools import combinations
from math import inf, nan

import torch

Q = K = 9
D = 3


def seeded(seed):
    return torch.Generator().manual_seed(seed)


def layer(kind, seed=0):
    """Weights (H, Q, K), vectors (H, K, d) and visible of one kind in float64; no two weights tie.

    But for "masked", which counts the keys that a causal mask hides as keys of weight 0.
    """
    generator = seeded(seed)
    visible = torch.ones(Q, K, dtype=torch.bool).tril()
    scores = 2 * torch.randn(4, Q, K, generator=generator, dtype=torch.float64)
    vectors = torch.randn(4, K, D, generator=generator, dtype=torch.float64)
    if kind == "gqa":
        vectors = vectors[:2].repeat_interleave(2, dim=0)
    if kind == "window":
        visible = visible.triu(-3)
    if kind == "full":
        visible = torch.ones(Q, K, dtype=torch.bool)
    if kind == "partly":  # by head, with rows and keys that are not in use
        visible = torch.rand(4, Q, K, generator=generator) < 0.5
        visible[:, 2] = False
        visible[:, :, 4] = False
        visible[1] = False
    if kind == "duplicates":
        vectors[:, 5] = vectors[:, 1]
    weights = scores.masked_fill(~visible, -inf).softmax(-1).nan_to_num(0)
    if kind == "abstain":
        weights *= torch.rand(4, Q, 1, generator=generator, dtype=torch.float64)
        weights[:, 5] = 0
    if kind == "masked":
        visible = torch.ones_like(visible)
    return weights, vectors, visible


KINDS = ["causal", "gqa", "window", "full", "partly", "duplicates", "abstain", "masked"]
TIED = {"abstain", "masked"}  # rows of weights 0: which of them are selected is arbitrary


def rows(weights, vectors, visible):
    """Head, query, and the visible keys' weights and vectors of every row."""
    for head, query in torch.cartesian_prod(*map(torch.arange, weights.shape[:2])).tolist():
        seen = visible.expand(weights.shape)[head, query]
        yield head, query, weights[head, query][seen], vectors[head][seen]


def by_rows(measure, sizes, weights, vectors, visible):
    """(len(sizes), H, Q) of measure(alpha, x, N) for each row, NaN where none is left outside."""
    found = torch.full((len(sizes), *weights.shape[:2]), nan, dtype=weights.dtype)
    for head, query, alpha, x in rows(weights, vectors, visible):
        for i, size in enumerate(sizes):
            if len(alpha) > size:
                found[i, head, query] = measure(alpha, x, size)
    return found


def split(alpha, size):
    """The indices of the largest weights and of the rest."""
    order = alpha.argsort(descending=True).tolist()
    return order[:size], order[size:]


def weighted(alpha, x, keys):
    """alpha_i x_i of some keys, (n, d)."""
    return (alpha[:, None] * x)[keys]


def context(alpha, x, selected):
    return weighted(alpha, x, selected).sum(0)


def each(alpha, x, selected):
    chosen = set(selected)
    outside = [i for i in range(len(alpha)) if i not in chosen]
    s = context(alpha, x, selected)
    return (weighted(alpha, x, outside) - s).norm(dim=1).sum()


def distances_of_all_sets(alpha, x, size):
    """`each` of every set of `size` keys."""
    return torch.stack(
        [each(alpha, x, list(chosen)) for chosen in combinations(range(len(x)), size)]
    )
