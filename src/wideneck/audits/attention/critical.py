"""The smallest N whose selected keys are no farther from the rest than N random ones are.

Mudarisov et al. 2025 (arXiv:2508.17821), algorithm 3: for N = 1, 2, ... compare, over the heads of
a model, the mean distance of the N heaviest keys with the mean expected for N random ones by a
two-sample Kolmogorov-Smirnov test; the first N not rejected is critical.

The scan over N costs O(K) for each row and N instead of O(K d): with G = X X^T, adding key j of
weight a to the selection moves s.x_i by a G_ij and ||s||^2 by 2 a s.x_j + a^2 G_jj.
"""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import ArrayLike
from scipy.stats import ks_2samp
from torch import Tensor

from wideneck.audits.attention.expectation import Expectation
from wideneck.audits.attention.selection import Block, blocks, prepare


@dataclass(frozen=True)
class Scan:
    """Sums over the query rows that see more than N keys: (max_size, H), row N - 1 for N.

    Sums, so that windows of text add up: `scan + scan`, then `scan.each / scan.count`.
    """

    each: Tensor
    """Representation distance of the N heaviest keys, as `SelectionDistances.each`; float64."""
    expected_paper: Tensor
    """Main term of Theorem 1.2, DERIVED, below the mean over random sets of N; float64."""
    expected_upper: Tensor
    """A closed form above that mean; float64."""
    expected_monte_carlo: Tensor
    """Distance of one random set of N for each row; float64."""
    count: Tensor
    """Rows in the sums; int64."""

    def cpu(self) -> "Scan":
        """The same on the CPU."""
        return Scan(**{name: sums.cpu() for name, sums in vars(self).items()})

    def __add__(self, other: "Scan") -> "Scan":
        return Scan(**{name: sums + getattr(other, name) for name, sums in vars(self).items()})


@dataclass(frozen=True, kw_only=True)
class CriticalSize:
    """What the tests said, N = 1 first."""

    size: int | None
    """The first N not rejected; None if every one is rejected."""
    level: float
    """Level of each test: rejected where p <= level."""
    statistics: list[float]
    """Kolmogorov-Smirnov statistic of every N tested: largest gap of the distribution functions."""
    p_values: list[float]
    """p-value of every N tested."""


@torch.no_grad()
def scan_sizes(
    weights: Tensor,
    vectors: Tensor,
    visible: Tensor,
    max_size: int,
    *,
    generator: torch.Generator,
) -> Scan:
    """Distances of the N heaviest and of N random keys for every N from 1 to `max_size`.

    Cost: for each head K^2 d, and for each N some 30 passes over the weights that are visible;
    K^2 numbers of memory.

    Args:
        weights: (H, Q, K) >= 0, and 0 where not visible; rows may sum to less than 1.
        vectors: (H, K, d).
        visible: (Q, K) or (H, Q, K) bool.
        max_size: the largest N; sums and count are 0 from where no row sees more than N keys.
        generator: for one random order of the keys of each row, on the CPU.
    """
    weights, vectors, visible = prepare(weights, vectors, visible)
    sums = weights.new_zeros(4, max_size, len(weights), dtype=torch.float64)
    head, products = -1, torch.empty(0)
    for block in blocks(weights, vectors, visible):
        if block.head != head:
            head = block.head
            products = vectors[head] @ vectors[head].T
        gram = products[block.keys, block.keys].contiguous()
        last = min(max_size, block.weights.shape[1] - 1)
        if last < 1:
            continue
        expectation = Expectation(block)
        for i, size in enumerate(range(1, last + 1)):
            sums[1, i, head] += expectation.paper(size).sum(dtype=torch.float64)
            sums[2, i, head] += expectation.upper(size).sum(dtype=torch.float64)
        sums[0, :last, head] += _each(block, gram, block.top(last))
        sums[3, :last, head] += _each(block, gram, block.shuffled(last, generator))
    num_visible = visible.sum(-1)
    count = torch.stack([(num_visible > size).sum(-1) for size in range(1, max_size + 1)])
    return Scan(*sums, count=count)


def _each(block: Block, gram: Tensor, order: Tensor) -> Tensor:
    """Sums over the rows, (N,), of the distances outside the first N keys of `order` (R, N).

    A row whose visible keys are all selected has none outside and adds 0.
    """
    weights = block.weights
    added = weights.gather(1, order)
    along = torch.zeros_like(weights)  # s.x_i
    square = weights.new_zeros(len(weights), 1, dtype=torch.float64)  # ||s||^2
    outside = block.visible.to(weights.dtype)
    work = torch.empty_like(weights)
    diagonal = gram.diagonal()
    found = []
    for n in range(order.shape[1]):
        key, weight = order[:, n], added[:, n : n + 1]
        before = along.gather(1, key[:, None]).double()
        square += 2 * weight * before + weight.double().square() * diagonal[key][:, None]
        along.addcmul_(torch.index_select(gram, 0, key, out=work), weight)
        outside.scatter_(1, key[:, None], 0)
        torch.addcmul(block.squares, weights, along, value=-2, out=work)
        work.add_(square.to(work.dtype)).clamp_min_(0).sqrt_().mul_(outside)
        found.append(work.sum(1).sum(dtype=torch.float64))
    return torch.stack(found)


def critical_size(distance: ArrayLike, expected: ArrayLike, level: float = 0.01) -> CriticalSize:
    """The first N at which the heads' mean distances are not told from the expected ones.

    Read it with care: the two samples are means of the same heads, so they are paired and the
    test, which takes them as independent, rejects too seldom; and not to be rejected is not to be
    equal, the less so the fewer the heads. The paper has level 0.01 in its text and 0.05 in its
    algorithm. The scan ends before the first N at which some head has no mean.

    Args:
        distance: (max_size, number of heads) mean distance of the N heaviest keys, row N - 1 for N.
        expected: the same for N random ones.
        level: of each test; there is no correction for their number.
    """
    both = np.stack([np.asarray(distance), np.asarray(expected)], axis=1)
    unknown = np.flatnonzero(~np.isfinite(both).all((1, 2)))
    num_known = int(unknown[0]) if len(unknown) else len(both)
    tests = [ks_2samp(found, chance) for found, chance in both[:num_known]]
    p_values = [float(test.pvalue) for test in tests]
    return CriticalSize(
        size=next((i + 1 for i, p in enumerate(p_values) if p > level), None),
        level=level,
        statistics=[float(test.statistic) for test in tests],
        p_values=p_values,
    )
