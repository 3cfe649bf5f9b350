"""The representation distance of N keys drawn at random: two closed forms around its mean.

Theorem 1.2 of Mudarisov et al. 2025 (arXiv:2508.17821), its formula DERIVED: rebuilt by us from the
paper's prose, which may mean N / L where N / (L - 1) stands here.  A row sees L keys;
o = sum_i alpha_i x_i.
Key i is outside with probability (L - N) / L, and the sum s over the set then has the mean
mu_i = N / (L - 1) (o - alpha_i x_i) and, M = L - 1, the variance

    t_i = N (M - N) / (M - 1) (mean_(j != i) ||alpha_j x_j||^2 - ||mean_(j != i) alpha_j x_j||^2).

- paper: sum_i (L - N) / L ||alpha_i x_i - mu_i||, the main term as DERIVED.  By Jensen it is
  below the mean; the theorem covers the gap by a residual that it does not give.
- upper: sum_i (L - N) / L sqrt(||alpha_i x_i - mu_i||^2 + t_i), above the mean by Jensen (ours).

Both are sums over i of sqrt(A ||alpha_i x_i||^2 + B alpha_i x_i.o + C) with A, B, C one number a
row, so one product with o serves every N.
"""

import torch
from torch import Tensor

from wideneck.audits.attention.selection import Block


class Expectation:
    """The closed forms of one block, for any N."""

    def __init__(self, block: Block):
        self.output = block.weights @ block.vectors
        """O (R, d): the output of the head, if x are the values."""
        self._block = block
        self._along = torch.mm(self.output, block.vectors.T).mul_(block.weights)
        self._output_square = self.output.double().square().sum(1)
        self._sum_squares = block.squares.sum(1, dtype=torch.float64)
        self._mask = block.visible.to(block.weights.dtype)
        self._work = torch.empty_like(block.weights)

    def paper(self, size: int) -> Tensor:
        """(R,) the derived main term for N = `size`; meaningless where no key is left outside."""
        ratio = self._ratio(size)
        a, b = (1 + ratio).square(), -2 * ratio * (1 + ratio)
        return self._sum(size, a, b, ratio.square() * self._output_square)

    def upper(self, size: int) -> Tensor:
        """(R,) the upper bound for N = `size`; meaningless where none is left outside."""
        others, ratio = self._others(), self._ratio(size)
        # One other key, and it is drawn: no variance, and 0 / 0 in the formula.
        spread = size * (others - size).clamp_min(0) / (others - 1).clamp_min(1)
        in_mean, in_square = spread / others, spread / others.square()
        return self._sum(
            size,
            (1 + ratio).square() - in_mean - in_square,
            2 * in_square - 2 * ratio * (1 + ratio),
            ratio.square() * self._output_square
            + in_mean * self._sum_squares
            - in_square * self._output_square,
        )

    def _others(self) -> Tensor:
        return (self._block.num_visible.double() - 1).clamp_min(1)

    def _ratio(self, size: int) -> Tensor:
        return size / self._others()

    def _sum(self, size: int, a: Tensor, b: Tensor, c: Tensor) -> Tensor:
        """(L - N) / L sum_i sqrt(a ||alpha_i x_i||^2 + b alpha_i x_i.o + c)."""
        dtype = self._work.dtype  # a > 0: it is divided out, which saves a pass
        slope, constant = (b / a).to(dtype)[:, None], (c / a).to(dtype)[:, None]
        torch.addcmul(self._block.squares, self._along, slope, out=self._work)
        self._work.add_(constant).clamp_min_(0).sqrt_().mul_(self._mask)
        count = self._block.num_visible.clamp_min(1).double()
        outside = (count - size).clamp_min(0) / count
        return (outside * a.sqrt()).to(dtype) * self._work.sum(1)
