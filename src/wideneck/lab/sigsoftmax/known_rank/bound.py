"""A KL divergence that no softmax of hidden size d can go below, whatever its numbers are.

Theorem.  Let P (C x V) be positive distributions, A = log P, and Q any softmax of logits
Z = H W^T + 1 b^T with H (C x d).  Cut the matrix into blocks, each of some contexts and some
tokens, and take any t > 0 for each.  With rho(t) = (e^-t - 1 + t) / t^2,

    mean_c KL(P_c || Q_c) >= 1/C sum_blocks rho(t) sum_{i>d} min(s_i^2, b t^2),

where b_v is the smallest P_cv over the contexts of the block, b the smallest b_v, and s_1 >= s_2 >=
... are the singular values of X = J A S J': the block of A times S = diag(sqrt b_v), J the
projection that takes out the mean over contexts, J' the one that takes out sqrt(b_v) over tokens.

Proof.  (1) Let D = A - log Q and phi(x) = e^-x - 1 + x >= 0.  As sum_v P_cv e^-D_cv = sum_v Q_cv
= 1, KL_c = sum_v P_cv phi(D_cv): a sum over entries, so over blocks.  (2) phi(x) / x^2 =
int_0^1 (1 - u) e^-xu du falls in x, and phi rises for x > 0; so phi(x) >= rho(t) min(x^2, t^2).
(3) In a block let E keep the n entries of D beyond +-t.  Then sum P phi(D) >= rho(t) (n b t^2 + R)
with R = sum over the other entries of b_v D_cv^2 = ||(D - E) S||^2.  (4) J takes out the bias and
J' the normalizer, so J log Q S J' has rank at most d, and J E S J' at most n.  By Weyl's inequality
s_{d+n+i}(X) <= s_i(J (D - E) S J'), so R >= sum_{i>d+n} s_i^2, and n b t^2 + R >=
sum_{i>d} min(s_i^2, b t^2).

The smaller the block, the fewer of its singular values lie beyond d, but the smaller t may be, and
rho(t) <= 1/2 falls like 1/t.  A scaled softmax and a mixture of contexts are such a Q too.
Cost: the singular values of the matrix, some twenty times.
"""

from itertools import product

import torch
from torch import Tensor

from wideneck.errors import WideneckError

CUTS = (1, 2, 4, 8, 16)
"""Numbers of parts into which the contexts, and the tokens, are cut."""
NUM_TRIED = 400
"""Values of t, at equal ratios from 0.01 to 1000; each of them is a bound."""


@torch.no_grad()
def softmax_kl_bound(log_probs: Tensor, hidden_size: int) -> float:
    """The best of the theorem's bounds, over blocks of several sizes.

    Args:
        log_probs: A (C, V), the true log-probabilities.
        hidden_size: d of the softmax, which has a bias or none.

    Returns:
        Nats, as a mean over contexts; exactly 0 where the rank allows a softmax to be exact.

    Raises:
        WideneckError: a probability of 0, of which the theorem says nothing.
    """
    log_probs = log_probs.double()
    if not log_probs.isfinite().all():
        raise WideneckError(
            "The bound needs probabilities above 0 and finite logarithms; the language has others."
        )
    num_contexts, vocab_size = log_probs.shape
    # What counts as 0 among singular values: those that rounding alone may leave.
    largest = torch.linalg.matrix_norm(log_probs, 2).item()
    rounding = largest * max(log_probs.shape) * torch.finfo(log_probs.dtype).eps
    bounds = []
    for rows, columns in product(CUTS, CUTS):
        if min(num_contexts // rows, vocab_size // columns) > hidden_size or rows == columns == 1:
            parts = log_probs.tensor_split(rows, dim=0)
            blocks = (block for part in parts for block in part.tensor_split(columns, dim=1))
            total = sum(_block(block, hidden_size, rounding) for block in blocks)
            bounds.append(total / num_contexts)
    return max(bounds)


def _block(block: Tensor, hidden_size: int, rounding: float) -> float:
    """The largest of its sums over t."""
    b = block.amin(0).exp()
    root = b.sqrt()
    X = block * root
    X = X - torch.outer(X @ root, root) / b.sum()
    X = X - X.mean(0)
    s = torch.linalg.svdvals(X)[hidden_size:]
    s = torch.where(s > rounding * root.max(), s, 0.0)
    t = torch.logspace(-2, 3, NUM_TRIED, dtype=b.dtype)
    rho = (torch.expm1(-t) + t) / t**2
    sums = torch.minimum(s[:, None] ** 2, b.min() * t**2).sum(0)
    return (rho * sums).max().item()
