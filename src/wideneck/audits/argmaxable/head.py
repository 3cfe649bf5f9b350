"""The distinct rows of a head in float64, and the exact judge of a witness.

M distinct rows w_i in R^D and biases b_i (zeros without a bias), both less their means, which
changes no difference of scores. Everything is computed by chunks of rows from the weight as it
is stored, so a large head needs no second copy; one under 512 MB in float64 is kept.
"""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

Progress = Callable[[str, int, int], None]
"""Called with (stage, done, total)."""
_CHUNK = 8192
_KEEP = 512 * 2**20


@dataclass(frozen=True, kw_only=True)
class Head:
    """M rows and biases to be told apart."""

    weight: Tensor
    """(V, D) as stored."""
    tokens: Tensor
    """(M,): row of `weight` that stands for each group of equal rows."""
    mean: Tensor
    """(D,): mean of the V rows, float64."""
    bias: Tensor
    """(M,): less the mean of all V, float64; zeros without a bias."""
    box: float | None
    """Bound of |x_k|; None without a bias."""
    radius: float
    """R = max ||w_i||_2, centred."""
    bias_radius: float
    """B = max |b_i|, centred."""
    second_moment: Tensor
    """(D, D): mean of w_i w_i^T over the V centred rows, float64."""
    kept: Tensor | None
    """(M, D): the centred rows in float64, where they are small enough to keep."""

    @property
    def tolerance(self) -> float:
        """Relative: what rounding two rows to float32 can do to a margin.

        |sum_k (d_ik - d_jk) x_k| <= 2 * 2^-24 * sqrt(D) * R * ||x||_inf for |d_k| <= 2^-24 |w_k|.
        A margin below it is an accident of storage: a convex combination of rows, once stored,
        lies outside their hull or inside it by as much.
        """
        return 2.0**-23 * math.sqrt(len(self.mean))

    @property
    def num_rows(self) -> int:
        """M."""
        return len(self.tokens)

    def rows(self, index: Tensor | slice) -> Tensor:
        """Centred rows in float64."""
        if self.kept is not None:
            return self.kept[index]
        return self.weight[self.tokens[index]].double() - self.mean

    def stored(self, index: Tensor) -> Tensor:
        """Rows in float64 as stored, not centred: their differences are off by one rounding."""
        return self.weight[self.tokens[index]].double()

    def chunks(self) -> Iterator[tuple[slice, Tensor]]:
        """All centred rows, a chunk at a time, with their place."""
        for a in range(0, self.num_rows, _CHUNK):
            part = slice(a, min(a + _CHUNK, self.num_rows))
            yield part, self.rows(part)

    def leads(self, index_N: Tensor, x_ND: Tensor) -> Tensor:
        """Of row index_N[n] at x_ND[n]: its score less every other score; inf for itself.

        (N, M) in float64. The judge of every witness that no self-test gives.
        """
        own_N = (self.rows(index_N) * x_ND).sum(1) + self.bias[index_N]
        lead_NM = torch.empty(len(index_N), self.num_rows, dtype=torch.float64)
        for part, rows in self.chunks():
            lead_NM[:, part] = own_N[:, None] - (x_ND @ rows.T + self.bias[part])
        lead_NM[torch.arange(len(index_N)), index_N] = torch.inf
        return lead_NM

    def accepts(self, margin_N: Tensor, x_ND: Tensor) -> Tensor:
        """Where x is a witness: inside the box, and the margin above the tolerance."""
        reach_N = x_ND.abs().amax(1)
        if self.box is None:
            return margin_N > self.tolerance * self.radius * reach_N
        scale = self.radius * self.box + self.bias_radius
        return (margin_N > self.tolerance * scale) & (reach_N <= self.box)

    def relative(self, margin_N: Tensor, x_ND: Tensor) -> Tensor:
        """Margin over ||x||_2 R + B."""
        return margin_N / (x_ND.norm(dim=1) * self.radius + self.bias_radius)

    def into_box(self, x_ND: Tensor) -> Tensor:
        """Shrinks the states that stick out of the box."""
        if self.box is None:
            return x_ND
        reach_N1 = x_ND.abs().amax(1, keepdim=True).clamp_min(1e-300)
        # The factor keeps the edge itself inside after rounding.
        return x_ND * (self.box * (1 - 1e-6) / reach_N1).clamp_max(1)


def make_head(weight: Tensor, bias: Tensor | None, tokens_M: Tensor, box: float) -> Head:
    """The rows `tokens_M` of a weight (V, D); means and moments are of all V rows."""
    num_rows, width = weight.shape
    total_D = torch.zeros(width, dtype=torch.float64)
    for part in torch.split(weight, _CHUNK):
        total_D += part.double().sum(0)
    mean_D = total_D / num_rows

    moment_DD = torch.zeros(width, width, dtype=torch.float64)
    radius = 0.0
    for part in torch.split(weight, _CHUNK):
        rows = part.double() - mean_D
        moment_DD.addmm_(rows.T, rows, alpha=1 / num_rows)
        radius = max(radius, rows.norm(dim=1).max().item())

    bias_M = torch.zeros(len(tokens_M), dtype=torch.float64)
    if bias is not None:
        bias_M = bias[tokens_M].double() - bias.double().mean()
    keep = 8 * len(tokens_M) * width <= _KEEP
    return Head(
        weight=weight,
        tokens=tokens_M,
        mean=mean_D,
        bias=bias_M,
        box=None if bias is None else box,
        radius=radius,
        bias_radius=bias_M.abs().max().item(),
        second_moment=moment_DD,
        kept=weight[tokens_M].double().sub_(mean_D) if keep else None,
    )
