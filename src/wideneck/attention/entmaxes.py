"""Normalizers that are entmaxes of scaled scores: weights of exactly 0, by a search."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from wideneck.attention.normalizer import Normalizer, Number, OfScaledScores
from wideneck.attention.softmaxes import Softmax
from wideneck.errors import WideneckError
from wideneck.registry import check_flag, check_number, name_of

if TYPE_CHECKING:
    from torch import Tensor

ENTMAX = "Peters et al. 2019; Correia et al. 2019, arXiv:1909.00015"


@dataclass(frozen=True, kw_only=True)
class EntmaxLike(OfScaledScores):
    """An entmax of scaled scores."""

    paper = ENTMAX
    may_be_sparse = True

    def weights(
        self, scores: "Tensor", visible: "Tensor | None", n: "Tensor | None" = None
    ) -> "Tensor":
        import torch

        from wideneck.attention.entmax import entmax

        alpha: Any = self.alpha
        if isinstance(alpha, float | int) and alpha == 1:
            return Softmax().weights(self.scaled(scores, visible, n), visible)
        alpha = torch.as_tensor(alpha, dtype=scores.dtype, device=scores.device)
        alpha = alpha.reshape((1,) * (scores.ndim - alpha.ndim) + alpha.shape)
        scores = self.scaled(scores, visible, n)
        return entmax(scores, None if visible is None else visible.expand(scores.shape), alpha)


@dataclass(frozen=True, kw_only=True)
class Sparsemax(EntmaxLike):
    """The point of the simplex nearest to the scores."""

    name = "sparsemax"
    formula = "max(l_i - tau, 0)"
    paper = "Martins & Astudillo 2016, arXiv:1602.02068"
    jacobian = "1"
    alpha = 2.0


@dataclass(frozen=True, kw_only=True)
class Entmax15(EntmaxLike):
    """Half way between softmax and sparsemax: entmax of alpha 1.5."""

    name = "entmax15"
    formula = "max(l_i / 2 - tau, 0)^2"
    jacobian = "1; 2^(-1/2) for two keys"
    alpha = 1.5


@dataclass(frozen=True, kw_only=True)
class Entmax(EntmaxLike):
    """Softmax at alpha 1, sparsemax at 2, sparser the larger alpha."""

    alpha: Number = 1.5
    """Per head where learned, then between 1 and 2."""
    learned: bool = True

    name = "entmax"
    formula = "max((alpha - 1) l_i - tau, 0)^(1 / (alpha - 1))"
    jacobian = "1 for alpha <= 2, 2^(alpha - 2) for two keys; unbounded for alpha > 2"

    def __post_init__(self):
        check_number(name_of, self, "alpha", least=1, tensor=True)
        check_flag(name_of, self, "learned")

    def check_start(self) -> None:
        if self.learned and not 1 < self.alpha < 2:
            raise WideneckError(
                f"A learned alpha stays between 1 and 2 and cannot start at {self.alpha:g}: start "
                "between them, or give learned=False."
            )

    @property
    def learns(self) -> tuple[str, ...]:
        return ("raw_alpha",) if self.learned else ()

    def start_of(self, name: str) -> Any:
        """Alpha = 1 + sigmoid(raw_alpha)."""
        share: Any = self.alpha - 1
        return math.log(share / (1 - share))

    def learning(self, raw: "Mapping[str, Tensor]") -> Normalizer:
        return replace(self, alpha=1 + raw["raw_alpha"].sigmoid())


@dataclass(frozen=True, kw_only=True)
class ASEntmax(EntmaxLike):
    """Adaptive-scalable entmax: scores times delta + beta ln(n + 1)^gamma, then entmax.

    In a model beta = softplus(w . x) and gamma = reach tanh(v . x), with x the hidden state that
    enters the attention layer and w, v learned for each head, 0 at the start.
    """

    alpha: Number = 1.5
    delta: Number = 1.0
    reach: float = 2.0
    """Largest size of gamma in a model."""
    beta: Number = 0.6931471805599453
    """ln 2 = softplus(0), where a model starts."""
    gamma: Number = 0.0

    name = "asentmax"
    formula = "entmax((delta + beta ln(n + 1)^gamma) l)"
    paper = "Vasylenko et al. 2025, arXiv:2506.16640"
    jacobian = "delta + beta ln(n + 1)^gamma"
    reads_hidden = True
    is_scaled = True

    def __post_init__(self):
        check_number(name_of, self, "alpha", least=1, tensor=True)
        for name in ("delta", "beta", "gamma"):
            check_number(name_of, self, name, tensor=True)
        check_number(name_of, self, "reach", least=0)

    def factor(self, n: "Tensor") -> Any:
        return self.delta + self.beta * (n.clamp(min=1) + 1).log() ** self.gamma

    def check_start(self) -> None:
        default = ASEntmax()
        if (self.beta, self.gamma) != (default.beta, default.gamma):
            raise WideneckError(
                "asentmax learns beta and gamma from hidden states, starting at ln 2 and 0: leave "
                "them out."
            )

    @property
    def learns(self) -> tuple[str, ...]:
        return ("beta", "gamma")

    def start_of(self, name: str) -> Any:
        """Where w and v start: no head looks at its hidden state."""
        return 0.0

    def learning(self, raw: "Mapping[str, Tensor]") -> Normalizer:
        from torch.nn.functional import softplus

        return replace(self, beta=softplus(raw["beta"]), gamma=self.reach * raw["gamma"].tanh())
