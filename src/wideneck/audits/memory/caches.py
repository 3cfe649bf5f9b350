"""The numbers of a cache, fitted: theta on the similarities, and a bias or a weight.

For one theta the two sums of a prediction, over its visible memories and over those of its target,
are all that its loss needs, whatever the bias or weight: these are found by cheap searches in one
dimension inside one over theta.  The loss need not be convex in theta or in the bias, so each
search is a grid, then bounded minimization around its best point.  No randomness.

Letters: N predictions, M memories, G points of a grid.
"""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import partial

import torch
from scipy.optimize import minimize_scalar
from torch import Tensor

from wideneck.memory.config import Memory
from wideneck.memory.mixture import Recall, log_shares, masked_logsumexp, mixture_nll

JOINT = Memory(mixture="joint")
PUBLISHED = Memory.published()
THETAS = [k / 4 for k in range(-8, 5)]
"""log10 of theta times the spread of the scores, tried beside theta = 0.  Above 10 one memory has
nearly all the weight, and a joint mixture fits single predictions: its sums range over hundreds of
nats, so a bias can be found that lets the cache speak a few times, where it happens to be right."""
QUANTILES = torch.linspace(0, 1, 17, dtype=torch.float64)
ODDS = torch.arange(-12.0, 5.0, 4.0, dtype=torch.float64)
"""A bias is tried that gives the cache these log odds at each of these quantiles of predictions."""

AT_ONCE = 2**20
"""Losses computed together: 8 MB each of a few buffers."""


@dataclass
class Scores:
    """Scores s_j of memories, and which of them count; N = W T predictions."""

    scores: Tensor
    """(W, T, M), of any kind of number."""
    visible: Tensor
    """(T, M)."""
    where: Tensor
    """(W, T, K) the memories whose value is the target, padded: K is far below M."""
    positive: Tensor
    """(W, T, K) False where padded."""
    _known: dict[float, Recall] = field(default_factory=dict)

    def spread(self) -> float:
        """Standard deviation over the visible memories, mean over the predictions with two."""
        count = self.visible.sum(1)
        stds = []
        for scores in self.scores:
            seen = torch.where(self.visible, scores.double(), 0)
            off = torch.where(self.visible, seen - (seen.sum(1) / count.clamp_min(1))[:, None], 0)
            stds.append((off.square().sum(1) / count.clamp_min(1)).sqrt()[count > 1])
        std = torch.cat(stds)
        return float(std.mean()) if len(std) else 0.0

    def recall(self, theta: float) -> Recall:
        """Sums (N,) of e^{theta s_j}, in float64."""
        if theta not in self._known:
            target = self.scores.gather(2, self.where).double()
            self._known[theta] = Recall(
                torch.cat(
                    [masked_logsumexp(theta * s.double(), self.visible) for s in self.scores]
                ),
                masked_logsumexp(theta * target, self.positive).flatten(),
            )
        return self._known[theta]


@dataclass(frozen=True)
class Fitted:
    """The best numbers found, and the mean loss with them."""

    loss: float
    theta: float | None = None
    bias: float | None = None
    weight: float | None = None

    @property
    def memory(self) -> Memory | None:
        """The mixture; None where the cache is left out."""
        if self.bias is not None:
            return JOINT
        return Memory(mixture="linear", weight=self.weight) if self.weight else None

    def nll(self, scores: Scores, nll: Tensor) -> Tensor:
        """(N,) losses with the cache, from those without."""
        memory = self.memory
        if memory is None:
            return nll
        return mixture_nll(memory, nll, self._recall(scores))

    def mass(self, scores: Scores) -> float:
        """Mean share of the probability that the cache gets."""
        memory = self.memory
        if memory is None:
            return 0.0
        return log_shares(memory, self._recall(scores).log_all, None)[1].exp().mean().item()

    def _recall(self, scores: Scores) -> Recall:
        return biased(scores.recall(self.theta or 0.0), self.bias or 0.0)


def biased(found: Recall, bias: Tensor | float) -> Recall:
    """The sums with `bias` added to every score."""
    return Recall(found.log_all + bias, found.log_target + bias)


Inner = Callable[[Recall, Tensor], Fitted]


def _fit(inner: Inner, scores: Scores, nll: Tensor, *, counts: bool = False) -> Fitted:
    """The best theta for losses `nll` (N,), each judged with its own best bias or weight.

    For `counts` theta is 0.
    """

    def at(theta: float) -> Fitted:
        return replace(inner(scores.recall(theta), nll), theta=theta)

    spread = scores.spread()
    grid = [0.0] if counts or spread == 0 else [0.0, *(10**log / spread for log in THETAS)]
    tried = [at(theta) for theta in grid]
    best = min(range(len(grid)), key=lambda k: tried[k].loss)
    if best > 0:
        low, high = max(best - 2, 0), min(best, len(THETAS) - 1)
        refined = minimize_scalar(
            lambda log: at(10**log / spread).loss,
            bounds=(THETAS[low], THETAS[high]),
            method="bounded",
            options={"xatol": 1e-3, "maxiter": 20},
        )
        tried.append(at(10 ** float(refined.x) / spread))
    best_fit = min(tried, key=lambda fitted: fitted.loss)
    alone = nll.double().mean().item()
    if best_fit.loss >= alone:
        return Fitted(alone, weight=0.0 if best_fit.weight is not None else None)
    return best_fit


def _best_bias(found: Recall, nll: Tensor) -> Fitted:
    seen = found.log_all[found.log_all > -torch.inf]
    if not len(seen):
        return Fitted(nll.mean().item(), bias=0.0)

    def losses(bias: Tensor) -> Tensor:
        """(G,) at as many biases."""
        return mixture_nll(JOINT, nll, biased(found, bias[:, None])).mean(1)

    tried = (ODDS - seen.quantile(QUANTILES)[:, None]).flatten().unique()
    grid = torch.cat([losses(part) for part in tried.split(max(1, AT_ONCE // len(nll)))])
    best = int(grid.argmin())
    refined = minimize_scalar(
        lambda bias: losses(torch.tensor([bias], dtype=torch.float64)).item(),
        bounds=(tried[max(best - 1, 0)].item(), tried[min(best + 1, len(tried) - 1)].item()),
        method="bounded",
        options={"xatol": 1e-4},
    )
    loss, bias = min(
        (grid[best].item(), tried[best].item()), (float(refined.fun), float(refined.x))
    )
    return Fitted(loss, bias=bias)


def _best_weight(found: Recall, nll: Tensor) -> Fitted:
    """The loss is convex in w, so without a second valley in its log odds either."""

    def loss(odds: float) -> float:
        return mixture_nll(_linear(odds), nll, found).mean().item()

    refined = minimize_scalar(loss, bounds=(-14.0, 14.0), method="bounded", options={"xatol": 1e-4})
    return Fitted(float(refined.fun), weight=_linear(float(refined.x)).weight)


def _linear(odds: float) -> Memory:
    return Memory(mixture="linear", weight=torch.tensor(odds, dtype=torch.float64).sigmoid().item())


fit_joint, fit_linear = partial(_fit, _best_bias), partial(_fit, _best_weight)
