"""The sum of max(0, u_j - u_i) over all pairs of a positive and a negative, and its gradient.

Of a row's negatives in rising order, those above positive i are a tail: their number n_i and sum
S_i give its terms, S_i - n_i u_i, and -n_i is its slope.  A negative's slope is the number of
tails that it is in.  So the gradient is found together with the sum, some rows at a time, and
nothing but the gradient is kept for the backward pass.
"""

from typing import Any, final

import torch
from torch import Tensor

from wideneck.memory.ranks import Ranks

NUMBERS = 2**18
"""Similarities at a time."""


def hinges_and_gradient(
    s: Tensor,
    visible: Tensor,
    good: Tensor,
    row: tuple[Tensor, ...],
    ranks: Ranks,
    margin: float,
    *,
    wants: bool,
) -> tuple[Tensor, Tensor, Tensor | None]:
    """Sum and number of the pairs, with u = s + margin rank; nothing is recorded.

    Args:
        s: (B, Q, M).
        visible: (B, Q, M).
        good: (B, Q, M), True for the positives; the other visible ones are negatives.
        row: sequence and query of the rows with a positive.
        ranks: of these rows.
        margin: asked for at each rank.
        wants: whether the gradient of the sum (B, Q, M) is wanted, too.
    """
    gradient = torch.zeros_like(s) if wants else None
    total, num_pairs = s.new_zeros(()), row[0].new_zeros(())
    size = max(1, NUMBERS // max(1, s.shape[-1]))
    for start in range(0, len(row[0]), size):
        some = slice(start, start + size)
        at = tuple(part[some] for part in row)
        positive = good[at]
        negative = visible[at] & ~positive
        u = s[at].add_(ranks.of(some), alpha=margin)
        found, slope = _rows(u, positive, negative, wants)
        total += found
        num_pairs += (positive.sum(-1) * negative.sum(-1)).sum()
        if gradient is not None and slope is not None:
            gradient[at] = slope
    return total, num_pairs, gradient


@final
class Hinges(torch.autograd.Function):
    """Sum and number of the pairs, of the arguments of `hinges_and_gradient`."""

    @staticmethod
    def forward(ctx: Any, *given: Any) -> tuple[Tensor, Tensor]:  # pyrefly: ignore[bad-override]
        """The sum, the number of pairs, and already the gradient."""
        total, num_pairs, gradient = hinges_and_gradient(*given, wants=ctx.needs_input_grad[0])
        if gradient is not None:
            ctx.save_for_backward(gradient)
        ctx.mark_non_differentiable(num_pairs)
        ctx.set_materialize_grads(False)
        return total, num_pairs

    @staticmethod
    def backward(ctx: Any, grad: Tensor | None, _: Any):  # pyrefly: ignore[bad-override]
        """The gradient that the forward pass has found; the sum is linear in pieces."""
        if grad is None or not ctx.needs_input_grad[0]:
            return (None,) * 6
        (gradient,) = ctx.saved_tensors
        return (gradient * grad, *(None,) * 5)


def _rows(
    u: Tensor, positive: Tensor, negative: Tensor, wants: bool
) -> tuple[Tensor, Tensor | None]:
    """The sum over the pairs of some rows (R, M), and its gradient."""
    num_memories = u.shape[-1]
    # The positives of each row side by side, then inf: of those no tail is left.
    most = int(positive.sum(-1).max())
    p, where = u.masked_fill(~positive, torch.inf).topk(most, largest=False)
    real = p < torch.inf
    # Sums of large numbers would cancel; a shift of a row changes no difference.
    level = p[:, :1]
    p, u = p - level, u - level
    v, order = u.masked_fill_(~negative, -torch.inf).sort(-1)
    first = torch.searchsorted(v, p, right=True)
    # -inf comes first, where no tail reaches.
    below = torch.where(v == -torch.inf, 0, v).cumsum(-1)
    tail = below[:, -1:] - torch.where(first > 0, below.gather(-1, (first - 1).clamp(min=0)), 0)
    number = (num_memories - first).to(u.dtype)
    total = torch.where(real, tail - number * torch.where(real, p, 0), 0).sum()
    if not wants:
        return total, None
    begun = torch.zeros(len(u), num_memories + 1, dtype=u.dtype, device=u.device)
    begun.scatter_add_(-1, first, real.to(u.dtype))
    slope = torch.empty_like(u).scatter_(-1, order, begun[:, :-1].cumsum(-1))
    return total, slope.scatter_add_(-1, where, torch.where(real, -number, 0))
