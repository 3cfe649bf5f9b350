"""Which keys a query selects, and how far a sum of weighted vectors lies from each of them.

What `distance.py`, `separability.py` and `critical.py` share.  One layer at a time: H heads,
Q queries, K keys, weights alpha (H, Q, K) and vectors x (H, K, d).  All work is done on blocks of
query rows that fit in the cache of a core, and on the keys that some row of the block can see, so
a causal mask halves it.  Nothing of shape (Q, K, d) is ever held.

With s = sum_(i in I) alpha_i x_i for a set I of keys, all distances of a row come from products:
||alpha_i x_i - s||^2 = alpha_i^2 ||x_i||^2 - 2 alpha_i s.x_i + ||s||^2.  Its rounding error is that
of ||s||^2, so a distance far below ||s|| is known to sqrt(eps) ||s|| only.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import embedding_bag

BLOCK_ELEMENTS = 2**16
"""Weights in one block: 256 KiB in float32, so the handful of buffers of a block stay in cache."""


@dataclass(frozen=True)
class Block:
    """R query rows of one head and the K keys between the first and the last that they see."""

    head: int
    rows: slice
    weights: Tensor
    """(R, K), 0 where not visible."""
    vectors: Tensor
    """(K, d)."""
    visible: Tensor
    """(R, K) bool."""
    num_visible: Tensor
    """(R,)."""
    keys: slice
    """The K keys among those of the head."""
    squares: Tensor
    """(R, K): alpha_i^2 ||x_i||^2."""

    def top(self, count: int) -> Tensor:
        """(R, min(count, K)) keys by falling weight, the visible ones first; ties are arbitrary."""
        return self._first(self.weights, count)

    def shuffled(self, count: int, generator: torch.Generator) -> Tensor:
        """(R, min(count, K)) keys in random order, the visible ones first.

        The first N of them are a uniform draw from the sets of N visible keys, for every N.  The
        generator is one of the CPU, so that a seed gives the same draw on every device.
        """
        order = torch.rand(self.weights.shape, generator=generator, dtype=self.weights.dtype)
        return self._first(order.to(self.weights.device), count)

    def selected_sum(self, keys: Tensor) -> Tensor:
        """S = sum of alpha_i x_i over the keys (R, N) of each row: (R, d)."""
        weights = self.weights.gather(1, keys)
        return embedding_bag(keys, self.vectors, per_sample_weights=weights, mode="sum")

    def squared_distances(self, s: Tensor, out: Tensor) -> Tensor:
        """||alpha_i x_i - s||^2 of every key, (R, K), for s (R, d); meaningless where not visible.

        Written to `out` (R, K).
        """
        torch.mm(s, self.vectors.T, out=out).mul_(self.weights)
        torch.sub(self.squares, out, alpha=2, out=out)
        return out.add_(s.square().sum(1, keepdim=True)).clamp_min_(0)

    def _first(self, order: Tensor, count: int) -> Tensor:
        order = order.masked_fill(~self.visible, -1)
        return order.topk(min(count, order.shape[1]), dim=1).indices


def blocks(weights: Tensor, vectors: Tensor, visible: Tensor) -> Iterator[Block]:
    """Cut a layer into blocks; rows that see no key may be missing.

    Args:
        weights: (H, Q, K).
        vectors: (H, K, d), of the dtype of `weights`.
        visible: (H, Q, K) bool.
    """
    num_heads, num_queries, num_keys = weights.shape
    num_rows = max(1, BLOCK_ELEMENTS // max(1, num_keys))
    for head in range(num_heads):
        norms = vectors[head].square().sum(1)
        for start in range(0, num_queries, num_rows):
            rows = slice(start, min(start + num_rows, num_queries))
            seen = visible[head, rows].any(0).nonzero()
            if len(seen) == 0:
                continue
            keys = slice(int(seen[0]), int(seen[-1]) + 1)
            part = weights[head, rows, keys].contiguous()
            shown = visible[head, rows, keys]
            yield Block(
                head=head,
                rows=rows,
                weights=part,
                vectors=vectors[head, keys],
                visible=shown,
                num_visible=shown.sum(1),
                keys=keys,
                squares=part.square().mul_(norms[keys]),
            )


def prepare(weights: Tensor, vectors: Tensor, visible: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The three with one dtype, float32 or wider, and `visible` as (H, Q, K) without a copy."""
    dtype = torch.promote_types(
        torch.promote_types(weights.dtype, vectors.dtype),
        torch.float32,
    )
    return weights.to(dtype), vectors.to(dtype), visible.expand(weights.shape)


def too_few_visible(visible: Tensor, sizes: Sequence[int]) -> Tensor:
    """(len(sizes), H, Q) True where no visible key is left outside a selection of N."""
    count = visible.sum(-1)
    return torch.stack([count <= size for size in sizes])
