"""Which tokens the basis of a head shows to have true probability (Finlayson et al. 2024).

arXiv:2310.01693.  At a minimum of the cross-entropy W^T p* = W^T p: the model's p and the true p*
differ only where the columns of W, and 1, do not see it.  If besides no p*_j exceeds p_j by more
than a factor 1 / (1 - tau), then p_i > tau shows that p*_i > 0, and so do the columns of W for some
tokens below tau: those whose linear program {q >= 0, q_i = 0, W^T q = W^T p, q <= p / (1 - tau)}
has no solution.

Its dual needs no solver, and is a derivation of ours, not the paper's: with sigma = 1 / (1 - tau),
token i is certified by any vector a in the span of the columns of W and 1, a_i = 1, for which

    F(a) = sum_{j != i} p_j [(sigma - 1) a_j^+ + a_j^-] < p_i.

As (sigma - 1) x^+ + x^- = (sigma - 1) x + sigma x^-, that is

    G(a) = tau E_p[a] + E_p[a^-] < p_i,    F(a) = G(a) / (1 - tau) - tau / (1 - tau) p_i,

with the expectation over all tokens.  a = 1 gives p_i > tau.  So a search may stop anywhere and
look at some tokens only, if G is computed of all of them in the end.

Shapes: V vocabulary, C candidates, c directions.  A bias of the head and a scale of all its scores
change neither the span nor anything here.
"""

import torch
from torch import Tensor

from wideneck.errors import WideneckError
from wideneck.functional.gram import gram, row_chunks

HEAD, TAIL = 256, 128
"""Tokens that a search sees: the most probable ones, and a sample of the others by probability."""
WIDTHS = tuple(0.1 * 0.01 ** (k / 7) for k in range(8))
"""What the corner of a^- is rounded by in the search, step by step: from 0.1 down to 0.001."""
STEPS = (1.0, 0.5, 0.2, 0.05, 0.0)
"""Lengths of a Newton step that are tried."""


@torch.no_grad()
def span(weight: Tensor, count: int) -> Tensor:
    """U (V, c) float64: c = min(count, rank) vectors that the centred columns of W (V, D) span.

    The left singular vectors of W - 1 mu^T of its largest singular values, as long as sqrt(V).

    Cost: 2 V D^2 operations in float64.

    Raises:
        WideneckError: all rows are equal, or not finite.
    """
    mean, centred = gram(weight)
    if not bool(centred.isfinite().all()):
        raise WideneckError("The squares of the head's entries are beyond float64.")
    values, vectors = torch.linalg.eigh(centred)
    floor = values[-1] * len(mean) * torch.finfo(torch.float64).eps
    kept = int((values > floor).sum())
    if kept == 0:
        raise WideneckError("All rows of the head are equal, so its columns certify nothing.")
    basis = vectors.flip(1)[:, : min(count, kept)]
    columns = torch.cat([(rows - mean) @ basis for rows in row_chunks(weight)])
    return columns * (len(columns) ** 0.5 / columns.norm(dim=0))


def objective(
    theta: Tensor, candidates: Tensor, prob: Tensor, directions: Tensor, tau: float
) -> Tensor:
    """G(a) (C,) of a = 1 + U theta - u_i theta for each candidate i; it certifies i below p_i.

    Args:
        theta: (C, c).
        candidates: (C,), token ids.
        prob: (V,).
        directions: U (V, c), see `span`.
        tau: threshold.
    """
    own = directions[candidates]
    constant = 1 - torch.linalg.vecdot(theta, own)
    mean = constant + theta @ (prob @ directions)
    a = torch.addmm(constant[:, None], theta, directions.T)
    return tau * mean - a.clamp_max_(0) @ prob


def certified(
    prob: Tensor, directions: Tensor, tau: float, *, most: int = 16
) -> tuple[Tensor, Tensor]:
    """The `most` most probable tokens that tau does not certify, and which of them the basis does.

    Conservative: a token that is not certified here may be so by a vector that the search missed
    or that `directions` lack.  Never one that the linear program refuses.

    Args:
        prob: p (V,) float64, summing to 1.
        directions: U (V, c) float64, of the place of `prob`.
        tau: in (0, 1).
        most: tokens that are tested.

    Returns:
        Token ids (C,), and whether they are certified (C,).

    Cost: 2 V c operations for each token whose search succeeds, and eight Newton steps of
    some n C c^2, n = 384.
    """
    below = torch.where(prob > tau, 0, prob)
    chance, candidates = below.topk(min(most, len(prob)))
    possible = chance > 0
    chance, candidates = chance[possible], candidates[possible]
    found = torch.zeros_like(candidates, dtype=torch.bool)
    if len(candidates) == 0:
        return candidates, found
    seen, share = _sample(prob)
    theta, value = search(directions[seen], share, prob @ directions, directions[candidates], tau)
    hopeful = (value < chance).nonzero()[:, 0]
    if len(hopeful):
        ids = candidates[hopeful]
        found[hopeful] = objective(theta[hopeful], ids, prob, directions, tau) < chance[hopeful]
    return candidates, found


def _sample(prob: Tensor) -> tuple[Tensor, Tensor]:
    """Tokens that stand for all of them in a search, and how much probability each stands for.

    Those after the most probable ones are taken at equal steps of their summed probability.
    """
    if len(prob) <= HEAD + TAIL:
        return torch.arange(len(prob), device=prob.device), prob
    share, first = prob.topk(HEAD)
    rest = prob.clone()
    rest[first] = 0
    summed = rest.cumsum(0)
    step = summed[-1] / TAIL
    at = (torch.arange(TAIL, device=prob.device) + 0.5) * step
    others = torch.searchsorted(summed, at).clamp_max(len(prob) - 1)
    return torch.cat([first, others]), torch.cat([share, step.expand(TAIL)])


def search(
    rows: Tensor, share: Tensor, mean: Tensor, own: Tensor, tau: float
) -> tuple[Tensor, Tensor]:
    """Minimise G over theta for all candidates at once, over some tokens that stand for all.

    Newton steps on G with x^- rounded to (sqrt(x^2 + e^2) - x) / 2, e falling by `WIDTHS`.

    Args:
        rows: (n, c) of the directions.
        share: (n,), the probability that each of these tokens stands for.
        mean: E_p[u] (c,), over all tokens.
        own: (C, c), the rows of the candidates.
        tau: threshold.

    Returns:
        The best theta (C, c) that was met, and its G (C,) on these tokens.
    """
    (count, c), upper = own.shape, torch.triu_indices(own.shape[1], own.shape[1])
    products = rows[:, upper[0]] * rows[:, upper[1]]
    lengths = rows.new_tensor(STEPS)[:, None, None]
    slope = tau * (mean - own)
    theta, a = torch.zeros_like(own), rows.new_ones(count, len(rows))
    best, value = theta, rows.new_full((count,), tau)  # a = 1
    hessian = own.new_empty(count, c, c)
    for width in WIDTHS:
        square = a.square() + width**2
        root = square.sqrt()
        first, second = (a / root - 1) * (share / 2), (width**2 / 2) * share / (square * root)
        # a_j moves by u_j - u_i: what the common u_i does is taken off the sums over u_j.
        gradient = slope + first @ rows - first.sum(1, keepdim=True) * own
        hessian[:, upper[0], upper[1]] = hessian[:, upper[1], upper[0]] = second @ products
        shift = second.sum(1, keepdim=True) * own / 2 - second @ rows
        crossed = shift[:, :, None] * own[:, None, :]
        matrix = hessian + crossed + crossed.mT
        diagonal = matrix.diagonal(dim1=1, dim2=2)
        diagonal += 1e-10 * diagonal.mean(1, keepdim=True) + 1e-300  # a view of the matrix
        factor, _ = torch.linalg.cholesky_ex(matrix)
        # No number where there is no factor; a poor one does no harm, as lengths are tried.
        step = -torch.cholesky_solve(gradient[:, :, None], factor)[:, :, 0].nan_to_num(0, 0, 0)
        change = step @ rows.T - (step * own).sum(1, keepdim=True)
        tried = a + lengths * change
        rounded = ((tried.square() + width**2).sqrt_() - tried) @ share / 2
        rounded += lengths[:, :, 0] * (slope * step).sum(1)
        length = lengths[rounded.argmin(0), :, 0]
        theta, a = theta + length * step, a + length * change
        now = tau + (slope * theta).sum(1) + a.neg().clamp_min_(0) @ share
        better = now < value
        best, value = torch.where(better[:, None], theta, best), torch.where(better, now, value)
    return best, value
