"""Normalizers under which a key's weight does not compete with all others."""

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from wideneck.attention.normalizer import Normalizer, Number, count, hide
from wideneck.registry import check_number, name_of

if TYPE_CHECKING:
    from torch import Tensor

    from wideneck.attention.jacobian import Jacobian


@dataclass(frozen=True, kw_only=True)
class Sigmoid(Normalizer):
    """Every key by itself."""

    bias: "Number | None" = None
    """b; None for -ln n, which starts a row of zero scores near the sum 1."""

    name = "sigmoid"
    formula = "sigmoid(l_i + b), b = -ln n"
    paper = "Ramapuram et al. 2024, arXiv:2409.04431"
    jacobian = "1/4"
    sums_to_one = False
    may_abstain = True

    def __post_init__(self):
        if self.bias is not None:
            check_number(name_of, self, "bias", tensor=True)

    def weights(
        self, scores: "Tensor", visible: "Tensor | None", n: "Tensor | None" = None
    ) -> "Tensor":
        bias = self.bias
        if bias is None:
            bias = -count(scores, visible, n).clamp(min=1).log()
        return hide((scores + bias).sigmoid(), visible)

    def derivative(self, weights: "Tensor", n: "Tensor") -> "Jacobian | None":
        from wideneck.attention.jacobian import of_each_key

        return of_each_key(weights * (1 - weights))

    def largest_norm(self, n: int) -> float:
        return 0.25


@dataclass(frozen=True, kw_only=True)
class ReLU(Normalizer):
    """Positive scores over the number of visible keys; rows may also sum to more than 1."""

    name = "relu"
    formula = "max(l_i, 0) / n"
    paper = "Wortsman et al. 2023, arXiv:2309.08586"
    jacobian = "1 / n"
    sums_to_one = False
    may_be_sparse = True
    may_abstain = True

    def weights(
        self, scores: "Tensor", visible: "Tensor | None", n: "Tensor | None" = None
    ) -> "Tensor":
        return hide(scores.relu() / count(scores, visible, n).clamp(min=1), visible)

    def derivative(self, weights: "Tensor", n: "Tensor") -> "Jacobian | None":
        from wideneck.attention.jacobian import of_each_key

        return of_each_key((weights > 0) / n.clamp(min=1))

    def largest_norm(self, n: int) -> float:
        return 1 / max(n, 1)


@dataclass(frozen=True, kw_only=True)
class StickBreaking(Normalizer):
    """From the newest key back, each key takes its share of what is left; needs no positions."""

    name = "stickbreaking"
    formula = "sigmoid(l_i) prod_(j newer) (1 - sigmoid(l_j))"
    paper = "Tan et al. 2024, arXiv:2410.17980"
    jacobian = "(2 e)^(-1/2), proved; 0.354 seen"
    sums_to_one = False
    may_abstain = True

    def weights(
        self, scores: "Tensor", visible: "Tensor | None", n: "Tensor | None" = None
    ) -> "Tensor":
        from torch.nn.functional import logsigmoid, pad

        passed = hide(logsigmoid(-scores), visible)
        newer = pad(passed[..., 1:].flip(-1).cumsum(-1).flip(-1), (0, 1))
        # By exp2: exp may be MKL's, which takes long where the result rounds to 0, as most do here.
        return hide(((logsigmoid(scores) + newer) * math.log2(math.e)).exp2(), visible)

    def derivative(self, weights: "Tensor", n: "Tensor") -> "Jacobian | None":
        return None

    def largest_norm(self, n: int) -> float:
        """Rows of |dp/dl| sum to at most 1/e, columns to 1/2: at most their geometric mean."""
        return 1 / math.sqrt(2 * math.e)
