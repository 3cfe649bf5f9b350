"""Normalizers to compare with: their evidence is of small models or of toy tasks."""

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from wideneck.attention.normalizer import Normalizer, hide
from wideneck.registry import check_number, name_of

if TYPE_CHECKING:
    from torch import Tensor

    from wideneck.attention.jacobian import Jacobian

POLYNOMIAL = (-0.037, 0.481, -2.3, 4.917, -1.791)
"""P(H), highest power first: Velickovic et al. 2024, fitted to a task of finding the largest."""
FLATTEST = 0.5
"""Nats; rows of less entropy stay as they are."""
TOP = 4.412401866
"""Where P is largest; it rises up to there."""


@dataclass(frozen=True, kw_only=True)
class AdaptiveTemperature(Normalizer):
    """A softmax whose rows are sharpened by their own entropy.

    P(H) is above 1 for 0.849 < H < 5.945 alone: rows flatter than 381 equal keys are left as they
    are.  Beta is a constant to derivatives.
    """

    name = "adaptivetemperature"
    formula = "softmax(beta l), beta = max(P(H), 1) where H > 0.5, else 1; H = entropy(softmax(l))"
    paper = "Velickovic et al. 2024, arXiv:2410.01104"
    jacobian = "beta / 2, at most 1.21, with beta held fixed"

    def weights(
        self, scores: "Tensor", visible: "Tensor | None", n: "Tensor | None" = None
    ) -> "Tensor":
        import torch

        hidden = hide(scores, visible, torch.finfo(scores.dtype).min)
        beta = sharpening(torch.special.entr(hidden.detach().softmax(-1)).sum(-1, keepdim=True))
        sharper = hide(scores * beta, visible, torch.finfo(scores.dtype).min)
        return hide(sharper.softmax(-1), visible)

    def derivative(self, weights: "Tensor", n: "Tensor") -> "Jacobian | None":
        return None  # the weights do not tell beta

    def largest_norm(self, n: int) -> float:
        """Half of the largest beta that a row of n keys can have: its entropy is at most ln n."""
        most = min(math.log(max(n, 1)), TOP)
        return max(_value(most), 1.0) / 2 if most > FLATTEST else 0.5


@dataclass(frozen=True, kw_only=True)
class Softpick(Normalizer):
    """Scores above 0 share what is left of 1 by those below 0: no sink, and zeros.

    A row whose scores are all at most 0 gives nothing to anybody.
    """

    epsilon: float = 1e-6
    """In the denominator, unscaled."""

    name = "softpick"
    formula = "max(exp(l_i) - 1, 0) / (epsilon + sum_j abs(exp(l_j) - 1))"
    paper = "Zuhri et al. 2025, arXiv:2504.20966"
    jacobian = "1 / epsilon at l = 0; at most 1 + (1 + sqrt(n) / 4) / epsilon"
    sums_to_one = False
    may_be_sparse = True
    may_abstain = True

    def __post_init__(self):
        check_number(name_of, self, "epsilon", positive=True)

    def weights(
        self, scores: "Tensor", visible: "Tensor | None", n: "Tensor | None" = None
    ) -> "Tensor":
        import torch

        scores = hide(scores, visible)  # exp(0) - 1 = 0
        most = scores.detach().amax(-1, keepdim=True).clamp(min=0)
        shrunk = (-most).exp()
        # (exp(l) - 1) / exp(M), near l = 0 without cancellation and far above it without overflow.
        near = scores.clamp(max=1).expm1() * shrunk
        excess = torch.where(scores < 1, near, (scores - most).exp() - shrunk)
        excess = hide(excess, visible)
        total = excess.abs().sum(-1, keepdim=True) + self.epsilon * shrunk
        # An epsilon that float32 rounds to 0 must not make NaN of a row without a visible key.
        return excess.relu() / total.clamp(min=torch.finfo(total.dtype).tiny)

    def derivative(self, weights: "Tensor", n: "Tensor") -> "Jacobian | None":
        return None

    def largest_norm(self, n: int) -> float:
        """1 + (1 + sqrt(n) / 4) / epsilon, or with 1 for the 1 / epsilon where that is less.

        With u = exp(l) - 1, S = sum |u| and D = S + epsilon, dp/dl = (diag(a) - p b^T) / D, where
        a_i = u_i + 1 for l_i > 0, else 0, so a_i / D is largest at u_i = 0 or far above, and
        |b_j| = u_j + 1, so
        |p| |b| / D <= S (sqrt(n) + S) / D^2 <= sqrt(n) / (4 epsilon) + 1.
        """
        return max(1.0, 1 / self.epsilon) + math.sqrt(n) / (4 * self.epsilon) + 1


def sharpening(entropy: "Tensor") -> "Tensor":
    """Beta of rows of this entropy in nats."""
    return _value(entropy).clamp(min=1).where(entropy > FLATTEST, 1)


def _value(entropy: Any) -> Any:
    value: Any = POLYNOMIAL[0]
    for coefficient in POLYNOMIAL[1:]:
        value = value * entropy + coefficient
    return value
